"""Our ingest beside other people's programs: one broker, one publisher, the same messages, turn by turn.

    python -m benchmarks.bench_peers [--messages 100000] [--repeats 3] [--kills 3] [--only NAME ...]

In every turn each contestant (`benchmarks.peers.contestants`) gets a fresh broker and an empty store, and then as
many messages as the publisher brings through. What arrived is counted in the store each time. Then each is killed
with -9 in the middle, started again, and what is lost and what is there twice is counted.

One figure a line. A peer that is not installed (`python -m benchmarks.peers.install`) is said to be missing.
"""

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.broker import Broker, running_broker
from benchmarks.figures import CHANCE, figure, say
from benchmarks.peers.contestants import CONTESTANTS, REGISTERS, Contestant, Kept, Place
from benchmarks.peers.counting import DISTINCT, ROWS, SOON, Ask, asking, prepare
from benchmarks.postgres_server import database, postgres_server
from benchmarks.processes import cpu_s, end, tidy_up_when_told_to_end

METERS = 500
START_S_MAX = 60.0  # Node-RED takes five seconds on a quiet machine
RUN_S_MAX = 300.0  # a run that takes longer has failed
LOOK_S = 0.05  # how often a store is asked; a figure is as fine as that
# After a kill: a broker delivers again when the client is back, and mq-bridge waits five seconds before it is.
STILL_S = 8.0


