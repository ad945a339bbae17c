"""Sessions at the head-end: what is done when, and what an act that was heard changes."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.headend.village_keys import CLINIC, FEEDER, GATEWAY, METER, ROOTS, START, keyring, signer

from openami.headend.keyrings import in_force
from openami.headend.sessions import (
    OFFER_ANSWER_S,
    OFFERS_MAX,
    RENEW_BEFORE,
    Close,
    Expire,
    LedgerSession,
    Offer,
    Renew,
    Republish,
    Rest,
    closed,
    expired,
    heard,
    next_session_step,
    offer_document,
    offered,
    participants_of,
    renewed,
    usable_session,
)
from openami.sip.actions import Role
from openami.sip.acts import Act, ActType, verified_acts
from openami.sip.canonical import encode_base64url
from openami.sip.compose import document_of
from openami.sip.session import SessionState
from openami.sip.session_document import admit_offer, read_session

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
_found = in_force([keyring()], roots=ROOTS, feeder_id=FEEDER, gateway_id=GATEWAY)
assert _found is not None
KEYRING = _found.keyring


def a_session(**members: object) -> LedgerSession:
    base = LedgerSession(
        id="sip-1",
        feeder_id=FEEDER,
        gateway_id=GATEWAY,
        requested_by="anita",
        reason="rota",
        requested_at=START,
        valid_to=START + 7 * DAY,
    )
    return replace(base, **members)  # type: ignore[arg-type]  # whatever a test sets


def active(**members: object) -> LedgerSession:
    return a_session(
        **{"state": SessionState.ACTIVE, "valid_from": START, "nonce": nonce(1), **members}
    )


def nonce(number: int) -> str:
    return encode_base64url(number.to_bytes(16, "big"))


def an_act(type_: ActType, by: str, *, fresh: str | None = None, reason: str | None = None) -> Act:
    return Act(type_, signer(by).kid, 0, fresh, reason, "", "", b"")


def after(session: LedgerSession, *acts: Act, seen: frozenset[str] = frozenset()) -> LedgerSession:
    change = heard(session, acts, KEYRING, nonces_seen=seen, now=START)
    return session if change is None else change.session


def test_the_offer_is_one_the_gateway_takes() -> None:
    members = offer_document(a_session(), KEYRING, signer("hes-1"), START)
    session = read_session(document_of(members))
    acts = verified_acts(session.document, KEYRING.keys)
    limits = admit_offer(
        session,
        acts,
        KEYRING,
        gateway_kid=signer(GATEWAY).kid,
        feeder_id=FEEDER,
        gateway_id=GATEWAY,
    )
    assert limits == KEYRING.limits
    roles = {each.role for each in session.participants.values()}
    assert roles == {Role.HES, Role.OPERATOR, Role.MARKET, Role.GATEWAY}


def test_another_head_end_and_another_gateway_take_no_part() -> None:
    own = signer("anita").kid
    names = {p.id for p in participants_of(KEYRING, gateway_id="another", own_kid=own)}
    assert names == {"anita", "market-coop"}


def test_an_offer_waits_twice_as_long_each_time_and_not_for_ever() -> None:
    session, now = a_session(), START
    waited = []
    while isinstance(next_session_step(session, now), Offer):
        session = offered(
            session,
            now,
            document=b"{}",
            digest="d",
            valid_from=START,
            valid_to=session.valid_to,
        ).session
        step = next_session_step(session, now)
        assert isinstance(step, Rest)
        assert step.until is not None
        assert next_session_step(session, step.until - SECOND) == step
        waited.append((step.until - now).total_seconds())
        now = step.until
    assert waited == [OFFER_ANSWER_S * 2**n for n in range(OFFERS_MAX)]
    assert next_session_step(session, now) == Rest(session.valid_to)
    assert next_session_step(session, session.valid_to) == Expire()


def test_a_week_is_renewed_a_day_before_its_end_and_a_visit_is_not() -> None:
    week = active()
    renewal = week.valid_to - RENEW_BEFORE
    assert next_session_step(week, renewal - SECOND) == Rest(renewal)
    assert next_session_step(week, renewal) == Renew()
    change = renewed(week, "sip-2", renewal)
    assert change.successor is not None
    assert change.successor.valid_to == renewal + 7 * DAY
    assert next_session_step(change.session, renewal) == Rest(week.valid_to)
    visit = active(valid_to=START + 2 * DAY - SECOND)
    assert next_session_step(visit, visit.valid_to - SECOND) == Rest(visit.valid_to)
    assert next_session_step(visit, visit.valid_to) == Expire()


def test_what_is_asked_to_close_is_closed_and_its_end_published_until_it_is_out() -> None:
    asked = active(close_reason="DONE")
    assert next_session_step(asked, START) == Close()
    done = closed(asked, START, document=b"{}", by="anita").session
    assert (done.state, done.nonce, done.code) == (SessionState.REVOKED, None, "DONE")
    assert next_session_step(done, START) == Republish()
    assert next_session_step(replace(done, due_at=None), START) == Rest(None)


def test_an_accept_with_an_unseen_nonce_makes_it_current() -> None:
    accept = an_act(ActType.ACCEPT, GATEWAY, fresh=nonce(1))
    first = after(a_session(), an_act(ActType.OFFER, "hes-1"), accept)
    assert (first.state, first.nonce) == (SessionState.ACTIVE, nonce(1))
    second = after(first, an_act(ActType.ACCEPT, GATEWAY, fresh=nonce(2)))
    assert second.nonce == nonce(2)
    seen = frozenset({nonce(1), nonce(2)})
    assert after(second, accept, seen=seen) == second


@pytest.mark.parametrize(
    "act",
    [
        an_act(ActType.ACCEPT, "anita", fresh=nonce(7)),
        an_act(ActType.ACCEPT, "stranger", fresh=nonce(7)),
        an_act(ActType.REJECT, "anita", reason="NO"),
        an_act(ActType.CLOSE, GATEWAY, reason="NO"),
        an_act(ActType.CLOSE, "market-coop", reason="NO"),
        an_act(ActType.OFFER, "hes-1"),
    ],
)
def test_an_act_of_somebody_whose_it_is_not_changes_nothing(act: Act) -> None:
    assert after(a_session(), act) == a_session()


def test_a_rejection_and_an_operators_close_end_it() -> None:
    rejected = after(a_session(), an_act(ActType.REJECT, GATEWAY, reason="NOT_ALLOWED"))
    assert (rejected.state, rejected.code) == (SessionState.REJECTED, "NOT_ALLOWED")
    revoked = after(active(), an_act(ActType.REVOKE, "anita", reason="STOLEN"))
    assert (revoked.state, revoked.code, revoked.nonce) == (SessionState.REVOKED, "STOLEN", None)
    late = an_act(ActType.ACCEPT, GATEWAY, fresh=nonce(3))
    for ended in (rejected, revoked, expired(active(), START).session):
        assert after(ended, late) == ended
    # A session that was accepted is not rejected any more.
    assert after(active(), an_act(ActType.REJECT, GATEWAY, reason="LATE")) == active()


@given(st.lists(st.integers(1, 4), max_size=12))
def test_no_nonce_is_current_twice(told: list[int]) -> None:
    session, seen, was_current = a_session(), frozenset[str](), []
    for number in told:
        before = session.nonce
        session = after(session, an_act(ActType.ACCEPT, GATEWAY, fresh=nonce(number)), seen=seen)
        if session.nonce != before:
            assert session.nonce is not None
            was_current.append(session.nonce)
            seen |= {session.nonce}
    assert len(was_current) == len(set(was_current)) == len(set(told))


def test_a_command_is_signed_in_the_session_that_lasts_longest() -> None:
    short, long = active(), active(id="sip-2", valid_to=START + 8 * DAY)
    others = [
        active(id="sip-3", meters=(CLINIC,), valid_to=START + 9 * DAY),
        a_session(id="sip-4", valid_to=START + 9 * DAY),
        active(id="sip-5", close_reason="DONE", valid_to=START + 9 * DAY),
        active(id="sip-6", valid_from=START + DAY, valid_to=START + 9 * DAY),
    ]
    for wanted, found in ((None, long), ("sip-1", short), ("sip-4", None), ("sip-9", None)):
        asked = usable_session([short, long, *others], meter_serial=METER, wanted=wanted, now=START)
        assert asked == found
    assert usable_session([short], meter_serial=METER, wanted=None, now=short.valid_to) is None
