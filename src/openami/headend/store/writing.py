"""What a commit, a replay, a drop and a prune do, step by step; the engine carries the steps out."""

# Statements are put together from this program's own words; every value is bound.
# ruff: noqa: S608

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, Final, cast

import msgspec

from openami.headend.audit import Entry
from openami.headend.consumption import counts_energy
from openami.headend.ingest import Accepted, Decision, Finding
from openami.headend.seq_gaps import Numbering, merged
from openami.headend.store import (
    CONFLICT_FINDING,
    FINDINGS_KEPT_DAYS,
    REJECTED_KEPT_DAYS,
    BeyondRetentionError,
    RejectStatus,
    StoreError,
    Tally,
)
from openami.headend.store.chain import append, in_turn
from openami.headend.store.closing import bring_back
from openami.headend.store.collisions import NewConflict, Told, differing_values, judge
from openami.headend.store.directory import Directory, Series, SeriesKey
from openami.headend.store.identity import from_ms, ms_at, storable_text, to_ms
from openami.headend.store.plan import (
    NEWEST_MS,
    Cell,
    Fault,
    Key,
    Plan,
    envelopes_of,
    fault_of,
    note_finding,
    plan_of,
    unit_digest,
)
from openami.headend.store.steps import Row, Steps, ask, change, do, insert, look
from openami.headend.store.tables import (
    CONFLICT,
    CONFLICTS_KNOWN,
    ENERGY_DUE,
    EVENT,
    FINDING,
    GATEWAY,
    LATEST,
    METER,
    NUMBERING,
    NUMBERINGS_KNOWN,
    QUALITY,
    READING,
    READINGS_DIFFERING,
    REJECTED,
    REJECTED_GONE,
    REJECTED_KNOWN,
    SERIES,
    SERIES_KNOWN,
    UNIT,
    UNITS_KNOWN,
)
from openami.headend.store.traffic import TRAFFIC_KEPT_DAYS, count_traffic

# A series nobody has read yet: before every moment there can be.
_NEVER_MS: Final = -(2**62)
# Kept messages looked at in one go when the oldest have to make room.
_OLDEST_AT_ONCE: Final = 500

_flat = chain.from_iterable


def commit(
    batch: Sequence[Decision], directory: Directory, *, rejected_bytes_max: int
) -> Steps[Tally]:
    """Store a batch and count it; of rejected messages keep no more than so many bytes."""
    plan, tally = yield from _store(batch, directory)
    if plan.numbers:
        received_ms = to_ms(max(decision.message.received_at for decision in batch))
        yield from _note_numbers(plan, received_ms)
    tally = replace(
        tally,
        messages=len(batch),
        rejected_messages=plan.rejected_messages,
        rejected_items=plan.rejected_items,
    )
    if plan.faults:
        tally = replace(
            tally, rejects_pruned=(yield from _keep_faults(plan.faults, rejected_bytes_max))
        )
    yield from count_traffic(batch)
    yield from _count(tally, plan.oldest_ms)
    return tally


def replay(
    reject_id: int,
    decision: Decision,
    directory: Directory,
    entry: Callable[[Tally], Entry],
    now: datetime,
) -> Steps[Tally]:
    """Store a kept message's new verdict and note what became of it.

    Raises StoreError when there is no such message.
    """
    # First, as every transaction that appends to the log: so two of them wait for one another and never cross.
    yield from in_turn()
    rows = yield from ask("SELECT received_at FROM rejected WHERE id = ?1", reject_id)
    if not rows:
        raise StoreError(
            f"there is no kept message {reject_id}",
            remedy="it may have expired meanwhile: list the kept messages again",
            permanent=True,
        )
    received_at = cast(int, rows[0][0])
    plan, tally = yield from _store([decision], directory, received_at)
    yield from _count(tally, plan.oldest_ms)
    errors = decision.rejected_items if isinstance(decision, Accepted) else decision.errors
    if errors:
        fault = fault_of(
            decision.message, errors[0], received_at, partial=isinstance(decision, Accepted)
        )
        yield from do(
            "UPDATE rejected SET code = ?1, requirement = ?2, path = ?3, detail = ?4, partial = ?5 "
            "WHERE id = ?6",
            fault.code,
            fault.requirement,
            fault.path,
            fault.detail,
            int(fault.partial),
            reject_id,
        )
    else:
        yield from _mark(reject_id, RejectStatus.REPLAYED)
    tally = replace(
        tally,
        messages=1,
        rejected_messages=plan.rejected_messages,
        rejected_items=plan.rejected_items,
    )
    yield from append((entry(tally),), now)
    return tally


