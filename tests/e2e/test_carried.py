"""A stick from a pole to the operator's desk, as the programs they are, beside a running head-end."""

import asyncio
import json
import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.conftest import StartMosquitto
from tests.gateway.clock_double import START, ClockDouble
from tests.gateway.outbox_samples import telemetry
from tests.gateway.pole import openami
from tests.headend.program import head_end
from tests.headend.program import openami_process as openami_ended
from tests.headend.village_keys import FEEDER, GATEWAY, keyring, write_key, write_roots

from openami.clock import SystemClock
from openami.gateway.outbox import Draft, OutboxLimits, open_outbox
from openami.headend.audit import Entry
from openami.headend.store import Access
from openami.headend.store.commands import StoredKeyring
from openami.headend.store.open import open_store
from openami.profile import FeederId, GatewayId

pytestmark = [pytest.mark.broker, pytest.mark.slow]
METERS = 40


class Pole:
    """A gateway's directory with a backlog in it."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.config = directory / "gateway.toml"
        self.database = directory / "data" / "gateway.db"
        self.database.parent.mkdir()
        key = write_key(directory / "keys" / "sip.key", GATEWAY)
        roots = write_roots(directory / "keys" / "roots.json")
        self.text = f'feeder_id = "{FEEDER}"\ngateway_id = "{GATEWAY}"\ndata_dir = "{self.database.parent}"\n'
        self.commands = f'[commands]\nkey_file = "{key}"\nroots_file = "{roots}"\n'
        self.lines = (
            '[[line]]\ndriver = "modbus"\nname = "l"\ntransport = "tcp"\nhost = "127.0.0.1"\n'
            'port = 1\n[[line.meter]]\nserial = "DS1000-00001"\nunit = 1\nmap = "sdm120"\n'
        )
        self.config.write_text(self.text + self.commands + self.lines)

    async def read_meters(self) -> None:
        def draft(meter: int) -> Draft:
            made = telemetry(START, meter)
            envelope = replace(
                made.envelope, feeder_id=FeederId(FEEDER), gateway_id=GatewayId(GATEWAY)
            )
            return Draft(envelope, made.kind, made.group)

        async with open_outbox(self.database, OutboxLimits(), ClockDouble()) as outbox:
            await outbox.append([draft(meter) for meter in range(METERS)])


def import_(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return openami("headend", "import", *map(str, arguments))


def test_a_backlog_walks_on_a_stick(tmp_path: Path, mosquitto: StartMosquitto) -> None:
    pole, stick = Pole(tmp_path / "pole"), tmp_path / "stick"
    stick.mkdir()
    asyncio.run(pole.read_meters())
    told = openami("gateway", "export", "-c", str(pole.config), str(stick), "--json")
    assert told.returncode == 0, told.stderr
    row = json.loads(told.stdout)
    assert (row["messages"], row["firstSeq"], row["lastSeq"]) == (METERS, 1, METERS)
    file = row["file"]

    store = f"sqlite:///{tmp_path}/headend.db"
    config = tmp_path / "headend.toml"
    config.write_text(
        f'store = "{store}"\n[mqtt]\nurl = "{mosquitto().url}"\nclient_id = "hes-1"\n'
        f'[signing]\nkey_file = "{write_key(tmp_path / "desk" / "hes.pem", "hes-1")}"\n'
        f'roots_file = "{write_roots(tmp_path / "desk" / "roots.json")}"\n'
    )
    with head_end(tmp_path / "log", "--config", config) as program:
        program.wait_until_ready()

        early = import_(file, "-c", config, "--store", store)
        assert early.returncode == 4
        assert "NOT_BELIEVED" in early.stderr
        assert "keyring" in early.stderr

        async def publish_keyring() -> None:
            now = SystemClock().now()
            stored = StoredKeyring(FEEDER, GATEWAY, 1, keyring(now=now), now, "anita")
            async with open_store(store, Access.EDIT) as opened:
                await opened.add_keyring(stored, Entry(who="anita", what="keyring added"))

        asyncio.run(publish_keyring())
        dry = import_(file, "-c", config, "--store", store, "--dry-run", "--json")
        assert json.loads(dry.stdout)["stored"] is None
        assert openami_ended("meter", "list", "--store", store, "--json") == ""

        for stored, duplicates in ((2 * METERS, 0), (0, 2 * METERS)):
            done = import_(file, "-c", config, "--store", store, "--json")
            assert done.returncode == 0, done.stderr
            ledger = json.loads(done.stdout)
            assert (ledger["messages"], ledger["rejectedMessages"]) == (METERS, 0)
            assert (ledger["stored"], ledger["duplicates"]) == (stored, duplicates)

        Path(file).write_bytes(Path(file).read_bytes()[:-1])
        cut = import_(file, "-c", config, "--store", store)
        assert cut.returncode == 1
        assert "TRUNCATED" in cut.stderr
        assert "copy it again" in cut.stderr


def test_without_a_key_it_is_said_at_both_ends(tmp_path: Path) -> None:
    pole = Pole(tmp_path / "pole")
    pole.config.write_text(pole.text + pole.lines)
    asyncio.run(pole.read_meters())
    file, store = tmp_path / "file", f"sqlite:///{tmp_path}/headend.db"

    async def make_store() -> None:
        async with open_store(store):
            pass

    asyncio.run(make_store())
    refused = openami("gateway", "export", "-c", str(pole.config), str(file))
    assert refused.returncode == 2
    assert "--unsigned" in refused.stderr
    done = openami("gateway", "export", "-c", str(pole.config), str(file), "--unsigned")
    assert done.returncode == 0
    assert "NOT SIGNED" in done.stderr
    roots = write_roots(tmp_path / "desk" / "roots.json")
    strict = import_(file, "--roots", roots, "--store", store)
    assert strict.returncode == 4
    assert "UNSIGNED" in strict.stderr
    assert import_(file, "--store", store).returncode == 2
    taken = import_(file, "--unsigned", "--store", store, "--json")
    assert json.loads(taken.stdout)["stored"] == 2 * METERS
