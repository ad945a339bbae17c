"""Relay commands in the console: what a person is told, what is asked of them, and what is never said."""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.headend.test_command_store import a_command
from tests.headend.web.pages import (
    CLINIC,
    FEEDER,
    METER,
    NOW,
    RELAY_PAGE,
    House,
    house,
    stepped_up,
    told,
)

from openami.headend.accounts import Role
from openami.headend.commands import Change, LedgerCommand, ended, sent
from openami.headend.store.commands import Around
from openami.headend.web.console.command_flow import (
    ORDERED,
    REASONS,
    Mark,
    RelayForm,
    Standing,
    StepName,
    look_again_s,
    standing,
    steps_of,
)
from openami.profile.command import COMMAND_LIFE, CommandEvent, CommandState
from openami.profile.life import Party
from openami.sip.actions import Action
from openami.sip.actions import Role as SipRole

CONFIRM = f"{RELAY_PAGE}/disconnect?reason=unpaid&note=since+March"
FORM = {"reason": "unpaid", "note": "since March", "serial_end": METER[-4:], "key": "k-1"}


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as opened:
        await opened.has_keyring()
        yield opened


async def only(home: House) -> LedgerCommand:
    """Return the one command there is."""
    [command] = await home.store.commands()
    assert isinstance(command, LedgerCommand)
    return command


async def becomes(home: House, command_id: str, **members: Any) -> None:
    """Let the downlink have changed a command."""

    def decide(found: LedgerCommand, _: Around) -> Change:
        return Change(replace(found, **members))

    await home.store.change_command(command_id, decide, home.now())


# --- asking --------------------------------------------------------------------------------------


async def test_the_facts_are_told_before_anything_is_asked_for(home: House) -> None:
    await home.has_assets(METER)
    home.place.clock.turn(minutes=15)
    page = told(await (await home.signed_in()).get(RELAY_PAGE))
    assert "<b>Connected</b>" in page
    assert "read 15" in page
    assert "Prepaid credit remaining" in page, "by the register list's name"
    assert "12.4 kWh" in page
    assert "pole 3" in page
    assert "yes, by the assets" in page
    assert "none: one opens by itself" in page
    assert "Only an engineer may ask to cut it off" in page
    assert f'action="{RELAY_PAGE}/disconnect"' not in page, "an operator is not offered it"
    assert f'action="{RELAY_PAGE}/reconnect"' in page, "the safe direction is"


async def test_a_house_is_cut_off_by_who_has_just_shown_who_they_are_and_types_its_serial(
    home: House,
) -> None:
    asha = await home.signed_in()
    home.place.clock.turn(minutes=6)
    answer = await asha.get(CONFIRM)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/step-up?next=/meters/")
    assert (await asha.post(CONFIRM, **FORM)).headers["location"].startswith("/step-up")
    await stepped_up(asha)
    page = told(await asha.get(CONFIRM))
    assert "Disconnect this house" in page
    assert "unpaid: since March" in page
    assert 'name="serial_end" required' in page

    wrong = told(await asha.post(CONFIRM, **{**FORM, "serial_end": "0000"}), 422)
    assert "not this meter&#39;s" in wrong or "not this meter's" in wrong
    assert await home.store.commands() == []

    answers = [await asha.post(CONFIRM, **FORM) for _ in range(2)]
    command = await only(home)
    assert {each.headers["location"] for each in answers} == {f"/commands/{command.id}"}
    assert (command.action, command.requested_by) == (Action.DISCONNECT, "asha")
    assert command.reason == "unpaid: since March"
    again = told(await asha.post(CONFIRM, **{**FORM, "key": "k-2"}), 409)
    assert f"Command {command.id} already asks for it" in again
    assert f'href="/commands/{command.id}"' in told(await asha.get(RELAY_PAGE))


async def test_reconnecting_needs_the_password_and_nothing_to_type(home: House) -> None:
    asha = await home.signed_in()
    path = f"{RELAY_PAGE}/reconnect"
    home.place.clock.turn(minutes=6)
    assert "/step-up" in (await asha.post(path, reason="paid", key="k")).headers["location"]
    await stepped_up(asha)
    page = told(await asha.get(f"{path}?reason=paid"))
    assert "serial_end" not in page
    assert (await asha.post(path, reason="paid", key="k")).status_code == 303
    assert (await only(home)).action is Action.RECONNECT


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("reason=", "Choose one"),
        ("reason=invented", "Choose one"),
        ("reason=other", "Say which reason"),
        (f"reason=unpaid&note={'n' * 301}", "300 characters"),
    ],
)
async def test_a_reason_is_given(home: House, query: str, said: str) -> None:
    asha = await home.signed_in()
    assert said in told(await asha.get(f"{RELAY_PAGE}/disconnect?{query}"), 422)


