"""Programs with tokens, people behind a proxy, and whoever says they are one."""

import secrets
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from starlette.requests import HTTPConnection
from tests.headend.new_store import new_store
from tests.headend.web.browser import HOME, HOST, NOW, PASSWORD, Premises, premises

from openami.headend.accounts import Role
from openami.headend.accounts.credentials import made_token
from openami.headend.accounts.proxy import ProxyAuthSettings, ProxyRules
from openami.headend.accounts.users import AccountError
from openami.headend.audit import Entry
from openami.headend.store.open import open_store
from openami.headend.web.admission import declared
from openami.headend.web.api.edge import ApiRoute
from openami.headend.web.app import API, UndeclaredRoute, build_app
from openami.headend.web.doorkeeper import AccountsDoorkeeper

PROXY = "192.0.2.1"
RULES = ProxyRules(
    ProxyAuthSettings(
        header="X-Forwarded-User",
        groups_header="X-Forwarded-Groups",
        trusted=["192.0.2.0/28"],
        groups={"village-engineers": "engineer", "*": "viewer"},
    )
)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Premises]:
    async with (
        open_store(new_store(tmp_path / "headend.db")) as store,
        premises(store, proxy=RULES) as opened,
    ):
        yield opened


async def token(place: Premises, role: Role = Role.ENGINEER, days: int = 1) -> tuple[str, str]:
    """Return a new token's id and text."""
    made, text = made_token(
        secrets.token_bytes,
        label="billing",
        role=role,
        feeders=None,
        life=timedelta(days=days),
        now=place.clock.now(),
        who="ada",
    )
    await place.store.add_token(made, made.entry_of_making())
    return made.id, text


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


# --- tokens --------------------------------------------------------------------------------------


async def test_a_token_is_what_its_role_is_until_it_ends(place: Premises) -> None:
    token_id, text = await token(place)
    program = place.browser(**bearer(text))
    assert (await program.get("/users")).status_code == 200
    [kept] = await place.store.tokens()
    assert text not in str(kept)
    assert kept.used_at == NOW
    place.clock.turn(days=1)
    assert (await program.get("/users")).status_code == 303
    token_id, text = await token(place, Role.VIEWER)
    program = place.browser(**bearer(text))
    assert (await program.get("/users")).status_code == 403
    assert await place.store.revoke_token(token_id, Entry(who="ada", what="revoked"), NOW)
    assert not await program.is_in()


async def test_a_token_in_a_cookie_is_nothing(place: Premises) -> None:
    _, text = await token(place)
    thief = place.browser()
    thief.secret = text
    assert not await thief.is_in()


async def test_a_sign_in_in_a_header_is_nothing(place: Premises) -> None:
    await place.has_user()
    ada = place.browser()
    await ada.sign_in()
    assert not await place.browser(**bearer(ada.secret)).is_in()


async def test_a_bad_token_is_not_helped_by_a_good_cookie(place: Premises) -> None:
    """So a request that is exempt from the origin check never acts in a browser's name."""
    await place.has_user()
    ada = place.browser()
    await ada.sign_in()
    _, text = await token(place)
    for shown in (text[:-1], f"{text}0", "oami_", "", "x" * 10_000):
        answer = await ada.client.get(HOME, headers=bearer(shown))
        assert answer.status_code == 303, shown
    answer = await ada.client.post("/account/language", headers=bearer("oami_"), data={})
    assert answer.status_code == 403


async def test_a_token_changes_no_account_however_great_its_role(place: Premises) -> None:
    _, text = await token(place)
    program = place.browser(**bearer(text))
    answer = await program.post("/users", origin=None, name="eve", role="viewer", scope="all")
    assert answer.headers["location"].startswith("/step-up")
    answer = await program.post("/step-up", origin=None, password=PASSWORD)
    assert "set-cookie" not in answer.headers
    assert await place.store.users() == []


async def test_the_api_answers_a_stranger_with_a_problem(place: Premises) -> None:
    answer = await place.browser().get(f"{API}/feeders")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.headers["content-type"] == "application/problem+json"
    _, text = await token(place, Role.VIEWER)
    assert (await place.browser(**bearer(text)).get(f"{API}/feeders")).status_code == 200


# --- scope ---------------------------------------------------------------------------------------


