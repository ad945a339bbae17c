"""An archive back into a store: proven whole first, then let in; once more changes nothing.

Readings, events, assets and budgets come back; commands, sessions and the audit log stay in the file as evidence,
for they belong to the head-end that signed them. Nothing is stored of an archive that is damaged, and what is
damaged is named.
"""

import base64
import hashlib
import json
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from openami.headend.assets import Tariff
from openami.headend.assets.drafts import Draft, drafts_of
from openami.headend.assets.geojson import read_geojson
from openami.headend.assets.importing import feeders_of, plan
from openami.headend.assets.spreadsheet import FileRefused
from openami.headend.assets.tables import RowFault
from openami.headend.audit import Entry
from openami.headend.bandwidth import budget_entry, checked_budget
from openami.headend.exports.archive import COPY_BYTES, FORMAT, MANIFEST, VERSION, Manifest, Member
from openami.headend.exports.parquet import NotReadings, read_rows, value_of
from openami.headend.ingest import Accepted, Kind, Message
from openami.headend.store import Tally
from openami.headend.store.assets import AssetsChange, AssetsKnown
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.identity import from_ms, to_ms
from openami.profile import (
    OLDEST_TS,
    Envelope,
    EventTopic,
    FeederId,
    GatewayId,
    MeterSerial,
    Obis,
    ProfileError,
    Quality,
    RegisterReading,
    TelemetryTopic,
    Value,
    audit_envelope,
    is_id,
)
from openami.profile.identifiers import name_a_meter
from openami.profile.times import read_time

# Envelopes in one transaction: as many as the uplink commits at once in a backlog.
BATCH_ENVELOPES_MAX: Final = 1_000
# A century of months, and a thousand feeders.
MEMBERS_MAX: Final = 10_000
# 400 bytes for each of those.
MANIFEST_BYTES_MAX: Final = 4 * 1024 * 1024
# A line is an event with its message (64 kB), in Base64; GeoJSON of a feeder is one line.
LINE_BYTES_MAX: Final = 16 * 1024 * 1024
# Registers of one meter at one moment.
REGISTERS_MAX: Final = 500

# What unpacking raises of bytes that are no archive, or one with a password.
_BROKEN: Final = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError),
    *(NotImplementedError, RuntimeError, struct.error),
)


