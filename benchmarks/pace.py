"""How fast this machine is in this minute: a fixed piece of work, timed on every core at once.

    python -m benchmarks.pace [--seconds N]

Prints one JSON object: pace, in pieces a second and core. The work is what our programs do most, without a line of
them, so that it stays the same when they change: JSON read and written, objects made and dropped, rows into SQLite.
"""

import argparse
import hashlib
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import time
from contextlib import closing

# Of a core of a shared host, from one second to the next, 28 to 51 pieces were had; ten seconds give their mean.
SECONDS = 10.0
_MEMBERS = [
    {"obis": f"1.8.{n}", "value": n * 1.25, "unit": "kWh", "quality": "good"} for n in range(8)
]
_TEXT = json.dumps({"ts": "2026-06-01T12:00:00Z", "meter": "M-000123", "registers": _MEMBERS})
_READINGS = 400


def pace(seconds: float = SECONDS) -> float:
    """Return the pieces of work a second that a core does while all of them are at it."""
    command = [sys.executable, "-m", "benchmarks.pace", "--alone", "--seconds", str(seconds)]
    workers = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for _ in range(os.cpu_count() or 1)
    ]
    said = [json.loads(worker.communicate()[0]) for worker in workers]
    return statistics.mean(float(each["pace"]) for each in said)


def _alone(seconds: float) -> float:
    """Return the pieces a second of this process."""
    begun = time.perf_counter()
    pieces = 0
    while (passed := time.perf_counter() - begun) < seconds:
        _piece()
        pieces += 1
    return pieces / passed


def _piece() -> None:
    rows = []
    for n in range(_READINGS):
        read = json.loads(_TEXT)
        digest = hashlib.sha256(_TEXT.encode()).hexdigest()
        rows += [(n, each["obis"], each["value"], digest) for each in read["registers"]]
    with closing(sqlite3.connect(":memory:")) as store:
        store.execute(
            "CREATE TABLE reading (n INT, obis TEXT, value REAL, digest TEXT, PRIMARY KEY (n, obis))"
        )
        store.executemany("INSERT INTO reading VALUES (?, ?, ?, ?)", rows)
        json.dumps(store.execute("SELECT * FROM reading ORDER BY value, n").fetchall())


def main() -> int:
    """Print the pace."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pace", description="the pace")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--alone", action="store_true", help="on one core")
    arguments = parser.parse_args()
    found = _alone(arguments.seconds) if arguments.alone else pace(arguments.seconds)
    print(json.dumps({"pace": round(found, 2)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
