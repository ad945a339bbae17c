"""Users and tokens through the API: who may, by which proof, and what no token ever does."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.headend.web.api.village import FEEDER, NOW, PEOPLE, Village

from openami.headend.accounts import Role
from openami.headend.accounts.credentials import Kind, digest_of
from openami.headend.accounts.users import User
from openami.headend.audit import Entry
from openami.headend.web.api.document import published

VERA = {"name": "vera", "role": "viewer", "feeders": [FEEDER]}
BILLING = {"label": "billing", "role": "viewer", "feeders": None}


async def has(village: Village, name: str, role: Role, **members: Any) -> User:
    user = User(name=name, role=role, created_at=NOW, created_by="test", **members)
    assert await village.store.add_user(user, Entry(who="test", what="added"))
    return user


async def test_an_account_is_made_shown_changed_and_put_out_of_force(village: Village) -> None:
    made = await village.post("/users", "himself", json=VERA)
    assert made.status_code == 201, made.text
    told = made.json()
    assert made.headers["location"] == "/api/v1/users/vera"
    assert told["link"].startswith("http://head-end/first/")
    assert (told["role"], told["feeders"], told["canSignIn"]) == ("viewer", [FEEDER], False)
    shown = await village.get("/users/vera", "engineer")
    seen = {"If-Match": shown.headers["etag"]}
    role = {"role": "operator", "feeders": None}
    changed = await village.put("/users/vera/role", "himself", json=role, headers=seen)
    assert (changed.json()["role"], changed.json()["feeders"]) == ("operator", None)
    stale = await village.put("/users/vera/role", "himself", json=role, headers=seen)
    assert stale.status_code == 412
    gone = await village.post("/users/vera/disable", "himself")
    assert gone.json()["disabledAt"] is not None
    back = await village.post("/users/vera/enable", "himself")
    assert back.json()["disabledAt"] is None
    assert (await village.post("/users/vera/remove-second-factor", "himself")).status_code == 200
    link = await village.post("/users/vera/link", "himself")
    assert link.json()["link"] != told["link"]
    assert "link" not in (await village.get("/users/vera", "engineer")).json()
    [listed] = await village.items("/users", "engineer")
    assert listed["name"] == "vera"
    said = [link.entry for link in await village.store.audit_links()]
    assert next(e.what for e in said if "vera" in e.what) == "user vera added"


async def test_every_feeder_has_to_be_said_and_a_name_is_taken_once(village: Village) -> None:
    unsaid = {name: value for name, value in VERA.items() if name != "feeders"}
    for wrong in (
        unsaid,
        {**VERA, "feeders": []},
        {**VERA, "name": "Vera!"},
        {**VERA, "role": "x"},
    ):
        assert (await village.post("/users", "himself", json=wrong)).status_code == 422, wrong
    assert (await village.post("/users", "himself", json=VERA)).status_code == 201
    again = await village.post("/users", "himself", json=VERA)
    assert (again.status_code, again.json()["code"]) == (409, "name-taken")
    assert (await village.get("/users/nobody", "engineer")).status_code == 404
    assert (await village.post("/users/nobody/disable", "himself")).status_code == 404


async def test_the_last_engineer_stays(village: Village) -> None:
    await has(village, "erik", Role.ENGINEER, password="a hash")
    for path, body in (("/users/erik/disable", None), ("/users/erik/role", VERA)):
        if body is None:
            refused = await village.post(path, "himself")
        else:
            role = {"role": "viewer", "feeders": None}
            refused = await village.put(path, "himself", json=role)
        assert (refused.status_code, refused.json()["code"]) == (409, "last-engineer")


@pytest.mark.parametrize(
    ("who", "code"),
    [
        ("operator", "role-missing"),
        ("engineer", "step-up-needed"),
        ("south", "scope-too-narrow"),
        ("early", "step-up-needed"),
    ],
)
async def test_who_may_not(village: Village, who: str, code: str) -> None:
    """Role, scope and proof: a token of an engineer has the role, and proves nothing."""
    for path, body in (("/users", VERA), ("/tokens", BILLING)):
        refused = await village.post(path, who, json=body)
        assert (refused.status_code, refused.json()["code"]) == (403, code), path
    if who != "engineer" and who != "early":
        assert (await village.get("/users", who)).status_code == 403
    assert await village.store.users() == []
    assert await village.store.tokens() == []


async def test_every_change_of_an_account_wants_its_proof(village: Village) -> None:
    """Walks the document, so that a new one is not forgotten: the role alone changes nothing."""
    await has(village, "vera", Role.VIEWER)
    role = {"role": "operator", "feeders": None}
    bodies = {"/users": {**VERA, "name": "ned"}, "/tokens": BILLING, "/users/{name}/role": role}
    asked = 0
    for path, methods in json.loads(published())["paths"].items():
        short = path.removeprefix("/api/v1")
        if not short.startswith(("/users", "/tokens")):
            continue
        for method in methods.keys() - {"get"}:
            where = short.format(name="vera", tokenId="token-0")
            told = {"json": bodies[short]} if short in bodies else {}
            send = {"post": village.post, "put": village.put}[method]
            refused = await send(where, "engineer", **told)
            assert (refused.status_code, refused.json()["code"]) == (403, "step-up-needed"), short
            asked += 1
    assert asked >= 8
    assert len(await village.store.users()) == 1


async def test_a_token_made_for_it_makes_what_is_below_an_engineer_and_nothing_else(
    village: Village,
) -> None:
    assert (await village.post("/users", "keeper", json=VERA)).status_code == 201
    made = await village.post("/tokens", "keeper", json=BILLING)
    assert made.status_code == 201
    for path, body in (
        ("/users", {**VERA, "name": "eve", "role": "engineer"}),
        ("/tokens", {**BILLING, "role": "engineer"}),
        ("/tokens", {**BILLING, "role": "engineer", "accounts": True}),
        ("/tokens", {**BILLING, "role": "operator", "relays": True}),
    ):
        refused = await village.post(path, "keeper", json=body)
        assert (refused.status_code, refused.json()["code"]) == (403, "step-up-needed"), body
    await has(village, "erik", Role.ENGINEER, password="a hash")
    await has(village, "anna", Role.ENGINEER, password="a hash")
    for path in ("/users/erik/disable", "/users/erik/link", "/users/erik/remove-second-factor"):
        assert (await village.post(path, "keeper")).status_code == 403, path
    role = {"role": "engineer", "feeders": None}
    assert (await village.put("/users/vera/role", "keeper", json=role)).status_code == 403
    role = {"role": "viewer", "feeders": None}
    assert (await village.put("/users/erik/role", "keeper", json=role)).status_code == 403
    erik = await village.store.user("erik")
    assert erik is not None
    assert (erik.role, erik.disabled_at) == (Role.ENGINEER, None)


async def test_a_token_is_told_once_and_revoked_at_once(village: Village) -> None:
    asked = {**BILLING, "feeders": [FEEDER], "days": 30, "role": "operator", "relays": True}
    told = (await village.post("/tokens", "himself", json=asked)).json()
    kept = await village.store.token(digest_of(Kind.TOKEN, told["token"]))
    assert kept is not None
    assert (kept.label, kept.relays, kept.feeders) == ("billing", True, frozenset({FEEDER}))
    assert kept.expires_at == NOW + timedelta(days=30)
    [listed] = await village.items("/tokens", "engineer")
    assert listed == {name: value for name, value in told.items() if name != "token"}
    gone = await village.post(f"/tokens/{told['id']}/revoke", "himself")
    assert gone.json()["revokedAt"] is not None
    twice = await village.post(f"/tokens/{told['id']}/revoke", "himself")
    assert twice.json()["code"] == "ended-already"
    assert (await village.post("/tokens/token-0/revoke", "himself")).status_code == 404
    for wrong in (
        {**BILLING, "days": 0},
        {**BILLING, "days": 367},
        {**BILLING, "label": " "},
        {**BILLING, "relays": True},
        {**BILLING, "role": "operator", "accounts": True},
        {**BILLING, "role": "engineer", "feeders": [FEEDER], "accounts": True},
    ):
        assert (await village.post("/tokens", "himself", json=wrong)).status_code == 422, wrong


async def test_a_token_for_accounts_keeps_that_in_the_store(village: Village) -> None:
    asked = {**BILLING, "role": "engineer", "accounts": True}
    told = (await village.post("/tokens", "himself", json=asked)).json()
    kept = await village.store.token(digest_of(Kind.TOKEN, told["token"]))
    assert kept is not None
    assert (kept.accounts, kept.relays) == (True, False)
    entry = (await village.store.audit_links())[-1].entry
    assert "may change accounts" in entry.why
    assert not replace(PEOPLE["keeper"], feeders=frozenset({"f"})).may_change_accounts(NOW)
