"""Signing in, staying signed in, and what a thief, a stranger and a guesser get."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pyotp
import pytest
from tests.headend.new_store import new_store
from tests.headend.web.browser import (
    HOME,
    HOST,
    NOW,
    PASSWORD,
    Premises,
    QuickHasher,
    premises,
)

from openami.headend.accounts import Role
from openami.headend.accounts.backoff import FREE_ATTEMPTS
from openami.headend.accounts.credentials import SIGN_IN_DAYS, SIGN_IN_IDLE_HOURS
from openami.headend.accounts.passwords import MEMORY_KIB, PASSES, Argon2Hasher
from openami.headend.accounts.second_factor import new_recovery_codes, recovery_digests
from openami.headend.accounts.users import with_role
from openami.headend.links import new_entrance, new_first_link, new_invite
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.open import open_store
from openami.headend.web.sign_in_desk import HASHES_AT_ONCE_MAX, HASHES_WAITING_MAX


class HeldHasher(QuickHasher):
    """Works only when it is let, and knows how many work at once."""

    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()
        self.begun = self.most = self._now = 0
        self._lock = threading.Lock()

    def fits(self, password: str, kept: str) -> bool:
        with self._lock:
            self.begun += 1
            self._now += 1
            self.most = max(self.most, self._now)
        assert self.release.wait(20)
        with self._lock:
            self._now -= 1
        return super().fits(password, kept)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Premises]:
    async with (
        open_store(new_store(tmp_path / "headend.db")) as store,
        premises(store) as opened,
    ):
        yield opened


# --- in and out ----------------------------------------------------------------------------------


async def test_a_stranger_is_asked_who_they_are_and_led_back(place: Premises) -> None:
    await place.has_user()
    ada = place.browser()
    answer = await ada.get(f"{HOME}?since=7d")
    assert answer.headers["location"] == "/sign-in?next=/account%3Fsince%3D7d"
    form = (await ada.get(answer.headers["location"])).text
    assert 'name="next" value="/account?since=7d"' in form
    answer = await ada.sign_in(next="/account?since=7d")
    assert (answer.status_code, answer.headers["location"]) == (303, "/account?since=7d")
    assert await ada.is_in()


@pytest.mark.parametrize("elsewhere", ["//evil.test", "https://evil.test/", "/\\evil.test", "x"])
async def test_nobody_is_led_elsewhere(place: Premises, elsewhere: str) -> None:
    await place.has_user()
    assert (await place.browser().sign_in(next=elsewhere)).headers["location"] == "/"


async def test_signing_out_ends_it_for_whoever_has_the_cookie(place: Premises) -> None:
    await place.has_user()
    ada, thief = place.browser(), place.browser()
    await ada.sign_in()
    thief.secret = ada.secret
    assert await thief.is_in()
    await ada.post("/sign-out")
    assert not await thief.is_in()
    assert not await ada.is_in()


async def test_the_cookie_is_for_our_pages_alone(place: Premises) -> None:
    await place.has_user()
    cookie = (await place.browser().sign_in()).headers["set-cookie"]
    assert re.fullmatch(
        r"openami=[\w-]{43}; HttpOnly; Max-Age=604800; Path=/; SameSite=strict", cookie
    )


async def test_over_https_the_cookie_is_bound_to_this_host(tmp_path: Path) -> None:
    async with (
        open_store(new_store(tmp_path / "headend.db")) as store,
        premises(store, secure=True) as place,
    ):
        await place.has_user()
        answer = await place.browser().sign_in()
        assert answer.headers["set-cookie"].startswith("__Host-openami=")
        assert "; Secure" in answer.headers["set-cookie"]
        assert "strict-transport-security" in answer.headers


async def test_the_store_does_not_know_what_the_cookie_says(place: Premises) -> None:
    await place.has_user()
    ada = place.browser()
    await ada.sign_in()
    [kept] = await place.store.sign_ins("ada")
    thief = place.browser()
    thief.secret = kept.digest
    assert not await thief.is_in()


async def test_who_goes_away_is_signed_out(place: Premises) -> None:
    await place.has_user()
    ada = place.browser()
    await ada.sign_in()
    place.clock.turn(hours=SIGN_IN_IDLE_HOURS - 1)
    assert await ada.is_in()
    place.clock.turn(hours=SIGN_IN_IDLE_HOURS, seconds=1)
    assert not await ada.is_in()


async def test_who_stays_signs_in_again_after_a_week(place: Premises) -> None:
    await place.has_user()
    ada = place.browser()
    await ada.sign_in()
    began = place.clock.now()
    while place.clock.now() - began < timedelta(days=SIGN_IN_DAYS):
        assert await ada.is_in()
        place.clock.turn(hours=SIGN_IN_IDLE_HOURS)
    place.clock.turn(seconds=1)
    assert not await ada.is_in()
    assert await place.store.prune_accounts(place.clock.now()) == 1


async def test_a_dated_hash_is_made_anew(place: Premises) -> None:
    await place.has_user(password=f"old hash of {PASSWORD}")
    await place.browser().sign_in()
    user = await place.store.user("ada")
    assert user is not None
    assert user.password == f"hash of {PASSWORD}"


async def test_everything_stands_in_the_audit_log(place: Premises) -> None:
    await place.has_user()
    ada = place.browser()
    await ada.sign_in()
    await ada.post("/step-up", password=PASSWORD)
    await ada.post("/sign-out")
    said = (await place.audited())[1:]
    assert said == ["ada: signed in", "ada: password shown again", "ada: signed out"]


# --- a thief, a forger, a stranger -----------------------------------------------------------------


async def test_a_stolen_cookie_is_dead_after_the_next_proof(place: Premises) -> None:
    await place.has_user()
    ada, thief = place.browser(), place.browser()
    await ada.sign_in()
    thief.secret = ada.secret
    assert await thief.is_in()
    await ada.post("/step-up", password=PASSWORD)
    assert not await thief.is_in()
    assert await ada.is_in()
    assert len(await place.store.sign_ins("ada")) == 1


async def test_a_cookie_that_was_put_there_is_exchanged_at_sign_in(place: Premises) -> None:
    """Session fixation: the secret a thief has chosen is not the one that is signed in."""
    await place.has_user()
    await place.has_user("eve")
    eve, ada = place.browser(), place.browser()
    await eve.sign_in("eve")
    ada.secret = planted = eve.secret
    await ada.sign_in()
    assert ada.secret != planted
    assert not await eve.is_in()


async def test_a_stolen_cookie_lasts_no_longer_for_being_exchanged(place: Premises) -> None:
    await place.has_user()
    ada = place.browser()
    await ada.sign_in()
    for _ in range(SIGN_IN_DAYS * 2):
        place.clock.turn(hours=11)
        await ada.post("/step-up", password=PASSWORD)
    place.clock.turn(hours=11)
    await ada.post("/step-up", password=PASSWORD)
    place.clock.turn(hours=11)
    assert not await ada.is_in()


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.test"},
        {"origin": "null"},
        {"origin": "http://[", "referer": "http://["},
        {"origin": f"http://{HOST}.evil.test"},
        {"origin": f"http://{HOST}@evil.test"},
        {"origin": f"http://{HOST}", "sec-fetch-site": "cross-site"},
        {"origin": f"http://{HOST}", "sec-fetch-site": "same-site"},
        {},
    ],
    ids=str,
)
async def test_a_form_from_elsewhere_is_refused(place: Premises, headers: dict[str, str]) -> None:
    await place.has_user()
    ada = place.browser()
    await ada.sign_in()
    answer = await ada.client.post("/account/language", data={"language": "sw"}, headers=headers)
    assert answer.status_code == 403
    signing_in = {"name": "ada", "password": PASSWORD}
    answer = await place.browser().client.post("/sign-in", data=signing_in, headers=headers)
    assert answer.status_code == 403
    user = await place.store.user("ada")
    assert user is not None
    assert user.language is None


async def test_a_change_of_role_holds_at_once_and_ends_their_sign_ins(place: Premises) -> None:
    await place.has_user()
    await place.has_user("bob")
    bob = place.browser()
    await bob.sign_in("bob")
    assert (await bob.get("/users")).status_code == 200
    await place.store.change_user(
        "bob",
        lambda user, others: with_role(user, Role.VIEWER, None, others=others, who="ada"),
        NOW,
    )
    assert (await bob.get("/users")).headers["location"].startswith("/sign-in")
    await bob.sign_in("bob")
    assert (await bob.get("/users")).status_code == 403


async def test_a_disabled_user_is_out_at_once(place: Premises) -> None:
    await place.has_user()
    await place.has_user("bob", Role.VIEWER)
    ada, bob = place.browser(), place.browser()
    await ada.sign_in()
    await bob.sign_in("bob")
    assert (await ada.post("/users/bob/disable")).headers["location"] == "/users"
    assert not await bob.is_in()
    assert (await bob.sign_in("bob")).status_code == 401


# --- guessing ------------------------------------------------------------------------------------


async def test_a_wrong_name_costs_the_same_work_as_a_wrong_password(place: Premises) -> None:
    hasher = place.hasher
    assert isinstance(hasher, QuickHasher)
    await place.has_user()
    await place.has_user("zoe-off", disabled_at=NOW)
    await place.has_user("zoe-new", password=None)
    answers = []
    for name in ("ada", "nobody", "zoe-off", "zoe-new"):
        before = len(hasher.worked)
        answer = await place.browser().sign_in(name, "not this one at all")
        answers.append((answer.status_code, answer.text.replace(name, "")))
        assert len(hasher.worked) == before + 1, name
    assert len(set(answers)) == 1


def test_what_stands_in_for_nobody_costs_what_a_password_costs() -> None:
    kept = Argon2Hasher().hash(PASSWORD)
    assert kept.startswith(f"$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p=1$")
    assert not Argon2Hasher().is_dated(kept)
    assert Argon2Hasher().is_dated(kept.replace("t=2", "t=1"))
    assert not Argon2Hasher().fits(PASSWORD, "no hash at all")


async def test_who_guesses_waits_and_nobody_else_does(place: Premises) -> None:
    await place.has_user()
    await place.has_user("bob")
    guesser, ada = place.browser(address="10.6.6.6"), place.browser(address="10.0.0.7")
    for _ in range(FREE_ATTEMPTS):
        assert (await guesser.sign_in("ada", "wrong wrong wrong")).status_code == 401
    answer = await guesser.sign_in("ada", PASSWORD)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
    assert (await ada.sign_in()).status_code == 303
    assert (await guesser.sign_in("bob")).status_code == 303
    place.clock.turn(seconds=2)
    assert (await guesser.sign_in("ada", "wrong wrong wrong")).status_code == 401
    assert (await guesser.sign_in("ada")).headers["retry-after"] == "4"
    assert "ada: sign-in refused" in await place.audited()


async def test_a_thousand_guesses_at_once_are_not_judged_at_once(place: Premises) -> None:
    await place.has_user()
    guesser = place.browser()
    answers = await asyncio.gather(*(guesser.sign_in("ada", f"guess {n:05}") for n in range(40)))
    judged = [answer for answer in answers if answer.status_code == 401]
    assert len(judged) <= FREE_ATTEMPTS


async def test_few_passwords_are_hashed_at_once_and_few_wait(tmp_path: Path) -> None:
    hasher = HeldHasher()
    async with (
        open_store(new_store(tmp_path / "headend.db")) as store,
        premises(store, hasher=hasher) as place,
    ):
        for n in range(HASHES_WAITING_MAX + 1):
            await place.has_user(f"user-{n}")
        browser = place.browser()
        waiting = [
            asyncio.create_task(browser.sign_in(f"user-{n}")) for n in range(HASHES_WAITING_MAX)
        ]
        while hasher.begun < HASHES_AT_ONCE_MAX or place.desk.waiting < HASHES_WAITING_MAX:
            await asyncio.sleep(0)
        answer = await browser.sign_in(f"user-{HASHES_WAITING_MAX}")
        assert answer.status_code == 503
        hasher.release.set()
        answers = await asyncio.gather(*waiting)
        assert {each.status_code for each in answers} == {303}
        assert hasher.most == HASHES_AT_ONCE_MAX


async def test_guessing_leaves_little_behind(place: Premises) -> None:
    """The audit log is append-only: who guesses must not fill it."""
    await place.has_user()
    guesser = place.browser()
    for _ in range(60):
        await guesser.sign_in("ada", "wrong wrong wrong")
        place.clock.turn(minutes=15)
    said = await place.audited()
    assert said.count("ada: sign-in refused") <= 6


async def test_who_signs_in_has_not_guessed(place: Premises) -> None:
    await place.has_user()
    ada = place.browser()
    for _ in range(3):
        for _ in range(FREE_ATTEMPTS - 1):
            await ada.sign_in("ada", "wrong wrong wrong")
        assert (await ada.sign_in()).status_code == 303


# --- step-up -------------------------------------------------------------------------------------


async def test_a_change_asks_for_the_password_again_and_leads_back(place: Premises) -> None:
    await place.has_user()
    ada = place.browser()
    await ada.sign_in()
    place.clock.turn(minutes=6)
    answer = await ada.client.post(
        "/users",
        data={"name": "bob", "role": "viewer", "scope": "all"},
        headers={"origin": f"http://{HOST}", "referer": f"http://{HOST}/users?x=1"},
    )
    assert answer.headers["location"] == "/step-up?next=/users%3Fx%3D1"
    assert await place.store.user("bob") is None
    assert 'value="/users?x=1"' in (await ada.get(answer.headers["location"])).text
    assert (await ada.post("/step-up", password="not this one", next="/users")).status_code == 401
    answer = await ada.post("/step-up", password=PASSWORD, next="/users?x=1")
    assert answer.headers["location"] == "/users?x=1"
    answer = await ada.post("/users", name="bob", role="viewer", scope="all")
    assert "/first/" in answer.text
    place.clock.turn(minutes=6)
    assert (await ada.post("/users/bob/disable")).headers["location"].startswith("/step-up")


async def test_a_script_of_ours_is_led_to_the_whole_page(place: Premises) -> None:
    await place.has_user()
    ada = place.browser(hx_request="true", hx_current_url=f"http://{HOST}/users")
    answer = await ada.get("/users")
    assert answer.headers["hx-redirect"] == "/sign-in?next=/users"


# --- the second factor ---------------------------------------------------------------------------


async def test_a_code_is_asked_for_from_when_one_was_shown(place: Premises) -> None:
    await place.has_user()
    ada = place.browser()
    await ada.sign_in()
    page = (await ada.post("/account/totp")).text
    secret = re.search(r"<code>([A-Z2-7]{32})</code>", page)
    assert secret is not None
    assert "<svg" in page
    assert (await ada.post("/account/totp/confirm", code="000000")).status_code == 422
    totp = pyotp.TOTP(secret[1])
    page = (await ada.post("/account/totp/confirm", code=totp.at(place.clock.now()))).text
    recovery = re.findall(r"<code>((?:[A-Z2-7]{4}-){3}[A-Z2-7]{4})</code>", page)
    assert len(recovery) == 8

    place.clock.turn(minutes=1)
    code = totp.at(place.clock.now())
    assert (await place.browser().sign_in()).status_code == 401
    assert (await place.browser().sign_in(code=code)).status_code == 303
    assert (await place.browser().sign_in(code=code)).status_code == 401, "a code works once"
    typed = recovery[3].lower().replace("-", " ")
    assert (await place.browser().sign_in(code=typed)).status_code == 303
    assert (await place.browser().sign_in(code=typed)).status_code == 401

    place.clock.turn(minutes=6)
    assert (await ada.post("/step-up", password=PASSWORD)).status_code == 401
    answer = await ada.post("/step-up", password=PASSWORD, code=totp.at(place.clock.now()))
    assert answer.status_code == 303
    await ada.post("/account/totp/remove")
    assert (await place.browser().sign_in()).status_code == 303


async def test_an_engineer_helps_who_has_lost_phone_and_codes(place: Premises) -> None:
    codes = recovery_digests(new_recovery_codes(bytes))
    await place.has_user("bob", Role.VIEWER, totp_secret="A" * 32, recovery=codes)
    await place.has_user()
    ada = place.browser()
    await ada.sign_in()
    assert (await place.browser().sign_in("bob")).status_code == 401
    await ada.post("/users/bob/totp/remove")
    assert (await place.browser().sign_in("bob")).status_code == 303


# --- one-time links ------------------------------------------------------------------------------


async def test_the_first_link_makes_an_engineer_once(place: Premises) -> None:
    assert "openami headend first-link" in (await place.browser().get("/sign-in")).text
    path = await new_first_link(place.store, who="head-end", now=NOW)
    ada = place.browser()
    assert (await ada.get(path)).status_code == 200
    assert (await ada.get(path)).status_code == 200, "looking at it does not use it up"
    answer = await ada.post(path, name="Ada", password=PASSWORD, again="something else")
    assert answer.status_code == 422
    answer = await ada.post(path, name="Ada", password=PASSWORD, again=PASSWORD)
    assert answer.status_code == 303
    assert (await ada.get("/users")).status_code == 200
    replayed = place.browser()
    assert (await replayed.get(path)).status_code == 410
    answer = await replayed.post(path, name="eve", password=PASSWORD, again=PASSWORD)
    assert answer.status_code == 410
    assert [user.name for user in await place.store.users()] == ["ada"]


async def test_the_first_link_is_dead_once_there_is_an_account_or_an_hour_is_over(
    place: Premises,
) -> None:
    path = await new_first_link(place.store, who="head-end", now=NOW)
    later = await new_first_link(place.store, who="head-end", now=NOW)
    assert (await place.browser().get(path)).status_code == 410, "the later one is the one"
    place.clock.turn(hours=1)
    assert (await place.browser().get(later)).status_code == 410
    fresh = await new_first_link(place.store, who="head-end", now=place.clock.now())
    await place.has_user()
    answer = await place.browser().post(fresh, name="eve", password=PASSWORD, again=PASSWORD)
    assert answer.status_code == 410


async def test_an_invited_user_chooses_a_password_but_not_a_name_or_role(place: Premises) -> None:
    await place.has_user()
    await place.has_user("bob", Role.VIEWER, password=None, feeders=frozenset({"north"}))
    path = await new_invite(place.store, "bob", who="ada", now=NOW)
    bob = place.browser()
    assert (await bob.post(path, password="short", again="short")).status_code == 422
    answer = await bob.post(path, name="ada", role="engineer", password=PASSWORD, again=PASSWORD)
    assert answer.status_code == 303
    assert await bob.is_in()
    user = await place.store.user("bob")
    assert user is not None
    assert (user.role, user.feeders) == (Role.VIEWER, frozenset({"north"}))
    assert (await place.browser().get(path)).status_code == 410


async def test_a_link_does_not_get_past_the_second_factor(place: Premises) -> None:
    await place.has_user("bob", totp_secret="A" * 32)
    path = await new_invite(place.store, "bob", who="ada", now=NOW)
    thief = place.browser()
    answer = await thief.post(path, password=PASSWORD, again=PASSWORD)
    assert answer.headers["location"] == "/sign-in"
    assert not await thief.is_in()


async def test_an_entrance_signs_in_once_and_counts_as_the_password_shown(place: Premises) -> None:
    await place.has_user("demo")
    path = await new_entrance(place.store, "demo", who="demo", now=NOW)
    ahead = place.browser(sec_purpose="prefetch;prerender")
    assert (await ahead.get(path)).status_code == 503, "a browser that looks ahead opens nothing"
    visitor = place.browser()
    assert (await visitor.get(path)).headers["location"] == "/"
    answer = await visitor.post("/users", name="bob", role="viewer", scope="all")
    assert answer.status_code == 200
    assert (await place.browser().get(path)).status_code == 410


# --- both engines --------------------------------------------------------------------------------


async def test_a_whole_presence_on_either_engine(store: HeadEndStore) -> None:
    async with premises(store) as place:
        path = await new_first_link(store, who="head-end", now=NOW)
        ada = place.browser()
        await ada.post(path, name="ada", password=PASSWORD, again=PASSWORD)
        await ada.post("/users", name="bob", role="operator", scope="all")
        await ada.post("/users/bob/role", role="viewer", scope="all")
        await ada.post("/tokens", label="billing", role="viewer", scope="all", days="30")
        assert (await place.browser().sign_in("ada", "wrong wrong wrong")).status_code == 401
        await ada.post("/account/password", password="another one 12", again="another one 12")
        assert await ada.is_in()
        assert (await place.browser().sign_in("ada", PASSWORD)).status_code == 401
        assert (await place.browser().sign_in("ada", "another one 12")).status_code == 303
        await ada.post("/sign-out")
        assert not await ada.is_in()
        place.clock.turn(days=400)
        assert await store.prune_accounts(place.clock.now()) >= 4
        assert await store.sign_ins("ada") == []
