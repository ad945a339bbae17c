"""Time that passes only when nobody has anything to do: a village year in an afternoon.

`VirtualTimeLoop` is an ordinary asyncio loop whose selector advances a counter instead of blocking, so every
``sleep`` and ``timeout`` of the real programs runs as written, in the same order each time (decision 0035).
Work that the programs give to a thread is done on the spot: with one thread there is one history.

`MachineClock` is one machine's idea of that time: it can be wrong from its start, drift, be set, and lose its time
source; the loop's own time is the truth.
"""

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from openami.clock import Clock

# The loop rounds to this: sums of floats of a year's seconds are exact to 10 ns.
_RESOLUTION_S: Final = 1e-6

T = TypeVar("T")


class Standstill(Exception):
    """Everybody waits for something that will never come: a task lost its waker."""


class _VirtualSelector(selectors.SelectSelector):
    """Never blocks. What would have been a wait is time that has passed."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Standstill("no task can go on and no timer is set")
        if timeout > 0:
            self.now_s += timeout
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop that starts at second 0 and lives as fast as its tasks let it.

    ``thread_cost_s`` is called after each piece of a thread's work and says how long it has taken, in virtual
    seconds: a disk's sync. Raises Standstill when nothing can ever happen again.
    """

    def __init__(self, thread_cost_s: Callable[[], float] = lambda: 0.0) -> None:
        self._virtual = _VirtualSelector()
        super().__init__(self._virtual)
        self._clock_resolution = _RESOLUTION_S
        self._thread_cost_s = thread_cost_s

    def time(self) -> float:
        return self._virtual.now_s

    def run_in_executor(  # type: ignore[override]  # the stub asks for TypeVarTuples
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> "asyncio.Future[T]":
        """Do the work now, and let its result be known when it would have been done."""
        done: asyncio.Future[T] = self.create_future()
        try:
            result = func(*args)
        except Exception as error:  # whoever awaits it is told, as a thread's executor does
            self._let_know(_fail, done, error)
        else:
            self._let_know(_succeed, done, result)
        return done

    def _let_know(self, tell: Callable[..., None], *what: Any) -> None:
        if cost_s := self._thread_cost_s():
            self.call_later(cost_s, tell, *what)
        else:  # what was only read takes no time, but others run first
            self.call_soon(tell, *what)


def _succeed(future: "asyncio.Future[T]", result: T) -> None:
    if not future.done():  # else who asked was cancelled; the work is done all the same
        future.set_result(result)


def _fail(future: "asyncio.Future[Any]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


class MachineClock:
    """One machine's clocks over the loop's true time.

    ``epoch`` is the true moment of the loop's second 0. Each start of the machine (`boot`) begins a new count of
    seconds; what the wall clock says then is what the machine's battery, or the lack of one, makes it say.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, epoch: datetime) -> None:
        self._loop = loop
        self._epoch = epoch
        self._ran_s = 0.0
        self._set_s = 0.0
        self._set_to = epoch
        self._rate = 1.0
        self._followed = True

    def true_now(self) -> datetime:
        """Return the time it is, whatever this machine believes."""
        return self._epoch + timedelta(seconds=round(self._loop.time(), 6))

    def now(self) -> datetime:
        passed_s = (self._loop.time() - self._set_s) * self._rate
        return self._set_to + timedelta(seconds=round(passed_s, 6))

    def boottime(self) -> float:
        # Summed up at each change of the rate: this clock never goes back.
        return self._ran_s + (self._loop.time() - self._set_s) * self._rate

    def synchronised(self) -> bool:
        return self._followed

    def boot(self, wall: datetime | None = None, *, drift_ppm: float = 0.0) -> None:
        """Start the machine; without ``wall`` a battery kept the time. Nobody vouches for it yet."""
        wall = wall or self.true_now()
        self._set(wall, drift_ppm)
        self._ran_s = 0.0
        self._followed = False

    def follow(self, *, drift_ppm: float = 0.0) -> None:
        """A time source is heard: the clock is set right."""
        self._set(self.true_now(), drift_ppm)
        self._followed = True

    def lose_source(self) -> None:
        """The time source is gone; the crystal goes on by itself."""
        self._followed = False

    def drift(self, ppm: float) -> None:
        """The crystal runs fast or slow from here."""
        self._set(self.now(), ppm)

    def jump(self, by: timedelta) -> None:
        """Somebody sets the clock."""
        self._set(self.now() + by, (self._rate - 1.0) * 1e6)

    def _set(self, wall: datetime, drift_ppm: float) -> None:
        self._ran_s = self.boottime()
        self._set_s, self._set_to = self._loop.time(), wall
        self._rate = 1.0 + drift_ppm / 1e6


EPOCH_1970: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Where a machine without a battery begins."""


def _obeys_the_port(clock: MachineClock) -> Clock:
    return clock
