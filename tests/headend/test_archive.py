"""Everything in one file and back: every reading by identity and value; a damaged file says where."""

import hashlib
import json
import random
import zipfile
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.headend.decisions import (
    ENERGY,
    NOON,
    POWER,
    RELAY,
    accepted,
    readings,
    register,
    rejected,
)
from tests.headend.messages import EVENT, EVENT_TOPIC, RECEIVED, payload
from tests.headend.new_store import new_store
from tests.headend.test_asset_store import put
from tests.headend.test_assets import SWAP, VILLAGE
from tests.headend.test_bulk import BULK, houses
from tests.headend.test_command_store import a_command

from openami.headend.assets.changes import swapped
from openami.headend.audit import Entry, first_break, read_links
from openami.headend.exports import parquet
from openami.headend.exports.archive import MANIFEST, write_archive
from openami.headend.exports.restoring import ArchiveFault, prove, restore
from openami.headend.ingest import Decision, Message, ingest
from openami.headend.store import Reading
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.open import open_store
from openami.profile import Quality, shipped_catalogue

DAY = timedelta(days=1)
GATEWAY_41 = ("feeder-1", "gw-41")
GIVEN = Entry(who="erik", what="set")
VALUES = (1842.5, 0, -0.0, 2**53 - 1, 1e-300, True, False, "connected", "", "00:42", "ⵣ")


def told() -> list[Decision]:
    """Three months of what a feeder may tell: every type of value, qualities, a conflict, an event."""
    dice = random.Random(7)
    batch: list[Decision] = []
    for day in range(75):
        for meter in ("M-1", "M-2"):
            at = NOON + day * DAY + timedelta(milliseconds=dice.randrange(1000))
            batch.append(
                accepted(
                    register(dice.choice(VALUES), quality=dice.choice(list(Quality))),
                    register(dice.random() * 1e6, POWER, unit=dice.choice(["W", "kW"])),
                    register(dice.choice(["connected", "disconnected"]), RELAY, unit="enum"),
                    ts=at,
                    meter=meter,
                    received_at=at + timedelta(milliseconds=dice.randrange(10**9)),
                )
            )
    batch.append(accepted(register(1), ts=NOON))
    batch.append(accepted(register(2), ts=NOON))
    event = Message(EVENT_TOPIC, payload(event=EVENT), RECEIVED)
    return [*batch, ingest(event, catalogue=shipped_catalogue()), rejected()]


async def everything(store: HeadEndStore) -> dict[tuple[str, str], list[Reading]]:
    return {
        (m.feeder_id, m.meter_serial): [
            r async for r in store.readings(m.feeder_id, m.meter_serial)
        ]
        for m in await store.meters()
    }


@pytest.fixture
async def told_store(tmp_path: Path) -> AsyncIterator[HeadEndStore]:
    async with open_store(new_store(tmp_path / "told.db")) as store:
        await store.commit(told())
        await put(store, swapped(VILLAGE, SWAP, now=NOON))
        await store.request_command(a_command(), NOON)
        await store.set_budget(*GATEWAY_41, 40_000_000, GIVEN, NOON)
        await store.add_bulk(BULK, houses(2), GIVEN)
        yield store


@pytest.fixture
async def archive(told_store: HeadEndStore, tmp_path: Path) -> Path:
    path = tmp_path / "village.openami.zip"
    await write_archive(told_store, path, now=NOON)
    return path


