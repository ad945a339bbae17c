"""A disk that is really full: said in one sentence, nothing lost, thinned meanwhile, over by itself."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.gateway.clock_double import ClockDouble
from tests.gateway.outbox_samples import all_pending, telemetry

from openami.gateway.disk_reserve import RESERVE_BYTES, DiskReserve
from openami.gateway.driver import PollGroup
from openami.gateway.outbox import Outbox, OutboxError, OutboxLimits, open_outbox
from openami.gateway.thinning import Stage

MIB = 1024 * 1024
DISK_BYTES = 24 * MIB


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    mount = shutil.which("mount", path="/usr/bin:/bin:/usr/sbin:/sbin")
    place = tmp_path / "disk"
    place.mkdir()
    done = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "openami-test", str(place)],
        capture_output=True,
        check=False,
    )
    if not done or done.returncode:
        reason = "a small disk cannot be mounted: that needs root"
        if os.environ.get("OPENAMI_REQUIRE_TOOLS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(disk: Path) -> Path:
    """Take every byte that is left, as a log file does."""
    filler = disk / "somebody-elses.log"
    with filler.open("ab", buffering=0) as file:
        for size in (MIB, 4096, 1):
            with suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass
    return filler


async def poll(outbox: Outbox, clock: ClockDouble, cycles: int) -> list[int]:
    """Append cycles of fifty meters; return the numbers."""
    seqs: list[int] = []
    for _ in range(cycles):
        drafts = [telemetry(clock.now(), meter, PollGroup.FAST) for meter in range(50)]
        seqs += (await outbox.append(drafts)).seqs
        clock.advance(60)
    return seqs


async def test_a_disk_others_have_filled_is_thinned_and_not_lost(disk: Path) -> None:
    clock = ClockDouble()
    async with open_outbox(disk / "gateway.db", OutboxLimits(), clock) as outbox:
        await poll(outbox, clock, 150)
        assert DiskReserve(disk / "gateway.db").held
        assert not (await outbox.state()).thinned
        filler = fill(disk)
        last: list[int] = []
        for _ in range(12):
            fill(disk)  # whatever we give back, they take
            last = await poll(outbox, clock, 50)
        state = await outbox.state()
        assert state.bytes_max < OutboxLimits().bytes_max
        assert set(state.thinned) == {Stage.FAST}
        assert set(last) <= set(await all_pending(outbox))
        filler.unlink()
        await poll(outbox, clock, 1)
        assert DiskReserve(disk / "gateway.db").held
        assert (await outbox.state()).bytes_max > state.bytes_max


async def test_without_any_room_the_error_says_so_and_it_recovers_by_itself(disk: Path) -> None:
    clock = ClockDouble()
    async with open_outbox(disk / "gateway.db", OutboxLimits(), clock) as outbox:
        await poll(outbox, clock, 1)
        DiskReserve(disk / "gateway.db").release()
        filler = fill(disk)
        with pytest.raises(OutboxError, match="disk is full") as full:
            await poll(outbox, clock, 2_000)
        assert not full.value.permanent
        assert "free some space" in full.value.remedy
        last_seq = outbox.last_seq
        assert len(await all_pending(outbox)) == last_seq
        filler.unlink()
        again = await poll(outbox, clock, 1)
        assert min(again) > last_seq
    async with open_outbox(disk / "gateway.db", OutboxLimits(), clock) as outbox:
        assert set(again) <= set(await all_pending(outbox))


async def test_an_outbox_as_large_as_its_disk_lives_within_it(disk: Path) -> None:
    clock = ClockDouble()
    limits = OutboxLimits(bytes_max=10 * DISK_BYTES)
    async with open_outbox(disk / "gateway.db", limits, clock) as outbox:
        await poll(outbox, clock, 1_200)
        state = await outbox.state()
        assert set(state.thinned) == {Stage.FAST}
        assert state.bytes_max <= DISK_BYTES - RESERVE_BYTES


async def test_the_reserve_is_taken_only_where_there_is_plenty(disk: Path) -> None:
    reserve = DiskReserve(disk / "gateway.db")
    reserve.take()
    assert reserve.held
    free = reserve.free_bytes()
    reserve.release()
    reserve.release()
    assert not reserve.held
    assert reserve.free_bytes() == free  # what the reserve will take is not free
    fill(disk)
    reserve.take()
    assert not reserve.held
    assert reserve.free_bytes() == 0
