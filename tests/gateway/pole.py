"""A pole for tests: Modbus TCP meters made by pymodbus, and the gateway as the program it is."""

import asyncio
import json
import os
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice
from tests.tools import free_port

from openami.gateway.backlog import read_figures
from openami.gateway.config import DATABASE_FILE
from openami.gateway.outbox_books import Figures
from openami.gateway.room import OutboxLimits

# A test machine may do many things at once.
START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 20.0
_POLL_S = 0.05
# An SDM120's input registers: float32, high word first.
_REGISTERS = 0x160
_VALUES = {0x00: 230.5, 0x06: 1.25, 0x0C: 288.0, 0x46: 50.0, 0x48: 1842.5}


@asynccontextmanager
async def modbus_meters(count: int) -> AsyncIterator[int]:
    """Serve this many SDM120s as units 1, 2, …; yield the port."""
    port = free_port()
    words = [0] * _REGISTERS
    for address, value in _VALUES.items():
        words[address : address + 2] = struct.unpack(">HH", struct.pack(">f", value))
    block = [SimData(0, values=words, datatype=DataType.REGISTERS)]
    devices = [SimDevice(unit, block) for unit in range(1, count + 1)]
    server = ModbusTcpServer(devices, address=("127.0.0.1", port))
    await server.serve_forever(background=True)
    try:
        yield port
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]  # pymodbus's


def serials(count: int) -> Sequence[str]:
    """Return the serials the configuration below gives to the units."""
    return [f"DS1000-{unit:05}" for unit in range(1, count + 1)]


class GatewayProgram:
    """``openami gateway run`` in a process of its own, with its file, data and page."""

    def __init__(self, directory: Path, *, mqtt: Mapping[str, str], modbus_port: int) -> None:
        self.file = directory / "gateway.toml"
        self.data_dir = directory / "data"
        self.log_file = directory / "gateway.log"
        self.status_port = free_port()
        self.mqtt = mqtt
        self.modbus_port = modbus_port
        self._process: subprocess.Popen[bytes] | None = None

    def configure(
        self, *, meters: int, fast_s: int = 1, billing_s: int = 5, more: Sequence[str] = ()
    ) -> None:
        """Write the configuration; ``more`` are the lines of further sections."""
        lines = [
            'feeder_id = "feeder-1"',
            'gateway_id = "pole-1"',
            f'data_dir = "{self.data_dir}"',
            'clock = "rtc"',
            "[mqtt]",
            *(f'{key} = "{value}"' for key, value in self.mqtt.items()),
            "[schedule]",
            f"fast_s = {fast_s}",
            f"billing_s = {billing_s}",
            "[status]",
            f'listen = "127.0.0.1:{self.status_port}"',
            *more,
            "[[line]]",
            'driver = "modbus"',
            'name = "bus1"',
            'transport = "tcp"',
            'host = "127.0.0.1"',
            f"port = {self.modbus_port}",
        ]
        for unit, serial in enumerate(serials(meters), 1):
            lines += ["[[line.meter]]", f'serial = "{serial}"', f"unit = {unit}", 'map = "sdm120"']
        self.file.write_text("\n".join(lines) + "\n")

    def start(self, *, within: Sequence[str] = (), **environment: str) -> None:
        """Start it; ``within`` goes before its command: what it is run by."""
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [*within, sys.executable, "-m", "openami", "gateway", "run", "-c", str(self.file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
            )

    async def ready(self) -> None:
        """Return when it answers on its page."""
        async with asyncio.timeout(START_TIMEOUT_S):
            while True:
                try:
                    await self.get("/healthz")
                except httpx.TransportError:
                    assert self._process is not None
                    assert self._process.poll() is None, self.log()
                    await asyncio.sleep(_POLL_S)
                else:
                    return

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def end(self) -> int:
        """Tell it to end; return its exit code."""
        process, self._process = self._process, None
        assert process is not None
        process.terminate()
        try:
            return process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(END_TIMEOUT_S)
            raise

    def kill(self) -> None:
        """Kill it with -9, if it runs."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(END_TIMEOUT_S)

    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(timeout=5) as client:
            return await client.get(f"http://127.0.0.1:{self.status_port}{path}")

    def figures(self) -> Figures:
        """Return what its outbox holds."""
        figures = read_figures(self.data_dir / DATABASE_FILE, OutboxLimits())
        assert figures is not None
        return figures

    def backlog(self) -> Mapping[str, Any]:
        """Return what ``openami gateway backlog --json`` prints."""
        told = openami("gateway", "backlog", "-c", str(self.file), "--json")
        assert told.returncode == 0, told.stderr
        row: Mapping[str, Any] = json.loads(told.stdout)
        return row


def openami(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "openami", *arguments],
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        check=False,
    )