@contextmanager
def publisher(broker: Broker, messages: int) -> Iterator[subprocess.Popen[str]]:
    """Yield the load generator, its packets made; it begins at a line on its stdin."""
    command = ("-m", "benchmarks.publisher", str(broker.port), str(messages), str(METERS))
    with subprocess.Popen(
        [sys.executable, *command, str(REGISTERS)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            end(process)


def go(process: subprocess.Popen[str]) -> None:
    """Let the publisher begin."""
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def started(contestant: Contestant, place: Place, broker: Broker) -> subprocess.Popen[str]:
    """Start a contestant; return when it has subscribed."""
    before = broker.subscriptions()
    with (place.folder / "log").open("a") as log:
        process = subprocess.Popen(
            list(map(str, contestant.command(place))), stdout=log, stderr=log, text=True
        )
    try:
        _until_subscribed(process, broker, before)
    except BaseException as error:
        process.kill()
        process.wait()
        if isinstance(error, TimeoutError):
            said = (place.folder / "log").read_text().strip()[-600:]
            raise RuntimeError(f"{contestant.name} did not subscribe: {said}") from None
        raise
    return process


def _until_subscribed(process: subprocess.Popen[str], broker: Broker, before: int) -> None:
    late = time.monotonic() + START_S_MAX
    while broker.subscriptions() == before:
        if process.poll() is not None or time.monotonic() > late:
            raise TimeoutError
        time.sleep(LOOK_S)


@contextmanager
def store_for(contestant: Contestant, server: str | None, folder: Path) -> Iterator[str]:
    """Yield the URL of an empty store with the peers' tables in it."""
    if contestant.engine == "postgres":
        assert server is not None
        with database(server) as url:
            asyncio.run(prepare(url, "postgres"))
            yield url
    else:
        url = f"sqlite:///{folder / 'store.db'}"
        if contestant.engine and contestant.kept is not Kept.READINGS:
            asyncio.run(prepare(url, "sqlite"))
        yield url


def run_once(contestant: Contestant, server: str | None, messages: int) -> dict[str, float]:
    """Let a contestant take all messages; return its rate and its processor time for each."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        running_broker() as broker,
        store_for(contestant, server, Path(scratch)) as url,
        publisher(broker, messages) as load,
    ):
        place = Place(broker.port, url, Path(scratch), messages)
        if contestant.kept is Kept.NOTHING:
            return _seen_by_itself(contestant, place, broker, load)
        process = started(contestant, place, broker)
        try:
            return asyncio.run(_stored(contestant, place, process.pid, load))
        finally:
            end(process)


def _seen_by_itself(
    contestant: Contestant, place: Place, broker: Broker, load: subprocess.Popen[str]
) -> dict[str, float]:
    """Time one that ends when it has seen all; its processor time is what our ended children's grew by."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = started(contestant, place, broker)
    starting_s, began = cpu_s(process.pid), time.perf_counter()
    go(load)
    process.wait(RUN_S_MAX)
    took_s = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seen = int((place.folder / "log").read_text().split()[-1])
    assert seen >= place.messages, f"{contestant.name} ended after {seen} messages"
    spent_s = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime - starting_s
    return {"rate": place.messages / took_s, "cpu": spent_s / place.messages * 1e6}


async def _stored(
    contestant: Contestant, place: Place, pid: int, load: subprocess.Popen[str]
) -> dict[str, float]:
    kept, messages = contestant.kept, place.messages
    async with asking(place.url) as ask, asyncio.timeout(RUN_S_MAX):
        before_s, began = cpu_s(pid), time.perf_counter()
        go(load)
        while await ask(SOON[kept]) < messages:
            await asyncio.sleep(LOOK_S)
        took_s, spent_s = time.perf_counter() - began, cpu_s(pid) - before_s
        # The highest number may be committed before a lower one. The first count is not in the time.
        while await ask(ROWS[kept]) < messages:
            await asyncio.sleep(LOOK_S)
            took_s, spent_s = time.perf_counter() - began, cpu_s(pid) - before_s
        await _check(contestant, ask, messages)
    return {"rate": messages / took_s, "cpu": spent_s / messages * 1e6}


async def _check(contestant: Contestant, ask: Ask, messages: int) -> None:
    distinct = await ask(DISTINCT[contestant.kept])
    assert distinct == messages, f"{contestant.name} stored {distinct} of {messages}"


def kill_once(
    contestant: Contestant, server: str | None, messages: int, *, still_s: float = STILL_S
) -> dict[str, float]:
    """Kill a contestant in the middle and start it again; return what is lost and what is there twice.

    ``still_s``: nothing has come for so long, so nothing comes any more.
    """
    with (
        tempfile.TemporaryDirectory() as scratch,
        running_broker() as broker,
        store_for(contestant, server, Path(scratch)) as url,
        publisher(broker, messages) as load,
    ):
        place = Place(broker.port, url, Path(scratch), messages)
        process = started(contestant, place, broker)
        try:
            asyncio.run(_half_stored(contestant, place, load))
            process.kill()
            process.wait()
            process = started(contestant, place, broker)
            rows, distinct = asyncio.run(_settled(contestant, place, load, still_s))
        finally:
            end(process)
    return {"lost": messages - distinct, "twice": rows - distinct}


async def _half_stored(contestant: Contestant, place: Place, load: subprocess.Popen[str]) -> None:
    async with asking(place.url) as ask, asyncio.timeout(RUN_S_MAX):
        go(load)
        while await ask(SOON[contestant.kept]) < place.messages // 2:
            await asyncio.sleep(LOOK_S)


async def _settled(
    contestant: Contestant, place: Place, load: subprocess.Popen[str], still_s: float
) -> tuple[int, int]:
    """Return rows and distinct rows when the publisher is through and nothing has come for a while."""
    async with asking(place.url) as ask, asyncio.timeout(RUN_S_MAX):
        before, still_since = -1, time.monotonic()
        while load.poll() is None or time.monotonic() - still_since < still_s:
            rows = await ask(SOON[contestant.kept])
            if rows != before:
                before, still_since = rows, time.monotonic()
            await asyncio.sleep(LOOK_S)
        return await ask(ROWS[contestant.kept]), await ask(DISTINCT[contestant.kept])


def missing(contestant: Contestant, server: str | None) -> str | None:
    """Return why a contestant cannot take part."""
    if not contestant.is_installed:
        return "not installed: python -m benchmarks.peers.install"
    if contestant.engine == "postgres" and server is None:
        return "PostgreSQL is not installed"
    return None


def race(those: Sequence[Contestant], server: str | None, messages: int, repeats: int) -> None:
    """Let them take turns; say each one's figures, and how ours compares with mq-bridge in the same turn."""
    runs: dict[str, list[dict[str, float]]] = defaultdict(list)
    for turn in range(repeats):
        for each in those:
            runs[each.name].append(run_once(each, server, messages))
            _note(f"turn {turn + 1} of {repeats}: {each.name} {runs[each.name][-1]['rate']:,.0f}/s")
    for each in those:
        rates = [run["rate"] for run in runs[each.name]]
        say(figure(f"peers.{each.name}.rate", each.words, "envelopes/s", rates))
        spent = [run["cpu"] for run in runs[each.name]]
        say(figure(f"peers.{each.name}.cpu", f"{each.words}: processor", "µs", spent))
    ratios(runs)


def ratios(runs: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """Say how rates of the same turn compare: with the ceiling, and ours with mq-bridge in its faster setting."""
    ceiling = runs.get("c_subscriber", ())
    words = {each.name: each.words for each in CONTESTANTS}
    for name in runs:
        if ceiling and name != "c_subscriber":
            shares = _quotients(runs[name], [run["rate"] for run in ceiling])
            say(figure(f"peers.ceiling.{name}", f"{words[name]}, to the C one", "ratio", shares))
    theirs = [runs[name] for name in ("mq_bridge_raw_1", "mq_bridge_raw_4") if name in runs]
    for name, what in (("raw_postgres", "our parts"), ("headend_postgres", "our whole head-end")):
        if name in runs and theirs:
            faster = [max(run["rate"] for run in turn) for turn in zip(*theirs, strict=True)]
            quotients = _quotients(runs[name], faster)
            told = f"{what} to mq-bridge's raw envelope, PostgreSQL"
            say(figure(f"peers.ratio.{name}_to_mq_bridge", told, "ratio", quotients))


def _quotients(runs: Sequence[Mapping[str, float]], others: Sequence[float]) -> list[float]:
    return [run["rate"] / other for run, other in zip(runs, others, strict=True)]


def kills(those: Sequence[Contestant], server: str | None, messages: int, repeats: int) -> None:
    """Kill each so many times; say what it lost and what it has twice."""
    for each in those:
        if each.kept is Kept.NOTHING:
            continue
        runs = [kill_once(each, server, messages) for _ in range(repeats)]
        _note(f"killed {repeats} times: {each.name} {runs}")
        words = f"{each.words}: kill -9 in the middle of {messages:,}"
        lost, twice = ([run[what] for run in runs] for what in ("lost", "twice"))
        # Of ours none may be; how many a peer loses is chance.
        unit = "count" if each.is_ours else CHANCE
        say(figure(f"peers.{each.name}.lost", f"{words}, lost", unit, lost))
        say(figure(f"peers.{each.name}.twice", f"{words}, there twice", CHANCE, twice))


def _note(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def main() -> int:
    """Race those that are installed, kill them, and name the others."""
    parser = argparse.ArgumentParser(description="our ingest beside other people's programs")
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kill-messages", type=int, default=60_000)
    parser.add_argument("--kills", type=int, default=3)
    names = [each.name for each in CONTESTANTS]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    arguments = parser.parse_args()
    tidy_up_when_told_to_end()
    with postgres_server() as server:
        those = []
        for each in CONTESTANTS:
            if each.name not in arguments.only:
                continue
            if why := missing(each, server):
                row = {"name": f"peers.{each.name}", "words": each.words, "missing": why}
                print(json.dumps(row, ensure_ascii=False), flush=True)
            else:
                those.append(each)
        race(those, server, arguments.messages, arguments.repeats)
        if arguments.kills:
            kills(those, server, arguments.kill_messages, arguments.kills)
    return 0


if __name__ == "__main__":
    sys.exit(main())
