"""From decisions to rows: what one commit has to write. Pure; the numbers come from the directory.

Rows are kept flat, value after value, as the engines bind them: a thousand messages are ten thousand rows
a second and more, and an object for each would be most of the work.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from openami.headend.consumption import DAY_MS
from openami.headend.ingest import (
    Accepted,
    Decision,
    Finding,
    Kind,
    Message,
    Rejected,
    report_type,
)
from openami.headend.seq_gaps import Numbered, rejected_number
from openami.headend.store import REJECT_PAYLOAD_BYTES_MAX
from openami.headend.store.directory import NO_SERIES, Directory, MeterKey
from openami.headend.store.identity import (
    COMMS_LOST_RANK,
    Stored,
    day_of,
    place,
    rank_of,
    sort_of,
    storable_text,
    stored_value,
    to_ms,
)
from openami.profile import Envelope, ProfileError, RegisterReading
from openami.profile.times import read_time

# What a row costs beside its payload: a flood of tiny messages fills a disk, too.
REJECTED_ROW_BYTES: Final = 256
# A sentence for a person; the message itself is kept.
TEXT_CHARS_MAX: Final = 1_000
# 128 bits: no two messages of a lifetime share a digest by chance.
_DIGEST_BYTES: Final = 16
# Later than every moment there can be: what is older than nothing.
NEWEST_MS: Final = 2**62
# No id of the profile begins so: made by us, for an event that came without one.
_NAMELESS: Final = "~"

Cell = Stored | bytes | None
Key = tuple[int, int, int]
"""Bucket, series, milliseconds: the identity of a reading."""


@dataclass(slots=True)
class MeterSeen:
    """What a batch has shown of one meter."""

    gateway_id: str
    first_seen: int
    last_seen: int
    last_ts: int
    good_ts: int | None


@dataclass(slots=True)
class GatewaySeen:
    """What a batch has shown of one gateway."""

    first_seen: int
    last_seen: int
    last_seq: int | None


@dataclass(frozen=True, slots=True)
class Fault:
    """A message to keep, by its first fault."""

    digest: bytes
    received_at: int
    topic: bytes
    payload: bytes
    code: str
    requirement: str
    path: str
    detail: str
    partial: bool

    @property
    def bytes_kept(self) -> int:
        return len(self.payload) + len(self.topic) + REJECTED_ROW_BYTES


@dataclass(slots=True)
class FindingSeen:
    """A finding, folded within the batch."""

    count: int
    detail: str
    last_seen: int


FindingKey = tuple[str, str, str, str, str]
"""Day, feeder, meter, register, code."""


@dataclass(slots=True)
class Plan:
    """Everything a batch has to write."""

    readings: list[Cell] = field(default_factory=list)
    latest: dict[int, tuple[int, int, int, int]] = field(default_factory=dict)
    """Of a series whose latest moment advances: series, bucket, milliseconds, worst quality."""
    meters: dict[MeterKey, MeterSeen] = field(default_factory=dict)
    gateways: dict[tuple[str, str], GatewaySeen] = field(default_factory=dict)
    due: set[tuple[int, int]] = field(default_factory=set)
    """Series and UTC day whose energy has to be folded anew."""
    numbers: dict[tuple[str, str], list[Numbered]] = field(default_factory=dict)
    """Numbers that came, by feeder and gateway."""
    events: dict[tuple[str, str, str], tuple[Cell, ...]] = field(default_factory=dict)
    findings: dict[FindingKey, FindingSeen] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    rejected_messages: int = 0
    rejected_items: int = 0
    oldest_ms: int = NEWEST_MS
    """The earliest measured time of what is stored."""


def envelopes_of(batch: Sequence[Decision]) -> list[Envelope]:
    """Return the envelopes of what was accepted."""
    return [decision.envelope for decision in batch if isinstance(decision, Accepted)]


def plan_of(
    batch: Sequence[Decision], directory: Directory, *, received_at: int | None = None
) -> Plan:
    """Return the rows of a batch whose series and units the directory knows.

    ``received_at`` stands for the messages' own time of receipt when one is replayed.
    """
    plan = Plan()
    for decision in batch:
        received = to_ms(decision.message.received_at) if received_at is None else received_at
        if isinstance(decision, Rejected):
            plan.rejected_messages += 1
            if number := rejected_number(decision.message):
                *gateway, seq = number
                _note_number(plan, (gateway[0], gateway[1]), seq, None)
            _note_fault(plan, decision.message, decision.errors[0], received, partial=False)
            continue
        ts = to_ms(decision.envelope.ts)
        plan.oldest_ms = min(plan.oldest_ms, ts)
        _add_readings(plan, decision.envelope, directory, ts=ts, received=received)
        if decision.kind is Kind.EVENT:
            _add_event(plan, decision, ts=ts, received=received)
        for finding in decision.findings:
            note_finding(plan, decision.envelope.feeder_id, finding, ts=ts, seen=received)
        if decision.rejected_items:
            plan.rejected_items += len(decision.rejected_items)
            first = decision.rejected_items[0]
            _note_fault(plan, decision.message, first, received, partial=True)
    return plan


def _add_readings(
    plan: Plan, envelope: Envelope, directory: Directory, *, ts: int, received: int
) -> None:
    bucket, ms = place(ts)
    lag = received - ts
    meter = (envelope.feeder_id, envelope.meter_serial)
    series_of = directory.meters.get(meter, NO_SERIES)
    flags_of, latest, cells = directory.flags, plan.latest, plan.readings
    good = False
    rank = 0
    day = ts // DAY_MS
    for reading in envelope.registers:
        series = series_of[reading.obis]
        value = reading.value
        kind = type(value)
        number = series.id
        flags = flags_of(series.unit_id, kind, reading.quality, reading.unit)
        if kind is not float and kind is not int:
            value = stored_value(value)
        cells += (bucket, number, ms, value, flags, lag)
        if series.counts_energy:
            plan.due.add((number, day))
        rank = rank_of(flags)
        good = good or rank == 0
        if ts > series.latest_ms or (ts == series.latest_ms and rank > series.rank):
            series.latest_ms = ts
            series.rank = rank
            latest[number] = (number, bucket, ms, rank)
    _see_meter(plan, meter, envelope.gateway_id, received, ts, good=good)
    gateway = (envelope.feeder_id, envelope.gateway_id)
    _see_gateway(plan, gateway, received, envelope.seq)
    if envelope.seq is not None:
        _note_number(plan, gateway, envelope.seq, ts if rank < COMMS_LOST_RANK else None)


def _note_number(plan: Plan, gateway: tuple[str, str], seq: int, ts: int | None) -> None:
    told = plan.numbers.get(gateway)
    if told is None:
        told = plan.numbers[gateway] = []
    told.append(Numbered(seq, ts))


def _see_meter(
    plan: Plan, meter: MeterKey, gateway_id: str, received: int, ts: int, *, good: bool
) -> None:
    good_ts = ts if good else None
    seen = plan.meters.get(meter)
    if seen is None:
        plan.meters[meter] = MeterSeen(gateway_id, received, received, ts, good_ts)
        return
    seen.first_seen = min(seen.first_seen, received)
    seen.last_seen = max(seen.last_seen, received)
    if ts > seen.last_ts:
        seen.last_ts, seen.gateway_id = ts, gateway_id
    if seen.good_ts is None or (good_ts is not None and good_ts > seen.good_ts):
        seen.good_ts = good_ts


def _see_gateway(plan: Plan, gateway: tuple[str, str], received: int, seq: int | None) -> None:
    seen = plan.gateways.get(gateway)
    if seen is None:
        plan.gateways[gateway] = GatewaySeen(received, received, seq)
        return
    if received > seen.last_seen:
        seen.last_seen = received
    elif received < seen.first_seen:
        seen.first_seen = received
    if seq is not None and (seen.last_seq is None or seq > seen.last_seq):
        seen.last_seq = seq


# --- events and findings -------------------------------------------------------------------------


def _add_event(plan: Plan, decision: Accepted, *, ts: int, received: int) -> None:
    envelope, event = decision.envelope, decision.envelope.event
    occurred = ts
    if event is None:
        type_ = report_type(decision) or "unspecified"
        name, told = _nameless(envelope, ts), (type_, "instant", "info")
    else:
        name = storable_text(event.event_id)
        told = (storable_text(event.type), str(event.state), str(event.severity))
        if moment := read_time(event.occurred_at):
            occurred = to_ms(moment)
    key = (envelope.feeder_id, envelope.meter_serial, name)
    row = (*key, envelope.gateway_id, *told, occurred, ts, received, decision.message.payload)
    plan.events.setdefault(key, row)


def _nameless(envelope: Envelope, ts: int) -> str:
    """Name an event that has no id by what it says, so that its repetition has the same name."""
    told = sorted(map(_told, envelope.registers))
    identity = repr((envelope.feeder_id, envelope.meter_serial, ts, told))
    return _NAMELESS + _digest(identity.encode("utf-8", "backslashreplace")).hex()


def _told(reading: RegisterReading) -> tuple[str, str, str]:
    return (str(reading.obis), repr(reading.value), reading.unit)


def note_finding(plan: Plan, feeder_id: str, finding: Finding, *, ts: int, seen: int) -> None:
    """Fold a finding into the day its reading was measured on."""
    key = (
        day_of(ts),
        feeder_id,
        finding.meter_serial,
        bounded_text(finding.obis),
        bounded_text(finding.code),
    )
    folded = plan.findings.get(key)
    if folded is None:
        plan.findings[key] = FindingSeen(1, bounded_text(finding.detail), seen)
        return
    folded.count += 1
    if seen >= folded.last_seen:
        folded.last_seen, folded.detail = seen, bounded_text(finding.detail)


# --- rejected messages ---------------------------------------------------------------------------


def _note_fault(
    plan: Plan, message: Message, error: ProfileError, received: int, *, partial: bool
) -> None:
    plan.faults.append(fault_of(message, error, received, partial=partial))


def fault_of(message: Message, error: ProfileError, received: int, *, partial: bool) -> Fault:
    """Return what is kept of a message that was rejected, whole or in part."""
    topic = message.topic.encode("utf-8", "surrogatepass")
    kept = message.payload[:REJECT_PAYLOAD_BYTES_MAX]
    detail = error.detail
    if len(kept) < len(message.payload):
        detail = f"{detail} (kept: the first {len(kept)} of {len(message.payload)} bytes)"
    return Fault(
        digest=_digest(len(topic).to_bytes(4, "big"), topic, message.payload),
        received_at=received,
        topic=topic,
        payload=kept,
        code=str(error.code),
        requirement=bounded_text(error.requirement),
        path=bounded_text(error.path),
        detail=bounded_text(detail),
        partial=partial,
    )


def unit_digest(unit: str) -> bytes:
    """Return the key of a unit's text: a foreign one may be longer than an index takes."""
    return _digest(storable_text(unit).encode())


def conflict_digest(value: Stored, flags: int) -> bytes:
    """Return the key of a conflicting value below its reading."""
    text = value if isinstance(value, str) else repr(float(value))
    return _digest(sort_of(flags).to_bytes(8, "big"), text.encode())


def bounded_text(text: str) -> str:
    """Return a text for a person, storable and no longer than one reads."""
    return storable_text(text[:TEXT_CHARS_MAX])


def _digest(*parts: bytes) -> bytes:
    digest = blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        digest.update(part)
    return digest.digest()
