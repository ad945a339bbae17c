"""What the reference firmware says: its topics and its JSON, read into values (pure).

    openami/StreetPoleEMS_37EAB0/meter_0          one house's meter, "model 11"
    openami/StreetPoleEMS_37EAB0/subpanel_3Ph     the pole's panel, "model 213"
    openami/StreetPoleEMS_37EAB0/subpanel_ENV     the cabinet, "model 998"
    openami/StreetPoleEMS_37EAB0/subpanel_MFR     the nameplate, model 1
    openami/StreetPoleEMS_37EAB0//door            "open" or "closed"; with two slashes

The model numbers and members look like SunSpec's and are not (docs/conformance-meshems.md). Powers are in
W, VA and var, energies in Wh, all of them 32-bit floats; ``timestamp`` is milliseconds since boot in a
32-bit signed integer, so it turns negative after 24.8 days and begins anew after 49.7.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from openami.bridge.findings import Finding, Reason, finding
from openami.profile import ProfileError
from openami.profile.reader import read_document

ROOT: Final = "openami"
FILTERS: Final = ("openami/+/+", "openami/+/+/door")
"""What the bridge subscribes to: every pole, so that an unknown one is noticed."""

# The firmware drops what has 1,024 bytes or more; four times that is no message of any build of it.
PAYLOAD_BYTES_MAX: Final = 4096
# The profile's own topics begin openami/v1: the two may share a broker.
_OURS: Final = "v1"

METER_MODEL: Final = 11
PANEL_MODEL: Final = 213
PHASES: Final = ("A", "B", "C")


class Kind(StrEnum):
    """What a topic is for."""

    METER = "meter"
    PANEL = "panel"
    CABINET = "cabinet"
    NAMEPLATE = "nameplate"
    LEAKAGE = "leakage"
    DOOR = "door"
    COMMAND = "command"
    WITHOUT_REGISTERS = "without_registers"
    """Harmonics, which are never measured; traffic counts; what later builds add."""


_KINDS: Final[Mapping[str, Kind]] = {
    "subpanel_3Ph": Kind.PANEL,
    "subpanel_ENV": Kind.CABINET,
    "subpanel_MFR": Kind.NAMEPLATE,
    "subpanel_RCMleaks": Kind.LEAKAGE,
    "door": Kind.DOOR,
    "cmd": Kind.COMMAND,
}
# The firmware's own bound on its name is 32 characters.
_is_pole = re.compile(r"[A-Za-z0-9][A-Za-z0-9_:.-]{0,31}").fullmatch
_is_meter = re.compile(r"meter_[0-9]{1,3}").fullmatch


@dataclass(frozen=True, slots=True)
class PoleTopic:
    """Whose message it is, and what it is about: ``name`` is the topic's last level."""

    pole: str
    kind: Kind
    name: str


def parse_topic(topic: str) -> PoleTopic | None:
    """Return what a topic of the firmware names; None when it is none of its topics."""
    match topic.split("/", 4):
        case [root, pole, name] if root == ROOT and pole != _OURS and _is_pole(pole):
            return PoleTopic(pole, _kind(name), name)
        case [root, pole, "", "door"] if root == ROOT and _is_pole(pole):
            return PoleTopic(pole, Kind.DOOR, "door")
        case _:
            return None


def _kind(name: str) -> Kind:
    if _is_meter(name):
        return Kind.METER
    return _KINDS.get(name, Kind.WITHOUT_REGISTERS)


def is_pole(name: str) -> bool:
    """Return whether the firmware may call itself so."""
    return name != _OURS and _is_pole(name) is not None


def is_meter(name: str) -> bool:
    """Return whether a subtopic is that of a meter: ``meter_0``, ``meter_1``…"""
    return _is_meter(name) is not None


# --- JSON ----------------------------------------------------------------------------------------

Members = Mapping[str, object]


def read_members(payload: bytes) -> Members | Finding:
    """Return a message's members, or why there are none."""
    if len(payload) > PAYLOAD_BYTES_MAX:
        return finding(
            Reason.TOO_LARGE,
            f"the message has {len(payload)} bytes, at most {PAYLOAD_BYTES_MAX} are read",
        )
    try:
        document = read_document(payload)
    except ProfileError as error:
        return finding(Reason.NOT_JSON, f"{len(payload)} bytes: {error.detail}")
    if not isinstance(document.root, dict):
        return finding(Reason.NOT_JSON, "the message is no JSON object")
    if document.has_duplicates:
        return finding(Reason.NOT_JSON, "a member stands twice: which of the two is meant?")
    return document.root


def model_of(members: Members) -> int | None:
    """Return the model a message says it is; None when it says none."""
    model = members.get("model_id")
    return model if isinstance(model, int) and not isinstance(model, bool) else None


