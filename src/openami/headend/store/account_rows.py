"""Rows of accounts as the port's types, and back; one text for both engines."""

import json
from typing import Any, Final

from openami.headend.accounts import Role
from openami.headend.accounts.credentials import Link, LinkKind, SignIn, Token
from openami.headend.accounts.users import User
from openami.headend.store.ledger_rows import TIME, Form, Rows

_ROLE: Final = Form(lambda role: role.word, lambda cell: Role[cell.upper()])
_KIND: Final = Form(str, LinkKind)
_FEEDERS: Final = Form(
    lambda names: json.dumps(sorted(names)), lambda cell: frozenset(json.loads(cell))
)
_CODES: Final = Form(json.dumps, lambda cell: tuple(json.loads(cell)))


def _times(*names: str) -> dict[str, Form]:
    return dict.fromkeys(names, TIME)


USERS: Final[Rows[User]] = Rows(
    "account",
    User,
    {
        "role": _ROLE,
        "feeders": _FEEDERS,
        "recovery": _CODES,
        **_times("created_at", "disabled_at"),
    },
)
SIGN_INS: Final[Rows[SignIn]] = Rows(
    "sign_in", SignIn, _times("created_at", "seen_at", "proved_at")
)
TOKENS: Final[Rows[Token]] = Rows(
    "api_token",
    Token,
    {
        "role": _ROLE,
        "feeders": _FEEDERS,
        "relays": Form(int, bool),
        "accounts": Form(int, bool),
        **_times("created_at", "expires_at", "used_at", "revoked_at"),
    },
)
LINKS: Final[Rows[Link]] = Rows(
    "first_link", Link, {"kind": _KIND, **_times("made_at", "expires_at", "used_at")}
)


def update_user(user: User) -> tuple[str, list[Any]]:
    """Return the statement that writes a user anew, and its arguments."""
    cells = USERS.cells(user)
    settings = ", ".join(f"{name} = ?{n}" for n, name in enumerate(USERS.columns, 1))
    return f"UPDATE account SET {settings} WHERE name = ?1", cells  # noqa: S608
