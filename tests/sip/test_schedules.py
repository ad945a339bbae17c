"""Whatever the network does, and the power, and the clocks: the invariants, over random schedules.

The network keeps everything it ever carried and delivers any of it, at any time, anywhere, as often as it likes.
The gateway's own shell is put through the same with its real journal in ``tests/gateway``; here are the pure parts,
fast enough for thousands of steps.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tests.sip.village import (
    HES,
    METER,
    MOVED,
    OTHER,
    ROOT_A,
    ROOT_B,
    START,
    TAKEN,
    Village,
    printed,
    session_topic,
    topic_of,
)

from openami.profile import CommandTopic, SessionTopic
from openami.sip.actions import Action
from openami.sip.acts import ActType
from openami.sip.canonical import read_document
from openami.sip.freshness import NONCE_GRACE_S
from openami.sip.keyring import NONCE_LIFE_S_MAX

SESSION = "sip-1"


@dataclass
class Sent:
    """A command as it was signed: when, in which boot, under which nonce."""

    digest: str
    serial: str
    seq: int
    signed_at: datetime
    not_after: datetime
    boot: int
    renewals: int


@dataclass
class Network:
    """A village whose network is the attacker's."""

    village: Village = field(default_factory=lambda: Village(ready=False))
    carried: list[tuple[SessionTopic | CommandTopic, bytes]] = field(default_factory=list)
    sent: dict[str, Sent] = field(default_factory=dict)
    boots: int = 0
    renewals: int = 0
    renewed_at: datetime | None = None
    seq: int = 0
    clock_was_wrong: bool = False
    moved: list[str] = field(default_factory=list)
    highest: dict[tuple[int, str], int] = field(default_factory=dict)
    cards: int = 0

    def __post_init__(self) -> None:
        village = self.village
        keyring = village.keyring(limits={"disconnectsPerHour": 500, "minDwell": 0})
        signed = village.signed(keyring, ActType.KEYRING, ROOT_A, ROOT_B)
        offered = village.signed(village.session(SESSION, hours=190), ActType.OFFER, HES)
        for whole in (signed, offered):
            topic = session_topic(whole["sessionId"])
            self.carried.append((topic, printed(whole)))
            assert village.pole.take_session(topic, printed(whole)) == TAKEN

    # --- what may happen -------------------------------------------------------------------------

    def order(self, number: int) -> None:
        """The head-end signs a command with the nonce it has heard last, and it is lost."""
        village = self.village
        self.seq += 1
        serial = (METER, OTHER)[number % 2]
        life_s = (30, 300, 600)[number % 3]
        members = village.command(
            Action.RECONNECT, serial=serial, session_id=SESSION, seq=self.seq, life_s=life_s
        )
        payload = village.order(members)
        digest = read_document(payload).digest
        self.sent[digest] = Sent(
            digest, serial, self.seq, village.now, village.now + timedelta(seconds=life_s),
            self.boots, self.renewals,
        )  # fmt: skip
        self.carried.append((topic_of(serial), payload))

    def deliver(self, number: int) -> None:
        """Something arrives: mostly one of the last, sometimes one of the first."""
        recent = self.carried[-3:] if number % 3 else self.carried
        self.arrive(*recent[number // 3 % len(recent)])

    def deliver_changed(self, number: int) -> None:
        """With a bit turned."""
        topic, payload = self.carried[number % len(self.carried)]
        changed = bytearray(payload)
        changed[number % len(changed)] ^= 1 << number % 8
        self.arrive(topic, bytes(changed))

    def deliver_elsewhere(self, number: int) -> None:
        """On another topic."""
        _, payload = self.carried[number % len(self.carried)]
        topic, _ = self.carried[number * 7 % len(self.carried)]
        self.arrive(topic, payload)

    def reboot(self, _: int) -> None:
        self.boots += 1
        self.village.pole.reboot()
        self._renewed()

    def wipe(self, number: int) -> None:
        self.boots += 1
        self.cards += 1
        self.village.pole.wipe()
        if number % 4:  # somebody comes with the keyring and the session; or nobody does
            for topic, payload in self.carried[:2]:
                self.arrive(topic, payload)

    def die_moving(self, _: int) -> None:
        self.village.pole.dies_moving = True

    def reconnect(self, _: int) -> None:
        self.village.pole.connect()
        self._renewed()

    def wait(self, number: int) -> None:
        self.village.pole.pass_time((1, 20, 61, 301, 3601, 90_000)[number % 6])

    def tick(self, _: int) -> None:
        before = dict(self.village.pole.nonces)
        self.village.pole.tick()
        if before != self.village.pole.nonces:
            self._renewed()

    def shift_clock(self, number: int) -> None:
        clocks = self.village.clocks
        clocks.off = timedelta(hours=(-400_000, -2, 0, 0, 3, 9600)[number % 6])
        clocks.synchronised = number % 4 != 0
        self.clock_was_wrong |= clocks.off != timedelta(0)

    # --- what must hold --------------------------------------------------------------------------

    def _renewed(self) -> None:
        self.renewals += 1
        self.renewed_at = self.village.now

    def arrive(self, topic: SessionTopic | CommandTopic, payload: bytes) -> None:
        pole = self.village.pole
        boots, before = self.boots, len(pole.movements)
        known = pole.nonces.get(SESSION)
        if isinstance(topic, SessionTopic):
            pole.take_session(topic, payload)
        else:
            outcome = pole.take_command(topic, payload)
            self.boots += outcome == "died"
            assert (outcome == MOVED) == (len(pole.movements) > before)
        if len(pole.movements) > before:
            self._check(pole.movements[-1], boots)
        if pole.nonces.get(SESSION) != known:
            self._renewed()

    def _check(self, movement: tuple[str, str], boots: int) -> None:
        serial, digest = movement
        now = self.village.now
        assert digest not in self.moved, "I1: a command moves once"
        self.moved.append(digest)
        sent = self.sent[digest]  # I2: a KeyError is a command that nobody signed
        assert sent.serial == serial, "I2: for this meter"
        assert sent.boot == boots, "I3: nothing from before the last boot or card"
        if sent.renewals < self.renewals:
            assert self.renewed_at is not None
            late_s = (now - self.renewed_at).total_seconds()
            assert sent.renewals == self.renewals - 1, "I3: nor from before the last but one nonce"
            assert late_s <= NONCE_GRACE_S, "I3: nor from before the last, but for its grace"
        age = now - sent.signed_at
        assert age <= timedelta(seconds=NONCE_LIFE_S_MAX), "I4: at most a nonce's life"
        if not self.clock_was_wrong and self.village.clocks.synchronised:
            assert now <= sent.not_after, "I4: with an honest clock, not after its end"
        key = (self.cards, serial)
        assert sent.seq > self.highest.get(key, 0), "I5: numbers rise"
        self.highest[key] = sent.seq


# What happens how often, of a hundred: mostly commands are signed and something arrives.
MOVES: dict[Callable[[Network, int], None], int] = {
    Network.order: 26,
    Network.deliver: 36,
    Network.deliver_changed: 2,
    Network.deliver_elsewhere: 2,
    Network.reboot: 3,
    Network.wipe: 2,
    Network.die_moving: 3,
    Network.reconnect: 4,
    Network.wait: 12,
    Network.tick: 4,
    Network.shift_clock: 6,
}
SCHEDULES = 250
STEPS = 80


def played(seed: int) -> Network:
    """Play a schedule; the same seed is the same schedule."""
    chance, network = random.Random(seed), Network()
    moves, often = list(MOVES), list(MOVES.values())
    for move in chance.choices(moves, often, k=STEPS):
        move(network, chance.randrange(10_000))
    return network


def test_whatever_happens_the_invariants_hold() -> None:
    moved: list[str] = []
    for seed in range(SCHEDULES):
        network = played(seed)
        moved += network.moved
        assert network.village.pole.published <= 6 * STEPS, "I7: nobody answers for ever"
    assert len(moved) > 3 * SCHEDULES, "or else the invariants hold of nothing"


def test_afterwards_a_reconnection_with_a_fresh_nonce_works() -> None:
    """I8: nothing the network can do keeps a customer cut off, once messages arrive again."""
    for seed in range(SCHEDULES):
        network = played(seed)
        village = network.village
        village.pole.dies_moving = False
        for topic, payload in network.carried[:2]:
            assert isinstance(topic, SessionTopic)
            village.pole.take_session(topic, payload)
        village.clocks.off, village.clocks.synchronised = timedelta(0), True
        village.pole.tick()
        if SESSION not in village.pole.memory.sessions:
            assert village.now > START + timedelta(hours=190), "only its own time ends a session"
            continue
        network.reconnect(0)
        before = len(village.pole.movements)
        network.order(0)
        network.arrive(*network.carried[-1])
        over = village.now > START + timedelta(hours=190)
        assert len(village.pole.movements) == before + (not over), seed
