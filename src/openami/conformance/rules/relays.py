"""Relays: what must not move one.

A relay's state is known from a control hook, a person who looked, or what the gateway tells of its meter. After
each message that must not move a relay it is looked at until its meter is sent the next: only a relay that was
in another state before can show anything, and only what was measured after the message.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

from openami.conformance.message import Message, members_of
from openami.conformance.observation import Act, RelaySeen, Sent
from openami.conformance.occasion import Occasion
from openami.conformance.recent import Recent
from openami.conformance.rules.group import Seen
from openami.profile import Obis, ProfileError, Quality, parse_topic
from openami.profile.topics import CommandTopic

# A gateway without a control hook tells its relay's state with its readings, every five minutes perhaps.
LOOKED_AT_FOR_S: Final = 600
# Meters whose relay is known: a feeder has 500.
METERS_KEPT_MAX: Final = 2_000
# Messages that are being looked after at once; the kit sends one after the other.
ATTEMPTS_KEPT_MAX: Final = 64

_RELAY: Final = Obis.parse("96.11.1")
# The words of the register list: a contactor that waits for its button is open.
CONNECTED_BY_WORD: Final[Mapping[str, bool]] = {
    "connected": True,
    "disconnected": False,
    "ready_for_reconnection": False,
}
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
        self._attempts: Recent[int, _Attempt] = Recent(ATTEMPTS_KEPT_MAX)
        self._attempt_number = 0

    def see(self, seen: Seen) -> Iterable[Occasion]:
        match seen:
            case Sent():
                self._note_sent(seen)
                return ()
            case RelaySeen():
                return self._judge_relay(seen.meter_serial, seen.connected, seen.at)
            case Message() if seen.envelope is not None and not seen.published.stored:
                return self._hear(seen)
            case _:
                return ()

    def look(self, now: datetime) -> Iterable[Occasion]:
        looked_at_for = timedelta(seconds=LOOKED_AT_FOR_S)
        self._end(lambda attempt: now > attempt.sent.at + looked_at_for)
        return ()

    def _note_sent(self, sent: Sent) -> None:
        """Look after a message that must not move a relay; a later one to its meter ends that."""
        members = members_of(sent.payload)
        named = (_serial_of(sent.topic), members.get("meterSerial"))
        serials = {serial for serial in named if isinstance(serial, str)}
        wants = _wanted(members)
        if wants is None or not serials:
            return
        self._end(lambda attempt: bool(attempt.meters & serials))
        requirement = _MUST_NOT_MOVE.get(sent.purpose)
        if requirement is None:
            return
        # What already is as it is asked to be, and what is not known, can show nothing.
        movable = frozenset(
            serial
            for serial in serials
            if (known := self._relays.get(serial)) is not None and known[1] != wants
        )
        if movable:
            self._attempt_number += 1
            self._attempts.note(self._attempt_number, _Attempt(requirement, sent, movable, wants))

    def _hear(self, message: Message) -> Iterator[Occasion]:
        envelope = message.envelope
        assert envelope is not None, "only what was read is heard"
        for reading in envelope.registers:
            if reading.obis == _RELAY and reading.quality is Quality.GOOD:
                connected = CONNECTED_BY_WORD.get(str(reading.value))
                if connected is not None:
                    yield from self._judge_relay(envelope.meter_serial, connected, envelope.ts)

    def _judge_relay(self, serial: str, connected: bool, at: datetime) -> Iterator[Occasion]:
        for number, attempt in self._attempts.items():
            # Who tells whole seconds may have measured anywhere in this one.
            begun = attempt.sent.at if at.microsecond else attempt.sent.at.replace(microsecond=0)
            if serial not in attempt.meters or at < begun:
                continue
            if connected == attempt.wants:
                self._attempts.forget(number)
                moved = "connected" if connected else "disconnected"
                fault = f"the relay of meter {serial} is {moved} after {attempt.sent.purpose}"
                yield Occasion(attempt.requirement, fault, about=attempt.sent)
            elif not attempt.seen_at_rest:
                attempt.seen_at_rest = True
                yield Occasion(attempt.requirement, about=attempt.sent)
        known = self._relays.get(serial)
        if known is None or at >= known[0]:  # a backlog tells of what was
            self._relays.note(serial, (at, connected))

    def _end(self, is_over: Callable[[_Attempt], bool]) -> None:
        for number, attempt in self._attempts.items():
            if is_over(attempt):
                self._attempts.forget(number)


def _wanted(members: Any) -> bool | None:
    """Return whether a command asks for a connected relay; None when it asks for none."""
    registers = members.get("registers")
    for register in registers if isinstance(registers, list) else ():
        if isinstance(register, dict) and register.get("obis") == str(_RELAY):
            return CONNECTED_BY_WORD.get(str(register.get("value")))
    return None


def _serial_of(topic: str) -> str | None:
    try:
        parsed = parse_topic(topic)
    except ProfileError:
        return None
    return parsed.meter_serial if isinstance(parsed, CommandTopic) else None
