"""Folds days of energy that readings have touched, beside the stream: little at a time, so that nothing waits.

What is not folded yet is folded by whoever asks for it, so this decides how fast a page is, never what it says.
It waits by ``asyncio.sleep`` alone.
"""

import asyncio
from typing import Final

import structlog

from openami.headend.store import StoreError
from openami.headend.store.energy import FOLDS_AT_ONCE_MAX, EnergyStore

# A meter reports every quarter hour: its day is folded a few times an hour, and between them an answer folds
# one day of each meter by itself.
LOOK_INTERVAL_S: Final = 60.0
# While much is due (an upgrade, a backlog that came), the stream has three quarters of the store: a year of 500
# meters is folded in some ten minutes.
SHARE_OF_THE_STORE: Final = 0.25
# No commit waits longer than this for a fold: it is a tenth of what an operator calls at once.
FOLD_S: Final = 0.05

# Even where a fold takes no time that a clock can tell, the loop is let go in between.
CLOCK_TICK_S: Final = 0.001

_log = structlog.get_logger("headend.energy")


class Folding:
    """Folds what is due. Runs until it is cancelled."""

    def __init__(self, store: EnergyStore, *, look_interval_s: float = LOOK_INTERVAL_S) -> None:
        self._store = store
        self._look_interval_s = look_interval_s
        self._at_once = 1

    async def run(self) -> None:
        """Fold, for ever. Raises nothing that waiting could mend."""
        while True:
            pause_s = self._look_interval_s
            try:
                if took_s := await self.fold():
                    pause_s = took_s * (1 / SHARE_OF_THE_STORE - 1)
            except StoreError as error:  # the stream meets the same error, and acts on it
                _log.warning("energy was not folded", error=str(error))
            await asyncio.sleep(pause_s)

    async def fold(self) -> float:
        """Fold a few days; return how many seconds that took, 0 when nothing is left. Raises StoreError.

        How many they are follows how long the last ones took: a day has 96 readings, or thousands.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        folded = await self._store.fold_energy(self._at_once)
        took_s = loop.time() - began
        if folded < self._at_once:
            return 0.0
        if took_s > FOLD_S:
            self._at_once = max(1, self._at_once // 2)
        else:
            self._at_once = min(self._at_once * 2, FOLDS_AT_ONCE_MAX)
        return max(took_s, CLOCK_TICK_S)
