"""``openami conformance vectors``: the vectors, put to any implementation behind an adapter."""

import asyncio
import shlex
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import click
import msgspec

from openami.cli.report import Exit, fail, print_json, print_table, say
from openami.clock import SystemClock
from openami.conformance.adapter import ANSWER_WAIT_S, AdapterError, AdapterProcess
from openami.conformance.adapter_contract import Kind
from openami.conformance.our_reader import answer
from openami.conformance.vectors import KINDS, Outcome, Vector, by_flag, judged, shipped_vectors
from openami.conformance.vectors_junit import junit_vectors


def _kinds(
    _context: click.Context, _parameter: click.Parameter, text: str | None
) -> tuple[Kind, ...]:
    if text is None:
        return KINDS
    wanted = [each.strip() for each in text.split(",")]
    unknown = [each for each in wanted if each not in KINDS]
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(KINDS)}")
    return tuple(kind for kind in KINDS if kind in wanted)


def _command(_context: click.Context, _parameter: click.Parameter, text: str | None) -> list[str]:
    try:
        words = shlex.split(text or "")
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no command: {error}") from None
    if text is not None and not words:
        raise click.BadParameter("it is empty")
    return words


@click.command()
@click.option(
    "--adapter", "command", metavar="CMD", callback=_command, help="The adapter's command."
)
@click.option(
    "--only", "kinds", metavar="KIND,…", callback=_kinds, help="Some kinds of vectors alone."
)
@click.option(
    "--timeout",
    "wait_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0.01),
    default=ANSWER_WAIT_S,
    show_default=True,
    help="How long one answer may take.",
)
@click.option(
    "--junit",
    "junit",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the outcomes for a build server as well.",
)
@click.option("--json", "as_json", is_flag=True, help="One object for each case.")
def vectors(
    command: list[str], kinds: tuple[Kind, ...], wait_s: float, junit: Path | None, as_json: bool
) -> None:
    """Put the vectors to an implementation: right, wrong or declined, case by case.

    CMD is run without a shell, reads one question a line and writes one answer a line. Without --adapter
    it is our own library that is judged.

    Exit code: 0 nothing failed (warnings are told), 1 something failed or nothing was answered,
    2 the adapter cannot be started.
    """  # fmt: skip
    cases, began_at = shipped_vectors(kinds), SystemClock().now()
    try:
        outcomes = asyncio.run(_told(cases, command, wait_s=wait_s, as_json=as_json))
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)
    except AdapterError as error:
        fail(str(error), Exit.USAGE, "--adapter takes a command, e.g. --adapter './reader --stdin'")
    if junit is not None:
        try:
            junit.write_bytes(junit_vectors(outcomes, began_at=began_at))
        except OSError as error:
            fail(f"{junit} cannot be written: {error.strerror or error}", Exit.USAGE)
    if not as_json:
        _print_flags(outcomes)
    results = Counter(outcome.result for outcome in outcomes)
    verdicts = Counter(outcome.verdict for outcome in outcomes)
    say(
        f"{len(outcomes)} cases: {results['right']} right, {results['wrong']} wrong "
        f"({verdicts['failed']} failed, {verdicts['warning']} warnings), {results['declined']} declined"
    )
    if not results["right"] and not results["wrong"]:
        fail("the adapter declined every case: nothing was judged", Exit.FAILED)
    sys.exit(Exit.FAILED if verdicts["failed"] else Exit.DONE)


async def _told(
    cases: Sequence[Vector], command: list[str], *, wait_s: float, as_json: bool
) -> list[Outcome]:
    """Judge the cases one after the other, telling each as it comes. Raises AdapterError."""
    outcomes = []
    async for outcome in _outcomes(cases, command, wait_s=wait_s):
        outcomes.append(outcome)
        if as_json:
            print_json(msgspec.to_builtins(outcome))
        elif outcome.result == "wrong":
            _print_wrong(outcome)
    return outcomes


async def _outcomes(
    cases: Sequence[Vector], command: list[str], *, wait_s: float
) -> AsyncIterator[Outcome]:
    if not command:
        for number, case in enumerate(cases, 1):
            yield judged(case, answer(case.question(number)))
        return
    async with AdapterProcess(command, answer_wait_s=wait_s) as adapter:
        for number, case in enumerate(cases, 1):
            yield judged(case, await adapter.ask(case.question(number)))


# --- how it is told ------------------------------------------------------------------------------


def _print_wrong(outcome: Outcome) -> None:
    word = "FAILED" if outcome.verdict == "failed" else "warning"
    click.echo(f"{word}  {outcome.id}: {outcome.what()}")
    click.echo(f"    {outcome.comment} [{', '.join(outcome.flags)}]")
    if outcome.source:
        whose = " ".join(part for part in (outcome.requirement, f"({outcome.source})") if part)
        click.echo(f"    {whose} {outcome.remedy}".rstrip())


def _print_flags(outcomes: Sequence[Outcome]) -> None:
    print_table(
        ["FLAG", "RIGHT", "WRONG", "DECLINED", "CATCHES"],
        [
            [row.flag, str(row.right), str(row.wrong), str(row.declined), row.catches]
            for row in by_flag(outcomes)
        ],
    )
