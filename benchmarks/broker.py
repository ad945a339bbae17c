"""mosquitto as the benchmarks run it: lossless, as `deploy/mosquitto` has it, on loopback, gone afterwards."""

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import end, free_port
from openami.mqtt.embedded import LOSSLESS, find_mosquitto

_START_S_MAX = 15.0
_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Broker:
    """A running broker."""

    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def subscriptions(self) -> int:
        """Return how many times somebody has subscribed to readings."""
        return self.log.read_text(errors="replace").count("/telemetry")


@contextmanager
def running_broker() -> Iterator[Broker]:
    """Yield a broker that nobody has used. Raises RuntimeError when it is not installed or does not start."""
    program = find_mosquitto()
    if program is None:
        raise RuntimeError("mosquitto is not installed: apt install mosquitto")
    with tempfile.TemporaryDirectory(prefix="openami-bench-broker-") as folder:
        port, log, config = free_port(), Path(folder) / "log", Path(folder) / "mosquitto.conf"
        lines = [f"listener {port} 127.0.0.1", f"persistence_location {folder}/", "user root"]
        lines += [f"{name} {value}" for name, value in LOSSLESS.items()]
        # By its subscription a subscriber shows that it is there, whoever wrote it. Messages are not logged.
        lines += ["log_dest stderr", "log_type error", "log_type subscribe"]
        config.write_text("\n".join(lines) + "\n")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [program, "-c", str(config)], stdout=output, stderr=output, text=True
            )
        try:
            _until_it_answers(process, Broker(port, log))
            yield Broker(port, log)
        finally:
            end(process)


def _until_it_answers(process: subprocess.Popen[str], broker: Broker) -> None:
    late = time.monotonic() + _START_S_MAX
    while process.poll() is None and time.monotonic() < late:
        with suppress(OSError), socket.create_connection(("127.0.0.1", broker.port), 1.0):
            return
        time.sleep(_LOOK_S)
    raise RuntimeError(f"mosquitto did not start: {broker.log.read_text(errors='replace').strip()}")