async def test_a_viewer_sees_commands_and_asks_for_none(home: House) -> None:
    vera = await home.signed_in("vera", Role.VIEWER)
    assert (await vera.get(RELAY_PAGE)).status_code == 403
    assert (await vera.post(CONFIRM, **FORM)).status_code == 403
    assert "No such command was ever asked for" in told(await vera.get("/commands"))
    await home.store.request_command(a_command("cmd-9"), home.now())
    page = told(await vera.get("/commands/cmd-9"))
    assert "Waits for a session" in page
    assert "Withdraw" not in page
    assert (await vera.post("/commands/cmd-9/withdraw")).status_code == 403


async def test_another_feeders_meter_and_command_are_not_there(home: House) -> None:
    await home.store.request_command(a_command("cmd-9"), home.now())
    asha = await home.signed_in(feeders=frozenset({"elsewhere"}))
    assert (await asha.get(RELAY_PAGE)).status_code == 404
    for path in ("", "/progress", "/receipt", "/document", "/report"):
        assert (await asha.get(f"/commands/cmd-9{path}")).status_code == 404
    assert (await asha.post("/commands/cmd-9/withdraw")).status_code == 404
    assert "cmd-9" not in told(await asha.get("/commands"))


async def test_a_protected_meter_needs_an_engineer_and_by_its_keyring_a_second_person(
    home: House,
) -> None:
    await home.measure(CLINIC)
    await home.has_assets(CLINIC)
    path = f"/meters/{FEEDER}/{CLINIC}/relay/disconnect?reason=safety"
    form = {**FORM, "reason": "safety", "serial_end": CLINIC[-4:]}
    asha = await home.signed_in()
    assert "Only an engineer" in told(await asha.post(path, **form), 409)
    ed = await home.signed_in("ed", Role.ENGINEER)
    assert "a second person has to approve" in told(await ed.get(path))
    assert (await ed.post(path, **{**form, "key": "k-9"})).status_code == 303


# --- following -----------------------------------------------------------------------------------


async def test_the_states_are_told_as_they_truly_are(home: House) -> None:
    asha = await home.signed_in()
    await asha.post(CONFIRM, **FORM)
    command = await only(home)
    path = f"/commands/{command.id}"
    page = told(await asha.get(path))
    assert "Waits for a session" in page
    assert 'hx-trigger="load delay:2s"' in page
    assert "Withdraw: it is not sent yet" in page
    assert "Receipt" not in page
    assert (await asha.get(f"{path}/receipt")).status_code == 404

    await becomes(home, command.id, document=b"{}", digest="d", signings=1, session_id="sip-1",
                  seq=1, nonce="n", signed_at=home.now())  # fmt: skip
    await home.store.change_command(command.id, lambda c, _: sent(c, home.now()), home.now())
    part = told(await asha.get(f"{path}/progress"))
    assert part.startswith('<section class="card" id="progress"')
    assert "Sent, no answer yet" in part
    assert "Withdraw" not in part
    late = told(await asha.post(f"{path}/withdraw"), 409)
    assert "Too late to withdraw it" in late

    home.place.clock.turn(minutes=10)

    def gives_up(found: LedgerCommand, _: Around) -> Change:
        return ended(found, CommandEvent.NO_REPORT, by=Party.TIME, code="NO_REPORT", now=home.now())

    await home.store.change_command(command.id, gives_up, home.now())
    page = told(await asha.get(path))
    assert "Unknown: look at the meter" in page
    assert "Failed" not in page, "unknown is never shown as failed"
    assert not re.search(r"<button[^>]*>\s*(Retry|Send again)", page), "and never asked for again"
    assert "nobody knows" in page
    listed = told(await asha.get("/commands?show=unknown"))
    assert f"/commands/{command.id}" in listed
    assert f"/commands/{command.id}" not in told(await asha.get("/commands?show=open"))

    receipt = told(await asha.get(f"{path}/receipt"))
    assert "No report of the gateway has come" in receipt
    assert "No later reading of the relay has come" in receipt


