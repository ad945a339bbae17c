"""The head-end as an operator runs it: a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from tests.tools import require_tool

from openami.cli import main

PATIENCE_S = 20.0
_POLL_S = 0.02


class Program:
    """``openami headend run`` with its stderr in a file."""

    def __init__(self, log: Path, *arguments: str | Path, within: Sequence[str] = ()) -> None:
        """``within`` goes before its command: what it is run by."""
        self.log_file = log
        with log.open("ab") as stderr:
            self.process = subprocess.Popen(
                [*within, sys.executable, "-m", "openami", "headend", "run", *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, "OPENAMI_LOG": "json"},
            )

    def log(self) -> str:
        """Everything it has said."""
        return self.log_file.read_text(errors="replace")

    def wait_until_ready(self) -> None:
        """Return when it says that the broker delivers to it."""
        wait_for(lambda: "ready:" in self.log() or self.process.poll() is not None)
        assert "ready:" in self.log(), self.log()

    def stop(self) -> int:
        """Stop it as a supervisor does; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def kill(self) -> None:
        """Kill it with -9."""
        self.process.kill()
        self.ended()

    def ended(self) -> int:
        """Wait for its end; return its exit code."""
        try:
            self.process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        return self.process.returncode


@contextmanager
def head_end(log: Path, *arguments: str | Path) -> Iterator[Program]:
    """Run a head-end until the block ends; a traceback on its stderr fails the test."""
    program = Program(log, *arguments)
    try:
        yield program
    finally:
        if program.process.poll() is None:
            program.stop()
        program.process.communicate()
    assert "Traceback" not in program.log(), program.log()


def wait_for(happens: Callable[[], bool]) -> None:
    """Return when it has happened."""
    deadline = time.monotonic() + PATIENCE_S  # noqa: TID251 - a test waits for another process
    while not happens():
        assert time.monotonic() < deadline, "it did not happen in time"  # noqa: TID251
        time.sleep(_POLL_S)


def openami_process(*arguments: str, code: int = 0) -> str:
    """Run the command as a process; return its stdout. Its exit code must be ``code``."""
    run = subprocess.run(
        [sys.executable, "-m", "openami", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert run.returncode == code, (run.returncode, run.stdout, run.stderr)
    assert "Traceback" not in run.stderr
    return run.stdout


def openami(*arguments: str, code: int = 0) -> str:
    """Run the command in our own process, without the half second of a program's start."""
    run = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert run.exit_code == code, (run.exit_code, run.stdout, run.stderr)
    return run.stdout


def openami_json(*arguments: str) -> list[dict[str, Any]]:
    """Run the command with --json; return the objects it prints."""
    return [json.loads(line) for line in openami(*arguments, "--json").splitlines()]


def publish(port: int, topic: str, payload: bytes, *flags: str) -> None:
    """Publish with somebody else's client, at QoS 1; return on PUBACK."""
    subprocess.run(
        [
            require_tool("mosquitto_pub"),
            *("-h", "127.0.0.1", "-p", str(port), "-q", "1", "-t", topic, *flags),
            "-s" if payload else "-n",
        ],
        input=payload,
        check=True,
        timeout=PATIENCE_S,
    )