async def test_an_engineer_of_some_feeders_makes_no_accounts(place: Premises) -> None:
    await place.has_user("bob", feeders=frozenset({"north"}))
    bob = place.browser()
    await bob.sign_in("bob")
    assert (await bob.get("/users")).status_code == 403
    answer = await bob.post("/users", name="eve", role="engineer", scope="all")
    assert answer.status_code == 403
    answer = await bob.post("/tokens", label="mine", role="engineer", scope="all", days="1")
    assert answer.status_code == 403
    assert len(await place.store.users()) == 1
    assert await place.store.tokens() == []


async def test_who_forgets_to_name_a_feeder_gives_none_away(place: Premises) -> None:
    await place.has_user()
    ada = place.browser()
    await ada.sign_in()
    answer = await ada.post("/users", name="bob", role="viewer", scope="some")
    assert (answer.status_code, "no feeder is chosen" in answer.text) == (422, True)
    await ada.post("/users", name="bob", role="viewer", scope="some", feeders="north")
    bob = await place.store.user("bob")
    assert bob is not None
    assert bob.feeders == frozenset({"north"})


async def test_the_last_engineer_stays_one(place: Premises) -> None:
    await place.has_user()
    await place.has_user("bob", feeders=frozenset({"north"}))
    ada = place.browser()
    await ada.sign_in()
    assert (await ada.post("/users/ada/disable")).status_code == 422
    assert (await ada.post("/users/ada/role", role="viewer", scope="all")).status_code == 422
    assert (await ada.post("/users/nobody/disable")).status_code == 404


# --- the proxy -----------------------------------------------------------------------------------


def told(**headers: str) -> dict[str, str]:
    return {f"x_forwarded_{name}": value for name, value in headers.items()}


async def test_a_trusted_proxy_s_word_is_taken(place: Premises) -> None:
    browser = place.browser(address=PROXY, **told(user="Ada", groups="all, village-engineers"))
    assert (await browser.get("/users")).status_code == 200
    browser = place.browser(address=PROXY, **told(user="bob"))
    assert (await browser.get("/users")).status_code == 403
    assert await browser.is_in()


@pytest.mark.parametrize(
    ("address", "host"), [("192.0.2.16", HOST), ("10.0.0.7", HOST), (PROXY, "rebound.test")]
)
async def test_a_stranger_who_writes_the_header_is_a_stranger(
    place: Premises, address: str, host: str
) -> None:
    browser = place.browser(address=address, **told(user="ada", groups="village-engineers"))
    with structlog.testing.capture_logs() as logged:
        answer = await browser.get(HOME, headers={"host": host})
    assert answer.status_code == 303
    assert [(line["event"], line["address"]) for line in logged] == [
        ("a sign-in header was dropped", address)
    ]


async def test_two_names_in_the_header_are_none(place: Premises) -> None:
    """A proxy that adds where it should set: the first may be the visitor's own."""
    transport = httpx.ASGITransport(place.app, client=(PROXY, 1))
    names = [("x-forwarded-user", "ada"), ("x-forwarded-user", "bob")]
    async with httpx.AsyncClient(
        transport=transport, base_url=f"http://{HOST}", headers=names
    ) as client:
        assert (await client.get(HOME)).status_code == 303


async def test_who_comes_through_the_proxy_shows_a_password_of_ours_for_what_wants_one(
    place: Premises,
) -> None:
    await place.has_user("bob", Role.VIEWER)
    headers = told(user="ada", groups="village-engineers", **{"for": "198.51.100.9"})
    ada = place.browser(address=PROXY, **headers)
    answer = await ada.post("/users/bob/disable")
    assert answer.headers["location"].startswith("/step-up")
    assert "Ask an engineer" in (await ada.get("/step-up")).text
    await place.has_user("ada", Role.VIEWER)
    assert (await ada.post("/step-up", password=PASSWORD)).status_code == 303
    assert (await ada.post("/users/bob/disable")).headers["location"] == "/users"
    [sign_in] = await place.store.sign_ins("ada")
    assert sign_in.address == "198.51.100.9"
    other = place.browser(address=PROXY, **told(user="eve", groups="village-engineers"))
    other.secret = ada.secret
    assert (await other.post("/users/bob/enable")).headers["location"].startswith("/step-up")


async def test_an_account_that_is_disabled_here_is_disabled_behind_the_proxy(
    place: Premises,
) -> None:
    await place.has_user("ada", disabled_at=NOW)
    browser = place.browser(address=PROXY, **told(user="ada", groups="village-engineers"))
    assert not await browser.is_in()


