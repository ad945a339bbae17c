"""The demo as a person runs it: the whole way with the real programs, and nothing left behind."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from tests.mosquitto import Mosquitto
from tests.tools import scratch_directory

from openami.cli import main

# A demo's parts are up in two seconds; on a machine that runs the whole suite, in some more.
UP_S = 60.0
END_S = 60.0


@dataclass
class Running:
    """A demo in a process group of its own, as a shell starts it, with a folder for what it leaves."""

    process: subprocess.Popen[str]
    scratch: Path
    errors: Path

    def said(self) -> str:
        return self.errors.read_text()

    def wait_for(self, words: str) -> None:
        deadline = time.perf_counter() + UP_S
        while words not in self.said():
            assert self.process.poll() is None, self.said()
            assert time.perf_counter() < deadline, self.said()
            time.sleep(0.05)

    def interrupt(self) -> None:
        """Press Ctrl-C: the terminal tells the whole group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> tuple[int, str]:
        output, _ = self.process.communicate(timeout=END_S)
        return self.process.returncode, output

    def parts(self) -> list[int]:
        """The processes that have been given a file in our folder."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if entry.name.isdecimal() and str(self.scratch).encode() in command:
                found.append(int(entry.name))
        return found

    def part(self, command: str) -> int:
        return next(
            pid
            for pid in self.parts()
            if command.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        )

    def assert_nothing_left(self) -> None:
        assert self.parts() == []
        assert list(self.scratch.iterdir()) == []


@contextmanager
def demo(tmp_path: Path, *arguments: str) -> Iterator[Running]:
    errors = tmp_path / "stderr"
    with scratch_directory() as scratch, errors.open("w") as file:
        scratch.chmod(0o711)  # brokers drop root's rights, and have to get through to their folder
        process = subprocess.Popen(
            [sys.executable, "-m", "openami", "demo", *arguments],
            env={**os.environ, "TMPDIR": str(scratch)},
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            process_group=0,
        )
        try:
            yield Running(process, scratch, errors)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=END_S)


def account(output: str) -> dict[str, int]:
    found: dict[str, int] = json.loads(output.splitlines()[-1])
    return found


def test_the_whole_story_is_played_and_nothing_is_lost_or_left_behind(tmp_path: Path) -> None:
    with demo(tmp_path, "--for", "9s", "--json", "--meters", "8", "--seed", "1") as running:
        code, output = running.end()
        told = running.said()
        assert code == 0, told
        found = account(output)
        assert list(found) == ["meters", "published", "stored", "duplicates", "rejected", "lost"]
        assert (found["meters"], found["rejected"], found["lost"]) == (8, 0, 0)
        # Eight meters, at least three polls, at least seven registers each.
        assert found["published"] == found["stored"] >= 8 * 3 * 7
        # The silent meter's last values at the least.
        assert found["duplicates"] > 0
        assert "the head-end is killed" in told
        assert "the head-end is started again" in told
        assert "stops answering" in told
        # A house is cut off and reconnected, and a replay is refused.
        assert "relay.disconnect of VM-" in told
        assert "relay.reconnect of VM-" in told
        assert told.count("done, and read back as ordered") == 2
        assert told.count("confirmed (OK) after") == 2
        assert "replay refused, the relay is connected" in told
        running.assert_nothing_left()


def test_its_link_lets_an_engineer_in_and_ctrl_c_ends_it_in_good_order(tmp_path: Path) -> None:
    with demo(tmp_path, "--for", "forever", "--json", "--meters", "3") as running:
        running.wait_for("opens once. Later")
        assert len(running.parts()) >= 3
        [link] = re.findall(r"^http://\S+/first/\S+$", running.said(), re.MULTILINE)
        with httpx.Client(base_url=link.partition("/first/")[0]) as browser:
            assert browser.get(link).headers["location"] == "/"
            assert browser.get("/users").status_code == 200
            stepped_up = browser.get("/step-up?next=/users")
            assert stepped_up.headers["location"] == "/users", "the password was not asked for"
            assert httpx.get(link).status_code == 410
        running.interrupt()
        code, output = running.end()
        assert code == 130, running.said()
        found = account(output)
        assert found["published"] == found["stored"] > 0
        assert found["lost"] == 0
        running.assert_nothing_left()


def test_ctrl_c_before_all_parts_are_up_leaves_nothing_either(tmp_path: Path) -> None:
    with demo(tmp_path, "--for", "forever", "--json", "--meters", "3") as running:
        deadline = time.perf_counter() + UP_S
        while not running.parts():
            assert time.perf_counter() < deadline
            time.sleep(0.01)
        running.interrupt()
        code, output = running.end()
        assert (code, output) == (130, "")
        running.assert_nothing_left()


@pytest.mark.parametrize("command", ["gateway", "headend"])
def test_a_part_that_dies_ends_the_demo_and_is_named(tmp_path: Path, command: str) -> None:
    with demo(tmp_path, "--for", "forever", "--json", "--meters", "3") as running:
        running.wait_for("up after")
        os.kill(running.part(command), signal.SIGKILL)
        code, output = running.end()
        assert (code, output) == (1, "")
        name = {"gateway": "gateway", "headend": "head-end"}[command]
        assert f"openami: the {name} has ended with exit code -9" in running.said()
        running.assert_nothing_left()


def test_a_broker_and_a_store_of_one_s_own_are_used_and_kept(
    tmp_path: Path, mosquitto: Callable[..., Mosquitto]
) -> None:
    broker = mosquitto()
    store = f"sqlite:///{tmp_path / 'kept.db'}"
    with demo(
        tmp_path,
        *("--for", "5s", "--json", "--meters", "2", "--broker", broker.url, "--store", store),
    ) as running:
        code, output = running.end()
        assert code == 0, running.said()
        assert broker.url.removeprefix("mqtt://") in running.said()
        running.assert_nothing_left()
    listed = subprocess.run(
        [sys.executable, "-m", "openami", "meter", "list", "--json", "--store", store],
        capture_output=True,
        text=True,
        check=True,
        timeout=END_S,
    )
    serials = {json.loads(line)["meterSerial"] for line in listed.stdout.splitlines()}
    assert {"FH-0001", "VM-0001"} <= serials
    assert account(output)["published"] > 0


def test_on_a_terminal_it_is_a_table() -> None:
    near, far = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "openami", "demo", "--for", "5s", "--meters", "2"],
        stdin=far,
        stdout=far,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "COLUMNS": "100", "LINES": "30"},
    )
    os.close(far)
    shown = _read_all(near)
    assert process.wait(END_S) == 0
    assert "\x1b[H" in shown
    assert "FH-0001    feeder head" in shown
    assert "0 lost" in shown.splitlines()[-1]


def _read_all(terminal: int) -> str:
    chunks = []
    while True:
        try:
            chunks.append(os.read(terminal, 65536))
        except OSError:  # Linux ends a terminal whose other side has closed with EIO
            break
    os.close(terminal)
    return b"".join(chunks).decode()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--meters", "1"], "2<=x<=500"),
        (["--meters", "501"], "2<=x<=500"),
        (["--mixed", "--meters", "19"], "20 to 50 meters"),
        (["--for", "4.9s"], "at least 5 s"),
        (["--for", "soon"], "no duration"),
        (["--for", "-5s"], "no duration"),
    ],
)
def test_what_cannot_be_meant_is_said_in_a_sentence(arguments: list[str], said: str) -> None:
    told = CliRunner().invoke(main, ["demo", *arguments])
    assert (told.exit_code, told.stdout) == (2, "")
    assert said in told.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--broker", "http://127.0.0.1"], 2, "must begin with mqtt://"),
        (["--broker", "mqtt://127.0.0.1:1"], 3, "nothing listens"),
        (["--store", "sqlite:////nowhere/at/all.db"], 1, "the head-end has ended"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    with demo(tmp_path, *arguments) as running:
        assert running.end() == (code, "")
        assert said in running.said()
        assert "Traceback" not in running.said()
        running.assert_nothing_left()
