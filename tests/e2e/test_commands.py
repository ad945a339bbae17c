"""A command end to end: command line, head-end, TLS, broker, gateway, Modbus, relay, and the signed report back.

Every program is the real one; the Modbus servers count each order a relay is given.
"""

import asyncio
import json
import random
import subprocess
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import StartMosquitto
from tests.e2e.accounting import stored, taken_in
from tests.e2e.commanded import (
    DEADLINE_S,
    FEEDER_ID,
    GATEWAY_ID,
    OBSERVER,
    SEED,
    TAMPERER,
    System,
    commanded_village,
    until,
)
from tests.tools import require_tool

from openami.clock import SystemClock
from openami.headend.commands import LedgerCommand
from openami.headend.store import Access
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.open import open_store
from openami.mqtt.port import Connection
from openami.profile import CommandTopic, MeterSerial
from openami.profile.command import CommandState
from openami.sip.actions import Action

pytestmark = [pytest.mark.broker, pytest.mark.slow]

COMMANDS = CommandTopic.filter(FEEDER_ID, GATEWAY_ID)
# What is published again is taken within milliseconds; a relay that has not moved by then does not.
SETTLED_S = 1.0


async def captured(observer: Connection) -> tuple[str, bytes]:
    """Return the next command on the wire."""
    async with asyncio.timeout(DEADLINE_S):
        [delivery] = await observer.receive(1)
    observer.acknowledge([delivery])
    return delivery.topic, delivery.payload


def publish_raw(system: System, topic: str, payload: bytes, *flags: str) -> None:
    """Publish as a broker in an attacker's hands would: past every access rule, with any flag."""
    settings = system.client(TAMPERER)
    assert settings.ca_file is not None
    assert settings.cert_file is not None
    subprocess.run(
        [
            require_tool("mosquitto_pub"),
            *("-h", "localhost", "-p", str(system.broker.port), "-q", "1", "-t", topic),
            *("-i", TAMPERER, "--cafile", settings.ca_file, "--cert", settings.cert_file),
            *("--key", settings.cert_file, "-s", *flags),
        ],
        input=payload,
        check=True,
        timeout=DEADLINE_S,
    )


async def test_a_disconnect_from_the_command_line_to_the_load_and_no_replay_moves_anything(
    mosquitto: StartMosquitto, tmp_path: Path
) -> None:
    # A broker in an attacker's hands retains as well.
    hostile = {"retain_available false": "retain_available true"}
    async with (
        commanded_village(mosquitto, tmp_path, meters=4, broker_changes=hostile) as system,
        system.joined(OBSERVER, COMMANDS) as observer,
    ):
        house = max(system.serials, key=system.power_w)
        neighbour = next(serial for serial in system.serials if serial != house)
        assert system.power_w(house) > 0

        done = await send(system, "relay-disconnect", house, "--reason", "unpaid since March")
        assert (done["state"], done["code"]) == ("confirmed", "OK")
        assert system.power_w(house) == 0
        assert system.orders() == {house: 1}
        topic, payload = await captured(observer)
        assert await latest_relay(system, house) == "disconnected"

        back = await send(system, "relay-reconnect", house)
        assert (back["state"], back["sessionId"]) == ("confirmed", done["sessionId"])
        assert system.power_w(house) > 0
        assert system.orders() == {house: 2}
        await captured(observer)

        before = await system.run("command", "list", "--json")
        await replay(system, topic, payload, neighbour)
        assert system.orders() == {house: 2}
        assert system.power_w(house) > 0
        assert await system.run("command", "list", "--json") == before

        # Retained, it waits for every restart; it was refused once, and is refused again.
        await asyncio.to_thread(publish_raw, system, topic, payload, "-r")
        await system.gateway.kill()
        await system.gateway.start()
        await asyncio.sleep(SETTLED_S)
        arm = await send(system, "relay-reconnect", neighbour)
        assert arm["state"] == "confirmed", "a gateway that was lied to still obeys"
        assert system.orders() == {house: 2, neighbour: 1}
        shown = await system.run("command", "show", done["id"], "--json")
        assert json.loads(shown)["state"] == "confirmed"
        await system.run("audit", "verify")
        system.assert_sound()


