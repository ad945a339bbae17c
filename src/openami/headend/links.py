"""One-time links: made, kept, and given to a person as a path of the console."""

import secrets
from datetime import datetime

from openami.headend.accounts.credentials import LinkKind, link_path, made_link
from openami.headend.audit import Entry
from openami.headend.store.accounts import AccountStore


async def new_first_link(store: AccountStore, *, who: str, now: datetime) -> str:
    """Return the path of a link that makes the first account. Raises StoreError."""
    return await _kept(store, LinkKind.FIRST, None, who=who, now=now)


async def new_invite(store: AccountStore, user_name: str, *, who: str, now: datetime) -> str:
    """Return the path of a link with which a user chooses a password. Raises StoreError."""
    return await _kept(store, LinkKind.INVITE, user_name, who=who, now=now)


async def new_entrance(store: AccountStore, user_name: str, *, who: str, now: datetime) -> str:
    """Return the path of a link that signs a user in. Raises StoreError."""
    return await _kept(store, LinkKind.ENTER, user_name, who=who, now=now)


async def _kept(
    store: AccountStore, kind: LinkKind, user_name: str | None, *, who: str, now: datetime
) -> str:
    link, secret = made_link(secrets.token_bytes, kind, user_name=user_name, now=now, who=who)
    whom = "the first account" if user_name is None else user_name
    entry = Entry(who=who, what=f"one-time link made for {whom}", why=str(kind))
    await store.add_link(link, entry)
    return link_path(secret)
