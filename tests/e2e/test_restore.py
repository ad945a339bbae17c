"""A head-end dies and an older state of it goes on: nothing is switched twice, and no reading stays missing."""

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.conftest import StartMosquitto
from tests.e2e.commanded import commanded_village, until
from tests.headend.program import openami_process

from openami.gateway.driver import RelayPosition

pytestmark = [pytest.mark.broker, pytest.mark.slow]

# A gap is asked for when nothing has filled one for so long; by default it is two minutes.
IMPATIENT = "\n[completeness]\ngrace_s = 1.0\n"


def stored(path: Path) -> set[tuple[object, ...]]:
    """Return every reading a store holds: of which meter and register, when, and its value."""
    with closing(sqlite3.connect(path)) as store:
        return set(store.execute("SELECT meter_serial, obis, ts, value FROM readings"))


async def test_an_older_state_goes_on_without_switching_twice_and_gets_back_what_it_missed(
    mosquitto: StartMosquitto, tmp_path: Path
) -> None:
    async with commanded_village(
        mosquitto, tmp_path, meters=2, billing_s=2, headend_more=IMPATIENT
    ) as system:
        serial = system.serials[0]
        old = Path(system.store_url.removeprefix("sqlite:///"))
        backup = tmp_path / "backup.tar"

        # The gateway is away: what is asked for waits for a session, and so it stands in the backup.
        await system.gateway.stop()
        asked = await system.run_json(
            "command",
            "send",
            "relay-disconnect",
            serial,
            "--reason",
            "unpaid",
            "--valid-for",
            "10m",
        )
        assert command(old, asked["id"]) == (None, "ISSUED")
        await system.run("headend", "backup", str(backup))

        # The world goes on: the house is cut off, and readings come and are acknowledged.
        await system.gateway.start()
        await until(lambda: command(old, asked["id"])[1] == "CONFIRMED")
        before = len(stored(old))
        await until(lambda: len(stored(old)) > before + 40)
        assert system.orders()[serial] == 1
        await system.headend.kill()
        lost = stored(old)

        # The disk is gone. What was backed up goes on, under the name of the old.
        for end in ("", "-wal", "-shm"):
            old.with_name(old.name + end).unlink(missing_ok=True)
        row = json.loads(
            await asyncio.to_thread(
                openami_process,
                "headend",
                "restore",
                str(backup),
                "--store",
                system.store_url,
                "--json",
            )
        )
        assert row["commandsUnknown"] == 1
        assert len(stored(old)) < len(lost)
        await system.headend.start()

        # What was lost with the disk is asked for and told again; the order is not given again.
        await until(lambda: stored(old) >= lost)
        assert system.orders() == {serial: 1}
        assert (
            command(old, asked["id"])[1] == "UNKNOWN"
        )  # the relay tells, at the head-end's next look

        # And the restored head-end can command: in a session of its own, with numbers of its own.
        await system.run_json(
            "command", "send", "relay-reconnect", serial, "--reason", "paid", "--wait", "30s"
        )
        assert [position for _, position in system.village.orders] == [
            RelayPosition.DISCONNECTED,
            RelayPosition.CONNECTED,
        ]
        assert "store restored" in await system.run("audit", "list")
        system.assert_sound()


def command(store: Path, id_: str) -> tuple[object, object]:
    """Return when a command was sent, and its state."""
    with closing(sqlite3.connect(store)) as connection:
        [row] = connection.execute("SELECT sent_at, state FROM command WHERE id = ?", (id_,))
    return row[0], row[1]
