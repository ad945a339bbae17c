"""What the AccountStore does; the engine carries the steps out."""

# Statements are put together from this program's own words; every value is bound.
# ruff: noqa: S608

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, cast

from openami.headend.accounts import Role
from openami.headend.accounts.backoff import (
    ATTEMPTS_KEPT_MAX,
    FORGOTTEN_AFTER_HOURS,
    Attempts,
    counted,
    waits_until,
)
from openami.headend.accounts.credentials import (
    SIGN_IN_DAYS,
    SIGN_IN_IDLE_HOURS,
    Link,
    SignIn,
    Token,
)
from openami.headend.accounts.users import USERS_MAX, User
from openami.headend.audit import Entry
from openami.headend.store.account_rows import LINKS, SIGN_INS, TOKENS, USERS, update_user
from openami.headend.store.accounts import DecideLink, DecideUser
from openami.headend.store.chain import append, in_turn
from openami.headend.store.engine import Engine
from openami.headend.store.identity import from_ms, to_ms
from openami.headend.store.steps import Steps, ask, do

# How long a token or link that has ended is still listed: until the quarter it was used in has been looked through.
ENDED_KEPT_DAYS: Final = 90
# A page of a person's own sign-ins; more browsers than that are a script's.
SIGN_INS_LISTED_MAX: Final = 100
# A page of tokens.
TOKENS_LISTED_MAX: Final = 1_000

_SIGN_IN_AND_USER: Final = (
    f"SELECT {', '.join(f's.{name}' for name in SIGN_INS.columns)}, "
    f"{', '.join(f'a.{name}' for name in USERS.columns)} "
    "FROM sign_in s JOIN account a ON a.name = s.user_name WHERE s.digest = ?1"
)
_ATTEMPTS: Final = (
    "SELECT count, last_at FROM sign_in_attempt WHERE user_name = ?1 AND address = ?2"
)
_OVERFULL: Final = (
    "DELETE FROM sign_in_attempt WHERE last_at < coalesce("
    "(SELECT last_at FROM sign_in_attempt ORDER BY last_at DESC LIMIT 1 OFFSET ?1), 0)"
)


# --- users ---------------------------------------------------------------------------------------


def _user(name: str) -> Steps[User | None]:
    rows = yield from ask(USERS.select("WHERE name = ?1"), name)
    return USERS.read(rows[0]) if rows else None


def _users_counted() -> Steps[int]:
    [(count,)] = cast(Any, (yield from ask("SELECT count(*) FROM account")))
    return int(count)


def add_user(user: User, entry: Entry) -> Steps[bool]:
    """Keep a new account."""
    yield from in_turn()
    if (yield from _users_counted()) >= USERS_MAX:
        return False
    added = yield from do(USERS.insert("ON CONFLICT DO NOTHING"), *USERS.cells(user))
    if added:
        yield from append((entry,), user.created_at)
    return added == 1


def change_user(name: str, decide: DecideUser, now: datetime) -> Steps[User | None]:
    """Let a decision change an account."""
    yield from in_turn()
    user = yield from _user(name)
    if user is None:
        return None
    [(others,)] = cast(
        Any,
        (
            yield from ask(
                "SELECT count(*) FROM account WHERE role = ?1 AND name <> ?2 "
                "AND feeders IS NULL AND password IS NOT NULL AND disabled_at IS NULL",
                *(Role.ENGINEER.word, name),
            )
        ),
    )
    change = decide(user, int(others))
    if change is None:
        return user
    sql, cells = update_user(change.user)
    yield from do(sql, *cells)
    if change.ends_sign_ins:
        yield from do("DELETE FROM sign_in WHERE user_name = ?1", name)
    yield from append((change.entry,), now)
    return change.user


def spend_recovery(name: str, digest: str, entry: Entry, now: datetime) -> Steps[bool]:
    """Use a recovery code up."""
    yield from in_turn()
    user = yield from _user(name)
    if user is None or digest not in user.recovery:
        return False
    left = tuple(each for each in user.recovery if each != digest)
    sql, cells = update_user(replace(user, recovery=left))
    yield from do(sql, *cells)
    yield from append((entry,), now)
    return True


# --- attempts ------------------------------------------------------------------------------------


def count_attempt(name: str, address: str, now: datetime) -> Steps[Attempts | datetime]:
    """Count an attempt, if it may be judged now."""
    # In turn, so that of a hundred at once each sees the others.
    yield from in_turn()
    rows = yield from ask(_ATTEMPTS, name, address)
    before = Attempts(cast(int, rows[0][0]), from_ms(cast(int, rows[0][1]))) if rows else None
    until = waits_until(before)
    if until is not None and now < until:
        return until
    after = counted(before, now)
    yield from do(
        "INSERT INTO sign_in_attempt (user_name, address, count, last_at) "
        "VALUES (?1, ?2, ?3, ?4) ON CONFLICT (user_name, address) DO UPDATE SET "
        "count = excluded.count, last_at = excluded.last_at",
        *(name, address, after.count, to_ms(after.last_at)),
    )
    yield from do(_OVERFULL, ATTEMPTS_KEPT_MAX - 1)
    return after


