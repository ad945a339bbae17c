"""A real broker for the demo, from a bare install: mosquitto where it is there, else the pip one.

It listens on loopback only, on a port of its own, keeps its files in a directory that is gone afterwards,
and dies with us. It is configured as ``deploy/mosquitto/loopback.conf``, so that it does not lose what a
broker with its default settings would.

The pip one is `iotcore` (rumqttd in a wheel): fine for a demo, but it keeps sessions in memory only, drops
the oldest when they grow and does not check client certificates. Do not put it into the field.
"""

import asyncio
import contextlib
import importlib.util
import os
import pwd
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from openami.mqtt.port import TransportError
from openami.mqtt.settings import Protocol

# mosquitto takes 20 ms to start, the pip one half a second; a busy Raspberry Pi twenty times as long.
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 5.0
_POLL_S = 0.02
# Another program can take the port between our choosing it and the broker's binding it.
_ATTEMPTS_MAX = 3

# Debian puts servers where a user's PATH does not look.
_EXTRA_PATHS = ("/usr/sbin", "/usr/local/sbin")

Program = Literal["mosquitto", "iotcore"]

# Each line with its reason: deploy/mosquitto/loopback.conf.
LOSSLESS: Mapping[str, str] = {
    "max_queued_messages": "1000000",
    "max_queued_bytes": "0",
    "max_inflight_messages": "1000",
    "message_size_limit": "65536",
    "persistent_client_expiration": "14d",
    "persistence": "true",
    "autosave_interval": "1",
    "set_tcp_nodelay": "true",
    "retain_available": "false",
    "allow_anonymous": "true",
}

# What the files of `MUTUAL_TLS_FILES` are for, as deploy/mosquitto/mosquitto.conf has it, reasons included.
MUTUAL_TLS: Mapping[str, str] = {
    "allow_anonymous": "false",
    "acl_file": "{directory}/openami.acl",
    "cafile": "{directory}/ca.pem",
    "certfile": "{directory}/broker.pem",
    "keyfile": "{directory}/broker.key",
    "crlfile": "{directory}/revoked.pem",
    "tls_version": "tlsv1.3",
    "require_certificate": "true",
    "use_identity_as_username": "true",
    "use_username_as_clientid": "true",
}
MUTUAL_TLS_FILES: Sequence[str] = (
    "openami.acl",
    "ca.pem",
    "broker.pem",
    "broker.key",
    "revoked.pem",
)

_IOTCORE_CONFIG = """
id = 0
[router]
id = 0
max_connections = 1000
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v4.1]
name = "loopback"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[v4.1.connections]
connection_timeout_ms = 60000
max_payload_size = 70000
max_inflight_count = 1000
"""


@dataclass(frozen=True, slots=True)
class EmbeddedBroker:
    """A running broker: which program it is, where it listens, which MQTT it speaks best."""

    program: Program
    url: str
    protocol: Protocol


@contextlib.asynccontextmanager
async def embedded_broker(
    candidates: Sequence[Program] = ("mosquitto", "iotcore"),
    *,
    tls_files: Mapping[str, bytes] | None = None,
    changes: Mapping[str, str] | None = None,
) -> AsyncIterator[EmbeddedBroker]:
    """Run the first of the candidates that is installed, on loopback.

    With ``tls_files``, the content of each of `MUTUAL_TLS_FILES`, it asks every client for a certificate and
    keeps to the access rules; only mosquitto can. ``changes`` are settings of mosquitto's in place of those in
    `LOSSLESS`. Raises TransportError when none is installed, or it does not start.
    """
    assert tls_files is None or set(tls_files) == set(MUTUAL_TLS_FILES)
    assert tls_files is None or tuple(candidates) == ("mosquitto",)
    with tempfile.TemporaryDirectory(
        prefix="openami-broker-", ignore_cleanup_errors=True
    ) as scratch:
        directory = Path(scratch)
        running = await _start_some(directory, candidates, tls_files, changes or {})
        try:
            yield running.broker
        finally:
            await _stop(running.process)


@dataclass(frozen=True, slots=True)
class _Running:
    broker: EmbeddedBroker
    process: asyncio.subprocess.Process


def find_mosquitto() -> str | None:
    """Return where mosquitto is; None where it is not installed."""
    places = os.pathsep.join((os.environ.get("PATH", ""), *_EXTRA_PATHS))
    return shutil.which("mosquitto", path=places)


