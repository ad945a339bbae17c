"""Rows of sessions, commands and keyrings as the port's types, and back; one text for both engines."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Generic, TypeVar, cast

from openami.headend.commands import LedgerCommand
from openami.headend.sessions import LedgerSession
from openami.headend.store.commands import KeyringDelivery, StoredKeyring
from openami.headend.store.identity import from_ms, to_ms
from openami.headend.store.plan import Cell
from openami.headend.store.steps import Row
from openami.profile.command import CommandState
from openami.sip.actions import Action, Role
from openami.sip.session import SessionState

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Form:
    """How a member lies in its column."""

    to_cell: Callable[[Any], Cell]
    from_cell: Callable[[Any], Any]


_AS_IS: Final = Form(lambda value: value, lambda cell: cell)
_BYTES: Final = Form(lambda value: value, bytes)
TIME: Final = Form(to_ms, from_ms)
_JSON: Final = Form(lambda value: json.dumps(value, sort_keys=True), json.loads)
_ACTION: Final = Form(str, Action)
_ROLES: Final = Form(json.dumps, lambda cell: tuple(Role(name) for name in json.loads(cell)))
_NAMES: Final = Form(json.dumps, lambda cell: tuple(json.loads(cell)))
_COMMAND_STATE: Final = Form(lambda state: state.name, lambda cell: CommandState[cell])
_SESSION_STATE: Final = Form(lambda state: state.name, lambda cell: SessionState[cell])


class Rows(Generic[T]):
    """A table whose rows are one of the port's types, column by column."""

    def __init__(self, table: str, kind: type[T], forms: Mapping[str, Form]) -> None:
        self.table = table
        self.columns = tuple(field.name for field in fields(cast(Any, kind)))
        self._kind = kind
        self._forms = tuple(forms.get(name, _AS_IS) for name in self.columns)

    def cells(self, row: T) -> list[Cell]:
        """Return a row's cells, in the order of ``columns``."""
        values = (getattr(row, name) for name in self.columns)
        return [
            None if value is None else form.to_cell(value)
            for value, form in zip(values, self._forms, strict=True)
        ]

    def read(self, row: Row) -> T:
        """Return what a row says."""
        return self._kind(
            **{
                name: None if cell is None else form.from_cell(cell)
                for name, cell, form in zip(self.columns, row, self._forms, strict=True)
            }
        )

    def select(self, rest: str) -> str:
        """Return the query for rows."""
        return f"SELECT {', '.join(self.columns)} FROM {self.table} {rest}"  # noqa: S608

    def insert(self, rest: str = "") -> str:
        """Return the statement that inserts a row."""
        places = ", ".join(f"?{n}" for n in range(1, len(self.columns) + 1))
        return f"INSERT INTO {self.table} ({', '.join(self.columns)}) VALUES ({places}) {rest}"  # noqa: S608

    def update(self) -> str:
        """Return the statement that writes a row anew; its ``id`` is among its columns."""
        settings = ", ".join(f"{name} = ?{n}" for n, name in enumerate(self.columns, 1))
        key = self.columns.index("id") + 1
        return f"UPDATE {self.table} SET {settings} WHERE id = ?{key}"  # noqa: S608


def _times(*names: str) -> dict[str, Form]:
    return dict.fromkeys(names, TIME)


COMMANDS: Final = Rows(
    "command",
    LedgerCommand,
    {
        "action": _ACTION,
        "args": _JSON,
        "state": _COMMAND_STATE,
        "resolved_as": _COMMAND_STATE,
        "missing": _ROLES,
        "document": _BYTES,
        "report": _BYTES,
        **_times("requested_at", "not_after", "signed_at", "sent_at", "ended_at"),
        **_times("resolved_at", "due_at"),
    },
)
SESSIONS: Final = Rows(
    "session",
    LedgerSession,
    {
        "meters": _NAMES,
        "state": _SESSION_STATE,
        "document": _BYTES,
        **_times("requested_at", "valid_from", "valid_to", "nonce_at", "offered_at", "ended_at"),
        **_times("due_at"),
    },
)
KEYRINGS: Final = Rows(
    "keyring", StoredKeyring, {"document": _BYTES, **_times("added_at", "due_at")}
)
DELIVERIES: Final = Rows("delivery", KeyringDelivery, _times("due_at", "accepted_at"))
