"""Sessions and commands at the gateway: what is decided, in which order it is made durable, and what is told.

The shell around three pure parts: `openami.gateway.handshake` (sessions), `openami.sip.authorise` (the twelve
checks) and `openami.gateway.actuation` (the meter). It holds what lives in memory alone, above all the nonces, and
keeps one order for every command:

    authentic? ─▶ decide and commit the intent, in one transaction ─▶ acknowledge to the broker
               ─▶ order the meter, read back ─▶ commit the report with its place in the outbox, in one transaction

A crash between any two steps moves nothing twice. One decision is made at a time; meters are waited for beside it.
"""

import asyncio
import secrets
import sqlite3
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from openami.clock import Clock
from openami.gateway import actuation, handshake, journal
from openami.gateway.database import DatabaseError
from openami.gateway.decision import (
    finish,
    judge_and_commit,
    nothing_else,
    store_step,
    store_time,
)
from openami.gateway.driver import Meter
from openami.gateway.entries import Sealed
from openami.gateway.handshake import (
    Handshake,
    PublishAct,
    Refused,
    Self,
    Step,
    StoreEnd,
    StoreKeyring,
    StoreSession,
)
from openami.gateway.journal import Intent
from openami.gateway.metrics import GatewayMetrics
from openami.gateway.outbox import Outbox, OutboxError
from openami.gateway.relay_orders import RelayOrders
from openami.gateway.reporting import Outcome, acted, event_topic, reporting
from openami.gateway.signed_time import SignedTime
from openami.gateway.silence import silent_refusals_event
from openami.gateway.timekeeping import Facts
from openami.profile import (
    CommandTopic,
    EventTopic,
    FeederId,
    GatewayId,
    MeterSerial,
    SessionId,
    SessionTopic,
)
from openami.sip.actions import ACTIONS, Action
from openami.sip.acts import ActType
from openami.sip.authorise import (
    Claim,
    GatewayFacts,
    HeldSession,
    Permit,
    Refusal,
    Repeat,
    read_claim,
)
from openami.sip.canonical import Document, encode_base64url
from openami.sip.command import Command
from openami.sip.errors import SipCode
from openami.sip.freshness import TimeFacts
from openami.sip.interlocks import RelayFacts
from openami.sip.keyring import Roots, keyring_session_id
from openami.sip.keys import Signer
from openami.sip.reports import ReportStatus

# How often timers are looked at: renewals, held commands, tickets. The finest of them is a second or two.
TICK_S: Final = 1.0
# Flash wears: between commands the floor of time and the powered seconds are stored so often.
TIME_STORED_EVERY_S: Final = 600.0
# MQTT promises no order between topics: a command may overtake its session's offer, but not by more than this.
EARLY_COMMAND_WAIT_S: Final = 2.0
# A few head-ends' commands in flight; more is not an accident of order.
EARLY_COMMANDS_MAX: Final = 32
# Refusals that were told, so that the same command cannot run after all: a head-end holds it for ended. In memory,
# because after a restart no nonce of before is good.
TOLD_REFUSALS_MAX: Final = 1_000
# Acts and repeated reports on their way to the broker; a connection that takes none of them is about to end.
ANNOUNCEMENTS_MAX: Final = 256
# Commands being carried out: one for each meter of the largest gateway.
EXECUTING_MAX: Final = 1_000
# A nonce this young needs no renewal: whoever was refused for a stale one can use it, or else whoever replays old
# commands could make us publish at will.
RENEWAL_SPACING_S: Final = 30.0
# Reconnections beyond this many in this time are spread: fridges that all start at once trip the feeder again.
SPREAD_ABOVE: Final = 5
SPREAD_WINDOW_S: Final = 300.0
SPREAD_S_MAX: Final = 120.0
# A report whose commit the disk refuses is tried again so often; the row stays `executing` meanwhile.
REPORT_RETRY_S: Final = 5.0
# A line may be down when the gateway starts; after this long what was executing is told as unknown.
LEFTOVER_WAIT_S: Final = 120.0
# A line opens in a second; a command for one that is down is told so rather than kept waiting.
METER_WAIT_S: Final = 5.0
_METER_LOOK_S = 0.1
# What is refused in silence is counted, and told in one event so often.
SILENT_REPORT_INTERVAL_S: Final = 900.0
_NONCE_BYTES = 16

