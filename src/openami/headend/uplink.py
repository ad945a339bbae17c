"""The way up: receive, judge, commit, and only then acknowledge.

Promise 3: no message is acknowledged to the broker before the store has committed it. So whatever ends
this process, at whatever moment, the broker still has what the store has not; what it delivers again is a
duplicate, and the store counts it as one (decisions 0006, 0010).

A store that fails is not hidden by buffering: nothing is acknowledged, the head-end leaves the broker,
which keeps the session's messages on its own disk, and comes back when the store does.
"""

import asyncio
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from typing import Final, Protocol

import structlog

from openami.clock import Clock
from openami.headend.broker_link import BrokerLink
from openami.headend.ingest import Decision, Message
from openami.headend.intake import Intake
from openami.headend.liveness import Pulse
from openami.headend.statistics import Statistics
from openami.headend.store import LeaseLost, Store, StoreError, Tally
from openami.headend.tracing import Span, Tracing, Untraced
from openami.mqtt.backoff import Backoff
from openami.mqtt.port import Connection, Delivery, MessagePort, TransportError
from openami.profile import EventTopic, RegisterCatalogue, TelemetryTopic

# A durable commit costs a sync of the disk, and of each page it touches a copy in the log, whatever is new in
# it; at two thousand messages a quarter less for each than at one thousand, and a crash repeats no more than
# these. What waits is taken, nothing is waited for: a quiet village's reading is committed when it comes, a busy
# stream makes its own batches.
BATCH_MESSAGES_MAX: Final = 2000
# Two thousand oversize messages would be 128 MB in one transaction.
BATCH_BYTES_MAX: Final = 4 * 1024 * 1024

# Never shared ($share): a persistent session of one head-end keeps its own messages in order.
FILTERS: Final = (TelemetryTopic.filter(), EventTopic.filter())
# Of a share with a thousand feeders: a packet of some 12 kB, which every broker takes.
FILTERS_AT_ONCE_MAX: Final = 200
# A commit that is no older proves to whoever asks that the store takes writes: a busy stream is spared one more.
STORE_SEEN_S: Final = 5.0
# A line of a log that can still be read.
FILTERS_SAID_MAX: Final = 10

_log = structlog.get_logger("headend.uplink")


class Beside(Protocol):
    """What works beside the uplink on its connection: the downlink, where this head-end commands."""

    @property
    def filters(self) -> Sequence[str]:
        """What has to be subscribed to for it."""
        ...

    def is_only_ours(self, delivery: Delivery) -> bool:
        """Whether a delivery has no readings in it for the store."""
        ...

    def joined(self, connection: Connection) -> None:
        """Take a new connection, to publish on."""
        ...

    def left(self) -> None:
        """The connection has ended."""
        ...

    async def take(self, deliveries: Sequence[Delivery]) -> None:
        """Commit what these deliveries say, those that concern it; they are acknowledged after it."""
        ...


class Share(Protocol):
    """Which of the broker's messages an uplink stores, where several share them (decision 0073)."""

    async def filters(self) -> Sequence[str]:
        """Return what to subscribe to on a connection that has just been made; none is none. Raises StoreError."""
        ...

    @property
    def feeders(self) -> Collection[str] | None:
        """Whose counters are to be recalled: these feeders' only, or all."""
        ...

    def stores(self, delivery: Delivery) -> bool:
        """Whether the readings of a delivery are this uplink's to store."""
        ...

    async def joined(self, connection: Connection) -> None:
        """Take a new connection, subscribed to what was asked for. Raises StoreError."""
        ...

    def left(self) -> None:
        """The connection has ended."""
        ...


class Everything:
    """The share of a head-end that shares with nobody."""

    feeders = None

    async def filters(self) -> Sequence[str]:
        return FILTERS

    def stores(self, _delivery: Delivery) -> bool:
        return True

    async def joined(self, _connection: Connection) -> None:
        return

    def left(self) -> None:
        return


