"""``make bench``: every benchmark in turn, each in a process of its own, compared with the figures that are stated.

    python -m benchmarks [NAME ...] [--quick] [--json] [--list] [--even-if-busy] [--write WORDS]

A table on stdout, or with ``--json`` one object a line: name, value, unit, low, high, repeats, bound, met, words,
stated, pace (the machine's, as a share of what it was when that was stated), reproduces, busy. What is being
done goes to stderr. ``--quick`` runs less of each and judges nothing: fewer messages give other figures.
``--write`` puts what was measured into results.json and RESULTS.md, with WORDS for how it was
("quiet, 2026-12-01").

Before each benchmark the machine has to be at rest; while it is not, nothing begins, and after five minutes
the command refuses (exit code 3). ``--even-if-busy`` measures all the same, marks the figures as such, and judges
nothing. Exit code 1: a figure is outside its stated spread or was not measured, or a benchmark failed.

PostgreSQL: a server of the benchmarks' own, or the one that OPENAMI_BENCH_POSTGRES=postgresql://… names.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Compared, Figure, rounded
from benchmarks.machine import described, shares, shares_now, ticks_now
from benchmarks.pace import pace
from benchmarks.picks import Line
from benchmarks.plan import PLAN, Benchmark, chosen, minutes
from benchmarks.postgres_server import GIVEN, postgres_server
from benchmarks.processes import tidy_up_when_told_to_end
from benchmarks.results import FILE, SAME_EVERYWHERE, Machine, Results, read_results, results_text
from benchmarks.tables import DOCUMENT, number, rendered

# A test run next door is over by then, or somebody has to be asked.
QUIET_S_MAX = 300.0
BUSY = 3


class MachineBusy(Exception):
    """Something else is at work; the message says what."""


class BenchmarkFailed(Exception):
    """A benchmark ended with an exit code; the message says which."""


def until_quiet() -> None:
    """Return when nothing else is at work. Raises MachineBusy when that does not come."""
    late = time.monotonic() + QUIET_S_MAX
    while doubts := shares_now().doubts:
        if time.monotonic() > late:
            raise MachineBusy("; ".join(doubts))
        note(f"waiting for the machine: {'; '.join(doubts)}")


@dataclass(frozen=True, slots=True)
class Ran:
    """What a benchmark has said: its figures, the lines that say what is missing, and the pace it was run at."""

    figures: Sequence[Figure]
    missing: Sequence[Line]
    pace: float


def run(benchmark: Benchmark, *, quick: bool, patient: bool) -> Ran:
    """Run a benchmark, and ask for the machine's pace before each turn and at the end.

    Raises BenchmarkFailed, and MachineBusy where quiet is waited for.
    """
    arguments = (benchmark.quick or ()) if quick else benchmark.full
    # The older ones end with 1 when a bound of theirs is missed, which the table says; whether they said all is
    # seen by their picks.
    sound = (0, 1) if benchmark.picks else (0,)
    runs: list[list[Line]] = []
    paces = []
    for _ in range(1 if quick else benchmark.turns):
        if patient:
            until_quiet()
        paces.append(pace())
        note(f"python -m benchmarks.{benchmark.module} {' '.join(arguments)}".rstrip())
        before, began = ticks_now(), time.monotonic()
        runs.append(list(lines_of(benchmark.module, arguments, sound=sound)))
        stolen = shares(before, ticks_now()).stolen
        took = f"{time.monotonic() - began:.0f} s; the host took {stolen:.1%} of the cores"
        note(f"  {took}; pace {paces[-1]:.1f}")
    paces.append(pace())
    missing = [line for lines in runs for line in lines if "missing" in line]
    figures = benchmark.figures(runs)
    unsaid = {pick.name for pick in benchmark.picks} - {each.name for each in figures}
    if unsaid or not figures:
        raise BenchmarkFailed(f"{benchmark.module} did not say {', '.join(unsaid) or 'anything'}")
    return Ran(figures, missing, rounded(statistics.mean(paces)))


def lines_of(module: str, arguments: Sequence[str], *, sound: Collection[int]) -> Iterator[Line]:
    """Yield the JSON lines that a benchmark prints, to its end. Raises BenchmarkFailed."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith("{"):
                    yield json.loads(line)
        except BaseException:  # whatever ends us ends it too, and goes on
            process.terminate()
            raise
    if process.returncode not in sound:
        raise BenchmarkFailed(f"{module} ended with exit code {process.returncode}")


def is_judged(now: Figure, results: Results, machine: Machine) -> bool:
    """Whether a figure has to be what is stated: of another machine only what does not depend on it."""
    return now.unit in SAME_EVERYWHERE or results.is_of(now.name, machine)


def row(compared: Compared, *, judged: bool, busy: bool) -> str:
    """Return a line of the table."""
    now, stated = compared.now, compared.stated
    spread = f"{number(now.value)} [{number(now.low)}–{number(now.high)}] {now.unit}"
    told = [f"{now.name:42} {spread:34}"]
    if now.bound is not None:
        told.append(f"bound {now.bound}" if now.met else f"bound {now.bound} MISSED")
    if stated is None:
        told.append("not stated yet")
    else:
        told.append(f"stated {number(stated.value)} [{number(stated.low)}–{number(stated.high)}]")
        if compared.times is not None:
            told.append(f"{compared.times:.2f} times at {compared.quicker:.2f} of the pace")
        if judged and compared.reproduces is False:
            told.append("NOT REPRODUCED")
    if busy:
        told.append("busy machine")
    return "  ".join(told)


def as_json(compared: Compared, *, judged: bool, busy: bool) -> str:
    """Return a figure's line with what is stated."""
    about = {
        "stated": compared.stated and compared.stated.value,
        "pace": compared.quicker,
        "reproduces": compared.reproduces if judged else None,
        "busy": busy,
    }
    return json.dumps(json.loads(compared.now.line()) | about, ensure_ascii=False)


def write(results: Results, those: Sequence[Ran], how: str) -> None:
    """Put what was measured into results.json and RESULTS.md."""
    machine = described()
    for ran in those:
        results = results.with_measured(ran.figures, machine, how, ran.pace)
    for name, each in results.stated.items():
        if each.figure.met is False and not each.why:
            note(f"{name} misses its bound, {each.figure.bound}: say why in {FILE.name}")
    FILE.write_text(results_text(results))
    DOCUMENT.write_text(rendered(DOCUMENT.read_text(), results))


def list_plan() -> None:
    """Print what there is."""
    for each in PLAN:
        quick = "–" if each.quick is None else f"{each.quick_minutes:g}"
        words = f"{each.module} {' '.join(each.full)}".rstrip()
        print(f"{each.name:20} {each.minutes:5g} min, quick {quick:4} {words}")
    whole, quickly = (
        minutes(PLAN, quick=False),
        minutes(chosen([], quick=True, postgres=True), quick=True),
    )
    print(f"{'all':20} {whole:5.0f} min, quick {quickly:.0f}")


def note(words: str) -> None:
    """Say something to whoever waits."""
    print(words, file=sys.stderr, flush=True)


def measure(
    those: Sequence[Benchmark],
    arguments: argparse.Namespace,
    results: Results,
    measured: list[Ran],
) -> bool:
    """Run them, print their figures and add what they said to what is given; return whether all is as stated.

    Raises MachineBusy; what was measured until then has been added.
    """
    busy = bool(arguments.even_if_busy and shares_now().doubts)
    machine = described()
    sound = True
    for each in those:
        try:
            ran = run(each, quick=arguments.quick, patient=not arguments.even_if_busy)
        except BenchmarkFailed as failed:
            note(str(failed))
            sound = False
            continue
        measured.append(ran)
        said = {now.name for now in ran.figures}
        unsaid = [name for name in results.stated if each.says(name) and name not in said]
        if unsaid and not arguments.quick:
            note(f"stated, and not measured: {', '.join(unsaid)}")
            sound = False
        for line in ran.missing:
            print(json.dumps(line) if arguments.json else f"{line['name']:42} {line['missing']}")
        for now in ran.figures:
            compared = results.compared(now, ran.pace)
            judged = not (arguments.quick or busy) and is_judged(now, results, machine)
            sound = sound and not (judged and compared.reproduces is False)
            told = as_json if arguments.json else row
            print(told(compared, judged=judged, busy=busy), flush=True)
    return sound


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="measure, and compare"
    )
    parser.add_argument("names", nargs="*", help="which; all without a name")
    parser.add_argument(
        "--quick", action="store_true", help="minutes and not hours; judges nothing"
    )
    parser.add_argument("--json", action="store_true", help="one object a line")
    parser.add_argument("--list", action="store_true", help="what there is, and how long it takes")
    parser.add_argument("--even-if-busy", action="store_true", help="measure on a busy machine")
    parser.add_argument("--write", metavar="WORDS", help="state what was measured, e.g. 'quiet'")
    parser.add_argument(
        "--directory", type=Path, default=Path("/var/tmp"), help="on the disk to be measured"
    )
    arguments = parser.parse_args()
    if arguments.list:
        list_plan()
        return 0
    if arguments.write and arguments.quick:
        parser.error("--write states figures, and --quick has none to state")
    tidy_up_when_told_to_end()
    with postgres_server(arguments.directory) as server:
        if server is None:
            note("PostgreSQL is not installed: nothing is measured with it")
        else:
            os.environ[GIVEN] = server
        try:
            those = chosen(arguments.names, quick=arguments.quick, postgres=server is not None)
        except ValueError as unknown:
            parser.error(str(unknown))
        note(
            f"about {minutes(those, quick=arguments.quick):.0f} minutes on a quiet two-core machine"
        )
        results = read_results(FILE.read_text())
        measured: list[Ran] = []
        try:
            code = 0 if measure(those, arguments, results, measured) else 1
        except MachineBusy as busy:
            note(f"refused: {busy}; end what is at work, or measure with --even-if-busy")
            code = BUSY
    if arguments.write:
        write(results, measured, arguments.write)
    return code


if __name__ == "__main__":
    sys.exit(main())
