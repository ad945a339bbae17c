"""What the BulkStore does; the engine carries the steps out.

A meter's command is entered in the same transaction that counts how many were cut off within the hour and notes
which command it is: so no crash asks for a house twice, and no two writers go beyond the bound.
"""

# Statements are put together from this program's own words; every value is bound.
# ruff: noqa: S608

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final, cast

from openami.headend.audit import Entry
from openami.headend.bulk import Bulk, BulkMeter, BulkState, bulk_room
from openami.headend.commands import BUDGET_WINDOW, LedgerCommand, Requested
from openami.headend.store.bulks import BULKS_LISTED_MAX, DecideBulk
from openami.headend.store.chain import append, in_turn
from openami.headend.store.engine import Engine
from openami.headend.store.identity import to_ms
from openami.headend.store.ledger import request_command
from openami.headend.store.ledger_rows import COMMANDS, TIME, Form, Rows
from openami.headend.store.plan import Cell
from openami.headend.store.steps import Steps, ask, do
from openami.sip.actions import Action

BULKS: Final = Rows(
    "bulk",
    Bulk,
    {
        "state": Form(lambda state: state.value, BulkState),
        **dict.fromkeys(("requested_at", "approved_at", "ended_at"), TIME),
    },
)
_METERS: Final = Rows("bulk_meter", BulkMeter, {})
_LATELY: Final = (
    "SELECT (SELECT count(DISTINCT command_id) FROM signing "
    f"WHERE action = '{Action.DISCONNECT}' AND signed_at >= ?1) + "
    f"(SELECT count(*) FROM command WHERE action = '{Action.DISCONNECT}' "
    "AND ended_at IS NULL AND signings = 0)"
)


def add_bulk(bulk: Bulk, meters: Sequence[BulkMeter], entry: Entry) -> Steps[Bulk]:
    """Keep a proposal."""
    yield from in_turn()
    if bulk.idempotency_key is not None:
        same = yield from ask(BULKS.select("WHERE idempotency_key = ?1"), bulk.idempotency_key)
        if same:
            return BULKS.read(same[0])
    yield from do(BULKS.insert(), *BULKS.cells(bulk))
    for meter in meters:
        yield from do(_METERS.insert(), *_METERS.cells(meter))
    yield from append((entry,), bulk.requested_at)
    return bulk


def _found(bulk_id: str) -> Steps[Bulk | None]:
    rows = yield from ask(BULKS.select("WHERE id = ?1"), bulk_id)
    return BULKS.read(rows[0]) if rows else None


def change_bulk(bulk_id: str, decide: DecideBulk, now: datetime) -> Steps[Bulk | None]:
    """Let a decision change one."""
    yield from in_turn()
    bulk = yield from _found(bulk_id)
    change = None if bulk is None else decide(bulk)
    if change is None:
        return bulk
    yield from do(BULKS.update(), *BULKS.cells(change.bulk))
    yield from append((change.entry,), now)
    return change.bulk


def ask_for_meter(
    meter: BulkMeter, new: LedgerCommand, now: datetime, per_hour: int
) -> Steps[bool]:
    """Enter a meter's command into the ledger, if there is room."""
    yield from in_turn()
    bulk = yield from _found(meter.bulk_id)
    key = (meter.bulk_id, meter.position)
    rows = yield from ask(_METERS.select("WHERE bulk_id = ?1 AND position = ?2"), *key)
    [(used,)] = cast(Any, (yield from ask(_LATELY, to_ms(now - BUDGET_WINDOW))))
    runs = bulk is not None and bulk.state is BulkState.RUNNING
    if not runs or not rows or _METERS.read(rows[0]).is_settled or not bulk_room(per_hour, used):
        return False
    verdict = yield from request_command(new, now, engineer=False)
    told = (
        (verdict.command.id, None)
        if isinstance(verdict, Requested)
        else (None, verdict.fault.value)
    )
    yield from do(
        "UPDATE bulk_meter SET command_id = ?1, refused_as = ?2 "
        "WHERE bulk_id = ?3 AND position = ?4",
        *(*told, *key),
    )
    return True


class BulkLedger(Engine):
    """The BulkStore on top of an engine's questions and transactions."""

    async def add_bulk(self, bulk: Bulk, meters: Sequence[BulkMeter], entry: Entry) -> Bulk:
        return await self._write(lambda: add_bulk(bulk, meters, entry))

    async def bulk(self, bulk_id: str) -> Bulk | None:
        rows = await self._rows(BULKS.select("WHERE id = ?1"), bulk_id)
        return BULKS.read(rows[0]) if rows else None

    async def bulks(
        self, feeders: Collection[str] | None = None, *, only_open: bool = False
    ) -> Sequence[Bulk]:
        where = "ended_at IS NULL" if only_open else "1 = 1"
        named: list[Cell] = []
        if feeders is not None:
            if not feeders:
                return []
            named.extend(sorted(feeders))
            places = ", ".join(f"?{number}" for number in range(2, 2 + len(named)))
            where += f" AND feeder_id IN ({places})"
        rows = await self._rows(
            BULKS.select(f"WHERE {where} ORDER BY requested_at DESC, id LIMIT ?1"),
            *(BULKS_LISTED_MAX, *named),
        )
        return [BULKS.read(row) for row in rows]

    async def bulk_meters(self, bulk_id: str) -> Sequence[tuple[BulkMeter, LedgerCommand | None]]:
        rows = await self._rows(_METERS.select("WHERE bulk_id = ?1 ORDER BY position"), bulk_id)
        commands = {
            command.id: command
            for command in map(
                COMMANDS.read,
                await self._rows(
                    COMMANDS.select(
                        "WHERE id IN (SELECT command_id FROM bulk_meter WHERE bulk_id = ?1)"
                    ),
                    bulk_id,
                ),
            )
        }
        meters = [_METERS.read(row) for row in rows]
        return [
            (each, None if each.command_id is None else commands.get(each.command_id))
            for each in meters
        ]

    async def change_bulk(self, bulk_id: str, decide: DecideBulk, now: datetime) -> Bulk | None:
        return await self._write(lambda: change_bulk(bulk_id, decide, now))

    async def ask_for_meter(
        self, meter: BulkMeter, new: LedgerCommand, now: datetime, *, per_hour: int
    ) -> bool:
        return await self._write(lambda: ask_for_meter(meter, new, now, per_hour))
