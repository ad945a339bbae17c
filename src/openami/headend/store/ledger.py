"""What the CommandStore does, step by step; the engine carries the steps out."""

# Statements are put together from this program's own words; every value is bound.
# ruff: noqa: S608

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, cast

from openami.headend.audit import Entry, Link
from openami.headend.commands import (
    Approval,
    LedgerCommand,
    Requested,
    RequestVerdict,
    judge_request,
    refused_request_entry,
    requested_entry,
)
from openami.headend.sessions import LedgerSession
from openami.headend.store import ROWS_MAX
from openami.headend.store.chain import LINK_COLUMNS, append, in_turn, link_of
from openami.headend.store.commands import (
    AUDIT_PAGE_MAX,
    DUE_AT_ONCE_MAX,
    Around,
    Concern,
    DecideCommand,
    DecideSession,
    Due,
    KeyringDelivery,
    StoredKeyring,
)
from openami.headend.store.engine import Engine
from openami.headend.store.identity import from_ms, to_ms
from openami.headend.store.ledger_rows import COMMANDS, DELIVERIES, KEYRINGS, SESSIONS
from openami.headend.store.plan import Cell
from openami.headend.store.steps import Row, Steps, ask, do
from openami.sip.actions import Action
from openami.sip.keyring import ANY
from openami.sip.session import SessionState

# Open sessions of one gateway that a decision looks at; a gateway holds eight.
_SESSIONS_AROUND_MAX: Final = 32

_DUE: Final = (
    "SELECT concern, id FROM ("
    "SELECT 'command' AS concern, id, due_at FROM command WHERE due_at <= ?1 "
    "UNION ALL SELECT 'session', id, due_at FROM session WHERE due_at <= ?1 "
    "UNION ALL SELECT 'keyring', feeder_id || '/' || gateway_id || '/' || version, due_at "
    "FROM keyring WHERE due_at <= ?1 "
    "UNION ALL SELECT 'delivery', feeder_id || '/' || gateway_id || '/' || version, due_at "
    "FROM delivery WHERE due_at <= ?1"
    ") AS things WHERE ?3 IN ('', concern) ORDER BY due_at, id LIMIT ?2"
)
_PROTECTED: Final = (
    "SELECT count(*) FROM asset_meter "
    "WHERE feeder_id = ?1 AND serial = ?2 AND protected = 1 AND valid_to IS NULL"
)


# --- the audit log -------------------------------------------------------------------------------


def note(entry: Entry, now: datetime) -> Steps[Link]:
    """Append one entry."""
    yield from in_turn()
    [made] = yield from append((entry,), now)
    return made


# --- commands ------------------------------------------------------------------------------------


def request_command(new: LedgerCommand, now: datetime, *, engineer: bool) -> Steps[RequestVerdict]:
    """Enter a request into the ledger."""
    yield from in_turn()
    key = new.idempotency_key
    same_key = [] if key is None else (yield from _commands("idempotency_key = ?1", key))
    on_meter = yield from _commands(
        "feeder_id = ?1 AND meter_serial = ?2 AND ended_at IS NULL", new.feeder_id, new.meter_serial
    )
    trade = new.trade_id
    same_trade = [] if trade is None else (yield from _commands("trade_id = ?1", trade))
    [(protected,)] = yield from ask(_PROTECTED, new.feeder_id, new.meter_serial)
    verdict = judge_request(
        new,
        same_key=same_key[0] if same_key else None,
        on_meter=on_meter,
        same_trade=same_trade,
        protected=bool(protected),
        engineer=engineer,
    )
    match verdict:
        case Requested(command, is_new=True):
            yield from do(COMMANDS.insert(), *COMMANDS.cells(command))
            if trade is not None:
                yield from do("UPDATE command SET trade_id = ?1 WHERE id = ?2", trade, command.id)
            yield from append((requested_entry(command),), now)
        case Requested():
            pass
        case refused:
            yield from append((refused_request_entry(new, refused),), now)
    return verdict


def change_command(
    command_id: str, decide: DecideCommand, now: datetime, budget_since: datetime | None
) -> Steps[LedgerCommand | None]:
    """Let a decision change a command."""
    yield from in_turn()
    found = yield from _commands("id = ?1", command_id)
    if not found:
        return None
    [command] = found
    change = decide(command, (yield from _around(command, budget_since)))
    if change is None:
        return command
    after = change.command
    if after.digest is not None and after.digest != command.digest:
        assert after.signed_at is not None
        yield from do(
            "INSERT INTO signing "
            "(digest, command_id, session_id, meter_serial, seq, signed_at, action) "
            "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            *(after.digest, after.id, after.session_id, after.meter_serial, after.seq),
            *(to_ms(after.signed_at), str(after.action)),
        )
    yield from do(COMMANDS.update(), *COMMANDS.cells(after))
    yield from append(change.entries, now)
    return after


