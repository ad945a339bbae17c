"""Old readings go where the operator says so, on both engines; what must remain does, and nothing is asked for."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs
from tests.headend.decisions import (
    ENERGY,
    FEEDER,
    GATEWAY,
    METER,
    POWER,
    accepted,
    readings,
    register,
)
from tests.headend.messages import EXAMPLE, message, payload
from tests.headend.village_keys import ROOTS, signer

from openami.cli.headend_retention import retention
from openami.cli.report import Exit
from openami.clock import SystemClock
from openami.headend import duties
from openami.headend.accounting import day_accounts
from openami.headend.audit import Entry
from openami.headend.closing import Closing
from openami.headend.day_certificates import compose
from openami.headend.ingest import Accepted
from openami.headend.intake import Intake
from openami.headend.periods import Step
from openami.headend.replay import replay
from openami.headend.retention import Retention
from openami.headend.statistics import Statistics
from openami.headend.store import Access, BeyondRetentionError, StoreError, retention_ledger
from openami.headend.store.closed import AFTER_DAYS_MIN
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.months import FIRST_BUCKET, buckets_of, midnight_of, month_of
from openami.headend.store.open import open_store
from openami.profile import Code, shipped_catalogue
from openami.sip.certificate import CertificateError, CertificateFault

NOW = datetime(2026, 6, 22, 12, tzinfo=UTC)
KEEP = 3
SINCE = datetime(2026, 3, 1, tzinfo=UTC)
OLD = datetime(2025, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
GONE = "M-gone"


class At:
    """A clock that stands."""

    def __init__(self, now: datetime = NOW) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def boottime(self) -> float:
        return 0.0

    def synchronised(self) -> bool:
        return True


def kept_months(store: HeadEndStore, now: datetime = NOW) -> Retention:
    return Retention(store, clock=At(now), keep_months=KEEP, share=1.0)


def of_months(first: datetime, last: datetime, meter: str = METER) -> list[Accepted]:
    """A reading of energy and of power each fifth day, at noon and just before midnight."""
    days = (last - first) // timedelta(days=5) + 1
    moments = (
        first + timedelta(days=5 * n, hours=hours) for n in range(days) for hours in (0, 11.9)
    )
    return [
        accepted(register(1000.0 + n), register(230.5, POWER, unit="W"), ts=ts, meter=meter)
        for n, ts in enumerate(moments)
    ]


async def fill(store: HeadEndStore) -> None:
    """Eight months of one meter, the first of them of another that is silent since."""
    await store.commit(of_months(OLD, NOW))
    await store.commit(of_months(OLD, OLD + timedelta(days=20), meter=GONE))
    await folded(store)


async def folded(store: HeadEndStore) -> None:
    while await store.fold_energy():
        pass


async def energy_of(store: HeadEndStore, meter: str) -> Sequence[object]:
    until = NOW + timedelta(days=1)
    return await store.energy(
        FEEDER, until - timedelta(days=300), until, Step.DAY, meter_serial=meter
    )


async def test_closed_months_go_as_open_ones_do(store: HeadEndStore) -> None:
    await fill(store)
    latest = [await store.latest(FEEDER, meter) for meter in (METER, GONE)]
    told = await readings(store)
    await Closing(store, At(), after_days=AFTER_DAYS_MIN).pass_over()
    assert (await store.closed_totals()).files > KEEP
    first, last = FIRST_BUCKET, buckets_of(month_of(SINCE)).start - 1
    old = [each for meter in (METER, GONE) for each in await readings(store, meter)]
    old = [each for each in old if each.ts < SINCE - 2 * HOUR]
    assert await store.readings_in(first, last) == len(old)

    assert await kept_months(store).remove()
    assert await store.kept_since() == SINCE
    assert await readings(store) == [each for each in told if each.ts >= SINCE - 2 * HOUR]
    assert await readings(store, GONE) == []
    assert await store.readings_in(first, last) == 0
    assert {file.month for file in await store.closed_files()} == {"2026-03", "2026-04"}
    assert [await store.latest(FEEDER, meter) for meter in (METER, GONE)] == latest


async def test_old_months_go_and_what_must_remain_does(store: HeadEndStore) -> None:
    await fill(store)
    conflicting = accepted(register(7.0), ts=OLD)
    assert (await store.commit([conflicting])).conflicts == 1
    await folded(store)
    energy = [await energy_of(store, meter) for meter in (METER, GONE)]
    latest = [await store.latest(FEEDER, meter) for meter in (METER, GONE)]
    told = await readings(store)
    meters = await store.meters()

    gone = await kept_months(store).remove()
    assert gone.conflicts == 1
    assert await store.kept_since() == SINCE
    # A bucket is the four hours around its moment: the last two of February go with March.
    left = [each for each in told if each.ts >= SINCE - 2 * HOUR]
    assert await readings(store) == left
    assert left[0].ts < SINCE < left[-1].ts
    assert [each.ts for each in left if each.ts < SINCE]
    assert await readings(store, GONE) == []
    assert await store.conflicts(FEEDER, METER) == []
    assert [await energy_of(store, meter) for meter in (METER, GONE)] == energy
    assert [await store.latest(FEEDER, meter) for meter in (METER, GONE)] == latest
    assert await store.meters() == meters
    assert (await store.findings(meter_serial=METER))[0].code == "CONFLICT"
    today = await store.today(FEEDER, NOW.replace(hour=0))
    assert [each.meter.meter_serial for each in today if ENERGY in each.latest] == [METER, GONE]
    [entry] = [link.entry for link in await store.audit_links()]
    assert (entry.who, entry.what) == ("head-end", "readings kept since 2026-03-01T00:00:00Z")
    assert not await kept_months(store).remove()


async def test_what_comes_later_is_refused_with_its_reason_and_not_asked_for(
    store: HeadEndStore,
) -> None:
    await fill(store)
    statistics = Statistics()
    intake = Intake(store, catalogue=shipped_catalogue(), statistics=statistics)
    await intake.recall()
    numbered = [
        message(payload(ts=ts, seq=seq), received_at=NOW)
        for seq, ts in enumerate(["2026-06-01T00:00:00Z", "2025-12-24T18:00:00Z", "2026-06-02T00:00:00Z"], 1)
    ]  # fmt: skip
    judged = await intake.judge(numbered)
    assert all(isinstance(decision, Accepted) for decision in judged)

    await kept_months(store).remove()  # between the judgement and the commit
    tally = await intake.commit(judged)
    assert (tally.stored, tally.rejected_messages) == (2 * len(EXAMPLE["registers"]), 1)
    [kept] = await store.rejects()
    assert kept.code == Code.BEYOND_RETENTION
    assert kept.payload == numbered[1].payload
    [(_, _, numbering)] = await store.numberings()
    assert numbering.holes() == []

    [again] = await intake.judge(numbered[1:2])  # and from now on without asking the store
    assert not isinstance(again, Accepted)
    decision, tally = await replay(store, kept, catalogue=shipped_catalogue(), now=NOW, who="asha")
    assert not isinstance(decision, Accepted)
    assert tally.stored == 0


async def test_a_commit_that_has_not_heard_of_it_stores_nothing_older(
    store: HeadEndStore, store_url: str
) -> None:
    await fill(store)
    async with open_store(store_url, Access.EDIT) as other:
        await kept_months(other).remove()
    late = [accepted(ts=SINCE), accepted(ts=SINCE - timedelta(milliseconds=1))]
    before = await store.totals()
    with pytest.raises(BeyondRetentionError) as refused:
        await store.commit(late)
    assert refused.value.kept_since == SINCE
    assert await store.totals() == before
    assert (await store.commit(late[:1])).stored == 1


async def test_a_removed_day_is_neither_missing_nor_certified(store: HeadEndStore) -> None:
    await store.put_intervals({FEEDER: 900})
    await fill(store)
    days = [SINCE.date() - timedelta(days=1), SINCE.date()]
    await kept_months(store).remove()
    accounts = [each async for each in day_accounts(store, FEEDER, days, now=NOW)]
    assert {each.day for each in accounts} == {SINCE.date()}
    with pytest.raises(CertificateError) as refused:
        await compose(
            store,
            feeder_id=FEEDER,
            gateway_id=GATEWAY,
            day=days[0],
            signer=signer("hes-1"),
            roots=ROOTS,
            now=NOW,
        )
    assert refused.value.fault is CertificateFault.NO_READINGS


async def test_nothing_goes_before_its_energy_is_folded(store: HeadEndStore) -> None:
    await fill(store)
    await store.commit([accepted(register(1000.2), ts=OLD + 2 * HOUR)])
    told = await readings(store)
    assert not await kept_months(store).remove()
    assert await readings(store) == told
    energy = await energy_of(store, METER)
    await folded(store)
    assert await kept_months(store).remove()
    assert await energy_of(store, METER) == energy


async def test_a_clock_of_1970_removes_nothing(store: HeadEndStore) -> None:
    await fill(store)
    told = await readings(store)
    assert not await kept_months(store, datetime(1970, 1, 1, tzinfo=UTC)).remove()
    assert await readings(store) == told
    assert await store.kept_since() is None


async def test_a_clock_of_2099_removes_no_more_either(store: HeadEndStore) -> None:
    await fill(store)
    await kept_months(store, datetime(2099, 1, 1, tzinfo=UTC)).remove()
    assert await store.kept_since() == SINCE
    # Not even if gateways follow it, too: a month at most, however often it is looked.
    await store.commit([accepted(ts=datetime(2099, 1, 1, tzinfo=UTC))])
    await folded(store)
    for _ in range(3):
        await kept_months(store, datetime(2099, 1, 1, tzinfo=UTC)).remove()
    assert await store.kept_since() == midnight_of(month_of(SINCE) + 1)


async def test_killed_between_two_steps_it_goes_on(
    store: HeadEndStore, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention_ledger, "REMOVED_AT_ONCE_MAX", 7)
    await fill(store)
    latest = await store.latest(FEEDER, GONE)
    await store.keep_since(SINCE, Entry(who="asha", what="kept"), NOW)
    last = buckets_of(month_of(SINCE)).start - 1
    steps = 0
    while True:  # each step by another process, and of each what there is afterwards is whole
        async with open_store(store_url, Access.EDIT) as after:
            if not await after.remove_some(FIRST_BUCKET, last):
                break
            steps += 1
        assert await store.latest(FEEDER, GONE) == latest
        if steps == 2:
            assert await store.readings_in(FIRST_BUCKET, last) > 0
    assert steps > 3
    assert await store.readings_in(FIRST_BUCKET, last) == 0
    assert [each.ts for each in await readings(store) if each.ts >= SINCE]


# Dies within a transaction, when its rows or its table are gone and nothing is committed: of those that remove
# readings the second, for an empty month is a step as well.
_DYING = """
import asyncio, os, signal, sys
from datetime import datetime
from openami.headend.store import Access, postgres, retention_ledger
from openami.headend.store.months import FIRST_BUCKET
from openami.headend.store.open import open_store

