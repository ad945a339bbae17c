"""Closed months, asked of both engines: told as before they were closed, whatever came late or was killed."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
from tests.headend.decisions import (
    ENERGY,
    FEEDER,
    GATEWAY,
    METER,
    POWER,
    RELAY,
    accepted,
    readings,
    register,
)
from tests.headend.new_store import new_store
from tests.headend.test_store_contract import VALUES

from openami.headend.ingest import Accepted
from openami.headend.periods import Step
from openami.headend.store import closing
from openami.headend.store.closed import (
    ClosedDamaged,
    ended_before,
    month_around,
    span_to_write,
)
from openami.headend.store.closed_reading import asked
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.identity import BUCKET_MS, from_ms, place, to_ms
from openami.headend.store.open import open_store
from openami.headend.store.steps import Steps, ask, do
from openami.profile import Quality

QUARTER, HOUR, DAY = timedelta(minutes=15), timedelta(hours=1), timedelta(days=1)
APRIL, MAY, JUNE = (datetime(2026, month, 1, tzinfo=UTC) for month in (4, 5, 6))
NOW = datetime(2026, 7, 20, 8, tzinfo=UTC)

T = TypeVar("T")


async def close_all(store: HeadEndStore, *, now: datetime = NOW) -> int:
    """Close everything that ended a month and a half ago; return how many readings left the live table."""
    left = 0
    while await store.make_due(now - timedelta(days=45)) or await store.closing_due():
        for due in await store.closing_due():
            left += await store.close_month(due, now)
    return left


def hourly(meter: str, begin: datetime, hours: int, step: int = 1) -> list[Accepted]:
    """Return a meter's hours, or every so manyth: an energy that grows, a power, and a word."""
    return [
        accepted(
            register(round(100 + n / 10, 1)),
            register(0.25 + n % 7, POWER, unit="kW"),
            register("connected" if n % 50 else "disconnected", RELAY, unit="enum"),
            ts=begin + n * HOUR,
            meter=meter,
        )
        for n in range(0, hours, step)
    ]


async def everything(store: HeadEndStore) -> dict[object, Any]:
    """Return what a store answers to whoever asks for readings."""
    meters = [row.meter_serial for row in await store.meters()]
    said: dict[object, Any] = {"meters": await store.meters(), "totals": await store.totals()}
    for meter in meters:
        said[meter] = await readings(store, meter)
        said[meter, "energy"] = await readings(store, meter, obis=ENERGY)
        since, until = APRIL + 10 * DAY + QUARTER, JUNE + 2 * DAY
        said[meter, "within"] = await readings(store, meter, since=since, until=until)
        said[meter, "latest"] = await store.latest(FEEDER, meter)
        said[meter, "conflicts"] = await store.conflicts(FEEDER, meter)
        for step_s in (3600, 86_400):
            chart = await store.chart(
                FEEDER, meter, POWER, JUNE - 20 * DAY, JUNE + 20 * DAY, step_s
            )
            said[meter, "chart", step_s] = [
                replace(point, mean=round(point.mean, 9)) for point in chart
            ]
        said[meter, "days"] = await store.energy(
            FEEDER, APRIL, JUNE + 10 * DAY, Step.DAY, meter_serial=meter
        )
    for day in (APRIL + 3 * DAY, APRIL + 29 * DAY, MAY + 8 * DAY, MAY + 30 * DAY):
        said["arrivals", day] = await store.arrivals(FEEDER, GATEWAY, day, day + DAY)
    return said


@pytest.fixture
async def open_one(tmp_path: Path) -> AsyncIterator[HeadEndStore]:
    """A store that is never closed: what the other one has to go on saying."""
    async with open_store(new_store(tmp_path / "never-closed.db")) as opened:
        yield opened


async def live_rows(store: HeadEndStore) -> int:
    [(count,)] = await store._rows("SELECT count(*) FROM reading")  # type: ignore[attr-defined]
    return int(count)


# --- what is told --------------------------------------------------------------------------------


async def test_a_closed_month_is_told_as_before(store: HeadEndStore) -> None:
    for meter in ("M-1", "M-2"):
        await store.commit(hourly(meter, APRIL - 3 * DAY, 24 * 80, 4))
    before = await everything(store)
    rows = await live_rows(store)
    left = await close_all(store)
    totals = await store.closed_totals()
    assert left == totals.readings == rows - await live_rows(store) > 2_000
    assert (totals.files, totals.due) == (2 * 3, 0)
    assert await everything(store) == before
    assert await close_all(store) == 0


async def test_every_value_comes_back_in_its_type(store: HeadEndStore) -> None:
    for n, value in enumerate(VALUES):
        unit = "kWh" if n % 3 else "m³"
        quality = list(Quality)[n % 3]
        late = APRIL + n * HOUR + n * DAY
        await store.commit(
            [
                accepted(
                    register(value, unit=unit, quality=quality),
                    ts=APRIL + n * timedelta(seconds=1, milliseconds=37),
                    received_at=late,
                )
            ]
        )
    await store.commit([accepted(register(1.5), ts=JUNE)])
    before = await readings(store)
    assert await close_all(store) == len(VALUES)
    after = await readings(store)
    assert after == before
    assert [repr(r.value) for r in after] == [repr(r.value) for r in before]


