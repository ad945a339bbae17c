"""From the broker into the store: a topic, a line end, and the payload. Whatever comes can be kept."""

import asyncio
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from tests.fuzz.target import Target, directory
from tests.headend.messages import EVENT, EVENT_TOPIC, RECEIVED, TOPIC, payload, register
from tests.headend.new_store import new_store
from tests.profile.vectors import vectors

from openami.headend.backups.file_form import BackupError, hashed
from openami.headend.backups.making import back_up, proved
from openami.headend.ingest import Accepted, Decision, Message, ingest
from openami.headend.store import Tally
from openami.headend.store.open import open_store
from openami.headend.validate import LatestValues, validate
from openami.profile import shipped_catalogue

_NOW = datetime(2026, 6, 22, 14, 30, tzinfo=UTC)


def ingested(data: bytes) -> Decision:
    """Return the head-end's decision on a topic, a line end and a payload."""
    topic, _, body = data.partition(b"\n")
    message = Message(topic.decode(errors="replace"), body, RECEIVED)
    catalogue = shipped_catalogue()
    decision = ingest(message, catalogue=catalogue)
    if isinstance(decision, Accepted):
        assert decision.envelope.registers
        findings = validate(decision, catalogue=catalogue, latest=LatestValues())
        for finding in findings:
            _fits_any_store(finding.detail)
        for each in decision.envelope.registers:
            _fits_any_store(each.unit)
            _fits_any_store(each.value if isinstance(each.value, str) else "")
    else:
        assert decision.errors
    return decision


def _fits_any_store(text: str) -> None:
    """PostgreSQL takes neither NUL nor half a surrogate pair in a text."""
    assert "\0" not in text
    text.encode()


def ingest_only(data: bytes) -> None:
    """A decision, and nothing else, in which all that is accepted fits both stores."""
    ingested(data)


def stored(data: bytes) -> None:
    """What is decided is committed, or set aside with its bytes; committed again it changes only counts."""
    decision = ingested(data)
    first, again = _runner().run(_committed_twice(decision))
    if isinstance(decision, Accepted):
        assert first.stored + first.duplicates + first.conflicts == len(decision.envelope.registers)
        assert again.stored == 0
        assert again.events == 0
    else:
        assert (first.stored, first.rejected_messages) == (0, 1)


@cache
def _runner() -> asyncio.Runner:
    return asyncio.Runner()


async def _committed_twice(decision: Decision) -> tuple[Tally, Tally]:
    place = directory("store")
    if not (empty := place / "empty").exists():
        async with open_store(_url(empty)):
            pass
    store_file = place / "headend"
    shutil.copyfile(empty, store_file)
    async with open_store(_url(store_file)) as store:
        first = await store.commit([decision])
        again = await store.commit([decision])
        rejects = await store.rejects()
    is_rejected = not isinstance(decision, Accepted) or bool(decision.rejected_items)
    assert [each.payload for each in rejects] == [decision.message.payload] * is_rejected
    return first, again


def _url(file: Path) -> str:
    return f"sqlite:///{file}"


def _messages() -> Sequence[bytes]:
    texts = register(obis="96.1.0", value="DS1000", unit="text")
    return [
        f"{TOPIC}\n".encode() + payload(),
        f"{EVENT_TOPIC}\n".encode() + payload(event=EVENT),
        f"{TOPIC}\n".encode() + payload(registers=[register(), register(quality="x"), texts]),
        *(
            f"{v.topic}\n".encode() + v.payload
            for v in vectors("telemetry", "event")
            if len(v.payload) < 4096
        ),
    ]


def backup(data: bytes) -> None:
    """What is no backup is refused with its remedy, and nothing is left of it; what is one was proved."""
    place = directory("backup")
    file, copy = place / "backup.tar", place / "copy"
    file.write_bytes(data)
    try:
        manifest = proved(file, copy, engine="sqlite")
    except BackupError as error:
        assert error.remedy
        assert "\n" not in str(error)
    else:
        assert hashed(copy) == (manifest.bytes, manifest.sha256)
    finally:
        copy.unlink(missing_ok=True)


@cache
def _backup() -> bytes:
    place = directory("backup")
    target = place / "sound.tar"
    back_up(new_store(place / "store.db"), target, now=_NOW)
    return target.read_bytes()


def _backups() -> Sequence[bytes]:
    whole = _backup()
    return [whole, whole[:3000], whole[: len(whole) // 2]]


TARGETS = (
    Target("ingest", ingest_only, _messages, 150),
    Target("store", stored, _messages, 60),
    Target("backup", backup, _backups, 30),
)
