"""What the codes of meters' event logs mean, for each numbering (pure).

The same number means different things in different numberings: 91 is a phase that returned (DSMR) or a current
that flows backwards (IDIS), 83 a voltage that is normal again (SMR) or too high (DSMR). So a code is only looked
up under its own numbering, and what is not in the table is not guessed: it is told as `EventType.METER_LOG_ENTRY`
with its code.

Sources: DSMR and SMR as in the event types of GXF / OSGP (Apache-2.0). IDIS 1 to 11, 40 to 50, 59 to 69 and 255 as
in public meter drivers for IDIS security and disconnector logs. IS 15959 as in public listings of its tables 32 to
38. What was found in no source is marked unverified, and said so with the event: compare it with the maker's list.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from openami.gateway.event_types import EventType
from openami.profile import EventState, Severity


class Certainty(StrEnum):
    """How sure we are of what a code means."""

    SOURCED = "sourced"
    """A published list or program has it so."""
    UNVERIFIED = "unverified"
    """Engineering knowledge: compare with the maker's list before you rely on it."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an entry of a log tells."""

    type: EventType
    state: EventState = EventState.INSTANT
    part: str = ""
    """Which phase; a condition is over when it is over in each."""
    words: str = ""
    """What the type does not say: how a contactor was moved."""
    severity: Severity | None = None
    """Where it is not its type's."""
    certainty: Certainty = Certainty.SOURCED


def meanings(code_system: str, code: int) -> tuple[Meaning, ...]:
    """Return what a code means, most often one thing; ``meter_log_entry`` where we do not know."""
    return CODES.get(code_system, {}).get(code, _UNKNOWN)


_UNKNOWN: Final = (Meaning(EventType.METER_LOG_ENTRY),)
_T, _PHASES = EventType, ("L1", "L2", "L3")
_RAISED, _CLEARED = EventState.RAISED, EventState.CLEARED
_Codes = Mapping[int, tuple[Meaning, ...]]


def _pair(kind: EventType, begins: int, ends: int) -> dict[int, tuple[Meaning, ...]]:
    return {begins: (Meaning(kind, _RAISED),), ends: (Meaning(kind, _CLEARED),)}


def _phases(first: int, *of_each: Meaning, step: int = 1) -> dict[int, tuple[Meaning, ...]]:
    """Return three codes, one for each phase."""
    return {
        first + step * at: tuple(replace(meaning, part=phase) for meaning in of_each)
        for at, phase in enumerate(_PHASES)
    }


def _unverified(codes: _Codes) -> dict[int, tuple[Meaning, ...]]:
    return {
        code: tuple(replace(each, certainty=Certainty.UNVERIFIED) for each in found)
        for code, found in codes.items()
    }


def _moved(kind: EventType, how: str, severity: Severity | None = None) -> tuple[Meaning, ...]:
    return (Meaning(kind, words=how, severity=severity),)


