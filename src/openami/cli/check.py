"""``openami check``: is this message what the profile asks for? A verdict, the reason, the remedy."""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import click

from openami.cli.report import Exit, fail, print_json, say
from openami.clock import SystemClock
from openami.conformance.captures import judge_input
from openami.conformance.judgement import Kind
from openami.conformance.verdict import MessageVerdict
from openami.profile import (
    MESSAGE_BYTES_MAX,
    CatalogueError,
    ProfileError,
    RegisterCatalogue,
    requirement_of,
    shipped_catalogue,
)
from openami.profile.reader import JsonObject, read_document

# A day's capture of a village; a larger one goes through --lines, which holds one line at a time.
FILE_BYTES_MAX: Final = 64 * 1024 * 1024
# A captured message written as a JSON string may need six characters for a byte, and has a topic beside it.
LINE_BYTES_MAX: Final = 8 * MESSAGE_BYTES_MAX

_LINE_SUFFIXES = (".jsonl", ".ndjson")


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE…|-")
@click.option("--lines", is_flag=True, help="Every line is an input, as it comes.")
@click.option("--registers", metavar="FILE", help="Judge by this register list instead of ours.")
@click.option("--json", "as_json", is_flag=True, help="One object for each input.")
@click.option(
    "--verdicts", is_flag=True, help="A verdict on each requirement, of all inputs together."
)
@click.option(
    "--of",
    "kind",
    type=click.Choice(["gateway", "headend"]),
    default="gateway",
    show_default=True,
    help="With --verdicts: whom to judge.",
)
def check(
    files: tuple[str, ...],
    lines: bool,
    registers: str | None,
    as_json: bool,
    verdicts: bool,
    kind: Kind,
) -> None:
    """Judge messages: one verdict for each input; ``-`` reads standard input.

    A file is one message. Where its first line is a whole JSON object and more lines follow, each line is
    a message; so it is in files named .jsonl and with --lines. A line that holds topic and payload, as
    `mosquitto_sub -q 1 -F '%J'` prints it, is judged with its topic.

    Exit code: 0 all accepted, 1 some rejected, 2 a file cannot be read. With --verdicts: 0 conforms, 1 does
    not, or was not seen to.
    """
    catalogue = _catalogue(registers)
    reading = _Reading(files, by_line=lines)
    if verdicts:
        code = _judge_together(reading, catalogue, kind, as_json=as_json)
    else:
        code = _judge_each(reading, catalogue, as_json=as_json)
    sys.exit(Exit.USAGE if reading.failed else code)


def _judge_each(reading: "_Reading", catalogue: RegisterCatalogue, *, as_json: bool) -> Exit:
    judged = Counter[bool]()
    for label, content in reading.inputs():
        verdict = judge_input(content, catalogue)
        judged[not verdict.errors] += 1
        _print(label, verdict, as_json=as_json)
    if not judged and not reading.failed:
        fail("there is no message in the input", Exit.USAGE)
    return Exit.FAILED if judged[False] else Exit.DONE


def _judge_together(
    reading: "_Reading", catalogue: RegisterCatalogue, kind: Kind, *, as_json: bool
) -> Exit:
    try:
        from openami.cli.check_verdicts import judge_captures
    except ModuleNotFoundError as missing:
        fail(
            f"--verdicts needs {missing.name}, which is not installed",
            Exit.USAGE,
            "pip install 'openami[all]'",
        )
    now = SystemClock().now()
    return judge_captures(reading.inputs(), catalogue, kind=kind, now=now, as_json=as_json)


def _catalogue(name: str | None) -> RegisterCatalogue:
    if name is None:
        return shipped_catalogue()
    try:
        return RegisterCatalogue.decode(Path(name).read_bytes())
    except OSError as error:
        fail(f"{name} cannot be read: {error.strerror or error}", Exit.USAGE)
    except CatalogueError as error:
        fail(f"{name}: {error}", Exit.USAGE, "openami spec registers shows the shape")


# --- the inputs ----------------------------------------------------------------------------------


class _Reading:
    """The files, read one after the other; one that cannot be read is said, and the others are."""

    def __init__(self, files: Sequence[str], *, by_line: bool) -> None:
        self._files = files
        self._by_line = by_line
        self.failed = False

    def inputs(self) -> Iterator[tuple[str, bytes]]:
        """Yield each message with what to call it."""
        for name in self._files:
            try:
                yield from _inputs(name, by_line=self._by_line)
            except OSError as error:
                self.failed = True
                say(f"openami: {name} cannot be read: {error.strerror or error}")


def _inputs(name: str, *, by_line: bool) -> Iterator[tuple[str, bytes]]:
    """Yield each message of a file with what to call it. Raises OSError."""
    label = "standard input" if name == "-" else name
    if by_line or name.endswith(_LINE_SUFFIXES):
        yield from _lines_of(name, label)
        return
    if name == "-":
        content = sys.stdin.buffer.read(FILE_BYTES_MAX + 1)
    else:
        with Path(name).open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    if len(content) > FILE_BYTES_MAX:
        raise OSError(
            0, f"it has more than {FILE_BYTES_MAX} bytes; is it one message a line? use --lines"
        )
    first, _, rest = content.strip().partition(b"\n")
    if rest and _is_object(first):
        yield from _numbered(label, content.splitlines())
    else:
        yield label, content.removesuffix(b"\n").removesuffix(b"\r")


def _lines_of(name: str, label: str) -> Iterator[tuple[str, bytes]]:
    if name == "-":
        yield from _numbered(label, _bounded_lines(sys.stdin.buffer.readline))
        return
    with Path(name).open("rb") as file:
        yield from _numbered(label, _bounded_lines(file.readline))


def _bounded_lines(readline: Callable[[int], bytes]) -> Iterator[bytes]:
    """Yield lines, each cut where it is longer than any message can be."""
    while line := readline(LINE_BYTES_MAX):
        rest = line
        while len(rest) == LINE_BYTES_MAX and not rest.endswith(b"\n"):
            rest = readline(LINE_BYTES_MAX)
        yield line


def _numbered(label: str, lines: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield f"{label}:{number}", line.rstrip(b"\r\n")


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(read_document(text).root, JsonObject)
    except ProfileError:
        return False


# --- how it is told ------------------------------------------------------------------------------


def _print(label: str, verdict: MessageVerdict, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "input": label,
                "ok": not verdict.errors,
                "faults": verdict.faults,
                "errors": [_as_row(error) for error in verdict.errors],
                "warnings": [
                    {"code": w.code, "path": w.path, "detail": w.detail} for w in verdict.remarks
                ],
            }
        )
        return
    if not verdict.errors:
        click.echo(f"{label}: ok")
    for number, error in enumerate(verdict.errors):
        click.echo((f"{label}: REJECTED " if number == 0 else "  and ") + _sentence(error))
    if verdict.faults > len(verdict.errors):
        click.echo(f"  and {verdict.faults - len(verdict.errors)} more")
    for warning in verdict.remarks:
        click.echo(f"  warning: {warning.code} at {warning.path}: {warning.detail}")


def _sentence(error: ProfileError) -> str:
    requirement = requirement_of(error)
    place = f" at {error.path}" if error.path else ""
    return (
        f"{error.code}{place}: {error.detail} "
        f"({requirement.id}, {requirement.source}; {requirement.remedy})"
    )


def _as_row(error: ProfileError) -> dict[str, str]:
    requirement = requirement_of(error)
    return {
        "code": error.code,
        "path": error.path,
        "detail": error.detail,
        "requirement": requirement.id,
        "source": requirement.source,
        "remedy": requirement.remedy,
    }
