"""What each feeder loses, for the metrics: the balance of the last day, reckoned beside the answer and never in it.

A balance of 500 meters takes a second of a core. Prometheus asks every half minute and gives up after ten seconds,
so it is told what was found last, and each asking begins the next reckoning where that is due.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from openami.clock import Clock
from openami.headend.balance import Balance
from openami.headend.balancing import feeder_balance
from openami.headend.store import StoreError
from openami.headend.store.commands import HeadEndStore

# A balance is made of whole hours; a quarter hour after one is over, most of what belongs to it has come.
RECKONED_EVERY_S: Final = 15 * 60
# A day has as many nights as mornings: losses of an hour say more about the hour than about the feeder.
LOSS_OVER: Final = timedelta(hours=24)
# Two minutes of a core at a second each; who runs more has Prometheus ask the API.
FEEDERS_RECKONED_MAX: Final = 120

_log = structlog.get_logger("headend.web")


@dataclass(frozen=True, slots=True)
class Loss:
    """What is unaccounted of a feeder's supply, as shares of it; and how many of its meters are known."""

    low: float
    high: float
    coverage: float


def loss_of(balance: Balance) -> Loss | None:
    """Return a balance's loss; None where it cannot be told: without a head meter, or without meters."""
    percent = balance.unaccounted_percent
    if percent is None or not balance.meters:
        return None
    return Loss(percent[0] / 100, percent[1] / 100, balance.heard / balance.meters)


class FeederLosses:
    """The losses as they were found last."""

    def __init__(self, store: HeadEndStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._found: dict[str, Loss] = {}
        self._began_s: float | None = None
        self._reckoning: asyncio.Task[None] | None = None

    def look(self) -> Mapping[str, Loss]:
        """Return what was found last, and begin to reckon anew where that is due."""
        now_s = asyncio.get_running_loop().time()
        is_due = self._began_s is None or now_s - self._began_s > RECKONED_EVERY_S
        if is_due and (self._reckoning is None or self._reckoning.done()):
            self._began_s = now_s
            self._reckoning = asyncio.create_task(self.reckon(), name="feeder losses")
        return self._found

    async def reckon(self) -> None:
        """Find every feeder's loss. A store that fails leaves what was found before."""
        now = self._clock.now()
        try:
            feeders = await self._store.feeders()
            for feeder_id in [row.feeder_id for row in feeders][:FEEDERS_RECKONED_MAX]:
                balance = await feeder_balance(
                    self._store, feeder_id, now - LOSS_OVER, now, now=now
                )
                loss = loss_of(balance)
                if loss is None:
                    self._found.pop(feeder_id, None)
                else:
                    self._found[feeder_id] = loss
        except StoreError as error:
            _log.warning("losses were not reckoned", error=str(error), remedy=error.remedy)
