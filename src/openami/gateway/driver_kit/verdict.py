"""A value against the range of its register. Pure."""

from dataclasses import dataclass
from decimal import Decimal

from openami.gateway.driver import RegisterInfo


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a value is one the register can have."""

    plausible: bool | None
    """None: nothing says what it can be."""
    reason: str


def verdict(info: RegisterInfo, value: int | Decimal | str | bool | None) -> Verdict:
    """Judge a register's value by its range."""
    if value is None:
        return Verdict(None, "the meter says it has none")
    if isinstance(value, str | bool):
        return Verdict(None, "")
    low, high = info.minimum, info.maximum
    if low is None and high is None:
        return Verdict(None, "no range in the map")
    if low is not None and value < low:
        return Verdict(False, f"below {low:.10g} {info.unit}")
    if high is not None and value > high:
        return Verdict(False, f"above {high:.10g} {info.unit}")
    return Verdict(True, f"within {range_text(low, high)}")


def range_text(low: float | None, high: float | None) -> str:
    """Print a range as a person would: ``0 to 300``, ``0 and more``."""
    if low is None:
        return f"up to {high:.10g}"
    return f"{low:.10g} and more" if high is None else f"{low:.10g} to {high:.10g}"