def drop(reject_id: int, entry: Entry, now: datetime) -> Steps[bool]:
    """Mark a kept message dropped; False if there is none."""
    yield from in_turn()
    if (yield from _mark(reject_id, RejectStatus.DROPPED)) == 0:
        return False
    yield from append((entry,), now)
    return True


def _mark(reject_id: int, status: RejectStatus) -> Steps[int]:
    return (yield from do("UPDATE rejected SET status = ?1 WHERE id = ?2", str(status), reject_id))


def prune(now: datetime, *, rejected_bytes_max: int) -> Steps[int]:
    """Delete what is dropped, too old or too much; return how many messages went."""
    oldest = to_ms(now - timedelta(days=REJECTED_KEPT_DAYS))
    gone = yield from do(
        "DELETE FROM rejected WHERE status = ?1 OR last_received_at < ?2",
        str(RejectStatus.DROPPED),
        oldest,
    )
    # Counted anew: writers that kept the same message at the same moment have both counted its bytes.
    yield from do(
        "UPDATE tally SET rejected_bytes = (SELECT coalesce(sum(bytes), 0) FROM rejected)"
    )
    gone += yield from _make_room(rejected_bytes_max)
    last_day = (now - timedelta(days=FINDINGS_KEPT_DAYS)).date().isoformat()
    yield from do("DELETE FROM finding WHERE day < ?1", last_day)
    oldest_day = (now - timedelta(days=TRAFFIC_KEPT_DAYS)).date().isoformat()
    yield from do("DELETE FROM traffic WHERE day < ?1", oldest_day)
    yield from _count(Tally(rejects_pruned=gone))
    return gone


# --- readings ------------------------------------------------------------------------------------


def _store(
    batch: Sequence[Decision], directory: Directory, received_at: int | None = None
) -> Steps[tuple[Plan, Tally]]:
    """Store all of a batch but its rejected messages; the tally counts what was stored."""
    yield from _resolve(batch, directory)
    plan = plan_of(batch, directory, received_at=received_at)
    tally = yield from _store_readings(plan, directory)
    yield from insert(ENERGY_DUE, list(_flat(directory.newly_due(plan.due))))
    yield from insert(LATEST, list(_flat(plan.latest.values())))
    yield from insert(METER, list(_flat((*k, *_fields(m)) for k, m in plan.meters.items())))
    yield from insert(GATEWAY, list(_flat((*k, *_fields(g)) for k, g in plan.gateways.items())))
    if plan.events:
        # Of several writers one at a time: whoever looks for new events by their numbers would pass over one
        # that has a lower number and is committed later.
        yield from do("UPDATE alarm_look SET looked_to = looked_to")
    events = yield from insert(EVENT, list(_flat(plan.events.values())))
    yield from insert(FINDING, list(_flat((*k, *_fields(f)) for k, f in plan.findings.items())))
    return plan, replace(tally, events=events)


def _fields(seen: Any) -> tuple[Cell, ...]:
    return tuple(getattr(seen, name) for name in seen.__slots__)


def _store_readings(plan: Plan, directory: Directory) -> Steps[Tally]:
    cells = plan.readings
    count = len(cells) // READING.width
    yield from bring_back(cells)
    stored = yield from insert(READING, cells)
    if stored == count:
        return Tally(stored=stored)
    conflicts = yield from _settle_collisions(plan, directory)
    return Tally(stored=stored, duplicates=count - stored - conflicts, conflicts=conflicts)


