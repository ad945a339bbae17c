"""Any schedule of sessions, commands, restarts, wiped cards, power cuts and wrong clocks keeps the invariants.

The real handshake, the real twelve checks and the real journal, on a disk. An attacker owns the broker: every
message that was ever sent may be delivered again, late, in any order, retained, on another topic, or with bits
flipped.
"""

import asyncio
import shutil
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import structlog
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.gateway.clock_double import ClockDouble
from tests.gateway.sip_world import HES, SERIALS, STRANGER, Pole, Running
from tests.gateway.switched_meter import At
from tests.in_memory import directory_in_memory

from openami.gateway.handshake import SESSIONS_HELD_MAX
from openami.profile import CommandTopic, MeterSerial, SessionTopic
from openami.sip.actions import Action
from openami.sip.acts import ActType
from openami.sip.keyring import NONCE_LIFE_S_MAX

PER_HOUR = 2
LIE = timedelta(seconds=60)
T = TypeVar("T")


@dataclass(frozen=True)
class Sent:
    """A command that somebody signed, and when: by the true time, and by how often nonces had been renewed."""

    topic: CommandTopic
    payload: bytes
    action: Action
    honest: bool
    session_id: str
    seq: int
    signed_s: float
    not_after_s: float
    epoch: int
    """How often the gateway had started when it was signed."""


