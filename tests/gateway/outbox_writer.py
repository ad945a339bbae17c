"""Run as a process: append, mark and say so, until killed. See test_outbox_crash."""

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

from tests.gateway.clock_double import START, ClockDouble
from tests.gateway.outbox_samples import telemetry

from openami.gateway.outbox import OutboxLimits, open_outbox


async def main(path: Path, bytes_max: int) -> None:
    clock = ClockDouble()
    async with open_outbox(path, OutboxLimits(bytes_max=bytes_max), clock) as outbox:
        while True:
            number = outbox.last_seq
            result = await outbox.append(
                [telemetry(START + timedelta(seconds=number), meter) for meter in range(5)]
            )
            print("stored", *result.seqs, flush=True)
            if number % 3 == 0:
                sent = [entry.seq for entry in await outbox.pending(7)]
                await outbox.mark_sent(sent, clock.now())
                print("sent", *sent, flush=True)
            clock.advance(1)


asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