left = 2
def die(gone):
    global left
    left -= gone > 0
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

def remove(*of, real=retention_ledger._remove):
    gone = yield from real(*of)
    die(gone)
    return gone

async def drop(*of, real=postgres.drop):
    gone = await real(*of)
    die(gone)
    return gone

retention_ledger.REMOVED_AT_ONCE_MAX, retention_ledger._remove, postgres.drop = 20, remove, drop

async def main(url, last):
    async with open_store(url, Access.EDIT) as store:
        while await store.remove_some(FIRST_BUCKET, last):
            pass

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


async def test_killed_within_a_step_that_step_has_not_been(
    store: HeadEndStore, store_url: str
) -> None:
    await fill(store)
    await store.make_months(datetime(2025, 9, 1, tzinfo=UTC))  # empty, as other tests leave some
    last = buckets_of(month_of(SINCE)).start - 1
    before, latest = await store.readings_in(FIRST_BUCKET, last), await store.latest(FEEDER, GONE)
    await store.keep_since(SINCE, Entry(who="asha", what="kept"), NOW)
    run = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", _DYING, store_url, str(last)], check=False
    )
    assert run.returncode == -signal.SIGKILL
    left = await store.readings_in(FIRST_BUCKET, last)
    assert 0 < left < before
    assert await store.latest(FEEDER, GONE) == latest
    await kept_months(store).remove()
    assert await store.readings_in(FIRST_BUCKET, last) == 0
    assert await store.latest(FEEDER, GONE) == latest