async def test_what_a_person_still_compares_stays(store: HeadEndStore) -> None:
    await store.commit(hourly(METER, APRIL, 3))
    await store.commit([accepted(register(7.7), ts=APRIL)])
    await store.commit(hourly("silent", APRIL, 1))
    before = await everything(store)
    assert await close_all(store) == 3 * 3 - 1 - 3
    assert await everything(store) == before
    assert len(await store.conflicts(FEEDER, METER)) == 1
    assert len(await store.latest(FEEDER, "silent")) == 3


async def test_many_readings_are_closed_as_several_files(
    store: HeadEndStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "READINGS_PER_FILE_MAX", 60)  # 32,768 in life
    await store.commit(hourly(METER, APRIL, 24 * 50, 3))
    before = await everything(store)
    await close_all(store)
    files = [each for each in await store.closed_files() if each.month == "2026-04"]
    first, last = month_around(place(to_ms(APRIL))[0])
    edges = [(each.first_bucket, each.last_bucket) for each in files]
    assert len(files) > 5
    assert all(each.readings < 150 for each in files)
    assert (edges[0][0], edges[-1][1]) == (first, last)
    assert all(one[1] + 1 == other[0] for one, other in pairwise(edges))
    assert await everything(store) == before
    # As many again, late: what becomes too much is cut in two.
    late = [accepted(register(9.5, POWER), ts=APRIL + n * HOUR / 8) for n in range(1, 24 * 8, 2)]
    await store.commit(late)
    told = await readings(store)
    await close_all(store)
    assert await readings(store) == told
    assert len(await store.closed_files()) > len(files) + 1


async def test_a_bucket_is_never_cut(store: HeadEndStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "READINGS_PER_FILE_MAX", 5)
    await store.commit([*hourly(METER, APRIL + 10 * HOUR, 12), *hourly(METER, JUNE, 1)])
    before = await readings(store)
    await close_all(store)
    files = await store.closed_files()
    assert [each.readings for each in files] == [12, 12, 12]
    assert await readings(store) == before


# --- what comes late -----------------------------------------------------------------------------


async def test_late_readings_are_judged_like_any_other(store: HeadEndStore) -> None:
    await store.commit([*hourly(METER, APRIL, 48), *hourly(METER, JUNE, 2)])
    await close_all(store)
    again = await store.commit(hourly(METER, APRIL, 48))
    assert (again.stored, again.duplicates, again.conflicts) == (0, 48 * 3, 0)
    another = await store.commit([accepted(register(1.25), ts=APRIL + HOUR)])
    assert (another.stored, another.conflicts) == (0, 1)
    new = await store.commit([accepted(register(100.05), ts=APRIL + HOUR / 2)])
    assert (new.stored, new.duplicates, new.conflicts) == (1, 0, 0)
    worse = accepted(register(100.2, quality=Quality.SUSPECT), ts=APRIL + 2 * HOUR)
    assert (await store.commit([worse])).duplicates == 1
    told = await readings(store)
    assert len(told) == 50 * 3 + 1
    assert [r.quality for r in told if r.ts == APRIL + 2 * HOUR and r.obis == ENERGY] == ["suspect"]
    [conflict] = await store.conflicts(FEEDER, METER)
    assert (conflict.kept.value, conflict.other.value) == (100.1, 1.25)
    assert await close_all(store) > 0
    assert await readings(store) == told
    # What is live beside the file: two latest registers are of June; one has a conflict.
    assert await live_rows(store) == 2 * 3 + 1


@pytest.mark.parametrize("seed", range(2))
async def test_closing_changes_no_answer(
    store: HeadEndStore, open_one: HeadEndStore, seed: int
) -> None:
    """A store that is closed again and again tells what one tells that never is."""
    dice = random.Random(seed)
    qualities = list(Quality)
    for _ in range(12):
        batch = []
        for _ in range(60):
            obis, unit = dice.choice([(ENERGY, "kWh"), (POWER, "kW"), (RELAY, "enum")])
            value = dice.choice(["on", "off"]) if obis == RELAY else float(dice.randrange(12))
            told = register(value, obis, unit=unit, quality=dice.choice(qualities))
            ts = dice.choice([APRIL, MAY, JUNE]) + dice.randrange(300) * HOUR
            lag = dice.choice([timedelta(seconds=2), 40 * DAY])
            meter = dice.choice(["M-1", "M-2"])
            batch.append(accepted(told, ts=ts, meter=meter, received_at=ts + lag))
        assert await store.commit(batch) == await open_one.commit(batch)
        if dice.random() < 0.5:
            await store.fold_energy()
            await open_one.fold_energy()
        if dice.random() < 0.4:
            await close_all(store)
    assert await everything(store) == await everything(open_one)
    await close_all(store)
    assert await everything(store) == await everything(open_one)
    assert (await store.closed_totals()).readings > 300


# --- killed --------------------------------------------------------------------------------------


