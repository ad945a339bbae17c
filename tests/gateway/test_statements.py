"""The daily statement: of whole days, once each, whatever ends the program in between."""

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from tests.gateway.clock_double import ClockDouble
from tests.gateway.outbox_samples import FEEDER, GATEWAY, event, telemetry
from tests.gateway.sip_world import POLE

from openami.gateway.database import schema_files
from openami.gateway.day_account import ENVELOPES_PER_STEP_MAX, Progress
from openami.gateway.driver import PollGroup
from openami.gateway.outbox import Outbox, OutboxLimits, open_outbox
from openami.gateway.statements import DAYS_BACK_MAX, GRACE, DayStatements, due_day, given_up
from openami.gateway.timekeeping import ClockSource
from openami.profile import MeterSerial, Quality, decode_envelope
from openami.sip.canonical import DOCUMENT_BYTES_MAX, read_document
from openami.sip.certificate import whole_statement
from openami.sip.statements import METERS_PER_PART_MAX, Statement, read_statement

DAY = date(2026, 7, 1)
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
MIDNIGHT = datetime(2026, 7, 2, tzinfo=UTC)
HOUR_S = 3600.0


class Gateway:
    """An outbox and who states its days, on a clock that obeys."""

    def __init__(self, outbox: Outbox, clock: ClockDouble) -> None:
        self.outbox = outbox
        self.clock = clock
        self.slept: list[float] = []
        self.states = DayStatements(
            outbox,
            POLE,
            feeder_id=FEEDER,
            gateway_id=GATEWAY,
            clock=clock,
            sleep=self._sleep,
        )

    async def _sleep(self, wait_s: float) -> None:
        self.slept.append(wait_s)

    async def statements(self) -> list[Statement]:
        """The statements in the outbox, oldest first."""
        return [read_statement(read_document(payload)) for payload in await self.payloads()]

    async def payloads(self) -> list[bytes]:
        """The same, as they will be published."""
        found = []
        for entry in reversed(await self.outbox.pending(10_000)):
            if b'"day_statement"' in entry.payload:
                envelope = decode_envelope(entry.payload)
                assert envelope.seq == entry.seq
                assert envelope.event is not None
                found.append(entry.payload)
        return found


@asynccontextmanager
async def running(
    database: Path, clock: ClockDouble, *, bytes_max: int = 256 * 1024 * 1024
) -> AsyncIterator[Gateway]:
    opening = open_outbox(
        database,
        OutboxLimits(bytes_max=bytes_max),
        clock,
        clock_source=ClockSource.NETWORK,
        boot_id="b",
    )
    async with opening as outbox:
        yield Gateway(outbox, clock)


def days(statements: Sequence[Statement]) -> list[str]:
    return [str(each.day) for each in statements]


async def test_a_day_is_stated_when_it_is_over_and_not_before(tmp_path: Path) -> None:
    clock = ClockDouble(NOON)
    async with running(tmp_path / "gateway.db", clock) as gateway:
        await gateway.states.look()
        for number in range(3):
            await gateway.outbox.append([telemetry(clock.now(), 1), telemetry(clock.now(), 2)])
            clock.advance(900 + number)
        clock.set(MIDNIGHT + GRACE - timedelta(seconds=1), synchronised=True)
        await gateway.states.look()
        assert not await gateway.statements()
        clock.advance(1)
        await gateway.states.look()
        (statement,) = await gateway.statements()
        assert (statement.day, statement.part, statement.parts) == (DAY, 1, 1)
        one, two = statement.meters
        assert [one.meter, two.meter] == ["DS1000-00001", "DS1000-00002"]
        assert (one.account.readings, one.thinned) == (6, 0)
        assert one.account.digest != two.account.digest
        assert one.account.first is not None
        assert one.account.first.value == 1842.5
        await gateway.states.look()
        clock.advance(3 * HOUR_S)
        await gateway.states.look()
        assert len(await gateway.statements()) == 1


async def test_every_day_once_over_restarts(tmp_path: Path) -> None:
    clock = ClockDouble(NOON)
    found: list[Statement] = []
    for _ in range(4 * 24):
        async with running(tmp_path / "gateway.db", clock) as gateway:
            await gateway.outbox.append([telemetry(clock.now(), boottime_s=clock.boottime())])
            await gateway.states.look()
            found = await gateway.statements()
        clock.advance(HOUR_S)
    assert days(found) == ["2026-07-01", "2026-07-02", "2026-07-03", "2026-07-04"]
    assert [each.meters[0].account.readings for each in found] == [24, 48, 48, 48]


