"""A disk that is really full: said in one sentence, nothing lost, thinned meanwhile, over by itself."""

from pathlib import Path

import pytest
from tests.gateway.clock_double import ClockDouble
from tests.gateway.outbox_samples import all_pending, telemetry
from tests.gateway.small_disk import DISK_BYTES, fill

from openami.gateway.disk_reserve import RESERVE_BYTES, DiskReserve
from openami.gateway.driver import PollGroup
from openami.gateway.outbox import Outbox, OutboxError, OutboxLimits, open_outbox
from openami.gateway.thinning import Stage


async def poll(outbox: Outbox, clock: ClockDouble, cycles: int) -> list[int]:
    """Append cycles of fifty meters; return the numbers."""
    seqs: list[int] = []
    for _ in range(cycles):
        drafts = [telemetry(clock.now(), meter, PollGroup.FAST) for meter in range(50)]
        seqs += (await outbox.append(drafts)).seqs
        clock.advance(60)
    return seqs


async def test_a_disk_others_have_filled_is_thinned_and_not_lost(small_disk: Path) -> None:
    clock = ClockDouble()
    async with open_outbox(small_disk / "gateway.db", OutboxLimits(), clock) as outbox:
        await poll(outbox, clock, 150)
        assert DiskReserve(small_disk / "gateway.db").held
        assert not (await outbox.state()).thinned
        filler = fill(small_disk)
        last: list[int] = []
        for _ in range(12):
            fill(small_disk)  # whatever we give back, they take
            last = await poll(outbox, clock, 50)
        state = await outbox.state()
        assert state.bytes_max < OutboxLimits().bytes_max
        assert set(state.thinned) == {Stage.FAST}
        assert set(last) <= set(await all_pending(outbox))
        filler.unlink()
        await poll(outbox, clock, 1)
        assert DiskReserve(small_disk / "gateway.db").held
        assert (await outbox.state()).bytes_max > state.bytes_max


async def test_without_any_room_the_error_says_so_and_it_recovers_by_itself(
    small_disk: Path,
) -> None:
    clock = ClockDouble()
    async with open_outbox(small_disk / "gateway.db", OutboxLimits(), clock) as outbox:
        await poll(outbox, clock, 1)
        DiskReserve(small_disk / "gateway.db").release()
        filler = fill(small_disk)
        with pytest.raises(OutboxError, match="disk is full") as full:
            await poll(outbox, clock, 2_000)
        assert not full.value.permanent
        assert "free some space" in full.value.remedy
        last_seq = outbox.last_seq
        assert len(await all_pending(outbox)) == last_seq
        filler.unlink()
        again = await poll(outbox, clock, 1)
        assert min(again) > last_seq
    async with open_outbox(small_disk / "gateway.db", OutboxLimits(), clock) as outbox:
        assert set(again) <= set(await all_pending(outbox))


async def test_an_outbox_as_large_as_its_disk_lives_within_it(small_disk: Path) -> None:
    clock = ClockDouble()
    limits = OutboxLimits(bytes_max=10 * DISK_BYTES)
    async with open_outbox(small_disk / "gateway.db", limits, clock) as outbox:
        await poll(outbox, clock, 1_200)
        state = await outbox.state()
        assert set(state.thinned) == {Stage.FAST}
        assert state.bytes_max <= DISK_BYTES - RESERVE_BYTES


async def test_the_reserve_is_taken_only_where_there_is_plenty(small_disk: Path) -> None:
    reserve = DiskReserve(small_disk / "gateway.db")
    reserve.take()
    assert reserve.held
    free = reserve.free_bytes()
    reserve.release()
    reserve.release()
    assert not reserve.held
    assert reserve.free_bytes() == free  # what the reserve will take is not free
    fill(small_disk)
    reserve.take()
    assert not reserve.held
    assert reserve.free_bytes() == 0