@pytest.mark.parametrize(
    "wrong", [{"trusted": ["10.0.0.1/8"]}, {"groups": {"x": "king"}}, {"trusted": ["nowhere"]}]
)
def test_rules_that_cannot_be_meant_are_refused(wrong: dict[str, Any]) -> None:
    settings = {"header": "X-User", "trusted": ["127.0.0.1/32"], "groups": {"*": "viewer"}}
    with pytest.raises(AccountError):
        ProxyRules(ProxyAuthSettings(**{**settings, **wrong}))


# --- every route ---------------------------------------------------------------------------------


def routes(found: Any) -> list[Any]:
    """Return every route of the application, those of included routers too."""
    inner = getattr(found, "original_router", found)
    own = getattr(inner, "routes", None)
    return [found] if own is None else [each for route in own for each in routes(route)]


async def test_every_route_says_who_may_use_it(place: Premises) -> None:
    """Strangers reach only what a stranger needs; this list grows by a decision, not by a slip."""
    marks = {route.path: declared(route.endpoint) for route in routes(place.app)}
    assert len(marks) > 10
    assert None not in marks.values()
    assert {path for path, mark in marks.items() if mark is not None and mark.role is None} <= {
        *("/sign-in", "/sign-out", "/first/{secret}"),
        *("/static/{digest}/{name}", "/static/{name}", "/data-saver"),
        *("/healthz", "/readyz", "/version", "/help/problems"),
    }


async def test_what_changes_accounts_wants_the_password_again(place: Premises) -> None:
    for route in routes(place.app):
        mark = declared(route.endpoint)
        assert mark is not None
        if route.path.startswith(("/users", "/tokens")) and "POST" in route.methods:
            # Those of the API ask inside, because a token may have been made for it: see api/test_accounts.
            of_the_api = isinstance(route, ApiRoute)
            assert (mark.role, mark.step_up or of_the_api) == (Role.ENGINEER, True), route.path


async def test_an_application_with_an_undeclared_route_is_not_built(
    place: Premises, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastapi import APIRouter

    from openami.headend.web import app

    async def forgotten() -> None: ...

    inner, outer = APIRouter(), APIRouter()
    inner.add_api_route("/forgotten", forgotten)
    outer.include_router(inner)
    monkeypatch.setattr(app, "api_routes", lambda: outer)
    with pytest.raises(UndeclaredRoute, match="/forgotten"):
        build_app(place.site)


# --- headers -------------------------------------------------------------------------------------


async def test_every_answer_tells_the_browser_what_not_to_do(place: Premises) -> None:
    for path in ("/sign-in", "/healthz", f"{API}/nothing", "/nothing", "/users"):
        headers = (await place.browser().get(path)).headers
        assert headers["content-security-policy"].startswith("default-src 'self'")
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"
        assert "strict-transport-security" not in headers


async def test_a_body_without_end_is_refused(place: Premises) -> None:
    answer = await place.browser().client.post(
        "/sign-in",
        content=b"name=" + b"x" * (9 * 1024 * 1024),
        headers={
            "origin": f"http://{HOST}",
            "content-type": "application/x-www-form-urlencoded",
        },
    )
    assert answer.status_code == 413


async def test_a_token_orders_relays_only_if_it_was_made_for_that(place: Premises) -> None:
    """It counts as a step-up for relays, and for nothing else."""
    for relays in (False, True):
        made, text = made_token(
            secrets.token_bytes,
            label="vending",
            role=Role.OPERATOR,
            feeders=None,
            life=timedelta(days=1),
            now=NOW,
            who="ada",
            relays=relays,
        )
        await place.store.add_token(made, made.entry_of_making())
        shown = HTTPConnection(
            {"type": "http", "headers": [(b"authorization", f"Bearer {text}".encode())]}
        )
        found = await AccountsDoorkeeper(place.store, place.clock).principal(shown)
        assert found is not None
        assert found.may_order_relays(NOW) is relays
        assert not found.stepped_up(NOW)
    with pytest.raises(AccountError, match="viewer"):
        made_token(
            secrets.token_bytes,
            label="x",
            role=Role.VIEWER,
            feeders=None,
            life=timedelta(days=1),
            now=NOW,
            who="ada",
            relays=True,
        )
