"""``openami conformance serve`` as a person meets it: on a terminal, in a pipe, and when something is wrong."""

import asyncio
import json
import os
import pty
import re
import signal
import socket
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.conformance.small_gateway import INTERVAL_S, SmallGateway
from tests.tools import require_tool

from openami.cli import main
from openami.mqtt.settings import BrokerSettings

END_S = 30.0
# Two seconds' worth: the meter is left unplugged for five.
TOLD_ON = 10

pytestmark = pytest.mark.broker


def command(directory: Path, *arguments: str) -> list[str]:
    require_tool("mosquitto")
    return [sys.executable, "-m", "openami", *serve(directory, *arguments)]


def serve(directory: Path, *arguments: str) -> list[str]:
    return [
        *("conformance", "serve", "--host", "localhost"),
        *("--port", "0", "--plain-port", "0", "--page", "127.0.0.1:0"),
        *("--directory", str(directory / "kit"), *arguments),
    ]


async def run(*words: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(END_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


class Screen:
    """A terminal of 100 columns, and what was written on it."""

    def __init__(self) -> None:
        self.ours, self.theirs = pty.openpty()
        self.written = ""

    async def until_shown(self, words: str) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(END_S):
            while words not in self.written:
                data = await loop.run_in_executor(None, os.read, self.ours, 65536)
                self.written += data.decode(errors="replace")


async def test_on_a_terminal_it_says_what_to_configure_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    screen = Screen()
    process = await asyncio.create_subprocess_exec(
        *command(tmp_path), stdin=screen.theirs, stdout=screen.theirs, stderr=screen.theirs
    )
    os.close(screen.theirs)
    await screen.until_shown("waiting for the gateway to connect")
    assert "\x1b[H" in screen.written, "it draws anew instead of scrolling"
    assert "broker          mqtts://localhost:" in screen.written
    assert "CA certificate  " in screen.written
    assert "checklist       http://127.0.0.1:" in screen.written
    process.send_signal(signal.SIGINT)
    await screen.until_shown("The report is in ")
    async with asyncio.timeout(END_S):
        assert await process.wait() == 1, "nothing was seen, so it is not known to conform"
    os.close(screen.ours)
    judgement = json.loads((tmp_path / "kit" / "report.json").read_bytes())["judgement"]
    assert judgement["conforms"] is False
    assert judgement["subject"]["kind"] == "gateway"


async def test_what_hands_did_is_said_by_enter_and_left_out_by_s(tmp_path: Path) -> None:
    screen = Screen()
    others = ("acknowledgement-withheld", "network-lost", "command-without-session")
    left_out = [word for act in others for word in ("--skip", act)]
    process = await asyncio.create_subprocess_exec(
        *command(tmp_path, *left_out),
        stdin=screen.theirs,
        stdout=screen.theirs,
        stderr=screen.theirs,
    )
    os.close(screen.theirs)
    await screen.until_shown("waiting for the gateway to connect")
    found = re.search(r"mqtts://localhost:(\d+)", screen.written)
    assert found is not None
    kit = tmp_path / "kit"
    gateway = SmallGateway(
        BrokerSettings(
            url=found[0],
            client_id="small",
            ca_file=str(kit / "ca.pem"),
            cert_file=str(kit / "client.crt"),
            key_file=str(kit / "client.key"),
            session_expiry_days=0,
        )
    )
    publishing = asyncio.create_task(gateway.run())
    await screen.until_shown("☛ Unplug the data line of meter M-1")
    os.write(screen.ours, b"\n")
    told = gateway.readings
    while gateway.readings < told + TOLD_ON:  # as if nothing was unplugged
        await asyncio.sleep(INTERVAL_S)
    # A reading that comes once the meter is asked for again would end the asking before it is seen.
    gateway.mute = True
    await screen.until_shown("☛ Plug meter M-1 in again.")
    os.write(screen.ours, b"s\n")
    await screen.until_shown("– skipped (left out): A meter stops")
    process.send_signal(signal.SIGINT)
    await screen.until_shown("The report is in ")
    await screen.until_shown("WARNING OA-SIL-001")
    publishing.cancel()
    async with asyncio.timeout(END_S):
        assert await process.wait() == 0, "a decision of ours was broken, and fails nobody"
    os.close(screen.ours)


async def test_in_a_pipe_each_line_is_an_object_and_it_ends_in_time(tmp_path: Path) -> None:
    code, out, err = await run(
        *command(tmp_path, "--json", "--for", "1s", "--vendor", "Acme", "--firmware", "1.2")
    )
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert [event["event"] for event in events] == ["ready", "end"]
    kit = tmp_path / "kit"
    assert events[0]["caFile"] == str(kit / "ca.pem")
    assert "report.json" in err
    assert events[1]["report"] == str(kit / "report.json")
    subject = json.loads((kit / "report.json").read_bytes())["judgement"]["subject"]
    assert (subject["vendor"], subject["firmware"]) == ("Acme", "1.2")


async def test_a_certificate_request_is_signed_and_no_key_is_made(tmp_path: Path) -> None:
    from openami.pki.certificates import (
        make_signing_request,
        new_transport_key,
        read_certificate,
        same_key,
    )
    from openami.pki.names import CommonName

    key = new_transport_key()
    request = tmp_path / "pole.csr"
    request.write_bytes(make_signing_request(key, CommonName("f/g")))
    await run(*command(tmp_path, "--json", "--for", "1s", "--csr", str(request)))
    certificate = read_certificate((tmp_path / "kit" / "client.crt").read_bytes())
    assert same_key(certificate, key.public_key())
    assert not (tmp_path / "kit" / "client.key").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--feeder", "a/b"), "is not FEEDER/GATEWAY"),
        (("--page", "nowhere"), "HOST:PORT is asked for"),
        (("--host", "not a name"), "see --host"),
        (("--hook", "./no-such-hook"), "cannot be run"),
        (("--for", "soon"), "no duration"),
        (("--skip", "everything"), "no such act"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    words = serve(tmp_path, *arguments)
    ended = CliRunner().invoke(main, words, catch_exceptions=False)
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert said in ended.stderr


async def test_a_port_and_a_page_that_are_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, _, err = await run(*command(tmp_path, "--port", port))
        assert (code, f"cannot listen on port {port}" in err) == (2, True)
        code, _, err = await run(*command(tmp_path, "--page", f"127.0.0.1:{port}"))
        assert (code, "name another address with --page" in err) == (2, True)


async def test_a_directory_others_can_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kit").mkdir(mode=0o755)
    code, _, err = await run(*command(tmp_path))
    assert code == 2
    assert "chmod 0700" in err
