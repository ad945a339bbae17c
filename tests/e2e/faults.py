"""What goes wrong with a part, and what a test asks of the system afterwards."""

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from tests.e2e.accounting import Identity, assert_stored_once, stored, taken_in, unsent
from tests.e2e.commanded import DEADLINE_S, FEEDER_ID, GATEWAY_ID, System, until

from openami.clock import SystemClock
from openami.headend.store import Access
from openami.headend.store.open import open_store
from openami.profile import Value

# More rounds look further: CONTRIBUTING.md. A minute and a half of all tests is theirs in `make check`.
ROUNDS = int(os.environ.get("OPENAMI_E2E_ROUNDS", "4"))
SEED = int(os.environ.get("OPENAMI_E2E_SEED", "20261127"))
# A gateway that lost its broker again and again waits up to two minutes before it tries once more.
ROUNDS_DEADLINE_S = DEADLINE_S + 20.0 * ROUNDS
# A broker that has delivered nothing of it for so long has it no more.
QUIET_S = 2.0
# Nothing of a backlog waits for its pace.
UNPACED = "backfill_per_s = 0"


def chance(name: str) -> random.Random:
    """Return this test's own chance; its seed is printed, so that a failure can be had again."""
    print(f"{name}: OPENAMI_E2E_SEED={SEED} OPENAMI_E2E_ROUNDS={ROUNDS}")
    return random.Random(f"{SEED}{name}")


async def kill_and_start(system: System, part: str, away_s: float) -> None:
    """Kill a part with -9, and start it again after a while."""
    if part == "broker":
        await asyncio.to_thread(system.broker.kill)
        await asyncio.sleep(away_s)
        await asyncio.to_thread(system.broker.start)
        return
    program = system.gateway if part == "gateway" else system.headend
    await program.kill()
    await asyncio.sleep(away_s)
    await program.start()


def pid(system: System, part: str) -> int:
    """Return a part's process."""
    if part == "broker":
        return system.broker.pid
    number = (system.gateway if part == "gateway" else system.headend).pid
    assert number is not None
    return number


@contextmanager
def frozen(number: int) -> Iterator[None]:
    """Stop a process without closing anything, and let it go on."""
    os.kill(number, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(number, signal.SIGCONT)


async def all_sent(system: System, patience_s: float = DEADLINE_S) -> None:
    """Wait until the broker has acknowledged everything the gateway has."""
    async with asyncio.timeout(patience_s):
        while unsent(system.outbox):
            system.gateway.check()
            system.headend.check()
            await asyncio.sleep(0.02)


async def assert_every_reading_once(
    system: System,
    *,
    recorded: dict[Identity, Value] | None = None,
    patience_s: float = DEADLINE_S,
) -> dict[Identity, Value]:
    """Wait for the gateway's backlog, stop it, and compare both ends; return what was sent.

    ``recorded`` is what an earlier look found in the outbox, where something may have gone from it since.
    """
    await all_sent(system, patience_s)
    await system.gateway.stop()
    sent = (recorded or {}) | taken_in(system.outbox, "sent")
    read = (recorded or {}) | taken_in(system.outbox)
    async with open_store(system.store_url, Access.READ) as store:
        await assert_stored_once(store, FEEDER_ID, sent=sent, read=read, patience_s=patience_s)
    system.assert_sound()
    return sent


async def lost_by_the_broker(system: System) -> set[Identity]:
    """Return what the broker has acknowledged up to now and does not deliver: nothing more of it comes."""
    sent = taken_in(system.outbox, "sent").keys()
    async with open_store(system.store_url, Access.READ) as store, asyncio.timeout(DEADLINE_S):
        before: set[Identity] | None = None
        while True:
            lost = set(sent) - {identity for identity, _ in await stored(store, FEEDER_ID)}
            if not lost or lost == before:
                return lost
            before = lost
            await asyncio.sleep(QUIET_S)


async def bring_back(system: System, lost: set[Identity], since: datetime) -> None:
    """Have the gateway send again what was lost, and wait until it is stored.

    A head-end that asks by itself needs only the waiting.
    """
    span = (since - timedelta(seconds=30), SystemClock().now() + timedelta(seconds=1))
    done = await system.run_json(
        "command", "send", "readings-resend", system.serials[0], "--wait", "30s",
        "--feeder", FEEDER_ID, "--gateway", GATEWAY_ID,
        "--arg", f"from={moment(span[0])}", "--arg", f"to={moment(span[1])}",
    )  # fmt: skip
    assert done["state"] == "confirmed", done
    async with open_store(system.store_url, Access.READ) as store, asyncio.timeout(DEADLINE_S):
        while not lost <= {identity for identity, _ in await stored(store, FEEDER_ID)}:
            await asyncio.sleep(0.1)


def moment(at: datetime) -> str:
    """Return a time as a command's arguments have it."""
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


async def said(system: System, part: str, words: str) -> None:
    """Wait until a part's log says it."""
    log = system.directory / f"{part}.log"
    await until(lambda: words in log.read_text())
