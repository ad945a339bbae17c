"""Runs the driver contract on the bench a driver's package brings along, found by its entry point."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Final

from openami.gateway.driver import DriverError, OptionsError
from openami.gateway.driver_contract import OpenBench, checks_for

BENCHES_GROUP: Final = "openami.driver_benches"
CHECK_S_MAX: Final = 60.0
"""How long one check may take: it asks a silent meter a few times, and waits for a line to come back."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One check of the contract."""

    check: str
    broken: str | None
    """What was broken; None when it was kept."""


def benches() -> Mapping[str, EntryPoint]:
    """Return the benches that are installed, by the name of their driver; none of them is loaded yet."""
    return {entry.name: entry for entry in entry_points(group=BENCHES_GROUP)}


async def run(name: str, directory: Path, tell: Callable[[Outcome], None]) -> int:
    """Run every check on a bench of its own in a directory of its own; return how many there were.

    A relay bench runs the checks of relays too.
    """
    open_bench: OpenBench = benches()[name].load()
    first = directory / "look"
    first.mkdir()
    async with open_bench(first) as bench:
        names = [check.__name__ for check in checks_for(bench)]
    for at, check_name in enumerate(names):
        place = directory / str(at)
        place.mkdir()
        tell(Outcome(check_name, await _broken(open_bench, place, at)))
    return len(names)


async def _broken(open_bench: OpenBench, place: Path, at: int) -> str | None:
    """Return what a check finds broken; a driver's own faults are findings as well."""
    try:
        async with asyncio.timeout(CHECK_S_MAX), open_bench(place) as bench:
            await checks_for(bench)[at](bench)
    except AssertionError as error:
        return str(error) or "an assertion of the check or the driver"
    except TimeoutError:
        return f"not done within {CHECK_S_MAX:.0f} s"
    except (DriverError, OptionsError) as error:
        return f"{type(error).__name__} where none was due: {error}"
    return None
