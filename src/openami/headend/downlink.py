"""The way down: sessions offered, commands signed and sent, reports taken, each after its own commit.

It works beside the uplink on the same connection. What comes (session documents, reports) the uplink hands over
before it acknowledges; what is to be done the store says by its due times, so whoever inserts a request, in
whatever process, only has to set one. Every step is: decide in one transaction, then publish. Killed between the
two, the row says that it may be out, and the same bytes are published again when we are back; the gateway
answers a repeated command with its report and moves nothing.

Commands are published at QoS 1 and never retained (the port cannot retain).
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from openami.clock import Clock
from openami.headend.audit import Entry
from openami.headend.commands import (
    BUDGET_WINDOW,
    Change,
    End,
    LedgerCommand,
    OpenSession,
    Reconcile,
    reconciled,
    reconciled_next,
    rested,
)
from openami.headend.decision import (
    CommandDecision,
    SessionDecision,
    Signatory,
    command_topic,
    session_topic,
)
from openami.headend.keyrings import InForce, accepted_by_gateway, in_force
from openami.headend.reports import Reports, is_report
from openami.headend.sessions import (
    HEAD_END,
    OFFER_ANSWER_S,
    OFFERS_MAX,
    SESSION_DAYS,
    LedgerSession,
    SessionChange,
    heard,
    offered_anew,
)
from openami.headend.signing import DISCONNECTS_PER_HOUR_DEFAULT
from openami.headend.store import StoreError
from openami.headend.store.commands import Around, Concern, Due, HeadEndStore, KeyringDelivery
from openami.headend.tracing import Tracing, Untraced, command_life
from openami.mqtt.port import Connection, Delivery, PublishRefused, TransportError
from openami.profile import (
    CommandTopic,
    EventTopic,
    FeederId,
    GatewayId,
    Obis,
    ProfileError,
    Quality,
    SessionId,
    SessionTopic,
    parse_topic,
)
from openami.profile.command import CommandEvent
from openami.sip.actions import RELAY_STATE_OBIS
from openami.sip.acts import ActType, verified_acts
from openami.sip.canonical import Document, read_document
from openami.sip.errors import SipError
from openami.sip.keyring import KEYRING_PREFIX, Roots, keyring_session_id
from openami.sip.keys import Signer
from openami.sip.session import SessionState

# A person does not notice it, and 40 questions a second by index cost a hundredth of a core. A notice from
# the database would spare them on one engine and be one more thing that can be lost.
POLL_INTERVAL_S: Final = 0.025
# Without a broker nothing can be sent; only times pass.
OFFLINE_POLL_INTERVAL_S: Final = 1.0
# A store that failed is asked again by the uplink's back-off, too; this is only not to spin.
STORE_RETRY_S: Final = 1.0
# The broker said no to a topic: a person has to change its ACL first.
REFUSED_RETRY_S: Final = 60

FILTERS: Final = (SessionTopic.filter(),)

# openami/v1/FEEDER/GATEWAY/ and then "session" or "meter".
_KIND_LEVEL: Final = 4
_RELAY: Final = Obis.parse(RELAY_STATE_OBIS)

_log = structlog.get_logger("headend.downlink")


@dataclass(frozen=True, slots=True)
class _Outgoing:
    """What a decision wants published once it is committed."""

    topic: SessionTopic | CommandTopic
    payload: bytes


class Downlink:
    """Carries commands from the store to the gateways and their answers into the store."""

    def __init__(
        self,
        store: HeadEndStore,
        signer: Signer,
        roots: Roots,
        *,
        clock: Clock,
        new_id: Callable[[str], str],
        disconnects_per_hour_max: int = DISCONNECTS_PER_HOUR_DEFAULT,
        poll_interval_s: float = POLL_INTERVAL_S,
        tracing: Tracing | None = None,
    ) -> None:
        """``new_id`` makes an id nobody has: a prefix and something random."""
        self._store = store
        self._roots = roots
        self._clock = clock
        self._signatory = Signatory(signer, new_id, disconnects_per_hour_max)
        self._poll_interval_s = poll_interval_s
        self._connection: Connection | None = None
        self._rejoined = False
        self._last_due: Sequence[Due] = ()
        self._keyrings: dict[tuple[str, str], InForce | None] = {}
        self._tracing = tracing or Untraced()
        self._reports = Reports(store, self._keyring, clock, tracing=self._tracing)
        self.refused_documents = 0
        """Session documents and reports that did not prove themselves; counted, never answered."""

    # --- what the uplink calls -------------------------------------------------------------------

    @property
    def filters(self) -> Sequence[str]:
        """What has to be subscribed to besides readings and events."""
        return FILTERS

    def is_only_ours(self, delivery: Delivery) -> bool:
        """Whether a delivery has no readings in it for the store."""
        levels = delivery.topic.split("/", _KIND_LEVEL + 1)
        return levels[_KIND_LEVEL : _KIND_LEVEL + 1] == ["session"]

    def _concerns(self, delivery: Delivery) -> bool:
        return self.is_only_ours(delivery) or is_report(delivery.topic, delivery.payload)

    def joined(self, connection: Connection) -> None:
        """Take a new connection: what may be out is published again on it."""
        self._connection = connection
        self._rejoined = True

    def left(self) -> None:
        """The connection has ended."""
        self._connection = None

    async def take(self, deliveries: Sequence[Delivery]) -> None:
        """Commit what deliveries say of sessions and commands. Raises StoreError: then none is ours yet."""
        for delivery in deliveries:
            if delivery.retain or not self._concerns(delivery):
                continue
            try:
                topic = parse_topic(delivery.topic)
                document = read_document(delivery.payload)
                match topic:
                    case SessionTopic():
                        await self._take_session_document(topic, document)
                    case EventTopic():
                        await self._reports.take(topic, document, delivery.payload)
            except (ProfileError, SipError) as error:
                self.refused_documents += 1
                _log.warning("not to be believed", topic=delivery.topic, error=str(error))
            except StoreError as error:
                if not error.permanent:
                    raise
                # One message that the store cannot hold may not keep all others from being acknowledged.
                self.refused_documents += 1
                _log.error("the store refuses it", topic=delivery.topic, error=str(error))

    async def run(self) -> None:
        """Do what is due, for ever. Raises nothing that waiting could mend."""
        said = False
        while True:
            try:
                busy = await self._do_what_is_due()
                said = False
                if busy:
                    continue
                offline = self._connection is None
                pause = OFFLINE_POLL_INTERVAL_S if offline else self._poll_interval_s
            except StoreError as error:
                if not said:
                    _log.warning("the store failed; commands wait", error=str(error))
                said, pause = True, STORE_RETRY_S
            await asyncio.sleep(pause)

    # --- what is due -----------------------------------------------------------------------------

    async def _do_what_is_due(self) -> bool:
        """Take one look; return whether there was something."""
        if self._rejoined:
            self._rejoined = False
            await self._store.wake(self._clock.now())
        online = self._connection is not None
        due = await self._store.due(self._clock.now(), only=None if online else Concern.COMMAND)
        for each in due:
            try:
                await self._attend(each)
            except TransportError as error:
                # The uplink sees the same end of the connection, and joins again: then all of it is due.
                _log.info("what was to be sent waits for the broker", error=str(error))
                return False
        # More may wait behind what was done; what is due again at once waits like everything else.
        news, self._last_due = due != self._last_due, due
        return bool(due) and news

    async def _attend(self, due: Due) -> None:
        match due.concern:
            case Concern.COMMAND:
                await self._attend_command(due.id)
            case Concern.SESSION:
                await self._attend_session(due.id)
            case Concern.KEYRING:
                await self._attend_keyring(*_keyring_name(due.id))
            case Concern.DELIVERY:
                await self._attend_delivery(*_keyring_name(due.id))

    async def _publish(self, outgoing: _Outgoing) -> bool:
        """Publish; False if the broker refused this one. Raises TransportError."""
        connection = self._connection
        if connection is None:
            raise TransportError("no connection to the broker")
        try:
            await connection.publish(str(outgoing.topic), outgoing.payload)
        except PublishRefused as error:
            _log.error("the broker refuses it", topic=str(outgoing.topic), remedy=error.remedy)
            return False
        except TransportError:
            if self._connection is connection:  # and not the one that came after it
                self._connection = None
            raise
        return True

    # --- commands --------------------------------------------------------------------------------

    async def _attend_command(self, command_id: str) -> None:
        command = await self._store.command(command_id)
        if command is None:
            return
        found = await self._keyring(command.feeder_id, command.gateway_id)
        online = self._connection is not None
        decision = CommandDecision(self._signatory, found, self._clock.now(), online=online)
        after = await self._store.change_command(
            command_id, decision.decide, decision.now, budget_since=decision.now - BUDGET_WINDOW
        )
        if after is None:
            return
        if isinstance(decision.step, End) and not after.is_open:
            self._tracing.lived(command_life(after))
        match decision.step:
            case OpenSession():
                await self._ensure_session(after)
            case Reconcile():
                await self._reconcile(after)
            case End(event=CommandEvent.NO_REPORT):
                await self._introduce_anew(after)
        if decision.publish and after.document is not None:
            published = await self._publish(_Outgoing(command_topic(after), after.document))
            if not published:
                await self._look_again_later(after)

    async def _introduce_anew(self, command: LedgerCommand) -> None:
        """Nobody has reported: the gateway may have got a new memory, and know neither keyring nor session.

        Who knows them takes both for echoes.
        """
        found = await self._keyring(command.feeder_id, command.gateway_id)
        session = None
        if command.session_id is not None:
            session = await self._store.session(command.session_id)
        if self._connection is None or found is None or session is None:
            return
        if session.state is SessionState.ACTIVE and session.document is not None:
            await self._publish_keyring(session.feeder_id, session.gateway_id, found)
            await self._publish(_Outgoing(session_topic(session), session.document))

    async def _look_again_later(self, command: LedgerCommand) -> None:
        now = self._clock.now()
        later = now + timedelta(seconds=REFUSED_RETRY_S)
        await self._store.change_command(
            command.id,
            lambda found, _: Change(rested(found, later)) if found.is_open else None,
            now,
        )

    async def _ensure_session(self, command: LedgerCommand) -> None:
        """Make sure that a session is on its way which this command can use."""
        now = self._clock.now()
        open_ones = await self._store.sessions(
            feeder_id=command.feeder_id, gateway_id=command.gateway_id, only_open=True
        )
        wanted = command.wanted_session
        fitting = [
            s for s in open_ones if s.covers(command.meter_serial) and wanted in (None, s.id)
        ]
        if wanted is not None or any(s.is_usable(now) for s in fitting):
            return
        waiting = [s for s in fitting if s.state is SessionState.OFFERED]
        if waiting:
            await self._offer_anew(waiting[0], command, now)
            return
        session = LedgerSession(
            id=self._signatory.new_session_id(),
            feeder_id=command.feeder_id,
            gateway_id=command.gateway_id,
            requested_by=HEAD_END,
            reason=f"for {command.id}",
            requested_at=now,
            valid_to=now + timedelta(days=SESSION_DAYS),
            due_at=now,
        )
        await self._store.add_session(session, session_entry(session), now)

    async def _offer_anew(
        self, session: LedgerSession, command: LedgerCommand, now: datetime
    ) -> None:
        """A session nobody has answered is offered again, at once, for somebody who came after its offer.

        The gateway may be here for the first time, or again. One offer for each request at most.
        """

        def decide(found: LedgerSession, _: frozenset[str]) -> SessionChange | None:
            if found.offered_at is not None and found.offered_at >= command.requested_at:
                return None
            return offered_anew(found, now)

        await self._store.change_session(session.id, decide, now)

    async def _reconcile(self, command: LedgerCommand) -> None:
        """Ask telemetry what became of a command nobody reported on."""
        latest = await self._store.latest(command.feeder_id, command.meter_serial)
        now = self._clock.now()

        def decide(found: LedgerCommand, _: Around) -> Change | None:
            for reading in latest:
                if reading.obis == _RELAY and reading.quality is Quality.GOOD:
                    change = reconciled(
                        found, position=reading.value, measured_at=reading.ts, now=now
                    )
                    if change is not None:
                        return change
            return Change(rested(found, reconciled_next(found, now)))

        await self._store.change_command(command.id, decide, now)

    # --- sessions --------------------------------------------------------------------------------

    async def _attend_session(self, session_id: str) -> None:
        session = await self._store.session(session_id)
        if session is None:
            return
        found = await self._keyring(session.feeder_id, session.gateway_id)
        if found is not None and session.state is SessionState.OFFERED:
            await self._send_keyring_first(session, found)
        decision = SessionDecision(self._signatory, found, self._clock.now())
        after = await self._store.change_session(session_id, decision.decide, decision.now)
        if after is None or after.document is None or not decision.publish:
            return
        published = await self._publish(_Outgoing(session_topic(after), after.document))
        if decision.then_rests:
            later = None if published else decision.now + timedelta(seconds=REFUSED_RETRY_S)
            await self._store.change_session(
                session_id, lambda s, _: SessionChange(replace(s, due_at=later)), decision.now
            )

    async def _send_keyring_first(self, session: LedgerSession, found: InForce) -> None:
        """A gateway without our keyring cannot even answer an offer: it gets both, in this order."""
        deliveries = await self._store.deliveries(
            feeder_id=session.feeder_id, gateway_id=session.gateway_id
        )
        known = {each.version: each for each in deliveries}.get(found.keyring.version)
        if known is None or known.accepted_at is None or session.offers:
            await self._publish_keyring(session.feeder_id, session.gateway_id, found)

    async def _take_session_document(self, topic: SessionTopic, document: Document) -> None:
        found = await self._keyring(topic.feeder_id, topic.gateway_id)
        if found is None:
            return
        if topic.session_id.startswith(KEYRING_PREFIX):
            await self._take_keyring_accept(topic, document, found)
            return
        session = await self._store.session(topic.session_id)
        if session is None or session.digest != document.digest:
            return
        if (session.feeder_id, session.gateway_id) != (topic.feeder_id, topic.gateway_id):
            return
        acts = verified_acts(document, found.keyring.keys)
        if all(act.type is ActType.OFFER for act in acts):
            return  # our own, come back to us
        now = self._clock.now()
        await self._store.change_session(
            session.id,
            lambda held, seen: heard(held, acts, found.keyring, nonces_seen=seen, now=now),
            now,
        )

    # --- keyrings --------------------------------------------------------------------------------

    async def _keyring(self, feeder_id: str, gateway_id: str) -> InForce | None:
        key = (feeder_id, gateway_id)
        if key not in self._keyrings:
            stored = await self._store.keyrings(feeder_id, gateway_id)
            self._keyrings[key] = in_force(
                [each.document for each in stored],
                roots=self._roots,
                feeder_id=feeder_id,
                gateway_id=gateway_id,
            )
        return self._keyrings[key]

    async def _attend_keyring(self, feeder_id: str, gateway_id: str, version: int) -> None:
        """A new keyring: believe nothing that was read before it, and send it to whom it concerns."""
        self._keyrings.clear()
        for stored in await self._store.keyrings(feeder_id):
            if (stored.gateway_id, stored.version) == (gateway_id, version):
                await self._store.spread_keyring(stored, self._clock.now())

    async def _attend_delivery(self, feeder_id: str, gateway_id: str, version: int) -> None:
        found = await self._keyring(feeder_id, gateway_id)
        if found is None or found.keyring.version != version:
            await self._store.put_delivery(
                KeyringDelivery(feeder_id=feeder_id, gateway_id=gateway_id, version=version),
                None,
                self._clock.now(),
            )
            return
        await self._publish_keyring(feeder_id, gateway_id, found)

    async def _publish_keyring(self, feeder_id: str, gateway_id: str, found: InForce) -> None:
        version = found.keyring.version
        topic = SessionTopic(
            FeederId(feeder_id), GatewayId(gateway_id), SessionId(keyring_session_id(version))
        )
        now = self._clock.now()
        deliveries = await self._store.deliveries(feeder_id=feeder_id, gateway_id=gateway_id)
        before = {each.version: each for each in deliveries}.get(version)
        offers = 1 + (0 if before is None else before.offers)
        answer_s = OFFER_ANSWER_S * 2 ** min(offers - 1, OFFERS_MAX)
        is_over = offers >= OFFERS_MAX or (before is not None and before.accepted_at is not None)
        await self._publish(_Outgoing(topic, found.payload))
        await self._store.put_delivery(
            KeyringDelivery(
                feeder_id=feeder_id,
                gateway_id=gateway_id,
                version=version,
                offers=offers,
                due_at=None if is_over else now + timedelta(seconds=answer_s),
            ),
            Entry(
                who=HEAD_END,
                what="keyring published",
                why=f"to {feeder_id}/{gateway_id}",
                result=f"version {version}",
                digest=found.keyring.digest,
            ),
            now,
        )

    async def _take_keyring_accept(
        self, topic: SessionTopic, document: Document, found: InForce
    ) -> None:
        if accepted_by_gateway(document, found, gateway_id=topic.gateway_id) is None:
            return
        await self._offer_to_who_is_there(topic)
        version = found.keyring.version
        deliveries = await self._store.deliveries(
            feeder_id=topic.feeder_id, gateway_id=topic.gateway_id
        )
        before = {each.version: each for each in deliveries}.get(version)
        if before is not None and before.accepted_at is not None:
            return
        now = self._clock.now()
        delivery = KeyringDelivery(
            feeder_id=topic.feeder_id,
            gateway_id=topic.gateway_id,
            version=version,
            offers=0 if before is None else before.offers,
            accepted_at=now,
        )
        entry = Entry(
            who=topic.gateway_id,
            what="keyring accepted",
            result=f"version {version}",
            digest=found.keyring.digest,
        )
        await self._store.put_delivery(delivery, entry, now)

    async def _offer_to_who_is_there(self, topic: SessionTopic) -> None:
        """A gateway tells its keyring at every connection: what it left unanswered is offered to it now.

        A broker keeps nothing for who has never come, so the first offers to a new gateway may be lost.
        """
        now = self._clock.now()
        for session in await self._store.sessions(
            feeder_id=topic.feeder_id, gateway_id=topic.gateway_id, only_open=True
        ):
            await self._store.change_session(
                session.id, lambda held, _: offered_anew(held, now), now
            )


def session_entry(session: LedgerSession) -> Entry:
    """Return what the audit log says of a session that is asked for."""
    return Entry(
        who=session.requested_by,
        what="session requested",
        why=session.reason,
        result=session.state.name.lower(),
        session_id=session.id,
    )


def _keyring_name(due_id: str) -> tuple[str, str, int]:
    feeder_id, gateway_id, version = due_id.split("/")
    return feeder_id, gateway_id, int(version)