def _around(command: LedgerCommand, budget_since: datetime | None) -> Steps[Around]:
    sessions = yield from ask(
        SESSIONS.select(
            "WHERE feeder_id = ?1 AND gateway_id = ?2 AND ended_at IS NULL "
            "ORDER BY requested_at DESC LIMIT ?3"
        ),
        *(command.feeder_id, command.gateway_id, _SESSIONS_AROUND_MAX),
    )
    approvals = (
        [] if command.digest is None else (yield from _approvals(command.id, command.digest))
    )
    seqs = yield from ask(
        "SELECT s.session_id, max(s.seq) FROM signing s "
        "JOIN session o ON o.id = s.session_id AND o.ended_at IS NULL "
        "WHERE o.feeder_id = ?1 AND o.gateway_id = ?2 AND s.meter_serial = ?3 GROUP BY s.session_id",
        *(command.feeder_id, command.gateway_id, command.meter_serial),
    )
    disconnects = 0
    if budget_since is not None:
        [(disconnects,)] = cast(
            Any,
            (
                yield from ask(
                    "SELECT count(DISTINCT command_id) FROM signing "
                    "WHERE action = ?1 AND signed_at >= ?2",
                    *(str(Action.DISCONNECT), to_ms(budget_since)),
                )
            ),
        )
    return Around(
        [SESSIONS.read(row) for row in sessions],
        approvals,
        dict(cast(Any, seqs)),
        disconnects,
    )


def _commands(where: str, *arguments: Cell) -> Steps[list[LedgerCommand]]:
    rows = yield from ask(COMMANDS.select(f"WHERE {where} ORDER BY requested_at, id"), *arguments)
    return [COMMANDS.read(row) for row in rows]


_APPROVALS: Final = (
    "SELECT command_id, digest, kid, act, who, at FROM approval "
    "WHERE command_id = ?1 AND digest = ?2 ORDER BY at, kid"
)


def _approvals(command_id: str, digest: str) -> Steps[list[Approval]]:
    return [_approval_of(row) for row in (yield from ask(_APPROVALS, command_id, digest))]


def _approval_of(row: Row) -> Approval:
    command_id, digest, kid, act, who, at = cast(Any, row)
    return Approval(command_id, digest, kid, act, who, from_ms(at))


def approve(approval: Approval, entry: Entry) -> Steps[None]:
    """Keep an act over a command's document."""
    yield from in_turn()
    added = yield from do(
        "INSERT INTO approval (command_id, digest, kid, act, who, at) "
        "VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
        *(approval.command_id, approval.digest, approval.kid, approval.act),
        *(approval.who, to_ms(approval.at)),
    )
    if added:
        yield from do(
            "UPDATE command SET due_at = ?1 WHERE id = ?2 AND ended_at IS NULL",
            *(to_ms(approval.at), approval.command_id),
        )
        yield from append((entry,), approval.at)


def wake(now: datetime) -> Steps[int]:
    """Let open commands and unanswered sessions be due."""
    yield from in_turn()
    commands = yield from do(
        "UPDATE command SET due_at = ?1 WHERE ended_at IS NULL AND not_after > ?1", to_ms(now)
    )
    sessions = yield from do(
        "UPDATE session SET due_at = ?1 WHERE ended_at IS NULL AND state = ?2",
        *(to_ms(now), SessionState.OFFERED.name),
    )
    return commands + sessions


# --- sessions ------------------------------------------------------------------------------------


def add_session(new: LedgerSession, entry: Entry, now: datetime) -> Steps[None]:
    """Keep a new session."""
    yield from in_turn()
    yield from do(SESSIONS.insert(), *SESSIONS.cells(new))
    yield from append((entry,), now)


def change_session(
    session_id: str, decide: DecideSession, now: datetime
) -> Steps[LedgerSession | None]:
    """Let a decision change a session."""
    yield from in_turn()
    rows = yield from ask(SESSIONS.select("WHERE id = ?1"), session_id)
    if not rows:
        return None
    session = SESSIONS.read(rows[0])
    nonces = yield from ask("SELECT nonce FROM session_nonce WHERE session_id = ?1", session_id)
    change = decide(session, frozenset(cast(str, row[0]) for row in nonces))
    if change is None:
        return session
    after = change.session
    if after.nonce is not None and after.nonce != session.nonce:
        yield from do(
            "INSERT INTO session_nonce (session_id, nonce) VALUES (?1, ?2)", after.id, after.nonce
        )
    yield from do(SESSIONS.update(), *SESSIONS.cells(after))
    if change.successor is not None:
        yield from do(SESSIONS.insert(), *SESSIONS.cells(change.successor))
    if change.wakes_commands:
        yield from do(
            "UPDATE command SET due_at = ?1 WHERE feeder_id = ?2 AND gateway_id = ?3 "
            "AND ended_at IS NULL AND sent_at IS NULL",
            *(to_ms(now), after.feeder_id, after.gateway_id),
        )
    yield from append(change.entries, now)
    return after


