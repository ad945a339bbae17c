"""Is every promise seen to break when the line that keeps it is gone?

    make promise-mutants                                  each mutant with its seed, and each seed honest
    python -m tools.promise_mutants --only 4 --seeds 40   those of promise 4, over forty seeds: which convict

A simulated village that never finds anything may be a village that cannot. So the lines that keep the promises
are taken out one at a time (in a process of its own, no file is touched), a village is lived in, and its witness
has to say which promise is broken. The same village with the line in place has to keep them all.
"""

import argparse
import ast
import json
import logging
import subprocess
import sys
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

from tools.altered_module import ROOT, SOURCES, alter

WORKERS: Final = 2
# A village-day takes a second or two; a mutant that loops for ever is ended, and that is no conviction.
TIMEOUT_S: Final = 300


@dataclass(frozen=True, slots=True)
class Mutant:
    """A promise without the line that keeps it."""

    name: str
    promise: int
    """Which one the witness has to see broken."""
    file: str
    original: str
    """Occurs in the file exactly once."""
    replacement: str
    seed: int
    """Convicts it within a day of thrown faults, or within the story."""
    story: str = ""
    """A scenario of its own, for what thrown faults meet once in dozens of days."""

    def applied(self, source: str) -> str:
        """Return the module's text without the line. Raises ValueError when it is not there, or not alone."""
        found = source.count(self.original)
        if found != 1:
            raise ValueError(f"{self.name}: its line is {found} times in {self.file}, not once")
        return source.replace(self.original, self.replacement)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a village-day ended: with which broken promise, 0 for none."""

    seed: int
    promise: int
    seen: str
    lived_s: float


DAY: Final = """
title = "A day of thrown faults"
"""
BROKER_KILLED: Final = """
title = "The broker is killed while nobody fetches what it queued"
days = 0.2
[village]
gateways = 1
meters = 1
commands_per_day = 0
[[fault]]
kind = "broker_crash"
at_h = 2
lost_tail_s = 1800
headend_away = true
"""
MAST_DARK: Final = """
title = "The mast is dark for a day, and the outbox is small"
days = 1
[village]
gateways = 1
meters = 6
fast_s = 300
outbox_kib = 96
[[fault]]
kind = "uplink_down"
at_h = 1
for_h = 22
"""
ORDERS_CUT: Final = """
title = "The power fails at orders, which are delivered again"
days = 0.5
[village]
gateways = 1
meters = 2
commands_per_day = 48
[[fault]]
kind = "power_cut_at_order"
at_h = 1
[[fault]]
kind = "power_cut_at_order"
at_h = 3
[[fault]]
kind = "power_cut_at_order"
at_h = 5
[[fault]]
kind = "power_cut_at_order"
at_h = 7
"""
NEVER_THERE: Final = """
title = "People ask for what no gateway is there to do"
days = 0.3
[village]
gateways = 1
meters = 1
commands_per_day = 48
[[fault]]
kind = "uplink_down"
at_h = 0
for_h = 7
"""

MUTANTS: Final = (
    Mutant(
        "a command is not asked for the nonce in force",
        1,
        "sip/authorise.py",
        'raise SipError(SipCode.STALE_NONCE, "not the nonce in force")',
        "nonce = session.nonces.current",
        3,
    ),
    Mutant(
        "a command's signature is not verified",
        1,
        "sip/authorise.py",
        "acts = verified_acts(document, keyring.keys)",
        "acts = __import__('openami.sip.acts').sip.acts.read_acts(document)",
        0,
    ),
    Mutant(
        "the gateway's commits are not synced",
        2,
        "gateway/database.py",
        "assert synchronous == _SYNCHRONOUS_FULL",
        'connection.execute("PRAGMA synchronous = NORMAL")',
        0,
    ),
    Mutant(
        "what is stored is committed with what comes next: the intent, once its order is out",
        4,
        "sqlite_transaction.py",
        """    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:  # a full disk makes SQLite roll back by itself
