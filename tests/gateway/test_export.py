"""The outbox to a file, beside a running gateway: what waits, byte for byte, and nothing is marked as sent."""

import gzip
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from tests.gateway.clock_double import START, ClockDouble
from tests.gateway.outbox_samples import FEEDER, GATEWAY, event, telemetry
from tests.gateway.sip_world import POLE
from tests.gateway.small_disk import fill

from openami.gateway.database import DatabaseError
from openami.gateway.export import ExportError, Selection, export_backlog, file_name
from openami.gateway.outbox import Outbox, OutboxLimits, open_outbox
from openami.sip.carried import BacklogReader, Carried, Header, Scope

SOURCE = Selection(FEEDER, GATEWAY)
MINUTE = timedelta(minutes=1)


def exported(database: Path, out: Path, selection: Selection = SOURCE) -> Header:
    return export_backlog(database, out, selection, signer=POLE, now=START)


def read(file: Path) -> Sequence[Carried]:
    with file.open("rb", buffering=0) as opened:
        return list(BacklogReader(opened).messages())


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


async def pending(outbox: Outbox) -> list[Carried]:
    entries = await outbox.pending(1000)
    return [Carried(e.topic, e.payload) for e in sorted(entries, key=lambda e: e.seq)]


async def test_what_waits_is_written_while_the_gateway_runs_and_still_waits(tmp_path: Path) -> None:
    database = tmp_path / "gateway.db"
    async with open_outbox(database, OutboxLimits(), ClockDouble()) as outbox:
        await outbox.append([telemetry(START, 1), event(START, 2), telemetry(START, 3)])
        waiting = await pending(outbox)
        header = exported(database, tmp_path / "out")
        assert (header.messages, header.first_seq, header.last_seq) == (3, 1, 3)
        assert read(tmp_path / "out") == waiting
        assert await pending(outbox) == waiting
        await outbox.append([telemetry(START + MINUTE)])  # and the gateway goes on
    assert exported(database, tmp_path / "after it has stopped").messages == 4


async def test_sent_is_left_out_unless_all_is_asked_for_and_refused_is_not(tmp_path: Path) -> None:
    database = tmp_path / "gateway.db"
    clock = ClockDouble()
    async with open_outbox(database, OutboxLimits(), clock) as outbox:
        await outbox.append([telemetry(START + n * MINUTE, n) for n in (1, 2, 3)])
        everything = await pending(outbox)
        await outbox.mark_sent([1], clock.now())
        await outbox.set_aside([2], clock.now(), "no right")
    exported(database, tmp_path / "pending")
    assert read(tmp_path / "pending") == everything[1:]
    exported(database, tmp_path / "all", Selection(FEEDER, GATEWAY, Scope.ALL))
    assert read(tmp_path / "all") == everything


async def test_since_is_measured_time_its_moment_included(tmp_path: Path) -> None:
    database = tmp_path / "gateway.db"
    async with open_outbox(database, OutboxLimits(), ClockDouble()) as outbox:
        await outbox.append([telemetry(START + n * MINUTE, n) for n in (1, 2, 3)])
        everything = await pending(outbox)
    exported(database, tmp_path / "two", Selection(FEEDER, GATEWAY, since=START + 2 * MINUTE))
    assert read(tmp_path / "two") == everything[1:]


async def test_what_waits_for_its_time_is_not_told_by_hand_either(tmp_path: Path) -> None:
    database, clock = tmp_path / "gateway.db", ClockDouble(synchronised=False)
    async with open_outbox(database, OutboxLimits(), clock, boot_id="b") as outbox:
        if outbox.clock_verdict.trusted:
            clock.set(START - timedelta(days=9000), synchronised=False)
        await outbox.append([telemetry(clock.now(), boottime_s=clock.boottime())])
        assert (await outbox.state()).held == 1
        assert exported(database, tmp_path / "out").messages == 0


async def test_nothing_is_written_over_and_nothing_half_is_left(tmp_path: Path) -> None:
    database, out = tmp_path / "gateway.db", tmp_path / "stick" / "out"
    async with open_outbox(database, OutboxLimits(), ClockDouble()) as outbox:
        await outbox.append([telemetry(START)])
    with pytest.raises(ExportError, match="No such file"):
        exported(database, out)
    out.parent.mkdir()
    out.write_text("another gateway's")
    with pytest.raises(ExportError, match="already"):
        exported(database, out)
    assert out.read_text() == "another gateway's"
    assert names(out.parent) == ["out"]


def test_without_an_outbox_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="not there"):
        exported(tmp_path / "gateway.db", tmp_path / "out")
    (tmp_path / "other").write_bytes(b"")
    with pytest.raises(DatabaseError, match="not a gateway's outbox"):
        exported(tmp_path / "other", tmp_path / "out")
    assert not (tmp_path / "out").exists()


async def test_a_full_stick_is_said_and_left_as_it_was(tmp_path: Path, small_disk: Path) -> None:
    database = tmp_path / "gateway.db"
    async with open_outbox(database, OutboxLimits(), ClockDouble()) as outbox:
        await outbox.append([telemetry(START)])
    fill(small_disk)
    before = names(small_disk)
    with pytest.raises(ExportError, match="No space"):
        exported(database, small_disk / "out")
    assert names(small_disk) == before


async def test_the_file_is_its_owners_alone_and_named_for_its_gateway(tmp_path: Path) -> None:
    database = tmp_path / "gateway.db"
    async with open_outbox(database, OutboxLimits(), ClockDouble()):
        pass
    out = tmp_path / file_name(SOURCE, START)
    assert out.name == "feeder-north_pole-7_20260701T120000Z.backlog.gz"
    exported(database, out)
    assert out.stat().st_mode & 0o777 == 0o600
    assert gzip.decompress(out.read_bytes()).startswith(b'{"format":"openami-backlog/1"')
