"""What the RestoreStore does: one transaction, or the store stays unsettled; the engine carries the steps out."""

from collections.abc import Callable
from datetime import datetime
from typing import Final, TypeVar

from openami.headend.audit import Entry
from openami.headend.restored import RESTORED, bulk_after, command_after, session_after
from openami.headend.store.account_rows import TOKENS
from openami.headend.store.bulk_ledger import BULKS
from openami.headend.store.chain import append, in_turn
from openami.headend.store.engine import Engine
from openami.headend.store.identity import to_ms
from openami.headend.store.ledger_rows import COMMANDS, SESSIONS, Rows
from openami.headend.store.marks import Mark
from openami.headend.store.settling import Settled
from openami.headend.store.steps import Steps, ask, do
from openami.profile import utc_text

R = TypeVar("R")
C = TypeVar("C")

# A token that was revoked after the backup would be in force again.
_POWERFUL_TOKENS: Final = TOKENS.select(
    "WHERE revoked_at IS NULL AND expires_at > ?1 AND (relays = 1 OR accounts = 1) ORDER BY label"
)
_VOID_LINKS: Final = (
    "UPDATE first_link SET expires_at = ?1 WHERE used_at IS NULL AND expires_at > ?1"
)


def settle(taken_at: datetime, who: str, now: datetime) -> Steps[Settled]:
    """End what was open, put what gave power out of force, and take the marks away."""
    yield from in_turn()
    told = [
        Entry(
            who=who,
            what="store restored",
            why=f"from what it held at {utc_text(taken_at)}; what was written after that is lost",
        )
    ]
    commands = yield from _open_rows(COMMANDS, lambda each: command_after(each, now))
    for command in commands:
        yield from do(COMMANDS.update(), *COMMANDS.cells(command.command))
        told += command.entries
    sessions = yield from _open_rows(SESSIONS, lambda each: session_after(each, now, who=who))
    for session in sessions:
        yield from do(SESSIONS.update(), *SESSIONS.cells(session.session))
        told += session.entries
    bulks = yield from _open_rows(BULKS, lambda each: bulk_after(each, now, who=who))
    for bulk in bulks:
        yield from do(BULKS.update(), *BULKS.cells(bulk.bulk))
        told.append(bulk.entry)
    tokens = [TOKENS.read(row) for row in (yield from ask(_POWERFUL_TOKENS, to_ms(now)))]
    for token in tokens:
        yield from do("UPDATE api_token SET revoked_at = ?1 WHERE id = ?2", to_ms(now), token.id)
        told.append(Entry(who=who, what=f"token {token.id} revoked", why=RESTORED))
    sign_ins = yield from do("DELETE FROM sign_in")
    links = yield from do(_VOID_LINKS, to_ms(now))
    yield from append(told, now)
    for mark in (Mark.UNSETTLED, Mark.MOVED):
        yield from do(f"DROP TABLE IF EXISTS {mark}")
    return Settled(
        commands=len(commands),
        sessions=len(sessions),
        bulks=len(bulks),
        sign_ins=sign_ins,
        links=links,
        tokens=tuple(token.label for token in tokens),
    )


def _open_rows(rows: Rows[R], after: Callable[[R], C | None]) -> Steps[list[C]]:
    """Return what follows for each row that has not ended."""
    found = yield from ask(rows.select("WHERE ended_at IS NULL ORDER BY id"))
    changes = [after(rows.read(row)) for row in found]
    return [change for change in changes if change is not None]


class RestoreLedger(Engine):
    """The RestoreStore on top of an engine's transactions."""

    async def settle(self, *, taken_at: datetime, who: str, now: datetime) -> Settled:
        return await self._write(lambda: settle(taken_at, who, now))