async def _start_some(
    directory: Path,
    candidates: Sequence[Program],
    tls_files: Mapping[str, bytes] | None,
    changes: Mapping[str, str],
) -> _Running:
    for candidate in candidates:
        if candidate == "mosquitto":
            program = find_mosquitto()
            if program is not None:
                return await _start_with_retries(directory, program, tls_files, changes)
        elif importlib.util.find_spec("iotcore") is not None:
            return await _start_with_retries(directory, None, None, {})
    raise TransportError(
        "there is no broker to start",
        remedy="install one (`apt install mosquitto`, or `pip install iotcore`), or name a running "
        "one with --broker",
        permanent=True,
    )


async def _start_with_retries(
    directory: Path,
    mosquitto: str | None,
    tls_files: Mapping[str, bytes] | None,
    changes: Mapping[str, str],
) -> _Running:
    failure: TransportError | None = None
    for _ in range(_ATTEMPTS_MAX):
        port = _free_port()
        try:
            if mosquitto is None:
                return await _start_iotcore(directory, port)
            return await _start_mosquitto(directory, port, mosquitto, tls_files, changes)
        except TransportError as error:
            failure = error
    assert failure is not None
    raise failure


async def _start_mosquitto(
    directory: Path,
    port: int,
    program: str,
    tls_files: Mapping[str, bytes] | None,
    changes: Mapping[str, str],
) -> _Running:
    data = directory / "data"
    data.mkdir(exist_ok=True)
    config = directory / "mosquitto.conf"
    lines = [f"listener {port} 127.0.0.1", f"persistence_location {data}/"]
    settings = {**LOSSLESS, **({} if tls_files is None else MUTUAL_TLS), **changes}
    lines += [f"{name} {value.format(directory=directory)}" for name, value in settings.items()]
    own = [directory, data, *_written(directory, tls_files or {})]
    service_user = _service_user()
    if service_user is not None:
        # Started by root, mosquitto becomes this user, who has to reach its files.
        lines.append(f"user {service_user.pw_name}")
        for path in own:
            os.chown(path, service_user.pw_uid, service_user.pw_gid)
    config.write_text("\n".join(lines) + "\n")
    process = await _spawn((program, "-c", str(config)), directory, port)
    scheme = "mqtt" if tls_files is None else "mqtts"
    url = f"{scheme}://127.0.0.1:{port}"
    return _Running(EmbeddedBroker("mosquitto", url, "5"), process)


def _written(directory: Path, files: Mapping[str, bytes]) -> Sequence[Path]:
    """Write files for the broker's eyes only."""
    paths = []
    for name, content in files.items():
        path = directory / name
        path.touch(mode=0o600)
        path.write_bytes(content)
        paths.append(path)
    return paths


async def _start_iotcore(directory: Path, port: int) -> _Running:
    config = directory / "iotcore.toml"
    config.write_text(_IOTCORE_CONFIG.format(port=port))
    command = (sys.executable, "-m", "iotcore", "--config", str(config), "--log-level", "CRITICAL")
    process = await _spawn(command, directory, port)
    return _Running(EmbeddedBroker("iotcore", f"mqtt://127.0.0.1:{port}", "3.1.1"), process)


async def _spawn(command: Sequence[str], directory: Path, port: int) -> asyncio.subprocess.Process:
    """Start a broker; return when it accepts connections. Raises TransportError."""
    log = directory / "broker.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *_dying_with_us(command),
            cwd=directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # A Ctrl-C on the terminal is for its owner, who ends it when what it carries has arrived.
            start_new_session=True,
        )
    try:
        if await _comes_up(process, port):
            return process
    except asyncio.CancelledError:
        await _stop(process)
        raise
    await _stop(process)
    said = log.read_text(errors="replace").strip().splitlines()
    raise TransportError(
        f"the broker {command[0]} did not start: {said[-1] if said else 'it said nothing'}",
        remedy="start one yourself and name it with --broker",
        permanent=True,
    )


async def _comes_up(process: asyncio.subprocess.Process, port: int) -> bool:
    for _ in range(int(START_TIMEOUT_S / _POLL_S)):
        if process.returncode is not None:
            return False
        if await _answers(port):
            return True
        await asyncio.sleep(_POLL_S)
    return False


def _dying_with_us(command: Sequence[str]) -> Sequence[str]:
    """Let the kernel end the broker when we are killed and cannot (setpriv: Debian's util-linux).

    Changing the user clears the wish, so as root it is setpriv that changes it, before mosquitto can.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return command
    wish = [setpriv, "--pdeathsig", "TERM"]
    service_user = _service_user()
    if service_user is not None and Path(command[0]).name == "mosquitto":
        wish += [f"--reuid={service_user.pw_uid}", f"--regid={service_user.pw_gid}"]
        wish += ["--clear-groups"]
    return (*wish, *command)


def _service_user() -> pwd.struct_passwd | None:
    """Return whom a broker runs as when we are root; None when we are not."""
    if os.geteuid() != 0:
        return None
    for name in ("mosquitto", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    return None


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
