"""What the store promises of sessions, commands, keyrings and the audit log, asked of both engines."""

import asyncio
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from tests.headend.decisions import FEEDER, GATEWAY, accepted

from openami.headend.audit import GENESIS, Entry, first_break
from openami.headend.commands import (
    Approval,
    Change,
    LedgerCommand,
    Requested,
    RequestFault,
    RequestRefused,
)
from openami.headend.sessions import LedgerSession, SessionChange
from openami.headend.store import Access
from openami.headend.store.commands import (
    Around,
    Concern,
    Due,
    HeadEndStore,
    KeyringDelivery,
    StoredKeyring,
)
from openami.headend.store.open import open_store
from openami.profile.command import CommandState
from openami.sip.actions import Action, Role
from openami.sip.session import SessionState

NOW = datetime(2026, 6, 22, 14, 30, 5, 123_000, tzinfo=UTC)
SECOND = timedelta(seconds=1)
# What no decision of ours does; if one did, the program has to end, not to go on.
TWICE = (sqlite3.IntegrityError, asyncpg.UniqueViolationError)


def a_command(id_: str = "cmd-1", **members: object) -> LedgerCommand:
    base = LedgerCommand(
        id=id_,
        feeder_id="f",
        gateway_id="g",
        meter_serial="m-1",
        action=Action.DISCONNECT,
        requested_by="anita",
        reason="unpaid",
        requested_at=NOW,
        not_after=NOW + 300 * SECOND,
        due_at=NOW,
    )
    return replace(base, **members)  # type: ignore[arg-type]  # whatever a test sets


def a_session(id_: str = "sip-1", **members: object) -> LedgerSession:
    base = LedgerSession(
        id=id_,
        feeder_id="f",
        gateway_id="g",
        requested_by="anita",
        reason="rota",
        requested_at=NOW,
        valid_to=NOW + timedelta(days=7),
        due_at=NOW,
    )
    return replace(base, **members)  # type: ignore[arg-type]  # whatever a test sets


def signing(seq: int, digest: str, session_id: str = "sip-1") -> "Decide":
    return Decide(
        session_id=session_id,
        seq=seq,
        nonce="n",
        digest=digest,
        document=b"{}",
        signed_at=NOW,
        signings=1,
        missing=(Role.OPERATOR, Role.MARKET),
        sent_at=NOW + SECOND,
    )


class Decide:
    """A decision that sets members, and remembers what it saw."""

    def __init__(self, *entries: Entry, **members: object) -> None:
        self.entries = entries
        self.members = members
        self.saw: list[Around] = []

    def __call__(self, command: LedgerCommand, around: Around) -> Change:
        self.saw.append(around)
        return Change(replace(command, **self.members), self.entries)  # type: ignore[arg-type]  # as above


EVERYTHING = a_command(
    idempotency_key="key",
    action=Action.SETTLE,
    args={"tradeId": "t-1", "energyWh": 12, "currency": "മണി"},
    wanted_session="sip-9",
    state=CommandState.UNKNOWN,
    session_id="sip-1",
    seq=2**53 - 1,
    nonce="n",
    digest="d",
    document=b"\x00{}",
    signed_at=NOW,
    signings=2,
    missing=(Role.MARKET,),
    sent_at=NOW,
    stale_nonce="o",
    ended_at=NOW + SECOND,
    code="NO_REPORT",
    report=b"{}",
    resolved_as=CommandState.CONFIRMED,
    resolved_by="telemetry",
    resolved_at=NOW + 2 * SECOND,
)


@pytest.mark.parametrize("command", [a_command(), EVERYTHING], ids=["bare", "everything"])
async def test_a_command_comes_back_as_it_was_put(
    store: HeadEndStore, command: LedgerCommand
) -> None:
    assert await store.request_command(command, NOW) == Requested(command, is_new=True)
    assert await store.command(command.id) == command
    assert await store.commands(feeder_id="f", meter_serial="m-1") == [command]
    assert await store.commands(feeder_id="other") == []
    assert await store.command("cmd-2") is None


