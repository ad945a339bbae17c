"""One meter as the gateway knows it, and what a poll makes of that (pure).

A poll ends in one of three ways: an answer, a miss, a clash. Each is a function from the record before to the
record after and the envelopes it gives rise to; the collector asks, and stores what comes out here.

A lost meter is told in two ways. The event ``comms_lost`` tells it once. Its last known values follow as
telemetry of quality ``comms_lost``, at once and again with each billing poll, so that a head-end that
missed the event learns it too. These have the identity of readings that are stored already (same meter,
register, time and value): the head-end keeps the stored reading and lowers the meter's latest state
(decisions 0006 and 0007).
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec
from msgspec import field
from msgspec.structs import replace

from openami.gateway.driver import IdentityMismatch, PollGroup, RawReading, RegisterInfo
from openami.gateway.entries import Draft, Kind
from openami.gateway.event_drafts import Candidate, Teller
from openami.gateway.event_limits import EventLimits, Rule
from openami.gateway.event_rules import (
    Answer,
    Derived,
    RuleMemory,
    answers_again,
    derive,
    silent_among_answering,
)
from openami.gateway.event_types import EVENT_TYPES, EventType
from openami.gateway.events import CLOCK, event_envelope, serial_reading
from openami.gateway.late_readings import counters
from openami.gateway.log_position import LogPosition
from openami.gateway.normalise import (
    Change,
    Doubt,
    Memory,
    Normalised,
    Source,
    TimedReading,
    Unusable,
    envelopes,
    lost_readings,
    normalise,
    settled,
    to_the_millisecond,
)
from openami.gateway.on_change import ACCOUNTED_BY, OnChange, Reported
from openami.gateway.outages import BillingInstants, History, Moment, dated, is_dated, polled
from openami.gateway.reachability import Reachability, Told, answered, clashed, missed
from openami.gateway.relay_orders import RelayOrder
from openami.gateway.telling import Happening, Telling
from openami.gateway.timekeeping import WRITTEN
from openami.profile import (
    MeterSerial,
    Obis,
    Quality,
    RegisterCatalogue,
    RegisterReading,
)

# An event names what it is about; a lost meter's most recent registers, not all of them.
_EVENT_REGISTERS_MAX = 10


class MeterState(StrEnum):
    """A meter's state in one word; the head-end uses the same (``gateway_silent`` is only seen there)."""

    REPORTING = "reporting"
    SUSPECT = "suspect"
    METER_SILENT = "meter_silent"
    ADDRESS_CLASH = "address_clash"
    NEVER_SEEN = "never_seen"


class MeterRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one configured meter.

    ``fault`` is the driver's last complaint, empty after an answer; ``unusable`` are the registers whose
    last value was none of theirs. ``owed`` are the groups whose instant passed while the meter was silent:
    they are read with the next poll that is answered, because a counter a minute late, with its true time,
    is better than none for a quarter of an hour, or for a day. ``history`` is kept of a meter that
    ``keeps_profile``: what it was not asked in time can still be had of it (decision 0058).
    """

    serial: MeterSerial
    line: str
    infos: Mapping[Obis, RegisterInfo] = {}
    memory: Memory = {}
    reach: Reachability = field(default_factory=Reachability)
    answered_at: datetime | None = None
    fault: str = ""
    unusable: frozenset[Obis] = frozenset()
    owed: frozenset[PollGroup] = frozenset()
    limits: EventLimits = field(default_factory=EventLimits)
    rules: RuleMemory = field(default_factory=RuleMemory)
    telling: Telling = field(default_factory=Telling)
    log: LogPosition | None = None
    """How far the meter's own event logs are read; None before the first time."""
    keeps_profile: bool = False
    history: History = History()
    reported: Mapping[Obis, Reported] = {}
    """What was last told of registers that are told on change; of this process only (decision 0069)."""
    clock_set_at: datetime | None = None
    """When the gateway last set the meter's clock (decision 0059)."""

    @property
    def clock_doubted(self) -> bool:
        """Whether its clock was found wrong when it was last read."""
        known = self.memory.get(CLOCK)
        return known is not None and known.doubt is Doubt.CLOCK_INVALID

    @property
    def state(self) -> MeterState:
        """The meter's state word."""
        if self.reach.clashing:
            return MeterState.ADDRESS_CLASH
        if self.reach.lost:
            return MeterState.METER_SILENT
        if self.answered_at is None:
            return MeterState.NEVER_SEEN
        if any(remembered.doubt is not None for remembered in self.memory.values()):
            return MeterState.SUSPECT
        return MeterState.REPORTING

    def wanted(self, groups: frozenset[PollGroup]) -> list[Obis]:
        """Return the registers that these groups ask for, and what is owed besides."""
        asked = groups | self.owed
        return [info.obis for info in self.infos.values() if info.group in asked]

    def with_log(self, log: LogPosition, telling: Telling) -> "MeterRecord":
        """Return the record once a piece of the meter's log has been read, and told."""
        return replace(self, log=log, telling=telling)

    @property
    def answers(self) -> bool:
        """Whether the last poll was answered, by this meter."""
        return self.answered_at is not None and not self.fault

    def with_told(self, before: "MeterRecord") -> "MeterRecord":
        """Return the record with what was told, and how far the log is read, as it was before."""
        return replace(self, rules=before.rules, telling=before.telling, log=before.log)

    def with_nothing_reported(self) -> "MeterRecord":
        """Return the record after readings could not be stored: all of the next ones are told."""
        return replace(self, reported={})

    def with_registers(
        self, infos: Iterable[RegisterInfo], *, keeps_profile: bool = False
    ) -> "MeterRecord":
        """Return the record of the meter once its line is open and tells what it can be asked."""
        return replace(
            self,
            infos={info.obis: info for info in infos},
            keeps_profile=keeps_profile,
            history=self.history if keeps_profile else History(),
        )


class Poll(msgspec.Struct, frozen=True, kw_only=True):
    """What surrounds one poll: whose gateway, which groups, when."""

    source: Source
    catalogue: RegisterCatalogue
    groups: frozenset[PollGroup]
    now: datetime
    boottime_s: float
    clock_trusted: bool
    misses_max: int
    instants: BillingInstants
    on_change: OnChange = field(default_factory=lambda: OnChange({}))
    order: RelayOrder | None = None
    """What the meter's contactor was ordered to last."""

    def timed(self, reading: RegisterReading) -> TimedReading:
        """Return what was seen at this poll."""
        return TimedReading(to_the_millisecond(self.now), reading, self.boottime_s)


Commit = Callable[[MeterRecord, Sequence[Draft]], Awaitable[bool]]
"""Stores what came of a meter beside its polls and what is then known of it, both or neither; tells which."""


class PollResult(msgspec.Struct, frozen=True):
    """The record after a poll, and what is to be stored of it."""

    record: MeterRecord
    drafts: tuple[Draft, ...] = ()
    told: tuple[Told, ...] = ()
    unusable: tuple[Unusable, ...] = ()
    """Those that were usable before, so that each is reported once."""


def after_answer(before: MeterRecord, raw: Sequence[RawReading], poll: Poll) -> PollResult:
    """The meter answered, as itself."""
    before = _settled(before, poll)
    judged = normalise(
        raw,
        infos=before.infos,
        catalogue=poll.catalogue,
        memory=before.memory,
        now=poll.now,
        boottime_s=poll.boottime_s,
        clock_trusted=poll.clock_trusted,
    )
    reach, told = answered(before.reach)
    unusable = {value.obis for value in judged.unusable}
    record = replace(
        before,
        memory=judged.memory,
        reach=reach,
        answered_at=to_the_millisecond(poll.now),
        fault="",
        unusable=frozenset(before.unusable - {told.obis for told in raw} | unusable),
        owed=frozenset(),
        history=_history(before, judged, poll),
    )
    record, events = _events(before, record, judged, poll)
    readings, reported = poll.on_change.told(
        judged.readings,
        before.reported,
        infos=before.infos,
        catalogue=poll.catalogue,
        now=poll.now,
        accounted=ACCOUNTED_BY in record.memory,
        something_happened=bool(told or events),
    )
    record = replace(record, reported=reported)
    drafts = [
        *(_reach_event(record, kind, poll, _restored(before, judged.readings)) for kind in told),
        *events,
        *telemetry(record, readings, poll.source),
    ]
    new = tuple(value for value in judged.unusable if value.obis not in before.unusable)
    return PollResult(record, tuple(drafts), told, new)


