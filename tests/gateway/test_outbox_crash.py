"""kill -9 at any moment: what append returned for is there, and no number is given twice.

This shows that the program keeps nothing back in memory. It cannot show that a commit is synced, for the
page cache survives a process: test_outbox_database holds the setting and the log to that.
"""

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

from tests.gateway.clock_double import ClockDouble
from tests.gateway.outbox_samples import rows

from openami.gateway.outbox import OutboxLimits, open_outbox
from openami.profile import decode_envelope

ROOT = Path(__file__).parents[2]
KILLS = 8
PLENTY = 64 * 1024 * 1024
LITTLE = 64 * 1024


def run_and_kill(path: Path, bytes_max: int, after_lines: int) -> tuple[set[int], set[int]]:
    """Let it write so many lines, kill it, and return what it said it had stored and marked."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.gateway.outbox_writer", str(path), str(bytes_max)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(after_lines)]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().splitlines()
    said: dict[str, set[int]] = {"stored": set(), "sent": set()}
    for line in lines:
        if line.endswith("\n") or line is not lines[-1]:
            what, *seqs = line.split()
            said[what].update(map(int, seqs))
    return said["stored"], said["sent"]


async def test_nothing_that_was_stored_is_missing_and_no_number_comes_twice(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    dice = random.Random(20260701)
    stored: set[int] = set()
    sent: set[int] = set()
    for _ in range(KILLS):
        now_stored, now_sent = run_and_kill(path, PLENTY, dice.randint(1, 40))
        assert not now_stored & stored, "a number was given twice"
        assert min(now_stored) > max(stored, default=0)
        stored |= now_stored
        sent |= now_sent
    async with open_outbox(path, OutboxLimits(), ClockDouble()) as outbox:
        entries = {entry.seq: entry for entry in await outbox.pending(1_000_000)}
        kept = {seq for (seq,) in rows(path, "SELECT seq FROM outbox_entry WHERE state = 'sent'")}
        assert stored <= entries.keys() | kept
        assert sent <= kept
        assert all(decode_envelope(entry.payload).seq == seq for seq, entry in entries.items())
        assert outbox.last_seq >= max(stored)


async def test_a_kill_while_thinning_leaves_the_count_of_what_went_right(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    dice = random.Random(20260702)
    for _ in range(KILLS // 2):
        run_and_kill(path, LITTLE, dice.randint(60, 120))
        ((last_seq,),) = rows(path, "SELECT last_seq FROM outbox_progress")
        ((there,),) = rows(path, "SELECT count(*) FROM outbox_entry")
        ((gone,),) = rows(path, "SELECT coalesce(sum(entries), 0) FROM outbox_thinned")
        assert last_seq == there + gone  # type: ignore[operator]
        assert rows(path, "PRAGMA integrity_check") == [("ok",)]
        assert gone, json.dumps([last_seq, there, gone])
