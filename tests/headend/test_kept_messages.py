"""A kept message is replayed or dropped in one transaction with its entry in the audit log, whoever asks."""

import asyncio
import signal
import subprocess
import sys

import pytest
from tests.headend.decisions import DROPPED, NOON, accepted, readings, rejected, replayed
from tests.headend.messages import TOPIC, payload
from tests.headend.test_commands import openami, rows

from openami.headend.audit import Entry
from openami.headend.store import Access, RejectStatus, Tally
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.open import open_store

# Between what is stored and what is told of it, the process is gone: no `finally` runs, no file is closed.
KILLED_BETWEEN = """
import asyncio, os, signal, sys
from tests.headend.decisions import NOON, accepted
from openami.headend.store import Access
from openami.headend.store.open import open_store

def dies(_):
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    async with open_store(sys.argv[1], Access.EDIT) as store:
        [kept] = await store.rejects()
        await store.replay(kept.id, accepted(), dies, NOON)

asyncio.run(main())
"""


async def test_the_entry_is_there_when_the_replay_is(store: HeadEndStore) -> None:
    await store.commit([rejected(b"bad")])
    [kept] = await store.rejects()
    await store.replay(kept.id, accepted(), replayed, NOON)
    [link] = await store.audit_links()
    assert (link.entry.who, link.entry.what, link.entry.result) == ("asha", "replayed", "stored 1")
    assert await store.drop(kept.id, DROPPED, NOON)
    assert not await store.drop(kept.id + 1, DROPPED, NOON)
    assert [each.entry.what for each in await store.audit_links()] == ["replayed", "dropped"]


async def test_without_its_entry_there_is_no_replay(store: HeadEndStore) -> None:
    await store.commit([rejected(b"bad")])
    [kept] = await store.rejects()

    def fails(_: Tally) -> Entry:
        raise RuntimeError("no entry can be made")

    with pytest.raises(RuntimeError):
        await store.replay(kept.id, accepted(), fails, NOON)
    assert await readings(store) == []
    assert (await store.rejects())[0].status is RejectStatus.OPEN
    assert await store.audit_links() == []
    # Nor does what was learnt in the transaction that is not survive it.
    await store.replay(kept.id, accepted(), replayed, NOON)
    assert len(await readings(store)) == 1


async def test_a_crash_between_the_two_leaves_neither(store: HeadEndStore, store_url: str) -> None:
    await store.commit([rejected(b"bad")])
    ended = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", KILLED_BETWEEN, store_url], timeout=60, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    assert await readings(store) == []
    assert (await store.rejects())[0].status is RejectStatus.OPEN
    assert await store.audit_links() == []


def test_the_command_line_stands_in_the_log_as_the_api_does(store_url: str) -> None:
    async def filled() -> list[int]:
        async with open_store(store_url) as store:
            await store.commit([rejected(payload(), topic=TOPIC), rejected(b"x", topic="a/b")])
            return [each.id for each in await store.rejects()]

    async def said() -> list[Entry]:
        async with open_store(store_url, Access.READ) as store:
            return [link.entry for link in await store.audit_links()]

    nonsense, _ = asyncio.run(filled())
    told = rows(store_url, "reject", "replay", "--all", code=1)
    assert {row["id"]: bool(row["stillRejected"]) for row in told}[nonsense] is True
    openami(store_url, "reject", "drop", str(nonsense), "--yes")
    entries = asyncio.run(said())
    assert [entry.what.split()[-1] for entry in entries] == ["replayed", "replayed", "dropped"]
    assert all(entry.who and f"message {nonsense} " in entry.what for entry in entries[1:])
    assert entries[1].result.startswith("still rejected")
