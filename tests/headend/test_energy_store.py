"""Energy as the store tells it, asked of both engines: exact at once, whatever came when and was folded when."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from tests.headend.decisions import FEEDER, NOON, accepted, register

from openami.headend.consumption import DAY_MS, BreakKind, DayFold, Known, Sample, fold_day
from openami.headend.ingest import Accepted
from openami.headend.periods import Grid, Step, boundaries, course
from openami.headend.store import Access, StoreError, energy_ledger
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.energy import FEEDER_DAYS_MAX
from openami.headend.store.identity import to_ms
from openami.headend.store.open import open_store
from openami.headend.store.postgres_steps import statement
from openami.profile import Obis, Quality

MIDNIGHT = datetime(2026, 6, 22, tzinfo=UTC)
KOLKATA = ZoneInfo("Asia/Kolkata")
QUARTER, HOUR, DAY = timedelta(minutes=15), timedelta(hours=1), timedelta(days=1)
CREDIT, VOLTAGE = Obis.parse("96.8.0"), Obis.parse("32.7.0")


def told(meter: str, ts: datetime, kwh: float, quality: Quality = Quality.GOOD) -> Accepted:
    return accepted(register(kwh, quality=quality), ts=ts, meter=meter)


def quarters(meter: str, begin: datetime, count: int, *, start: float = 100.0) -> list[Accepted]:
    return [told(meter, begin + n * QUARTER, start + n / 10) for n in range(count)]


async def fold(store: HeadEndStore) -> int:
    count = 0
    while folded := await store.fold_energy():
        count += folded
    return count


async def by_meter(
    store: HeadEndStore, since: datetime, until: datetime, step: Step = Step.DAY, zone: object = UTC
) -> dict[str, tuple[int | None, ...]]:
    rows = await store.energy(FEEDER, since, until, step, zone=zone)  # type: ignore[arg-type]
    return {row.meter_serial: row.wh for row in rows}


@pytest.mark.parametrize("folded", [False, True])
async def test_a_day_is_told_whether_it_was_folded_or_not(
    store: HeadEndStore, folded: bool
) -> None:
    await store.commit(quarters("M-1", MIDNIGHT, 97) + quarters("M-2", MIDNIGHT + HOUR, 93))
    if folded:
        assert await fold(store) == 4
    assert await by_meter(store, MIDNIGHT, MIDNIGHT + DAY) == {"M-1": (9600,), "M-2": (9200,)}
    [first, second] = await store.energy(FEEDER, MIDNIGHT, MIDNIGHT + DAY, Step.DAY)
    assert (first.known, second.known) == ((Known.MEASURED,), (Known.AT_LEAST,))
    assert (first.readings, first.first_at, first.last_at) == (96, MIDNIGHT, MIDNIGHT + DAY)


async def test_late_data_changes_what_was_folded(store: HeadEndStore) -> None:
    late = quarters("M-1", MIDNIGHT, 97)
    await store.commit(late[:20] + late[60:])
    await fold(store)
    [before] = await store.energy(FEEDER, MIDNIGHT, MIDNIGHT + DAY, Step.HOUR)
    await store.commit(late[20:60])
    [after] = await store.energy(FEEDER, MIDNIGHT, MIDNIGHT + DAY, Step.HOUR)
    assert before.total_wh == after.total_wh == 9600
    assert Known.SPREAD in before.known
    assert set(after.known) == {Known.MEASURED}
    await fold(store)
    assert await store.energy(FEEDER, MIDNIGHT, MIDNIGHT + DAY, Step.HOUR) == [after]


async def test_any_order_of_arrival_and_folding_gives_the_same(
    store: HeadEndStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the pure account of everything, after each of several commits and folds in disorder."""
    dice = random.Random(5)
    samples: dict[str, list[Sample]] = {}
    waiting = []
    for meter in ("M-1", "M-2", "M-3"):
        wh = dice.randrange(10**7)
        for n in range(200):
            ts = MIDNIGHT + n * HOUR / 2 + timedelta(seconds=dice.randrange(600))
            wh = dice.randrange(300) if dice.random() < 0.01 else wh + dice.randrange(400)
            quality = Quality.SUSPECT if dice.random() < 0.05 else Quality.GOOD
            waiting.append(
                (
                    told(meter, ts, wh / 1000, quality),
                    Sample(to_ms(ts), wh, quality is not Quality.GOOD),
                )
            )
    dice.shuffle(waiting)
    edges = boundaries(MIDNIGHT - DAY, MIDNIGHT + 6 * DAY, Step.HOUR, KOLKATA)
    edges_ms = [to_ms(edge) for edge in edges]
    while waiting:
        some = [waiting.pop() for _ in range(min(len(waiting), 150))]
        await store.commit([message for message, _ in some])
        for message, sample in some:
            samples.setdefault(message.envelope.meter_serial, []).append(sample)
        await store.fold_energy(dice.randrange(1, 6))
        rows = await store.energy(FEEDER, edges[0], edges[-1], Step.HOUR, zone=KOLKATA)
        for row in rows:
            pure = course(Grid(edges_ms), _folds(samples[row.meter_serial]))
            assert (row.wh, row.known, row.breaks) == (pure.wh, pure.known, pure.breaks)
        assert len(rows) == len(samples)


