"""The CommandStore port: sessions, commands, keyrings and the audit log, in the same database as the readings.

Every change is one durable transaction: it loads the row and what is around it, lets a pure decision say what
follows, writes that, and appends its entries to the audit log. Transactions that change anything here are in
turn, on both engines, whichever process they come from; so a decision never acts on what somebody else changes.

A decision is called within the transaction and may be called on another thread: it computes (signing included)
and touches nothing else. What it raises ends the transaction without a trace.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from openami.headend.audit import Entry, Link
from openami.headend.commands import (
    Approval,
    Change,
    LedgerCommand,
    RequestVerdict,
)
from openami.headend.sessions import LedgerSession, SessionChange
from openami.headend.store import Store
from openami.headend.store.accounts import AccountStore
from openami.headend.store.alarms import AlarmStore
from openami.headend.store.arrivals import ArrivalStore
from openami.headend.store.assets import AssetStore
from openami.headend.store.bulks import BulkStore
from openami.headend.store.closed import ClosedStore
from openami.headend.store.counts import CountStore
from openami.headend.store.energy import EnergyStore
from openami.headend.store.gaps import GapStore
from openami.headend.store.pages import PageStore
from openami.headend.store.retaining import RetentionStore
from openami.headend.store.settling import RestoreStore
from openami.headend.store.traffic import TrafficStore
from openami.headend.store.waiting import WaitingStore
from openami.headend.store.workers import WorkerStore

# What one look takes up; the rest is due at the next, a few milliseconds later.
DUE_AT_ONCE_MAX = 100
# A page of the audit log in memory.
AUDIT_PAGE_MAX = 1000


class Concern(StrEnum):
    """What can be due."""

    COMMAND = "command"
    SESSION = "session"
    KEYRING = "keyring"
    DELIVERY = "delivery"


@dataclass(frozen=True, slots=True)
class Due:
    """Something the head-end has to look at now. ``id`` is a command's or a session's; or, of a keyring or its
    delivery, ``feeder/gateway/version``.
    """

    concern: Concern
    id: str


@dataclass(frozen=True, slots=True)
class Around:
    """What a decision on a command looks at besides the command, as it is in the same transaction."""

    sessions: Sequence[LedgerSession]
    """The open sessions of its gateway."""
    approvals: Sequence[Approval]
    """Of the document in hand."""
    seqs: Mapping[str, int]
    """The highest number given to this meter, by session."""
    disconnects: int
    """Commands to cut somebody off that were signed since ``budget_since``."""


@dataclass(frozen=True, slots=True)
class StoredKeyring:
    """A keyring's document as somebody put it here; it proves itself, or not, to who reads it."""

    feeder_id: str
    gateway_id: str
    """A gateway, or ``*`` for every one of the feeder."""
    version: int
    document: bytes
    added_at: datetime
    added_by: str
    due_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyringDelivery:
    """A keyring on its way to one gateway."""

    feeder_id: str
    gateway_id: str
    version: int
    offers: int = 0
    due_at: datetime | None = None
    accepted_at: datetime | None = None
    """When the gateway's own act over it was heard: from then on it is in force there."""


DecideCommand = Callable[[LedgerCommand, Around], Change | None]
DecideSession = Callable[[LedgerSession, frozenset[str]], SessionChange | None]


class CommandStore(Protocol):
    """What the head-end keeps of sessions and commands. Every method raises StoreError."""

    # what is to be done
    async def due(self, now: datetime, *, only: Concern | None = None) -> Sequence[Due]:
        """Return what is due, the longest first, DUE_AT_ONCE_MAX at most."""
        ...

    async def wake(self, now: datetime) -> int:
        """Let every open command and every session that waits for an answer be due; return how many.

        Asked after the broker was joined: what may be out is then published again, what could not be is sent.
        """
        ...

    # commands
    async def request_command(
        self, new: LedgerCommand, now: datetime, *, engineer: bool = False
    ) -> RequestVerdict:
        """Enter a request into the ledger, if ``judge_request`` lets it.

        ``engineer``: an engineer asks, who may cut off a protected meter when they say why.
        """
        ...

    async def change_command(
        self,
        command_id: str,
        decide: DecideCommand,
        now: datetime,
        *,
        budget_since: datetime | None = None,
    ) -> LedgerCommand | None:
        """Decide on a command and write what follows; return it as it is then, None if there is none.

        A number that was given to the session and meter before cannot be given again: the transaction fails.
        """
        ...

    async def command(self, command_id: str) -> LedgerCommand | None: ...

    async def commands(
        self,
        *,
        feeder_id: str | None = None,
        meter_serial: str | None = None,
        only_open: bool = False,
        at_most: int = 100,
    ) -> Sequence[LedgerCommand]:
        """Return commands, newest first."""
        ...

    async def command_by_digest(self, digest: str) -> str | None:
        """Return the id of the command a document was signed for."""
        ...

    async def approve(self, approval: Approval, entry: Entry) -> None:
        """Keep an act over a command's document, and let the command be due. Once more is nothing new."""
        ...

    async def approvals(self, command_id: str, digest: str) -> Sequence[Approval]: ...

    # sessions
    async def add_session(self, new: LedgerSession, entry: Entry, now: datetime) -> None: ...

    async def change_session(
        self, session_id: str, decide: DecideSession, now: datetime
    ) -> LedgerSession | None:
        """Decide on a session, knowing every nonce it ever had; as ``change_command``."""
        ...

    async def session(self, session_id: str) -> LedgerSession | None: ...

    async def sessions(
        self,
        *,
        feeder_id: str | None = None,
        gateway_id: str | None = None,
        only_open: bool = False,
        at_most: int = 100,
    ) -> Sequence[LedgerSession]:
        """Return sessions, newest first."""
        ...

    # keyrings
    async def add_keyring(self, keyring: StoredKeyring, entry: Entry) -> bool:
        """Keep a keyring, to be published; False if this version is there already."""
        ...

    async def keyrings(
        self, feeder_id: str, gateway_id: str | None = None
    ) -> Sequence[StoredKeyring]:
        """Return a feeder's keyrings by version; with a gateway, those that concern it."""
        ...

    async def spread_keyring(self, keyring: StoredKeyring, now: datetime) -> int:
        """Let a keyring be delivered to every gateway it concerns; return to how many it newly is."""
        ...

    async def deliveries(
        self, *, feeder_id: str | None = None, gateway_id: str | None = None
    ) -> Sequence[KeyringDelivery]:
        """Return which gateway was sent which version, and which it accepted; newest version first."""
        ...

    async def put_delivery(
        self, delivery: KeyringDelivery, entry: Entry | None, now: datetime
    ) -> None: ...

    # the audit log
    async def note(self, entry: Entry, now: datetime) -> Link:
        """Append an entry that stands by itself."""
        ...

    async def audit_links(
        self,
        *,
        after: int = 0,
        command_id: str | None = None,
        session_id: str | None = None,
        at_most: int = AUDIT_PAGE_MAX,
    ) -> Sequence[Link]:
        """Return the log in its order, from the entry after number ``after`` on."""
        ...

    async def audit_end(self) -> tuple[int, str]:
        """Return how many entries have been written, and the last one's hash."""
        ...


class HeadEndStore(
    Store,
    CommandStore,
    GapStore,
    AlarmStore,
    PageStore,
    WaitingStore,
    AssetStore,
    AccountStore,
    EnergyStore,
    CountStore,
    TrafficStore,
    ArrivalStore,
    BulkStore,
    ClosedStore,
    RestoreStore,
    RetentionStore,
    WorkerStore,
    Protocol,
):
    """Everything the head-end keeps: what ``open_store`` opens."""
