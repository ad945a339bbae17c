"""Each part killed, frozen, misconfigured or run twice: what the gateway recorded is stored exactly once."""

import asyncio
import shutil
from collections import Counter
from pathlib import Path

import pytest
from tests.conftest import StartMosquitto
from tests.e2e.accounting import Identity, stored, taken_in
from tests.e2e.commanded import (
    DEADLINE_S,
    FEEDER_ID,
    GATEWAY_ID,
    Surroundings,
    commanded_village,
    until,
)
from tests.e2e.faults import (
    ROUNDS,
    ROUNDS_DEADLINE_S,
    UNPACED,
    all_sent,
    assert_every_reading_once,
    bring_back,
    chance,
    frozen,
    kill_and_start,
    lost_by_the_broker,
    pid,
)
from tests.postgres import Postgres

from openami.clock import SystemClock
from openami.headend.store import Access
from openami.headend.store.open import open_store
from openami.headend.village import HES
from openami.profile import Value
from openami.simulator.programs import Program

pytestmark = [pytest.mark.broker, pytest.mark.slow]

METERS = 10
PARTS = ("gateway", "headend", "broker")
KEEPALIVE_S = 5
# A broker misses its client after one and a half times the keep-alive, and looks every five seconds; a client asks
# after one keep-alive, and gives up after another.
CLIENT_FROZEN_S = 13.0
BROKER_FROZEN_S = 11.0