async def test_what_ends_the_program_between_two_parts_makes_none_twice(tmp_path: Path) -> None:
    clock, meters = ClockDouble(NOON), 2 * METERS_PER_PART_MAX + 1
    database = tmp_path / "gateway.db"
    async with running(database, clock) as gateway:
        await gateway.states.look()
        await gateway.outbox.append([telemetry(clock.now(), meter) for meter in range(meters)])
    clock.set(MIDNIGHT + GRACE, synchronised=True)
    for made in (1, 2, 3):
        async with running(database, clock) as gateway:
            await gateway.outbox.append([])  # looks at the clock
            await refuse_parts_after(database, made)
            if made < 3:
                with pytest.raises(sqlite3.IntegrityError):
                    await gateway.states.look()
            else:
                await gateway.states.look()
            assert [each.part for each in await gateway.statements()] == [*range(1, made + 1)]
            # What comes late for a day that is half stated is too late, and disturbs nothing.
            await gateway.outbox.append([telemetry(NOON + timedelta(hours=1), 1)])
        clock.advance(60)
    async with running(database, clock) as gateway:
        await gateway.outbox.append([])
        await gateway.states.look()
        parts = whole_statement(await gateway.payloads())
    stated = [each for part in parts for each in part.meters]
    assert len({each.meter for each in stated}) == len(stated) == meters
    assert {each.account.readings for each in stated} == {2}


async def refuse_parts_after(database: Path, made: int) -> None:
    """Let the disk's own file refuse the transaction of a later part: nothing of it may stay."""
    with sqlite3.connect(database) as connection:
        connection.execute("DROP TRIGGER IF EXISTS cut")
        connection.execute(
            "CREATE TRIGGER cut BEFORE UPDATE OF parts_done ON day_progress"
            f" WHEN old.parts_done >= {made} BEGIN SELECT RAISE(ABORT, 'cut'); END"
        )
    connection.close()


async def test_the_largest_part_is_a_signed_document_that_is_read(tmp_path: Path) -> None:
    clock = ClockDouble(NOON)
    longest = "x" * 64
    async with running(tmp_path / "gateway.db", clock) as gateway:
        await gateway.states.look()
        drafts = [telemetry(clock.now(), meter) for meter in range(METERS_PER_PART_MAX)]
        await gateway.outbox.append(
            [
                msgspec.structs.replace(
                    draft,
                    envelope=msgspec.structs.replace(
                        draft.envelope, meter_serial=MeterSerial(f"{longest[:61]}{number:03}")
                    ),
                )
                for number, draft in enumerate(drafts)
            ]
        )
        clock.set(MIDNIGHT + GRACE, synchronised=True)
        await gateway.outbox.append([])
        await gateway.states.look()
        (payload,) = await gateway.payloads()
    # Numbers with all their digits and long ids of the feeder make it at most so much longer.
    longer = METERS_PER_PART_MAX * 2 * len("0000000000.0") + 6 * 64
    assert len(payload) + longer < DOCUMENT_BYTES_MAX


async def test_a_day_with_nothing_in_it_is_stated_too(tmp_path: Path) -> None:
    clock = ClockDouble(NOON)
    async with running(tmp_path / "gateway.db", clock) as gateway:
        await gateway.states.look()
        clock.advance(3 * 24 * HOUR_S)
        await gateway.states.look()
        found = await gateway.statements()
    assert days(found) == ["2026-07-01", "2026-07-02", "2026-07-03"]
    assert not any(each.meters for each in found)


async def test_after_a_long_time_in_a_drawer_only_the_last_days_are_stated(tmp_path: Path) -> None:
    clock = ClockDouble(NOON)
    async with running(tmp_path / "gateway.db", clock) as gateway:
        await gateway.states.look()
        clock.advance(400 * 24 * HOUR_S)
        await gateway.states.look()
        found = await gateway.statements()
    assert len(found) == DAYS_BACK_MAX
    assert found[-1].day == clock.now().date() - timedelta(days=1)


async def test_an_untrusted_clock_waits_and_what_it_measured_is_stated_at_its_true_time(
    tmp_path: Path,
) -> None:
    clock = ClockDouble(NOON)
    async with running(tmp_path / "gateway.db", clock) as gateway:
        await gateway.outbox.append([])
        await gateway.states.look()
        clock.set(datetime(1970, 1, 3, tzinfo=UTC), synchronised=False)
        await gateway.outbox.append([telemetry(clock.now(), boottime_s=clock.boottime())])
        assert (await gateway.outbox.state()).held == 1
        clock.advance(24 * HOUR_S)
        await gateway.outbox.append([])
        await gateway.states.look()
        assert not await gateway.statements()
        clock.set(MIDNIGHT + timedelta(hours=12), synchronised=True)
        await gateway.outbox.append([telemetry(clock.now(), boottime_s=clock.boottime())])
        await gateway.states.look()
        (statement,) = await gateway.statements()
    assert statement.day == DAY
    assert statement.meters[0].account.readings == 2


