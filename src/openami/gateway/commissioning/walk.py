"""The walk: each meter as the integrator beside it needs to see it, and what may be ticked (pure)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from openami.gateway.commissioning.ledger import Standing
from openami.gateway.commissioning.load_test import (
    POWERS,
    LoadBegun,
    PowerAt,
    power_w,
)
from openami.gateway.events import SERIAL_NUMBER
from openami.gateway.meter_record import MeterRecord, MeterState
from openami.sip.commissioning import (
    NAME_CHARS_MAX,
    NOTE_CHARS_MAX,
    Identified,
    LoadTest,
    LoadVerdict,
    Outcome,
    Tick,
)

# Somebody stands beside the meter: what it told two polls ago is what it tells now.
ANSWERED_WITHIN_POLLS: Final = 3

_LOOK_AT: Final = "Is it powered? Are A and B the right way round, address and speed set?"
# What a person beside the meter looks at first.
PROBLEMS: Final[Mapping[MeterState, str]] = {
    MeterState.ADDRESS_CLASH: "Another meter answers at this address: switch one of the two off.",
    MeterState.METER_SILENT: f"It does not answer. {_LOOK_AT}",
    MeterState.NEVER_SEEN: f"It has never answered. {_LOOK_AT}",
    MeterState.SUSPECT: "It answers, and some values cannot be believed: is it the right map?",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterWalk:
    """One meter on the list."""

    record: MeterRecord
    identity: str | None
    """The serial number the configuration expects the meter to tell."""
    answers: bool
    begun: LoadBegun | None
    """The load test under way, or the last one."""
    load: LoadTest | None
    """Of the test under way; the one that was ticked stands in the tick."""
    load_pending: int
    """Of how many other meters it is not known yet whether theirs rose instead."""
    tick: Tick | None

    @property
    def serial(self) -> str:
        """The configured serial."""
        return self.record.serial

    @property
    def problem(self) -> str:
        """What is wrong with it, in words; empty when nothing is."""
        if not self.answers and self.record.state is MeterState.REPORTING:
            return "It answered before and does not now."
        return PROBLEMS.get(self.record.state, "")

    @property
    def told(self) -> str | None:
        """The serial number the meter itself has told, or proved to the driver; None where it tells none."""
        remembered = self.record.memory.get(SERIAL_NUMBER)
        if remembered is not None and remembered.known is not None:
            return str(remembered.known.value)
        proved = self.record.state in (MeterState.REPORTING, MeterState.SUSPECT)
        return self.identity if proved and self.record.answered_at is not None else None

    def identified(self, *, nameplate: bool) -> Identified:
        """Return how it is known which meter it is; ``nameplate``: the person says to have compared it."""
        if self.told is not None and self.told in (self.identity, self.serial):
            return Identified.TOLD
        return Identified.NAMEPLATE if nameplate else Identified.NOT


def meter_walks(
    records: Iterable[MeterRecord],
    identities: Mapping[str, str | None],
    standing: Standing,
    *,
    now: datetime,
    fast_s: int,
) -> list[MeterWalk]:
    """Return every meter as it stands, in the order of the configuration."""
    return [_walk(record, identities, standing, now, fast_s) for record in records]


def _walk(
    record: MeterRecord,
    identities: Mapping[str, str | None],
    standing: Standing,
    now: datetime,
    fast_s: int,
) -> MeterWalk:
    begun = standing.loads_begun.get(record.serial)
    load = None if begun is None else begun.result(record.serial)
    recently = timedelta(seconds=ANSWERED_WITHIN_POLLS * fast_s)
    answered_at = record.answered_at
    return MeterWalk(
        record=record,
        identity=identities.get(record.serial),
        answers=answered_at is not None
        and now - answered_at <= recently
        and not record.fault
        and record.state not in (MeterState.METER_SILENT, MeterState.ADDRESS_CLASH),
        begun=begun,
        load=load,
        load_pending=0 if begun is None else begun.unheard(record.serial),
        tick=standing.ticks.get(record.serial),
    )


def powers_of(records: Iterable[MeterRecord]) -> dict[str, PowerAt]:
    """Return each meter's last known net power."""
    found: dict[str, PowerAt] = {}
    for record in records:
        known = {
            obis: each.known
            for obis, each in record.memory.items()
            if obis in POWERS and each.known is not None
        }
        watts = power_w({obis: each.value for obis, each in known.items()})
        if watts is not None:
            found[record.serial] = PowerAt(watts, min(each.ts for each in known.values()))
    return found


@dataclass(frozen=True, slots=True)
class NotTicked:
    """Why a tick is not taken, in words for the person who pressed."""

    words: str


def ticked(
    meter: MeterWalk, *, outcome: Outcome, nameplate: bool, note: str, by: str, now: datetime
) -> Tick | NotTicked:
    """Return the tick, or why it may not be given."""
    note = " ".join(note.split())
    if len(note) > NOTE_CHARS_MAX:
        return NotTicked(f"The note has {len(note)} characters; {NOTE_CHARS_MAX} fit.")
    identified = meter.identified(nameplate=nameplate)
    load = meter.load if meter.load is not None else _load_of(meter.tick)
    if outcome is Outcome.PROBLEM and not note:
        return NotTicked("Say in the note what the problem is.")
    if outcome is Outcome.OK:
        if not meter.answers:
            return NotTicked("It does not answer now: leave it as a problem, with a note.")
        if identified is Identified.NOT:
            return NotTicked(
                "It tells no serial number that is expected: compare the plate and mark the box."
            )
        if (load is None or load.verdict is not LoadVerdict.ROSE) and not note:
            return NotTicked(
                "No load was seen at this meter: switch one on, or say in the note why not."
            )
    return Tick(
        meter=meter.serial,
        outcome=outcome,
        at=now.replace(microsecond=0),
        by=by[:NAME_CHARS_MAX],
        identified=identified,
        told=meter.told,
        load=load,
        note=note,
    )


def _load_of(tick: Tick | None) -> LoadTest | None:
    return None if tick is None else tick.load