# --- keyrings ------------------------------------------------------------------------------------


def add_keyring(keyring: StoredKeyring, entry: Entry) -> Steps[bool]:
    """Keep a keyring."""
    yield from in_turn()
    row = replace(keyring, due_at=keyring.added_at)
    added = yield from do(KEYRINGS.insert("ON CONFLICT DO NOTHING"), *KEYRINGS.cells(row))
    if added:
        yield from append((entry,), keyring.added_at)
    return added == 1


def spread_keyring(keyring: StoredKeyring, now: datetime) -> Steps[int]:
    """Let a keyring be delivered to every gateway that is known and concerned."""
    yield from in_turn()
    spread = yield from do(
        "INSERT INTO delivery (feeder_id, gateway_id, version, offers, due_at) "
        "SELECT feeder_id, gateway_id, CAST(?1 AS bigint), 0, CAST(?2 AS bigint) FROM ("
        "SELECT feeder_id, gateway_id FROM gateway UNION SELECT feeder_id, gateway_id FROM session "
        "UNION SELECT feeder_id, gateway_id FROM keyring WHERE gateway_id <> ?3"
        ") AS known WHERE feeder_id = ?4 AND (gateway_id = ?5 OR ?6 = 1) ON CONFLICT DO NOTHING",
        *(keyring.version, to_ms(now), ANY, keyring.feeder_id, keyring.gateway_id),
        int(keyring.gateway_id == ANY),
    )
    yield from do(
        "UPDATE keyring SET due_at = NULL "
        "WHERE feeder_id = ?1 AND gateway_id = ?2 AND version = ?3",
        *(keyring.feeder_id, keyring.gateway_id, keyring.version),
    )
    return spread


def put_delivery(delivery: KeyringDelivery, entry: Entry | None, now: datetime) -> Steps[None]:
    """Write how far a keyring's delivery is."""
    yield from in_turn()
    yield from do(
        DELIVERIES.insert(
            "ON CONFLICT (feeder_id, gateway_id, version) DO UPDATE SET "
            "offers = excluded.offers, due_at = excluded.due_at, "
            "accepted_at = coalesce(delivery.accepted_at, excluded.accepted_at)"
        ),
        *DELIVERIES.cells(delivery),
    )
    yield from append(() if entry is None else (entry,), now)


# --- the port ------------------------------------------------------------------------------------