def in_a_child(work: Callable[[], Any]) -> int:
    """Run work in a process that may kill itself; return how it ended."""
    child = os.fork()
    if not child:
        work()
        os._exit(0)
    return os.waitpid(child, 0)[1]


def killed_at(step: int, steps: Steps[T]) -> Steps[T]:
    """Carry out steps, and be killed before the one with this number."""
    answer: Any = None
    number = 0
    while True:
        if number == step:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            wanted = next(steps) if number == 0 else steps.send(answer)
        except StopIteration as end:
            done: T = end.value
            return done
        answer = yield wanted
        number += 1


def test_killed_at_every_step_nothing_is_lost_or_doubled(store_url: str) -> None:
    late = [accepted(register(3.5, POWER), ts=APRIL + 5 * HOUR + QUARTER)]

    async def filled() -> dict[object, Any]:
        async with open_store(store_url) as store:
            await store.commit([*hourly(METER, APRIL, 40), *hourly(METER, JUNE, 1)])
            await close_all(store)
            await store.commit(late)
            return await everything(store)

    async def closed(step: int) -> None:
        async with open_store(store_url) as store:
            [due] = await store.closing_due()
            found = await asked(store._rows, closing.find(due))  # type: ignore[attr-defined]
            files = closing.files_of(found)
            await store._write(  # type: ignore[attr-defined]
                lambda: killed_at(step, closing.close_month(found, files, NOW))
            )

    async def found() -> tuple[dict[object, Any], int, int]:
        async with open_store(store_url) as store:
            totals = await store.closed_totals()
            return await everything(store), totals.due, totals.readings

    before = asyncio.run(filled())
    step, ended = 0, 1
    while ended:
        ended = in_a_child(lambda: asyncio.run(closed(step)))  # noqa: B023 – run at once
        told, due, files_hold = asyncio.run(found())
        assert told == before
        assert (due, files_hold) == ((1, 40 * 3) if ended else (0, 40 * 3 + 1))
        step += 1
    assert step == 9  # eight statements, and then none


# --- damage --------------------------------------------------------------------------------------


async def test_a_damaged_file_is_said_and_stops_nothing_else(store: HeadEndStore) -> None:
    for meter in ("M-1", "M-2"):
        await store.commit([*hourly(meter, APRIL, 24), *hourly(meter, JUNE, 1)])
    await close_all(store)
    [spoilt, sound] = await store.closed_files()
    await store._write(lambda: spoil("M-1"))  # type: ignore[attr-defined]
    with pytest.raises(ClosedDamaged, match="feeder-1 M-1 from 2026-04-01 on are damaged") as told:
        await readings(store, "M-1")
    assert "backup" in told.value.remedy
    with pytest.raises(ClosedDamaged):
        await store.closed_content(spoilt)
    assert len(await store.closed_content(sound)) == sound.bytes
    assert len(await readings(store, "M-2")) == 25 * 3
    assert len(await readings(store, "M-1", since=MAY)) == 3
    # What comes for it is kept, and waits.
    late = [accepted(register(5.5, POWER), ts=APRIL + QUARTER, meter=m) for m in ("M-1", "M-2")]
    assert (await store.commit(late)).stored == 2
    first, second = await store.closing_due()
    with pytest.raises(ClosedDamaged):
        await store.close_month(first, NOW)
    assert await store.close_month(second, NOW) == 1
    assert [due.meter_serial for due in await store.closing_due()] == ["M-1"]


def spoil(meter: str) -> Steps[None]:
    """Change a byte of a meter's first file."""
    [first, *_] = cast(
        Any,
        (
            yield from ask(
                "SELECT sha256, content FROM closed WHERE meter_serial = ?1 ORDER BY first_bucket",
                meter,
            )
        ),
    )
    spoilt = bytes(first[1])[:-9] + b"?" + bytes(first[1])[-8:]
    yield from do("UPDATE closed SET content = ?2 WHERE sha256 = ?1", first[0], spoilt)


# --- months --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "moment", [APRIL, APRIL + 29 * DAY, MAY - timedelta(hours=2, milliseconds=1)]
)
def test_a_bucket_lies_in_one_month(moment: datetime) -> None:
    first, last = month_around(place(to_ms(moment))[0])
    assert (from_ms(first * BUCKET_MS), from_ms((last + 1) * BUCKET_MS)) == (APRIL, MAY)


def test_a_month_has_ended_when_its_last_bucket_has() -> None:
    last_of_april = month_around(place(to_ms(APRIL))[0])[1]
    ends = MAY - timedelta(hours=2)
    assert ended_before(ends) == last_of_april
    assert ended_before(ends - timedelta(milliseconds=1)) < last_of_april


def test_files_leave_no_time_of_a_closed_month_out() -> None:
    first, last = month_around(place(to_ms(MAY))[0])
    assert span_to_write(first + 9, []) == ((first, last), False)
    assert span_to_write(first + 9, [(first, first + 9)]) == ((first, first + 9), True)
    taken = [(first, first + 5), (first + 20, last)]
    assert span_to_write(first + 9, taken) == ((first + 6, first + 19), False)
