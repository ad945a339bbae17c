"""Findings: what the bridge did with a message that is not as it should be, and why (pure)."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from openami.profile import one_line

# Read by a person in a log; a sender chooses part of the text.
DETAIL_CHARS_MAX: Final = 200


class Effect(StrEnum):
    """What became of it."""

    LEFT_OUT = "left_out"
    """It is not published."""
    SUSPECT = "suspect"
    """It is published, and not vouched for."""
    LOST = "comms_lost"
    """The last value that was vouched for is published, with its own time."""
    MENDED = "mended"
    """A mistake that can be undone exactly was undone."""


class Reason(StrEnum):
    """Why. The texts stand in docs/bridge.md."""

    # the message as a whole
    FOREIGN_TOPIC = "foreign_topic"
    UNKNOWN_POLE = "unknown_pole"
    UNKNOWN_METER = "unknown_meter"
    NO_PANEL = "no_panel"
    NO_REGISTERS = "no_registers"
    RETAINED = "retained"
    COMMAND_SEEN = "command_seen"
    TOO_LARGE = "too_large"
    NOT_JSON = "not_json"
    WRONG_MODEL = "wrong_model"
    TOO_OFTEN = "too_often"
    DUPLICATE = "duplicate"
    NOT_MEASURED = "not_measured"
    REGISTER_MAP_WRONG = "register_map_wrong"
    # its time
    AGE_UNKNOWN = "age_unknown"
    CLOCK_UNTRUSTED = "clock_untrusted"
    NOT_POLLED = "not_polled"
    UNCHANGED = "unchanged"
    # one of its values
    NOT_A_NUMBER = "not_a_number"
    OUT_OF_RANGE = "out_of_range"
    POWER_WRAPPED = "power_wrapped"
    POWER_CONTRADICTED = "power_contradicted"
    POWER_FACTOR_INVENTED = "power_factor_invented"
    CURRENT_NEGATIVE = "current_negative"
    CURRENT_SATURATED = "current_saturated"
    TEMPERATURE_WRAPPED = "temperature_wrapped"
    SENSOR_UNKNOWN = "sensor_unknown"
    COUNTER_COARSE = "counter_coarse"
    COUNTER_ZERO = "counter_zero"
    COUNTER_WENT_BACK = "counter_went_back"


EFFECTS: Final[Mapping[Reason, Effect]] = {
    Reason.AGE_UNKNOWN: Effect.SUSPECT,
    Reason.CLOCK_UNTRUSTED: Effect.SUSPECT,
    Reason.POWER_WRAPPED: Effect.MENDED,
    Reason.POWER_CONTRADICTED: Effect.SUSPECT,
    Reason.CURRENT_NEGATIVE: Effect.MENDED,
    Reason.CURRENT_SATURATED: Effect.SUSPECT,
    Reason.TEMPERATURE_WRAPPED: Effect.MENDED,
    Reason.SENSOR_UNKNOWN: Effect.SUSPECT,
    Reason.COUNTER_COARSE: Effect.SUSPECT,
    Reason.COUNTER_ZERO: Effect.SUSPECT,
    Reason.COUNTER_WENT_BACK: Effect.SUSPECT,
}
"""What a reason leads to; LEFT_OUT where it does not stand here, or where the finding itself says."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing the bridge would not pass on as it came."""

    reason: Reason
    effect: Effect
    detail: str
    obis: str = ""
    """Of which register; empty for the message as a whole."""


def finding(
    reason: Reason, detail: str, *, obis: str = "", effect: Effect | None = None
) -> Finding:
    """Return a finding with the effect its reason has, printable and of bounded length."""
    if effect is None:
        effect = EFFECTS.get(reason, Effect.LEFT_OUT)
    return Finding(reason, effect, one_line(detail)[:DETAIL_CHARS_MAX], obis)