class Ledger(Engine):
    """The CommandStore on top of an engine's questions and transactions."""

    async def due(self, now: datetime, *, only: Concern | None = None) -> Sequence[Due]:
        rows = await self._rows(
            _DUE, to_ms(now), DUE_AT_ONCE_MAX, "" if only is None else str(only)
        )
        return [Due(Concern(cast(str, concern)), cast(str, id_)) for concern, id_ in rows]

    async def wake(self, now: datetime) -> int:
        return await self._write(lambda: wake(now))

    async def request_command(
        self, new: LedgerCommand, now: datetime, *, engineer: bool = False
    ) -> RequestVerdict:
        return await self._write(lambda: request_command(new, now, engineer=engineer))

    async def change_command(
        self,
        command_id: str,
        decide: DecideCommand,
        now: datetime,
        *,
        budget_since: datetime | None = None,
    ) -> LedgerCommand | None:
        return await self._write(lambda: change_command(command_id, decide, now, budget_since))

    async def command(self, command_id: str) -> LedgerCommand | None:
        rows = await self._rows(COMMANDS.select("WHERE id = ?1"), command_id)
        return COMMANDS.read(rows[0]) if rows else None

    async def commands(
        self,
        *,
        feeder_id: str | None = None,
        meter_serial: str | None = None,
        only_open: bool = False,
        at_most: int = 100,
    ) -> Sequence[LedgerCommand]:
        where, arguments = _filtered(
            only_open=only_open, feeder_id=feeder_id, meter_serial=meter_serial
        )
        rows = await self._rows(
            COMMANDS.select(f"WHERE {where} ORDER BY requested_at DESC, id LIMIT ?1"),
            *(min(at_most, ROWS_MAX), *arguments),
        )
        return [COMMANDS.read(row) for row in rows]

    async def command_by_digest(self, digest: str) -> str | None:
        rows = await self._rows("SELECT command_id FROM signing WHERE digest = ?1", digest)
        return cast(str, rows[0][0]) if rows else None

    async def approve(self, approval: Approval, entry: Entry) -> None:
        await self._write(lambda: approve(approval, entry))

    async def approvals(self, command_id: str, digest: str) -> Sequence[Approval]:
        return [_approval_of(row) for row in await self._rows(_APPROVALS, command_id, digest)]

    async def add_session(self, new: LedgerSession, entry: Entry, now: datetime) -> None:
        await self._write(lambda: add_session(new, entry, now))

    async def change_session(
        self, session_id: str, decide: DecideSession, now: datetime
    ) -> LedgerSession | None:
        return await self._write(lambda: change_session(session_id, decide, now))

    async def session(self, session_id: str) -> LedgerSession | None:
        rows = await self._rows(SESSIONS.select("WHERE id = ?1"), session_id)
        return SESSIONS.read(rows[0]) if rows else None

    async def sessions(
        self,
        *,
        feeder_id: str | None = None,
        gateway_id: str | None = None,
        only_open: bool = False,
        at_most: int = 100,
    ) -> Sequence[LedgerSession]:
        where, arguments = _filtered(
            only_open=only_open, feeder_id=feeder_id, gateway_id=gateway_id
        )
        rows = await self._rows(
            SESSIONS.select(f"WHERE {where} ORDER BY requested_at DESC, id LIMIT ?1"),
            *(min(at_most, ROWS_MAX), *arguments),
        )
        return [SESSIONS.read(row) for row in rows]

    async def add_keyring(self, keyring: StoredKeyring, entry: Entry) -> bool:
        return await self._write(lambda: add_keyring(keyring, entry))

    async def keyrings(
        self, feeder_id: str, gateway_id: str | None = None
    ) -> Sequence[StoredKeyring]:
        if gateway_id is None:
            rows = await self._rows(
                KEYRINGS.select("WHERE feeder_id = ?1 ORDER BY version, gateway_id"), feeder_id
            )
        else:
            rows = await self._rows(
                KEYRINGS.select(
                    "WHERE feeder_id = ?1 AND gateway_id IN (?2, ?3) ORDER BY version, gateway_id"
                ),
                *(feeder_id, gateway_id, ANY),
            )
        return [KEYRINGS.read(row) for row in rows]

    async def spread_keyring(self, keyring: StoredKeyring, now: datetime) -> int:
        return await self._write(lambda: spread_keyring(keyring, now))

    async def deliveries(
        self, *, feeder_id: str | None = None, gateway_id: str | None = None
    ) -> Sequence[KeyringDelivery]:
        where, arguments = _filtered(only_open=False, feeder_id=feeder_id, gateway_id=gateway_id)
        rows = await self._rows(
            DELIVERIES.select(
                f"WHERE {where} ORDER BY version DESC, feeder_id, gateway_id LIMIT ?1"
            ),
            *(ROWS_MAX, *arguments),
        )
        return [DELIVERIES.read(row) for row in rows]

    async def put_delivery(
        self, delivery: KeyringDelivery, entry: Entry | None, now: datetime
    ) -> None:
        await self._write(lambda: put_delivery(delivery, entry, now))

    async def note(self, entry: Entry, now: datetime) -> Link:
        return await self._write(lambda: note(entry, now))

    async def audit_links(
        self,
        *,
        after: int = 0,
        command_id: str | None = None,
        session_id: str | None = None,
        at_most: int = AUDIT_PAGE_MAX,
    ) -> Sequence[Link]:
        where, arguments = _filtered(
            first=3, only_open=False, command_id=command_id, session_id=session_id
        )
        rows = await self._rows(
            f"SELECT {LINK_COLUMNS} FROM audit WHERE number > ?1 AND {where} ORDER BY number LIMIT ?2",
            *(after, min(at_most, AUDIT_PAGE_MAX), *arguments),
        )
        return [link_of(row) for row in rows]

    async def audit_end(self) -> tuple[int, str]:
        [row] = await self._rows("SELECT number, hash FROM audit_end")
        return cast(tuple[int, str], tuple(row))


def _filtered(*, first: int = 2, only_open: bool, **wanted: str | None) -> tuple[str, list[Cell]]:
    """Return a condition and its arguments, numbered from ``first`` on; None means whatever."""
    given = {column: value for column, value in wanted.items() if value is not None}
    terms = [f"{column} = ?{number}" for number, column in enumerate(given, first)]
    if only_open:
        terms.append("ended_at IS NULL")
    return " AND ".join(terms) or "1 = 1", list(given.values())
