"""The ledger's decisions: what a request becomes, and that every command ends exactly once."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.headend.village_keys import (
    CLINIC,
    FEEDER,
    GATEWAY,
    METER,
    ROOTS,
    START,
    keyring,
    signer,
)

from openami.headend.commands import (
    RECONCILE_DAYS,
    RECONCILE_FIRST_S,
    RECONCILE_S_MAX,
    REPORT_GRACE_S,
    STALE_SIGNINGS_MAX,
    CommandFacts,
    End,
    LedgerCommand,
    OpenSession,
    Reconcile,
    Requested,
    RequestFault,
    RequestRefused,
    Send,
    Sign,
    Wait,
    ended,
    judge_request,
    next_step,
    plain,
    reconciled,
    reconciled_next,
    reported,
    sent,
    signed,
    withdrawn,
)
from openami.headend.keyrings import in_force
from openami.headend.sessions import LedgerSession
from openami.profile.command import COMMAND_LIFE, CommandEvent, CommandState
from openami.profile.life import IllegalMove, Party
from openami.sip.actions import Action, Role
from openami.sip.reports import Report, ReportStatus
from openami.sip.session import SessionState

SECOND = timedelta(seconds=1)
NOW = datetime(2026, 6, 22, 14, 30, 5, tzinfo=UTC)
_found = in_force([keyring()], roots=ROOTS, feeder_id=FEEDER, gateway_id=GATEWAY)
assert _found is not None
KEYRING = _found.keyring


def a_command(**members: object) -> LedgerCommand:
    base = LedgerCommand(
        id="cmd-1",
        feeder_id=FEEDER,
        gateway_id=GATEWAY,
        meter_serial=METER,
        action=Action.DISCONNECT,
        requested_by="anita",
        reason="unpaid",
        requested_at=NOW,
        not_after=NOW + 300 * SECOND,
        due_at=NOW,
    )
    return replace(base, **members)  # type: ignore[arg-type]  # whatever a test sets


def a_session(nonce: str = "n-1") -> LedgerSession:
    return LedgerSession(
        id="sip-1",
        feeder_id=FEEDER,
        gateway_id=GATEWAY,
        requested_by="anita",
        reason="rota",
        requested_at=NOW,
        valid_from=START - SECOND,
        valid_to=NOW + timedelta(days=60),
        state=SessionState.ACTIVE,
        nonce=nonce,
    )


def facts(session: LedgerSession | None = None, **members: object) -> CommandFacts:
    base = CommandFacts(
        keyring=KEYRING, own_kid=signer("hes-1").kid, session=session, disconnects_max=50
    )
    return replace(base, **members)  # type: ignore[arg-type]  # whatever a test sets


def signed_as(command: LedgerCommand, nonce: str = "n-1", seq: int = 1) -> LedgerCommand:
    step = next_step(command, facts(a_session(nonce)), NOW)
    assert isinstance(step, Sign), step
    return signed(command, step, seq=seq, digest=f"d-{seq}", document=b"{}", now=NOW).command


def a_report(
    status: ReportStatus,
    digest: str = "d-1",
    code: str = "OK",
    position: str | None = "disconnected",
) -> Report:
    registers = () if position is None else (
        {"obis": "96.11.1", "value": position, "unit": "enum", "quality": "good"},
    )  # fmt: skip
    return Report(METER, "sip-1", 1, None, digest, status, code, "n-1", registers, NOW)


def told(command: LedgerCommand, report: Report, now: datetime = NOW) -> LedgerCommand:
    change = reported(command, report, payload=b"report", now=now)
    return command if change is None else change.command


# --- requests ------------------------------------------------------------------------------------


def verdict(
    new: LedgerCommand,
    *,
    same_key: LedgerCommand | None = None,
    on_meter: tuple[LedgerCommand, ...] = (),
    same_trade: tuple[LedgerCommand, ...] = (),
) -> object:
    found = judge_request(new, same_key=same_key, on_meter=on_meter, same_trade=same_trade)
    return found.fault if isinstance(found, RequestRefused) else found


def test_a_request_enters_the_ledger_once() -> None:
    new = a_command(idempotency_key="k")
    assert verdict(new) == Requested(new, is_new=True)
    assert verdict(replace(new, id="cmd-2"), same_key=new) == Requested(new, is_new=False)
    other = replace(new, id="cmd-2", action=Action.RECONNECT)
    assert verdict(other, same_key=new) is RequestFault.KEY_REUSED


@pytest.mark.parametrize(
    ("open_one", "new", "refused"),
    [
        (Action.DISCONNECT, Action.DISCONNECT, True),
        (Action.DISCONNECT, Action.RECONNECT, False),
        (Action.RECONNECT, Action.RECONNECT, False),
        (Action.RECONNECT, Action.DISCONNECT, False),
    ],
)
def test_nobody_is_cut_off_twice_at_a_time(open_one: Action, new: Action, refused: bool) -> None:
    asked = a_command(id="cmd-2", action=new)
    found = verdict(asked, on_meter=(a_command(action=open_one),))
    assert found == (RequestFault.ALREADY_OPEN if refused else Requested(asked, is_new=True))


@pytest.mark.parametrize(
    ("state", "resolved_as", "refused"),
    [
        (CommandState.ISSUED, None, True),
        (CommandState.EXECUTING, None, True),
        (CommandState.CONFIRMED, None, True),
        (CommandState.UNKNOWN, None, True),
        (CommandState.UNKNOWN, CommandState.CONFIRMED, True),
        (CommandState.UNKNOWN, CommandState.FAILED, False),
        (CommandState.UNKNOWN, CommandState.REFUSED, False),
        (CommandState.REFUSED, None, False),
        (CommandState.FAILED, None, False),
        (CommandState.EXPIRED, None, False),
    ],
)
def test_a_trade_whose_outcome_is_open_is_not_signed_twice(
    state: CommandState, resolved_as: CommandState | None, refused: bool
) -> None:
    trade = a_command(action=Action.SETTLE, args={"tradeId": "t-1"})
    before = replace(trade, id="cmd-0", state=state, resolved_as=resolved_as)
    found = verdict(trade, same_trade=(before,))
    assert found == (RequestFault.TRADE_OPEN if refused else Requested(trade, is_new=True))


# --- the next step -------------------------------------------------------------------------------


def test_it_needs_a_session_and_then_is_signed_and_sent_at_once() -> None:
    command = a_command()
    assert next_step(command, facts(), NOW) == OpenSession(NOW + 30 * SECOND)
    out = signed_as(command)
    assert (out.sent_at, out.missing, out.due_at) == (NOW, (), out.not_after)


def test_the_life_is_no_longer_than_the_keyring_allows() -> None:
    found = in_force([keyring(commandTtl=60)], roots=ROOTS, feeder_id=FEEDER, gateway_id=GATEWAY)
    assert found is not None
    step = next_step(a_command(), facts(a_session(), keyring=found.keyring), NOW + SECOND / 2)
    assert isinstance(step, Sign)
    assert step.not_after == NOW + 60 * SECOND


@pytest.mark.parametrize(
    ("command", "changes", "code"),
    [
        (a_command(), {"keyring": None}, "NO_KEYRING"),
        (a_command(), {"own_kid": "stranger"}, "UNKNOWN_KEY"),
        (a_command(), {"own_kid": signer("market-coop").kid}, "NOT_ALLOWED"),
        (a_command(), {"disconnects_in_window": 50}, "RATE_LIMIT"),
        (a_command(), {"keyring": replace(KEYRING, meters=frozenset({"m"}))}, "OUT_OF_SCOPE"),
    ],
)
def test_what_is_refused_for_certain_is_not_sent(
    command: LedgerCommand, changes: dict[str, object], code: str
) -> None:
    step = next_step(command, facts(a_session(), **changes), NOW)
    assert step == End(CommandEvent.WITHDRAW, Party.HEAD_END, code)


def test_the_budget_is_for_disconnects_and_its_last_one_may_go() -> None:
    used_up = facts(a_session(), disconnects_in_window=50)
    assert isinstance(next_step(a_command(action=Action.RECONNECT), used_up, NOW), Sign)
    last = facts(a_session(), disconnects_in_window=49)
    assert isinstance(next_step(a_command(), last, NOW), Sign)


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        (a_command(), ()),
        (a_command(meter_serial=CLINIC), (Role.OPERATOR,)),
        (a_command(meter_serial=CLINIC, action=Action.RECONNECT), ()),
        (a_command(action=Action.SETTLE, args={"tradeId": "t"}), (Role.MARKET,)),
    ],
)
def test_who_has_to_approve_is_told_by_the_quorum(
    command: LedgerCommand, missing: tuple[Role, ...]
) -> None:
    waiting = signed_as(command)
    assert waiting.missing == missing
    assert (waiting.sent_at is None) == bool(missing)
    if missing:
        assert next_step(waiting, facts(a_session()), NOW) == Wait(waiting.not_after)
        wrong = facts(a_session(), approved_by=frozenset({Role.METER}))
        assert next_step(waiting, wrong, NOW) == Wait(waiting.not_after)
        approved = facts(a_session(), approved_by=frozenset(missing))
        assert next_step(waiting, approved, NOW) == Send()
        # Signed anew when the gateway has another nonce: nothing was sent yet.
        assert isinstance(next_step(waiting, facts(a_session("n-2")), NOW), Sign)


def test_time_ends_what_was_not_sent_as_expired_and_what_was_as_unknown() -> None:
    command = a_command()
    last = command.not_after - SECOND
    assert isinstance(next_step(command, facts(a_session()), last), Sign)
    expired = End(CommandEvent.NOT_AFTER_PASSED, Party.TIME, "EXPIRED")
    assert next_step(command, facts(a_session()), command.not_after) == expired
    out = signed_as(command)
    grace = timedelta(seconds=REPORT_GRACE_S)
    assert next_step(out, facts(), last) == Send()
    assert next_step(out, facts(), command.not_after) == Wait(command.not_after + grace)
    almost = command.not_after + grace - SECOND
    assert next_step(out, facts(), almost) == Wait(command.not_after + grace)
    unknown = End(CommandEvent.NO_REPORT, Party.TIME, "NO_REPORT")
    assert next_step(out, facts(), command.not_after + grace) == unknown


# --- reports -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("report", "state", "code"),
    [
        (a_report(ReportStatus.DONE), CommandState.CONFIRMED, "OK"),
        (a_report(ReportStatus.DONE, position="connected"), CommandState.FAILED, "READ_BACK"),
        (a_report(ReportStatus.DONE, position=None), CommandState.UNKNOWN, "READ_BACK"),
        (a_report(ReportStatus.FAILED, code="METER_ERROR"), CommandState.FAILED, "METER_ERROR"),
        (a_report(ReportStatus.REFUSED, code="DWELL"), CommandState.REFUSED, "DWELL"),
        (a_report(ReportStatus.UNKNOWN, code="CRASH"), CommandState.UNKNOWN, "CRASH"),
        (a_report(ReportStatus.ACCEPTED), CommandState.EXECUTING, None),
        (a_report(ReportStatus.REFUSED, "d-0", code="DWELL"), CommandState.ISSUED, None),
        (a_report(ReportStatus.DONE, "d-0"), CommandState.CONFIRMED, "OK"),
    ],
)
def test_what_a_report_makes_of_a_command(
    report: Report, state: CommandState, code: str | None
) -> None:
    after = told(signed_as(a_command()), report)
    assert (after.state, after.code) == (state, code)


@pytest.mark.parametrize("position", ["ready_for_reconnection", "connected"])
def test_an_armed_relay_may_have_been_closed_by_the_customer(position: str) -> None:
    out = signed_as(a_command(action=Action.ARM))
    assert told(out, a_report(ReportStatus.DONE, position=position)).state is CommandState.CONFIRMED


def test_accepted_first_and_refused_then_is_a_failure() -> None:
    begun = told(signed_as(a_command()), a_report(ReportStatus.ACCEPTED))
    assert told(begun, a_report(ReportStatus.REFUSED, code="DWELL")).state is CommandState.FAILED


def test_a_stale_one_is_ours_again_until_the_fresh_nonce_is_here() -> None:
    stale = told(signed_as(a_command()), a_report(ReportStatus.REFUSED, code="STALE_NONCE"))
    assert (stale.state, stale.sent_at, stale.document) == (CommandState.ISSUED, None, None)
    assert next_step(stale, facts(a_session("n-1")), NOW) == Wait(NOW + 30 * SECOND)
    assert isinstance(next_step(stale, facts(a_session("n-2")), NOW), Sign)
    expired = next_step(stale, facts(a_session("n-2")), stale.not_after)
    assert expired == End(CommandEvent.NOT_AFTER_PASSED, Party.TIME, "EXPIRED")
    # Repeated, the same refusal is about bytes that are not in hand any more.
    again = signed_as(stale, "n-2", seq=2)
    assert told(again, a_report(ReportStatus.REFUSED, "d-1", code="STALE_NONCE")) == again
    worn_out = replace(stale, signings=STALE_SIGNINGS_MAX)
    step = next_step(worn_out, facts(a_session("n-2")), NOW)
    assert step == End(CommandEvent.WITHDRAW, Party.HEAD_END, "STALE_NONCE")


# --- after the end -------------------------------------------------------------------------------


def an_unknown() -> LedgerCommand:
    at = NOW + 361 * SECOND
    return ended(
        signed_as(a_command()), CommandEvent.NO_REPORT, by=Party.TIME, code="NO_REPORT", now=at
    ).command


@pytest.mark.parametrize(
    ("position", "measured_at", "resolved_as"),
    [
        ("disconnected", NOW, None),
        ("disconnected", NOW + SECOND, CommandState.CONFIRMED),
        ("connected", NOW + SECOND, None),
        ("connected", NOW + 361 * SECOND, None),
        ("connected", NOW + 362 * SECOND, CommandState.FAILED),
    ],
)
def test_telemetry_resolves_what_it_can_and_the_state_stays(
    position: str, measured_at: datetime, resolved_as: CommandState | None
) -> None:
    unknown = an_unknown()
    change = reconciled(unknown, position=position, measured_at=measured_at, now=NOW)
    after = unknown if change is None else change.command
    assert (after.state, after.resolved_as) == (CommandState.UNKNOWN, resolved_as)
    if resolved_as is not None:
        assert reconciled(after, position="x", measured_at=measured_at, now=NOW) is None


def test_an_unknown_one_is_looked_at_for_weeks_and_not_for_ever() -> None:
    unknown = an_unknown()
    assert unknown.ended_at is not None
    last = unknown.ended_at + timedelta(days=RECONCILE_DAYS)
    assert next_step(unknown, facts(), last - SECOND) == Reconcile()
    assert next_step(unknown, facts(), last) == Wait(None)


def test_an_unknown_one_is_looked_at_less_and_less_often() -> None:
    unknown = an_unknown()
    assert unknown.ended_at is not None

    def pause_s(age: timedelta) -> float:
        now = unknown.ended_at + age if unknown.ended_at is not None else NOW
        return (reconciled_next(unknown, now) - now).total_seconds()

    assert pause_s(timedelta()) == pause_s(timedelta(minutes=10)) == RECONCILE_FIRST_S
    assert pause_s(timedelta(minutes=20)) == 2 * RECONCILE_FIRST_S
    assert pause_s(timedelta(hours=10)) == pause_s(timedelta(days=30)) == RECONCILE_S_MAX


def test_withdrawn_only_while_it_is_ours() -> None:
    change = withdrawn(a_command(), NOW, who="anita")
    assert change is not None
    assert change.command.state is CommandState.REFUSED
    assert withdrawn(signed_as(a_command()), NOW, who="anita") is None
    assert withdrawn(change.command, NOW, who="anita") is None
    waiting = signed_as(a_command(meter_serial=CLINIC))
    assert withdrawn(waiting, NOW, who="anita") is not None


# --- any history ---------------------------------------------------------------------------------

_reports = st.builds(
    lambda status, back, code, position: (status, back, code, position),
    st.sampled_from(ReportStatus),
    st.integers(0, 2),
    st.sampled_from(["OK", "STALE_NONCE", "DWELL", "METER_ERROR"]),
    st.sampled_from(["disconnected", "connected", None]),
)
_moves = st.lists(
    st.one_of(
        st.just("step"),
        st.just("renew"),
        st.just("lose session"),
        st.just("withdraw"),
        st.just("approve"),
        st.integers(1, 400),
        _reports,
    ),
    max_size=40,
)


@settings(max_examples=200)
@given(_moves, st.sampled_from([METER, CLINIC]))
def test_every_command_ends_exactly_once_whatever_comes_in_whatever_order(
    moves: list[object], meter: str
) -> None:
    """Reports in any order, repeated, for any signing; time, restarts (the row is all there is), renewals.

    Besides: a second document is signed only after every one that was sent is known not to act, and EXPIRED
    and REFUSED by us are said of commands alone of which no document can still act.
    """
    command, now, nonce, approved = a_command(meter_serial=meter), NOW, 1, False
    session: LedgerSession | None = a_session("n-1")
    at_large: set[str] = set()  # sent, and not refused
    ends: set[CommandState] = set()
    closing: list[object] = [400, "step", "step", 400, "step", "step"]
    for move in [*moves, *closing]:
        before = command
        match move:
            case int(seconds):
                now += seconds * SECOND
            case "renew":
                nonce += 1
                session = a_session(f"n-{nonce}")
            case "lose session":
                session = None
            case "approve":
                approved = True
            case "withdraw":
                change = withdrawn(command, now, who="anita")
                command = command if change is None else change.command
                if change is not None:
                    assert not at_large
            case "step":
                approvers = frozenset({Role.OPERATOR}) if approved else frozenset()
                step = next_step(command, facts(session, approved_by=approvers), now)
                match step:
                    case Sign():
                        assert not at_large
                        seq = command.signings + 1
                        approved = False
                        command = signed(
                            command, step, seq=seq, digest=f"d-{seq}", document=b"{}", now=now
                        ).command
                    case Send():
                        command = sent(command, now).command
                    case End(event, by, code):
                        command = ended(command, event, by=by, code=code, now=now).command
                        if command.state in (CommandState.EXPIRED, CommandState.REFUSED):
                            assert not at_large
                if command.is_open and command.sent_at is not None and command.digest:
                    at_large.add(command.digest)
            case (status, back, code, position):
                digest = f"d-{max(1, command.signings - back)}"  # type: ignore[operator]  # an int
                if not command.signings or (digest == command.digest and not command.sent_at):
                    continue  # nobody reports on what nobody was sent
                if status is ReportStatus.REFUSED and digest not in at_large:
                    pass  # an old refusal, repeated
                elif status is ReportStatus.REFUSED:
                    at_large.discard(digest)
                command = told(
                    command,
                    a_report(status, digest, code, position),  # type: ignore[arg-type]  # of the strategy
                    now,
                )
        if COMMAND_LIFE.is_terminal(before.state):
            assert command.state is before.state
            assert before.resolved_as in (None, command.resolved_as)
        if not command.is_open:
            ends.add(command.state)
            assert command.ended_at is not None
        assert plain(command)
    assert len(ends) == 1, command


def test_no_move_that_is_not_in_the_table_can_be_made() -> None:
    done = told(signed_as(a_command()), a_report(ReportStatus.DONE))
    for event in CommandEvent:
        for party in Party:
            with pytest.raises(IllegalMove):
                ended(done, event, by=party, code="X", now=NOW)
