"""Reports: what a gateway tells of a command, and whether it is so.

A report that never came is missed only of commands the kit itself has sent: who listens at somebody's broker may
not have heard it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

from openami.conformance.message import Message
from openami.conformance.observation import Act, RelaySeen, Sent
from openami.conformance.occasion import Occasion
from openami.conformance.recent import Recent
from openami.conformance.rules.group import Seen
from openami.conformance.rules.relays import CONNECTED_BY_WORD
from openami.profile import EventTopic, pointer, read_time
from openami.sip.actions import RELAY_STATE_OBIS
from openami.sip.canonical import read_document
from openami.sip.errors import SipError
from openami.sip.reports import ReportStatus

# After its notAfter a command does nothing more; a report then travels as an event does.
TOLD_WITHIN_S: Final = 60
# What is waited for where a command names no end; the longest life of one is an hour (docs/sip.md).
LIFE_WITHOUT_END_S: Final = 3600
# Commands whose end is remembered: those of a village for weeks.
COMMANDS_KEPT_MAX: Final = 2_000
# A report and the next look at the relay belong together for so long, if no other command came between.
LOOKED_AT_WITHIN_S: Final = 60
# Reports that wait for a look at the relay: one a meter.
POSITIONS_KEPT_MAX: Final = 500

_ENDS: Final = frozenset(ReportStatus) - {ReportStatus.ACCEPTED}


@dataclass(slots=True)
class _Position:
    """A relay's position as a report tells it."""

    message: Message
    at: datetime
    connected: bool
    pointer: str


class Reports:
    """Judges the ends of commands."""

    requirements: ClassVar = frozenset(("OA-CMD-005", "OA-CMD-006"))

    def __init__(self) -> None:
        self._ends: Recent[str, tuple[str, str]] = Recent(COMMANDS_KEPT_MAX)
        self._waiting: Recent[str, tuple[Sent, datetime]] = Recent(COMMANDS_KEPT_MAX)
        self._positions: Recent[str, _Position] = Recent(POSITIONS_KEPT_MAX)

    def see(self, seen: Seen) -> Iterable[Occasion]:
        match seen:
            case Sent():
                self._positions.forget(_meter_of(seen.topic))
                if seen.purpose == Act.COMMAND_GIVEN:
                    self._wait_for(seen)
            case Message(kind=kind) if kind is EventTopic and not seen.published.stored:
                return self._judge(seen)
            case RelaySeen():
                return self._judge_position(seen)
            case _:
                pass
        return ()

    def look(self, now: datetime) -> Iterable[Occasion]:
        for digest, (sent, due) in self._waiting.items():
            if now > due:
                self._waiting.forget(digest)
                fault = f"nothing was told of this command's end until {TOLD_WITHIN_S} s after its notAfter"
                yield Occasion("OA-CMD-005", fault, about=sent)

    def _wait_for(self, sent: Sent) -> None:
        try:
            document = read_document(sent.payload)
        except SipError:
            return
        body = document.members.get("command")
        not_after = body.get("notAfter") if isinstance(body, dict) else None
        ends = read_time(not_after) if isinstance(not_after, str) else None
        life = timedelta(seconds=LIFE_WITHOUT_END_S)
        due = (ends or sent.at + life) + timedelta(seconds=TOLD_WITHIN_S)
        if document.digest not in self._ends:
            self._waiting.note(document.digest, (sent, due))

    def _judge(self, message: Message) -> Iterator[Occasion]:
        report = message.members.get("report")
        if not isinstance(report, dict):
            return
        digest, status, code = (report.get(name) for name in ("command", "status", "code"))
        if not isinstance(digest, str) or status not in _ENDS:
            return
        self._waiting.forget(digest)
        end = (str(status), str(code))
        told = self._ends.get(digest)
        fault = None
        if told is not None and told[0] != end[0]:
            fault = f"this command was {told[0]} before and is {end[0]} now: it has two ends"
        else:
            self._ends.note(digest, end)
        yield Occasion("OA-CMD-005", fault, pointer("report", "status") if fault else "")
        if told is None:  # told again, it tells of what was then
            self._note_position(message)

    def _note_position(self, message: Message) -> None:
        registers: Any = message.members.get("registers")
        for index, register in enumerate(registers if isinstance(registers, list) else ()):
            if isinstance(register, dict) and register.get("obis") == RELAY_STATE_OBIS:
                connected = CONNECTED_BY_WORD.get(str(register.get("value")))
                if register.get("quality") != "good" or connected is None:
                    return
                place = pointer("registers", index, "value")
                position = _Position(message, message.published.at, connected, place)
                self._positions.note(_meter_of(message.published.topic), position)

    def _judge_position(self, seen: RelaySeen) -> Iterator[Occasion]:
        told = self._positions.forget(seen.meter_serial)
        if told is None or seen.at > told.at + timedelta(seconds=LOOKED_AT_WITHIN_S):
            return
        fault = None
        if told.connected != seen.connected:
            is_so = "connected" if seen.connected else "disconnected"
            fault = f"the relay of meter {seen.meter_serial} was seen {is_so} after this report"
        place = told.pointer if fault else ""
        yield Occasion("OA-CMD-006", fault, place, about=told.message.published)


def _meter_of(topic: str) -> str:
    levels = topic.split("/")
    return levels[5] if len(levels) == 7 else ""