def _settle_collisions(plan: Plan, directory: Directory) -> Steps[int]:
    """Look at the rows that differ from what is stored; return how many conflicts there are."""
    cells, width = plan.readings, READING.width
    columns = [cells[i::width] for i in range(width - 1)]
    given = list(_flat(zip(range(len(columns[0])), *columns, strict=True)))
    rows = yield from look(READINGS_DIFFERING, given)
    told = [_told(cells, row) for row in sorted(rows, key=lambda row: cast(int, row[0]))]
    known: dict[Key, set[bytes]] = defaultdict(set)
    identities = {row.key for row in differing_values(told)}
    for bucket, series, ms, digest in (
        yield from look(CONFLICTS_KNOWN, list(_flat(sorted(identities))))
    ):
        known[cast(Key, (bucket, series, ms))].add(bytes(cast(bytes, digest)))
    verdict = judge(told, known)
    yield from insert(CONFLICT, list(_flat(_conflict_row(new) for new in verdict.conflicts)))
    yield from change(
        QUALITY, list(_flat((*key, flags) for key, flags in sorted(verdict.qualities.items())))
    )
    _raise_findings(plan, directory, verdict.conflicts)
    return verdict.conflicting


def _told(cells: Sequence[Cell], row: Row) -> Told:
    number, kept_number, kept_text, kept_flags = cast(Any, row)
    bucket, series, ms, value, flags, lag_ms = cast(
        Any, cells[number * READING.width : (number + 1) * READING.width]
    )
    kept = kept_number if kept_text is None else kept_text
    return Told((bucket, series, ms), value, flags, lag_ms, kept, kept_flags)


def _conflict_row(new: NewConflict) -> tuple[Cell, ...]:
    return (*new.told.key, new.digest, new.told.value, new.told.flags, new.told.lag_ms)


def _raise_findings(plan: Plan, directory: Directory, conflicts: Sequence[NewConflict]) -> None:
    """A second opinion is for a person to look at (decision 0006)."""
    if not conflicts:
        return
    names = {
        series.id: (feeder_id, meter_serial, str(obis))
        for (feeder_id, meter_serial) in plan.meters
        for obis, series in directory.meters[feeder_id, meter_serial].items()
    }
    for told in (new.told for new in conflicts):
        bucket, series_id, ms = told.key
        feeder_id, meter_serial, obis = names[series_id]
        ts = ms_at(bucket, ms)
        detail = f"kept {told.kept_value!r}, then told {told.value!r} for the same moment"
        finding = Finding(CONFLICT_FINDING, meter_serial, obis, detail)
        note_finding(plan, feeder_id, finding, ts=ts, seen=ts + told.lag_ms)


# --- the gateways' own numbers -------------------------------------------------------------------


def _note_numbers(plan: Plan, received_ms: int) -> Steps[None]:
    """Add the numbers that came to what is known of each gateway's.

    Not those of a replay: they were counted when they came. Nor those of a gateway of which nothing was ever
    accepted: whoever may publish could invent it.
    """
    known = yield from look(NUMBERINGS_KNOWN, list(_flat(plan.numbers)))
    before = {
        (cast(str, feeder), cast(str, gateway)): read_numbering(state)
        for feeder, gateway, state in known
    }
    cells: list[Cell] = []
    for gateway, numbers in plan.numbers.items():
        numbering = before.get(gateway)
        if numbering is None and gateway not in plan.gateways:
            continue
        after = merged(numbering, numbers, received_ms)
        if after != numbering:
            cells += (*gateway, msgspec.json.encode(after))
    yield from insert(NUMBERING, cells)


def read_numbering(state: object) -> Numbering:
    """Return what a row of ``numbering`` says."""
    return msgspec.json.decode(bytes(cast(bytes, state)), type=Numbering)


# --- numbers of series and units ------------------------------------------------------------------


def _resolve(batch: Sequence[Decision], directory: Directory) -> Steps[None]:
    """Let the directory know every series and unit of a batch."""
    directory.keep_bounds()
    series, units = directory.unknown(envelopes_of(batch))
    if units:
        yield from _resolve_units(units, directory)
    if series:
        yield from _resolve_series(series, directory)


def _resolve_units(units: Sequence[str], directory: Directory) -> Steps[None]:
    named = {unit_digest(unit): storable_text(unit) for unit in units}
    cells: list[Cell] = [part for pair in sorted(named.items()) for part in pair]
    found = yield from look(UNITS_KNOWN, cells)
    if len(found) < len(named):
        yield from insert(UNIT, cells)
        found = yield from look(UNITS_KNOWN, cells)
    numbers = {bytes(cast(bytes, row[0])): cast(int, row[1]) for row in found}
    for unit in units:
        directory.units[unit] = numbers[unit_digest(unit)]