class ArchiveFault(Exception):
    """An archive that is not let in; the message says where it is damaged, ``remedy`` what to do."""

    def __init__(
        self, where: str, what: str, remedy: str = "copy it again, or export it anew"
    ) -> None:
        super().__init__(f"{where}: {what}")
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of an import."""

    tally: Tally
    assets_changed: int
    budgets_set: int
    events_unreadable: int
    """Events whose message this version cannot read; they stay in the file."""


def prove(path: Path) -> Manifest:
    """Return the manifest of an archive of which every byte is as it was written. Raises ArchiveFault."""
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = _manifest(archive)
            there = {info.filename: info for info in archive.infolist()}
            for member in manifest.members:
                if member.name not in there:
                    raise ArchiveFault(member.name, "the manifest names it, and it is not there")
                if there[member.name].file_size != member.bytes:
                    raise ArchiveFault(member.name, f"it should have {member.bytes} bytes")
                _check(archive, member)
            return manifest
    except _BROKEN as error:
        raise ArchiveFault(path.name, f"it is no whole archive ({error})") from None


def _check(archive: zipfile.ZipFile, member: Member) -> None:
    digest = hashlib.sha256()
    try:
        with archive.open(member.name) as file:
            while portion := file.read(COPY_BYTES):
                digest.update(portion)
    except _BROKEN as error:
        raise ArchiveFault(member.name, f"it cannot be unpacked ({error})") from None
    if digest.hexdigest() != member.sha256:
        raise ArchiveFault(member.name, "its content is not what the manifest says")


def _manifest(archive: zipfile.ZipFile) -> Manifest:
    try:
        info = archive.getinfo(MANIFEST)
    except KeyError:
        raise ArchiveFault(MANIFEST, "it is not there", "is this an openami archive?") from None
    if info.file_size > MANIFEST_BYTES_MAX:
        raise ArchiveFault(MANIFEST, "it is larger than any")
    try:
        manifest = msgspec.json.decode(archive.read(info), type=Manifest)
    except msgspec.MsgspecError as error:
        raise ArchiveFault(MANIFEST, str(error), "is this an openami archive?") from None
    if manifest.format != FORMAT or manifest.version != VERSION:
        raise ArchiveFault(
            MANIFEST,
            f"this is {manifest.format} {manifest.version}, and this program reads {FORMAT} {VERSION}",
            "import it with the version of openami that wrote it, or a newer one",
        )
    if len(manifest.members) > MEMBERS_MAX:
        raise ArchiveFault(MANIFEST, f"more than {MEMBERS_MAX} members")
    return manifest


async def restore(
    path: Path,
    manifest: Manifest,
    store: HeadEndStore,
    *,
    who: str,
    now: datetime,
    tell: Callable[[str], None] = lambda _: None,
) -> Restored:
    """Let a proven archive in. Raises ArchiveFault, StoreError.

    What was let in before it failed stays; the same import again finishes it.
    """
    tally, unreadable = Tally(), 0
    with zipfile.ZipFile(path) as archive:
        drafts, faults, prices = _assets(archive, manifest)
        if faults:
            raise ArchiveFault(faults[0].sheet, str(faults[0]))
        budgets = _budgets(archive, manifest)
        for member in manifest.members:
            if member.name.startswith("readings/"):
                with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
                    _unpack(archive, member, Path(file.name))
                    rows = _parquet_rows(Path(file.name), member.name)
                    tally += await _let_in(_envelopes(rows, member.name), store)
                tell(f"{member.name}: {member.rows} readings")
        for member in manifest.members:
            if member.name == "conflicts.jsonl":
                rows = _conflict_rows(archive, member)
                tally += await _let_in(_envelopes(rows, member.name), store)
            elif member.name == "events.jsonl":
                readable = _Readable(_events(archive, member))
                tally += await _let_in(readable, store)
                unreadable = readable.left_out
    changed = await _restore_assets(store, drafts, prices, path.name, who=who, now=now)
    return Restored(tally, changed, await _set(store, budgets, who=who, now=now), unreadable)


# --- readings ------------------------------------------------------------------------------------


def _unpack(archive: zipfile.ZipFile, member: Member, path: Path) -> None:
    with archive.open(member.name) as source, path.open("wb") as target:
        while portion := source.read(COPY_BYTES):
            target.write(portion)


_Told = tuple[str, str, str, int, int]
"""Feeder, gateway and serial, measured and received time in milliseconds: what one message has told."""


class _Row(NamedTuple):
    """One register value as a member tells it."""

    told: _Told
    obis: str
    value: object
    unit: str
    quality: str


def _parquet_rows(path: Path, name: str) -> Iterator[_Row]:
    number = 0
    try:
        for cells in read_rows(path):
            feeder, gateway, serial, obis, ts, kind, value, text, unit, quality, received = cells
            told = (feeder, gateway, serial, ts, received)
            if None in told:
                raise NotReadings("an empty cell in what identifies a reading")
            yield _Row(told, obis, value_of(kind, value, text), unit, quality)
            number += 1
    except NotReadings as error:
        raise ArchiveFault(name, f"after row {number}: {error}") from None


def _conflict_rows(archive: zipfile.ZipFile, member: Member) -> Iterator[_Row]:
    for number, row in _json_lines(archive, member):
        ts, received_at = (read_time(str(row.get(name))) for name in ("ts", "received_at"))
        if ts is None or received_at is None:
            raise ArchiveFault(member.name, f"line {number}: a time that is none")
        feeder, gateway, serial, obis, unit, quality = (
            str(row.get(name))
            for name in ("feeder_id", "gateway_id", "meter_serial", "obis", "unit", "quality")
        )
        told = (feeder, gateway, serial, to_ms(ts), to_ms(received_at))
        yield _Row(told, obis, row.get("value"), unit, quality)


async def _let_in(envelopes: Iterable[Accepted], store: HeadEndStore) -> Tally:
    tally, batch = Tally(), []
    for accepted in envelopes:
        batch.append(accepted)
        if len(batch) == BATCH_ENVELOPES_MAX:
            tally += await store.commit(batch)
            batch = []
    return tally + await store.commit(batch) if batch else tally


def _envelopes(rows: Iterable[_Row], name: str) -> Iterator[Accepted]:
    """Put rows that were told together together again: of one meter, moment and receipt."""
    told: _Told | None = None
    registers: list[RegisterReading] = []
    number = 0
    try:
        for row in rows:
            number += 1
            register = RegisterReading(
                _obis(row.obis), _value(row.value), str(row.unit), Quality(row.quality)
            )
            again = any(register.obis == each.obis for each in registers)
            if told is not None and (row.told != told or again or len(registers) == REGISTERS_MAX):
                yield _accepted(told, registers)
                registers = []
            told = row.told
            registers.append(register)
        if told is not None:
            yield _accepted(told, registers)
    except (TypeError, ValueError, OverflowError, ProfileError) as error:
        raise ArchiveFault(name, f"row {number} is no reading: {error}") from None


@lru_cache(maxsize=REGISTERS_MAX)
def _obis(text: str) -> Obis:
    return Obis.parse(text)


def _value(value: object) -> Value:
    if not isinstance(value, bool | int | float | str):
        raise TypeError(f"{value!r} is no value")
    return value


def _accepted(told: _Told, registers: list[RegisterReading]) -> Accepted:
    """Return a meter's registers as a message that was let in. Raises ValueError, OverflowError."""
    feeder, gateway, serial, ts_ms, received_ms = told
    if not name_a_meter(feeder, gateway, serial):
        raise ValueError(f"{feeder}, {gateway} and {serial} name no meter")
    ts, received_at = from_ms(ts_ms), from_ms(received_ms)
    if ts < OLDEST_TS:
        raise ValueError(f"{ts} is no measured time")
    topic = TelemetryTopic(FeederId(feeder), GatewayId(gateway), MeterSerial(serial))
    envelope = Envelope(
        ts=ts,
        feeder_id=FeederId(feeder),
        gateway_id=GatewayId(gateway),
        meter_serial=MeterSerial(serial),
        registers=tuple(registers),
    )
    return Accepted(Kind.TELEMETRY, envelope, Message(str(topic), b"", received_at))