def _folds(samples: Sequence[Sample]) -> list[DayFold]:
    days: dict[int, list[Sample]] = {}
    for sample in samples:
        days.setdefault(sample.ms // DAY_MS, []).append(sample)
    return [fold_day(day, each) for day, each in sorted(days.items())]


async def test_a_silent_meters_repeated_value_is_no_measurement(store: HeadEndStore) -> None:
    await store.commit([
        told("M-1", MIDNIGHT, 10.0),
        told("M-1", MIDNIGHT + HOUR, 10.0, Quality.COMMS_LOST),
        told("M-1", MIDNIGHT + 2 * HOUR, 14.0),
    ])  # fmt: skip
    [row] = await store.energy(FEEDER, MIDNIGHT, MIDNIGHT + 2 * HOUR, Step.HOUR)
    assert row.wh == (2000, 2000)
    assert set(row.known) == {Known.SPREAD}
    assert row.readings == 2


async def test_a_reset_is_named(store: HeadEndStore) -> None:
    await store.commit([
        told("M-1", MIDNIGHT, 500.0),
        told("M-1", MIDNIGHT + QUARTER, 0.2),
        told("M-1", MIDNIGHT + HOUR, 0.5),
    ])  # fmt: skip
    await fold(store)
    [row] = await store.energy(FEEDER, MIDNIGHT, MIDNIGHT + HOUR, Step.HOUR)
    assert [(each.kind, each.counted_wh) for each in row.breaks] == [(BreakKind.RESET, 200)]
    assert (row.wh, row.known) == ((500,), (Known.AT_LEAST,))


async def test_other_registers_are_not_energy(store: HeadEndStore) -> None:
    await store.commit([accepted(register(5.0, CREDIT), register(231.0, VOLTAGE, unit="V"))])
    assert await store.fold_energy() == 0
    assert await store.energy(FEEDER, NOON, NOON, Step.DAY, obis=VOLTAGE) == []


async def test_today_is_the_whole_feeder_at_once(store: HeadEndStore) -> None:
    await store.commit(quarters("M-1", MIDNIGHT - DAY, 150) + quarters("M-2", MIDNIGHT - HOUR, 6))
    await store.commit([
        accepted(register(4.2, CREDIT), ts=MIDNIGHT, meter="M-1"),
        accepted(register("connected", Obis.parse("96.11.1"), unit="enum"), ts=MIDNIGHT, meter="M-3"),
    ])  # fmt: skip
    one, two, three = await store.today(FEEDER, MIDNIGHT)
    assert (one.wh, one.known, one.start_wh) == (5300, Known.MEASURED, 109_600)
    assert (two.wh, two.known, two.start_wh) == (100, Known.AT_LEAST, 100_400)
    assert (three.wh, three.start_wh) == (None, None)
    assert one.latest[CREDIT].value == 4.2
    assert [row.meter.meter_serial for row in (one, two, three)] == ["M-1", "M-2", "M-3"]


async def test_a_chart_of_any_register(store: HeadEndStore) -> None:
    volts = [230.0, 232.0, 180.0, 231.0]
    await store.commit([
        accepted(
            register(volt, VOLTAGE, unit="V", quality=Quality.SUSPECT if volt < 200 else Quality.GOOD),
            ts=MIDNIGHT + n * QUARTER,
            received_at=MIDNIGHT + n * QUARTER + (HOUR if n == 3 else QUARTER),
        )
        for n, volt in enumerate(volts)
    ])  # fmt: skip
    first, second = await store.chart(FEEDER, "M-1", VOLTAGE, MIDNIGHT, MIDNIGHT + HOUR, 1800)
    assert (first.count, first.least, first.mean, first.greatest) == (2, 230.0, 231.0, 232.0)
    assert (second.suspect, second.late, second.lost, second.least) == (1, 1, 0, 180.0)
    assert (second.begin, second.last_at) == (MIDNIGHT + 2 * QUARTER, MIDNIGHT + 3 * QUARTER)


async def test_too_much_is_refused(store: HeadEndStore) -> None:
    with pytest.raises(ValueError, match="at most"):
        await store.energy(FEEDER, NOON, NOON + (FEEDER_DAYS_MAX + 1) * DAY, Step.DAY)
    with pytest.raises(ValueError, match="at most"):
        await store.energy(FEEDER, NOON, NOON + 60 * DAY, Step.QUARTER)
    with pytest.raises(ValueError, match="1 to 2400 steps"):
        await store.chart(FEEDER, "M-1", VOLTAGE, NOON, NOON + 60 * DAY, 1)


async def test_what_is_still_being_put_together_is_not_told_wrong(
    store: HeadEndStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(energy_ledger, "FOLDS_FOR_AN_ANSWER_MAX", 1)  # 2,000 in life
    await store.commit(quarters("M-1", MIDNIGHT, 97))
    with pytest.raises(StoreError, match="still being put together") as refused:
        await by_meter(store, MIDNIGHT, MIDNIGHT + DAY)
    assert not refused.value.permanent
    await fold(store)
    assert await by_meter(store, MIDNIGHT, MIDNIGHT + DAY) == {"M-1": (9600,)}


async def test_what_a_command_beside_the_head_end_writes_is_due_again(store_url: str) -> None:
    """The head-end remembers which days are due; another process does not know what it has folded since."""
    day = quarters("M-1", MIDNIGHT, 96)
    async with open_store(store_url) as owner:
        async with open_store(store_url, Access.EDIT) as beside:
            await beside.commit(day[:10])
            await fold(owner)
            await beside.commit(day[10:])
            assert await fold(owner) == 1
        assert await by_meter(owner, MIDNIGHT, MIDNIGHT + DAY) == {"M-1": (9500,)}


@pytest.mark.postgres
async def test_a_month_of_a_feeder_is_found_by_key(empty_database: str) -> None:
    """Of a year's folded days only the month's are read, and each meter's neighbours are looked for once."""
    meters, days = 60, 400
    async with open_store(empty_database) as store:
        await store.commit([told(f"M-{n}", MIDNIGHT, 1.0) for n in range(meters)])
    connection = await asyncpg.connect(
        empty_database, server_settings={"search_path": "openami", "jit": "off"}
    )
    try:
        await connection.execute(
            "INSERT INTO energy_day (series, day, readings, suspect, first_ms, counted) "
            "SELECT s.id, d, 96, 0, 0, decode(repeat('00', 194), 'hex') "
            f"FROM series s CROSS JOIN generate_series(20000, {20000 + days - 1}) d"
        )
        await connection.execute("ANALYZE energy_day, series")
        rows = await connection.fetch(
            f"EXPLAIN (ANALYZE, TIMING OFF) {statement(energy_ledger.DAYS)}",
            *(FEEDER, "1.8.0", "", 20300, 20330),
        )
    finally:
        await connection.close()
    plan = "\n".join(row[0] for row in rows)
    assert "Seq Scan on energy_day" not in plan, plan
    assert "using energy_day_pkey on energy_day e" in plan, plan
    assert f"loops={meters * 31}" not in plan, plan
