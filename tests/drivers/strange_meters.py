"""DLMS meters of other people's making, as processes of their own: what we understand, we do not owe to ourselves.

They are under the GPL and are never loaded by the product, nor by a test: a test talks to them over a socket.
"""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.drivers.line_double import on_pty

START_S = 30.0  # two loaded cores import a few hundred modules in ten
_LISTENING = re.compile(rb"listening on [\d.]+:(\d+)")
ENCRYPTION_KEY = "000102030405060708090a0b0c0d0e0f"
AUTHENTICATION_KEY = "d0d1d2d3d4d5d6d7d8d9dadbdcdddedf"
PASSWORD = "12345678"
CLIENTS = {"none": 16, "lls": 32, "hls": 1}


def pydlms_arguments(access: str, *, hdlc: bool) -> list[str]:
    """Return how the simulator of pydlms-client (GPL-3.0) is started for one kind of access."""
    arguments = ["-m", "pydlms.simulator", "--port", "0", *(["--hdlc"] if hdlc else [])]
    if access == "lls":
        arguments += ["--client", f"32:1:{PASSWORD}"]
    if access == "hls":
        arguments += ["--key", ENCRYPTION_KEY, "--auth-key", AUTHENTICATION_KEY, "--client", "1:5"]
    return arguments


def gurux_arguments(access: str, *, hdlc: bool) -> list[str]:
    """Return how the meter made of gurux-dlms (GPL-2.0) is started; it knows no access by keys."""
    arguments = [str(Path(__file__).with_name("gurux_meter.py")), *(["--hdlc"] if hdlc else [])]
    return [*arguments, "--password", PASSWORD] if access == "lls" else arguments


@asynccontextmanager
async def strange_meter(arguments: list[str]) -> AsyncIterator[int]:
    """Start a meter that says where it is listening; give its port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        said = b""
        async with asyncio.timeout(START_S):
            while not (found := _LISTENING.search(said)):
                line = await process.stderr.readline()
                assert line, f"the meter did not start: {said.decode()}"
                said += line
        silenced = asyncio.create_task(_swallow(process.stderr), name="what the meter says")
        yield int(found[1])
        silenced.cancel()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _swallow(stream: asyncio.StreamReader) -> None:
    while await stream.read(4096):
        pass


class _Cable:
    """Carries bytes between a pty and a TCP port that speaks HDLC."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._back: asyncio.Task[None] | None = None

    def received(self, data: bytes, send: Callable[[bytes], None]) -> None:
        if self._back is None:
            self._back = asyncio.create_task(self._carry_back(send), name="cable")
        self._writer.write(data)

    async def _carry_back(self, send: Callable[[bytes], None]) -> None:
        while data := await self._reader.read(4096):
            send(data)

    async def rest(self) -> None:
        if self._back is not None:
            self._back.cancel()
        self._writer.close()


@asynccontextmanager
async def on_serial_line(port: int, place: Path) -> AsyncIterator[Path]:
    """Put a meter that speaks HDLC on TCP at the other end of a serial port; give the device."""
    device = place / "tty"
    cable = _Cable(*await asyncio.open_connection("127.0.0.1", port))
    async with on_pty(cable, str(device)):
        yield device
