"""A carried backlog let in: proven before anything is stored, and stored once, on both engines."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.carrying import FEEDER, GATEWAY, file_of, telemetry, topic
from tests.gateway.clock_double import ClockDouble
from tests.headend.test_command_store import a_command, signing
from tests.headend.village_keys import METER, ROOTS, START, keyring, signer

from openami.headend import carried
from openami.headend.audit import Entry
from openami.headend.carried import BATCH_MESSAGES_MAX, Ledger
from openami.headend.ingest import Message
from openami.headend.intake import Intake
from openami.headend.statistics import Statistics
from openami.headend.store import Access, Tally
from openami.headend.store.commands import HeadEndStore, StoredKeyring
from openami.headend.store.open import open_store
from openami.profile import EventTopic, FeederId, GatewayId, MeterSerial, shipped_catalogue
from openami.profile.command import CommandState
from openami.sip.acts import ActType
from openami.sip.carried import Carried, CarriedError, Fault, check_signer
from openami.sip.compose import sign
from openami.sip.keys import Signer
from openami.sip.reports import ReportStatus, report_members

BAD = Carried(topic(), b'{"schemaVersion":"0.1"}')


LATER = START + timedelta(hours=1)


async def import_(store: HeadEndStore, file: Path, *, dry_run: bool = False) -> Ledger:
    """Import as the command does."""
    proven = carried.prove(file)
    found = await carried.keyring_for(store, proven.header, ROOTS)
    check_signer(proven.header, proven.seal, None if found is None else found.keyring)
    return await carried.let_in(
        file,
        proven,
        store,
        found=found,
        catalogue=shipped_catalogue(),
        clock=ClockDouble(LATER),
        dry_run=dry_run,
    )


@pytest.fixture
async def known(store: HeadEndStore) -> HeadEndStore:
    stored = StoredKeyring(FEEDER, GATEWAY, 1, keyring(), START, "anita")
    await store.add_keyring(stored, Entry(who="anita", what="keyring added"))
    return store


def written(path: Path, messages: list[Carried], by: Signer | None) -> Path:
    path.write_bytes(file_of(messages, by))
    return path


async def test_every_message_is_stored_once_however_often_it_is_imported(
    known: HeadEndStore, tmp_path: Path
) -> None:
    count = BATCH_MESSAGES_MAX + 1  # one step past a batch
    messages = [telemetry(number) for number in range(1, count)]
    file = written(tmp_path / "file", [*messages, BAD], signer(GATEWAY))
    first = await import_(known, file)
    assert (first.read, first.tally.stored, first.tally.rejected_messages) == (
        count,
        2 * count - 2,
        1,
    )
    readings = [reading async for reading in known.readings(FEEDER, METER)]
    assert len(readings) == 2 * count - 2
    again = await import_(known, file)
    assert again.tally == replace(first.tally, stored=0, duplicates=first.tally.stored)
    assert [reading async for reading in known.readings(FEEDER, METER)] == readings
    assert [reject.count for reject in await known.rejects()] == [2]


async def test_a_dry_run_judges_and_stores_nothing(known: HeadEndStore, tmp_path: Path) -> None:
    file = written(tmp_path / "file", [telemetry(1), BAD], signer(GATEWAY))
    ledger = await import_(known, file, dry_run=True)
    assert (ledger.read, ledger.tally.rejected_messages) == (2, 1)
    assert await known.totals() == Tally()
    assert not await known.meters()


@pytest.mark.parametrize("who", ["stranger", "hes-1", None])
async def test_who_is_not_the_gateway_stores_nothing(
    known: HeadEndStore, tmp_path: Path, who: str | None
) -> None:
    file = written(tmp_path / "file", [telemetry(1)], None if who is None else signer(who))
    with pytest.raises(CarriedError):
        await import_(known, file)
    assert await known.totals() == Tally()


async def test_of_a_file_that_is_broken_at_its_end_nothing_is_stored(
    known: HeadEndStore, tmp_path: Path
) -> None:
    data = file_of([telemetry(number) for number in range(1, 2000)], signer(GATEWAY))
    file = tmp_path / "file"
    for broken in (data[:-1], data[:-200], data + data):
        file.write_bytes(broken)
        with pytest.raises(CarriedError):
            await import_(known, file)
    assert await known.totals() == Tally()
    file.write_bytes(data)
    assert (await import_(known, file)).tally.messages == 1999


async def test_a_file_exchanged_after_it_was_proven_is_told(
    known: HeadEndStore, tmp_path: Path
) -> None:
    file = written(tmp_path / "file", [telemetry(1)], signer(GATEWAY))
    proven = carried.prove(file)
    written(file, [telemetry(2)], signer("stranger"))
    with pytest.raises(CarriedError) as raised:
        await carried.let_in(
            file, proven, known, found=None, catalogue=shipped_catalogue(), clock=ClockDouble(LATER)
        )
    assert raised.value.fault is Fault.ALTERED


async def test_an_interrupted_import_is_finished_by_the_next(
    known: HeadEndStore, tmp_path: Path
) -> None:
    messages = [telemetry(number) for number in range(1, 3 * BATCH_MESSAGES_MAX)]
    file = written(tmp_path / "file", messages, signer(GATEWAY))
    proven = carried.prove(file)

    class PulledOutError(Exception):
        pass

    def pull_out(read: int) -> None:
        if read > BATCH_MESSAGES_MAX:
            raise PulledOutError

    with pytest.raises(PulledOutError):
        await carried.let_in(
            file,
            proven,
            known,
            found=None,
            catalogue=shipped_catalogue(),
            clock=ClockDouble(LATER),
            on_batch=pull_out,
        )
    ledger = await import_(known, file)
    assert ledger.tally.stored + ledger.tally.duplicates == 2 * len(messages)
    assert ledger.tally.duplicates == 4 * BATCH_MESSAGES_MAX


async def test_beside_a_running_head_end(
    known: HeadEndStore, store_url: str, tmp_path: Path
) -> None:
    """Both write the same meter's registers, new to both, in turn."""
    running = Intake(known, catalogue=shipped_catalogue(), statistics=Statistics())
    file = written(tmp_path / "file", [telemetry(n) for n in range(1, 1200)], signer(GATEWAY))
    async with open_store(store_url, Access.EDIT) as beside:
        for number in (1, 600, 1300):
            live = telemetry(number)
            decisions = await running.judge(
                [Message(live.topic, live.payload, ClockDouble(LATER).now())]
            )
            await running.commit(decisions)
            await import_(beside, file)
    assert len([reading async for reading in known.readings(FEEDER, METER)]) == 2 * 1200


