"""Performing the acts: the shell around the table in ``acts.py``.

One act after the other, because two at a time would explain each other's effects. What is published, cut or asked
here is told to the judge as an observation like any other; whether the gateway did right is not decided here.
"""

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from openami.clock import Clock
from openami.conformance.acts import (
    ACT_LIFE,
    HANDS_S_MAX,
    ActEvent,
    ActRow,
    ActState,
    next_act,
    relay_meter,
    spared,
)
from openami.conformance.door import Door
from openami.conformance.hook import Hook, HookFailed
from openami.conformance.judge import Judge
from openami.conformance.observation import (
    Act,
    ActBegan,
    ActEnded,
    Observation,
    RelaySeen,
    Sent,
)
from openami.conformance.operator import Operator, session_topic
from openami.conformance.probe import (
    IN_SESSION,
    NO_NEIGHBOUR,
    WITHOUT_SESSION,
    Aim,
    Forgery,
    order,
    other_position,
)
from openami.conformance.scene import MeterSeen, Scene
from openami.mqtt.port import Connection
from openami.pki.names import GatewayName
from openami.profile import CommandTopic, MeterSerial
from openami.profile.life import Party
from openami.sip.canonical import read_document
from openami.sip.errors import SipCode
from openami.sip.keyring import Keyring
from openami.sip.keys import KeySigner, PublicKey
from openami.sip.reports import ReportStatus

# What is waited for comes within seconds; a tenth is not noticed.
_LOOK_S = 0.1
# A look at all findings costs some milliseconds, and an act takes seconds.
_NEXT_LOOK_S = 0.5
# A gateway answers an offer, or a command, within a second; over GPRS within ten.
ANSWER_S_MAX: Final = 60.0
# After an order a contactor takes a tenth of a second and its read-back a few; a hook looks after that.
RELAY_SETTLES_S: Final = 2.0
# How long a position of the relay is waited for that was measured after an order; the rules look no longer.
RELAY_LOOK_S_MAX: Final = 60.0
RELAY_LOOK_S_MIN: Final = 10.0
# A gateway of ours cuts nobody off within five minutes of a relay's last movement (docs/sip.md).
RELAY_RESTS_S: Final = 305.0
# Once, once more after a rest, and once more because the nonce had grown old in it.
ATTEMPTS_MAX: Final = 3
# Short enough to be waited for, long enough to be accepted first.
_SHORT_SESSION: Final = timedelta(seconds=8)
# A gateway's clock may lag a little; its session has ended for it too.
_SESSION_OVER_S: Final = 3.0
# What should come again or afterwards is looked for by the rules for two minutes.
RULES_WAIT_S_MAX: Final = 130.0
# One relay is enough, and a second one is the neighbour's.
RELAYS_ASKED_MAX: Final = 4
# Intervals that a link or a meter stays away: the rules look for what came in three of them.
HELD_INTERVALS: Final = 3.5
HELD_S_MIN: Final = 5.0
HELD_S_MAX: Final = 2_700.0
# A message that is not acknowledged may be sent again at once; then the link is cut.
_CUT_AFTER_S: Final = 1.0
# What is sent again is sent first; the rules wait longer, and need nobody to wait with them.
RESENT_S_MAX: Final = 20.0

_COMMAND_ENDS: Final = frozenset(ReportStatus) - {ReportStatus.ACCEPTED}


class Undone(Exception):
    """An act cannot be done; the message says why, to the person."""


@dataclass(slots=True, kw_only=True)
class Standing:
    """Where an act stands, for those who look on."""

    row: ActRow
    state: ActState = ActState.WAITING
    meter: MeterSerial | None = None
    detail: str = ""
    prompt: str | None = None
    """What a person is asked to do now."""
    asks_where: bool = False
    """Whether the prompt is a question: does the house have power?"""
    began_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What acts are performed with."""

    door: Door
    connection: Connection
    judge: Judge
    scene: Scene
    operator: Operator
    keyring: Keyring | None
    keyring_payload: bytes | None
    clock: Clock
    see: Callable[[Observation], None]
    hook: Hook | None = None
    verbs: frozenset[str] = frozenset()
    outage_s: float | None = None
    """How long the network is taken away; None: as long as the gateway's own interval asks for."""