async def test_an_empty_store_is_as_the_other_was(
    told_store: HeadEndStore, archive: Path, store: HeadEndStore
) -> None:
    restored = await restore(archive, prove(archive), store, who="asha", now=NOON)
    assert restored.events_unreadable == 0
    there = await everything(store)
    assert there == await everything(told_store)
    types = [[type(r.value) for r in each] for each in there.values()]
    assert types == [[type(r.value) for r in e] for e in (await everything(told_store)).values()]
    assert await store.assets("f") == await told_store.assets("f")
    assert await store.events() == await told_store.events()
    assert await store.conflicts("feeder-1", "M-1") == await told_store.conflicts("feeder-1", "M-1")
    assert [m.gateway_id for m in await store.meters()] == [
        m.gateway_id for m in await told_store.meters()
    ]

    assert (restored.budgets_set, await store.budgets()) == (1, {GATEWAY_41: 40_000_000})
    assert (await store.audit_links())[-1].entry.what == "bandwidth budget of gw-41 set"
    assert await store.bulks() == [], "a second head-end carries out nobody's decision again"

    again = await restore(archive, prove(archive), store, who="asha", now=NOON)
    assert (again.tally.stored, again.tally.conflicts, again.tally.events) == (0, 0, 0)
    assert (again.assets_changed, again.budgets_set) == (0, 0)
    assert await everything(store) == there