async def test_a_moment_told_twice_is_counted_once_and_silence_not_at_all(tmp_path: Path) -> None:
    clock = ClockDouble(NOON)
    async with running(tmp_path / "gateway.db", clock) as gateway:
        await gateway.states.look()
        again = telemetry(NOON, 1)
        lost = telemetry(NOON - timedelta(minutes=1), 1, quality=Quality.COMMS_LOST)
        await gateway.outbox.append([again, again, event(NOON, 1), lost])
        await gateway.states.look()
        await gateway.outbox.append([again])
        clock.set(MIDNIGHT + GRACE, synchronised=True)
        await gateway.outbox.append([])
        await gateway.states.look()
        (statement,) = await gateway.statements()
    assert statement.meters[0].account.readings == 2


async def test_what_was_thinned_is_counted_and_told(tmp_path: Path) -> None:
    clock = ClockDouble(NOON)
    async with running(tmp_path / "gateway.db", clock, bytes_max=1024 * 1024) as gateway:
        await gateway.states.look()
        cycles = 0
        while not (await gateway.outbox.state()).thinned:
            drafts = [telemetry(clock.now(), m, PollGroup.FAST) for m in range(50)]
            await gateway.outbox.append(drafts)
            await gateway.states.look()
            clock.advance(60)
            cycles += 1
        (thinned,) = (await gateway.outbox.state()).thinned.values()
        clock.set(MIDNIGHT + GRACE, synchronised=True)
        await gateway.outbox.append([])
        await gateway.states.look()
        parts = await gateway.statements()
    stated = [each for part in parts for each in part.meters]
    assert sum(each.thinned for each in stated) == thinned.entries
    assert {each.account.readings for each in stated} == {2 * cycles}


async def test_what_nobody_could_read_is_not_counted_and_stops_nothing(tmp_path: Path) -> None:
    clock, database = ClockDouble(NOON), tmp_path / "gateway.db"
    async with running(database, clock) as gateway:
        await gateway.states.look()
        await gateway.outbox.append([telemetry(NOON, 1), telemetry(NOON, 2)])
        with sqlite3.connect(database) as connection:
            connection.execute("UPDATE outbox_payload SET payload = x'7b7d' WHERE seq = 1")
        connection.close()
        clock.set(MIDNIGHT + GRACE, synchronised=True)
        await gateway.outbox.append([])
        await gateway.states.look()
        (statement,) = await gateway.statements()
    assert [stated.meter for stated in statement.meters] == ["DS1000-00002"]


async def test_counting_leaves_the_database_to_others_between_its_steps(tmp_path: Path) -> None:
    clock = ClockDouble(NOON)
    async with running(tmp_path / "gateway.db", clock) as gateway:
        await gateway.states.look()
        steps = 4
        for _ in range(steps):
            await gateway.outbox.append(
                [telemetry(clock.now(), meter) for meter in range(ENVELOPES_PER_STEP_MAX)]
            )
            clock.advance(60)
        await gateway.states.look()
        assert len(gateway.slept) == steps


async def test_an_outbox_from_before_begins_with_the_next_whole_day(tmp_path: Path) -> None:
    database, clock = tmp_path / "gateway.db", ClockDouble(NOON)
    older = {number: script for number, script in schema_files().items() if number < 4}
    with sqlite3.connect(database) as connection:
        for number, script in older.items():
            connection.executescript(f"{script}; PRAGMA user_version = {number};")
        connection.execute("UPDATE outbox_progress SET last_seq = 17")
    connection.close()
    async with running(database, clock) as gateway:
        await gateway.outbox.append([telemetry(clock.now())])
        await gateway.states.look()
        clock.advance(24 * HOUR_S)
        await gateway.outbox.append([telemetry(clock.now())])
        await gateway.states.look()
        assert not await gateway.statements()
        clock.advance(24 * HOUR_S)
        await gateway.outbox.append([])
        await gateway.states.look()
        (statement,) = await gateway.statements()
    assert (str(statement.day), statement.meters[0].account.readings) == ("2026-07-02", 2)


def test_due_when_the_grace_is_over() -> None:
    known = Progress(DAY - timedelta(days=1), 0)
    assert due_day(known, MIDNIGHT + GRACE - timedelta(microseconds=1)) is None
    assert due_day(known, MIDNIGHT + GRACE) == DAY


def test_given_up_when_too_long_ago() -> None:
    today = DAY + timedelta(days=DAYS_BACK_MAX + 1)
    now = datetime(today.year, today.month, today.day, tzinfo=UTC)
    assert given_up(Progress(DAY, 0), now) is None
    assert given_up(Progress(DAY, 0), now + timedelta(days=1)) == DAY + timedelta(days=1)
