"""A backup is tested by restoring it: beside a working head-end, on both engines, damaged, interrupted."""

import asyncio
import json
import os
import sqlite3
import tarfile
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.headend.decisions import ENERGY, NOON, accepted, readings, register
from tests.headend.new_store import new_store
from tests.headend.program import openami
from tests.headend.test_command_store import Decide, a_command, a_session
from tests.postgres import Postgres

from openami.headend.accounts import Role
from openami.headend.accounts.credentials import SignIn, Token
from openami.headend.audit import Entry, first_break
from openami.headend.backups import sqlite_copy
from openami.headend.backups.file_form import (
    STORE,
    BackupError,
    Manifest,
    hashed,
    opened_backup,
    write_backup,
)
from openami.headend.backups.making import back_up, restore, settled
from openami.headend.bulk import Bulk, BulkMeter, BulkState
from openami.headend.commands import reconciled
from openami.headend.store import Access, StoreError
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.open import open_store
from openami.profile.command import CommandState
from openami.sip.actions import Action
from openami.sip.session import SessionState

TAKEN = datetime(2026, 6, 22, 15, 0, tzinfo=UTC)
LATER = TAKEN + timedelta(hours=6)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def elsewhere(request: pytest.FixtureRequest, store_url: str, tmp_path: Path) -> str:
    """Where a backup is restored: a place of the same engine with nothing in it."""
    if store_url.startswith("sqlite"):
        return f"sqlite:///{tmp_path}/restored.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


def restored(backup: Path, url: str) -> Any:
    return restore(backup, url, who="anita", now=LATER)


async def test_beside_a_working_head_end_nothing_committed_before_is_missing(
    store_url: str, elsewhere: str, tmp_path: Path
) -> None:
    backup = tmp_path / "backup.tar"
    async with open_store(store_url) as store:
        committed, working = 0, True

        async def ingest() -> None:
            nonlocal committed
            while working:
                moments = [NOON + n * MINUTE for n in range(committed, committed + 50)]
                await store.commit([accepted(register(n), ts=ts) for n, ts in enumerate(moments)])
                committed += 50

        ingesting = asyncio.create_task(ingest())
        while committed < 200:
            await asyncio.sleep(0)
        before = committed
        manifest = await asyncio.to_thread(back_up, store_url, backup, now=TAKEN)
        after = committed
        working = False
        await ingesting
        held = manifest.tables["reading"].rows
        assert before <= held <= after + 50
        written = await readings(store)
    again = elsewhere
    await asyncio.to_thread(restored, backup, again)
    async with open_store(again) as store:
        assert await readings(store) == written[:held]
        tally = await store.commit([accepted(register(9, ENERGY), ts=NOON - MINUTE)])
        assert tally.stored == 1


async def test_a_store_is_never_overwritten(store_url: str, elsewhere: str, tmp_path: Path) -> None:
    backup = tmp_path / "backup.tar"
    async with open_store(store_url) as store:
        await store.commit([accepted()])
        await asyncio.to_thread(back_up, store_url, backup, now=TAKEN)
        with pytest.raises(BackupError, match="never overwritten"):  # while it works
            await asyncio.to_thread(restored, backup, store_url)
    again = elsewhere
    await asyncio.to_thread(restored, backup, again)
    with pytest.raises(BackupError, match="never overwritten"):  # and when nobody does
        await asyncio.to_thread(restored, backup, again)
    with pytest.raises(BackupError, match="is there already"):
        await asyncio.to_thread(back_up, store_url, backup, now=TAKEN)


# --- what is damaged -----------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A backup of a store with one reading."""
    url = new_store(tmp_path / "store.db")
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    backup = tmp_path / "backup.tar"
    back_up(url, backup, now=TAKEN)
    return backup


def test_it_is_ours_alone_and_can_be_read_without_this_program(small: Path, tmp_path: Path) -> None:
    assert small.stat().st_mode & 0o777 == 0o600
    with tarfile.open(small) as tar:
        tar.extractall(tmp_path / "out", filter="data")
    told = json.loads((tmp_path / "out/manifest.json").read_bytes())
    assert (told["engine"], told["takenAt"]) == ("sqlite", "2026-06-22T15:00:00Z")
    with closing(sqlite3.connect(tmp_path / "out" / STORE)) as connection:
        assert connection.execute("SELECT count(*) FROM tally").fetchone() == (1,)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup.tar", "out", "store.db"]