def test_an_archive_says_what_it_is_and_is_read_without_us(archive: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        manifest = json.loads(file.read(MANIFEST))
        names = [member["name"] for member in manifest["members"]]
        assert set(names) | {MANIFEST} == set(file.namelist())
        assert names[:4] == [f"readings/2026-0{month}.parquet" for month in (6, 7, 8, 9)]
        with file.open("readings/2026-06.parquet") as member:
            table = pq.read_table(member)
        assert set(table.column_names) == set(manifest["columns"])
        rows = {member["name"]: member["rows"] for member in manifest["members"]}
        assert table.num_rows == rows["readings/2026-06.parquet"]
        [bulk] = map(json.loads, file.read("bulk_disconnections.jsonl").splitlines())
        assert (bulk["state"], bulk["requested_by"]) == ("proposed", "erik")
        assert [house["meter_serial"] for house in bulk["houses"]] == ["M-000", "M-001"]
        assert rows["budgets.jsonl"] == 1
        assert rows["commands.jsonl"] == rows["events.jsonl"] == rows["rejected.jsonl"] == 1
        links = list(read_links(file.read("audit.jsonl").decode().splitlines()))
        assert links
        assert first_break(links) is None
        assert not any(b"argon2" in file.read(name) for name in file.namelist())


async def test_row_groups_are_bounded(
    told_store: HeadEndStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS_MAX", 50)  # 65,536 in life
    path = tmp_path / "small.zip"
    await write_archive(told_store, path, now=NOON)
    with zipfile.ZipFile(path) as file, file.open("readings/2026-07.parquet") as member:
        metadata = pq.ParquetFile(member).metadata
        assert metadata.num_row_groups > 3
        assert max(metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)) == 50
    async with open_store(new_store(tmp_path / "other.db")) as other:
        await restore(path, prove(path), other, who="asha", now=NOON)
        assert await everything(other) == await everything(told_store)


def rewritten(archive: Path, name: str, content: bytes | None) -> Path:
    """Return a copy of an archive in which one member is another, or missing."""
    copy = archive.with_name("copy.zip")
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(copy, "w") as target:
        for info in source.infolist():
            if info.filename != name:
                target.writestr(info, source.read(info))
            elif content is not None:
                target.writestr(info, content)
    return copy


def test_a_damaged_archive_says_where(archive: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        names = {name: file.read(name) for name in file.namelist() if name != MANIFEST}
    for name, content in names.items():
        with pytest.raises(ArchiveFault, match=name):
            prove(rewritten(archive, name, None))
        if content:
            changed = content[:-1] + bytes([content[-1] ^ 1])
            with pytest.raises(ArchiveFault, match=name):
                prove(rewritten(archive, name, changed))
            with pytest.raises(ArchiveFault, match=name):
                prove(rewritten(archive, name, content + b"\n"))
    for content in (b"", b"{}", b'{"format": "other"}'):
        with pytest.raises(ArchiveFault, match=r"manifest\.json"):
            prove(rewritten(archive, MANIFEST, content))


def test_a_cut_or_bent_file_is_refused_wherever_it_is_bent(archive: Path) -> None:
    whole = archive.read_bytes()
    dice = random.Random(3)
    bent = archive.with_name("bent.zip")
    for at in (0, 1, len(whole) // 2, len(whole) - 30, len(whole) - 1):
        bent.write_bytes(whole[:at])
        with pytest.raises(ArchiveFault):
            prove(bent)
    sound = prove(archive)
    for _ in range(60):
        at = dice.randrange(len(whole))
        bent.write_bytes(whole[:at] + bytes([whole[at] ^ 0x20]) + whole[at + 1 :])
        try:
            found = prove(bent)
        except ArchiveFault:
            continue
        # A bit of a time stamp or of a comment, which nobody reads: what is read is whole.
        assert [m.sha256 for m in found.members] == [m.sha256 for m in sound.members]


def honest(archive: Path, name: str, content: bytes) -> Path:
    """Return an archive whose manifest tells the truth about a member that is nonsense."""
    copy = rewritten(archive, name, content)
    with zipfile.ZipFile(copy) as file:
        manifest = json.loads(file.read(MANIFEST))
    for member in manifest["members"]:
        if member["name"] == name:
            member |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return rewritten(
        copy.rename(copy.with_name("half.zip")), MANIFEST, json.dumps(manifest).encode()
    )


@pytest.mark.parametrize(
    ("name", "content", "where"),
    [
        ("readings/2026-06.parquet", b"PAR1", "after row 0"),
        ("events.jsonl", b"{}\n", "line 1 is no event"),
        ("events.jsonl", b"nonsense\n", "line 1 is no JSON"),
        ("events.jsonl", b"[]\n", "line 1 is no object"),
        ("conflicts.jsonl", b'{"ts": "2026-06-22T12:00:00Z"}\n', "line 1: a time"),
        ("assets/tariffs.jsonl", b'{"id": "t"}\n', "line 1 is no price"),
        ("budgets.jsonl", b'{"feeder_id":"f","gateway_id":"g"}\n', "line 1 is no budget"),
        (
            "budgets.jsonl",
            b'{"feeder_id":"f","gateway_id":"g/h","month_bytes":5000000}\n',
            "name no gateway",
        ),
        ("assets/f.geojson", b"{}", "FeatureCollection"),
        (
            "assets/f.geojson",
            b'{"type":"FeatureCollection","features":[{"type":"Feature","properties":'
            b'{"table":"poles","feeder":"f","pole":"p","parent":"q"}}]}',
            "there is no pole q",
        ),
    ],
)
async def test_a_member_that_is_nonsense_says_where(
    archive: Path, tmp_path: Path, name: str, content: bytes, where: str
) -> None:
    path = honest(archive, name, content)
    async with open_store(new_store(tmp_path / "other.db")) as other:
        with pytest.raises(ArchiveFault, match=where) as fault:
            await restore(path, prove(path), other, who="asha", now=NOON)
        assert name in str(fault.value)


async def test_an_export_that_fails_leaves_no_half_of_a_file(
    told_store: HeadEndStore, tmp_path: Path
) -> None:
    def fail(_: str) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        await write_archive(told_store, tmp_path / "half.zip", now=NOON, tell=fail)
    assert not left_in(tmp_path)


def left_in(directory: Path) -> list[Path]:
    return [*directory.glob("half*"), *directory.glob("*.parquet")]


async def test_an_empty_store_is_an_archive_too(tmp_path: Path, store: HeadEndStore) -> None:
    path = tmp_path / "empty.zip"
    await write_archive(store, path, now=NOON)
    restored = await restore(path, prove(path), store, who="asha", now=NOON)
    assert restored.tally.stored == 0
    assert await readings(store) == []


def names_of(found: Sequence[Reading]) -> set[str]:
    return {str(reading.obis) for reading in found}


async def test_months_end_where_the_next_begins(told_store: HeadEndStore, archive: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        counts = [
            m["rows"] for m in json.loads(file.read(MANIFEST))["members"] if "readings" in m["name"]
        ]
    found = await everything(told_store)
    assert sum(counts) == sum(map(len, found.values()))
    assert names_of(found["feeder-1", "M-1"]) == {str(each) for each in (ENERGY, POWER, RELAY)}
