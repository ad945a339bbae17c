"""One of several head-ends that share a broker's feeders: shows itself, and serves the slices it holds.

What to do is decided elsewhere (`worker_life`, `shares`); here it is done. A slice is served by a store of its own
that is fenced with its term, and by the broker session that has the slice's name. Whoever has lost a slice can
neither commit nor, therefore, acknowledge; its connection ends when the next holder joins the session.
"""

import asyncio
import socket
from contextlib import suppress
from typing import Final

import structlog

from openami.clock import Clock
from openami.headend.broker_link import BrokerLink
from openami.headend.config import HeadendConfig
from openami.headend.downlink import Downlink
from openami.headend.duties import Premises, downlink_of, duties, patient
from openami.headend.liveness import Pulse
from openami.headend.new_ids import new_id
from openami.headend.shares import RestShare, SliceShare, look_for_ever
from openami.headend.slice_link import SlicePort
from openami.headend.slices import REST
from openami.headend.standing import Standing
from openami.headend.statistics import Statistics
from openami.headend.store import Access, LeaseLost, StoreError
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.open import open_store
from openami.headend.streams import CheckBroker
from openami.headend.tracing import Tracing
from openami.headend.uplink import Uplink, why
from openami.headend.worker_life import (
    BEAT_INTERVAL_S,
    Fence,
    Roster,
    Watch,
    Worker,
    fair_share,
    outlived,
    watched,
)
from openami.headend.worker_settings import WorkersSettings
from openami.mqtt.cluster import ClusterPort

# A slice that could not be served is left to the others for so long, before this worker tries it again.
UNFIT_S: Final = 5.0

_log = structlog.get_logger("headend.workers")


class _Serving:
    """A slice that is being served, or whose service is coming to its end."""

    def __init__(self, fence: Fence) -> None:
        self.fence = fence
        self.uplink: Uplink | None = None
        self.task: asyncio.Task[None] | None = None
        self._is_ending = False

    @property
    def has_ended(self) -> bool:
        return self.task is not None and self.task.done()

    @property
    def is_heard(self) -> bool:
        return self.uplink is not None and self.uplink.subscribed.is_set()

    def end(self) -> None:
        """Let it finish its batch and end; told again, it is not hurried."""
        if self.task is not None and not self._is_ending:
            self._is_ending = True
            self.task.cancel()


