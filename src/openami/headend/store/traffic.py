"""The TrafficStore port: how much each gateway has sent, by day, and how much it may send in a month."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, Protocol, cast

from openami.headend.audit import Entry
from openami.headend.ingest import Accepted, Decision
from openami.headend.store.chain import append, in_turn
from openami.headend.store.engine import Engine
from openami.headend.store.plan import Cell
from openami.headend.store.steps import Steps, do, insert
from openami.headend.store.tables import Table, Type

# A year and a month: this month beside the same month of last year.
TRAFFIC_KEPT_DAYS: Final = 400

TRAFFIC: Final = Table(
    "traffic",
    (
        ("feeder_id", Type.TEXT),
        ("gateway_id", Type.TEXT),
        ("day", Type.TEXT),
        ("messages", Type.LONG),
        ("bytes", Type.LONG),
    ),
    ("feeder_id", "gateway_id", "day"),
    "DO UPDATE SET messages = traffic.messages + excluded.messages, "
    "bytes = traffic.bytes + excluded.bytes",
)
_SINCE: Final = (
    "SELECT feeder_id, gateway_id, day, messages, bytes FROM traffic "
    "WHERE day >= ?1 AND ?2 IN ('', feeder_id) ORDER BY feeder_id, gateway_id, day"
)


@dataclass(frozen=True, slots=True)
class DayTraffic:
    """What came of one gateway on one UTC day of receipt."""

    feeder_id: str
    gateway_id: str
    day: str
    messages: int
    bytes: int
    """Topics and payloads of what was accepted, each time it came; without what MQTT, TLS and TCP add."""


class TrafficStore(Protocol):
    """What the head-end keeps of traffic. Every method raises StoreError."""

    async def traffic(self, since: date, feeder_id: str | None = None) -> Sequence[DayTraffic]:
        """Return the traffic of each gateway and day, from a UTC day on."""
        ...

    async def budgets(self) -> Mapping[tuple[str, str], int]:
        """Return what gateways may send in a month of UTC, in bytes, by feeder and gateway, where that is set."""
        ...

    async def set_budget(
        self, feeder_id: str, gateway_id: str, month_bytes: int | None, entry: Entry, now: datetime
    ) -> None:
        """Set what a gateway may send in a month, or with None no more, and note it, in one transaction."""
        ...


def count_traffic(batch: Iterable[Decision]) -> Steps[int]:
    """Add a batch to its days."""
    sizes: dict[tuple[str, str, datetime], list[int]] = defaultdict(list)
    for each in batch:
        if isinstance(each, Accepted):
            envelope, message = each.envelope, each.message
            of = (envelope.feeder_id, envelope.gateway_id, message.received_at)
            sizes[of].append(len(message.topic) + len(message.payload))
    days: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for (feeder_id, gateway_id, received_at), came in sizes.items():
        days[feeder_id, gateway_id, str(received_at.date())] += came
    cells: list[Cell] = []
    for key, came in sorted(days.items()):
        cells += [*key, len(came), sum(came)]
    return (yield from insert(TRAFFIC, cells))


def set_budget(
    feeder_id: str, gateway_id: str, month_bytes: int | None, entry: Entry, now: datetime
) -> Steps[None]:
    """Write a budget in the place of what was."""
    yield from in_turn()
    yield from do(
        "DELETE FROM bandwidth_budget WHERE feeder_id = ?1 AND gateway_id = ?2",
        *(feeder_id, gateway_id),
    )
    if month_bytes is not None:
        yield from do(
            "INSERT INTO bandwidth_budget (feeder_id, gateway_id, month_bytes) VALUES (?1, ?2, ?3)",
            *(feeder_id, gateway_id, month_bytes),
        )
    yield from append((entry,), now)


class TrafficQueries(Engine):
    """What the TrafficStore does."""

    async def traffic(self, since: date, feeder_id: str | None = None) -> Sequence[DayTraffic]:
        rows = await self._rows(_SINCE, str(since), feeder_id or "")
        return [DayTraffic(*cast(Any, row)) for row in rows]

    async def budgets(self) -> Mapping[tuple[str, str], int]:
        rows = await self._rows("SELECT feeder_id, gateway_id, month_bytes FROM bandwidth_budget")
        return {(feeder, gateway): most for feeder, gateway, most in cast(Any, rows)}

    async def set_budget(
        self, feeder_id: str, gateway_id: str, month_bytes: int | None, entry: Entry, now: datetime
    ) -> None:
        await self._write(lambda: set_budget(feeder_id, gateway_id, month_bytes, entry, now))
