"""A day from the pole to an auditor's table, who has the roots and nothing else: the commands as they are run."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.gateway.clock_double import ClockDouble
from tests.gateway.outbox_samples import telemetry
from tests.gateway.pole import openami
from tests.headend.village_keys import FEEDER, GATEWAY, keyring, signer, write_key, write_roots

from openami.gateway.export import Selection, export_backlog
from openami.gateway.outbox import Draft, OutboxLimits, open_outbox
from openami.gateway.statements import GRACE, DayStatements
from openami.headend.audit import Entry
from openami.headend.store.commands import StoredKeyring
from openami.headend.store.open import open_store
from openami.profile import FeederId, GatewayId

pytestmark = pytest.mark.slow
METERS = 3
# The keyring has to be in force on the day and when the desk certifies, by its own clock: today.
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
BEGIN = TODAY - timedelta(days=2)


async def a_day_at_the_pole(directory: Path) -> Path:
    """Measure for a day, state it, and write it to a stick."""
    clock, database = ClockDouble(BEGIN), directory / "gateway.db"
    async with open_outbox(database, OutboxLimits(), clock) as outbox:
        states = DayStatements(
            outbox, signer(GATEWAY), feeder_id=FEEDER, gateway_id=GATEWAY, clock=clock
        )
        await states.look()
        for meter in range(METERS):
            made = telemetry(clock.now(), meter)
            envelope = replace(
                made.envelope, feeder_id=FeederId(FEEDER), gateway_id=GatewayId(GATEWAY)
            )
            await outbox.append([Draft(envelope, made.kind, made.group)])
        clock.set(BEGIN + timedelta(days=1) + GRACE, synchronised=True)
        await outbox.append([])
        await states.look()
    stick = directory / "stick"
    selection = Selection(FEEDER, GATEWAY)
    export_backlog(database, stick, selection, signer=signer(GATEWAY), now=clock.now())
    return stick


class Desk:
    """The operator's: configuration, keys and store."""

    def __init__(self, directory: Path) -> None:
        self.store = f"sqlite:///{directory}/headend.db"
        self.config = directory / "headend.toml"
        self.roots = write_roots(directory / "keys" / "roots.json")
        self.keyring = directory / "keyring.json"
        self.keyring.write_bytes(keyring(now=BEGIN))
        self.config.write_text(
            f'store = "{self.store}"\n[signing]\nroots_file = "{self.roots}"\n'
            f'key_file = "{write_key(directory / "keys" / "hes.pem", "hes-1")}"\n'
        )

    async def open(self) -> None:
        stored = StoredKeyring(FEEDER, GATEWAY, 1, self.keyring.read_bytes(), BEGIN, "anita")
        async with open_store(self.store) as store:
            await store.add_keyring(stored, Entry(who="anita", what="keyring added"))


def test_from_the_pole_to_an_auditor(tmp_path: Path) -> None:
    stick, desk = asyncio.run(a_day_at_the_pole(tmp_path)), Desk(tmp_path)
    asyncio.run(desk.open())
    file, day = tmp_path / "day.json", str(BEGIN.date())

    def certify() -> int:
        place = (FEEDER, "--gateway", GATEWAY, "--day", day, "-c", str(desk.config))
        done = openami("feeder", "certificate", *place, "--out", str(file), "--store", desk.store)
        return done.returncode

    def verify(what: Path, *more: str) -> tuple[int, dict[str, object]]:
        done = openami("verify", str(what), "--roots", str(desk.roots), "--json", *more)
        assert "Traceback" not in done.stderr
        return done.returncode, json.loads(done.stdout)

    assert certify() == 1  # nothing has come yet
    assert not file.exists()

    code, told = verify(stick, "--keyring", str(desk.keyring))
    assert (code, told["kind"], told["messages"]) == (0, "backlog", METERS + 1)
    assert verify(stick)[0] == 4
    place = ("-c", str(desk.config), "--store", desk.store, "--json")
    taken = openami("headend", "import", str(stick), *place)
    assert taken.returncode == 0, taken.stderr
    # A statement is a report of a day: no command's, and not disbelieved for it.
    ledger = json.loads(taken.stdout)
    assert (ledger["events"], ledger["reports"], ledger["reportsNotBelieved"]) == (1, 0, 0)

    assert certify() == 0
    code, told = verify(file)
    assert (code, told["complete"], told["readings"], told["meters"]) == (0, True, 6, METERS)
    spoken = openami("verify", str(file), "--roots", str(desk.roots))
    assert "the roots vouch for both" in spoken.stderr

    forged = tmp_path / "forged.json"
    forged.write_text(file.read_text().replace(day, str(BEGIN.date() - timedelta(days=1)), 1))
    assert verify(forged)[0] == 4
    forged.write_text(file.read_text()[:-10])
    code, told = verify(forged)
    assert (code, told["fault"]) == (1, "NOT_A_CERTIFICATE")
    stick.write_bytes(stick.read_bytes()[:-1])
    code, told = verify(stick, "--keyring", str(desk.keyring))
    assert (code, told["fault"]) == (1, "TRUNCATED")