async def send(system: System, kind: str, serial: MeterSerial, *words: str) -> dict[str, Any]:
    """Send a command from the command line; it is confirmed, or the test fails."""
    return await system.run_json("command", "send", kind, serial, "--wait", "30s", *words)


async def replay(system: System, topic: str, payload: bytes, neighbour: MeterSerial) -> None:
    """Publish a captured command again: as it was, to a neighbour, with another number, another name."""
    members = json.loads(payload)
    elsewhere = topic.replace(members["meterSerial"], neighbour)
    renumbered = {**members, "command": {**members["command"], "seq": 1000}}
    later = {**members, "command": {**members["command"], "notAfter": "2036-01-01T00:00:00Z"}}
    unsigned = {name: value for name, value in members.items() if name != "signature"}
    forged = [
        (topic, payload),
        (topic, payload),
        (elsewhere, payload),
        (elsewhere, json.dumps({**members, "meterSerial": neighbour}).encode()),
        (topic, json.dumps(renumbered).encode()),
        (topic, json.dumps(later).encode()),
        (topic, json.dumps(unsigned).encode()),
        (topic, payload.replace(b'"disconnected"', b'"connected"', 1)),
    ]
    async with system.joined(TAMPERER) as tamperer:
        for where, what in forged:
            await tamperer.publish(where, what)
    await asyncio.sleep(SETTLED_S)


async def latest_relay(system: System, serial: MeterSerial) -> str:
    """Return the relay's position as telemetry brings it, at its next reading."""
    async with open_store(system.store_url, Access.READ) as store, asyncio.timeout(DEADLINE_S):
        while True:
            for reading in await store.latest(FEEDER_ID, serial):
                if str(reading.obis) == "96.11.1" and reading.value == "disconnected":
                    return str(reading.value)
            await asyncio.sleep(0.1)


# --- killed ---------------------------------------------------------------------------------------

KILLS = 6
COMMANDS_EACH_TURN = 3


async def test_killed_at_random_moments_every_command_ends_once_and_moves_once(
    mosquitto: StartMosquitto, tmp_path: Path
) -> None:
    """Broker, gateway and head-end in turn; each house is asked to be cut off once."""
    chance = random.Random(SEED)
    houses = KILLS * COMMANDS_EACH_TURN
    async with (
        commanded_village(mosquitto, tmp_path, meters=houses + 1) as system,
        open_store(system.store_url, Access.EDIT) as store,
    ):
        waiting = list(system.serials)
        asked: list[LedgerCommand] = []
        for turn in range(KILLS):
            for _ in range(COMMANDS_EACH_TURN):
                asked.append(await request(store, waiting.pop(), Action.DISCONNECT))
                await asyncio.sleep(chance.uniform(0.0, 0.03))
            await asyncio.sleep(chance.uniform(0.0, 0.05))
            await kill_and_start(system, turn)
        ended = await all_ended(store, [command.id for command in asked])
        orders = system.orders()
        assert set(orders.values()) == {1}, orders
        for command in ended:
            moved = orders[MeterSerial(command.meter_serial)]
            outcome = command.resolved_as or command.state
            assert not command.is_open
            if outcome is CommandState.CONFIRMED:
                assert moved == 1
            elif outcome in (CommandState.REFUSED, CommandState.EXPIRED):
                assert moved == 0
        states = [command.resolved_as or command.state for command in ended]
        assert states.count(CommandState.CONFIRMED) >= houses - KILLS
        # Once ended, ended: what is repeated on the next connections changes nothing.
        await kill_and_start(system, turn=0)
        await asyncio.sleep(SETTLED_S)
        assert [c.state for c in await all_ended(store, [c.id for c in asked])] == [
            command.state for command in ended
        ]
        assert system.orders() == orders
        await system.run("audit", "verify")
        assert_ended_once(await system.run("audit", "list", "--json", "--limit", "1000"), asked)
        system.assert_sound()