async def test_a_changed_command_comes_back_changed(store: HeadEndStore) -> None:
    await store.request_command(a_command(), NOW)
    after = await store.change_command("cmd-1", signing(1, "d-1"), NOW)
    assert after is not None
    assert await store.command("cmd-1") == after
    assert await store.command_by_digest("d-1") == "cmd-1"
    assert await store.command_by_digest("d-2") is None
    assert await store.change_command("cmd-9", signing(1, "d-9"), NOW) is None


async def test_the_same_key_is_the_same_command(store: HeadEndStore) -> None:
    first = a_command(idempotency_key="k")
    await store.request_command(first, NOW)
    again = await store.request_command(a_command("cmd-2", idempotency_key="k"), NOW)
    assert again == Requested(first, is_new=False)
    other = a_command("cmd-3", idempotency_key="k", meter_serial="m-2")
    refused = await store.request_command(other, NOW)
    assert isinstance(refused, RequestRefused)
    assert refused.fault is RequestFault.KEY_REUSED
    assert len(await store.commands()) == 1


async def test_requests_at_one_moment_make_one_command(store: HeadEndStore, store_url: str) -> None:
    """As of two people who press the button together, each in a process of one's own."""
    async with open_store(store_url, Access.EDIT) as other:
        verdicts = await asyncio.gather(
            *(
                each.request_command(a_command(f"cmd-{n}-{k}"), NOW)
                for n, each in enumerate((store, other))
                for k in range(5)
            )
        )
    assert sum(isinstance(verdict, Requested) for verdict in verdicts) == 1
    assert len(await store.commands()) == 1
    assert first_break(await store.audit_links()) is None
    assert len(await store.audit_links()) == 10


async def test_a_number_is_given_once_to_a_session_and_meter(store: HeadEndStore) -> None:
    await store.add_session(a_session(), Entry(who="a", what="s"), NOW)
    await store.request_command(a_command(), NOW)
    await store.request_command(a_command("cmd-2", action=Action.RECONNECT), NOW)
    await store.change_command("cmd-1", signing(1, "d-1"), NOW)
    with pytest.raises(TWICE):
        await store.change_command("cmd-2", signing(1, "d-2"), NOW)
    unsigned = await store.command("cmd-2")
    assert unsigned is not None
    assert unsigned.seq is None
    decide = signing(2, "d-2")
    await store.change_command("cmd-2", decide, NOW)
    [around] = decide.saw
    assert around.seqs == {"sip-1": 1}
    assert [session.id for session in around.sessions] == ["sip-1"]


async def test_disconnects_are_counted_within_the_window(store: HeadEndStore) -> None:
    for n, meter in enumerate(("m-1", "m-2", "m-3")):
        action = Action.RECONNECT if meter == "m-3" else Action.DISCONNECT
        await store.request_command(a_command(f"cmd-{n}", meter_serial=meter, action=action), NOW)
        await store.change_command(f"cmd-{n}", signing(1, f"d-{n}"), NOW)
    # Signed twice is still one.
    await store.change_command("cmd-0", signing(2, "d-0-again"), NOW)
    for since, counted in ((NOW, 2), (NOW + SECOND, 0), (None, 0)):
        decide = Decide()
        await store.change_command("cmd-0", decide, NOW, budget_since=since)
        assert decide.saw[0].disconnects == counted


async def test_a_decision_that_raises_leaves_no_trace(store: HeadEndStore) -> None:
    await store.request_command(a_command(), NOW)
    before = await store.audit_end()

    def fails(command: LedgerCommand, around: Around) -> Change:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store.change_command("cmd-1", fails, NOW)
    assert await store.command("cmd-1") == a_command()
    assert await store.audit_end() == before