def after_miss(before: MeterRecord, reason: str, poll: Poll) -> PollResult:
    """The meter did not answer, or not with an answer."""
    before = _settled(before, poll)
    reach, told = missed(before.reach, misses_max=poll.misses_max)
    record = replace(before, reach=reach, fault=reason, owed=_owed(before, poll))
    drafts: list[Draft] = []
    if told or (reach.lost and PollGroup.BILLING in poll.groups and not reach.clashing):
        lost = () if reach.clashing else lost_readings(record.memory, record.memory)
        drafts += [_reach_event(record, kind, poll, _most_recent(lost)) for kind in told]
        drafts += telemetry(record, lost, poll.source)
    return PollResult(record, tuple(drafts), told)


def after_clash(before: MeterRecord, clash: IdentityMismatch, poll: Poll) -> PollResult:
    """Another meter answered: nothing it said is published, only that it answered."""
    reach, told = clashed(before.reach)
    record = replace(before, reach=reach, fault=str(clash), owed=_owed(before, poll))
    foreign = poll.timed(serial_reading(clash.found, Quality.SUSPECT))
    drafts = tuple(_reach_event(record, kind, poll, (foreign,)) for kind in told)
    return PollResult(record, drafts, told)


def _history(before: MeterRecord, judged: Normalised, poll: Poll) -> History:
    """Return what is known of the meter's outages once its billing registers were read."""
    infos, told = before.infos, (timed.reading.obis for timed in judged.readings)
    if not before.keeps_profile or all(infos[o].group is not PollGroup.BILLING for o in told):
        return before.history
    clock = judged.memory.get(CLOCK)
    # The verdict is the last commit's: a clock that was reset since then shows itself by what it says.
    certain = poll.clock_trusted and poll.now >= WRITTEN
    return polled(
        before.history,
        Moment(to_the_millisecond(poll.now), None if certain else poll.boottime_s),
        instants=poll.instants,
        floor=counters(before.memory, infos),
        ceiling=counters(judged.memory, infos),
        clock_doubted=before.clock_doubted
        or (clock is not None and clock.doubt is Doubt.CLOCK_INVALID),
    )


def after_silent_poll(before: MeterRecord, neighbours: int, poll: Poll) -> PollResult:
    """The meter did not answer at a poll at which so many others on its line did."""
    if before.limits.on(Rule.POWER_FAIL) and neighbours and not before.reach.clashing:
        rules, derived = silent_among_answering(
            before.rules, before.telling, polls=poll.misses_max, neighbours=neighbours
        )
        record = replace(before, rules=rules)
        found = [] if derived is None else [_candidate(derived, (), poll)]
        telling, drafts = teller(record, poll).drafts(record.telling, found)
        return PollResult(replace(record, telling=telling), tuple(drafts))
    return PollResult(before)


def _owed(record: MeterRecord, poll: Poll) -> frozenset[PollGroup]:
    """Return what an unanswered poll leaves to be made up for; fast registers come again by themselves."""
    return record.owed | (poll.groups - {PollGroup.FAST})


def _settled(record: MeterRecord, poll: Poll) -> MeterRecord:
    """Put right what an untrusted clock had dated, once it is trusted (decision 0018)."""
    if not poll.clock_trusted:
        return record
    boot_moment = poll.now - timedelta(seconds=poll.boottime_s)
    memory = settled(record.memory, boot_moment)
    if not is_dated(record.history):
        record = replace(record, history=dated(record.history, boot_moment, poll.instants))
    return record if memory is record.memory else replace(record, memory=memory)


# --- events --------------------------------------------------------------------------------------


def teller(record: MeterRecord, poll: Poll) -> Teller:
    """Return who tells this meter's events at this poll."""
    return Teller(
        source=poll.source,
        serial=record.serial,
        now=poll.now,
        boottime_s=poll.boottime_s,
        per_hour=record.limits.per_hour,
    )