async def request(
    store: HeadEndStore, serial: MeterSerial, action: Action, **args: object
) -> LedgerCommand:
    """Ask for a command as the command line does."""
    now = SystemClock().now()
    new = LedgerCommand(
        id=f"cmd-{serial}",
        feeder_id=FEEDER_ID,
        gateway_id=GATEWAY_ID,
        meter_serial=serial,
        action=action,
        args=args,
        requested_by="anita",
        reason="",
        requested_at=now,
        not_after=(now + timedelta(minutes=5)).replace(microsecond=0),
        due_at=now,
    )
    await store.request_command(new, now)
    return new


async def kill_and_start(system: System, turn: int) -> None:
    """Kill the next of the three with -9 and start it again."""
    match turn % 3:
        case 0:
            await asyncio.to_thread(system.broker.kill)
            await asyncio.to_thread(system.broker.start)
        case 1:
            await system.gateway.kill()
            await system.gateway.start()
        case _:
            await system.headend.kill()
            await system.headend.start()


async def all_ended(store: HeadEndStore, ids: list[str]) -> list[LedgerCommand]:
    """Return the commands when all of them have ended."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            found = [await store.command(each) for each in ids]
            ended = [command for command in found if command is not None and not command.is_open]
            if len(ended) == len(ids):
                return ended
            await asyncio.sleep(0.1)


def assert_ended_once(audit: str, asked: list[LedgerCommand]) -> None:
    """Each command's end stands in the audit log exactly once."""
    told = [json.loads(line) for line in audit.splitlines()]
    for command in asked:
        own = [entry for entry in told if entry["command_id"] == command.id]
        assert [entry["what"] for entry in own].count("command ended") == 1, own


# --- readings a broker lost -------------------------------------------------------------------------


async def test_what_a_killed_broker_lost_is_brought_back_by_readings_resend(
    mosquitto: StartMosquitto, tmp_path: Path
) -> None:
    # Nothing on its disk in between: what it has acknowledged is gone with it.
    forgetful = {"autosave_interval 1": "autosave_interval 3600"}
    async with commanded_village(mosquitto, tmp_path, meters=4, broker_changes=forgetful) as system:
        begun = SystemClock().now()
        await system.headend.kill()
        at_kill = len(taken_in(system.outbox, "sent"))
        await until(lambda: len(taken_in(system.outbox, "sent")) > at_kill + 50)
        await asyncio.to_thread(system.broker.kill)
        await asyncio.to_thread(system.broker.start)
        await system.headend.start()
        # Subscribed again: what the broker takes from here on, it delivers.
        log = tmp_path / "headend.log"
        await until(lambda: log.read_text().count("ready:") == 2)
        async with open_store(system.store_url, Access.READ) as store:
            lost = await missing(system, store)
            assert len(lost) > 20, "the broker has lost nothing, so nothing is shown"
            # Before the first reading and after the last that can have been lost.
            span = (begun - timedelta(seconds=30), SystemClock().now() + timedelta(seconds=1))
            done = await system.run_json(
                "command", "send", "readings-resend", system.serials[0], "--wait", "30s",
                "--feeder", FEEDER_ID, "--gateway", GATEWAY_ID,
                "--arg", f"from={moment(span[0])}", "--arg", f"to={moment(span[1])}",
            )  # fmt: skip
            assert done["state"] == "confirmed"
            async with asyncio.timeout(DEADLINE_S):
                # What waits to be sent once more is not "sent" now: the store alone decides.
                while not lost <= {identity for identity, _ in await stored(store, FEEDER_ID)}:
                    await asyncio.sleep(0.1)
                await system.gateway.stop()
                while await missing(system, store):
                    await asyncio.sleep(0.1)
            sent, kept = taken_in(system.outbox, "sent"), await stored(store, FEEDER_ID)
            identities = [identity for identity, _ in kept]
            assert len(identities) == len(set(identities))
            assert set(identities) >= sent.keys() | lost
            assert all(sent.get(identity, value) == value for identity, value in kept)
            assert (await store.totals()).conflicts == 0
        assert system.village.orders == []
        system.assert_sound()


async def missing(system: System, store: HeadEndStore) -> set[tuple[str, str, str]]:
    """Return the readings that the gateway has as sent and the store does not have."""
    sent = taken_in(system.outbox, "sent").keys()
    return set(sent) - {identity for identity, _ in await stored(store, FEEDER_ID)}


def moment(at: datetime) -> str:
    """Return a time as a command's arguments have it."""
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