async def test_a_run_that_is_cut_short_is_finished_by_the_next(
    store: HeadEndStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(store)
    remove_some = store.remove_some

    async def failing(first: int, last: int) -> object:
        monkeypatch.setattr(store, "remove_some", remove_some)
        raise StoreError("gone")

    monkeypatch.setattr(store, "remove_some", failing)
    with pytest.raises(StoreError):
        await kept_months(store).remove()
    assert await store.kept_since() == SINCE
    assert await kept_months(store).remove()
    assert await readings(store, GONE) == []
    assert len(await store.audit_links()) == 1


async def test_what_is_removed_within_a_month_leaves_the_rest(store: HeadEndStore) -> None:
    """As closed days are that lie elsewhere: any buckets, both ends included."""
    await fill(store)
    told = await readings(store)
    december = buckets_of(month_of(date(2025, 12, 1)))
    first, last = december[6 * 9], december[6 * 20]
    while await store.remove_some(first, last):
        pass
    assert await store.readings_in(first, last) == 0
    edges = [datetime(2025, 12, 9, 22, tzinfo=UTC), datetime(2025, 12, 21, 2, tzinfo=UTC)]
    left = [each for each in told if not edges[0] <= each.ts < edges[1]]
    assert len(left) < len(told)
    assert await readings(store) == left


async def test_a_store_that_fails_at_it_is_said_and_ends_nothing() -> None:
    class Failing:
        async def make_months(self, now: datetime) -> Sequence[str]:
            raise StoreError("no right to", remedy="GRANT")

        async def newest_months(self, at_most: int) -> Sequence[int]:
            raise StoreError("somebody holds it", remedy="wait")

    failing = cast(HeadEndStore, Failing())
    with capture_logs() as said:
        await duties._make_months(failing, At())
        await duties._remove_old(kept_months(failing), Statistics())
    assert [(line["log_level"], line["remedy"]) for line in said] == [
        ("warning", "GRANT"),
        ("warning", "wait"),
    ]


def test_on_the_command_line(tmp_path: Path, store_url: str) -> None:
    now = SystemClock().now()
    first = now - timedelta(days=220)

    async def filled() -> None:
        async with open_store(store_url) as store:
            await store.commit(of_months(first.replace(hour=1), now - timedelta(days=1)))
            await folded(store)

    asyncio.run(filled())
    config = tmp_path / "headend.toml"
    config.write_text("[retention]\nreadings_keep_months = 3\n")
    options = ["-c", str(config), "--store", store_url, "--json"]

    def said(*more: str, code: int = Exit.DONE) -> str:
        run = CliRunner().invoke(retention, [*options, *more])
        assert run.exit_code == code, run.output
        return run.stdout

    would = said("--dry-run")
    rows = [json.loads(line) for line in would.splitlines()]
    assert rows[0]["month"] == f"{first:%Y-%m}"
    assert all(row["readings"] for row in rows)
    assert [bool(row["table"]) for row in rows] == [store_url.startswith("postgres")] * len(rows)
    assert said("--dry-run") == would
    assert said() == would
    assert said("--dry-run") == ""
    config.write_text("[retention]\n")
    assert said(code=Exit.USAGE) == ""
    config.write_text("[retention]\nreadings_keep_months = 2\n")
    assert said(code=Exit.USAGE) == ""
