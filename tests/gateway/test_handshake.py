"""The handshake as a pure step: what is answered, what is refused, what is remembered."""

from datetime import timedelta

import pytest
from tests.gateway.clock_double import ClockDouble
from tests.gateway.sip_world import (
    FEEDER,
    GATEWAY,
    HES,
    MARKET,
    OPERATOR,
    PINNED,
    POLE,
    STRANGER,
    Parties,
)

from openami.gateway.handshake import (
    SESSIONS_HELD_MAX,
    SESSIONS_REMEMBERED_MAX,
    Effect,
    Handshake,
    PublishAct,
    Refused,
    Self,
    Step,
    StoreEnd,
    StoreSession,
    expire,
    receive,
)
from openami.profile import SessionTopic
from openami.sip.acts import ActType
from openami.sip.errors import SipCode
from openami.sip.freshness import TimeFacts
from openami.sip.session import SessionState


class Gateway:
    """The pure state, stepped by messages."""

    def __init__(self) -> None:
        self.clock = ClockDouble()
        self.ahead = timedelta(0)
        """How far signed commands let the wall clock go; beyond, it is not believed."""
        self.parties = Parties(self.clock)
        self.state = Handshake(PINNED)
        self.take(self.parties.keyring())

    @property
    def time(self) -> TimeFacts:
        now = self.clock.now()
        return TimeFacts(
            self.clock.boottime(), now, True, lo=now - timedelta(days=1), hi=now + self.ahead
        )

    def take(self, message: tuple[SessionTopic, bytes], *, retain: bool = False) -> Step:
        step = receive(
            self.state,
            *message,
            retain=retain,
            me=Self(FEEDER, GATEWAY, POLE.kid),
            time=self.time,
            fresh_nonce="A" * 22,
        )
        self.state = step.state
        return step


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


def code(step: Step) -> SipCode:
    (refused,) = (effect for effect in step.effects if isinstance(effect, Refused))
    return refused.code


def test_an_offer_is_stored_before_it_is_accepted(gateway: Gateway) -> None:
    stored, accepted = gateway.take(gateway.parties.offer()).effects
    assert isinstance(stored, StoreSession)
    assert isinstance(accepted, PublishAct)
    assert (accepted.type, accepted.nonce) == (ActType.ACCEPT, "A" * 22)


def test_the_same_offer_again_is_answered_by_nothing(gateway: Gateway) -> None:
    offer = gateway.parties.offer()
    gateway.take(offer)
    assert gateway.take(offer).effects == ()


def test_retained_handshakes_are_refused(gateway: Gateway) -> None:
    step = gateway.take(gateway.parties.offer(), retain=True)
    assert code(step) is SipCode.RETAINED
    assert gateway.state.sessions == {}


def test_a_document_for_another_sessions_topic_is_refused(gateway: Gateway) -> None:
    _, payload = gateway.parties.offer("s-1")
    step = gateway.take((gateway.parties.session_topic("s-2"), payload))
    assert code(step) is SipCode.TOPIC_MISMATCH


@pytest.mark.parametrize("type_", [ActType.OFFER, ActType.CLOSE])
def test_another_gateways_session_carried_here_does_nothing(
    gateway: Gateway, type_: ActType
) -> None:
    """A close of a session of that id elsewhere must not end ours before it is offered."""
    members = gateway.parties.session("s-1", gateway="pole-2")
    reason = "DONE" if type_ is ActType.CLOSE else None
    step = gateway.take(gateway.parties.act(members, type_, reason=reason))
    assert code(step) is SipCode.TOPIC_MISMATCH
    assert gateway.state.ended == {}


def test_one_id_is_one_document_whoever_closes_it(gateway: Gateway) -> None:
    gateway.take(gateway.parties.offer("s-1"))
    other = gateway.parties.session("s-1", hours=23)
    for message in (
        gateway.parties.act(other, ActType.OFFER),
        gateway.parties.act(other, ActType.CLOSE, reason="DONE"),
    ):
        assert code(gateway.take(message)) is SipCode.SESSION_CONFLICT
    assert "s-1" in gateway.state.sessions


