"""The service manager is told that the head-end lives while it does: the real program, a real notify socket."""

import asyncio
import json
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from tests.conftest import StartMosquitto
from tests.headend.messages import TOPIC, payload
from tests.headend.program import Program, publish, wait_for
from tests.headend.web.test_serving import listening, web

from openami.headend.broker_link import BrokerLink
from openami.headend.liveness import LifeSigns, Pulse
from openami.headend.store.open import open_store
from openami.headend.web.serving import BEAT_S, bind, serve
from openami.service_manager import ServiceSettings

WATCHDOG_S = 1.0
# A datagram comes twice in a watchdog's time; on a busy machine somewhat later.
PATIENCE_S = 20.0


class Manager:
    """The service manager's end of the socket."""

    def __init__(self, directory: Path) -> None:
        self.address = str(directory / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.settimeout(PATIENCE_S)

    def next(self) -> str:
        """Return what is told next."""
        return self._socket.recv(100).decode()

    def told_within(self, seconds: float) -> list[str]:
        """Return what has been told and is told for so long."""
        told = []
        self._socket.settimeout(seconds)
        try:
            while True:
                told.append(self.next())
        except (TimeoutError, BlockingIOError):
            return told
        finally:
            self._socket.settimeout(PATIENCE_S)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with closing(Manager(tmp_path)) as made:
        yield made


@pytest.mark.broker
def test_a_stuck_ingest_lets_the_watchdog_go_hungry_until_it_goes_on(
    mosquitto: StartMosquitto, manager: Manager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, path = mosquitto(), tmp_path / "headend.db"
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    monkeypatch.setenv("WATCHDOG_USEC", str(int(WATCHDOG_S * 1e6)))
    program = Program(tmp_path / "log", "--broker", broker.url, "--store", f"sqlite:///{path}")
    try:
        first = {manager.next(), manager.next()}
        assert first == {"READY=1", "WATCHDOG=1"}
        program.wait_until_ready()
        assert manager.next() == "WATCHDOG=1"
        with closing(sqlite3.connect(path, isolation_level=None)) as somebody:
            somebody.execute("BEGIN IMMEDIATE")  # the commit waits for him, for ten seconds at most
            publish(broker.port, TOPIC, payload())
            wait_for(lambda: "no sign of life" in program.log())
            manager.told_within(0)
            assert manager.told_within(1.5 * WATCHDOG_S) == []
            somebody.execute("ROLLBACK")
        assert manager.next() == "WATCHDOG=1"
        [line] = [line for line in program.log().splitlines() if "no sign of life" in line]
        assert json.loads(line)["parts"] == ["ingest"]
        assert program.stop() == 0
        assert manager.told_within(0)[-1] == "STOPPING=1"
    finally:
        if program.process.poll() is None:
            program.kill()


async def test_a_web_that_hangs_is_stuck(tmp_path: Path) -> None:
    at, released = listening(), threading.Event()
    here = web(at, tmp_path)

    def hangs() -> BrokerLink:
        released.wait(PATIENCE_S)
        return here.link()

    hanging = replace(here, link=hangs)
    now_s = asyncio.get_running_loop().time
    async with open_store(here.store_url):
        serving = asyncio.create_task(serve(hanging, bind(at)))
        async with httpx.AsyncClient(base_url=at.url) as browser:
            assert (await browser.get("/healthz")).status_code == 200
            assert not hanging.pulse.is_stuck(now_s(), after_s=5 * BEAT_S)
            asking = asyncio.create_task(browser.get("/readyz", timeout=PATIENCE_S))
            async with asyncio.timeout(PATIENCE_S):
                while not hanging.pulse.is_stuck(now_s(), after_s=1.5 * BEAT_S):
                    await asyncio.sleep(0.05)
            released.set()
            await asking
            async with asyncio.timeout(PATIENCE_S):
                while hanging.pulse.is_stuck(now_s(), after_s=1.5 * BEAT_S):
                    await asyncio.sleep(0.05)
        serving.cancel()
        await asyncio.wait([serving])
    assert hanging.pulse.since_s is None  # what has ended owes nothing


async def test_who_waits_is_not_stuck(manager: Manager) -> None:
    """An ingest without messages owes no sign of life; and without a watchdog it is looked at all the same."""
    pulse = Pulse("ingest")
    assert not pulse.is_stuck(1e9, after_s=1)
    telling = asyncio.create_task(
        LifeSigns(ServiceSettings(manager.address), lambda: [pulse]).tell()
    )
    assert await asyncio.to_thread(manager.next) == "WATCHDOG=1"
    telling.cancel()
    clock = iter([10.0])
    with pytest.raises(ValueError), pulse.at_work(lambda: next(clock)):  # noqa: PT012
        assert not pulse.is_stuck(11.0, after_s=1)
        assert pulse.is_stuck(11.1, after_s=1)
        raise ValueError
    assert pulse.since_s is None
