"""A gateway's bandwidth: what its contract allows it in a month, and how near to that it is. Pure.

Only what the head-end has received and accepted is counted (`store.traffic`); MQTT, TLS and TCP add to it on the
way, so a budget is set with some room below what the contract says. Nothing is held back: a gateway goes on
sending, and a person is told.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from openami.headend.alarms import Condition, StateKind
from openami.headend.audit import Entry
from openami.headend.store.traffic import DayTraffic
from openami.profile import Severity

# Below, no month of any village fits; above, it is no radio contract any more.
BUDGET_BYTES_MIN: Final = 1_000_000
BUDGET_BYTES_MAX: Final = 10_000_000_000_000
# With a fifth left a person has days to buy more, or to find out who talks so much.
NEAR_SHARE: Final = 0.8


class BudgetRefused(ValueError):
    """A budget nobody could mean."""


def checked_budget(month_bytes: int) -> int:
    """Return a budget that may be set. Raises BudgetRefused."""
    if not BUDGET_BYTES_MIN <= month_bytes <= BUDGET_BYTES_MAX:
        raise BudgetRefused(
            f"a month's budget is {BUDGET_BYTES_MIN:,} to {BUDGET_BYTES_MAX:,} bytes, not {month_bytes:,}"
        )
    return month_bytes


def budget_entry(gateway_id: str, month_bytes: int | None, *, who: str) -> Entry:
    """Return what the audit log says of a budget that was set."""
    told = "none" if month_bytes is None else f"{month_bytes:,} bytes a month"
    return Entry(who=who, what=f"bandwidth budget of {gateway_id} set", result=told)


def over_budget(
    budgets: Mapping[tuple[str, str], int], traffic: Iterable[DayTraffic], now: datetime
) -> list[Condition]:
    """Return the gateways that are near their month's budget, or beyond it; ``traffic`` is that of the month."""
    month = f"{now:%Y-%m}"
    sent: Counter[tuple[str, str]] = Counter()
    for each in traffic:
        if each.day.startswith(month):
            sent[each.feeder_id, each.gateway_id] += each.bytes
    found = []
    for (feeder_id, gateway_id), most in sorted(budgets.items()):
        used = sent[feeder_id, gateway_id]
        if used < NEAR_SHARE * most:
            continue
        over = used >= most
        found.append(
            Condition(
                feeder_id=feeder_id,
                gateway_id=gateway_id,
                meter_serial="",
                kind=StateKind.BANDWIDTH_OVER if over else StateKind.BANDWIDTH_NEAR,
                severity=Severity.MAJOR if over else Severity.MINOR,
                since=now,
                detail=f"{used / 1e6:.1f} MB of {most / 1e6:.1f} MB this month",
            )
        )
    return found
