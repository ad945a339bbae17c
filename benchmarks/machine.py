"""The machine that is measured, and whether anything else is at work on it."""

import os
import platform
import re
import shutil
import sqlite3
import subprocess
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.postgres_server import find_server
from openami.mqtt.embedded import find_mosquitto

# Of all cores: what a quiet machine's own services take, and what a benchmark does not feel.
OTHERS_SHARE_MAX = 0.10
# Of all cores, taken by the host: beyond this a run says more of the neighbours than of us.
STOLEN_SHARE_MAX = 0.02
SAMPLE_S = 3.0
_TICKS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_PACKAGES = ("msgspec", "paho-mqtt", "asyncpg", "cryptography", "pymodbus", "starlette", "uvicorn")


@dataclass(frozen=True, slots=True)
class Ticks:
    """What all cores have done since the start, in ticks."""

    all: int
    idle: int
    stolen: int


def ticks(stat: str) -> Ticks:
    """Read the first line of /proc/stat (pure)."""
    named = dict(zip(_TICKS, map(int, stat.split()[1:9]), strict=True))
    return Ticks(sum(named.values()), named["idle"] + named["iowait"], named["steal"])


@dataclass(frozen=True, slots=True)
class Shares:
    """What of all cores' time was used, and what the host took."""

    used: float
    stolen: float

    @property
    def doubts(self) -> list[str]:
        """Why a machine that should be idle is not, in sentences."""
        told = []
        if self.used > OTHERS_SHARE_MAX:
            told.append(f"other programs use {self.used:.0%} of the cores")
        if self.stolen > STOLEN_SHARE_MAX:
            told.append(f"the host takes {self.stolen:.0%} of the cores")
        return told


def shares(before: Ticks, after: Ticks) -> Shares:
    """Return what was done between two moments (pure)."""
    passed = max(1, after.all - before.all)
    stolen = after.stolen - before.stolen
    return Shares(1 - (after.idle - before.idle + stolen) / passed, stolen / passed)


def ticks_now() -> Ticks:
    """Return what all cores have done until now."""
    return ticks(Path("/proc/stat").read_text().splitlines()[0])


def shares_now(sample_s: float = SAMPLE_S) -> Shares:
    """Watch for a while, at rest; return what others use."""
    before = ticks_now()
    time.sleep(sample_s)
    return shares(before, ticks_now())


def described() -> dict[str, str | int]:
    """Return machine and versions, as the table names them."""
    information = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", information, re.MULTILINE)
    memory_kb = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "cpu": model[1] if model else platform.machine(),
        "cores": os.cpu_count() or 1,
        "memory_gb": round(memory_kb / 1e6),
        "file_system": _said("findmnt", "-n", "-o", "FSTYPE", "-T", "/var/tmp"),
        "linux": platform.release().partition("-")[0],
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "mosquitto": _number(_said(find_mosquitto() or "mosquitto", "-h")),
        "postgresql": _number(_said(str((find_server() or Path()) / "postgres"), "--version")),
        **{name: _package(name) for name in _PACKAGES},
        "openami": _said("git", "rev-parse", "--short=10", "HEAD") or _package("openami"),
    }


def _package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _number(text: str) -> str:
    found = re.search(r"\d+(\.\d+)+", text)
    return found[0] if found else "not installed"


def _said(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()
