"""The scene: what there is to act upon, learned from what was seen (pure).

The judge judges; this only remembers what an act has to know: who is connected, which meters there are and how
often they are told of, where their relays are, which sessions were accepted, which messages were not acknowledged.
It is generous where the judge is strict: a message that is wrong in one place still tells that its meter lives.
"""

import re
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec

from openami.conformance.mqtt_packets import FILTERS_MAX
from openami.conformance.observation import (
    Acknowledged,
    Connected,
    Disconnected,
    Observation,
    Published,
    RelaySeen,
    Subscribed,
)
from openami.mqtt.memory import matches
from openami.pki.names import GatewayName
from openami.profile import (
    CommandTopic,
    EventTopic,
    MeterSerial,
    Obis,
    ProfileError,
    Quality,
    SessionTopic,
    TelemetryTopic,
    parse_topic,
    read_time,
)
from openami.sip.acts import ActType, read_acts
from openami.sip.canonical import read_document
from openami.sip.errors import SipError

# The largest feeder of the profile's villages; acts need two of them.
METERS_MAX: Final = 500
# Sessions a run offers, and those somebody else offers on the side.
SESSIONS_MAX: Final = 64
# A client has at most as many messages without acknowledgement as there are packet ids; a gateway has tens.
UNACKNOWLEDGED_MAX: Final = 1_000
# Of the connections and messages of one run: the latest.
EVENTS_MAX: Final = 1_000

# As the rules have it: one late reading does not change an interval.
_SPACINGS_KEPT = 5
_SPACINGS_NEEDED = 2
# Looked for, not parsed: a thousand messages a second pass here, and each is read by the judge already.
_time_of = re.compile(rb'"ts"\s*:\s*"([0-9TtZz:.+-]{1,40})"').search

RELAY: Final = Obis.parse("96.11.1")
_RELAY_HINT: Final = b"96.11.1"
_SEQ_HINT: Final = b'"seq"'
_LOST_HINT: Final = Quality.COMMS_LOST.value.encode()


