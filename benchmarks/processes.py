"""The programs of a benchmark: where they listen, what they use, how they end."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

# A program that has been told to end closes its database first.
_END_S_MAX = 20.0


def free_port() -> int:
    """Return a loopback port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def resident_mb(pid: int) -> float:
    """Return a process's resident size in MB. Raises ProcessLookupError when it has ended."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(pid)


def cpu_s(pid: int) -> float:
    """Return the processor seconds a process has used, its threads among them."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def tidy_up_when_told_to_end() -> None:
    """Let SIGTERM end this program as Ctrl-C does: what it started ends, and what it made is removed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def end(process: subprocess.Popen[str]) -> None:
    """Tell a program to end; when it has not in its time, end it."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_END_S_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