# --- events --------------------------------------------------------------------------------------


class _Readable:
    """Events that can be read; the others are counted."""

    def __init__(self, events: Iterator[Accepted | None]) -> None:
        self._events = events
        self.left_out = 0

    def __iter__(self) -> Iterator[Accepted]:
        for event in self._events:
            if event is None:
                self.left_out += 1
            else:
                yield event


def _events(archive: zipfile.ZipFile, member: Member) -> Iterator[Accepted | None]:
    """Yield each event as it came; None for one whose message cannot be read. Raises ArchiveFault."""
    for number, row in _json_lines(archive, member):
        try:
            payload = base64.b64decode(row["payload"], validate=True)
            received_at = read_time(row["received_at"])
            ids = [str(row[name]) for name in ("feeder_id", "gateway_id", "meter_serial")]
        except (KeyError, TypeError, ValueError) as error:
            raise ArchiveFault(member.name, f"line {number} is no event: {error}") from None
        if received_at is None:
            raise ArchiveFault(member.name, f"line {number}: a time that is none")
        envelope = audit_envelope(payload).envelope
        if envelope is None or ids != [
            envelope.feeder_id,
            envelope.gateway_id,
            envelope.meter_serial,
        ]:
            yield None
            continue
        # Its registers came back with the readings; an event without an id is named by them.
        kept = () if envelope.event is not None else envelope.registers
        envelope = msgspec.structs.replace(envelope, registers=kept, seq=None)
        topic = EventTopic(envelope.feeder_id, envelope.gateway_id, envelope.meter_serial)
        yield Accepted(Kind.EVENT, envelope, Message(str(topic), payload, received_at))