def a_report(digest: str, by: Signer) -> Carried:
    place = EventTopic(FeederId(FEEDER), GatewayId(GATEWAY), MeterSerial(METER))
    members = report_members(
        place,
        session_id="sip-1",
        seq=1,
        ticket=None,
        command_digest=digest,
        status=ReportStatus.REFUSED,
        code="LOCKOUT",
        nonce="AAECAwQFBgcICQoLDA0ODw",
        registers=[{"obis": "96.1.0", "value": METER, "unit": "", "quality": "good"}],
        ts=START,
    )
    signed = sign(members, by, ActType.REPORT, iat=int(START.timestamp()))
    return Carried(str(place), json.dumps(signed, separators=(",", ":")).encode())


async def test_a_report_that_was_carried_ends_its_command(
    known: HeadEndStore, tmp_path: Path
) -> None:
    digest = "d" * 43
    command = a_command(feeder_id=FEEDER, gateway_id=GATEWAY, meter_serial=METER)
    await known.request_command(command, START)
    await known.change_command("cmd-1", signing(1, digest), START)

    forged = written(tmp_path / "forged", [a_report(digest, signer("hes-1"))], signer(GATEWAY))
    ledger = await import_(known, forged)
    assert (ledger.reports, ledger.refused_reports) == (0, 1)
    open_one = await known.command("cmd-1")
    assert open_one is not None
    assert open_one.is_open

    file = written(tmp_path / "file", [a_report(digest, signer(GATEWAY))], signer(GATEWAY))
    for _ in range(2):
        ledger = await import_(known, file)
        assert (ledger.reports, ledger.refused_reports) == (1, 0)
        ended = await known.command("cmd-1")
        assert ended is not None
        assert (ended.state, ended.code) == (CommandState.REFUSED, "LOCKOUT")
