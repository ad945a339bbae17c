"""Relays: what must not move one.

A relay's state is known from a control hook, a person who looked, or what the gateway tells of its meter. After
each message that must not move a relay it is looked at until the act ends: only a relay that was in another
state before can show anything, and only what was measured after the message.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

from openami.conformance.message import Message, members_of
from openami.conformance.observation import Act, ActEnded, RelaySeen, Sent
from openami.conformance.occasion import Occasion
from openami.conformance.recent import Recent
from openami.conformance.rules.group import Seen
from openami.profile import Obis, ProfileError, Quality, parse_topic
from openami.profile.topics import CommandTopic

# A contactor moves within a second, a gateway that waits for its meter within some; then it is over.
LOOKED_AT_FOR_S: Final = 60
# Meters whose relay is known: a feeder has 500.
METERS_KEPT_MAX: Final = 2_000
# Messages that are being looked after at once; the kit sends one at a time.
ATTEMPTS_KEPT_MAX: Final = 16

_RELAY: Final = Obis.parse("96.11.1")
_CONNECTED: Final = "connected"
_MUST_NOT_MOVE: Final[Mapping[str, str]] = {
    Act.COMMAND_WITHOUT_SESSION: "OA-SES-002",
    Act.COMMAND_BADLY_SIGNED: "OA-CMD-001",
    Act.COMMAND_OF_ENDED_SESSION: "OA-CMD-002",
    Act.COMMAND_REPLAYED: "OA-CMD-003",
    Act.COMMAND_FOR_ANOTHER_METER: "OA-CMD-004",
}


@dataclass(slots=True)
class _Attempt:
    """A message that must not move a relay, the meters it might, and what it asks for."""

    requirement: str
    sent: Sent
    meters: frozenset[str]
    wants: bool
    seen_at_rest: bool = False


class Relays:
    """Judges whether a relay moved when it must not."""

    requirements: ClassVar = frozenset(_MUST_NOT_MOVE.values())

    def __init__(self) -> None:
        self._relays: Recent[str, tuple[datetime, bool]] = Recent(METERS_KEPT_MAX)
        self._attempts: Recent[str, _Attempt] = Recent(ATTEMPTS_KEPT_MAX)

    def see(self, seen: Seen) -> Iterable[Occasion]:
        match seen:
            case Sent():
                self._note_attempt(seen)
            case RelaySeen():
                return self._judge_relay(seen.meter_serial, seen.connected, seen.at)
            case Message() if seen.envelope is not None and not seen.published.stored:
                return self._hear(seen)
            case ActEnded():
                return self._end(seen.act)
            case _:
                pass
        return ()

    def look(self, now: datetime) -> Iterable[Occasion]:
        for act, attempt in self._attempts.items():
            if now > attempt.sent.at + timedelta(seconds=LOOKED_AT_FOR_S):
                yield from self._end(act)

    def _note_attempt(self, sent: Sent) -> None:
        requirement = _MUST_NOT_MOVE.get(sent.purpose)
        if requirement is None:
            return
        members = members_of(sent.payload)
        wanted = _wanted(members)
        if wanted is None:
            return
        serials = {_serial_of(sent.topic), members.get("meterSerial")}
        known = {
            serial: state[1]
            for serial in serials
            if isinstance(serial, str) and (state := self._relays.get(serial)) is not None
        }
        # What already is as it is asked to be can show nothing.
        movable = frozenset(serial for serial, state in known.items() if state != wanted)
        if movable:
            attempt = _Attempt(requirement, sent, movable, wanted)
            self._attempts.note(sent.purpose, attempt)

    def _hear(self, message: Message) -> Iterator[Occasion]:
        envelope = message.envelope
        assert envelope is not None, "only what was read is heard"
        for reading in envelope.registers:
            if reading.obis == _RELAY and reading.quality is Quality.GOOD:
                connected = reading.value == _CONNECTED
                yield from self._judge_relay(envelope.meter_serial, connected, envelope.ts)

    def _judge_relay(self, serial: str, connected: bool, at: datetime) -> Iterator[Occasion]:
        for act, attempt in self._attempts.items():
            if serial not in attempt.meters or at <= attempt.sent.at:
                continue
            if connected == attempt.wants:
                self._attempts.forget(act)
                moved = "connected" if connected else "disconnected"
                fault = f"the relay of meter {serial} is {moved} after {attempt.sent.purpose}"
                yield Occasion(attempt.requirement, fault, about=attempt.sent)
            else:
                attempt.seen_at_rest = True
        known = self._relays.get(serial)
        if known is None or at >= known[0]:  # a backlog tells of what was
            self._relays.note(serial, (at, connected))

    def _end(self, act: str) -> Iterator[Occasion]:
        attempt = self._attempts.forget(act)
        if attempt is not None and attempt.seen_at_rest:
            yield Occasion(attempt.requirement, about=attempt.sent)


def _wanted(members: Any) -> bool | None:
    """Return whether a command asks for a connected relay; None when it asks for none."""
    registers = members.get("registers")
    for register in registers if isinstance(registers, list) else ():
        if isinstance(register, dict) and register.get("obis") == str(_RELAY):
            return bool(register.get("value") == _CONNECTED)
    return None


def _serial_of(topic: str) -> str | None:
    try:
        parsed = parse_topic(topic)
    except ProfileError:
        return None
    return parsed.meter_serial if isinstance(parsed, CommandTopic) else None