def test_cut_short_at_any_place_nothing_is_restored(small: Path, tmp_path: Path) -> None:
    whole = small.read_bytes()
    end = whole.rstrip(b"\0")  # a tar ends with blocks of nothing, and needs none of them
    for length in [*range(0, 2048, 97), *range(2048, len(end) - 1, 40_961), len(end) - 1]:
        small.write_bytes(whole[:length])
        with pytest.raises(BackupError):
            restored(small, f"sqlite:///{tmp_path}/restored.db")
        assert not list(tmp_path.glob("restored*"))


def test_one_changed_bit_is_seen(small: Path, tmp_path: Path) -> None:
    whole = bytearray(small.read_bytes())
    with tarfile.open(small) as tar:
        member = tar.getmember(STORE)
    for at in range(member.offset_data, member.offset_data + member.size, 39_119):
        whole[at] ^= 4
        small.write_bytes(whole)
        with pytest.raises(BackupError, match="not what was backed up"):
            restored(small, f"sqlite:///{tmp_path}/restored.db")
        whole[at] ^= 4
    assert not list(tmp_path.glob("restored*"))


def rewritten(backup: Path, **members: Any) -> Path:
    """Return the backup with another manifest."""
    other, copy = backup.with_name("other.tar"), backup.with_name("copy")
    with opened_backup(backup) as (manifest, content):
        copy.write_bytes(content.read())
    write_backup(other, msgspec.structs.replace(manifest, **members), copy)
    return other


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"db_schema": 999}, "knows up to"),
        ({"db_schema": 3}, "does not hold what its manifest says"),
        ({"tables": {}}, "does not hold what its manifest says"),
        ({"engine": "postgresql"}, "is a backup of a postgresql store"),
        ({"engine": "oracle"}, "manifest is none"),
        ({"sha256": "f" * 63}, "manifest is none"),
        ({"taken_at": datetime(2026, 6, 22)}, "without a zone"),  # noqa: DTZ001 - that is the point
    ],
)
def test_a_manifest_that_says_something_else(
    small: Path, tmp_path: Path, members: dict[str, Any], said: str
) -> None:
    with pytest.raises(BackupError, match=said) as refused:
        restored(rewritten(small, **members), f"sqlite:///{tmp_path}/restored.db")
    assert refused.value.remedy


def test_what_another_run_is_writing_is_left_alone(small: Path, tmp_path: Path) -> None:
    (tmp_path / "restored.db.part").write_bytes(b"half")
    with pytest.raises(BackupError, match="is there: another run"):
        restored(small, f"sqlite:///{tmp_path}/restored.db")
    assert (tmp_path / "restored.db.part").read_bytes() == b"half"