def number_of(members: Members, name: str) -> float | None:
    """Return a member's number; None when it is not there, null (ArduinoJson's NaN) or something else."""
    value = members.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def not_numbers(members: Members, names: Iterator[str]) -> Iterator[Finding]:
    """Yield a finding for each member that should be a number and is something else; null says nothing."""
    for name in names:
        value = members.get(name)
        if value is not None and number_of(members, name) is None:
            yield finding(Reason.NOT_A_NUMBER, f"{name} is a {type(value).__name__}")


# What a 32-bit signed or unsigned counter of milliseconds may show.
_UPTIME_MIN: Final = -(2**31)
_UPTIME_MAX: Final = 2**32 - 1
UPTIME_WRAP_MS: Final = 2**32  # the counter begins anew


def uptime_of(members: Members) -> int | None:
    """Return the milliseconds since boot a message was stamped with, modulo 2**32; None without."""
    stamp = members.get("timestamp")
    if isinstance(stamp, bool) or not isinstance(stamp, int):
        return None
    return stamp % UPTIME_WRAP_MS if _UPTIME_MIN <= stamp <= _UPTIME_MAX else None


# --- what is measured -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase as told: V, A, W, var, VA. None where the message has no number."""

    voltage: float | None
    current: float | None
    power: float | None
    power_factor: float | None
    reactive: float | None
    apparent: float | None


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a meter, or the panel, told: its phases, Hz, and Wh since the counter's beginning."""

    phases: tuple[Phase, ...]
    frequency: float | None
    import_wh: float | None
    export_wh: float | None


def meter_measurement(members: Members) -> Measurement:
    """Return what a meter's message says. Its ``Phase`` is the meter's number, and no phase."""
    names = {"V": "PhV", "A": "PhA", "W": "PhW", "PF": "PF", "Var": "Var", "VA": "VA"}
    return _measurement(members, (names,))


def panel_measurement(members: Members) -> Measurement:
    """Return what a panel's message says of its three phases."""
    by_phase = tuple(
        {
            "V": f"PhVph{phase}",
            "A": f"Aph{phase}",
            "W": f"Wph{phase}",
            "PF": f"PFph{phase}",
            "Var": f"Varph{phase}",
            "VA": f"VAph{phase}",
        }
        for phase in PHASES
    )
    return _measurement(members, by_phase)


def _measurement(members: Members, by_phase: tuple[Mapping[str, str], ...]) -> Measurement:
    def phase(names: Mapping[str, str]) -> Phase:
        return Phase(
            voltage=number_of(members, names["V"]),
            current=number_of(members, names["A"]),
            power=number_of(members, names["W"]),
            power_factor=number_of(members, names["PF"]),
            reactive=number_of(members, names["Var"]),
            apparent=number_of(members, names["VA"]),
        )

    return Measurement(
        phases=tuple(map(phase, by_phase)),
        frequency=number_of(members, "Hz"),
        import_wh=number_of(members, "TotWhImport"),
        export_wh=number_of(members, "TotWhExport"),
    )


def measured_members(kind: Kind) -> Iterator[str]:
    """Yield the names of the members that are read from a message of this kind."""
    match kind:
        case Kind.METER:
            yield from ("PhV", "PhA", "PhW", "PF", "Var", "VA")
        case Kind.PANEL:
            for phase in PHASES:
                yield from (f"{stem}ph{phase}" for stem in ("PhV", "A", "W", "PF", "Var", "VA"))
        case _:
            return
    yield from ("Hz", "TotWhImport", "TotWhExport")


@dataclass(frozen=True, slots=True)
class Cabinet:
    """The cabinet's air, °C and %."""

    temperature: float | None
    humidity: float | None


def cabinet_of(members: Members) -> Cabinet:
    """Return what a cabinet's message says."""
    return Cabinet(number_of(members, "temperature_C"), number_of(members, "humidity_percent"))


@dataclass(frozen=True, slots=True)
class Leakage:
    """Leakage currents, mA; None where the message has no number."""

    sinusoidal: float | None
    pulsating: float | None
    dc: float | None

    @property
    def is_zero(self) -> bool:
        """Whether there is none: all that has ever been published."""
        return not (self.sinusoidal or self.pulsating or self.dc)


def leakage_of(members: Members) -> Leakage:
    """Return what the leakage relay's message says."""

    def current(kind: str) -> float | None:
        part = members.get(kind)
        return number_of(part, "value_mA") if isinstance(part, dict) else None

    return Leakage(current("acSinusoidal"), current("acPulsating"), current("dc"))


# A version is some characters of a build; longer is somebody's joke.
TEXT_CHARS_MAX: Final = 64


def version_of(members: Members) -> str | None:
    """Return the firmware's version as its nameplate says it."""
    text = members.get("Vr")
    if not isinstance(text, str):
        text = None if text is None or isinstance(text, bool) else str(text)
    if not text or not text.isprintable() or len(text) > TEXT_CHARS_MAX:
        return None
    return text
