"""What a benchmark asks of a cluster, and how one node's process is kept."""

import os
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from openami.mqtt.broker_rights import BrokerRights

START_TIMEOUT_S = 300.0  # a RabbitMQ that waits for its peers on a machine with other work
STOP_TIMEOUT_S = 15.0
POLL_S = 0.1


class Node:
    """One broker process with its own directory, started anew as often as it was killed."""

    def __init__(
        self, directory: Path, command: Sequence[str], environ: Mapping[str, str] | None = None
    ) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        self.log_file = directory / "log"
        self._command = command
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None
        self._logged = 0

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        assert not self.running
        self._logged = self.log_file.stat().st_size if self.log_file.exists() else 0
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, **(self._environ or {})}, start_new_session=True,
            )  # fmt: skip

    def said(self) -> str:
        """Return what it has logged since its latest start."""
        return self.log_file.read_bytes()[self._logged :].decode(errors="replace")

    def kill(self) -> None:
        """Kill it with -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def tell(self, which: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(which)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Cluster(ABC):
    """Brokers that are one. Everything here waits for the real thing, and raises TimeoutError."""

    nodes: Sequence[Node]
    urls: tuple[str, ...]
    """Where clients reach the nodes, in their order."""

    def start(self) -> None:
        """Start every node; return when they are one cluster."""
        self.bring_back(range(len(self.nodes)))

    def bring_back(self, indices: Sequence[int]) -> None:
        """Start these nodes; return when each is a full member again."""
        for index in indices:
            self.nodes[index].start()
        until(lambda: all(self._is_member(index) for index in indices), self)

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    @abstractmethod
    def leader(self, client_id: str) -> int | None:
        """Return the node that leads what this client's session hangs on, where there is such a thing."""

    @abstractmethod
    def _is_member(self, index: int) -> bool:
        """Return whether a started node takes part again."""

    @abstractmethod
    def version(self) -> str:
        """Return the program's name and version."""

    @abstractmethod
    def apply(self, rights: BrokerRights) -> None:
        """Have the running nodes obey these rights."""

    def last_words(self) -> str:
        return "\n".join(node.said()[-1500:] for node in self.nodes)


def until(holds: Callable[[], bool], cluster: Cluster) -> None:
    """Wait until it holds. Raises TimeoutError with what the nodes said last."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(cluster.last_words())
        time.sleep(POLL_S)


def free_ports(count: int) -> list[int]:
    """Return loopback ports nobody listens on, all different."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def answers(port: int) -> bool:
    """Return whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
