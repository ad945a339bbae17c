"""A real mosquitto, started, stopped and killed by a test."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.tools import free_port, require_tool

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 10.0
_POLL_S = 0.01


class Mosquitto:
    """One broker with its own directory; a restart keeps port, configuration and persistence file.

    ``lines`` are added to the configuration; a ``listener`` line of one's own replaces the plain
    loopback listener (write ``{port}`` for the port). Anonymous clients are let in unless a line says
    otherwise. ``within`` goes before the command: a namespace to run it in.
    """

    def __init__(
        self, directory: Path, lines: Sequence[str] = (), *, within: Sequence[str] = ()
    ) -> None:
        self.directory = directory
        self.within = tuple(within)
        self.lines = tuple(lines)
        self.port = free_port()
        self.config = directory / "mosquitto.conf"
        self.log_file = directory / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where to find it, without TLS."""
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        """Where to find it, when its listener speaks TLS."""
        return f"mqtts://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process that is running."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """Everything it has logged so far."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def start(self) -> None:
        """Start it; return when it accepts connections."""
        assert not self.running
        program = require_tool("mosquitto")
        self.config.write_text("\n".join(self._config()) + "\n")
        logged_before = len(self.log())
        # What is wrong with the configuration it says before it knows where its log is.
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.within, program, "-c", self.config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        for _ in range(int(START_TIMEOUT_S / _POLL_S)):
            # Not "the port answers": on a shared machine somebody else's broker could.
            if " running" in self.log()[logged_before:]:
                return
            if self._process.poll() is not None:
                break
            time.sleep(_POLL_S)
        self.kill()
        raise RuntimeError(f"mosquitto did not start:\n{self.log()[logged_before:]}")

    def stop(self) -> None:
        """Stop it as an administrator does: it writes its persistence file and goes."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it with -9: what it has not written is gone."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop it cleanly and start it again."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop its process without closing anything: a broker that has gone silent."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen process go on."""
        os.kill(self.pid, signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(how)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_TIMEOUT_S)

    def _config(self) -> Sequence[str]:
        data = self.directory / "data"
        data.mkdir(exist_ok=True)
        lines = [line.replace("{port}", str(self.port)) for line in self.lines]
        named = {line.split()[0] for line in lines if line.split()}
        # Started by root it would drop to a user who may not read a test's directory.
        ours = ["user root"] if os.geteuid() == 0 else []
        if "listener" not in named:
            ours.append(f"listener {self.port} 127.0.0.1")
        if "allow_anonymous" not in named:
            ours.append("allow_anonymous true")
        if "persistence" not in named:
            ours += ["persistence true", f"persistence_location {data}/"]
        # Not "all": a line for every message would be the slowest part of a flood.
        kinds = ("error", "warning", "notice", "information", "subscribe")
        ours += [f"log_dest file {self.log_file}", *(f"log_type {kind}" for kind in kinds)]
        return (*ours, *lines)