def _json_lines(archive: zipfile.ZipFile, member: Member) -> Iterator[tuple[int, dict[str, Any]]]:
    with archive.open(member.name) as file:
        number = 0
        while line := file.readline(LINE_BYTES_MAX):
            number += 1
            try:
                row = json.loads(line)
            except ValueError:
                raise ArchiveFault(member.name, f"line {number} is no JSON") from None
            if not isinstance(row, dict):
                raise ArchiveFault(member.name, f"line {number} is no object")
            yield number, row


# --- assets --------------------------------------------------------------------------------------


def _assets(
    archive: zipfile.ZipFile, manifest: Manifest
) -> tuple[list[Draft], list[RowFault], list[Tariff]]:
    drafts: list[Draft] = []
    faults: list[RowFault] = []
    prices: list[Tariff] = []
    for member in manifest.members:
        if member.name == "assets/tariffs.jsonl":
            for number, row in _json_lines(archive, member):
                prices.append(_price(row, member, number))
        elif member.name.startswith("assets/"):
            if member.bytes > LINE_BYTES_MAX:
                raise ArchiveFault(member.name, "it is larger than any feeder")
            try:
                rows, wrong = read_geojson(archive.read(member.name), member.name)
            except FileRefused as refused:
                raise ArchiveFault(member.name, str(refused)) from None
            told, more = drafts_of(rows)
            drafts += told
            faults += [*wrong, *more]
    return drafts, faults, prices


def _price(row: Mapping[str, Any], member: Member, number: int) -> Tariff:
    begins = read_time(str(row.get("valid_from")))
    try:
        price = Decimal(str(row["price_per_kwh"]))
        if begins is None or not price.is_finite():
            raise ValueError("a time or a price that is none")
        return Tariff(
            id=str(row["id"]),
            price_per_kwh=price,
            currency=str(row["currency"]),
            valid_from=begins,
        )
    except (KeyError, ValueError, InvalidOperation) as error:
        raise ArchiveFault(member.name, f"line {number} is no price: {error}") from None


async def _restore_assets(
    store: HeadEndStore,
    drafts: list[Draft],
    prices: list[Tariff],
    name: str,
    *,
    who: str,
    now: datetime,
) -> int:
    changed: list[int] = []

    def decide(known: AssetsKnown) -> AssetsChange:
        new = [price for price in prices if price not in known.tariffs]
        planned = plan(drafts, (), known.feeders, [*known.tariffs, *new])
        if planned.faults:
            raise ArchiveFault(
                planned.faults[0].sheet,
                str(planned.faults[0]),
                "the store knows other assets of these feeders: import into an empty one",
            )
        changed.append(len(planned.changes) + len(new))
        result = f"{changed[-1]} assets new or changed"
        entry = Entry(who=who, what="archive imported", why=name, result=result)
        return AssetsChange(planned.after, new, (entry,))

    await store.change_assets(feeders_of(drafts), decide, now)
    return changed[-1]


# --- budgets -------------------------------------------------------------------------------------


def _budgets(archive: zipfile.ZipFile, manifest: Manifest) -> dict[tuple[str, str], int]:
    """Return what gateways may send in a month; of an archive older than they are, none."""
    budgets: dict[tuple[str, str], int] = {}
    for member in manifest.members:
        if member.name != "budgets.jsonl":
            continue
        for number, row in _json_lines(archive, member):
            try:
                place = str(row["feeder_id"]), str(row["gateway_id"])
                if not all(map(is_id, place)):
                    raise ValueError(f"{' and '.join(place)} name no gateway")
                budgets[place] = checked_budget(int(row["month_bytes"]))
            except (KeyError, TypeError, ValueError) as error:
                raise ArchiveFault(member.name, f"line {number} is no budget: {error}") from None
    return budgets


async def _set(
    store: HeadEndStore, budgets: Mapping[tuple[str, str], int], *, who: str, now: datetime
) -> int:
    known = await store.budgets()
    new = {place: most for place, most in budgets.items() if known.get(place) != most}
    for (feeder_id, gateway_id), most in new.items():
        entry = budget_entry(gateway_id, most, who=who)
        await store.set_budget(feeder_id, gateway_id, most, entry, now)
    return len(new)
