"""Time that passes by itself: in order, as long as it says, and for nobody who waits for nothing."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from openami.clock import Clock
from openami.simulator.virtual_time import EPOCH_1970, MachineClock, Standstill, VirtualTimeLoop

EPOCH = datetime(2026, 7, 1, tzinfo=UTC)
YEAR_S = 366 * 86_400


@pytest.fixture
def loop() -> Iterator[VirtualTimeLoop]:
    loop = VirtualTimeLoop()
    yield loop
    loop.close()


def lived(loop: VirtualTimeLoop, work: Callable[[], Awaitable[None]]) -> None:
    async def told() -> None:
        await work()

    loop.run_until_complete(told())


def test_a_year_passes_at_once_and_exactly(loop: VirtualTimeLoop) -> None:
    lived(loop, lambda: asyncio.sleep(YEAR_S))
    assert loop.time() == YEAR_S


def test_who_wakes_first_goes_first(loop: VirtualTimeLoop) -> None:
    order: list[float] = []

    async def sleeper(seconds: float) -> None:
        await asyncio.sleep(seconds)
        order.append(seconds)

    async def work() -> None:
        await asyncio.gather(*map(sleeper, (3.0, 0.001, 2.0, 86_400.0)))

    lived(loop, work)
    assert order == [0.001, 2.0, 3.0, 86_400.0]


def test_a_timeout_ends_what_takes_longer(loop: VirtualTimeLoop) -> None:
    async def work() -> None:
        async with asyncio.timeout(9.9):
            await asyncio.sleep(9.8)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await asyncio.sleep(10.1)

    lived(loop, work)
    assert loop.time() == pytest.approx(19.8)


def test_who_waits_for_what_never_comes_is_told(loop: VirtualTimeLoop) -> None:
    with pytest.raises(Standstill):
        lived(loop, lambda: asyncio.Event().wait())  # type: ignore[arg-type,return-value]


def test_a_threads_work_is_done_on_the_spot_and_takes_its_time() -> None:
    loop = VirtualTimeLoop(lambda: 0.25)

    async def work() -> None:
        done: list[int] = []
        future = loop.run_in_executor(None, done.append, 1)
        assert done == [1]
        await future
        assert loop.time() == 0.25
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, divmod, 1, 0)

    lived(loop, work)
    loop.close()


# --- a machine's clock ---------------------------------------------------------------------------


def test_the_machines_clock_keeps_the_clocks_contract(loop: VirtualTimeLoop) -> None:
    clock: Clock = MachineClock(loop, EPOCH)
    lived(loop, lambda: asyncio.sleep(1))
    before, booted = clock.now(), clock.boottime()
    assert before.utcoffset() == timedelta()
    assert booted > 0
    assert clock.now() >= before
    assert clock.boottime() >= booted
    assert clock.synchronised() in (True, False)


def test_a_machine_without_a_battery_wakes_in_1970_and_is_set_right(loop: VirtualTimeLoop) -> None:
    clock = MachineClock(loop, EPOCH)
    lived(loop, lambda: asyncio.sleep(1000))
    clock.boot(EPOCH_1970)
    lived(loop, lambda: asyncio.sleep(60))
    assert clock.now() == EPOCH_1970 + timedelta(seconds=60)
    assert clock.boottime() == 60
    assert not clock.synchronised()
    clock.follow()
    assert clock.now() == clock.true_now() == EPOCH + timedelta(seconds=1060)
    assert clock.boottime() == 60
    assert clock.synchronised()


def test_a_crystal_drifts_and_a_hand_sets(loop: VirtualTimeLoop) -> None:
    clock = MachineClock(loop, EPOCH)
    clock.boot(drift_ppm=100)
    lived(loop, lambda: asyncio.sleep(10_000))
    assert clock.now() - clock.true_now() == timedelta(seconds=1)
    clock.jump(timedelta(hours=-2))
    assert clock.now() - clock.true_now() == timedelta(seconds=1, hours=-2)
    clock.drift(0)
    lived(loop, lambda: asyncio.sleep(10_000))
    assert clock.now() - clock.true_now() == timedelta(seconds=1, hours=-2)


def test_the_time_since_boot_never_goes_back_when_a_fast_crystal_is_set_right(
    loop: VirtualTimeLoop,
) -> None:
    clock = MachineClock(loop, EPOCH)
    clock.boot(drift_ppm=100)
    lived(loop, lambda: asyncio.sleep(10_000))
    assert clock.boottime() == pytest.approx(10_001)
    clock.follow()
    assert clock.boottime() == pytest.approx(10_001)
