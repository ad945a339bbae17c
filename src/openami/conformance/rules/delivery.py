"""At least once: what is under way, what is owed after a connection has ended, and what a lost link held back.

Nothing is asked of the order, nor of how a message is sent again: under its old packet id with DUP, or as a
new one. MQTT allows both, the first in a resumed session and the second always.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar, Final

from openami.conformance.judgement import Kind
from openami.conformance.message import Message
from openami.conformance.observation import (
    Acknowledged,
    Act,
    ActBegan,
    ActEnded,
    Connected,
    Disconnected,
    Published,
)
from openami.conformance.occasion import Occasion
from openami.conformance.recent import Recent
from openami.conformance.rules.group import Seen
from openami.conformance.rules.intervals import (
    Intervals,
    Meter,
    is_lost,
    measured_meter,
    meter_of,
)
from openami.profile import EventTopic, TelemetryTopic

# A gateway on GPRS dials in, shakes hands and sends twenty a second; what is not there by then is not coming.
SENT_AGAIN_WITHIN_S: Final = 120
# Clients and connections that are followed, each with what it has under way; a bench has a few.
CLIENTS_KEPT_MAX: Final = 100
# Messages under way on one connection: what a Receive Maximum of MQTT 5 may grant at most, within reason.
UNDER_WAY_MAX: Final = 1_000
# Times of one meter counted in a lost link: ten hours at a minute.
TIMES_COUNTED_MAX: Final = 600
# A link lost for less shows nothing: a reading may lie on either side of each end.
_INTERVALS_LOST_MIN = 3
_SHARE_DELIVERED_MIN = 0.5

_SENT_AGAIN_WITHIN = timedelta(seconds=SENT_AGAIN_WITHIN_S)


@dataclass(slots=True)
class _Link:
    client_id: str
    under_way: Recent[int, Message] = field(default_factory=lambda: Recent(UNDER_WAY_MAX))


@dataclass(slots=True)
class _Debt:
    """What a client owes, and until when: None while it has not come back."""

    messages: Recent[tuple[object, ...], Message] = field(
        default_factory=lambda: Recent(UNDER_WAY_MAX)
    )
    due: datetime | None = None


@dataclass(slots=True)
class _LostLink:
    """A link that was cut on purpose: from when to when, and what was measured meanwhile and came."""

    began: datetime
    expected: dict[Meter, timedelta]
    ended: datetime | None = None
    due: datetime | None = None
    times: dict[Meter, set[datetime]] = field(default_factory=dict)  # bound: as silent
    silent: set[Meter] = field(default_factory=set)  # bound: the meters that are expected


class Delivery:
    """Judges what is sent again, and what comes late."""

    requirements: ClassVar = frozenset(("OA-DEL-001", "OA-DEL-002", "OA-DEL-003"))

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._links: Recent[int, _Link] = Recent(CLIENTS_KEPT_MAX)
        self._debts: Recent[str, _Debt] = Recent(CLIENTS_KEPT_MAX)
        self._intervals = Intervals()
        self._lost: _LostLink | None = None

    def see(self, seen: Seen) -> Iterable[Occasion]:
        match seen:
            case Connected():
                self._links.note(seen.connection, _Link(seen.client_id))
                self._come_back(seen)
            case Disconnected():
                self._note_debt(self._links.forget(seen.connection))
            case Acknowledged(withheld=False):
                link = self._links.get(seen.connection)
                if link is not None:
                    link.under_way.forget(seen.packet_id)
            case ActBegan(act=Act.NETWORK_LOST):
                meters = ((meter, self._intervals.of(meter)) for meter in self._intervals.meters())
                expected = {meter: every for meter, every in meters if every is not None}
                self._lost = _LostLink(seen.at, expected)
            case ActEnded(act=Act.NETWORK_LOST):
                self._end_lost(seen)
            case Message() if not seen.published.stored:
                return self._judge(seen)
            case _:
                pass
        return ()

    def look(self, now: datetime) -> Iterable[Occasion]:
        for client_id, debt in self._debts.items():
            if debt.due is not None and now > debt.due:
                self._debts.forget(client_id)
                for message in debt.messages.values():
                    yield _not_sent_again(message)
        lost = self._lost
        if lost is None or lost.due is None:
            return
        # What is there need not be waited for.
        if now > lost.due or all(not each.fault for each in _judge_lost_link(lost)):
            self._lost = None
            yield from _judge_lost_link(lost)

    def _judge(self, message: Message) -> Iterator[Occasion]:
        published = message.published
        link = None if published.connection is None else self._links.get(published.connection)
        if link is not None and published.packet_id is not None and published.qos == 1:
            if message.party == self._kind:
                yield _judge_packet_id(link.under_way.get(published.packet_id), published)
            link.under_way.note(published.packet_id, message)
        if message.kind is TelemetryTopic or message.kind is EventTopic:
            for debt in self._debts.values():
                if debt.messages.forget(_fingerprint(message)) is not None:
                    yield Occasion("OA-DEL-001")
        self._count_late(message)
        self._intervals.note(message)

    # --- what is owed ---

    def _note_debt(self, link: _Link | None) -> None:
        if link is None:
            return
        owed = [
            message
            for message in link.under_way.values()
            if message.kind is TelemetryTopic or message.kind is EventTopic
        ]
        if owed:
            debt = self._debts.get(link.client_id) or _Debt()
            debt.due = None
            for message in owed:
                debt.messages.note(_fingerprint(message), message)
            self._debts.note(link.client_id, debt)

    def _come_back(self, seen: Connected) -> None:
        debt = self._debts.get(seen.client_id)
        if debt is not None:
            debt.due = seen.at + _SENT_AGAIN_WITHIN
        lost = self._lost
        if lost is not None and lost.ended is not None and lost.due is None:
            lost.due = seen.at + _SENT_AGAIN_WITHIN

    # --- a lost link ---

    def _end_lost(self, seen: ActEnded) -> None:
        if self._lost is not None:
            self._lost.ended = seen.at
        if not seen.done:
            self._lost = None

    def _count_late(self, message: Message) -> None:
        lost = self._lost
        meter = meter_of(message)
        if lost is None or meter not in lost.expected or message.envelope is None:
            return
        if is_lost(message):
            lost.silent.add(meter)
        elif measured_meter(message) is not None:
            until = lost.ended or message.published.at
            times = lost.times.setdefault(meter, set())
            if lost.began < message.envelope.ts < until and len(times) < TIMES_COUNTED_MAX:
                times.add(message.envelope.ts)


def _fingerprint(message: Message) -> tuple[object, ...]:
    """Return what a message sent again has in common with the first: topic and reading, or its bytes."""
    envelope = message.envelope
    if envelope is None:
        return (message.published.topic, message.published.payload)
    codes = frozenset(reading.obis for reading in envelope.registers)
    return (message.published.topic, envelope.ts, codes)


def _judge_packet_id(under_way: Message | None, published: Published) -> Occasion:
    fault = None
    if under_way is not None:
        before = under_way.published
        if (before.topic, before.payload) != (published.topic, published.payload):
            fault = (
                f"packet id {published.packet_id} is used for another message, and its first has "
                "no PUBACK yet"
            )
        elif not published.dup:
            fault = f"packet id {published.packet_id} is sent again without DUP"
    return Occasion("OA-DEL-002", fault)


def _not_sent_again(message: Message) -> Occasion:
    fault = (
        "it had no PUBACK when the connection ended, and has not come again within "
        f"{SENT_AGAIN_WITHIN_S} s of the next"
    )
    return Occasion("OA-DEL-001", fault, about=message.published)


def _judge_lost_link(lost: _LostLink) -> Iterator[Occasion]:
    assert lost.ended is not None, "it is due after its end"
    lasted = lost.ended - lost.began
    for meter, every in lost.expected.items():
        intervals = int(lasted / every)
        if intervals < _INTERVALS_LOST_MIN or meter in lost.silent:
            continue
        came = len(lost.times.get(meter, ()))
        fault = None
        if came < intervals * _SHARE_DELIVERED_MIN:
            fault = (
                f"of meter {meter[2]}, measured every {every.total_seconds():.0f} s, {came} readings "
                f"came of the {lasted.total_seconds():.0f} s without a link, about {intervals} were due"
            )
        by = "/".join(meter[:2]) if fault else ""
        yield Occasion("OA-DEL-003", fault, at=lost.due, by=by)
