"""``openami simulate``: a village's bad days on virtual time, and what became of every message."""

import logging
import sys
from collections import Counter
from functools import partial

import click
import structlog

from openami.cli.report import Exit, fail, print_json, print_table, say
from openami.simulator.world.campaign import Outcome, outcomes
from openami.simulator.world.scenario import DICE, Scenario, ScenarioError, load_scenario

# Ten thousand days take an hour; more at a time is a typing mistake.
SEEDS_MAX = 1_000_000
_COLUMNS = (
    "expected",
    "stored",
    "thinned",
    "gone_with_card",
    "beyond_kept",
    "lost",
    "duplicates",
    "rejected",
)
_HEADINGS = (
    *("SEED", "DAYS", "EXPECTED", "STORED", "THINNED", "GONE WITH CARD", "BEYOND KEPT", "LOST"),
    *("DUPLICATES", "REJECTED", "BROKEN"),
)


@click.command()
@click.option(
    "--scenario",
    "name",
    metavar="NAME|FILE",
    default=DICE,
    show_default=True,
    help="A story that ships with openami, a TOML file, or `dice`: the seed throws village and faults.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="The first seed."
)
@click.option(
    "--seeds",
    type=click.IntRange(1, SEEDS_MAX),
    default=1,
    show_default=True,
    help="How many seeds, from the first one on.",
)
@click.option(
    "--days", type=click.FloatRange(0, 366, min_open=True), help="Instead of the story's."
)
@click.option(
    "--jobs", type=click.IntRange(1, 256), help="Processes; one for each core without it."
)
@click.option("--log", is_flag=True, help="What the programs say, to stderr; for one seed.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, one for each seed.")
def simulate(
    name: str, seed: int, seeds: int, days: float | None, jobs: int | None, log: bool, as_json: bool
) -> None:
    """Run real gateways and a real head-end through bad days, and account for every message.

    Only sockets, clocks and disks are simulated. Messages the gateways committed are expected; each must be
    stored, or thinned by the outbox's stated rule, or gone with a card that was taken away, or beyond what a
    card keeps after a broker lost it. Readings that came twice are
    duplicates; what an attacker wrote is rejected. The same scenario and seed give the same history.

    Exit code 1 when a promise was broken: which, with which seed and at which moment.
    """
    prepare = partial(_set_log, log)
    prepare()
    try:
        scenario = Scenario(title="Thrown by the seed") if name == DICE else load_scenario(name)
    except ScenarioError as error:
        fail(str(error), Exit.USAGE)
    say(scenario.title)
    broken: list[Outcome] = []
    done: list[Outcome] = []
    numbers = range(seed, seed + seeds)
    jobs = 1 if seeds == 1 else jobs
    for outcome in outcomes(scenario, numbers, days=days, jobs=jobs, prepare=prepare):
        done.append(outcome)
        if outcome.breach:
            broken.append(outcome)
            say(f"seed {outcome.seed}, {_moment(outcome.at_s)}: {outcome.breach}")
        if as_json:
            print_json(_row(outcome))
        elif len(done) % 100 == 0:
            say(f"{len(done)} of {seeds}, {len(broken)} broken")
    if not as_json:
        _print(done, broken)
    if broken:
        lasting = "" if days is None else f" --days {days:g}"
        again = f"openami simulate --scenario {name} --seed {broken[0].seed}{lasting} --log"
        fail(f"{len(broken)} of {seeds} seeds broke a promise", Exit.FAILED, f"again: {again}")


def _print(done: list[Outcome], broken: list[Outcome]) -> None:
    shown = broken if len(done) > 1 else done
    rows = [
        [
            *(str(outcome.seed), f"{outcome.days:g}"),
            *(str(outcome.ledger[column]) for column in _COLUMNS),
            outcome.breach,
        ]
        for outcome in shown
    ]
    if len(done) > 1:
        ledger, faults = Counter[str](), Counter[str]()
        for outcome in done:
            ledger.update(outcome.ledger)
            faults.update(outcome.happened)
        days = sum(outcome.days for outcome in done)
        totals = [str(ledger[column]) for column in _COLUMNS]
        rows.append(["all", f"{days:g}", *totals, f"{len(broken)} of {len(done)}"])
        say("faults: " + ", ".join(f"{kind} {count}" for kind, count in faults.most_common()))
        say(f"commands: {ledger['commands']}, contactors ordered: {ledger['movements']}")
    print_table(list(_HEADINGS), rows)


def _row(outcome: Outcome) -> dict[str, object]:
    return {
        "seed": outcome.seed,
        "days": outcome.days,
        **outcome.ledger,
        "faults": outcome.happened,
        "broken": outcome.breach or None,
        "at": _moment(outcome.at_s),
    }


def _moment(second: float) -> str:
    """Return a second of the world as a person reads it: day 2, 07:31:04."""
    day, rest = divmod(int(second), 86_400)
    return f"day {day + 1}, {rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"


def _set_log(shown: bool) -> None:
    level = logging.INFO if shown else logging.CRITICAL
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