async def test_a_confirmed_command_has_a_receipt_that_proves_it(home: House) -> None:
    asha = await home.signed_in()
    await asha.post(CONFIRM, **FORM)
    command = await only(home)
    report = {"registers": [{"obis": "96.11.1", "value": "disconnected", "unit": "enum",
                             "quality": "good"}]}  # fmt: skip
    signed_at = home.now()
    home.place.clock.turn(seconds=3)
    await becomes(
        home,
        command.id,
        state=CommandState.CONFIRMED,
        document=b'{"signed":true}',
        digest="digest-of-it",
        session_id="sip-1",
        seq=7,
        nonce="n",
        signings=1,
        signed_at=signed_at,
        sent_at=signed_at,
        ended_at=home.now(),
        code="OK",
        report=json.dumps(report).encode(),
    )
    home.place.clock.turn(minutes=1)
    await home.measure(registers=[{"obis": "96.11.1", "value": "disconnected", "unit": "enum",
                                   "quality": "good"}])  # fmt: skip
    path = f"/commands/{command.id}"
    page = told(await asha.get(path))
    assert "The relay was read as Disconnected" in page
    assert "hx-get" not in page, "it has ended: nothing is looked for any more"
    receipt = told(await asha.get(f"{path}/receipt"))
    for proof in ("sip-1", "digest-of-it", command.id, "Relay state", "Ordinary telemetry shows"):
        assert proof in receipt
    assert (await asha.get(f"{path}/document")).content == b'{"signed":true}'
    assert json.loads((await asha.get(f"{path}/report")).content) == report


async def test_a_command_is_withdrawn_while_it_is_ours(home: House) -> None:
    asha = await home.signed_in()
    await asha.post(CONFIRM, **FORM)
    command = await only(home)
    home.place.clock.turn(minutes=1)
    assert (await asha.post(f"/commands/{command.id}/withdraw")).status_code == 303
    assert "Nothing has happened" in told(await asha.get(f"/commands/{command.id}"))


async def test_an_act_that_is_none_is_refused_in_words(home: House) -> None:
    asha = await home.signed_in()
    await asha.post(CONFIRM, **FORM)
    command = await only(home)
    answer = await asha.post(f"/commands/{command.id}/approve", act="e30.e30.AAAA")
    assert "not signed by the head-end yet" in told(answer, 422)


async def test_a_head_end_without_a_key_says_so(home: House) -> None:
    object.__setattr__(home.place.site, "can_command", False)
    asha = await home.signed_in()
    assert "no key to command with" in told(await asha.get(RELAY_PAGE))
    assert "no key to command with" in told(await asha.post(CONFIRM, **FORM), 409)
    assert await home.store.commands() == []


# --- the rules -----------------------------------------------------------------------------------

STATES = st.sampled_from(list(CommandState))


@st.composite
def commands(draw: st.DrawFn) -> LedgerCommand:
    """Any command that the ledger can have."""
    state = draw(STATES)
    was_sent = draw(st.booleans()) or state not in (
        CommandState.ISSUED,
        CommandState.REFUSED,
        CommandState.EXPIRED,
    )
    signed = was_sent or draw(st.booleans())
    over = COMMAND_LIFE.is_terminal(state)
    return a_command(
        state=state,
        document=b"{}" if signed else None,
        signed_at=NOW if signed else None,
        sent_at=NOW if was_sent else None,
        missing=draw(st.sampled_from([(), (SipRole.OPERATOR,)])),
        report=draw(st.sampled_from([None, b"{}"])),
        ended_at=NOW if over else None,
        code="OK" if over else None,
        resolved_as=draw(st.sampled_from([None, CommandState.CONFIRMED, CommandState.FAILED]))
        if state is CommandState.UNKNOWN
        else None,
    )  # fmt: skip


@given(commands())
def test_no_step_is_said_to_be_done_that_the_ledger_has_not(command: LedgerCommand) -> None:
    steps = {step.name: step.mark for step in steps_of(command)}
    marks = list(steps.values())
    assert marks.count(Mark.NOW) <= 1
    if command.is_open:
        assert Mark.NOW in marks, "somebody is waited for"
        assert steps[StepName.READ_BACK] is Mark.AHEAD, "nothing is optimistic"
    else:
        assert not {Mark.NOW, Mark.AHEAD} & set(marks), "nothing is waited for any more"
    if command.state is CommandState.UNKNOWN and command.resolved_as is None:
        assert Mark.FAILED not in marks, "unknown is no failure"
        assert standing(command) is Standing.UNKNOWN
    outcome = command.resolved_as or command.state
    assert (steps[StepName.READ_BACK] is Mark.DONE) == (outcome is CommandState.CONFIRMED)
    if command.sent_at is None:
        assert steps[StepName.SENT] is not Mark.DONE


@given(commands(), st.timedeltas(timedelta(0), timedelta(days=3)))
def test_a_page_stops_looking(command: LedgerCommand, later: timedelta) -> None:
    again = look_again_s(command, command.requested_at + later)
    assert again is None or again >= 2
    if later > timedelta(hours=2):
        assert again is None


@given(st.text(max_size=8), st.sampled_from(sorted(ORDERED)))
def test_only_the_end_of_the_serial_cuts_a_house_off(typed: str, order: str) -> None:
    action = ORDERED[order]
    reason = next(iter(REASONS[action]))
    faults = RelayForm(action, reason, "", typed).faults(METER)
    if action is Action.RECONNECT:
        assert not faults
    else:
        assert bool(faults) == (typed.strip() != METER[-4:])