async def test_what_is_due_is_told_longest_first_and_not_before(store: HeadEndStore) -> None:
    await store.request_command(a_command(due_at=NOW + 2 * SECOND), NOW)
    await store.add_session(a_session(due_at=NOW + SECOND), Entry(who="a", what="s"), NOW)
    keyring = StoredKeyring("f", "*", 3, b"{}", NOW, "anita")
    assert await store.add_keyring(keyring, Entry(who="a", what="k"))
    assert not await store.add_keyring(keyring, Entry(who="a", what="k"))
    await store.put_delivery(
        KeyringDelivery(feeder_id="f", gateway_id="g", version=3, due_at=NOW + 3 * SECOND),
        None,
        NOW,
    )
    assert await store.due(NOW - SECOND) == []
    expected = [
        Due(Concern.KEYRING, "f/*/3"),
        Due(Concern.SESSION, "sip-1"),
        Due(Concern.COMMAND, "cmd-1"),
        Due(Concern.DELIVERY, "f/g/3"),
    ]
    for n in range(4):
        assert await store.due(NOW + n * SECOND) == expected[: n + 1]
    assert await store.due(NOW + 9 * SECOND, only=Concern.COMMAND) == expected[2:3]


async def test_joining_wakes_what_is_open_and_nothing_else(store: HeadEndStore) -> None:
    later = NOW + timedelta(days=1)
    changes: dict[str, dict[str, object]] = {
        "cmd-open": {},
        "cmd-ended": {"ended_at": NOW, "state": CommandState.CONFIRMED},
        "cmd-too-late": {"not_after": NOW - SECOND},
    }
    for id_, members in changes.items():
        new = a_command(id_, action=Action.RECONNECT, due_at=later, **members)
        await store.request_command(new, NOW)
    for id_, state in (("sip-offered", SessionState.OFFERED), ("sip-active", SessionState.ACTIVE)):
        new_session = a_session(id_, state=state, due_at=later)
        await store.add_session(new_session, Entry(who="a", what="s"), NOW)
    assert await store.wake(NOW) == 2
    assert {due.id for due in await store.due(NOW)} == {"cmd-open", "sip-offered"}


async def test_approvals_are_kept_by_document_and_key(store: HeadEndStore) -> None:
    await store.request_command(a_command(due_at=None), NOW)
    await store.change_command("cmd-1", signing(1, "d-1"), NOW)
    approval = Approval("cmd-1", "d-1", "kid", "act", "anita", NOW)
    entry = Entry(who="anita", what="approved")
    for _ in range(2):
        await store.approve(approval, entry)
    await store.approve(replace(approval, digest="d-0"), entry)
    assert await store.approvals("cmd-1", "d-1") == [approval]
    decide = Decide()
    await store.change_command("cmd-1", decide, NOW)
    assert decide.saw[0].approvals == [approval]
    assert [due.id for due in await store.due(NOW)] == ["cmd-1"]
    told = [each.entry.what for each in await store.audit_links()]
    assert told.count("approved") == 2


async def test_a_session_knows_every_nonce_it_ever_had(store: HeadEndStore) -> None:
    session = a_session(meters=("m-1", "m-2"), state=SessionState.ACTIVE, document=b"{}")
    await store.add_session(session, Entry(who="a", what="s"), NOW)
    assert await store.session("sip-1") == session
    saw: list[frozenset[str]] = []
    for nonce in ("n-1", "n-2", "n-2", "n-3"):

        def decide(held: LedgerSession, seen: frozenset[str], nonce: str = nonce) -> SessionChange:
            saw.append(seen)
            return SessionChange(replace(held, nonce=nonce))

        await store.change_session("sip-1", decide, NOW)
    assert saw == [frozenset(), {"n-1"}, {"n-1", "n-2"}, {"n-1", "n-2"}]
    with pytest.raises(TWICE):  # current a second time
        await store.change_session(
            "sip-1", lambda held, _: SessionChange(replace(held, nonce="n-1")), NOW
        )


