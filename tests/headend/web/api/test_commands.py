"""Commands through the API: from the request to the ledger, and on to the gateway and back."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.headend.decisions import accepted
from tests.headend.test_downlink import PATIENCE_S, ManualClock
from tests.headend.test_downlink import Village as WholeVillage
from tests.headend.village_keys import CLINIC, GATEWAY, METER, START, signer
from tests.headend.village_keys import FEEDER as KEYED_FEEDER
from tests.headend.web.api.village import FEEDER, NOW, Asking, Village, site_over, village_over
from tests.headend.web.api.village import METER as SOME_METER

from openami.headend.commands import Change, LedgerCommand
from openami.headend.store import Access
from openami.headend.store.commands import Around
from openami.headend.store.open import open_store
from openami.headend.web.api.commands import CommandWord
from openami.headend.web.app import build_app
from openami.profile.command import COMMAND_LIFE, CommandState
from openami.sip.actions import ACTIONS, Action, Direction
from openami.sip.acts import ActType, make_act
from openami.sip.canonical import read_document

ARGS: dict[str, dict[str, Any]] = {
    "credit.token": {"token": "1234 5678 9012 3456 7890"},
    "readings.resend": {"from": "2026-06-22T10:00:00Z", "to": "2026-06-22T12:00:00+00:00"},
    "settlement.commit": {
        "tradeId": "t-1",
        "energyWh": 1500,
        "amountMinor": 300.0,
        "currency": "KES",
        "seller": "h-1",
        "buyer": "h-2",
    },
}


def order(action: str = "relay.disconnect", **members: Any) -> dict[str, Any]:
    """Return what is asked for."""
    args = {"args": ARGS[action]} if action in ARGS else {}
    return {"feederId": FEEDER, "meterSerial": SOME_METER, "action": action, **args, **members}


async def asked(
    village: Asking, who: str = "relays", key: str = "k-1", **members: Any
) -> httpx.Response:
    """Ask for a command."""
    headers = {"Idempotency-Key": key}
    return await village.post("/commands", who, json=order(**members), headers=headers)


# --- the request ---------------------------------------------------------------------------------


async def test_a_request_is_in_the_ledger_and_in_the_audit_log(village: Village) -> None:
    answer = await asked(village, reason="unpaid", validForS=120)
    assert answer.status_code == 201, answer.text
    told = answer.json()
    assert answer.headers["location"] == f"/api/v1/commands/{told['id']}"
    stored = await village.store.command(told["id"])
    assert stored is not None
    assert (stored.action, stored.requested_by, stored.reason) == (
        Action.DISCONNECT,
        "rita",
        "unpaid",
    )
    assert stored.not_after == NOW + timedelta(seconds=120)
    shown = await village.get(f"/commands/{told['id']}")
    assert (shown.json(), shown.headers["etag"]) == (told, answer.headers["etag"])
    assert (told["state"], told["isOpen"], told["gatewayId"]) == ("issued", True, "pole-1")
    [entry] = await village.items("/audit", command=told["id"])
    assert (entry["who"], entry["what"]) == ("rita", "relay.disconnect requested")
    assert await village.items("/commands", open="true", meter=SOME_METER) == [told]


@pytest.mark.parametrize("action", list(Action))
async def test_what_moves_a_relay_or_money_needs_the_step_up_always(
    village: Village, action: Action
) -> None:
    """The role alone is enough for what harms nobody; a step-up without the role is enough for nothing."""
    grave = ACTIONS[action].moves_relay or ACTIONS[action].direction is Direction.MONEY
    plain = await asked(village, "operator", action=action)
    if grave:
        assert (plain.status_code, plain.json()["code"]) == (403, "step-up-needed")
        assert await village.items("/commands") == []
        assert (await asked(village, "relays", action=action)).status_code == 201
        assert (await asked(village, "person", action="relay.reconnect")).status_code == 201
        village.clock.at = NOW + timedelta(minutes=6)  # what was proved is not fresh any more
        stale = await asked(village, "person", key="k-2", action=action)
        assert stale.json()["code"] == "step-up-needed"
    else:
        assert plain.status_code == 201, plain.text
    lesser = await asked(village, "viewer", key="k-3", action=action)
    assert (lesser.status_code, lesser.json()["code"]) == (403, "role-missing")


async def test_a_key_names_one_command_across_restarts(
    village: Village, filled: Path, tmp_path: Path
) -> None:
    first = await asked(village, reason="unpaid")
    async with (
        open_store(f"sqlite:///{tmp_path / 'store.db'}", Access.EDIT) as store,
        village_over(store) as restarted,
    ):
        again = await asked(restarted, reason="unpaid")
        assert (again.status_code, again.json()) == (200, first.json())
        assert again.headers["location"] == first.headers["location"]
        for other in ({"action": "relay.reconnect"}, {"reason": "other"}, {"sessionId": "sip-1"}):
            refused = await asked(restarted, **{"reason": "unpaid", **other})
            assert (refused.status_code, refused.json()["code"]) == (
                422,
                "idempotency-key-reused",
            )
        assert len(await restarted.items("/commands")) == 1


async def test_two_people_may_choose_the_same_key(village: Village) -> None:
    first = await asked(village, "relays", action="relay.reconnect")
    second = await asked(village, "engineer", action="relay.reconnect")
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] != second.json()["id"]


async def test_what_cannot_be_asked(village: Village) -> None:
    missing = await village.post("/commands", json=order())
    assert missing.status_code == 422
    assert missing.json()["errors"][0]["in"] == "header: Idempotency-Key"
    for wrong, status in (
        ({"feederId": "nowhere"}, 404),
        ({"meterSerial": "nowhere"}, 404),
        ({"action": "relay.explode"}, 422),
        ({"args": {"token": "1"}}, 422),
        ({"action": "credit.token", "args": {}}, 422),
        ({"validForS": 3601}, 422),
        ({"validForS": 0}, 422),
        ({"validForS": "60"}, 422),
        ({"reason": "two\nlines"}, 422),
        (
            {
                "action": "readings.resend",
                "args": {"from": "2026-06-22T12:00:00Z", "to": "2026-06-22T10:00:00Z"},
            },
            422,
        ),
        (
            {"action": "readings.resend", "args": {"from": 0, "to": "2026-06-22T10:00:00Z"}},
            422,
        ),
    ):
        answer = await asked(village, **wrong)
        assert answer.status_code == status, (wrong, answer.text)
        assert answer.json()["detail"]
    assert (await asked(village, "south")).status_code == 404
    assert await village.items("/commands") == []


async def test_nobody_is_cut_off_twice_at_a_time(village: Village) -> None:
    await asked(village)
    second = await asked(village, key="k-2")
    assert (second.status_code, second.json()["code"]) == (409, "already-open")


async def test_a_head_end_without_a_key_says_so(village: Village) -> None:
    village.app.state.site = replace(village.app.state.site, can_command=False)
    answer = await asked(village)
    assert (answer.status_code, answer.json()["code"]) == (409, "no-key")
    session = await village.post("/sessions", json={"feederId": FEEDER, "gatewayId": "pole-1"})
    assert session.json()["code"] == "no-key"


async def test_a_command_is_withdrawn_before_it_is_sent(village: Village) -> None:
    told = (await asked(village)).json()
    place = f"/commands/{told['id']}/withdraw"
    approving = await village.post(
        place.replace("withdraw", "approve"), "operator", json={"act": "a"}
    )
    assert approving.json()["code"] == "step-up-needed"
    assert (await village.post(place, "operator", headers={"If-Match": '"x"'})).status_code == 412
    assert (await village.post(place, "south")).status_code == 404
    withdrawn = await village.post(place, "operator")
    assert (withdrawn.json()["state"], withdrawn.json()["code"]) == ("refused", "WITHDRAWN")
    again = await village.post(place, "operator")
    assert (again.status_code, again.json()["code"]) == (409, "too-late")


@pytest.mark.parametrize(
    "state", [state for state in CommandState if COMMAND_LIFE.is_terminal(state)]
)
async def test_each_of_the_five_ends_is_told_as_it_is(
    village: Village, state: CommandState
) -> None:
    told = (await asked(village)).json()

    def end(command: LedgerCommand, _: Around) -> Change:
        return Change(replace(command, state=state, code="OK", ended_at=NOW, sent_at=NOW))

    await village.store.change_command(told["id"], end, NOW)
    ended = (await village.get(f"/commands/{told['id']}")).json()
    assert (ended["state"], ended["isOpen"], ended["code"]) == (state.name.lower(), False, "OK")
    assert ended["inWords"] != told["inWords"]
    assert await village.items("/commands", state=state.name.lower()) == [ended]
    assert await village.items("/commands", open="true") == []


def test_the_states_of_the_api_are_those_of_the_profile() -> None:
    assert [word.value for word in CommandWord] == [state.name.lower() for state in CommandState]


# --- and on to the gateway -----------------------------------------------------------------------


@pytest.fixture
async def whole(tmp_path: Path) -> AsyncIterator[tuple[WholeVillage, Asking]]:
    """Head-end, broker and gateway, and the API over the same store and clock."""
    async with open_store(f"sqlite:///{tmp_path / 'store.db'}") as store:
        clock = ManualClock()
        inside = WholeVillage(store, clock)
        await inside.with_keyring()
        await store.commit(
            [
                accepted(ts=START, feeder=KEYED_FEEDER, gateway=GATEWAY, meter=meter)
                for meter in (METER, CLINIC)
            ]
        )
        app = build_app(site_over(store, clock))
        transport = httpx.ASGITransport(app=app)
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://head-end") as client,
            inside.headed(),
            inside.gatewayed(),
        ):
            yield inside, Asking(app, client)


async def until(village: Asking, command_id: str, member: str, wanted: object) -> dict[str, Any]:
    """Return a command as soon as it is as wanted."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            told: dict[str, Any] = (await village.get(f"/commands/{command_id}", "relays")).json()
            if told[member] == wanted:
                return told
            await asyncio.sleep(0.005)


