"""Commands as a head-end sends them: after an offer, readable, numbered, and fresh."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, ClassVar, Final

from openami.conformance.message import Message, acts_of
from openami.conformance.observation import Published, Sent
from openami.conformance.occasion import Occasion
from openami.conformance.recent import Recent
from openami.conformance.rules.group import Seen
from openami.profile import CommandTopic, EventTopic, SessionTopic
from openami.profile.topics import Topic
from openami.sip.canonical import read_document
from openami.sip.command import check_agreement, read_command
from openami.sip.errors import SipError

# Sessions that are remembered, offered or named: eight a gateway.
SESSIONS_KEPT_MAX: Final = 2_000
# Highest numbers, one for each session and meter.
NUMBERS_KEPT_MAX: Final = 10_000
# Commands told apart from their repeats.
COMMANDS_KEPT_MAX: Final = 10_000
# Nonces of one session that may still be echoed: the newest, and the one before while it was under way.
NONCES_KEPT_MAX: Final = 2


class Orders:
    """Judges a head-end's commands."""

    requirements: ClassVar = frozenset(("OA-SES-002", "OA-CMD-007", "OA-CMD-008"))

    def __init__(self) -> None:
        self._offered: Recent[str, datetime] = Recent(SESSIONS_KEPT_MAX)
        self._not_offered: Recent[str, Published] = Recent(SESSIONS_KEPT_MAX)
        self._nonces: Recent[str, tuple[str, ...]] = Recent(SESSIONS_KEPT_MAX)
        self._numbers: Recent[tuple[str, str], int] = Recent(NUMBERS_KEPT_MAX)
        self._digests: Recent[str, bool] = Recent(COMMANDS_KEPT_MAX)

    def see(self, seen: Seen) -> Iterable[Occasion]:
        match seen:
            case Message(kind=kind) if kind is CommandTopic:
                return self._judge(seen)
            case Message(topic=SessionTopic() as topic):
                return self._note_session(topic.session_id, seen.published)
            case Message(topic=EventTopic()):
                self._note_report(seen.members)
            case Sent():
                self._hear(seen)
            case _:
                pass
        return ()

    def _hear(self, sent: Sent) -> None:
        """Take what the kit's own gateway says to a head-end into account."""
        levels = sent.topic.split("/")
        if len(levels) == 6 and levels[4] == "session":
            self._note_nonces(levels[5], sent.payload)

    def _note_session(self, session_id: str, published: Published) -> Iterator[Occasion]:
        self._offered.note(session_id, published.at)
        self._note_nonces(session_id, published.payload)
        early = self._not_offered.forget(session_id)
        if early is not None:
            fault = f"session {session_id[:64]} was offered after this command, not before"
            yield Occasion("OA-SES-002", fault, "/sessionId", about=early)

    def _note_nonces(self, session_id: str, payload: bytes) -> None:
        for act in acts_of(payload):
            if act.nonce is not None:
                self._note_nonce(session_id, act.nonce)

    def _note_nonce(self, session_id: str, nonce: str) -> None:
        nonces = self._nonces.get(session_id) or ()
        if nonce not in nonces:
            self._nonces.note(session_id, (*nonces, nonce)[-NONCES_KEPT_MAX:])

    def _note_report(self, members: Any) -> None:
        report, session_id = members.get("report"), members.get("sessionId")
        nonce = report.get("nonce") if isinstance(report, dict) else None
        if isinstance(nonce, str) and isinstance(session_id, str):
            self._note_nonce(session_id, nonce)

    def _judge(self, message: Message) -> Iterator[Occasion]:
        yield from self._judge_session(message)
        topic: Topic | None = message.topic
        if not isinstance(topic, CommandTopic):
            return
        try:
            document = read_document(message.published.payload)
            command = read_command(document, topic)
            check_agreement(command)
        except SipError as error:
            yield Occasion("OA-CMD-007", f"a gateway refuses it: {error}")
            return
        yield Occasion("OA-CMD-007")
        if command.session_id is None or command.seq is None or document.digest in self._digests:
            return
        self._digests.note(document.digest, True)
        key = (command.session_id, command.meter_serial)
        highest = self._numbers.get(key)
        self._numbers.note(key, max(command.seq, highest or 0))
        # Through a broker an accept may have been missed; at the door it has been seen.
        at_door = message.published.connection is not None
        nonces = self._nonces.get(command.session_id) if at_door else None
        if highest is not None and command.seq <= highest:
            fault = f"number {command.seq} comes after {highest} in session {command.session_id}"
            yield Occasion("OA-CMD-008", fault, "/command/seq")
        elif nonces is not None and command.nonce not in nonces:
            yield Occasion("OA-CMD-008", "it echoes a nonce that is not in force", "/command/nonce")
        elif highest is not None or nonces is not None:
            yield Occasion("OA-CMD-008")

    def _judge_session(self, message: Message) -> Iterator[Occasion]:
        """Judge whether the session was offered before.

        A session outlives a run of the kit, and who looks on may have come after its offer: an unknown one
        is held against nobody until its offer comes too late.
        """
        session_id = message.members.get("sessionId")
        if not isinstance(session_id, str):
            yield Occasion("OA-SES-002", "the command names no session")
        elif session_id in self._offered:
            yield Occasion("OA-SES-002")
        elif session_id not in self._not_offered:
            self._not_offered.note(session_id, message.published)