@dataclass(slots=True)
class MeterSeen:
    """A meter as its gateway tells it; times are the kit's, except ``measured_at``."""

    name: GatewayName
    serial: MeterSerial
    told_at: datetime
    times_told: int = 0
    measured_at: datetime | None = None
    """The newest time of its readings, by its gateway's clock."""
    spacings_s: tuple[float, ...] = ()
    lost_at: datetime | None = None
    good_at: datetime | None = None
    tells_relay: bool = False
    """Whether its readings tell where its relay is."""
    relay: str | None = None
    relay_told_at: datetime | None = None
    relay_measured_at: datetime | None = None
    """When a reading, or somebody who looked, last told it; a report does not count."""

    @property
    def interval_s(self) -> float | None:
        """How often it is measured: the median of its last spacings; None until it is known.

        By the times of its readings, since what piled up comes all at once.
        """
        if len(self.spacings_s) < _SPACINGS_NEEDED:
            return None
        return sorted(self.spacings_s)[len(self.spacings_s) // 2]


@dataclass(frozen=True, slots=True)
class Accepted:
    """A gateway's acceptance of a session, and the nonce it brought."""

    nonce: str
    at: datetime


@dataclass(slots=True)
class Scene:
    """What is known so far."""

    connections: dict[int, Connected] = field(default_factory=dict)
    meters: dict[MeterSerial, MeterSeen] = field(default_factory=dict)
    accepted: OrderedDict[str, Accepted] = field(default_factory=OrderedDict)
    rejected: OrderedDict[str, str] = field(default_factory=OrderedDict)
    last_connected_at: datetime | None = None
    last_published_at: datetime | None = None
    hears_commands: bool = False
    hears_sessions: bool = False
    hears_readings: bool = False
    readings_heard: int = 0
    """Readings that were published while somebody listened to them."""
    counts: bool = False
    """Whether readings are numbered (``seq``): only then can a restart be seen to lose the count."""
    withheld: int = 0
    """Acknowledgements that were kept back, in all."""
    resent: int = 0
    """Messages that came again after their acknowledgement was kept back."""
    reports: OrderedDict[str, tuple[str, str]] = field(default_factory=OrderedDict)
    """What gateways reported of commands: status and code, by the command's digest."""
    commands: int = 0
    offers: int = 0
    """Commands and session documents that a client published: a head-end is there."""
    # bound: FILTERS_MAX for each of the door's connections
    _filters: dict[int, deque[str]] = field(default_factory=dict)
    _on_the_way: OrderedDict[tuple[int, int], tuple[str, int]] = field(default_factory=OrderedDict)
    _owed: OrderedDict[tuple[str, int], None] = field(default_factory=OrderedDict)

    def see(self, seen: Observation) -> None:
        """Learn from an observation."""
        match seen:
            case Connected():
                self.connections[seen.connection] = seen
                self.last_connected_at = seen.at
            case Disconnected():
                self.connections.pop(seen.connection, None)
                self._filters.pop(seen.connection, None)
                self._look_who_hears()
            case Subscribed():
                listed = self._filters.setdefault(seen.connection, deque(maxlen=FILTERS_MAX))
                listed.extend(topic_filter for topic_filter, _ in seen.filters)
                self._look_who_hears()
            case Published():
                self._see_published(seen)
            case Acknowledged():
                self._see_acknowledged(seen)
            case RelaySeen():
                meter = self.meters.get(MeterSerial(seen.meter_serial))
                if meter is not None:
                    _see_relay(meter, "connected" if seen.connected else "disconnected", seen.at)
                    meter.relay_measured_at = seen.at
            case _:
                pass

    # --- connections

    def _look_who_hears(self) -> None:
        filters = [f for listed in self._filters.values() for f in listed]
        self.hears_commands = any(_covers(f, "meter/M/command") for f in filters)
        self.hears_sessions = any(_covers(f, "session/S") for f in filters)
        self.hears_readings = any(_covers(f, "meter/M/telemetry") for f in filters)

    # --- messages

    def _see_published(self, seen: Published) -> None:
        self.last_published_at = seen.at
        content = (seen.topic, hash(seen.payload))
        if content in self._owed:
            del self._owed[content]
            self.resent += 1
        if seen.connection is not None and seen.packet_id is not None:
            self._on_the_way[seen.connection, seen.packet_id] = content
            _bound(self._on_the_way, UNACKNOWLEDGED_MAX)
        try:
            topic = parse_topic(seen.topic)
        except ProfileError:
            return
        match topic:
            case TelemetryTopic():
                self.readings_heard += self.hears_readings
                self._see_telemetry(topic, seen)
            case EventTopic():
                self._see_report(seen)
                meter = self.meters.get(topic.meter_serial)
                if meter is not None and _RELAY_HINT in seen.payload:
                    _see_relay_message(meter, seen)
            case SessionTopic():
                self.offers += 1
                self._see_session(topic, seen)
            case CommandTopic():
                self.commands += 1

    def _see_acknowledged(self, seen: Acknowledged) -> None:
        content = self._on_the_way.pop((seen.connection, seen.packet_id), None)
        if not seen.withheld:
            return
        self.withheld += 1
        if content is not None:
            self._owed[content] = None
            _bound(self._owed, UNACKNOWLEDGED_MAX)

    def _see_telemetry(self, topic: TelemetryTopic, seen: Published) -> None:
        meter = self.meters.get(topic.meter_serial)
        if meter is None:
            if len(self.meters) >= METERS_MAX:
                return
            name = GatewayName(topic.feeder_id, topic.gateway_id)
            meter = self.meters[topic.meter_serial] = MeterSeen(name, topic.meter_serial, seen.at)
        meter.told_at = seen.at
        meter.times_told += 1
        self.counts = self.counts or _SEQ_HINT in seen.payload
        if _LOST_HINT in seen.payload:
            meter.lost_at = seen.at
        else:
            meter.good_at = seen.at
            _see_time(meter, seen.payload)
        if _RELAY_HINT in seen.payload and (told := _see_relay_message(meter, seen)):
            meter.tells_relay = True
            # Of readings alone: a report is the gateway's own word for what it did, and no look at the relay.
            ts = told.get("ts")
            meter.relay_measured_at = read_time(ts) if isinstance(ts, str) else None

    def _see_session(self, topic: SessionTopic, seen: Published) -> None:
        try:
            acts = read_acts(read_document(seen.payload))
        except SipError:
            return
        for act in acts:
            if act.type is ActType.ACCEPT and act.nonce is not None:
                self.accepted[topic.session_id] = Accepted(act.nonce, seen.at)
                _bound(self.accepted, SESSIONS_MAX)
            elif act.type is ActType.REJECT:
                self.rejected[topic.session_id] = act.reason or ""
                _bound(self.rejected, SESSIONS_MAX)

    def _see_report(self, seen: Published) -> None:
        members = _members(seen.payload)
        report = members.get("report")
        if not isinstance(report, dict):
            return
        digest, status = report.get("command"), report.get("status")
        if isinstance(digest, str) and isinstance(status, str):
            self.reports[digest] = (status, str(report.get("code", "")))
            _bound(self.reports, EVENTS_MAX)
        session_id, nonce = members.get("sessionId"), report.get("nonce")
        if isinstance(nonce, str) and isinstance(session_id, str) and session_id in self.accepted:
            # A report brings the nonce in force.
            self.accepted[session_id] = Accepted(nonce, seen.at)


def _covers(topic_filter: str, leaf: str) -> bool:
    """Return whether a filter lets something of this kind through, whichever ids it names."""
    levels = topic_filter.split("/")
    shown = ["openami", "v1", "F", "G", *leaf.split("/")]
    # An id that is named stands for itself; the fixed levels have to be the profile's.
    for place in (2, 3, 5):
        if place < len(levels) and place < len(shown) and levels[place] not in ("+", "#"):
            shown[place] = levels[place]
    return matches(topic_filter, "/".join(shown))


def _see_time(meter: MeterSeen, payload: bytes) -> None:
    found = _time_of(payload)
    ts = None if found is None else read_time(found[1].decode())
    if ts is None:
        return
    if meter.measured_at is not None and ts > meter.measured_at:
        spacing_s = (ts - meter.measured_at).total_seconds()
        meter.spacings_s = (*meter.spacings_s, spacing_s)[-_SPACINGS_KEPT:]
    if meter.measured_at is None or ts > meter.measured_at:
        meter.measured_at = ts


def _see_relay_message(meter: MeterSeen, seen: Published) -> Mapping[str, Any] | None:
    """Learn where a relay is; return the message if it tells it."""
    members = _members(seen.payload)
    registers = members.get("registers")
    tells = False
    for register in registers if isinstance(registers, list) else ():
        if not isinstance(register, dict) or register.get("quality") == Quality.COMMS_LOST.value:
            continue
        if _is_relay(register.get("obis")) and isinstance(register.get("value"), str):
            _see_relay(meter, register["value"], seen.at)
            tells = True
    return members if tells else None


def _see_relay(meter: MeterSeen, position: str, at: datetime) -> None:
    meter.relay = position
    meter.relay_told_at = at


def _is_relay(code: object) -> bool:
    if not isinstance(code, str):
        return False
    try:
        return Obis.parse(code) == RELAY
    except ProfileError:
        return False


def _members(payload: bytes) -> Mapping[str, Any]:
    try:
        found = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _bound(kept: "OrderedDict[Any, Any]", most: int) -> None:
    while len(kept) > most:
        kept.popitem(last=False)
