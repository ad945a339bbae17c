"""The village in numbers at one moment: what the metrics tell, and what nobody should have to add up.

Counts by feeder and state only; a meter has no series of its own.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from openami.clock import Clock
from openami.headend.states import GatewayState, MeterState, gateway_state, states_of
from openami.headend.store import GatewayRow, MeterRow
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.counts import CommandCount, GapCount
from openami.headend.store.retaining import Partition

# Two scrapers and a person who presses reload cost one look; and no scrape interval in use is shorter.
SURVEY_AGE_S_MAX: Final = 10.0
# An alarm about a command is of interest for a day; older ones are found in the ledger.
COMMANDS_COUNTED: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What the store knew of every feeder at one moment."""

    meters: Mapping[tuple[str, MeterState], int]
    """By feeder and state; every state of every feeder, so that a state nobody is in is 0 and not absent."""
    gateways: Mapping[tuple[str, GatewayState], int]
    heard_at: Mapping[tuple[str, str], datetime]
    """When something of a gateway was last received, by feeder and gateway."""
    gaps: Sequence[GapCount]
    commands: Sequence[CommandCount]
    """Those requested within COMMANDS_COUNTED, of all feeders."""
    kept_since: datetime | None = None
    """From when on readings are kept; None where all are."""
    partitions: Sequence[Partition] = ()
    """The tables readings lie in, where they lie in several."""

    def within(self, sees: Callable[[str], bool]) -> "Survey":
        """Return what somebody may see who does not see every feeder."""
        return replace(
            self,
            meters={key: count for key, count in self.meters.items() if sees(key[0])},
            gateways={key: count for key, count in self.gateways.items() if sees(key[0])},
            heard_at={key: at for key, at in self.heard_at.items() if sees(key[0])},
            gaps=[gap for gap in self.gaps if sees(gap.feeder_id)],
        )


def surveyed(
    meters: Sequence[MeterRow],
    gateways: Sequence[GatewayRow],
    *,
    gaps: Sequence[GapCount] = (),
    commands: Sequence[CommandCount] = (),
    now: datetime,
) -> Survey:
    """Count what the store's rows say (pure)."""
    feeders = sorted({row.feeder_id for row in meters} | {row.feeder_id for row in gateways})
    of_meters = Counter(
        (meter.feeder_id, state) for meter, state in states_of(meters, gateways, now=now)
    )
    of_gateways = Counter((row.feeder_id, gateway_state(row, now)) for row in gateways)
    return Survey(
        meters={(f, state): of_meters[f, state] for f in feeders for state in MeterState},
        gateways={(f, state): of_gateways[f, state] for f in feeders for state in GatewayState},
        heard_at={(row.feeder_id, row.gateway_id): row.last_seen for row in gateways},
        gaps=gaps,
        commands=commands,
    )


class Surveyor:
    """Looks at the store for whoever asks, at most every SURVEY_AGE_S_MAX."""

    def __init__(self, store: HeadEndStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._turn = asyncio.Lock()
        self._looked: tuple[float, Survey] | None = None

    async def look(self) -> Survey:
        """Return how things stand. Raises StoreError."""
        loop = asyncio.get_running_loop()
        async with self._turn:
            if self._looked is None or loop.time() - self._looked[0] > SURVEY_AGE_S_MAX:
                self._looked = (loop.time(), await self._taken())
            return self._looked[1]

    async def _taken(self) -> Survey:
        now = self._clock.now()
        survey = surveyed(
            await self._store.meters(),
            await self._store.gateways(),
            gaps=await self._store.gap_counts(),
            commands=await self._store.command_counts(now - COMMANDS_COUNTED),
            now=now,
        )
        return replace(
            survey,
            kept_since=await self._store.kept_since(),
            partitions=await self._store.partitions(),
        )