def test_a_damaged_store_is_not_backed_up_in_silence(tmp_path: Path) -> None:
    url, path = new_store(tmp_path / "store.db"), tmp_path / "store.db"
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size - 8192)  # the newest table: what has to be read to open the store is sound
        file.write(b"\xa5" * 8192)
    with pytest.raises(BackupError, match="damaged"):
        back_up(url, tmp_path / "backup.tar", now=TAKEN)
    assert not list(tmp_path.glob("backup*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_root_makes_no_files_the_head_end_could_not_write(small: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    os.chown(tmp_path / "data", 65534, 65534)
    with pytest.raises(BackupError, match="belongs to another user") as refused:
        restored(small, f"sqlite:///{tmp_path}/data/headend.db")
    assert "sudo -u" in refused.value.remedy


# --- what must not act again ---------------------------------------------------------------------


async def live_on(store: HeadEndStore) -> None:
    """What is open in a head-end on an ordinary afternoon."""
    for session in (a_session("sip-1", state=SessionState.ACTIVE, nonce="n"), a_session("sip-2")):
        await store.add_session(session, Entry(who="anita", what="session"), TAKEN)
    await store.request_command(a_command("waits", meter_serial="m-1"), TAKEN)
    await store.request_command(a_command("out", meter_serial="m-2"), TAKEN)
    await store.change_command(
        "out", Decide(seq=7, session_id="sip-1", digest="d", signed_at=TAKEN, sent_at=TAKEN), TAKEN
    )
    await store.request_command(
        a_command("again", meter_serial="m-3", action=Action.RESEND, args={"from": 1, "to": 2}),
        TAKEN,
    )
    bulk = Bulk(
        id="bulk-1", idempotency_key=None, feeder_id="f", reason="unpaid",
        state=BulkState.RUNNING, requested_by="anita", first_person="anita", requested_at=TAKEN,
        approved_by="ravi", approved_at=TAKEN,
    )  # fmt: skip
    meters = [BulkMeter(bulk_id="bulk-1", position=1, meter_serial="m-9", gateway_id="g")]
    await store.add_bulk(bulk, meters, Entry(who="anita", what="bulk"))
    for label in ("reads", "orders", "makes"):
        await store.add_token(
            Token(
                id=label, digest=label, label=label, role=Role.OPERATOR, feeders=None,
                created_at=TAKEN, created_by="anita", expires_at=LATER + timedelta(days=1),
                relays=label == "orders", accounts=label == "makes",
            ),
            Entry(who="anita", what="token"),
        )  # fmt: skip
    await store.add_sign_in(
        SignIn(
            digest="s", user_name="anita", created_at=TAKEN, seen_at=TAKEN, proved_at=TAKEN,
            address="", agent="",
        ),
        Entry(who="anita", what="signed in"),
        TAKEN,
    )  # fmt: skip


async def test_what_was_open_does_not_act_again(
    store_url: str, elsewhere: str, tmp_path: Path
) -> None:
    async with open_store(store_url) as store:
        await live_on(store)
    backup, again = tmp_path / "backup.tar", elsewhere
    await asyncio.to_thread(back_up, store_url, backup, now=TAKEN)
    _, done = await asyncio.to_thread(restored, backup, again)
    assert (done.commands, done.sessions, done.bulks) == (2, 2, 1)
    assert (done.sign_ins, done.tokens) == (1, ("makes", "orders"))
    async with open_store(again) as store:
        for id_ in ("waits", "out"):
            command = await store.command(id_)
            assert command is not None
            assert (command.state, command.code) == (CommandState.UNKNOWN, "RESTORED")
            # The relay itself says what became of it, whether or not it was out when the backup was taken.
            seen = reconciled(
                command, position="disconnected", measured_at=TAKEN + MINUTE, now=LATER
            )
            assert seen is not None
            assert seen.command.resolved_as is CommandState.CONFIRMED
        resend = await store.command("again")
        assert resend is not None
        assert resend.is_open
        for session in await store.sessions(only_open=True):
            assert session.close_reason == "RESTORED"
            assert not session.is_usable(LATER)
        bulk = await store.bulk("bulk-1")
        assert bulk is not None
        assert bulk.state is BulkState.WITHDRAWN
        assert [token.label for token in await store.tokens() if token.holds(LATER)] == ["reads"]
        assert await store.sign_ins("anita") == []
        links = await store.audit_links()
        assert first_break(links) is None
        assert [link.entry.what for link in links].count("store restored") == 1
        # Once more changes nothing but the log.
        settled_again = await store.settle(taken_at=TAKEN, who="anita", now=LATER)
        assert (settled_again.commands, settled_again.sessions, settled_again.bulks) == (0, 0, 0)


def test_of_money_the_relay_says_nothing() -> None:
    """A settlement that a restore left unknown must not be signed again because a relay is closed."""
    for action in (Action.SETTLE, Action.CREDIT_TOKEN):
        command = replace(
            a_command(action=action), state=CommandState.UNKNOWN, sent_at=TAKEN, ended_at=TAKEN
        )
        assert reconciled(command, position="connected", measured_at=LATER, now=LATER) is None


async def test_no_head_end_runs_on_a_store_that_was_restored_by_half(
    store_url: str, elsewhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends the restore before the store is settled: a power cut, here the settling itself."""
    async with open_store(store_url) as store:
        await live_on(store)
    backup, again = tmp_path / "backup.tar", elsewhere
    await asyncio.to_thread(back_up, store_url, backup, now=TAKEN)

    class PowerCut(Exception):
        pass

    def cut(*_: object, **__: object) -> None:
        raise PowerCut

    with monkeypatch.context() as power:
        power.setattr("openami.headend.backups.making.settled", cut)
        with pytest.raises(PowerCut):
            await asyncio.to_thread(restored, backup, again)
    for access in (Access.OWN, Access.EDIT):
        with pytest.raises(StoreError, match="is not settled") as refused:
            async with open_store(again, access):
                pass
        assert "openami headend settle" in refused.value.remedy
        assert refused.value.permanent
    async with open_store(again, Access.READ) as store:  # to look at is no harm
        assert await store.command("out")
    done = await asyncio.to_thread(settled, again, taken_at=TAKEN, who="anita", now=LATER)
    assert done.commands == 2
    async with open_store(again) as store:
        assert not (await store.commands(only_open=True))[1:]


# --- PostgreSQL's own tools ----------------------------------------------------------------------


@pytest.mark.postgres
async def test_a_dump_that_breaks_off_leaves_no_store(
    postgres_url: str, postgres: Postgres, tmp_path: Path
) -> None:
    async with open_store(postgres_url) as store:
        await store.commit([accepted()])
    backup, cut = tmp_path / "backup.tar", tmp_path / "cut"
    manifest = await asyncio.to_thread(back_up, postgres_url, backup, now=TAKEN)
    with opened_backup(backup) as (_, content):
        cut.write_bytes(content.read()[: manifest.bytes * 9 // 10])
    size, sha256 = hashed(cut)
    broken = tmp_path / "broken.tar"
    write_backup(broken, msgspec.structs.replace(manifest, bytes=size, sha256=sha256), cut)
    again = postgres.new_database()
    with pytest.raises(BackupError, match="did not restore"):
        await asyncio.to_thread(restored, broken, again)
    found = postgres.sql("SELECT to_regnamespace('openami') IS NULL", database=again.split("/")[-1])
    assert found == "t"
    await asyncio.to_thread(restored, backup, again)  # so that the whole one can be tried at once
    postgres.drop_database(again)


@pytest.mark.postgres
async def test_rows_that_are_not_those_of_the_backup_are_named(
    postgres_url: str, postgres: Postgres, tmp_path: Path
) -> None:
    async with open_store(postgres_url) as store:
        await store.commit([accepted()])
    backup = tmp_path / "backup.tar"
    manifest: Manifest = await asyncio.to_thread(back_up, postgres_url, backup, now=TAKEN)
    tables = {
        **manifest.tables,
        "unit": msgspec.structs.replace(manifest.tables["unit"], digest="1"),
    }
    again = postgres.new_database()
    with pytest.raises(BackupError, match="not what was backed up: unit differ"):
        await asyncio.to_thread(restored, rewritten(backup, tables=tables), again)
    with pytest.raises(StoreError, match="is not settled"):  # and no head-end runs on it
        async with open_store(again):
            pass
    postgres.drop_database(again)


@pytest.mark.postgres
async def test_the_password_is_not_told_to_other_users_and_the_tools_words_are_passed_on(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store(postgres_url):
        pass
    tool = tmp_path / "pg_dump"
    tool.write_text(
        f'#!/bin/sh\necho "$@" >{tmp_path}/words\necho "no luck: $PGPASSWORD" >&2\nexit 1\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    secret = postgres_url.replace("postgres@", "postgres:s3%20cret@")
    with pytest.raises(BackupError, match="no luck: s3 cret"):
        await asyncio.to_thread(back_up, secret, tmp_path / "backup.tar", now=TAKEN)
    assert "cret" not in (tmp_path / "words").read_text()
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BackupError, match="pg_dump is not installed") as refused:
        await asyncio.to_thread(back_up, postgres_url, tmp_path / "backup.tar", now=TAKEN)
    assert "postgresql-client" in refused.value.remedy


# --- on the command line -------------------------------------------------------------------------


def test_on_the_command_line(tmp_path: Path) -> None:
    store, backup = new_store(tmp_path / "store.db"), str(tmp_path / "backup.tar")
    told = json.loads(openami("headend", "backup", backup, "--store", store, "--json"))
    assert told["readings"] == 0
    assert openami("headend", "backup", backup, "--store", store, code=1) == ""
    again = f"sqlite:///{tmp_path}/restored.db"
    told = json.loads(openami("headend", "restore", backup, "--store", again, "--json"))
    assert told["commandsUnknown"] == 0
    openami("headend", "settle", "--taken-at", "1h", "--store", again)
    assert "store restored" in openami("audit", "list", "--store", again)
    sqlite_copy.check_copy(tmp_path / "restored.db")