@pytest.mark.timeout(120 + 2 * ROUNDS_DEADLINE_S)
@pytest.mark.parametrize("engine", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def test_each_part_killed_at_random_moments(
    mosquitto: StartMosquitto, tmp_path: Path, engine: str, request: pytest.FixtureRequest
) -> None:
    store_url = request.getfixturevalue("postgres_url") if engine == "postgres" else None
    around = Surroundings(store_url=store_url, uplink=UNPACED)
    chances = chance(engine)
    begun = SystemClock().now()
    async with commanded_village(mosquitto, tmp_path, meters=METERS, around=around) as system:
        for turn in range(ROUNDS):
            await asyncio.sleep(chances.uniform(0.2, 1.2))
            # Each in its turn at first, so that few rounds meet all of them.
            part = PARTS[turn] if turn < len(PARTS) else chances.choice(PARTS)
            await kill_and_start(system, part, chances.uniform(0.0, 0.4))
        await all_sent(system, ROUNDS_DEADLINE_S)
        # A killed broker loses what it has acknowledged and not yet written (decision 0008).
        if lost := await lost_by_the_broker(system):
            await bring_back(system, lost, begun)
        sent = await assert_every_reading_once(system, patience_s=ROUNDS_DEADLINE_S)
        assert len(sent) > METERS * ROUNDS


async def test_the_brokers_clients_frozen_for_longer_than_their_keep_alive(
    mosquitto: StartMosquitto, tmp_path: Path
) -> None:
    around = Surroundings(keepalive_s=KEEPALIVE_S, uplink=UNPACED)
    async with commanded_village(mosquitto, tmp_path, meters=METERS, around=around) as system:
        with frozen(pid(system, "headend")):
            # Alone at first: what the gateway sends meanwhile waits with the broker.
            await asyncio.sleep(1.0)
            with frozen(pid(system, "gateway")):
                await asyncio.sleep(CLIENT_FROZEN_S)
        await assert_every_reading_once(system)
        for client in (HES, f"{FEEDER_ID}/{GATEWAY_ID}"):
            missed = f"Client {client} has exceeded timeout"
            assert missed in system.broker.log(), "it was frozen too short to be missed"


async def test_the_broker_frozen_for_longer_than_a_keep_alive(
    mosquitto: StartMosquitto, tmp_path: Path
) -> None:
    around = Surroundings(keepalive_s=KEEPALIVE_S, uplink=UNPACED)
    async with commanded_village(mosquitto, tmp_path, meters=METERS, around=around) as system:
        with frozen(pid(system, "broker")):
            await asyncio.sleep(BROKER_FROZEN_S)
        await assert_every_reading_once(system)
        for log in ("gateway.log", "headend.log"):
            missed = "has been silent for"
            assert missed in (tmp_path / log).read_text(), "it was frozen too short to be missed"


async def test_a_broker_that_keeps_too_little_loses_what_it_acknowledged_and_it_is_brought_back(
    mosquitto: StartMosquitto, tmp_path: Path
) -> None:
    kept = 100
    forgetful = {"max_queued_messages 1000000": f"max_queued_messages {kept}"}
    around = Surroundings(uplink=UNPACED)
    begun = SystemClock().now()
    dropping = "messages are being dropped for client"
    async with commanded_village(
        mosquitto, tmp_path, meters=4 * METERS, broker_changes=forgetful, around=around
    ) as system:
        assert "max_queued_messages" in (tmp_path / "headend.log").read_text(), "warned at start"
        told = system.broker.log().count(dropping)  # of the probe, by which the head-end found out
        await system.headend.kill()
        await until(lambda: system.broker.log().count(dropping) > told)
        # What was dropped first has its PUBACK like all the rest, and the gateway has written that down by then.
        before = len(taken_in(system.outbox, "sent"))
        await until(lambda: len(taken_in(system.outbox, "sent")) > before + kept)
        await system.headend.start()
        # Subscribed again: what the broker takes from here on, it delivers.
        await until(lambda: (tmp_path / "headend.log").read_text().count("ready:") == 2)
        lost = await lost_by_the_broker(system)
        assert lost, "the broker has kept it all, or it was brought back too soon to be seen"
        await bring_back(system, lost, begun)
        await assert_every_reading_once(system)


@pytest.mark.postgres
async def test_a_database_server_that_ends_at_once_under_load(
    mosquitto: StartMosquitto, tmp_path: Path, postgres: Postgres, postgres_url: str
) -> None:
    around = Surroundings(store_url=postgres_url, uplink=UNPACED)
    async with commanded_village(mosquitto, tmp_path, meters=METERS, around=around) as system:
        for _ in range(max(1, ROUNDS // 2)):
            await asyncio.to_thread(postgres.kill)  # pg_ctl stop -m immediate
            try:
                await asyncio.sleep(2.0)
            finally:
                await asyncio.to_thread(postgres.start)
            await asyncio.sleep(1.0)
        await assert_every_reading_once(system)
        assert "nothing is acknowledged" in (tmp_path / "headend.log").read_text()


# --- twice, by mistake ------------------------------------------------------------------------------

TOGETHER_S = 3.0
# mosquitto throws the first of two out without a word (no DISCONNECT with its reason), so it is named as a guess.
TOLD = "another client may use client id"


async def test_two_head_ends_under_one_client_id_say_so_and_lose_nothing(
    mosquitto: StartMosquitto, tmp_path: Path
) -> None:
    around = Surroundings(uplink=UNPACED)
    async with commanded_village(mosquitto, tmp_path, meters=METERS, around=around) as system:
        second_url = f"sqlite:///{tmp_path / 'second.db'}"
        toml = (tmp_path / "headend.toml").read_text().replace(system.store_url, second_url)
        (tmp_path / "second.toml").write_text(toml)
        second = Program(
            "second head-end",
            ["headend", "run", "-c", str(tmp_path / "second.toml")],
            log=tmp_path / "second.log",
        )
        await second.start()
        try:
            await until(lambda: second.has_said("ready"))
            await asyncio.sleep(TOGETHER_S)
            await until(lambda: system.headend.has_said(TOLD))
        finally:
            await second.stop()
        await all_sent(system)
        await system.gateway.stop()
        # What one of them took is not given to the other: together they have everything.
        sent, read = taken_in(system.outbox, "sent"), taken_in(system.outbox)
        second_kept = await everything_in(second_url)
        kept = second_kept + await everything_in(system.store_url)
        async with asyncio.timeout(DEADLINE_S):
            while not {identity for identity, _ in kept} >= sent.keys():
                await asyncio.sleep(0.2)
                kept = second_kept + await everything_in(system.store_url)
        assert second_kept, "the second has taken nothing, so nothing is shown"
        assert all(read[identity] == value for identity, value in kept)
        system.assert_sound()


async def everything_in(url: str) -> list[tuple[Identity, Value]]:
    """Return every reading of a store, each once."""
    async with open_store(url, Access.READ) as store:
        kept = await stored(store, FEEDER_ID)
    assert not kept or max(Counter(identity for identity, _ in kept).values()) == 1
    return kept


async def test_a_cloned_card_says_so_and_nothing_of_either_is_lost(
    mosquitto: StartMosquitto, tmp_path: Path
) -> None:
    around = Surroundings(uplink=UNPACED)
    async with commanded_village(mosquitto, tmp_path, meters=METERS, around=around) as system:
        await system.gateway.stop()
        clone_dir = tmp_path / "clone"
        shutil.copytree(system.data_dir, clone_dir)
        toml = (tmp_path / "gateway.toml").read_text()
        (tmp_path / "clone.toml").write_text(toml.replace(f'"{system.data_dir}"', f'"{clone_dir}"'))
        clone = Program(
            "clone",
            ["gateway", "run", "-c", str(tmp_path / "clone.toml")],
            log=tmp_path / "clone.log",
        )
        await system.gateway.start()
        await clone.start()
        try:
            await until(lambda: clone.has_said(TOLD))
            await until(lambda: system.gateway.has_said(TOLD))
            # One goes, the other finds peace; then the clone's card is read out once more.
            await clone.stop()
            await all_sent(system)
            await system.gateway.stop()
            await clone.start()
            clone_outbox = clone_dir / system.outbox.name
            read = taken_in(clone_outbox)
            await until(lambda: read.keys() <= taken_in(clone_outbox, "sent").keys())
        finally:
            await clone.stop()
        both = taken_in(clone_outbox) | taken_in(system.outbox)
        sent = taken_in(clone_outbox, "sent") | taken_in(system.outbox, "sent")
        async with asyncio.timeout(DEADLINE_S):
            kept = await everything_in(system.store_url)
            while not {identity for identity, _ in kept} >= sent.keys():
                await asyncio.sleep(0.2)
                kept = await everything_in(system.store_url)
        assert {identity for identity, _ in kept} <= both.keys()
        system.assert_sound()