@dataclass(slots=True)
class Performance:
    """All acts of a run, one after the other."""

    bench: Bench
    rows: Sequence[ActRow]
    standings: dict[Act, Standing] = field(init=False)
    _confirmed: asyncio.Event = field(default_factory=asyncio.Event)
    _skipped: asyncio.Event = field(default_factory=asyncio.Event)
    _power_seen: bool | None = None
    _idle_since: datetime | None = None
    _asked_for: set[MeterSerial] = field(default_factory=set)  # bound: RELAYS_ASKED_MAX

    def __post_init__(self) -> None:
        self.standings = {row.act: Standing(row=row) for row in self.rows}

    # --- what the person says

    def confirm(self) -> None:
        """What was asked for is done."""
        self._confirmed.set()

    def skip(self) -> None:
        """What is under way, or asked for, is left out."""
        self._skipped.set()

    def saw_power(self, *, power: bool) -> None:
        """The house of the meter that was asked about has power, or has none."""
        self._power_seen = power

    @property
    def buttons(self) -> Mapping[str, Callable[[], None]]:
        """What a person may say, by the word on the page."""
        return {
            "done": self.confirm,
            "skip": self.skip,
            "yes": lambda: self.saw_power(power=True),
            "no": lambda: self.saw_power(power=False),
        }

    # --- how far it is

    def is_over(self, idle_s_max: float) -> bool:
        """Whether every act has ended and was judged, or nothing more happened for so long.

        What is missed has to be waited for by the rules before they say so.
        """
        if self._idle_since is None:
            return False
        idle_s = (self._now() - self._idle_since).total_seconds()
        judged = self.bench.judge.judgement(self._now())
        open_ = {f.requirement for f in judged.findings if f.verdict == "not exercised"}
        states = [s.state for s in self.standings.values()]
        due = [s.row for s in self.standings.values() if s.state is ActState.DONE]
        if any(requirement in open_ for row in due for requirement in row.serves):
            return idle_s >= max(idle_s_max, RULES_WAIT_S_MAX)
        return all(ACT_LIFE.is_terminal(state) for state in states) or idle_s >= idle_s_max

    # --- performing

    async def run(self) -> None:
        """Perform act after act; look for ever, because a reconnected gateway may be ready for more."""
        while True:
            now = self._now()
            judged = self.bench.judge.judgement(now)
            open_ = {f.requirement for f in judged.findings if f.verdict == "not exercised"}
            states = {act: standing.state for act, standing in self.standings.items()}
            for row in spared(self.rows, states, open_):
                self._move(row, ActEvent.EXERCISED, Party.KIT)
                states[row.act] = self.standings[row.act].state
            await self._ask_for_relays()
            row_due = next_act(self.rows, states, open_, self.bench.scene)
            if row_due is None:
                self._idle_since = self._idle_since or now
                await asyncio.sleep(_NEXT_LOOK_S)
                continue
            self._idle_since = None
            await self._perform(row_due)

    async def _ask_for_relays(self) -> None:
        """Ask the hook where relays are that no reading tells of, each once."""
        bench = self.bench
        if bench.hook is None or "relay" not in bench.verbs or relay_meter(bench.scene) is not None:
            return
        for serial in list(bench.scene.meters)[:RELAYS_ASKED_MAX]:
            if serial not in self._asked_for:
                self._asked_for.add(serial)
                # A meter without a relay is no failure of the hook's.
                with contextlib.suppress(HookFailed):
                    connected = await bench.hook.relay(serial)
                    bench.see(RelaySeen(self._now(), serial, connected))

    async def _perform(self, row: ActRow) -> None:
        """Perform one act to its end, whichever it is."""
        standing = self.standings[row.act]
        self._confirmed.clear()
        self._skipped.clear()
        standing.meter = self._meter_for(row)
        steps = asyncio.create_task(self._steps(row, standing), name=f"act {row.act}")
        skipped = asyncio.create_task(self._skipped.wait(), name="skip")
        try:
            async with asyncio.timeout(row.timeout_s):
                await asyncio.wait((steps, skipped), return_when=asyncio.FIRST_COMPLETED)
            if not steps.done():
                self._end(standing, ActEvent.SKIP, Party.VENDOR, "left out")
                return
            await steps
            self._end(standing, ActEvent.SEEN, Party.KIT, standing.detail)
        except TimeoutError:
            self._end(standing, ActEvent.TIME_PASSED, Party.TIME, "not seen in time")
        except (Undone, HookFailed) as error:
            if standing.state is ActState.WAITING:
                self._begin(standing)
            self._end(standing, ActEvent.IMPOSSIBLE, Party.KIT, str(error))
        finally:
            for task in (steps, skipped):
                task.cancel()
            await asyncio.gather(steps, skipped, return_exceptions=True)
            standing.prompt = None
            self.bench.door.put_up()
            self.bench.door.withholding = False

    async def _steps(self, row: ActRow, standing: Standing) -> None:
        match row.act:
            case Act.ACKNOWLEDGEMENT_WITHHELD:
                await self._withhold(standing)
            case Act.NETWORK_LOST:
                await self._lose_network(standing)
            case Act.COMMAND_WITHOUT_SESSION:
                await self._forge_without_session(standing)
            case Act.SESSION_OFFERED:
                await self._hold_session(standing)
            case _:
                await self._by_hook_or_hands(standing)

    def _meter_for(self, row: ActRow) -> MeterSerial | None:
        """Return the meter an act is about: one with a relay, for orders; else one whose relay is not needed."""
        if not row.of_meter:
            return None
        meters = self.bench.scene.meters
        aimed = relay_meter(self.bench.scene)
        if row.act is Act.METER_UNPLUGGED:
            others = [m for m in meters.values() if m is not aimed]
            chosen = others[0] if others else next(iter(meters.values()), None)
        else:
            chosen = aimed or next(iter(meters.values()), None)
        return None if chosen is None else chosen.serial

    # --- the link

    async def _withhold(self, standing: Standing) -> None:
        scene, door = self.bench.scene, self.bench.door
        before = scene.withheld
        self._begin(standing)
        door.withholding = True
        await self._until(lambda: scene.withheld > before)
        await asyncio.sleep(_CUT_AFTER_S)
        door.withholding = False
        cut_at = self._now()
        door.cut()
        await self._until(
            lambda: scene.last_connected_at is not None and scene.last_connected_at > cut_at
        )
        try:
            async with asyncio.timeout(RESENT_S_MAX):
                await self._until(lambda: standing.row.shows(scene, cut_at, None))
            standing.detail = "the message has come again"
        except TimeoutError:
            standing.detail = "the message has not come again so far"

    async def _lose_network(self, standing: Standing) -> None:
        hold_s = self.bench.outage_s or self._held_s(None)
        self._begin(standing)
        standing.detail = f"down for {hold_s:.0f} s"
        self.bench.door.take_down()
        await asyncio.sleep(hold_s)
        # The link's loss is over before anybody can come back.
        up_at = self._now()
        self._tell_end(standing, done=True, detail="")
        self.bench.door.put_up()
        standing.detail = "up again: waiting for the gateway"
        await self._until(lambda: standing.row.shows(self.bench.scene, up_at, None))
        standing.detail = f"was down for {hold_s:.0f} s"

    def _held_s(self, serial: MeterSerial | None) -> float:
        """Return how long HELD_INTERVALS of a meter are, or of the one that is told of most often."""
        meters = self.bench.scene.meters
        meter = meters.get(serial) if serial is not None else None
        chosen = [meter] if meter is not None else list(meters.values())
        known = [m.interval_s for m in chosen if m.interval_s]
        shortest = min(known, default=HELD_S_MIN)
        return min(max(HELD_INTERVALS * shortest, HELD_S_MIN), HELD_S_MAX)

    # --- hooks and hands

    async def _by_hook_or_hands(self, standing: Standing) -> None:
        """Have it done, wait until it shows, and have it undone, whatever happens in between."""
        row = standing.row
        try:
            await self._done(standing)
        except asyncio.CancelledError:
            if {row.hook, row.undo_hook} <= self.bench.verbs:
                await self._hooked(str(row.undo_hook), standing.meter)
            raise
        if row.undo_asks is not None:
            self._tell_end(standing, done=True, detail="")
            await self._undone(standing)

    async def _done(self, standing: Standing) -> None:
        row = standing.row
        assert row.asks is not None
        asked_at = self._now()

        def shows() -> bool:
            return row.shows(self.bench.scene, asked_at, standing.meter)

        if row.hook in self.bench.verbs:
            self._begin(standing)
            await self._hooked(str(row.hook), standing.meter)
        else:
            await self._asked(standing, row.asks, shows)
        if row.act is Act.METER_UNPLUGGED:
            await asyncio.sleep(self._held_s(standing.meter))
        else:
            await self._until(shows)

    async def _asked(self, standing: Standing, words: str, shows: Callable[[], bool]) -> None:
        """Ask a person; return when it shows, or the person says that it is done."""
        standing.state = ACT_LIFE.after(standing.state, ActEvent.ASK, by=Party.KIT)
        standing.prompt = words.format(meter=standing.meter)
        await self._until(lambda: self._confirmed.is_set() or shows())
        said = self._confirmed.is_set()
        event, by = (ActEvent.CONFIRM, Party.VENDOR) if said else (ActEvent.SHOWS, Party.GATEWAY)
        self._begin(standing, event, by)

    async def _undone(self, standing: Standing) -> None:
        """Have what was taken away brought back."""
        row, since = standing.row, self._now()
        if row.undo_hook in self.bench.verbs:
            await self._hooked(str(row.undo_hook), standing.meter)
            return
        assert row.undo_asks is not None
        self._confirmed.clear()
        standing.prompt = row.undo_asks.format(meter=standing.meter)

        def is_back() -> bool:
            meter = self.bench.scene.meters.get(standing.meter or MeterSerial(""))
            return meter is not None and meter.good_at is not None and meter.good_at > since

        await self._until(lambda: self._confirmed.is_set() or is_back())

    async def _hooked(self, verb: str, meter: MeterSerial | None) -> None:
        assert self.bench.hook is not None
        await self.bench.hook.do(verb, *(() if meter is None else (meter,)))

    # --- commands

    async def _forge_without_session(self, standing: Standing) -> None:
        self._begin(standing)
        await self._forge(standing, WITHOUT_SESSION, itertools.count(1))
        standing.detail = f"{len(WITHOUT_SESSION)} forged commands were sent"

    async def _hold_session(self, standing: Standing) -> None:
        """Offer a session; where it is accepted, give honest and forged commands in it, and end it."""
        self._begin(standing)
        name = self._gateway_name()
        if self.bench.keyring_payload is not None and self.bench.keyring is not None:
            version = f"keyring-{self.bench.keyring.version:010d}"
            topic = str(session_topic(name, version))
            await self._send(topic, self.bench.keyring_payload, Act.KEYRING)
        session = await self._offered(name, standing)
        if session is None:
            standing.detail = "the session was not accepted: only what must not move was judged"
            return
        numbers = itertools.count(1)
        try:
            await self._commands(standing, session, numbers)
        finally:
            await self._closed(name, session)
        await self._in_ended_session(standing, session, next(numbers))
        standing.detail = "honest and forged commands were given"

    async def _offered(
        self, name: GatewayName, standing: Standing, *, life: timedelta | None = None
    ) -> Mapping[str, Any] | None:
        """Offer a session; return it if it was accepted, None if not."""
        session_id = f"kit-{secrets.token_hex(4)}"
        now = self._now()
        more = {} if life is None else {"life": life}
        session = self.bench.operator.session(
            name, session_id, self._gateway_key(name), now=now, **more
        )
        standing.detail = f"session {session_id} is offered"
        scene = self.bench.scene
        offer = self.bench.operator.offer(session, now=now)
        await self._send(str(session_topic(name, session_id)), offer, Act.SESSION_OFFERED)
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                await self._until(
                    lambda: session_id in scene.accepted or session_id in scene.rejected
                )
        except TimeoutError:
            return None
        accepted = session_id in scene.accepted and self._gateway_key(name) is not None
        return session if accepted else None

    async def _commands(
        self, standing: Standing, session: Mapping[str, Any], numbers: "itertools.count[int]"
    ) -> None:
        """There, forged ones, back, and the first one again."""
        first = await self._honest(standing, session, numbers)
        there = self._aimed(standing).relay
        await self._forge(standing, IN_SESSION, numbers, session=session)
        if self._aimed(standing).relay == there:  # a forged one may have brought it back already
            await self._honest(standing, session, numbers)
        standing.detail = "the first command is sent again"
        await self._order(standing, first, Act.COMMAND_REPLAYED)

    async def _honest(
        self, standing: Standing, session: Mapping[str, Any], numbers: "itertools.count[int]"
    ) -> tuple[CommandTopic, bytes]:
        """Give an honest command and return it when it was done.

        It is given again, as a head-end does, when the relay had to rest first, and under a fresh nonce.
        """
        ended = ("", "")
        for _ in range(ATTEMPTS_MAX):
            message, ended = await self._given(standing, session, next(numbers))
            if ended[0] == "done":
                return message
            if ended == ("refused", SipCode.DWELL):
                standing.detail = f"the gateway lets a relay rest; again in {RELAY_RESTS_S:.0f} s"
                await asyncio.sleep(RELAY_RESTS_S)
            elif ended != ("refused", SipCode.STALE_NONCE):
                break
        raise Undone(f"an honest command ended as {ended[0]}, {ended[1]}")

    async def _given(
        self, standing: Standing, session: Mapping[str, Any], number: int
    ) -> tuple[tuple[CommandTopic, bytes], tuple[str, str]]:
        """Give a command; return it, and the status and code it ended with."""
        aim = await self._aim(standing, number, session=session)
        standing.detail = f"an honest {aim.action} is given"
        message = order(aim)
        digest = read_document(message[1]).digest
        await self._send(str(message[0]), message[1], Act.COMMAND_GIVEN)
        reports = self.bench.scene.reports
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                await self._until(lambda: reports.get(digest, ("", ""))[0] in _COMMAND_ENDS)
        except TimeoutError:
            raise Undone(f"no report of an honest {aim.action} came") from None
        if not self._by_person(standing):  # its report tells, and a person has enough to look at
            await self._looked(standing, self._now())
        return message, reports[digest]

    async def _closed(self, name: GatewayName, session: Mapping[str, Any]) -> None:
        topic = session_topic(name, session["sessionId"])
        payload = self.bench.operator.close(session, now=self._now())
        await self._send(str(topic), payload, Act.SESSION_CLOSED)

    async def _in_ended_session(
        self, standing: Standing, session: Mapping[str, Any], number: int
    ) -> None:
        """Give a command in a session that was closed, and in one whose time is over."""
        standing.detail = "a command is given in a session that was closed"
        aim = await self._aim(standing, number, session=session)
        await self._order(standing, order(aim), Act.COMMAND_OF_ENDED_SESSION)
        short = await self._offered(self._gateway_name(), standing, life=_SHORT_SESSION)
        if short is None:
            return
        standing.detail = "a session runs out"
        await asyncio.sleep(_SHORT_SESSION.total_seconds() + _SESSION_OVER_S)
        standing.detail = "a command is given in a session that has run out"
        aim = await self._aim(standing, 1, session=short)
        await self._order(standing, order(aim), Act.COMMAND_OF_ENDED_SESSION)

    async def _forge(
        self,
        standing: Standing,
        forgeries: Sequence[Forgery],
        numbers: "itertools.count[int]",
        *,
        session: Mapping[str, Any] | None = None,
    ) -> None:
        """Send forged commands and look after each; a person looks once, after all of them."""
        stranger = KeySigner(Ed25519PrivateKey.generate())
        for forgery in forgeries:
            standing.detail = forgery.what
            aim = await self._aim(standing, next(numbers), session=session, stranger=stranger)
            look = forgery is forgeries[-1] or not self._by_person(standing)
            await self._order(standing, forgery.make(aim), forgery.purpose, look=look)
        for purpose in {forgery.purpose for forgery in forgeries}:
            self.bench.see(ActEnded(self._now(), purpose, done=True))

    async def _order(
        self,
        standing: Standing,
        message: tuple[CommandTopic, bytes],
        purpose: Act,
        *,
        look: bool = True,
    ) -> None:
        """Send an order that is not to be obeyed, and look where the relay is afterwards."""
        sent_at = self._now()
        self.bench.see(ActBegan(sent_at, purpose, standing.meter))
        await self._send(str(message[0]), message[1], purpose)
        if not look:
            return
        try:
            await self._looked(standing, sent_at)
        finally:
            self.bench.see(ActEnded(self._now(), purpose, done=True))

    async def _aim(
        self,
        standing: Standing,
        number: int,
        *,
        session: Mapping[str, Any] | None = None,
        stranger: KeySigner | None = None,
    ) -> Aim:
        """Return what is aimed at: the relay where it is now. Raises Undone when that is not known."""
        meter = self._aimed(standing)
        if meter.relay is None:
            await self._looked(standing, self._now())
        action = other_position(meter.relay or "")
        if action is None:
            raise Undone(f"where the relay of {meter.serial} is, is not known: {meter.relay!r}")
        more: dict[str, Any] = {}
        if session is not None:
            accepted = self.bench.scene.accepted[session["sessionId"]]
            more = {"session_id": session["sessionId"], "nonce": accepted.nonce}
        hes = self.bench.operator.hes
        return Aim(
            topic=CommandTopic(meter.name.feeder_id, meter.name.gateway_id, meter.serial),
            action=action,
            now=self._now(),
            number=number,
            signer=hes,
            stranger=stranger or hes,
            neighbour=self._neighbour(meter),
            **more,
        )

    def _aimed(self, standing: Standing) -> MeterSeen:
        meter = self.bench.scene.meters.get(standing.meter or MeterSerial(""))
        if meter is None:
            raise Undone("no meter tells where its relay is (register 96.11.1)")
        return meter

    def _neighbour(self, meter: MeterSeen) -> MeterSerial:
        others = [s for s in self.bench.scene.meters if s != meter.serial]
        return others[0] if others else NO_NEIGHBOUR

    async def _looked(self, standing: Standing, since: datetime) -> None:
        """Learn where the relay is now: by the hook, or from the next reading measured since."""
        meter = self._aimed(standing)
        if self.bench.hook is not None and "relay" in self.bench.verbs:
            await asyncio.sleep(RELAY_SETTLES_S)
            connected = await self.bench.hook.relay(meter.serial)
            self.bench.see(RelaySeen(self._now(), meter.serial, connected))
            return
        if self._by_person(standing):
            await self._person_looked(standing, meter.serial)
            return
        look_s = min(max(3 * (meter.interval_s or 0), RELAY_LOOK_S_MIN), RELAY_LOOK_S_MAX)

        def is_measured() -> bool:
            measured = meter.relay_measured_at
            return measured is not None and measured > since

        try:
            async with asyncio.timeout(look_s):
                await self._until(is_measured)
        except TimeoutError:
            raise Undone(
                f"no position of the relay of {meter.serial} came within {look_s:.0f} s that was "
                "measured after the order: shorten the interval, set the clock, or give a hook"
            ) from None

    def _by_person(self, standing: Standing) -> bool:
        """Whether nobody but a person can tell where the relay is."""
        hooked = self.bench.hook is not None and "relay" in self.bench.verbs
        return not hooked and not self._aimed(standing).tells_relay

    async def _person_looked(self, standing: Standing, serial: MeterSerial) -> None:
        self._power_seen = None
        standing.prompt = f"Look at the relay of meter {serial}: does its house have power?"
        standing.asks_where = True
        try:
            async with asyncio.timeout(HANDS_S_MAX):
                await self._until(lambda: self._power_seen is not None)
        finally:
            standing.prompt, standing.asks_where = None, False
        self.bench.see(RelaySeen(self._now(), serial, bool(self._power_seen)))

    def _gateway_name(self) -> GatewayName:
        meters = self.bench.scene.meters
        aimed = relay_meter(self.bench.scene) or next(iter(meters.values()))
        return aimed.name

    def _gateway_key(self, name: GatewayName) -> PublicKey | None:
        """Return the gateway's key, if it was enrolled with the kit."""
        if self.bench.keyring is None:
            return None
        for identity in self.bench.keyring.identities.values():
            if identity.id == name.gateway_id:
                return identity.key
        return None

    # --- telling and waiting

    async def _send(self, topic: str, payload: bytes, purpose: Act) -> None:
        self.bench.see(Sent(self._now(), topic, payload, purpose))
        await self.bench.connection.publish(topic, payload)

    def _begin(
        self, standing: Standing, event: ActEvent = ActEvent.BEGIN, by: Party = Party.KIT
    ) -> None:
        standing.state = ACT_LIFE.after(standing.state, event, by=by)
        standing.began_at = self._now()
        standing.prompt = None
        self.bench.see(ActBegan(standing.began_at, standing.row.act, standing.meter))

    def _end(self, standing: Standing, event: ActEvent, by: Party, detail: str) -> None:
        standing.state = ACT_LIFE.after(standing.state, event, by=by)
        standing.detail = detail
        self._tell_end(standing, done=standing.state is ActState.DONE, detail=detail)

    def _tell_end(self, standing: Standing, *, done: bool, detail: str) -> None:
        """Tell the judge, once, that what was begun is over."""
        if standing.began_at is not None:
            self.bench.see(ActEnded(self._now(), standing.row.act, done, detail))
            standing.began_at = None

    def _move(self, row: ActRow, event: ActEvent, by: Party) -> None:
        standing = self.standings[row.act]
        standing.state = ACT_LIFE.after(standing.state, event, by=by)

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition; the act's own time ends the wait."""
        while not condition():  # noqa: ASYNC110 - of a dozen conditions over two objects that are only told things
            await asyncio.sleep(_LOOK_S)

    def _now(self) -> datetime:
        return self.bench.clock.now()
