"""Reports into the ledger: what a gateway signed about a command, whichever way it came here."""

from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from openami.clock import Clock
from openami.headend.commands import Change, LedgerCommand, reported
from openami.headend.keyrings import InForce
from openami.headend.sessions import LedgerSession, SessionChange, renonced
from openami.headend.store.commands import Around, CommandStore
from openami.headend.tracing import Tracing, Untraced, command_life
from openami.profile import EventTopic
from openami.sip.canonical import Document
from openami.sip.reports import read_report
from openami.sip.session import SessionState
from openami.sip.statements import is_statement

# A report is an event with this member; to look for its name in the bytes is enough to read it again.
_REPORT_MEMBER: Final = b'"report"'
_EVENT_LEAF: Final = f"/{EventTopic.leaf}"

_log = structlog.get_logger("headend.reports")


def is_report(topic: str, payload: bytes) -> bool:
    """Return whether a message may be a report, and is to be read as a signed document too."""
    return topic.endswith(_EVENT_LEAF) and _REPORT_MEMBER in payload


class Reports:
    """Takes reports: proves them by the gateway's keyring, and lets the ledger decide what follows."""

    def __init__(
        self,
        store: CommandStore,
        keyring: Callable[[str, str], Awaitable[InForce | None]],
        clock: Clock,
        *,
        tracing: Tracing | None = None,
    ) -> None:
        """``keyring`` returns the one in force for a feeder's gateway."""
        self._store = store
        self._keyring = keyring
        self._clock = clock
        self._tracing = tracing or Untraced()

    async def take(
        self, topic: EventTopic, document: Document, payload: bytes, *, carried: bool = False
    ) -> None:
        """Commit what a report says. Raises SipError for one not to be believed, and StoreError.

        The nonce of a ``carried`` one is old news, and is not taken for the one in force.
        """
        if is_statement(document.members):
            return  # of a day, and no command's: stored as the event it is
        found = await self._keyring(topic.feeder_id, topic.gateway_id)
        if found is None:
            return
        report = read_report(document, topic, found.keyring)
        now = self._clock.now()
        if report.session_id is not None and report.nonce is not None and not carried:
            session = await self._store.session(report.session_id)
            if session is not None and session.nonce != report.nonce:
                await self._take_nonce(report.session_id, report.nonce, topic)
        command_id = await self._store.command_by_digest(report.command_digest)
        if command_id is None:
            return

        ends: list[LedgerCommand] = []

        def decide(command: LedgerCommand, _: Around) -> Change | None:
            if not _is_about(command, topic):
                return None
            change = reported(command, report, payload=payload, now=now)
            if change is not None and not change.command.is_open:
                ends.append(change.command)
            return change

        await self._store.change_command(command_id, decide, now)
        for end in ends:
            _log.info("command ended", id=end.id, state=end.state.name, code=end.code)
            self._tracing.lived(command_life(end))

    async def _take_nonce(self, session_id: str, nonce: str, topic: EventTopic) -> None:
        """A report names the nonce in force: with a refusal as stale, that spares waiting for its accept."""
        now = self._clock.now()

        def decide(session: LedgerSession, seen: frozenset[str]) -> SessionChange | None:
            ours = (session.feeder_id, session.gateway_id) == (topic.feeder_id, topic.gateway_id)
            if not ours or session.state is not SessionState.ACTIVE or nonce in seen:
                return None
            return renonced(session, nonce, now, who=topic.gateway_id)

        await self._store.change_session(session_id, decide, now)


def _is_about(command: LedgerCommand, topic: EventTopic) -> bool:
    return (command.feeder_id, command.gateway_id, command.meter_serial) == (
        topic.feeder_id,
        topic.gateway_id,
        topic.meter_serial,
    )
