"""A store that breaks when told to, around a real one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime

from openami.headend.audit import Entry
from openami.headend.ingest import Decision
from openami.headend.store import (
    Conflict,
    FeederRow,
    GatewayRow,
    MeterRow,
    Reading,
    Reject,
    RejectStatus,
    Store,
    StoredEvent,
    StoredFinding,
    StoreError,
    Tally,
)
from openami.profile import Obis

DOWN = StoreError("the database does not answer", remedy="start it")


class BreakableStore:
    """Hands everything to the real store, unless ``failure`` is set or ``refuses`` says so. With ``reads_only``
    it is a standby: it answers questions.

    ``before`` and ``after`` are awaited around each commit that reaches the real store, so that a test
    can stop time there; ``batches`` are the sizes of the commits that were asked for.
    """

    def __init__(self, real: Store) -> None:
        self.failure: StoreError | None = None
        self.reads_only = False
        self.refuses: Callable[[Decision], bool] = lambda _: False
        self.before: Callable[[], Awaitable[object]] = _nothing
        self.after: Callable[[], Awaitable[object]] = _nothing
        self.batches: list[int] = []
        self.asked = 0
        self.pruned = 0
        self._real = real

    async def commit(self, batch: Sequence[Decision]) -> Tally:
        self.asked += 1
        self._check_writable()
        self.batches.append(len(batch))
        if any(self.refuses(decision) for decision in batch):
            raise StoreError("a value it cannot hold", permanent=True)
        await self.before()
        self._check()
        tally = await self._real.commit(batch)
        await self.after()
        return tally

    async def kept_since(self) -> datetime | None:
        return await self._real.kept_since()

    async def prove_writable(self) -> None:
        self._check_writable()
        await self._real.prove_writable()

    async def totals(self) -> Tally:
        self._check()
        return await self._real.totals()

    async def feeders(self) -> Sequence[FeederRow]:
        return await self._real.feeders()

    async def gateways(self, feeder_id: str | None = None) -> Sequence[GatewayRow]:
        return await self._real.gateways(feeder_id)

    async def meters(
        self, *, feeder_id: str | None = None, meter_serial: str | None = None
    ) -> Sequence[MeterRow]:
        self._check()
        return await self._real.meters(feeder_id=feeder_id, meter_serial=meter_serial)

    async def latest(self, feeder_id: str, meter_serial: str) -> Sequence[Reading]:
        return await self._real.latest(feeder_id, meter_serial)

    def readings(
        self,
        feeder_id: str,
        meter_serial: str,
        *,
        obis: Obis | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> AsyncIterator[Reading]:
        return self._real.readings(feeder_id, meter_serial, obis=obis, since=since, until=until)

    async def conflicts(self, feeder_id: str, meter_serial: str) -> Sequence[Conflict]:
        return await self._real.conflicts(feeder_id, meter_serial)

    async def events(
        self,
        *,
        feeder_id: str | None = None,
        meter_serial: str | None = None,
        event_id: str | None = None,
        at_most: int = 100,
    ) -> Sequence[StoredEvent]:
        return await self._real.events(
            feeder_id=feeder_id, meter_serial=meter_serial, event_id=event_id, at_most=at_most
        )

    async def findings(
        self, *, feeder_id: str | None = None, meter_serial: str | None = None, at_most: int = 100
    ) -> Sequence[StoredFinding]:
        return await self._real.findings(
            feeder_id=feeder_id, meter_serial=meter_serial, at_most=at_most
        )

    async def rejects(
        self, *, status: RejectStatus | None = None, at_most: int = 100
    ) -> Sequence[Reject]:
        return await self._real.rejects(status=status, at_most=at_most)

    async def reject(self, reject_id: int) -> Reject | None:
        return await self._real.reject(reject_id)

    async def replay(
        self, reject_id: int, decision: Decision, entry: Callable[[Tally], Entry], now: datetime
    ) -> Tally:
        return await self._real.replay(reject_id, decision, entry, now)

    async def drop(self, reject_id: int, entry: Entry, now: datetime) -> bool:
        return await self._real.drop(reject_id, entry, now)

    async def prune(self, now: datetime) -> int:
        self._check()
        return await self._real.prune(now)

    def _check_writable(self) -> None:
        self._check()
        if self.reads_only:
            raise DOWN

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure


async def _nothing() -> None:
    await asyncio.sleep(0)


def _obeys_the_port(store: BreakableStore) -> Store:
    return store
