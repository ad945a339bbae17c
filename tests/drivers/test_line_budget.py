"""A 9600 Bd line with sixty two-block meters is read in fifteen seconds, whatever is behind its port."""

import asyncio
from pathlib import Path

from benchmarks.bench_line import CYCLE_S_MAX, METERS, cycle, full_line


async def test_a_full_line_is_read_in_fifteen_seconds(tmp_path: Path) -> None:
    """What the line takes is reckoned from the frames; what the driver adds is measured where it waits for none."""
    loop = asyncio.get_running_loop()
    async with full_line(METERS, tmp_path, paced=False) as (line, far_end):
        await cycle(line)
        assert far_end.exchanges == 3 * METERS  # a sync read each, once
        added_s, busy_s = [], 0.0
        for _ in range(3):
            busy_before, exchanges_before = far_end.busy_s, far_end.exchanges
            began_at = loop.time()
            assert await cycle(line) >= 5 * METERS
            added_s.append(loop.time() - began_at)
            busy_s = far_end.busy_s - busy_before
            assert far_end.exchanges - exchanges_before == 2 * METERS
    print(f"the line {busy_s:.1f} s, the driver {min(added_s):.2f} s")
    assert busy_s > METERS * 2 * 0.030
    assert busy_s + min(added_s) <= CYCLE_S_MAX