class Village(RuleBasedStateMachine):
    """``true_s`` is the time as it is; what the gateway's clock shows is another matter."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = directory_in_memory("commanding")
        self.clock = ClockDouble(synchronised=False)
        self.pole = Pole(self.directory, self.clock)
        self.parties_clock = ClockDouble()
        self.pole.parties.clock = self.parties_clock
        self.true_s = 0.0
        self.powered_s = 0.0
        self.wiped_powered_s = 0.0
        self.epoch = 0
        self.seq = 0
        self.session_number = 0
        self.sent: list[Sent] = []
        self.documents: list[dict[str, Any]] = []
        self.handshakes: list[tuple[SessionTopic, bytes]] = []
        self.actuated: list[tuple[Sent, float, float]] = []
        self.published_max = 0
        self.published = 0
        self.stack: AsyncExitStack
        self.gateway: Running
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))

    def run_(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def teardown(self) -> None:
        self.run_(self._stop())
        self.runner.close()
        shutil.rmtree(self.directory)
        structlog.reset_defaults()

    async def _start(self) -> None:
        self.epoch += 1
        self.stack = AsyncExitStack()
        before = self.moves()
        self.gateway = await self.stack.enter_async_context(self.pole.running())
        await self.gateway.settled()
        assert self.moves() == before, "I1: what was executing was done again"

    def moves(self) -> int:
        return sum(len(meter.moves) for meter in self.pole.meters.values())

    async def _stop(self) -> None:
        await self.stack.aclose()

    # --- the world -------------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        self.run_(self._start())
        self.reconnect()
        self.publish_keyring()
        self.offer()

    def pass_time(self, seconds: float, *, powered: bool = True) -> None:
        self.true_s += seconds
        self.parties_clock.advance(seconds)
        if powered:
            self.powered_s += seconds
            self.clock.advance(seconds)

    @rule(seconds=st.sampled_from([1, 20, 59, 61, 250, 400, 1_200, 3_601]))
    def wait(self, seconds: int) -> None:
        self.pass_time(seconds)
        self.published_max += (
            2 * 9
        )  # every session, and the event about what was refused in silence
        self.run_(self.gateway.commanding.tick())
        self.hear()

    @rule(
        seconds=st.sampled_from([-90_000, -7_200, -70, 70, 7_200, 10**8]),
        synchronised=st.booleans(),
    )
    def set_clock(self, seconds: int, synchronised: bool) -> None:
        self.clock.set(self.clock.wall + timedelta(seconds=seconds), synchronised=synchronised)

    @rule(dark_s=st.sampled_from([0, 30, 4_000]), lost_s=st.sampled_from([0, 30, 4_000, 10**9]))
    def reboot(self, dark_s: int, lost_s: int) -> None:
        self.run_(self._stop())
        self.pass_time(dark_s, powered=False)
        self.clock.reboot(self.clock.wall - timedelta(seconds=lost_s - dark_s))
        self.run_(self._start())
        self.reconnect()

    @rule(by=st.sampled_from(["operator", "attacker"]))
    def wipe(self, by: str) -> None:
        """A new card; the operator brings it into service again, or somebody replays what once did."""
        self.run_(self._stop())
        self.pole.wipe()
        self.wiped_powered_s = self.powered_s + 1e-9
        self.clock.reboot(self.clock.wall)
        self.run_(self._start())
        self.reconnect()
        if by == "operator":
            self.publish_keyring()
            self.offer()
        else:
            for message in self.handshakes:
                self.deliver_handshake(message)

    @rule()
    def reconnect(self) -> None:
        self.gateway.commanding.disconnected()
        self.published_max += 9  # eight sessions and the keyring
        self.run_(self.gateway.connect())
        self.count_published()

    # --- honest parties --------------------------------------------------------------------------

    @rule()
    def publish_keyring(self) -> None:
        message = self.pole.parties.keyring(limits={"disconnectsPerHour": PER_HOUR})
        self.handshakes.append(message)
        self.deliver_handshake(message)

    @precondition(lambda self: len(self.gateway.commanding.state.sessions) < SESSIONS_HELD_MAX)
    @rule()
    def offer(self) -> None:
        self.session_number += 1
        members = self.pole.parties.session(f"s-{self.session_number}", hours=100)
        self.documents.append(members)
        message = self.pole.parties.act(members, ActType.OFFER)
        self.handshakes.append(message)
        self.deliver_handshake(message)

    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        members = data.draw(st.sampled_from(self.documents))
        message = self.pole.parties.act(members, ActType.CLOSE, reason="DONE")
        self.handshakes.append(message)
        self.deliver_handshake(message)

    def newest_session(self) -> str | None:
        held = [int(name.removeprefix("s-")) for name in self.gateway.commanding.state.sessions]
        return f"s-{max(held)}" if held else None

    def sign(self, action: Action, serial: str, life_s: int, *, honest: bool = True) -> Sent | None:
        """Sign for the session the gateway last told a nonce of, as a head-end does."""
        session_id = self.newest_session()
        nonce = self.pole.nonces.get(session_id or "")
        if session_id is None or nonce is None:
            return None
        self.seq += 1
        topic, payload = self.pole.parties.command(
            action,
            nonce,
            seq=self.seq,
            serial=serial,
            session_id=session_id,
            life_s=life_s,
            signers=[HES if honest else STRANGER],
        )
        sent = Sent(
            *(topic, payload, action, honest, session_id, self.seq, self.true_s),
            not_after_s=self.true_s + life_s,
            epoch=self.epoch,
        )
        self.sent.append(sent)
        return sent

    @rule(
        action=st.sampled_from([Action.DISCONNECT, Action.RECONNECT]),
        serial=st.sampled_from(SERIALS),
        life_s=st.sampled_from([30, 300, 3_600]),
        honest=st.booleans(),
        withheld=st.booleans(),
    )
    def command(
        self, action: Action, serial: str, life_s: int, honest: bool, withheld: bool
    ) -> None:
        sent = self.sign(action, serial, life_s, honest=honest)
        if sent is not None and not withheld:
            self.deliver(sent, sent.topic, sent.payload)

    @rule(serial=st.sampled_from(SERIALS))
    def a_fresh_reconnection_succeeds(self, serial: str) -> None:
        """I8: whatever has happened, unless the relay has just moved.

        Or a time source lies and says it is earlier than it is: what is signed looks like the future then.
        """
        lies = self.clock.is_synchronised and self.clock.wall < self.parties_clock.wall - LIE
        if self.newest_session() is None or lies:
            return
        self.pass_time(61)
        self.reconnect()
        before = len(self.pole.meters[serial].moves)
        sent = self.sign(Action.RECONNECT, serial, 300)
        assert sent is not None
        self.deliver(sent, sent.topic, sent.payload)
        assert len(self.pole.meters[serial].moves) == before + 1

    # --- the attacker ----------------------------------------------------------------------------

    @precondition(lambda self: self.sent)
    @rule(back=st.integers(0, 5), restart=st.sampled_from(["", "reboot", "reconnect", "wait"]))
    def replay_exactly(self, back: int, restart: str) -> None:
        """One of the latest, as it was signed, when its meter's dwell is over."""
        match restart:
            case "reboot":
                self.reboot(dark_s=0, lost_s=30)
            case "reconnect":
                self.reconnect()
            case "wait":
                self.wait(400)
        sent = self.sent[max(0, len(self.sent) - 1 - back)]
        self.deliver(sent, sent.topic, sent.payload)

    @precondition(lambda self: self.sent)
    @rule(
        data=st.data(),
        retain=st.booleans(),
        serial=st.none() | st.sampled_from(SERIALS),
        flip=st.none() | st.integers(0, 10**6),
    )
    def replay(
        self, data: st.DataObject, retain: bool, serial: str | None, flip: int | None
    ) -> None:
        sent = data.draw(st.sampled_from(self.sent))
        topic, payload = sent.topic, bytearray(sent.payload)
        if serial is not None:
            topic = CommandTopic(topic.feeder_id, topic.gateway_id, MeterSerial(serial))
        if flip is not None:
            place, bit = divmod(flip % (8 * len(payload)), 8)
            payload[place] ^= 1 << bit
        self.deliver(sent, topic, bytes(payload), retain=retain)

    @precondition(lambda self: self.handshakes)
    @rule(data=st.data(), retain=st.booleans())
    def replay_handshake(self, data: st.DataObject, retain: bool) -> None:
        self.deliver_handshake(data.draw(st.sampled_from(self.handshakes)), retain=retain)

    @precondition(lambda self: self.pole.announced)
    @rule(data=st.data())
    def echo(self, data: st.DataObject) -> None:
        """The gateway's own acts come back to it."""
        topic, payload = data.draw(st.sampled_from(self.pole.announced))
        if "/session/" in topic:
            session_id = topic.rpartition("/")[2]
            self.deliver_handshake((self.pole.parties.session_topic(session_id), payload))

    @rule(when=st.sampled_from(At), serial=st.sampled_from(SERIALS))
    def power_cut(self, when: At, serial: str) -> None:
        """The power goes while a contactor moves; then somebody delivers everything again."""
        meter = self.pole.meters[serial]
        meter.power_cut = when
        sent = self.sign(Action.DISCONNECT, serial, 3_600)
        if sent is not None:
            self.deliver(sent, sent.topic, sent.payload)
        meter.power_cut = None
        self.reboot(dark_s=0, lost_s=30)
        if sent is not None:
            self.deliver(sent, sent.topic, sent.payload)

    # --- what happens ----------------------------------------------------------------------------

    def deliver(
        self, sent: Sent, topic: CommandTopic, payload: bytes, *, retain: bool = False
    ) -> None:
        before = {serial: len(meter.moves) for serial, meter in self.pole.meters.items()}
        self.published_max += 2  # its report, and a nonce anew
        self.run_(self.gateway.command((topic, payload), retain=retain))
        self.count_published()
        for serial, meter in self.pole.meters.items():
            if len(meter.moves) > before[serial]:
                assert len(meter.moves) == before[serial] + 1
                assert serial == sent.topic.meter_serial
                self.judge(sent)

    def judge(self, sent: Sent) -> None:
        assert sent.honest, "I2: nobody's key signed it"
        assert all(sent is not other for other, _, _ in self.actuated), "I1: moved twice"
        age_s = self.true_s - sent.signed_s
        assert sent.epoch == self.epoch, "I3: signed before the gateway started"
        assert age_s <= NONCE_LIFE_S_MAX, "I4: later than a nonce's life"
        for other, _, _ in self.actuated:
            if (other.session_id, other.topic) == (sent.session_id, sent.topic):
                assert other.seq < sent.seq, "I5: a number went back"
        self.actuated.append((sent, self.true_s, self.powered_s))
        if sent.action is Action.DISCONNECT:
            self.check_budget()

    def check_budget(self) -> None:
        """I6: in any span of powered time no more than the bucket holds and what flows into it."""
        at_s = [p for sent, _, p in self.actuated if sent.action is Action.DISCONNECT]
        last_wipe = [p for p in at_s if p >= self.wiped_powered_s]
        for number, begin_s in enumerate(last_wipe):
            count = len(last_wipe) - number
            allowed = PER_HOUR * (1 + (last_wipe[-1] - begin_s) / 3600)
            assert count <= allowed + 1e-6, "I6: more disconnects than the budget"

    def deliver_handshake(
        self, message: tuple[SessionTopic, bytes], *, retain: bool = False
    ) -> None:
        is_held = message[0].session_id in self.gateway.commanding.state.sessions
        self.published_max += not is_held
        before = len(self.pole.announced)
        self.run_(self.gateway.session(message, retain=retain))
        assert not is_held or len(self.pole.announced) == before, "I7: it answers its own echo"
        self.count_published()

    def hear(self) -> None:
        self.gateway.hear()
        self.count_published()

    def count_published(self) -> None:
        self.published = len(self.pole.announced)

    @invariant()
    def no_ping_pong(self) -> None:
        assert self.published <= self.published_max, "I7: the gateway talks by itself"


Village.TestCase.settings = settings(
    max_examples=30,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestVillage = Village.TestCase
