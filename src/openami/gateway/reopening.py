"""When a line that could not be opened is tried again: after a wait that doubles, so that nobody waits for it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from openami.gateway.driver import LineDown

RECONNECT_S_MIN: Final = 1.0  # a device server that restarts is back in seconds
RECONNECT_S_MAX: Final = 60.0  # and a line that is back is read again in the next cycle


class Reopening:
    """What is remembered of the attempts to open one line."""

    def __init__(self, place: str) -> None:
        """``place`` names the line for its operator."""
        self._place = place
        self._wait_s = 0.0
        self._tried_again_at = 0.0

    async def open(self, opened: Callable[[], Awaitable[None]]) -> None:
        """Open the line by ``opened``, unless that failed a moment ago. Raises LineDown."""
        now = asyncio.get_running_loop().time
        wait_s = self._tried_again_at - now()
        if wait_s > 0:
            raise LineDown(f"{self._place} is down; tried again in {wait_s:.0f} s")
        try:
            await opened()
        except LineDown:
            self._wait_s = min(max(RECONNECT_S_MIN, 2 * self._wait_s), RECONNECT_S_MAX)
            self._tried_again_at = now() + self._wait_s
            raise
        self._wait_s = 0.0