class Workers:
    """This head-end among several; see `Streams`."""

    def __init__(
        self,
        config: HeadendConfig,
        settings: WorkersSettings,
        store: HeadEndStore,
        *,
        clock: Clock,
        tracing: Tracing,
    ) -> None:
        """``store`` is what the workers tell one another by; each slice has a store of its own."""
        self.statistics = Statistics()
        self.subscribed = asyncio.Event()
        self.pulses: list[Pulse] = []
        self._config = config
        self._settings = settings
        self._store = store
        self._clock = clock
        self._tracing = tracing
        self._me = _newcomer(settings.name or socket.gethostname(), clock)
        self._serving: dict[int, _Serving] = {}
        self._unfit_until_s: dict[int, float] = {}
        self._downlink: Downlink | None = None
        self._watch: Watch = {}
        self._looked_s = 0.0
        self._roster = Roster()
        self._said_blind = False

    # --- what others ask -------------------------------------------------------------------------

    @property
    def refused_documents(self) -> int:
        return 0 if self._downlink is None else self._downlink.refused_documents

    def link(self) -> BrokerLink:
        """Return the worst of the slices' links: while one of them is not heard, its feeders are not."""
        links = [
            each.uplink.link for each in list(self._serving.values()) if each.uplink is not None
        ]
        deaf = [link for link in links if not link.heard]
        if deaf:
            return deaf[0]
        return BrokerLink(True, max((link.since for link in links), default=self._me.started_at))

    def standing(self) -> Standing:
        held = [each.fence for each in list(self._serving.values()) if not each.has_ended]
        return Standing(self._me.name, sorted(held, key=lambda fence: fence.number), self._roster)

    async def prove_store(self) -> None:
        uplinks = [each.uplink for each in self._serving.values() if not each.has_ended]
        await asyncio.gather(*(each.prove_store() for each in uplinks if each is not None))

    # --- showing itself --------------------------------------------------------------------------

    async def run(self, check_broker: CheckBroker) -> None:
        """Share with the others until cancelled; then let go everything at once, so that nobody has to wait."""
        await self._store.join_workers(self._me, self._settings.slices)
        _log.info("this head-end shares the feeders", worker=self._me.name, id=self._me.id)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(check_broker(), name="broker")
                while True:
                    await self._look_or_wait(group)
                    await asyncio.sleep(BEAT_INTERVAL_S)
        finally:
            with suppress(StoreError):  # the others find out by themselves
                await self._store.leave_workers(self._me.id, self._clock.now())

    async def _look_or_wait(self, group: asyncio.TaskGroup) -> None:
        try:
            await self._look(group)
        except StoreError as error:
            if error.permanent:
                raise
            # Who does not see the others has no right to call them dead.
            self._watch = {}
            if not self._said_blind:
                self._said_blind = True
                _log.warning("this worker does not see the others", **why(error))
        else:
            self._said_blind = False

    async def _look(self, group: asyncio.TaskGroup) -> None:
        """Show itself, look at the others, and do what follows; nothing here waits for a slice to end."""
        store, me = self._store, self._me
        roster = await store.beat(me.id, self._clock.now())
        if not roster.has(me.id):
            _log.warning("declared dead by another worker; this one begins anew", worker=me.name)
            self._match(roster)
            self._me = _newcomer(me.name, self._clock)
            await store.join_workers(self._me, self._settings.slices)
            return
        if await self._bury_the_dead(roster):
            roster = await store.roster()
        self._match(roster)
        await self._release_what_ended(roster)
        now_s = asyncio.get_running_loop().time()
        unfit = {number for number, until_s in self._unfit_until_s.items() if now_s < until_s}
        share = fair_share(roster, me.id, unfit=unfit | self._serving.keys())
        for free in share.claim:
            term = await store.claim(free, me.id, self._clock.now())
            if term is not None:
                self._serve(Fence(free.number, me.id, term), group)
        if share.release is not None and share.release.number in self._serving:
            self._serving[share.release.number].end()
        self._roster = roster
        if self._serving and all(each.is_heard for each in self._serving.values()):
            self.subscribed.set()

    async def _bury_the_dead(self, roster: Roster) -> bool:
        """Declare dead who has not shown himself for a lease; return whether somebody was."""
        now_s = asyncio.get_running_loop().time()
        lease_s = self._settings.lease_s
        if now_s - self._looked_s > lease_s / 2:
            self._watch = {}  # we were away ourselves
        self._looked_s = now_s
        self._watch = watched(self._watch, roster.workers, now_s)
        dead = [
            worker
            for worker in outlived(self._watch, roster, self._me.id, lease_s=lease_s, now_s=now_s)
            if await self._store.bury(worker, self._clock.now())
        ]
        for worker in dead:
            _log.warning(
                "a worker was declared dead; others take its slices",
                worker=worker.name,
                id=worker.id,
                slices=[fence.number for fence in roster.held_by(worker.id)],
            )
        return bool(dead)

    def _match(self, roster: Roster) -> None:
        """Stop serving what is not ours any more."""
        ours = roster.held_by(self._me.id)
        for serving in self._serving.values():
            if serving.fence not in ours:
                serving.end()

    async def _release_what_ended(self, roster: Roster) -> None:
        for number, serving in list(self._serving.items()):
            if serving.has_ended:
                del self._serving[number]
                if serving.fence in roster.held_by(self._me.id):
                    await self._store.release(number, self._me.id, self._clock.now())

    # --- serving ---------------------------------------------------------------------------------

    def _serve(self, fence: Fence, group: asyncio.TaskGroup) -> None:
        serving = self._serving[fence.number] = _Serving(fence)
        serving.task = group.create_task(self._served(serving), name=f"slice {fence.number}")
        self.statistics.slices_claimed += 1
        _log.info("a slice is served", slice=fence.number, term=fence.term, worker=self._me.name)

    async def _served(self, serving: _Serving) -> None:
        """Serve a slice to its end. Raises what a person has to mend, in a group."""
        try:
            await self._stream(serving)
        except* LeaseLost as lost:
            self._say_lost(serving, lost.exceptions[0])
        except* StoreError as failed:
            if any(isinstance(e, StoreError) and e.permanent for e in failed.exceptions):
                raise
            self._say_lost(serving, failed.exceptions[0])

    def _say_lost(self, serving: _Serving, error: BaseException) -> None:
        number = serving.fence.number
        self.statistics.slices_lost += 1
        self._unfit_until_s[number] = asyncio.get_running_loop().time() + UNFIT_S
        _log.warning(
            "a slice is not served by this worker any more", slice=number, error=str(error)
        )

    async def _stream(self, serving: _Serving) -> None:
        config, fence, clock = self._config, serving.fence, self._clock
        async with open_store(config.store, Access.EDIT, fence=fence) as store:
            is_rest = fence.number == REST
            downlink = downlink_of(config, store, clock, self._tracing) if is_rest else None
            share = (
                RestShare(store, clock=clock)
                if is_rest
                else SliceShare(store, fence.number, slices=self._settings.slices, clock=clock)
            )
            uplink = serving.uplink = Uplink(
                SlicePort(ClusterPort(config.session(fence.number)), store.prove_writable),
                store,
                catalogue=config.catalogue(),
                clock=clock,
                broker_backoff=patient(),
                store_backoff=patient(),
                beside=downlink,
                share=share,
                statistics=self.statistics,
                tracing=self._tracing,
            )
            if isinstance(share, SliceShare):
                share.recall = uplink.recall_also
            self.pulses.append(uplink.pulse)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(uplink.run(), name="uplink")
                    group.create_task(look_for_ever(share), name="feeders")
                    if is_rest:
                        self._downlink = downlink
                        await store.put_intervals(config.completeness.intervals_s)
                        premises = Premises(
                            config, store, clock, self.statistics, lambda: uplink.link
                        )
                        for duty_name, duty in duties(premises, downlink).items():
                            group.create_task(duty, name=duty_name)
            finally:
                self.pulses.remove(uplink.pulse)


def _newcomer(name: str, clock: Clock) -> Worker:
    now = clock.now()
    return Worker(new_id("worker"), name, 0, now, now)
