"""What a store keeps of accounts, asked of both engines; above all, what happens at the same time."""

import asyncio
import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from openami.headend.accounts import Role
from openami.headend.accounts.backoff import FREE_ATTEMPTS, Attempts
from openami.headend.accounts.credentials import (
    Kind,
    Link,
    LinkKind,
    SignIn,
    digest_of,
    made_link,
    made_token,
    why_dead,
)
from openami.headend.accounts.users import (
    AccountError,
    User,
    disabled,
    first_engineer,
    with_password,
)
from openami.headend.audit import Entry
from openami.headend.store import account_ledger
from openami.headend.store.accounts import LinkUse
from openami.headend.store.commands import HeadEndStore

NOW = datetime(2026, 6, 22, 8, 0, tzinfo=UTC)
ADA = User(
    name="ada",
    role=Role.ENGINEER,
    feeders=frozenset({"north", "south"}),
    password="hash",
    language="sw",
    totp_secret="A" * 32,
    totp_step=7,
    recovery=("one", "two"),
    created_at=NOW,
    created_by="test",
)
DONE = Entry(who="test", what="done")


def sign_in(name: str = "ada", at: datetime = NOW, secret: str = "") -> SignIn:
    return SignIn(
        digest=digest_of(Kind.SIGN_IN, secret or secrets.token_hex()),
        user_name=name,
        created_at=at,
        seen_at=at,
        proved_at=at,
        address="10.0.0.7",
        agent="a browser",
    )


async def audited(store: HeadEndStore) -> int:
    return (await store.audit_end())[0]


async def test_an_account_is_kept_as_it_is_and_once(store: HeadEndStore) -> None:
    assert await store.add_user(ADA, DONE)
    assert not await store.add_user(replace(ADA, role=Role.VIEWER), DONE)
    assert await store.user("ada") == ADA
    assert await store.users() == [ADA]
    assert await store.user("bob") is None
    assert await store.change_user("bob", lambda _user, _others: None, NOW) is None
    assert await audited(store) == 1, "what was not done is not noted"


async def test_a_decision_that_raises_changes_nothing(store: HeadEndStore) -> None:
    ada = replace(ADA, feeders=None)
    await store.add_user(ada, DONE)
    with pytest.raises(AccountError):
        await store.change_user(
            "ada", lambda user, others: disabled(user, others=others, now=NOW, who="ada"), NOW
        )
    assert await store.user("ada") == ada
    assert await audited(store) == 1


async def test_a_new_password_ends_the_sign_ins_of_that_user_alone(store: HeadEndStore) -> None:
    for name in ("ada", "bob"):
        await store.add_user(replace(ADA, name=name), DONE)
        await store.add_sign_in(sign_in(name), DONE, NOW)
    await store.change_user("ada", lambda user, _: with_password(user, "new", who="ada"), NOW)
    assert await store.sign_ins("ada") == []
    assert len(await store.sign_ins("bob")) == 1


async def test_a_sign_in_is_found_with_its_user_and_replaced_at_once(store: HeadEndStore) -> None:
    await store.add_user(ADA, DONE)
    old, new = sign_in(secret="old"), sign_in(secret="new", at=NOW + timedelta(hours=1))
    await store.add_sign_in(old, DONE, NOW)
    assert await store.sign_in(old.digest) == (old, ADA)
    await store.add_sign_in(new, DONE, NOW, replaces=old.digest)
    assert await store.sign_in(old.digest) is None
    await store.see_sign_in(new.digest, NOW + timedelta(hours=2))
    [seen] = await store.sign_ins("ada")
    assert seen == replace(new, seen_at=NOW + timedelta(hours=2))
    assert not await store.end_sign_in(new.id, "bob", DONE, NOW), "it is not bob's to end"
    assert await store.end_sign_in(new.id, "ada", DONE, NOW)


async def test_of_many_guesses_at_once_only_the_free_ones_are_judged(store: HeadEndStore) -> None:
    told = await asyncio.gather(
        *(store.count_attempt("ada", "10.0.0.7", NOW) for _ in range(FREE_ATTEMPTS * 3))
    )
    assert sorted(each.count for each in told if isinstance(each, Attempts)) == [1, 2, 3, 4, 5]
    assert isinstance(await store.count_attempt("ada", "10.0.0.8", NOW), Attempts)
    await store.forget_attempts("ada", "10.0.0.7")
    assert await store.count_attempt("ada", "10.0.0.7", NOW) == Attempts(1, NOW)


async def test_a_flood_of_names_is_bounded(
    store: HeadEndStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_ledger, "ATTEMPTS_KEPT_MAX", 5)  # 10,000 in life
    for n in range(20):
        await store.count_attempt(f"name-{n}", "10.0.0.7", NOW + timedelta(seconds=n))
    assert await store.prune_accounts(NOW + timedelta(days=2)) == 5


async def test_a_link_that_two_open_at_once_lets_one_in(store: HeadEndStore) -> None:
    link, _ = made_link(secrets.token_bytes, LinkKind.FIRST, user_name=None, now=NOW, who="test")
    await store.add_link(link, DONE)

    def decide(name: str, found: Link | None, user: User | None, count: int) -> LinkUse | None:
        if why_dead(found, user, count, NOW) is not None:
            return None
        return LinkUse(*first_engineer(name, "hash", now=NOW))

    made = await asyncio.gather(
        *(
            store.use_link(link.digest, lambda *around, name=name: decide(name, *around), NOW)
            for name in ("ada", "eve")
        )
    )
    winners = [user.name for user in made if user is not None]
    assert [user.name for user in await store.users()] == winners
    assert len(winners) == 1


async def test_a_code_and_a_recovery_code_that_two_show_at_once_work_once(
    store: HeadEndStore,
) -> None:
    await store.add_user(ADA, DONE)
    spent = await asyncio.gather(*(store.spend_step("ada", 8) for _ in range(3)))
    assert sorted(spent) == [False, False, True]
    assert not await store.spend_step("ada", 7)
    spent = await asyncio.gather(*(store.spend_recovery("ada", "one", DONE, NOW) for _ in range(3)))
    assert sorted(spent) == [False, False, True]
    found = await store.user("ada")
    assert found is not None
    assert (found.recovery, found.totp_step) == (("two",), 8)


async def test_a_token_is_found_by_its_digest_until_it_is_pruned(store: HeadEndStore) -> None:
    token, text = made_token(
        secrets.token_bytes,
        label="billing",
        role=Role.VIEWER,
        feeders=frozenset({"north"}),
        life=timedelta(days=1),
        now=NOW,
        who="ada",
    )
    await store.add_token(token, DONE)
    digest = digest_of(Kind.TOKEN, text)
    assert await store.token(digest) == token
    await store.see_token(token.id, NOW)
    assert await store.revoke_token(token.id, DONE, NOW)
    assert not await store.revoke_token(token.id, DONE, NOW)
    [kept] = await store.tokens()
    assert kept == replace(token, used_at=NOW, revoked_at=NOW)
    assert await store.prune_accounts(NOW + timedelta(days=89)) == 0
    assert await store.prune_accounts(NOW + timedelta(days=92)) == 1
