"""The Clock port: what time it is, from whom, and whether to believe it.

Everything that decides takes ``now`` as an argument. The few shells that need a clock are handed
one of these, so that a test can live through a village week in a second.
"""

import ctypes
import ctypes.util
import time
from datetime import UTC, datetime
from typing import Protocol

# Linux adjtimex(2): the return value when the kernel holds the clock to be unsynchronised.
_TIME_ERROR = 5
_TIMEX_BYTES = 208  # sizeof(struct timex) on 64-bit Linux; zeroed, `modes` = 0 only reads


class Clock(Protocol):
    """Wall time, time since boot, and the kernel's word on the first."""

    def now(self) -> datetime:
        """Return the wall clock's time, in UTC."""
        ...

    def boottime(self) -> float:
        """Return seconds since boot, suspended time included; never steps, whatever NTP does."""
        ...

    def synchronised(self) -> bool:
        """Return whether the kernel says the wall clock follows a time source."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def boottime(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def synchronised(self) -> bool:
        libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
        state: int = libc.adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
        return state not in (-1, _TIME_ERROR)