class Uplink:
    """Carries what the broker has into the store. Runs until it is cancelled; the batch in hand is
    then finished first: committed and acknowledged, or neither.
    """

    def __init__(
        self,
        port: MessagePort,
        store: Store,
        *,
        catalogue: RegisterCatalogue,
        clock: Clock,
        broker_backoff: Backoff,
        store_backoff: Backoff,
        beside: Beside | None = None,
        share: Share | None = None,
        statistics: Statistics | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """``share``: everything, where nobody else takes a part. ``statistics``: counted together with others."""
        self.statistics = statistics or Statistics()
        self.subscribed = asyncio.Event()
        """Set while the broker delivers to us."""
        self.link = BrokerLink(False, clock.now(), "not connected yet")
        """A value that is put here anew whenever it changes: other threads may look at it."""
        self.pulse = Pulse("ingest")
        self._port = port
        self._store = store
        self._clock = clock
        self._broker_backoff = broker_backoff
        self._store_backoff = store_backoff
        self._beside = beside
        self._share = share or Everything()
        self._tracing = tracing or Untraced()
        self._intake = Intake(store, catalogue=catalogue, statistics=self.statistics)
        self._has_joined = False
        self._joined_at_s: float | None = None
        """Since when the connection of now holds."""
        self._has_acknowledged = False
        """Whether a message was, on this connection."""
        self._store_seen_s: float | None = None
        """When the store last took a write of this stream."""
        self._messages_held = 0
        """How many the store has counted at least: those that it had when we looked, and ours since."""
        self._said_lost = False

    async def run(self) -> None:
        """Stream for ever, through every loss of broker or store.

        Raises TransportError if the broker refuses us for good before it ever let us in, and StoreError if
        the store cannot be read at the start: both are for a person to mend. LeaseLost at any moment: then
        another head-end has this share, and the broker may not be bothered again.
        """
        while True:
            try:
                await self._stream_while_connected()
            except TransportError as error:
                if error.permanent and not self._has_joined:
                    raise
                self._say_broker_lost(error)
                self.link = replace(self.link, reason=str(error))
                self._judge_what_was_lost()
                await asyncio.sleep(self._broker_backoff.next_s())
            except StoreError as error:
                if not self._has_joined or isinstance(error, LeaseLost):
                    raise
                self._joined_at_s = None
                self.statistics.store_losses += 1
                self.link = replace(self.link, reason=f"the store failed: {error}")
                _log.error(
                    "the store failed; nothing is acknowledged, the broker keeps the messages",
                    **why(error),
                )
                await self._until_store_answers()

    async def prove_store(self) -> None:
        """Return when the store takes this stream's writes; its server may be none any more. Raises StoreError.

        Waits its turn behind a commit.
        """
        now_s = asyncio.get_running_loop().time()
        if self._store_seen_s is None or now_s - self._store_seen_s > STORE_SEEN_S:
            await self._store.prove_writable()
            self._see_store()

    def _see_store(self) -> None:
        self._store_seen_s = asyncio.get_running_loop().time()

    def _at_work(self) -> AbstractContextManager[None]:
        return self.pulse.at_work(asyncio.get_running_loop().time)

    def _judge_what_was_lost(self) -> None:
        """Tell the back-off how the connection went that has ended; an attempt that never joined was none."""
        joined_at_s, self._joined_at_s = self._joined_at_s, None
        if joined_at_s is not None:
            held_s = asyncio.get_running_loop().time() - joined_at_s
            self._broker_backoff.connection_lost(held_s=held_s, acknowledged=self._has_acknowledged)

    async def _stream_while_connected(self) -> None:
        """Receive, judge, commit, acknowledge; one after the other.

        While the store works the connection's queue fills, so the next batch is there when this one is done.
        Judging it meanwhile was tried and showed no gain that could be told from the machine's noise.
        """
        beside, share = self._beside, self._share
        async with self._port.connect() as connection:
            with self._at_work():
                filters = [*await share.filters(), *(() if beside is None else beside.filters)]
                await self._intake.recall(share.feeders)
                await self._look_back()
            for begin in range(0, len(filters), FILTERS_AT_ONCE_MAX):
                await connection.subscribe(filters[begin : begin + FILTERS_AT_ONCE_MAX])
            self._say_joined(connection, filters)
            await share.joined(connection)
            if beside is not None:
                beside.joined(connection)
            try:
                while True:
                    for batch in _portions(await connection.receive(BATCH_MESSAGES_MAX)):
                        with (
                            self._at_work(),
                            self._tracing.span(
                                "ingest batch", {"openami.messages": len(batch)}
                            ) as span,
                        ):
                            decisions = await self._intake.judge(self._messages(batch))
                            await self._to_its_end(connection, batch, decisions, span)
            finally:
                self.subscribed.clear()
                self.link = BrokerLink(False, self._clock.now())
                share.left()
                if beside is not None:
                    beside.left()

    async def _to_its_end(
        self,
        connection: Connection,
        batch: Sequence[Delivery],
        decisions: Sequence[Decision],
        span: Span,
    ) -> None:
        """Settle a batch even if we are told to stop meanwhile."""
        settling = asyncio.create_task(
            self._settle(connection, batch, decisions, span), name="settle"
        )
        try:
            await asyncio.shield(settling)
        except asyncio.CancelledError:
            with suppress(StoreError):  # not committed, not acknowledged: it comes again
                await settling
            raise

    async def _settle(
        self,
        connection: Connection,
        batch: Sequence[Delivery],
        decisions: Sequence[Decision],
        span: Span,
    ) -> None:
        tally = Tally()
        if decisions:
            tally = await self._intake.commit(decisions)
            self._see_store()
        if self._beside is not None:
            await self._beside.take(batch)
        connection.acknowledge(batch)
        self._has_acknowledged = True
        self._messages_held += tally.messages
        self.statistics.committed(decisions, tally)
        span.tell(
            {
                "openami.readings.stored": tally.stored,
                "openami.readings.duplicate": tally.duplicates,
                "openami.messages.rejected": tally.rejected_messages,
            }
        )
        self._store_backoff.reset()

    def _messages(self, batch: Sequence[Delivery]) -> Iterator[Message]:
        """Yield what has readings in it for the store."""
        now = self._clock.now()
        for delivery in batch:
            if self._beside is not None and self._beside.is_only_ours(delivery):
                continue
            if self._share.stores(delivery):
                yield Message(delivery.topic, delivery.payload, now, delivery.retain)
            else:
                self.statistics.left_to_slices += 1

    async def recall_also(self, feeders: Collection[str]) -> None:
        """Recall the counters of feeders that are about to come to us. Raises StoreError."""
        await self._intake.recall_also(feeders)

    # --- waiting ---------------------------------------------------------------------------------

    async def _until_store_answers(self) -> None:
        while True:
            await asyncio.sleep(self._store_backoff.next_s())
            # A store may well answer questions and take nothing: a standby, a full disk.
            with suppress(StoreError), self._at_work():
                await self._store.prove_writable()
                self._see_store()
                _log.info("the store answers again")
                return

    async def _look_back(self) -> None:
        """Say so if the store has less than it has told us it had: it was put back, or a failover lost commits."""
        held = (await self._store.totals()).messages
        if held < self._messages_held:
            _log.error(
                "the store is older than what it has committed",
                messages_missing=self._messages_held - held,
                remedy="stop the head-end, openami headend settle --taken-at the store's last commit, start it; "
                "readings are asked for again by number",
            )
        self._messages_held = held

    # --- saying ----------------------------------------------------------------------------------

    def _say_joined(self, connection: Connection, filters: Sequence[str]) -> None:
        if not connection.resumed and (self._has_joined or self._intake.knows_meters):
            self.statistics.sessions_lost += 1
            _log.warning(
                "the broker did not have our session any more: what came for us since we left is "
                "lost",
                remedy="see that the broker writes to disk (persistence true, autosave_interval 1), "
                "and that client_id is what it was",
            )
        self.statistics.broker_connects += 1
        self._has_joined = True
        self._joined_at_s, self._has_acknowledged = asyncio.get_running_loop().time(), False
        self._said_lost = False
        self.subscribed.set()
        self.link = BrokerLink(True, self._clock.now())
        _log.info("connected to the broker", subscribed=filters[:FILTERS_SAID_MAX])

    def _say_broker_lost(self, error: TransportError) -> None:
        """Say it once for each loss, not for each attempt."""
        if not self._said_lost:
            self._said_lost = True
            self.statistics.broker_losses += 1
            _log.warning("no connection to the broker", **why(error))


def why(error: TransportError | StoreError) -> dict[str, str]:
    """Return what a log line says of a failure."""
    remedy = {"remedy": error.remedy} if error.remedy else {}
    return {"error": str(error), **remedy}


def _portions(deliveries: Sequence[Delivery]) -> Iterator[Sequence[Delivery]]:
    """Cut what was received so that no transaction exceeds BATCH_BYTES_MAX (but by one message)."""
    begin = size = 0
    for end, delivery in enumerate(deliveries):
        size += len(delivery.payload)
        if size > BATCH_BYTES_MAX:
            yield deliveries[begin : end + 1]
            begin, size = end + 1, 0
    if begin < len(deliveries):
        yield deliveries[begin:]
