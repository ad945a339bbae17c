"""What the PageStore does: one query for every list, put together from what is wanted."""

# Statements are put together from this program's own words; every value is bound.
# ruff: noqa: S608

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar, cast

from openami.headend.bulk import Bulk
from openami.headend.commands import LedgerCommand
from openami.headend.sessions import LedgerSession
from openami.headend.store import RejectStatus, StoredEvent, StoredFinding
from openami.headend.store.bulk_ledger import BULKS
from openami.headend.store.engine import Engine
from openami.headend.store.identity import to_ms
from openami.headend.store.ledger_rows import COMMANDS, SESSIONS, TIME, Form, Rows
from openami.headend.store.pages import PAGE_MAX, KeptMessage, Key, Placed, Wanted, topics_begin
from openami.headend.store.plan import Cell

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Listing(Generic[T]):
    """A list: its rows, what orders them (all descending), which time they are wanted by."""

    rows: Rows[T]
    order: tuple[str, ...]
    time: str
    equal: tuple[str, ...] = ()
    """The members of Wanted that are columns of this list."""
    ends: bool = False
    """Whether a row of it can have ended."""


_TOPIC: Final = Form(
    lambda text: text.encode("utf-8", "surrogatepass"),
    lambda cell: bytes(cell).decode("utf-8", "surrogatepass"),
)
_EVENTS: Final = _Listing(
    Rows("event", StoredEvent, dict.fromkeys(("occurred_at", "ts", "received_at"), TIME)),
    order=("ts", "id"),
    time="ts",
    equal=("gateway_id", "meter_serial", "type", "severity", "state"),
)
_FINDINGS: Final = _Listing(
    Rows("finding", StoredFinding, {"last_seen": TIME}),
    order=("last_seen", "day", "feeder_id", "meter_serial", "obis", "code"),
    time="last_seen",
    equal=("meter_serial", "obis", "code"),
)
_REJECTS: Final = _Listing(
    Rows(
        "rejected",
        KeptMessage,
        {
            "topic": _TOPIC,
            "partial": Form(int, bool),
            "status": Form(str, RejectStatus),
            **dict.fromkeys(("received_at", "last_received_at"), TIME),
        },
    ),
    order=("id",),
    time="received_at",
    equal=("code", "status"),
)
_COMMANDS: Final = _Listing(
    COMMANDS,
    order=("requested_at", "id"),
    time="requested_at",
    equal=("gateway_id", "meter_serial", "state"),
    ends=True,
)
_SESSIONS: Final = _Listing(
    SESSIONS,
    order=("requested_at", "id"),
    time="requested_at",
    equal=("gateway_id", "state"),
    ends=True,
)
_BULKS: Final = _Listing(
    BULKS, order=("requested_at", "id"), time="requested_at", equal=("state",), ends=True
)


class _Arguments:
    """Values to bind, each known by its place."""

    def __init__(self) -> None:
        self.cells: list[Cell] = []

    def places(self, cells: Iterable[Cell]) -> str:
        """Bind values and return their places, as a list of SQL."""
        first = len(self.cells) + 1
        self.cells.extend(cells)
        return ", ".join(f"?{number}" for number in range(first, len(self.cells) + 1))


class Pages(Engine):
    """The PageStore on top of an engine's questions."""

    async def events_page(
        self, wanted: Wanted, *, after: Key | None, at_most: int
    ) -> Sequence[Placed[StoredEvent]]:
        return await self._page(_EVENTS, wanted, after, at_most)

    async def findings_page(
        self, wanted: Wanted, *, after: Key | None, at_most: int
    ) -> Sequence[Placed[StoredFinding]]:
        return await self._page(_FINDINGS, wanted, after, at_most)

    async def rejects_page(
        self, wanted: Wanted, *, after: Key | None, at_most: int
    ) -> Sequence[Placed[KeptMessage]]:
        return await self._page(_REJECTS, wanted, after, at_most)

    async def commands_page(
        self, wanted: Wanted, *, after: Key | None, at_most: int
    ) -> Sequence[Placed[LedgerCommand]]:
        return await self._page(_COMMANDS, wanted, after, at_most)

    async def sessions_page(
        self, wanted: Wanted, *, after: Key | None, at_most: int
    ) -> Sequence[Placed[LedgerSession]]:
        return await self._page(_SESSIONS, wanted, after, at_most)

    async def bulks_page(
        self, wanted: Wanted, *, after: Key | None, at_most: int
    ) -> Sequence[Placed[Bulk]]:
        return await self._page(_BULKS, wanted, after, at_most)

    async def _page(
        self, of: _Listing[T], wanted: Wanted, after: Key | None, at_most: int
    ) -> Sequence[Placed[T]]:
        columns = ", ".join((*of.rows.columns, *of.order))
        bound = _Arguments()
        terms = [*_terms(of, wanted, bound), *_behind(of, after, bound)]
        rows = await self._rows(
            f"SELECT {columns} FROM {of.rows.table} WHERE {' AND '.join(terms) or '1 = 1'} "
            f"ORDER BY {', '.join(f'{name} DESC' for name in of.order)} "
            f"LIMIT {bound.places([min(at_most, PAGE_MAX + 1)])}",
            *bound.cells,
        )
        width = len(of.rows.columns)
        return [Placed(cast(Any, row[width:]), of.rows.read(row[:width])) for row in rows]


def _terms(of: _Listing[T], wanted: Wanted, bound: _Arguments) -> list[str]:
    """Return the conditions for what is wanted."""
    equal: Mapping[str, str | None] = {name: getattr(wanted, name) for name in of.equal}
    terms = [
        f"{name} = {bound.places([value])}" for name, value in equal.items() if value is not None
    ]
    if wanted.feeders is not None:
        terms.append(_of_feeders(of, sorted(wanted.feeders), bound))
    if wanted.since is not None:
        terms.append(f"{of.time} >= {bound.places([to_ms(wanted.since)])}")
    if wanted.until is not None:
        terms.append(f"{of.time} < {bound.places([to_ms(wanted.until)])}")
    if wanted.only_open and of.ends:
        terms.append("ended_at IS NULL")
    return terms


def _of_feeders(of: _Listing[T], feeders: Sequence[str], bound: _Arguments) -> str:
    if not feeders:
        return "1 = 0"
    if "feeder_id" in of.rows.columns:
        return f"feeder_id IN ({bound.places(feeders)})"
    # A rejected message is known by its topic alone; a feeder's topics stand side by side.
    ranges = [
        f"(topic >= {bound.places([first])} AND topic < {bound.places([end])})"
        for first, end in map(_topics_of, feeders)
    ]
    return f"({' OR '.join(ranges)})"


def _topics_of(feeder_id: str) -> tuple[bytes, bytes]:
    """Return between which bytes every topic of a feeder stands: the first, and what is beyond the last."""
    beginning = topics_begin(feeder_id).encode()
    return beginning, beginning[:-1] + bytes([beginning[-1] + 1])


def _behind(of: _Listing[T], after: Key | None, bound: _Arguments) -> list[str]:
    if after is None:
        return []
    return [f"({', '.join(of.order)}) < ({bound.places(after)})"]