def _resolve_series(series: Mapping[SeriesKey, str], directory: Directory) -> Steps[None]:
    keys = {(feeder, meter, str(obis)): (feeder, meter, obis) for feeder, meter, obis in series}
    cells: list[Cell] = [part for name in sorted(keys) for part in name]
    found = yield from look(SERIES_KNOWN, cells)
    if len(found) < len(keys):
        rows = ((*name, directory.units[series[keys[name]]]) for name in sorted(keys))
        yield from insert(SERIES, list(_flat(rows)))
        found = yield from look(SERIES_KNOWN, cells)
    for feeder, meter, name, number, unit, bucket, ms, rank in cast(Any, found):
        latest = _NEVER_MS if bucket is None else ms_at(bucket, ms)
        directory.learn(
            keys[feeder, meter, name],
            Series(
                number,
                unit,
                latest,
                rank or 0,
                counts_energy=counts_energy(keys[feeder, meter, name][2]),
            ),
        )


# --- rejected messages ---------------------------------------------------------------------------


def _keep_faults(faults: Sequence[Fault], bytes_max: int) -> Steps[int]:
    """Keep messages, folding identical ones; return how many had to go to make room."""
    first: dict[bytes, Fault] = {}
    seen: dict[bytes, list[int]] = defaultdict(list)
    for fault in faults:
        first.setdefault(fault.digest, fault)
        seen[fault.digest].append(fault.received_at)
    known = {bytes(cast(bytes, row[0])) for row in (yield from look(REJECTED_KNOWN, sorted(first)))}
    # In the order they came, so that the newest has the highest number.
    yield from insert(
        REJECTED,
        list(_flat(_rejected_row(fault, seen[digest]) for digest, fault in first.items())),
    )
    added = sum(fault.bytes_kept for digest, fault in first.items() if digest not in known)
    yield from do("UPDATE tally SET rejected_bytes = rejected_bytes + ?1", added)
    return (yield from _make_room(bytes_max))


def _rejected_row(fault: Fault, seen: Sequence[int]) -> tuple[Cell, ...]:
    return (
        fault.digest,
        min(seen),
        max(seen),
        fault.topic,
        fault.payload,
        fault.bytes_kept,
        fault.code,
        fault.requirement,
        fault.path,
        fault.detail,
        int(fault.partial),
        len(seen),
    )


def _make_room(bytes_max: int) -> Steps[int]:
    """Delete the oldest kept messages until the rest fits; return how many went."""
    [(total,)] = cast(list[tuple[int]], (yield from ask("SELECT rejected_bytes FROM tally")))
    gone = freed = 0
    while total - freed > bytes_max:
        oldest = cast(
            list[tuple[int, int]],
            (
                yield from ask(
                    "SELECT id, bytes FROM rejected ORDER BY last_received_at, id LIMIT ?1",
                    _OLDEST_AT_ONCE,
                )
            ),
        )
        if not oldest:
            break
        leaving: list[Cell] = []
        for reject_id, size in oldest:
            if total - freed <= bytes_max:
                break
            leaving.append(reject_id)
            freed += size
        gone += yield from change(REJECTED_GONE, leaving)
    if freed:
        yield from do("UPDATE tally SET rejected_bytes = rejected_bytes - ?1", freed)
    return gone


# --- totals --------------------------------------------------------------------------------------

TALLY_COLUMNS: Final = tuple(field.name for field in fields(Tally))
_ADD: Final = (
    "UPDATE tally SET "
    + ", ".join(f"{name} = {name} + ?{number}" for number, name in enumerate(TALLY_COLUMNS, 1))
    + f" WHERE kept_since IS NULL OR kept_since <= ?{len(TALLY_COLUMNS) + 1}"
)


def _count(tally: Tally, oldest_ms: int = NEWEST_MS) -> Steps[None]:
    """Add to the totals; raise BeyondRetentionError if what was stored is older than what is kept.

    In the statement that every commit ends with, and that lets one of them in at a time: whoever moves on what is
    kept comes before it, and is seen, or after it, and removes what this one has stored.
    """
    counts = (getattr(tally, name) for name in TALLY_COLUMNS)
    if (yield from do(_ADD, *counts, oldest_ms)) == 0:
        [(kept_since,)] = yield from ask("SELECT kept_since FROM tally")
        raise BeyondRetentionError(from_ms(cast(int, kept_since)))
