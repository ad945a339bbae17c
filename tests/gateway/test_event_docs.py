"""docs/events.md says what the tables of the code say."""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from openami.gateway.event_codes import CODES, Certainty, rows
from openami.gateway.event_limits import EventLimits, Rule
from openami.gateway.event_types import EVENT_TYPES

DOCUMENT = (Path(__file__).parents[2] / "docs/events.md").read_text("utf-8")


def cells(heading: str) -> Iterator[list[str]]:
    """Yield the rows of the table that begins with this heading."""
    table = DOCUMENT.partition(f"\n{heading}")[2].partition("\n\n")[0]
    for line in table.splitlines()[2:]:
        yield [cell.strip() for cell in line.strip("|").split("|")]


def test_every_type_is_told_with_its_severity_and_its_registers() -> None:
    told = {
        row[0].strip("`"): (row[1], row[2], [code for code in row[4].split(", ") if code])
        for row in cells("| type | severity |")
    }
    assert told == {
        kind.value: (
            info.severity.value,
            "lasts" if info.lasting else "a moment",
            [str(obis) for obis in info.registers],
        )
        for kind, info in EVENT_TYPES.items()
    }


def test_every_code_is_told_with_what_it_means_and_how_sure_that_is() -> None:
    told = {
        (system, code, *row[0].replace("`", "").split(), doubted)
        for row in cells("| type | `dsmr` |")
        for system, cell in zip(CODES, row[1:], strict=True)
        for code, doubted in expanded(cell)
    }
    assert told == {
        (system, code, m.type.value, m.state.value, m.certainty is Certainty.UNVERIFIED)
        for system, code, m in rows()
    }


def expanded(cell: str) -> Iterator[tuple[int, bool]]:
    for first, last, doubt in re.findall(r"(\d+)(?:–(\d+))?(\??)", cell):
        for code in range(int(first), int(last or first) + 1):
            yield code, bool(doubt)


def test_every_threshold_is_told_with_its_default() -> None:
    told: dict[str, str] = {}
    for row in cells("| key | default |"):
        keys = [key.strip("` ") for key in row[0].split(",")]
        defaults = [value.strip() for value in row[1].split(",")]
        told.update(zip(keys, defaults, strict=True))
    limits = msgspec.structs.asdict(EventLimits())
    assert told.keys() == limits.keys()
    for key, value in limits.items():
        if isinstance(value, bool):
            assert told[key] == str(value).lower()
        elif isinstance(value, int | float):
            assert told[key] == f"{value:g}", key
    assert all(f"`{rule}`" in DOCUMENT for rule in Rule)
