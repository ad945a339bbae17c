"""Orders to a relay, honest and forged, and looking where it is afterwards.

What must not move a relay is sent one by one, with a look after each; where only a person can look, all of a lot
first. Whether the gateway did right is for the rules to say.
"""

import asyncio
import itertools
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from openami.conformance.acts import relay_meter
from openami.conformance.bench import Bench, Standing, Undone, until
from openami.conformance.observation import Act, ActBegan, ActEnded, RelaySeen
from openami.conformance.operator import session_topic
from openami.conformance.probe import (
    IN_SESSION,
    NO_NEIGHBOUR,
    WITHOUT_SESSION,
    Aim,
    Forgery,
    order,
    other_position,
)
from openami.conformance.scene import MeterSeen
from openami.pki.names import GatewayName
from openami.profile import CommandTopic, MeterSerial
from openami.sip.canonical import read_document
from openami.sip.errors import SipCode
from openami.sip.keyring import keyring_session_id
from openami.sip.keys import KeySigner, PublicKey
from openami.sip.reports import ReportStatus

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
_COMMAND_ENDS: Final = frozenset(ReportStatus) - {ReportStatus.ACCEPTED}


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayOrders:
    """The orders of one act. ``ask_for_power`` asks a person whether a meter's house has power."""

    bench: Bench
    standing: Standing
    ask_for_power: Callable[[MeterSerial], Awaitable[bool]]

    async def without_session(self) -> None:
        """Send commands that name no session, or one that nobody offered."""
        await self._forge(WITHOUT_SESSION, itertools.count(1))
        self.standing.detail = f"{len(WITHOUT_SESSION)} forged commands were sent"

    async def in_session(self) -> None:
        """Offer a session; where it is accepted, give honest and forged commands in it, and end it."""
        name = self._gateway_name()
        if self._gateway_key(name) is None:
            raise Undone(f"{name} was not enrolled with the kit: see --enrol")
        if self.bench.keyring_payload is not None and self.bench.keyring is not None:
            version = keyring_session_id(self.bench.keyring.version)
            topic = str(session_topic(name, version))
            await self.bench.send(topic, self.bench.keyring_payload, Act.KEYRING)
        session = await self._offered(name)
        if session is None:
            self.standing.detail = (
                "the session was not accepted: only what must not move was judged"
            )
            return
        numbers = itertools.count(1)
        try:
            await self._commands(session, numbers)
        finally:
            await self._closed(name, session)
        await self._in_ended_session(session, next(numbers))
        self.standing.detail = "honest and forged commands were given"

    async def _offered(
        self, name: GatewayName, *, life: timedelta | None = None
    ) -> Mapping[str, Any] | None:
        """Offer a session; return it if it was accepted, None if not."""
        session_id = f"kit-{secrets.token_hex(4)}"
        now = self.bench.now()
        more = {} if life is None else {"life": life}
        session = self.bench.operator.session(
            name, session_id, self._gateway_key(name), now=now, **more
        )
        self.standing.detail = f"session {session_id} is offered"
        scene = self.bench.scene
        offer = self.bench.operator.offer(session, now=now)
        await self.bench.send(str(session_topic(name, session_id)), offer, Act.SESSION_OFFERED)
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                await until(lambda: session_id in scene.accepted or session_id in scene.rejected)
        except TimeoutError:
            return None
        return session if session_id in scene.accepted else None

    async def _commands(self, session: Mapping[str, Any], numbers: "itertools.count[int]") -> None:
        """There, forged ones, back, and the first one again."""
        first = await self._honest(session, numbers)
        there = self._aimed().relay
        await self._forge(IN_SESSION, numbers, session=session)
        if self._aimed().relay == there:  # a forged one may have brought it back already
            await self._honest(session, numbers)
        self.standing.detail = "the first command is sent again"
        await self._order(first, Act.COMMAND_REPLAYED)

    async def _honest(
        self, session: Mapping[str, Any], numbers: "itertools.count[int]"
    ) -> tuple[CommandTopic, bytes]:
        """Give an honest command and return it when it was done.

        It is given again, as a head-end does, when the relay had to rest first, and under a fresh nonce.
        """
        ended = ("", "")
        for _ in range(ATTEMPTS_MAX):
            message, ended = await self._given(session, next(numbers))
            if ended[0] == "done":
                return message
            if ended == ("refused", SipCode.DWELL):
                self.standing.detail = (
                    f"the gateway lets a relay rest; again in {RELAY_RESTS_S:.0f} s"
                )
                await asyncio.sleep(RELAY_RESTS_S)
            elif ended != ("refused", SipCode.STALE_NONCE):
                break
        raise Undone(f"an honest command ended as {ended[0]}, {ended[1]}")

    async def _given(
        self, session: Mapping[str, Any], number: int
    ) -> tuple[tuple[CommandTopic, bytes], tuple[str, str]]:
        """Give a command; return it, and the status and code it ended with."""
        aim = await self._aim(number, session=session)
        self.standing.detail = f"an honest {aim.action} is given"
        message = order(aim)
        digest = read_document(message[1]).digest
        await self.bench.send(str(message[0]), message[1], Act.COMMAND_GIVEN)
        reports = self.bench.scene.reports
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                await until(lambda: reports.get(digest, ("", ""))[0] in _COMMAND_ENDS)
        except TimeoutError:
            raise Undone(f"no report of an honest {aim.action} came") from None
        if not self._by_person():  # its report tells, and a person has enough to look at
            await self._looked(self.bench.now())
        return message, reports[digest]

    async def _closed(self, name: GatewayName, session: Mapping[str, Any]) -> None:
        topic = session_topic(name, session["sessionId"])
        payload = self.bench.operator.close(session, now=self.bench.now())
        await self.bench.send(str(topic), payload, Act.SESSION_CLOSED)

    async def _in_ended_session(self, session: Mapping[str, Any], number: int) -> None:
        """Give a command in a session that was closed, and in one whose time is over."""
        self.standing.detail = "a command is given in a session that was closed"
        aim = await self._aim(number, session=session)
        await self._order(order(aim), Act.COMMAND_OF_ENDED_SESSION)
        short = await self._offered(self._gateway_name(), life=_SHORT_SESSION)
        if short is None:
            return
        self.standing.detail = "a session runs out"
        await asyncio.sleep(_SHORT_SESSION.total_seconds() + _SESSION_OVER_S)
        self.standing.detail = "a command is given in a session that has run out"
        aim = await self._aim(1, session=short)
        await self._order(order(aim), Act.COMMAND_OF_ENDED_SESSION)

    async def _forge(
        self,
        forgeries: Sequence[Forgery],
        numbers: "itertools.count[int]",
        *,
        session: Mapping[str, Any] | None = None,
    ) -> None:
        """Send forged commands and look after each; a person looks once, after all of them."""
        stranger = KeySigner(Ed25519PrivateKey.generate())
        for forgery in forgeries:
            self.standing.detail = forgery.what
            aim = await self._aim(next(numbers), session=session, stranger=stranger)
            look = forgery is forgeries[-1] or not self._by_person()
            await self._order(forgery.make(aim), forgery.purpose, look=look)
        for purpose in {forgery.purpose for forgery in forgeries}:
            self.bench.see(ActEnded(self.bench.now(), purpose, done=True))

    async def _order(
        self,
        message: tuple[CommandTopic, bytes],
        purpose: Act,
        *,
        look: bool = True,
    ) -> None:
        """Send an order that is not to be obeyed, and look where the relay is afterwards."""
        sent_at = self.bench.now()
        self.bench.see(ActBegan(sent_at, purpose, self.standing.meter))
        await self.bench.send(str(message[0]), message[1], purpose)
        if not look:
            return
        try:
            await self._looked(sent_at)
        finally:
            self.bench.see(ActEnded(self.bench.now(), purpose, done=True))

    async def _aim(
        self,
        number: int,
        *,
        session: Mapping[str, Any] | None = None,
        stranger: KeySigner | None = None,
    ) -> Aim:
        """Return what is aimed at: the relay where it is now. Raises Undone when that is not known."""
        meter = self._aimed()
        if meter.relay is None:
            await self._looked(self.bench.now())
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
            now=self.bench.now(),
            number=number,
            signer=hes,
            stranger=stranger or hes,
            neighbour=self._neighbour(meter),
            **more,
        )

    def _aimed(self) -> MeterSeen:
        meter = self.bench.scene.meters.get(self.standing.meter or MeterSerial(""))
        if meter is None:
            raise Undone("no meter tells where its relay is (register 96.11.1)")
        return meter

    def _neighbour(self, meter: MeterSeen) -> MeterSerial:
        others = [s for s in self.bench.scene.meters if s != meter.serial]
        return others[0] if others else NO_NEIGHBOUR

    async def _looked(self, since: datetime) -> None:
        """Learn where the relay is now: by the hook, or from the next reading measured since."""
        meter = self._aimed()
        if self.bench.hook is not None and "relay" in self.bench.verbs:
            await asyncio.sleep(RELAY_SETTLES_S)
            connected = await self.bench.hook.relay(meter.serial)
            self.bench.see(RelaySeen(self.bench.now(), meter.serial, connected))
            return
        if self._by_person():
            power = await self.ask_for_power(meter.serial)
            self.bench.see(RelaySeen(self.bench.now(), meter.serial, power))
            return
        look_s = min(max(3 * (meter.interval_s or 0), RELAY_LOOK_S_MIN), RELAY_LOOK_S_MAX)

        def is_measured() -> bool:
            measured = meter.relay_measured_at
            return measured is not None and measured > since

        try:
            async with asyncio.timeout(look_s):
                await until(is_measured)
        except TimeoutError:
            raise Undone(
                f"no position of the relay of {meter.serial} came within {look_s:.0f} s that was "
                "measured after the order: shorten the interval, set the clock, or give a hook"
            ) from None

    def _by_person(self) -> bool:
        """Whether nobody but a person can tell where the relay is."""
        hooked = self.bench.hook is not None and "relay" in self.bench.verbs
        return not hooked and not self._aimed().tells_relay

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