_log = structlog.get_logger(__name__)

Announcement = tuple[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What commanding is given: who we are, our key, and the world."""

    me: Self
    signer: Signer
    pinned: Roots
    serials: frozenset[str]
    outbox: Outbox
    clock: Clock
    meter: Callable[[MeterSerial], Meter | None]
    """The meter, while its line is open."""
    lock_out: Path
    metrics: GatewayMetrics
    spread: Callable[[], float]
    """A random number from 0 to 1."""
    fresh_nonce: Callable[[], str]
    """Nobody guesses it, see `secret_nonce`."""
    orders: RelayOrders = field(default_factory=RelayOrders)
    """Where it is noted what contactors were ordered to, for those who watch them."""
    readings_wait: Callable[[], bool] = lambda: False
    """Whether readings wait by the monthly cap, so that none is sent a second time (decision 0076)."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    """How to wait; a clock that obeys a test has its own way."""
    tick_s: float = TICK_S


def secret_nonce() -> str:
    """Return a nonce of 128 bits from the machine's own randomness."""
    return encode_base64url(secrets.token_bytes(_NONCE_BYTES))


@dataclass(frozen=True, slots=True, eq=False)
class _Early:
    """A command whose session is not here yet; read anew when it is, because keys may have gone meanwhile."""

    topic: CommandTopic
    payload: bytes
    session_id: str
    decided: Callable[[], None]
    until_s: float


@dataclass(frozen=True, slots=True)
class _Plan:
    """When a permitted command runs: after a wait, and not at all beyond its end."""

    wait_s: float
    until_boottime_s: float


class Commanding:
    """The gateway's sessions and commands, from its start to its end."""

    def __init__(self, around: Surroundings, recalled: journal.Recalled) -> None:
        self._around = around
        self._state = Handshake(
            roots=recalled.roots,
            keyring=recalled.keyring,
            sessions=recalled.sessions,
            ended=recalled.ended,
        )
        self._time = SignedTime.recalled(
            recalled.lo, recalled.powered_s, boottime_s=around.clock.boottime()
        )
        self._time_stored_s = around.clock.boottime()
        self._leftovers = recalled.executing
        self._keyring_document: Document | None = recalled.keyring_document
        self._turn = asyncio.Lock()
        self._group: asyncio.TaskGroup | None = None
        self._connected = False
        self._early: list[_Early] = []
        self._told: OrderedDict[str, bytes] = OrderedDict()
        self._outgoing: deque[Announcement] = deque(maxlen=ANNOUNCEMENTS_MAX)
        self._announced = asyncio.Event()
        self._executing = asyncio.Semaphore(EXECUTING_MAX)
        self._in_hand = 0
        self._meter_turns: dict[str, asyncio.Lock] = {}
        self._reconnections_s: deque[float] = deque(maxlen=SPREAD_ABOVE)
        self._silent: Counter[str] = Counter()
        self._silent_told_s = around.clock.boottime()

    @classmethod
    async def made(cls, around: Surroundings) -> "Commanding":
        """Return what goes on from where the journal stands. Raises DatabaseError."""
        recall = partial(
            journal.recall,
            pinned=around.pinned,
            feeder_id=around.me.feeder_id,
            gateway_id=around.me.gateway_id,
        )
        return cls(around, await around.outbox.database.run(recall))

    @property
    def state(self) -> Handshake:
        """What is known of keyring and sessions."""
        return self._state

    @property
    def time_known(self) -> TimeFacts:
        """What is known of the time by now."""
        return self._now()

    @property
    def is_connected(self) -> bool:
        """Whether a broker delivers to us."""
        return self._connected

    @property
    def executing(self) -> int:
        """How many commands are being carried out."""
        return self._in_hand

    async def run(self) -> None:
        """Keep the timers and carry out what is permitted, until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for intent in self._leftovers:
                self._start(self._settle_leftover(intent), f"settle {intent.identity}")
            while True:
                await self.tick()
                await asyncio.sleep(self._around.tick_s)

    # --- the connection --------------------------------------------------------------------------

    async def connected(self) -> None:
        """Give every session a new nonce, and tell it: what was sent before must not act from now on."""
        async with self._turn:
            self._connected = True
            self._tell_keyring()
            await self._renew(self._state.sessions)

    def disconnected(self) -> None:
        """Forget what was on its way; the broker delivers again what was not acknowledged."""
        self._connected = False
        self._early.clear()
        self._outgoing.clear()

    async def next_announcement(self) -> Announcement:
        """Wait for something to publish beside the outbox: acts, and reports that are repeated."""
        while not self._outgoing:
            self._announced.clear()
            await self._announced.wait()
        return self._outgoing.popleft()

    def waiting_announcements(self) -> Sequence[Announcement]:
        """Take all that is to be published now, without waiting."""
        waiting = list(self._outgoing)
        self._outgoing.clear()
        return waiting

    def _announce(self, topic: object, payload: bytes) -> None:
        if self._connected:
            self._outgoing.append((str(topic), payload))
            self._announced.set()

    # --- sessions --------------------------------------------------------------------------------

    async def take_session(self, topic: SessionTopic, payload: bytes, *, retain: bool) -> None:
        """Take a message from the session topic; when this returns, what follows from it is durable."""
        async with self._turn:
            step = handshake.receive(
                self._state,
                topic,
                payload,
                retain=retain,
                me=self._around.me,
                time=self._now(),
                fresh_nonce=self._around.fresh_nonce(),
            )
            await self._apply(step)
        await self._decide_early(topic.session_id)

    async def _apply(self, step: Step) -> None:
        """Store, then believe, then tell. Where the disk takes nothing, nothing has happened."""
        try:
            if any(isinstance(e, StoreKeyring | StoreSession | StoreEnd) for e in step.effects):
                await self._around.outbox.database.run(partial(store_step, step=step))
        except DatabaseError as error:
            _log.error("session not stored", reason=str(error), remedy=error.remedy)
            return
        self._state = step.state
        for effect in step.effects:
            match effect:
                case PublishAct():
                    self._publish_act(effect)
                case StoreKeyring():
                    self._keyring_document = effect.document
                    self._time = self._time.at(self._boottime()).after_keyring(effect.keyring)
                    _log.info("keyring in force", version=effect.keyring.version)
                case StoreSession():
                    _log.info("session active", session=effect.session.document.session_id)
                case StoreEnd():
                    _log.info("session ended", session=effect.session_id, state=effect.state.name)
                case Refused():
                    self._count_silent(effect.code)
                    _log.info(
                        "handshake refused",
                        session=effect.session_id,
                        code=effect.code.value,
                        reason=effect.detail,
                    )

    def _publish_act(self, effect: PublishAct) -> None:
        me = self._around.me
        payload = acted(
            effect.document,
            self._around.signer,
            effect.type,
            iat=int(self._told_now().timestamp()),
            nonce=effect.nonce,
            reason=effect.reason,
        )
        self._announce(
            SessionTopic(
                FeederId(me.feeder_id), GatewayId(me.gateway_id), SessionId(effect.session_id)
            ),
            payload,
        )

    def _tell_keyring(self) -> None:
        """Say which keyring is in force, at every connection: an accept that got lost is told again."""
        keyring, document = self._state.keyring, self._keyring_document
        if keyring is not None and document is not None:
            session_id = keyring_session_id(keyring.version)
            nonce = self._around.fresh_nonce()
            self._publish_act(PublishAct(document, session_id, ActType.ACCEPT, nonce=nonce))

    async def _renew(self, session_ids: Iterable[str]) -> None:
        nonces = {session_id: self._around.fresh_nonce() for session_id in session_ids}
        await self._apply(handshake.renew(self._state, nonces, self._now()))

    # --- commands --------------------------------------------------------------------------------

    async def take_command(
        self, topic: CommandTopic, payload: bytes, *, retain: bool, decided: Callable[[], None]
    ) -> None:
        """Take a command; ``decided`` is called when the broker may forget it, which may be later."""
        claim = self._claim(topic, payload, retain=retain)
        if claim is None:
            decided()
        elif self._is_early(claim.command) and len(self._early) < EARLY_COMMANDS_MAX:
            session_id = claim.command.session_id
            assert session_id is not None
            until_s = self._boottime() + EARLY_COMMAND_WAIT_S
            self._early.append(_Early(topic, payload, session_id, decided, until_s))
        else:
            await self.decide(claim)
            decided()

    def _claim(self, topic: CommandTopic, payload: bytes, *, retain: bool) -> Claim | None:
        """Return what is authentic; None for the rest, which is counted and gets no answer."""
        me = self._around.me
        claim = read_claim(
            topic,
            payload,
            retain=retain,
            feeder_id=me.feeder_id,
            gateway_id=me.gateway_id,
            keyring=self._state.keyring,
        )
        if isinstance(claim, Claim):
            return claim
        self._count_silent(claim.code)
        _log.debug("command refused in silence", code=claim.code.value, reason=claim.detail)
        return None

    async def take_ticket(self, topic: CommandTopic, payload: bytes) -> bytes | None:
        """Take a ticket that was carried in by hand; return its report when it is done.

        None when it is no ticket, or not signed as it must be: the log says why.
        """
        claim = self._claim(topic, payload, retain=False)
        if claim is None or claim.command.ticket is None:
            return None
        told = await self.decide(claim)
        return await told if isinstance(told, asyncio.Task) else told

    def _is_early(self, command: Command) -> bool:
        session_id = command.session_id
        return (
            session_id is not None
            and session_id not in self._state.sessions
            and session_id not in self._state.ended
        )

    async def _decide_early(self, session_id: str | None = None) -> None:
        """Decide the commands that waited for this session; without one, those that waited long enough."""
        now_s = self._boottime()
        due = [
            early
            for early in self._early
            if early.session_id == session_id or (session_id is None and now_s >= early.until_s)
        ]
        for early in due:
            if early in self._early:
                self._early.remove(early)
                claim = self._claim(early.topic, early.payload, retain=False)
                if claim is not None:
                    await self.decide(claim)
                early.decided()

    async def decide(self, claim: Claim) -> "asyncio.Task[bytes] | bytes":
        """Decide an authentic command; return its report, or the task that will have it."""
        async with self._turn:
            command = claim.command
            assert claim.keyring is self._state.keyring, "keyrings change between commands only"
            told = self._told.get(command.document.digest)
            if told is not None:
                self._announce(self._event_topic(command.meter_serial), told)
                return told
            facts = self._facts(claim, self._now())
            plan = self._plan(claim, facts)
            judge = partial(judge_and_commit, claim=claim, facts=facts, wait_s=plan.wait_s)
            try:
                decision = await self._around.outbox.database.run(judge)
            except DatabaseError as error:
                _log.error("command not stored", reason=str(error), remedy=error.remedy)
                return await self._unstored(command, Refusal(SipCode.STORAGE, str(error), command))
            match decision.verdict:
                case Permit() as permit:
                    return self._begin(permit, plan)
                case Repeat():
                    return self._repeat(command, decision.report)
                case Refusal() as refusal:
                    return await self._refuse(command, refusal)

    async def _unstored(self, command: Command, refusal: Refusal) -> bytes:
        """Refuse what cannot be stored, if it is certain that it has not run; else it may be a repetition.

        Where the journal cannot even be read there is no answer: the head-end holds it for unknown, which it is.
        """
        try:
            known = await self._around.outbox.database.run(
                partial(journal.known_of, command=command)
            )
        except DatabaseError:
            return b""
        if known.done is None:
            return await self._refuse(command, refusal)
        return self._repeat(command, known.report)

    def _facts(self, claim: Claim, time: TimeFacts) -> GatewayFacts:
        """Return what is in memory of the facts; `judge_and_commit` adds the journal's."""
        me, state = self._around.me, self._state
        return GatewayFacts(
            feeder_id=me.feeder_id,
            gateway_id=me.gateway_id,
            meters=self._around.serials,
            keyring=state.keyring,
            session=self._session(claim.command.session_id),
            done=None,
            high_water=0,
            trades_done=frozenset(),
            tickets_used=frozenset(),
            relay=RelayFacts(
                locked_out=self._locked_out(),
                budget=journal.FULL_BUDGET,
                powered_s=self._powered_s(),
                last_moved_powered_s=None,
            ),
            time=time,
            ended=state.ended.get(claim.command.session_id or ""),
        )

    def _session(self, session_id: str | None) -> HeldSession | None:
        if session_id is None:
            return None
        return self._state.sessions.get(session_id)

    def _repeat(self, command: Command, report: bytes | None) -> bytes:
        """The same command again: its report again. While it is executing there is none yet, and one will come."""
        self._around.metrics.commands.labels(verdict="repeat").inc()
        if report is not None:
            self._announce(self._event_topic(command.meter_serial), report)
        return report or b""

    async def _refuse(self, command: Command, refusal: Refusal) -> bytes:
        """Tell a refusal, signed. From now on this very command is refused, whatever changes."""
        self._around.metrics.commands.labels(verdict=refusal.code.value).inc()
        _log.warning(
            "command refused",
            command=journal.identity_of(command),
            code=refusal.code.value,
            reason=refusal.detail,
        )
        if refusal.renew_nonce:
            await self._renew_if_old(command.session_id)
        intent, outcome = Intent.of(command), Outcome.refused(refusal.code)
        report = await self._tell(intent, outcome, within=nothing_else)
        if report is None:
            # The disk takes nothing: at least those who listen now hear it.
            report = self._sealing(intent, outcome, self._told_now())(None)
            self._announce(self._event_topic(intent.meter), report)
        if command.ticket is None:
            self._told[command.document.digest] = report
            while len(self._told) > TOLD_REFUSALS_MAX:
                self._told.popitem(last=False)
        return report

    async def _renew_if_old(self, session_id: str | None) -> None:
        session = self._session(session_id)
        if session_id is None or session is None or session.nonces is None:
            return
        if session.nonces.current.age_s(self._boottime()) >= RENEWAL_SPACING_S:
            await self._renew([session_id])

    # --- carrying out ----------------------------------------------------------------------------

    def _plan(self, claim: Claim, facts: GatewayFacts) -> _Plan:
        """Return when the command would run; reconnections are spread, so that not all loads start at once.

        A wait never takes a command beyond its life, which is counted as `authorise` counts it.
        """
        command, session, time = claim.command, facts.session, facts.time
        if session is None or session.nonces is None:
            return _Plan(0.0, float("inf"))
        signed_at_s = max(act.iat for act in claim.acts)
        age_s = session.nonces.current.age_s(time.boottime_s)
        left_s = command.not_after.timestamp() - signed_at_s - age_s
        if time.trusted_now is not None:
            left_s = max(left_s, (command.not_after - time.trusted_now).total_seconds())
        left_s = max(0.0, min(left_s, session.limits.nonce_life_s - age_s))
        wait_s = 0.0
        if command.action is Action.RECONNECT and self._many_reconnected(time.boottime_s):
            wait_s = min(self._around.spread() * SPREAD_S_MAX, left_s)
        # What was in time when it was decided may take its meter's turn, whatever that takes of a poll.
        return _Plan(wait_s, time.boottime_s + max(left_s, actuation.METER_TIMEOUT_S))

    def _many_reconnected(self, now_s: float) -> bool:
        recent = [at_s for at_s in self._reconnections_s if now_s - at_s < SPREAD_WINDOW_S]
        return len(recent) >= SPREAD_ABOVE

    def _begin(self, permit: Permit, plan: _Plan) -> "asyncio.Task[bytes]":
        """The intent is on the disk: what can go wrong from here on, goes wrong once."""
        command = permit.command
        self._around.metrics.commands.labels(verdict="permit").inc()
        if command.action is Action.RECONNECT:
            self._reconnections_s.append(self._boottime())
        self._learn_time(permit)
        return self._start(self._execute(command, plan), f"command {journal.identity_of(command)}")

    def _start(self, work: Coroutine[None, None, bytes], name: str) -> "asyncio.Task[bytes]":
        assert self._group is not None, "commands are taken while run() runs"
        task = self._group.create_task(work, name=name)
        self._in_hand += 1
        task.add_done_callback(self._ended_one)
        return task

    def _ended_one(self, task: "asyncio.Task[bytes]") -> None:
        self._in_hand -= 1

    def _learn_time(self, permit: Permit) -> None:
        """A command that echoed a nonce was signed after it: the best witness of the time there is."""
        command, now_s = permit.command, self._boottime()
        session = self._session(command.session_id)
        if session is None or session.nonces is None:
            return
        nonce = session.nonces.matching(
            command.nonce or "", boottime_s=now_s, life_s=session.limits.nonce_life_s
        )
        if nonce is not None:
            self._time = self._time.at(now_s).after_command(
                permit.signed_at, nonce_made_at_s=nonce.made_at_boottime_s, keyring=permit.keyring
            )

    async def _execute(self, command: Command, plan: _Plan) -> bytes:
        intent = Intent.of(command)
        async with self._executing, self._meter_turn(command.meter_serial):
            if plan.wait_s > 0:
                await self._tell(intent, Outcome(ReportStatus.ACCEPTED), within=nothing_else)
                await self._around.sleep(plan.wait_s)
            return await self._conclude(intent, await self._outcome(command, plan))

    async def _outcome(self, command: Command, plan: _Plan) -> Outcome:
        if self._locked_out():  # since it was decided, somebody has begun to work on the line
            return Outcome(ReportStatus.FAILED, SipCode.LOCKOUT.value)
        if self._boottime() > plan.until_boottime_s:
            return Outcome(ReportStatus.FAILED, SipCode.EXPIRED.value)
        if command.action is Action.RESEND and self._around.readings_wait():
            return Outcome(ReportStatus.FAILED, SipCode.RATE_LIMIT.value)
        meter = None
        if command.action not in (Action.SETTLE, Action.RESEND):
            meter = await self._meter(command.meter_serial, METER_WAIT_S)
        # Before it goes to the meter: a poll may see the contactor move before the meter has answered the order.
        identity = journal.identity_of(command)
        self._around.orders.note(command.meter_serial, command.action, identity)
        outcome = await actuation.carry_out(command, meter, self._around.outbox, self._around.sleep)
        if outcome.status is ReportStatus.FAILED and outcome.position is None:
            self._around.orders.withdraw(command.meter_serial, identity)
        return outcome

    async def _settle_leftover(self, intent: Intent) -> bytes:
        """A command that was executing when the program ended: look, tell, and never do it again."""
        meter = None
        if ACTIONS[intent.action].moves_relay:
            meter = await self._meter(intent.meter, LEFTOVER_WAIT_S)
        outcome = await actuation.after_restart(intent.action, meter, self._around.sleep)
        _log.warning(
            "command settled after a restart", command=intent.identity, status=outcome.status
        )
        return await self._conclude(intent, outcome)

    async def _meter(self, serial: str, wait_s: float) -> Meter | None:
        """Return the meter once its line is open; None when that takes too long."""
        for _ in range(int(wait_s / _METER_LOOK_S)):
            meter = self._around.meter(MeterSerial(serial))
            if meter is not None:
                return meter
            await self._around.sleep(_METER_LOOK_S)
        return None

    async def _conclude(self, intent: Intent, outcome: Outcome) -> bytes:
        """Store the report with its place in the outbox; as long as the disk refuses, the row stays executing."""
        self._around.metrics.reports.labels(status=outcome.status.value).inc()
        while True:
            within = partial(finish, intent=intent, powered_s=self._powered_s())
            report = await self._tell(intent, outcome, within=within)
            if report is not None:
                return report
            await self._around.sleep(REPORT_RETRY_S)

    async def _tell(
        self,
        intent: Intent,
        outcome: Outcome,
        *,
        within: Callable[[sqlite3.Connection, bytes], None],
    ) -> bytes | None:
        """Put a signed report into the outbox; None when the disk does not take it."""
        told: list[bytes] = []

        def keep(connection: sqlite3.Connection, payload: bytes) -> None:
            within(connection, payload)
            told.append(payload)

        now = self._told_now()
        topic = self._event_topic(intent.meter)
        sealed = Sealed(str(topic), now, self._sealing(intent, outcome, now))
        try:
            await self._around.outbox.append_sealed(sealed, within=keep)
        except OutboxError as error:
            _log.error("report not stored", reason=str(error), remedy=error.remedy)
            return None
        return told[-1]

    def _sealing(
        self, intent: Intent, outcome: Outcome, now: datetime
    ) -> Callable[[int | None], bytes]:
        session = self._session(intent.session_id)
        nonces = None if session is None else session.nonces
        return reporting(
            self._event_topic(intent.meter),
            intent,
            outcome,
            signer=self._around.signer,
            nonce=None if nonces is None else nonces.current.text,
            ts=now,
        )

    def _event_topic(self, meter: str) -> EventTopic:
        me = self._around.me
        return event_topic(me.feeder_id, me.gateway_id, meter)

    def _meter_turn(self, serial: str) -> asyncio.Lock:
        """One command at a time for a meter: its order and its read-back belong together."""
        return self._meter_turns.setdefault(serial, asyncio.Lock())

    # --- time ------------------------------------------------------------------------------------

    async def tick(self) -> None:
        """Look at every timer; `run` does it every `TICK_S`."""
        async with self._turn:
            await self._apply(handshake.expire(self._state, self._now()))
            if self._connected:
                await self._renew(handshake.due_for_renewal(self._state, self._boottime()))
            await self._store_time_when_due()
            await self._tell_silent_when_due()
        await self._decide_early()

    async def _store_time_when_due(self) -> None:
        now_s = self._boottime()
        if now_s - self._time_stored_s < TIME_STORED_EVERY_S:
            return
        self._time_stored_s = now_s
        known = self._time.at(now_s)
        try:
            await self._around.outbox.database.run(
                partial(store_time, lo=known.lo, powered_s=known.powered_s)
            )
        except DatabaseError as error:
            _log.error("time not stored", reason=str(error), remedy=error.remedy)

    async def _tell_silent_when_due(self) -> None:
        now_s = self._boottime()
        if not self._silent or now_s - self._silent_told_s < SILENT_REPORT_INTERVAL_S:
            return
        self._silent_told_s = now_s
        me = self._around.me
        sealed = silent_refusals_event(
            self._silent,
            me=me,
            signer=self._around.signer,
            now=self._told_now(),
        )
        try:
            await self._around.outbox.append_sealed(sealed, within=nothing_else)
        except OutboxError as error:
            _log.error("event not stored", reason=str(error), remedy=error.remedy)
        else:
            self._silent.clear()

    def _count_silent(self, code: SipCode) -> None:
        self._silent[code.value] += 1
        self._around.metrics.silent_refusals.labels(code=code.value).inc()

    def _now(self) -> TimeFacts:
        clock = self._around.clock
        return self._time.facts(Facts(clock.now(), clock.boottime(), clock.synchronised()))

    def _told_now(self) -> datetime:
        """Return the time to put under a statement: the clock's if it is believed, or the least that is known."""
        clock, lo = self._around.clock, self._now().lo
        if self._around.outbox.clock_verdict.trusted:
            return max(clock.now(), lo)
        return lo

    def _boottime(self) -> float:
        return self._around.clock.boottime()

    def _powered_s(self) -> float:
        return self._time.at(self._boottime()).powered_s

    def _locked_out(self) -> bool:
        """Return whether the lock-out file is there: somebody works on the line."""
        return self._around.lock_out.exists()