async def test_a_house_is_cut_off_with_proof(whole: tuple[WholeVillage, Asking]) -> None:
    inside, village = whole
    told = (await asked(village, feederId=KEYED_FEEDER, meterSerial=METER)).json()
    ended = await until(village, told["id"], "state", "confirmed")
    assert inside.pole.relays[METER] == "disconnected"
    assert ended["inWords"] == "done, and read back as ordered"
    document = await village.get(f"/commands/{told['id']}/document", "relays")
    assert read_document(document.content).digest == ended["digest"]
    report = await village.get(f"/commands/{told['id']}/report", "relays")
    assert report.json()["report"]["status"] == "done"


async def test_a_second_person_approves_with_a_key_of_their_own(
    whole: tuple[WholeVillage, Asking],
) -> None:
    inside, village = whole
    told = (await asked(village, feederId=KEYED_FEEDER, meterSerial=CLINIC)).json()
    place = f"/commands/{told['id']}"
    await until(village, told["id"], "waitsFor", ["operator"])
    document = read_document((await village.get(f"{place}/document", "relays")).content)
    iat = int(inside.clock.now().timestamp())

    def act_of(name: str, kind: ActType = ActType.COMMAND) -> dict[str, str]:
        return {"act": make_act(signer(name), document, kind, iat=iat)}

    stranger = await village.post(f"{place}/approve", json=act_of("somebody"))
    assert (stranger.status_code, stranger.json()["code"]) == (409, "not-waited-for")
    for wrong in ({"act": "abc"}, act_of("anita", ActType.KEYRING)):
        refused = await village.post(f"{place}/approve", json=wrong)
        assert refused.status_code == 422, refused.text
    approved = await village.post(f"{place}/approve", json=act_of("anita"))
    assert approved.status_code == 200, approved.text
    assert [each["who"] for each in approved.json()["approvals"]] == ["anita"]
    await until(village, told["id"], "state", "confirmed")
    assert inside.pole.relays[CLINIC] == "disconnected"
    said = [entry["what"] for entry in await village.items("/audit", "relays", command=told["id"])]
    assert "command approved" in said
    late = await village.post(f"{place}/approve", json=act_of("anita"))
    assert late.status_code == 409
    assert (await village.post(f"{place}/withdraw")).json()["code"] == "too-late"