# What DSMR, SMR and IDIS have in common.
_COMMON: Final[_Codes] = {
    **_pair(_T.POWER_FAIL, 1, 2),
    4: (Meaning(_T.CLOCK_ADJUSTED, words="the time before"),),
    5: (Meaning(_T.CLOCK_ADJUSTED, words="the time after"),),
    **_pair(_T.TERMINAL_COVER_OPEN, 40, 41),
    **_pair(_T.MAGNETIC_FIELD, 42, 43),
    **_pair(_T.METER_COVER_OPEN, 44, 45),
    46: (Meaning(_T.LOGIN_FAILED),),
    255: (Meaning(_T.LOG_CLEARED),),
}
_CLOCK_AND_BATTERY: Final[_Codes] = {
    6: (Meaning(_T.CLOCK_INVALID),),
    7: (Meaning(_T.BATTERY_LOW, words="the battery has to be replaced"),),
    8: (Meaning(_T.BATTERY_LOW, words="the battery's voltage is low"),),
}
_UNDER: Final = _phases(77, Meaning(_T.UNDER_VOLTAGE, _RAISED))
_MISSING: Final = _phases(86, Meaning(_T.PHASE_MISSING, _RAISED))
_OVER_AND_NORMAL: Final[_Codes] = {
    **_phases(80, Meaning(_T.OVER_VOLTAGE, _RAISED)),
    **_phases(83, Meaning(_T.OVER_VOLTAGE, _CLEARED), Meaning(_T.UNDER_VOLTAGE, _CLEARED)),
}
_DSMR: Final[_Codes] = {
    **_COMMON,
    **_CLOCK_AND_BATTERY,
    47: (Meaning(_T.CONFIG_CHANGED),),
    **_pair(_T.MODULE_COVER_OPEN, 48, 49),
    # Nothing in DSMR ends an under-voltage, a sag or a swell: they are moments.
    **_phases(77, Meaning(_T.UNDER_VOLTAGE)),
    **_phases(80, Meaning(_T.UNDER_VOLTAGE, words="a sag")),
    **_phases(83, Meaning(_T.OVER_VOLTAGE, words="a swell")),
    **_MISSING,
    **_phases(90, Meaning(_T.PHASE_MISSING, _CLEARED)),
    **_unverified(_phases(51, Meaning(_T.THD_OVER_LIMIT))),
}
_SMR: Final[_Codes] = {**_DSMR, **_UNDER, **_OVER_AND_NORMAL}
_IDIS: Final[_Codes] = {
    **_COMMON,
    **_unverified(_CLOCK_AND_BATTERY),
    47: (Meaning(_T.CONFIG_CHANGED, certainty=Certainty.UNVERIFIED),),
    48: (Meaning(_T.CONFIG_CHANGED, words="keys were changed"),),
    49: (Meaning(_T.LOGIN_FAILED, words="a message could not be deciphered"),),
    50: (Meaning(_T.LOGIN_FAILED, words="an old message was sent again"),),
    59: (Meaning(_T.READY_FOR_RECONNECTION),),
    60: _moved(_T.RELAY_DISCONNECTED, "by hand", Severity.MINOR),
    61: _moved(_T.RELAY_CONNECTED, "by hand", Severity.MINOR),
    62: _moved(_T.RELAY_DISCONNECTED, "remotely"),
    63: _moved(_T.RELAY_CONNECTED, "remotely"),
    64: _moved(_T.RELAY_DISCONNECTED, "by the meter itself"),
    68: (Meaning(_T.RELAY_FAILURE),),
    69: _moved(_T.RELAY_CONNECTED, "by the meter itself"),
    **_unverified({**_UNDER, **_OVER_AND_NORMAL}),
    # IDIS has no codes for phases that return, for a neutral that is back, or for a current that is right again.
    **_unverified(_phases(86, Meaning(_T.PHASE_MISSING))),
    89: (Meaning(_T.NEUTRAL_DISTURBANCE, words="it is missing", certainty=Certainty.UNVERIFIED),),
    91: (Meaning(_T.REVERSE_CURRENT, certainty=Certainty.UNVERIFIED),),
}
_IS_15959: Final[_Codes] = {
    **_phases(1, Meaning(_T.PHASE_MISSING, _RAISED), step=2),
    **_phases(2, Meaning(_T.PHASE_MISSING, _CLEARED), step=2),
    **_pair(_T.OVER_VOLTAGE, 7, 8),
    **_pair(_T.UNDER_VOLTAGE, 9, 10),
    **_phases(51, Meaning(_T.REVERSE_CURRENT, _RAISED), step=2),
    **_phases(52, Meaning(_T.REVERSE_CURRENT, _CLEARED), step=2),
    **_pair(_T.POWER_FAIL, 101, 102),
    151: (Meaning(_T.CLOCK_ADJUSTED),),
    **{
        code: (Meaning(_T.CONFIG_CHANGED, certainty=certainty),)
        for codes, certainty in (
            (range(152, 156), Certainty.SOURCED),
            (range(156, 170), Certainty.UNVERIFIED),
        )
        for code in codes
    },
    **_pair(_T.MAGNETIC_FIELD, 201, 202),
    **_pair(_T.NEUTRAL_DISTURBANCE, 203, 204),
    251: (Meaning(_T.METER_COVER_OPEN),),  # of the log that never rolls over: it has no end
    301: (Meaning(_T.RELAY_DISCONNECTED),),
    302: (Meaning(_T.RELAY_CONNECTED),),
}

CODES: Final[Mapping[str, _Codes]] = {
    "dsmr": _DSMR,
    "smr": _SMR,
    "idis": _IDIS,
    "is15959": _IS_15959,
}
"""The numberings we know, by the name that travels as ``codeSystem``."""


def rows() -> Iterator[tuple[str, int, Meaning]]:
    """Yield every code we know with each of its meanings, in order: for the documentation and its test."""
    for code_system, codes in CODES.items():
        for code in sorted(codes):
            yield from ((code_system, code, meaning) for meaning in codes[code])