""",
        """    if connection.in_transaction:
        connection.execute("COMMIT")
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        if False:
""",
        0,
        ORDERS_CUT,
    ),
    Mutant(
        "a reading is marked as sent when it is sent, not at its PUBACK",
        2,
        "gateway/uplink.py",
        "self._under_way[task] = entry",
        "self._under_way[task] = entry; self._note_acknowledged(entry)",
        0,
    ),
    Mutant(
        "a reading goes from the card as soon as the broker has it",
        2,
        "gateway/outbox_table.py",
        "outbox_rows.move(connection, seqs, State.PENDING, State.SENT, now)",
        "outbox_rows.delete(connection, seqs)",
        0,
        BROKER_KILLED,
    ),
    Mutant(
        "the head-end does not ask for what is missing",
        2,
        "headend/resending.py",
        "await self.look()",
        "pass",
        0,
        BROKER_KILLED,
    ),
    Mutant(
        "the head-end acknowledges, and then commits",
        3,
        "headend/uplink.py",
        "            tally = await self._intake.commit(decisions)\n",
        "            connection.acknowledge(batch)\n"
        "            tally = await self._intake.commit(decisions)\n",
        0,
    ),
    Mutant(
        "the head-end's commits are not synced",
        3,
        "headend/store/sqlite.py",
        "assert synchronous == _SYNCHRONOUS_FULL",
        'connection.execute("PRAGMA synchronous = NORMAL")',
        0,
    ),
    Mutant(
        "nobody writes down that a command is about to run",
        4,
        "gateway/decision.py",
        "journal.write_intent(connection, command)",
        "pass",
        0,
        ORDERS_CUT,
    ),
    Mutant(
        "a command that was running when the power went is ordered again",
        4,
        "gateway/actuation.py",
        "outcome = await read_back(meter, wanted_position(action), sleep)",
        "outcome = await move_relay(meter, wanted_position(action), sleep)",
        0,
        ORDERS_CUT,
    ),
    Mutant(
        "a command that was never sent does not expire",
        5,
        "headend/commands.py",
        "if _whole_second(now) >= command.not_after:",
        "if False:",
        0,
        NEVER_THERE,
    ),
    Mutant(
        "a command nobody reports on is waited for",
        5,
        "headend/commands.py",
        "if now >= gives_up:",
        "if False:",
        5,
    ),
    Mutant(
        "a late report ends a command a second time",
        5,
        "headend/commands.py",
        "return _late_report(command, report, now)",
        "return _at_end(command, _walked(CommandState.ISSUED, _outcome(command, report)),"
        " _code(command, report), now, report=payload)",
        1,
    ),
    Mutant(
        "the outbox takes what it has no room for",
        6,
        "gateway/outbox_table.py",
        "if missing := self._missing(connection, rows):",
        "if missing := None:",
        0,
        MAST_DARK,
    ),
    Mutant(
        "the gateway's log is never copied into its file",
        6,
        "gateway/database.py",
        'connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")',
        'connection.execute("PRAGMA wal_autocheckpoint = 0")',
        0,
    ),
    Mutant(
        "the gateway answers its own accept",
        6,
        "gateway/handshake.py",
        "return Step(state)  # the same offer again, our echo, or somebody else's accept",
        "return renew(state, {session.session_id: fresh_nonce}, time)",
        0,
    ),
)


# --- in the child: live a day, with the line or without ----------------------------------------------


def _child(name: str, story: str, seeds: Iterable[int]) -> int:
    for mutant in MUTANTS:
        if mutant.name == name:
            alter(SOURCES / "openami" / mutant.file, partial(_altered, mutant))
    import structlog

    from openami.simulator.world.scenario import read_scenario
    from openami.simulator.world.story import simulate
    from openami.simulator.world.witness import PromiseBroken

    silent = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=silent)
    for seed in seeds:
        history = simulate(read_scenario(story or DAY, where="the mutant's story"), seed=seed)
        breach = history.breach
        promise = breach.promise if isinstance(breach, PromiseBroken) else -1
        seen = "" if breach is None else f"{type(breach).__name__}: {breach}"
        print(json.dumps([seed, promise if seen else 0, seen, history.lived_s]), flush=True)
    return 0


def _altered(mutant: Mutant, source: str) -> ast.Module:
    return ast.parse(mutant.applied(source))


# --- in the parent -----------------------------------------------------------------------------------


def lived(name: str, story: str, seeds: Sequence[int]) -> list[Verdict]:
    """Live a story with each seed and this mutant in place; with no name, with everything in place."""
    command = [sys.executable, "-m", "tools.promise_mutants", "--child", name]
    command += ["--story", story, "--seeds-of-child", *map(str, seeds)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, timeout=TIMEOUT_S, check=False, text=True
        )
    except subprocess.TimeoutExpired as late:
        told = (late.stdout or b"").decode()
        return [Verdict(*json.loads(line)) for line in told.splitlines()]
    if done.returncode:
        raise RuntimeError(f"{name or 'nothing removed'}: the village did not run\n{done.stderr}")
    return [Verdict(*json.loads(line)) for line in done.stdout.splitlines()]


def survivors(
    mutants: Sequence[Mutant] = MUTANTS, *, known_honest: Collection[tuple[str, int]] = ()
) -> list[str]:
    """Return a sentence for each mutant that its seed does not convict, and each seed that convicts the honest.

    Stories and seeds that are lived with every line in place elsewhere need not be here.
    """
    stories = sorted({(mutant.story, mutant.seed) for mutant in mutants}.difference(known_honest))
    honest = [("", story, [seed]) for story, seed in stories]
    work = [*honest, *((each.name, each.story, [each.seed]) for each in mutants)]
    with ThreadPoolExecutor(WORKERS) as pool:
        results = list(pool.map(lambda each: lived(*each), work))
    found = [
        f"seed {seed}, nothing removed: {verdicts[0].seen if verdicts else 'no end'}"
        for (_, seed), verdicts in zip(stories, results[: len(honest)], strict=True)
        if [each.promise for each in verdicts] != [0]
    ]
    for mutant, verdicts in zip(mutants, results[len(honest) :], strict=True):
        if [each.promise for each in verdicts] != [mutant.promise]:
            seen = verdicts[0].seen if verdicts else "no end"
            found.append(f"{mutant.name}: seed {mutant.seed} says {seen or 'that all is well'}")
    return found


def survey(mutants: Sequence[Mutant], seeds: int) -> int:
    """Print a Markdown table: how many of the seeds convict each mutant, and the first."""
    print("| Promise | Without this | Convicted by | First seed | Virtual hours until then |")
    print("|---|---|---|---|---|")
    with ThreadPoolExecutor(WORKERS) as pool:
        results = pool.map(lambda mutant: lived(mutant.name, mutant.story, range(seeds)), mutants)
        for mutant, verdicts in zip(mutants, results, strict=True):
            right = [each for each in verdicts if each.promise == mutant.promise]
            other = [each for each in verdicts if each.promise not in (0, mutant.promise)]
            hours = sorted(each.lived_s / 3600 for each in right)
            middle = f"{hours[len(hours) // 2]:.1f}" if hours else "–"
            first = min((each.seed for each in right), default="–")
            print(
                f"| {mutant.promise} | {mutant.name} | {len(right)} of {len(verdicts)}"
                f"{f', {len(other)} by another' if other else ''} | {first} | {middle} |",
                flush=True,
            )
            for each in [*right[:1], *other[:2]]:
                print(f"    {each.seed}: {each.seen[:200]}", file=sys.stderr, flush=True)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when every mutant is convicted and nobody honest is, otherwise 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", type=int, help="a promise's number")
    parser.add_argument("--seeds", type=int, help="live so many seeds, from 0, and print a table")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--story", default="", help=argparse.SUPPRESS)
    parser.add_argument("--seeds-of-child", nargs="*", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child is not None:
        return _child(options.child, options.story, options.seeds_of_child)
    mutants = [each for each in MUTANTS if options.only in (None, each.promise)]
    if options.seeds:
        return survey(mutants, options.seeds)
    found = survivors(mutants)
    told = f"{len(mutants)} mutants, each convicted; nobody honest is"
    print("\n".join(found) if found else told)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
