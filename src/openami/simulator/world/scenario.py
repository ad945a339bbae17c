"""A scenario: a village, how it is lived in, and what goes wrong. One TOML file tells one story.

title = "The mast is dark for two days"
days = 4

[village]
gateways = 2
meters = 10

[[fault]]
kind = "uplink_down"
at_h = 12
for_h = 48
"""

import random
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from openami.config_file import ConfigError, read_bytes
from openami.simulator.world.faults import FAULTS_MAX, Fault

DICE: Final = "dice"
"""The scenario without a story: faults are thrown by the seed."""


class ScenarioError(ValueError):
    """A scenario cannot be used: which file, what is wrong, what is known."""


class VillageSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who lives there, and what is asked of whom."""

    gateways: Annotated[int, Meta(ge=1, le=50)] = 2
    meters: Annotated[int, Meta(ge=1, le=500)] = 4
    """Behind each gateway."""
    fast_s: Annotated[int, Meta(ge=1, le=3600)] = 900
    billing_s: Annotated[int, Meta(ge=1, le=86_400)] = 900
    commands_per_day: Annotated[float, Meta(ge=0, le=1000)] = 6.0
    """How often somebody is cut off or reconnected, over all gateways."""
    outbox_kib: Annotated[int, Meta(ge=64)] = 256 * 1024
    """The bound of each gateway's outbox."""


def diced_village(seed: int) -> VillageSettings:
    """Return the village of a seed: mostly small, because many days tell more than many meters."""
    dice = random.Random(f"village {seed}")
    return VillageSettings(
        gateways=dice.choice((1, 1, 1, 2)),
        meters=dice.choice((1, 2, 3, 6)),
        fast_s=dice.choice((300, 900, 900)),
        # The smallest holds some ten hours of six meters: it has to thin when the uplink is long away.
        outbox_kib=dice.choice((96, 256, 64 * 1024)),
    )


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A story. Without faults of its own, the seed throws them."""

    title: str
    days: Annotated[float, Meta(gt=0, le=366)] = 1.0
    village: VillageSettings | None = None
    """Without one, the seed throws it."""
    fault: Annotated[tuple[Fault, ...], Meta(max_length=FAULTS_MAX)] = ()


def scenario_names() -> list[str]:
    """Return the names of the stories that ship with the product."""
    files = resources.files(__package__).joinpath("scenarios").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def load_scenario(name: str) -> Scenario:
    """Return a story by its name, or from a file of one's own. Raises ScenarioError."""
    path = Path(name)
    if path.suffix == ".toml":
        return read_scenario(_own(path), where=name)
    if name not in scenario_names():
        raise ScenarioError(
            f"there is no scenario {name!r}; known are {', '.join(scenario_names())}, "
            "or a file that ends in .toml"
        )
    text = resources.files(__package__).joinpath("scenarios", f"{name}.toml").read_text("utf-8")
    return read_scenario(text, where=name)


def read_scenario(text: str, *, where: str) -> Scenario:
    """Read a story. Raises ScenarioError."""
    try:
        document: dict[str, Any] = tomllib.loads(text)
        for number, fault in enumerate(document.get("fault", ())):
            if "kind" not in fault:
                raise ScenarioError(f"{where}: fault[{number}]: kind is missing")
            fault["type"] = fault.pop("kind")
        return msgspec.convert(document, Scenario)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, AttributeError, TypeError) as error:
        raise ScenarioError(f"{where}: {str(error).replace('$.', '')}") from None


def _own(path: Path) -> str:
    try:
        return read_bytes(path).decode(errors="replace")
    except ConfigError as error:
        raise ScenarioError(str(error)) from None