async def test_a_session_change_wakes_the_commands_that_wait_for_it(store: HeadEndStore) -> None:
    await store.add_session(a_session(due_at=None), Entry(who="a", what="s"), NOW)
    changes: dict[str, dict[str, object]] = {
        "cmd-waits": {},
        "cmd-is-out": {"sent_at": NOW},
        "cmd-elsewhere": {"gateway_id": "g-2"},
    }
    for id_, members in changes.items():
        new = a_command(id_, action=Action.RECONNECT, due_at=None, **members)
        await store.request_command(new, NOW)
    successor = a_session("sip-2", due_at=None)
    await store.change_session(
        "sip-1",
        lambda held, _: SessionChange(
            replace(held, ended_at=NOW), wakes_commands=True, successor=successor
        ),
        NOW,
    )
    assert await store.due(NOW) == [Due(Concern.COMMAND, "cmd-waits")]
    assert await store.sessions(only_open=True) == [successor]
    assert len(await store.sessions(feeder_id="f", gateway_id="g")) == 2


@pytest.mark.parametrize(("scope", "count"), [("*", 2), (GATEWAY, 1), ("g-unheard", 1)])
async def test_a_keyring_is_spread_to_the_gateways_it_concerns(
    store: HeadEndStore, scope: str, count: int
) -> None:
    feeder = FEEDER
    await store.commit([accepted()])
    other = a_session(feeder_id=feeder, gateway_id="g-2")
    await store.add_session(other, Entry(who="a", what="s"), NOW)
    keyring = StoredKeyring(feeder, scope, 7, b"{}", NOW, "anita")
    await store.add_keyring(keyring, Entry(who="a", what="k"))
    assert await store.spread_keyring(keyring, NOW) == count
    assert await store.spread_keyring(keyring, NOW) == 0
    assert not any(due.concern is Concern.KEYRING for due in await store.due(NOW))
    assert {each.version for each in await store.deliveries(feeder_id=feeder)} == {7}


async def test_an_accepted_delivery_stays_accepted(store: HeadEndStore) -> None:
    delivery = KeyringDelivery(feeder_id="f", gateway_id="g", version=1, accepted_at=NOW)
    await store.put_delivery(delivery, Entry(who="g", what="keyring accepted"), NOW)
    await store.put_delivery(replace(delivery, accepted_at=None, offers=2), None, NOW)
    assert await store.deliveries() == [replace(delivery, offers=2)]


async def test_keyrings_of_a_gateway_are_its_own_and_the_feeders(store: HeadEndStore) -> None:
    for version, scope in ((1, "*"), (2, "g"), (3, "other")):
        keyring = StoredKeyring("f", scope, version, b"{}", NOW, "anita")
        await store.add_keyring(keyring, Entry(who="a", what="k"))
    assert [each.version for each in await store.keyrings("f", "g")] == [1, 2]
    assert [each.version for each in await store.keyrings("f")] == [1, 2, 3]


async def test_the_log_is_chained_from_its_first_entry_on(store: HeadEndStore) -> None:
    assert await store.audit_end() == (0, GENESIS)
    made = [
        await store.note(Entry(who="anita", what=f"did {n}", command_id=f"c-{n % 2}"), NOW)
        for n in range(5)
    ]
    assert await store.audit_links() == made
    assert first_break(made) is None
    assert await store.audit_end() == (5, made[-1].hash)
    assert await store.audit_links(after=3) == made[3:]
    assert await store.audit_links(command_id="c-1") == made[1::2]
    assert await store.audit_links(at_most=2) == made[:2]


async def test_what_was_kept_is_there_when_the_store_is_opened_again(store_url: str) -> None:
    async with open_store(store_url) as store:
        await store.request_command(a_command(), NOW)
        await store.add_session(a_session(), Entry(who="a", what="s"), NOW)
        end = await store.audit_end()
    async with open_store(store_url, Access.READ) as again:
        assert await again.command("cmd-1") == a_command()
        assert await again.session("sip-1") == a_session()
        assert await again.audit_end() == end