def _events(
    before: MeterRecord, record: MeterRecord, judged: Normalised, poll: Poll
) -> tuple[MeterRecord, list[Draft]]:
    """Return the events of an answer: doubts that began or ended, and what the rules make of it."""
    rules, again = answers_again(before.rules, before.telling)
    good = {
        timed.reading.obis: timed.reading.value
        for timed in judged.readings
        if timed.reading.quality is Quality.GOOD
    }
    known = {obis: each.known.value for obis, each in before.memory.items() if each.known}
    answer = Answer(
        values=good, before=known, infos=record.infos, limits=record.limits, order=poll.order
    )
    rules, derived = derive(rules, before.telling, answer)
    candidates = [
        *_doubts(judged.changes, judged.readings),
        *(_candidate(each, judged.readings, poll) for each in [again, *derived] if each),
    ]
    telling, drafts = teller(record, poll).drafts(before.telling, candidates)
    return replace(record, rules=rules, telling=telling), drafts


def _doubts(changes: Sequence[Change], readings: Sequence[TimedReading]) -> Iterator[Candidate]:
    by_code = {timed.reading.obis: timed for timed in readings}
    for change in changes:
        timed = by_code[change.obis]
        yield Candidate(
            happening=Happening(EventType(change.doubt.value), change.state, str(change.obis)),
            detail=f"{change.obis}: {change.detail}" if change.detail else str(change.obis),
            ts=timed.ts,
            occurred_at=timed.ts,
            registers=(timed.reading,),
            boottime_s=timed.boottime_s,
        )


def _candidate(derived: Derived, readings: Sequence[TimedReading], poll: Poll) -> Candidate:
    """Return what tells a derived event: the registers that go with it, at the time they were measured."""
    with_it = EVENT_TYPES[derived.type].registers
    about = _most_recent([timed for timed in readings if timed.reading.obis in with_it])
    now = to_the_millisecond(poll.now)
    return Candidate(
        happening=Happening(derived.type, derived.state, derived.part, derived.severity),
        detail=derived.detail,
        ts=about[0].ts if about else now,
        occurred_at=about[0].ts if about else now,
        registers=tuple(timed.reading for timed in about),
        boottime_s=about[0].boottime_s if about else poll.boottime_s,
    )


# --- envelopes -----------------------------------------------------------------------------------


def telemetry(
    record: MeterRecord, readings: Iterable[TimedReading], source: Source
) -> Iterator[Draft]:
    """Yield one draft for each poll group and measured time."""
    by_group: dict[PollGroup, list[TimedReading]] = {}
    for timed in readings:
        info = record.infos.get(timed.reading.obis)
        # A map that lost a register since the last run: what is remembered of it counts as billing.
        group = PollGroup.BILLING if info is None else info.group
        by_group.setdefault(group, []).append(timed)
    for group, members in by_group.items():
        made = envelopes(members, source=source, serial=record.serial)
        for envelope, boottime_s in made:
            yield Draft(envelope, Kind.TELEMETRY, group, boottime_s)


def _reach_event(
    record: MeterRecord, told: Told, poll: Poll, about: Sequence[TimedReading]
) -> Draft:
    """Return the event; without a register to name it names the meter by its configured serial."""
    kind, state = told
    quality = Quality.COMMS_LOST if record.reach.lost else Quality.GOOD
    about = about or (poll.timed(serial_reading(record.serial, quality)),)
    envelope = event_envelope(
        kind,
        state,
        source=poll.source,
        serial=record.serial,
        occurred_at=to_the_millisecond(poll.now),
        registers=tuple(timed.reading for timed in about),
        ts=about[0].ts,
        detail=record.fault,
    )
    return Draft(envelope, Kind.EVENT, boottime_s=about[0].boottime_s)


def _most_recent(readings: Sequence[TimedReading]) -> Sequence[TimedReading]:
    """Return registers of one measured time, the newest: an envelope has one."""
    if not readings:
        return ()
    newest = max(timed.ts for timed in readings)
    return [timed for timed in readings if timed.ts == newest][:_EVENT_REGISTERS_MAX]


def _restored(before: MeterRecord, readings: Sequence[TimedReading]) -> Sequence[TimedReading]:
    return _most_recent(readings) if before.reach.lost else ()
