"""The types of event: our words, how grave each is, and the registers that go with it (pure).

A type is one word in every language and for every maker; the maker's code travels beside it, with whose code it is
(decision 0009). What lasts is told ``raised`` and ``cleared`` under one word; what has no end anybody will tell is
``instant``, because an alarm that nothing can end would stand for ever.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from openami.profile import Obis, Severity


class EventType(StrEnum):
    """What a gateway tells, by its own rules or out of a meter's log."""

    COMMS_LOST = "comms_lost"
    COMMS_RESTORED = "comms_restored"
    ADDRESS_CLASH = "address_clash"
    REGISTER_ROLLBACK = "register_rollback"
    IMPLAUSIBLE_VALUE = "implausible_value"
    CLOCK_INVALID = "clock_invalid"
    CLOCK_ADJUSTED = "clock_adjusted"
    CLOCK_NOT_SET = "clock_not_set"
    """A meter's clock is wrong and the gateway may not set it: a person has to (decision 0059)."""
    INTERVALS_LOST = "intervals_lost"
    """Billing intervals of an outage that the meter's load profile does not hold (decision 0058)."""
    CERTIFICATE_EXPIRING = "certificate_expiring"
    TELEMETRY_SLOWED = "telemetry_slowed"
    """By the monthly cap less is told than is configured, of what no bill is made of (decision 0076)."""
    TELEMETRY_WITHHELD = "telemetry_withheld"
    """By the monthly cap readings wait on the gateway's disk; told again while they do (decision 0076)."""
    COMMANDS_REFUSED = "commands_refused"
    """Messages nobody could be told a refusal of: unsigned, forged, or not for us."""

    POWER_FAIL = "power_fail"
    OVER_VOLTAGE = "over_voltage"
    UNDER_VOLTAGE = "under_voltage"
    PHASE_MISSING = "phase_missing"
    NEUTRAL_DISTURBANCE = "neutral_disturbance"
    REVERSE_CURRENT = "reverse_current"
    THD_OVER_LIMIT = "thd_over_limit"

    METER_COVER_OPEN = "meter_cover_open"
    TERMINAL_COVER_OPEN = "terminal_cover_open"
    MODULE_COVER_OPEN = "module_cover_open"
    MAGNETIC_FIELD = "magnetic_field"
    LOGIN_FAILED = "login_failed"
    CONFIG_CHANGED = "config_changed"
    LOG_CLEARED = "log_cleared"

    RELAY_DISCONNECTED = "relay_disconnected"
    RELAY_CONNECTED = "relay_connected"
    READY_FOR_RECONNECTION = "ready_for_reconnection"
    RELAY_UNORDERED = "relay_unordered"
    """The contactor stands elsewhere, and no command ordered it."""
    RELAY_FAILURE = "relay_failure"
    """It was ordered, and does not stand where it was ordered to."""

    LOW_CREDIT = "low_credit"
    CREDIT_EXHAUSTED = "credit_exhausted"
    BATTERY_LOW = "battery_low"
    LEAKAGE_ALARM = "leakage_alarm"

    METER_LOG_ENTRY = "meter_log_entry"
    """An entry of a meter's log whose code we do not know: told as it stands, never guessed."""
    EVENT_STORM = "event_storm"
    """More happened at one meter than is told; how much is counted (decision 0057)."""


@dataclass(frozen=True, slots=True)
class TypeInfo:
    """How an event of this type is told."""

    severity: Severity
    lasting: bool
    """Whether it may be raised and cleared; what is not lasting is instant."""
    registers: tuple[Obis, ...] = ()
    """What goes with it, as far as the meter has it."""


def _codes(*texts: str) -> tuple[Obis, ...]:
    return tuple(Obis.parse(text) for text in texts)


VOLTAGES: Final = _codes("32.7.0", "52.7.0", "72.7.0")
CURRENTS: Final = _codes("31.7.0", "51.7.0", "71.7.0")
VOLTAGE_THD: Final = _codes("32.7.124", "52.7.124", "72.7.124")
NEUTRAL_CURRENT: Final = Obis.parse("91.7.0")
POWERS: Final = _codes("16.7.0", "1.7.0", "2.7.0")
RELAY: Final = _codes("96.3.10", "96.11.1")
"""Where a contactor's position is told: the disconnect control's state, and the profile's own code."""
CREDIT: Final = _codes("19.10.0", "96.8.0")
LEAKAGE_AC: Final = _codes("128.7.0", "128.7.1")
LEAKAGE_DC: Final = _codes("128.7.2")
POWER_FAILURES: Final = _codes("96.7.0", "96.7.21", "96.7.9")
METER_COVER: Final = _codes("96.20.0")
TERMINAL_COVER: Final = _codes("96.20.5")
MAGNET: Final = _codes("96.20.15")
EVENT_CODE: Final = Obis.parse("96.11.0")

