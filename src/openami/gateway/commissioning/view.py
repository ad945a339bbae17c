"""What a page or a press sees: the ledger beside the meters as they are now, and the hour once it is over."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Final

from openami.clock import Clock
from openami.gateway.commissioning import ledger
from openami.gateway.commissioning.content import content_of, identities_of
from openami.gateway.commissioning.judging import judged
from openami.gateway.commissioning.ledger import Standing
from openami.gateway.commissioning.load_test import HEARD_WITHIN_POLLS, PowerAt
from openami.gateway.commissioning.walk import MeterWalk, meter_walks, powers_of
from openami.gateway.config import GatewayConfig
from openami.gateway.database import Database
from openami.gateway.driver import Driver
from openami.gateway.snapshot import Snapshot
from openami.sip.commissioning import Acceptance, Content

# An hour that is over changes only by what the uplink still sends: pages within this time share one judgement.
JUDGEMENT_AGE_S_MAX: Final = 30.0


class View:
    """The feeder as its integrator sees it. Whatever reads the database raises DatabaseError."""

    def __init__(
        self,
        config: GatewayConfig,
        drivers: Mapping[str, type[Driver]],
        database: Database,
        *,
        snapshot: Callable[[], Awaitable[Snapshot]],
        clock: Clock,
    ) -> None:
        self.clock = clock
        self.database = database
        self.gateway_id = config.gateway_id
        self.identities = identities_of(config)
        self._config = config
        self._drivers = drivers
        self._snapshot = snapshot
        self._judgement: tuple[float, datetime, Acceptance] | None = None
        self._judging = asyncio.Lock()

    async def standing(self) -> Standing:
        """Return what commissioning has come to."""
        return await self.database.run(ledger.standing)

    async def meters(self) -> tuple[Standing, list[MeterWalk]]:
        """Return that, and each meter as it is now; what others told since a load is on is kept on the way."""
        snapshot = await self._snapshot()
        powers = powers_of(snapshot.records)
        fast_s = self._config.schedule.fast_s
        standing = await self.database.run(
            lambda c: ledger.hear_others(c, powers, HEARD_WITHIN_POLLS * fast_s)
        )
        now = self.clock.now()
        return standing, meter_walks(
            snapshot.records, self.identities, standing, now=now, fast_s=fast_s
        )

    async def powers(self) -> dict[str, PowerAt]:
        """Return each meter's last known power."""
        return powers_of((await self._snapshot()).records)

    async def content(self, standing: Standing, by: str) -> Content:
        """Return what a record would say now. Raises OSError where the configuration is not there any more."""
        acceptance = await self.acceptance(standing)
        now = self.clock.now()
        return content_of(self._config, self._drivers, standing, acceptance, by=by, now=now)

    async def acceptance(self, standing: Standing) -> Acceptance | None:
        """Return the hour's judgement, at most `JUDGEMENT_AGE_S_MAX` old; None while there is none."""
        loop = asyncio.get_running_loop()
        began_at = standing.hour_began_at
        async with self._judging:
            if self._judgement is not None:
                judged_s, of, acceptance = self._judgement
                if of == began_at and loop.time() - judged_s < JUDGEMENT_AGE_S_MAX:
                    return acceptance
            found = await asyncio.to_thread(
                judged, self._config, self.database.path, standing, self.clock.now()
            )
            if found is not None:
                self._judgement = (loop.time(), found.began_at, found)
            return found