# --- sign-ins ------------------------------------------------------------------------------------


def add_sign_in(new: SignIn, entry: Entry, now: datetime, replaces: str | None) -> Steps[None]:
    """Keep a sign-in in the place of another."""
    yield from in_turn()
    if replaces is not None:
        yield from do("DELETE FROM sign_in WHERE digest = ?1", replaces)
    yield from do(SIGN_INS.insert(), *SIGN_INS.cells(new))
    yield from append((entry,), now)


def end_sign_in(sign_in_id: str, user_name: str, entry: Entry, now: datetime) -> Steps[bool]:
    """End a sign-in."""
    yield from in_turn()
    ended = yield from do(
        "DELETE FROM sign_in WHERE user_name = ?1 AND substr(digest, 1, 12) = ?2",
        *(user_name, sign_in_id),
    )
    if ended:
        yield from append((entry,), now)
    return ended > 0


# --- tokens and links ----------------------------------------------------------------------------


def add_token(token: Token, entry: Entry) -> Steps[None]:
    """Keep a token."""
    yield from in_turn()
    yield from do(TOKENS.insert(), *TOKENS.cells(token))
    yield from append((entry,), token.created_at)


def revoke_token(token_id: str, entry: Entry, now: datetime) -> Steps[bool]:
    """Put a token out of force."""
    yield from in_turn()
    revoked = yield from do(
        "UPDATE api_token SET revoked_at = ?1 "
        "WHERE id = ?2 AND revoked_at IS NULL AND expires_at > ?1",
        *(to_ms(now), token_id),
    )
    if revoked:
        yield from append((entry,), now)
    return revoked == 1


def add_link(link: Link, entry: Entry) -> Steps[None]:
    """Keep a link in the place of those of its kind."""
    yield from in_turn()
    yield from do(
        "DELETE FROM first_link WHERE kind = ?1 AND coalesce(user_name, '') = ?2 "
        "AND used_at IS NULL",
        *(str(link.kind), link.user_name or ""),
    )
    yield from do(LINKS.insert(), *LINKS.cells(link))
    yield from append((entry,), link.made_at)


def look_at_link(digest: str) -> Steps[tuple[Link | None, User | None, int]]:
    """Return a link and what is around it."""
    rows = yield from ask(LINKS.select("WHERE digest = ?1"), digest)
    link = LINKS.read(rows[0]) if rows else None
    named = None if link is None or link.user_name is None else link.user_name
    user = None if named is None else (yield from _user(named))
    return link, user, (yield from _users_counted())


def use_link(digest: str, decide: DecideLink, now: datetime) -> Steps[User | None]:
    """Let a decision spend a link."""
    yield from in_turn()
    link, user, users = yield from look_at_link(digest)
    use = decide(link, user, users)
    if use is None:
        return None
    assert link is not None, "nothing follows of a link that is not there"
    yield from do("UPDATE first_link SET used_at = ?1 WHERE digest = ?2", to_ms(now), digest)
    if user is None:
        yield from do(USERS.insert(), *USERS.cells(use.user))
    elif use.user != user:
        sql, cells = update_user(use.user)
        yield from do(sql, *cells)
        # Whoever had the account before is out.
        yield from do("DELETE FROM sign_in WHERE user_name = ?1", use.user.name)
    yield from append((use.entry,), now)
    return use.user


def prune_accounts(now: datetime) -> Steps[int]:
    """Delete what has ended."""
    ended = to_ms(now - timedelta(days=ENDED_KEPT_DAYS))
    gone = yield from do(
        "DELETE FROM sign_in WHERE seen_at < ?1 OR created_at < ?2",
        to_ms(now - timedelta(hours=SIGN_IN_IDLE_HOURS)),
        to_ms(now - timedelta(days=SIGN_IN_DAYS)),
    )
    gone += yield from do("DELETE FROM first_link WHERE expires_at < ?1", ended)
    gone += yield from do("DELETE FROM api_token WHERE expires_at < ?1 OR revoked_at < ?1", ended)
    forgotten = to_ms(now - timedelta(hours=FORGOTTEN_AFTER_HOURS))
    return gone + (yield from do("DELETE FROM sign_in_attempt WHERE last_at < ?1", forgotten))


# --- the port ------------------------------------------------------------------------------------