_INFO, _MINOR, _MAJOR, _CRITICAL = Severity
_T = EventType

EVENT_TYPES: Final[Mapping[EventType, TypeInfo]] = {
    _T.COMMS_LOST: TypeInfo(_MAJOR, lasting=True),
    _T.COMMS_RESTORED: TypeInfo(_INFO, lasting=True),
    _T.ADDRESS_CLASH: TypeInfo(_CRITICAL, lasting=True),  # somebody may be billed for another's
    _T.REGISTER_ROLLBACK: TypeInfo(_MAJOR, lasting=True),
    _T.IMPLAUSIBLE_VALUE: TypeInfo(_MINOR, lasting=True),
    _T.CLOCK_INVALID: TypeInfo(_MINOR, lasting=True),
    _T.CLOCK_ADJUSTED: TypeInfo(_INFO, lasting=False),
    _T.CLOCK_NOT_SET: TypeInfo(_MINOR, lasting=False),  # the alarm is clock_invalid
    # The registers are totals: no energy is lost with them.
    _T.INTERVALS_LOST: TypeInfo(_MINOR, lasting=False),
    _T.CERTIFICATE_EXPIRING: TypeInfo(_MAJOR, lasting=True),  # without one, nothing gets out
    _T.TELEMETRY_SLOWED: TypeInfo(_INFO, lasting=True),
    _T.TELEMETRY_WITHHELD: TypeInfo(_MAJOR, lasting=True),  # a bill may have to wait for them
    _T.COMMANDS_REFUSED: TypeInfo(_MINOR, lasting=False),
    _T.POWER_FAIL: TypeInfo(_MAJOR, lasting=True, registers=VOLTAGES + POWER_FAILURES),
    _T.OVER_VOLTAGE: TypeInfo(_MAJOR, lasting=True, registers=VOLTAGES),  # it burns appliances
    _T.UNDER_VOLTAGE: TypeInfo(_MINOR, lasting=True, registers=VOLTAGES),
    _T.PHASE_MISSING: TypeInfo(_MAJOR, lasting=True, registers=VOLTAGES),
    _T.NEUTRAL_DISTURBANCE: TypeInfo(_MAJOR, lasting=True, registers=(*CURRENTS, NEUTRAL_CURRENT)),
    _T.REVERSE_CURRENT: TypeInfo(_MAJOR, lasting=True, registers=POWERS),
    _T.THD_OVER_LIMIT: TypeInfo(_MINOR, lasting=True, registers=VOLTAGE_THD),
    _T.METER_COVER_OPEN: TypeInfo(_MAJOR, lasting=True, registers=METER_COVER),
    _T.TERMINAL_COVER_OPEN: TypeInfo(_MAJOR, lasting=True, registers=TERMINAL_COVER),
    _T.MODULE_COVER_OPEN: TypeInfo(_MINOR, lasting=True),
    _T.MAGNETIC_FIELD: TypeInfo(_MAJOR, lasting=True, registers=MAGNET),
    _T.LOGIN_FAILED: TypeInfo(_MINOR, lasting=False),
    _T.CONFIG_CHANGED: TypeInfo(_MINOR, lasting=False),
    _T.LOG_CLEARED: TypeInfo(_MAJOR, lasting=False),  # what it held cannot be asked for any more
    _T.RELAY_DISCONNECTED: TypeInfo(_INFO, lasting=False, registers=RELAY),
    _T.RELAY_CONNECTED: TypeInfo(_INFO, lasting=False, registers=RELAY),
    _T.READY_FOR_RECONNECTION: TypeInfo(_INFO, lasting=False, registers=RELAY),
    _T.RELAY_UNORDERED: TypeInfo(_MAJOR, lasting=False, registers=RELAY),
    _T.RELAY_FAILURE: TypeInfo(_MAJOR, lasting=True, registers=RELAY),
    # A prepaid customer's every week: for the one who sells, no alarm for the one who operates.
    _T.LOW_CREDIT: TypeInfo(_INFO, lasting=True, registers=CREDIT),
    _T.CREDIT_EXHAUSTED: TypeInfo(_MINOR, lasting=True, registers=CREDIT),
    _T.BATTERY_LOW: TypeInfo(_MINOR, lasting=False),
    _T.LEAKAGE_ALARM: TypeInfo(_MAJOR, lasting=True, registers=LEAKAGE_AC + LEAKAGE_DC),
    _T.METER_LOG_ENTRY: TypeInfo(_INFO, lasting=False),
    _T.EVENT_STORM: TypeInfo(_MAJOR, lasting=True),
}