def test_only_a_head_end_or_an_operator_closes(gateway: Gateway) -> None:
    members = gateway.parties.session("s-1")
    gateway.take(gateway.parties.act(members, ActType.OFFER))
    for signer, expected in (
        (MARKET, SipCode.NOT_ALLOWED),
        (STRANGER, SipCode.UNKNOWN_KEY),
    ):
        step = gateway.take(gateway.parties.act(members, ActType.CLOSE, signer, reason="NO"))
        assert code(step) is expected
    step = gateway.take(gateway.parties.act(members, ActType.CLOSE, OPERATOR, reason="DONE"))
    assert step.effects == (StoreEnd("s-1", SessionState.REVOKED),)
    assert gateway.take(gateway.parties.act(members, ActType.CLOSE, HES, reason="X")).effects == ()


def test_a_close_before_the_offer_is_stored(gateway: Gateway) -> None:
    members = gateway.parties.session("s-1")
    step = gateway.take(gateway.parties.act(members, ActType.CLOSE, reason="DONE"))
    assert step.effects == (StoreEnd("s-1", SessionState.REVOKED),)
    assert code(gateway.take(gateway.parties.act(members, ActType.OFFER))) is SipCode.SESSION_CLOSED


def test_no_more_sessions_are_held_than_the_bound(gateway: Gateway) -> None:
    for number in range(SESSIONS_HELD_MAX):
        gateway.take(gateway.parties.offer(f"s-{number}"))
    step = gateway.take(gateway.parties.offer("one-more"))
    assert code(step) is SipCode.TOO_MANY_SESSIONS
    assert step.effects[0] == StoreEnd("one-more", SessionState.REJECTED)
    assert len(gateway.state.sessions) == SESSIONS_HELD_MAX


def test_the_oldest_ended_session_is_forgotten_first_and_the_journal_is_told(
    gateway: Gateway,
) -> None:
    endings: list[Effect] = []
    for number in range(SESSIONS_REMEMBERED_MAX + 1):
        members = gateway.parties.session(f"s-{number}")
        step = gateway.take(gateway.parties.act(members, ActType.CLOSE, reason="DONE"))
        endings += step.effects
    ending = endings[-1]
    assert isinstance(ending, StoreEnd)
    assert ending.forgotten == ("s-0",)
    assert len(gateway.state.ended) == SESSIONS_REMEMBERED_MAX


def test_a_raised_limit_needs_two_and_falls_when_one_of_them_leaves(gateway: Gateway) -> None:
    bulk = gateway.parties.session("s-1", limits={"disconnectsPerHour": 400})
    alone = gateway.take(gateway.parties.act(bulk, ActType.OFFER))
    assert code(alone) is SipCode.QUORUM
    bulk = gateway.parties.session("s-2", limits={"disconnectsPerHour": 400})
    gateway.take(gateway.parties.act(bulk, ActType.OFFER, HES, OPERATOR))
    assert gateway.state.sessions["s-2"].limits.disconnects_per_hour == 400
    gateway.take(gateway.parties.keyring(without=[OPERATOR.kid]))
    assert gateway.state.sessions["s-2"].limits.disconnects_per_hour == 100


def test_a_session_ends_with_its_time(gateway: Gateway) -> None:
    gateway.take(gateway.parties.offer("s-1", hours=1))
    gateway.clock.advance(3_600)
    assert expire(gateway.state, gateway.time).effects == ()
    gateway.clock.advance(1)
    gateway.ahead = -timedelta(minutes=2)
    assert expire(gateway.state, gateway.time).effects == (), "by a clock nobody else vouches for"
    gateway.ahead = timedelta(0)
    step = expire(gateway.state, gateway.time)
    assert step.effects == (StoreEnd("s-1", SessionState.EXPIRED),)
    assert step.state.sessions == {}
