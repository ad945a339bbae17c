"""What the parts promise when they are called alone, as the head-end and the tools do."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.sip.village import (
    COOP,
    FEEDER,
    GATEWAY,
    HES,
    POLE,
    ROOT_A,
    START,
    TAKEN,
    Village,
    printed,
    topic_of,
)

from openami.sip.acts import ActType, read_acts
from openami.sip.authorise import Claim, GatewayFacts, Permit, Refusal, authorise, read_claim
from openami.sip.canonical import read_document
from openami.sip.errors import SipCode, SipError
from openami.sip.freshness import TimeFacts, raised_floor
from openami.sip.interlocks import Budget
from openami.sip.keyring import Limits, LimitsNamed, ProtectedHours, Roots
from openami.sip.session import SessionState
from openami.sip.session_document import admit_offer, read_session


def admitted(village: Village, whole: dict[str, Any], *, gateway_id: str = GATEWAY) -> Limits:
    document = read_document(printed(whole))
    assert village.pole.memory.keyring is not None
    return admit_offer(
        read_session(document),
        read_acts(document),
        village.pole.memory.keyring,
        gateway_kid=POLE.kid,
        feeder_id=FEEDER,
        gateway_id=gateway_id,
    )


def test_an_offer_is_admitted_for_its_gateway_by_who_may_offer() -> None:
    village = Village()
    members = village.session("sip-2")
    offered = village.signed(members, ActType.OFFER, HES)
    assert admitted(village, offered) == Limits(2, 600, 3600, 60)
    for whole, gateway_id, code in [
        (offered, "pole-ems-0043", SipCode.TOPIC_MISMATCH),
        (village.signed(members, ActType.CLOSE, HES, reason="X"), GATEWAY, SipCode.WRONG_TYPE),
        (village.signed(members, ActType.OFFER, COOP), GATEWAY, SipCode.NOT_ALLOWED),
    ]:
        with pytest.raises(SipError) as caught:
            admitted(village, whole, gateway_id=gateway_id)
        assert caught.value.code is code


def test_what_a_session_does_not_name_is_as_the_keyring_has_it() -> None:
    """A session that lowers one limit neither raises nor lowers another by saying nothing."""
    village = Village()
    assert village.admit(village.keyring(2, limits={"commandTtl": 120, "minDwell": 900})) == TAKEN
    lowered = village.session("sip-2", limits={"disconnectsPerHour": 1})
    assert admitted(village, village.signed(lowered, ActType.OFFER, HES)) == Limits(
        1, 120, 3600, 900
    )


def test_limits_are_narrowed_member_by_member() -> None:
    one, other = Limits(2, 600, 3600, 60), Limits(5, 300, 3601, 30)
    assert one.narrowed(other) == Limits(2, 300, 3600, 60)
    assert LimitsNamed(nonce_life_s=60).over(one) == Limits(2, 600, 60, 60)


@pytest.mark.parametrize(("threshold", "keys"), [(0, 1), (2, 1), (1, 0)])
def test_pins_that_let_anybody_or_nobody_sign_are_refused(threshold: int, keys: int) -> None:
    with pytest.raises(SipError):
        Roots(threshold, {ROOT_A.kid: ROOT_A.public} if keys else {})


def claimed(village: Village) -> tuple[Claim, GatewayFacts]:
    claim = read_claim(
        topic_of(),
        village.order(village.command()),
        retain=False,
        feeder_id=FEEDER,
        gateway_id=GATEWAY,
        keyring=village.pole.memory.keyring,
    )
    assert isinstance(claim, Claim)
    return claim, village.pole._facts_of(claim)


@pytest.mark.parametrize("state", [s for s in SessionState if s is not SessionState.ACTIVE])
def test_only_an_active_session_commands(state: SessionState) -> None:
    claim, facts = claimed(Village())
    assert isinstance(authorise(claim, facts), Permit)
    assert facts.session is not None
    for ended in (
        replace(facts, session=replace(facts.session, state=state)),
        replace(facts, ended=state),
    ):
        verdict = authorise(claim, ended)
        assert isinstance(verdict, Refusal)
        assert verdict.code is SipCode.SESSION_CLOSED


def test_a_new_nonce_is_made_only_where_the_one_in_force_would_not_do() -> None:
    """Whoever replays old commands must not be able to turn the nonces over."""
    village = Village()
    old = village.order(village.command())
    village.pole.reboot()
    nonce = village.pole.nonces["sip-1"]
    assert village.deliver(old) == SipCode.STALE_NONCE
    assert village.pole.nonces["sip-1"] == nonce
    village.clocks.synchronised = False
    village.pole.pass_time(301)
    assert village.send(village.command()) == SipCode.STALE_NONCE
    assert village.pole.nonces["sip-1"] != nonce


# --- time and interlocks, to the second --------------------------------------------------------------


def test_the_clock_is_trusted_between_two_witnesses() -> None:
    lo, hi = START, START + timedelta(hours=1)
    for wall, trusted in [
        (lo - timedelta(seconds=61), False),
        (lo - timedelta(seconds=60), True),
        (hi + timedelta(seconds=60), True),
        (hi + timedelta(seconds=61), False),
    ]:
        assert (TimeFacts(0.0, wall, True, lo, hi).trusted_now is not None) == trusted
        assert TimeFacts(0.0, wall, False, lo, hi).trusted_now is None
    assert TimeFacts(0.0, hi + timedelta(days=400), True, lo).trusted_now is not None


def test_the_floor_rises_and_never_beyond_the_keyring() -> None:
    end = START + timedelta(days=1)
    assert raised_floor(START, START + timedelta(1 / 24), keyring_valid_to=end) > START
    assert raised_floor(START, START - timedelta(1), keyring_valid_to=end) == START
    assert raised_floor(START, START + timedelta(7), keyring_valid_to=end) == end


def test_a_budget_fills_by_powered_time_up_to_an_hours_worth() -> None:
    empty = Budget(0.0, 100.0)
    assert empty.at(100.0 + 1800, per_hour=2).tokens == 1.0
    assert empty.at(100.0 + 1e9, per_hour=2).tokens == 2.0
    assert empty.at(0.0, per_hour=2).tokens == 0.0
    assert Budget(500.0, 0.0).at(0.0, per_hour=2).tokens == 2.0


@pytest.mark.parametrize(
    ("begin", "end", "inside", "outside"),
    [(600, 660, (600, 659), (599, 660)), (1320, 300, (1320, 1439, 0, 299), (300, 1319))],
)
def test_protected_hours_may_pass_midnight(
    begin: int, end: int, inside: tuple[int, ...], outside: tuple[int, ...]
) -> None:
    span = ProtectedHours(begin, end)
    day = datetime(2026, 6, 22, tzinfo=UTC)
    assert all(span.covers(day + timedelta(minutes=minute)) for minute in inside)
    assert not any(span.covers(day + timedelta(minutes=minute)) for minute in outside)