class AccountLedger(Engine):
    """The AccountStore on top of an engine's questions and transactions."""

    async def users(self) -> Sequence[User]:
        rows = await self._rows(USERS.select("ORDER BY name LIMIT ?1"), USERS_MAX)
        return [USERS.read(row) for row in rows]

    async def user(self, name: str) -> User | None:
        rows = await self._rows(USERS.select("WHERE name = ?1"), name)
        return USERS.read(rows[0]) if rows else None

    async def add_user(self, user: User, entry: Entry) -> bool:
        return await self._write(lambda: add_user(user, entry))

    async def change_user(self, name: str, decide: DecideUser, now: datetime) -> User | None:
        return await self._write(lambda: change_user(name, decide, now))

    async def keep_hash(self, name: str, old: str, new: str) -> None:
        await self._write(
            lambda: do(
                "UPDATE account SET password = ?1 WHERE name = ?2 AND password = ?3", new, name, old
            )
        )

    async def spend_step(self, name: str, step: int) -> bool:
        spent = await self._write(
            lambda: do(
                "UPDATE account SET totp_step = ?1 WHERE name = ?2 AND totp_step < ?1", step, name
            )
        )
        return spent == 1

    async def spend_recovery(self, name: str, digest: str, entry: Entry, now: datetime) -> bool:
        return await self._write(lambda: spend_recovery(name, digest, entry, now))

    async def count_attempt(self, name: str, address: str, now: datetime) -> Attempts | datetime:
        return await self._write(lambda: count_attempt(name, address, now))

    async def forget_attempts(self, name: str, address: str) -> None:
        await self._write(
            lambda: do(
                "DELETE FROM sign_in_attempt WHERE user_name = ?1 AND address = ?2", name, address
            )
        )

    async def add_sign_in(
        self, new: SignIn, entry: Entry, now: datetime, *, replaces: str | None = None
    ) -> None:
        await self._write(lambda: add_sign_in(new, entry, now, replaces))

    async def sign_in(self, digest: str) -> tuple[SignIn, User] | None:
        rows = await self._rows(_SIGN_IN_AND_USER, digest)
        if not rows:
            return None
        cut = len(SIGN_INS.columns)
        row = tuple(rows[0])
        return SIGN_INS.read(row[:cut]), USERS.read(row[cut:])

    async def sign_ins(self, user_name: str) -> Sequence[SignIn]:
        rows = await self._rows(
            SIGN_INS.select("WHERE user_name = ?1 ORDER BY seen_at DESC, digest LIMIT ?2"),
            *(user_name, SIGN_INS_LISTED_MAX),
        )
        return [SIGN_INS.read(row) for row in rows]

    async def see_sign_in(self, digest: str, now: datetime) -> None:
        await self._write(
            lambda: do("UPDATE sign_in SET seen_at = ?1 WHERE digest = ?2", to_ms(now), digest)
        )

    async def end_sign_in(
        self, sign_in_id: str, user_name: str, entry: Entry, now: datetime
    ) -> bool:
        return await self._write(lambda: end_sign_in(sign_in_id, user_name, entry, now))

    async def add_token(self, token: Token, entry: Entry) -> None:
        await self._write(lambda: add_token(token, entry))

    async def token(self, digest: str) -> Token | None:
        rows = await self._rows(TOKENS.select("WHERE digest = ?1"), digest)
        return TOKENS.read(rows[0]) if rows else None

    async def tokens(self) -> Sequence[Token]:
        rows = await self._rows(
            TOKENS.select("ORDER BY created_at DESC, id LIMIT ?1"), TOKENS_LISTED_MAX
        )
        return [TOKENS.read(row) for row in rows]

    async def see_token(self, token_id: str, now: datetime) -> None:
        await self._write(
            lambda: do("UPDATE api_token SET used_at = ?1 WHERE id = ?2", to_ms(now), token_id)
        )

    async def revoke_token(self, token_id: str, entry: Entry, now: datetime) -> bool:
        return await self._write(lambda: revoke_token(token_id, entry, now))

    async def add_link(self, link: Link, entry: Entry) -> None:
        await self._write(lambda: add_link(link, entry))

    async def look_at_link(self, digest: str) -> tuple[Link | None, User | None, int]:
        rows = await self._rows(LINKS.select("WHERE digest = ?1"), digest)
        link = LINKS.read(rows[0]) if rows else None
        user = None if link is None or link.user_name is None else await self.user(link.user_name)
        [(users,)] = cast(Any, await self._rows("SELECT count(*) FROM account"))
        return link, user, int(users)

    async def use_link(self, digest: str, decide: DecideLink, now: datetime) -> User | None:
        return await self._write(lambda: use_link(digest, decide, now))

    async def prune_accounts(self, now: datetime) -> int:
        return await self._write(lambda: prune_accounts(now))
