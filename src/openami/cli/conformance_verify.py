"""``openami conformance verify``: who signed a report, and is it still what was signed? No network."""

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from openami.cli.files import A_FILE
from openami.cli.report import Exit, fail, print_json, say
from openami.profile import one_line, utc_text

if TYPE_CHECKING:
    from openami.conformance.report.document import ReportError, Sealed

# A report of another run differs everywhere; the first few say so.
_DIFFERENCES_TOLD = 20
# The largest of the formats, of the largest report, is a few MB; another file named by mistake is not read whole.
_MADE_BYTES_MAX = 64 * 1024 * 1024


@click.command()
@click.argument("report", metavar="REPORT", type=A_FILE)
@click.option(
    "--signed-by",
    metavar="THUMBPRINT",
    help="The key it has to be signed by, as its owner tells it.",
)
@click.option(
    "--transcript",
    metavar="FILE",
    type=A_FILE,
    help="Judge this transcript again: the report has to follow from it.",
)
@click.option(
    "--registers",
    metavar="FILE",
    help="With --transcript: the register list it was judged by, where it was not ours.",
)
@click.option(
    "--made",
    "made",
    metavar="FILE",
    multiple=True,
    type=A_FILE,
    help="A PDF, HTML, JUnit or text that is said to be made from REPORT: make it again, and compare.",
)
@click.option("--json", "as_json", is_flag=True, help="One object.")
def verify(
    report: Path,
    signed_by: str | None,
    transcript: Path | None,
    registers: str | None,
    made: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Say who signed REPORT, a report.json, and whether it is unaltered.

    Whose key it is, no file can say: compare the thumbprint with the one the kit's owner tells, or name it with
    --signed-by.

    Exit code 0: every byte is as it was signed, the findings follow from --transcript, and --made is made from it;
    1: one of these is not so, and which; 2: a file cannot be read.
    """
    sealed = opened(report, signed_by, as_json=as_json)
    differing = [] if transcript is None else _differences(sealed, transcript, registers)
    others = [str(file) for file in made if not _is_made_from(sealed, file)]
    if as_json:
        print_json(_row(sealed, None if transcript is None else differing, others))
    else:
        _tell(sealed)
    if differing:
        shown = "; ".join(differing[:_DIFFERENCES_TOLD])
        more = len(differing) - _DIFFERENCES_TOLD
        fail(
            f"{report} does not follow from {transcript}: {shown}{f'; and {more} more' if more > 0 else ''}",
            Exit.FAILED,
            "believe the transcript, if you trust where it is from",
        )
    if others:
        fail(
            f"{', '.join(others)}: not what this kit makes of {report}, to the byte",
            Exit.FAILED,
            "it was altered, or made by another version of openami or its libraries: make your own with "
            "openami conformance report",
        )
    if not as_json:
        for file in made:
            say(f"  {file} is made from it, to the byte")
        if transcript is not None:
            say(f"  every finding follows from {transcript}, judged again")


def opened(report: Path, signed_by: str | None = None, *, as_json: bool = False) -> "Sealed":
    """Return the report of a file, verified; ends the program if it is not to be believed."""
    from openami.conformance.report.document import REPORT_BYTES_MAX, ReportError, open_report

    try:
        with report.open("rb") as file:
            data = file.read(REPORT_BYTES_MAX + 1)
    except OSError as error:
        fail(f"{report} cannot be read: {error.strerror or error}", Exit.USAGE)
    try:
        return open_report(data, signed_by)
    except ReportError as error:
        _refuse(report, error, as_json=as_json)


def _refuse(report: Path, error: "ReportError", *, as_json: bool) -> NoReturn:
    message = f"{report}: {error.fault}: {one_line(str(error))}"
    if as_json:
        print_json(
            {"verified": False, "fault": str(error.fault), "why": message, "remedy": error.remedy}
        )
    fail(message, Exit.FAILED, error.remedy)


def _differences(sealed: "Sealed", transcript: Path, registers: str | None) -> list[str]:
    from openami.cli.storage import catalogue_of
    from openami.conformance.replay import differences, replay
    from openami.conformance.transcript import TranscriptError, TranscriptReader

    try:
        with transcript.open("rb") as file:
            ended_at = sealed.report.judgement.ended_at
            replayed = replay(TranscriptReader(file), ended_at, catalogue_of(registers))
    except TranscriptError as error:
        fail(f"{transcript}: {one_line(str(error))}", Exit.FAILED, error.remedy)
    except OSError as error:
        fail(f"{transcript} cannot be read: {error.strerror or error}", Exit.USAGE)
    return list(differences(sealed.report, replayed))


def _is_made_from(sealed: "Sealed", file: Path) -> bool:
    """Whether a file is one of the report's formats, byte for byte."""
    from openami.conformance.report.writing import FORMATS

    try:
        with file.open("rb") as opened_file:
            data = opened_file.read(_MADE_BYTES_MAX + 1)
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror or error}", Exit.USAGE)
    return data == FORMATS[_format_of(data)](sealed)


def _format_of(data: bytes) -> str:
    """Return which format a file begins like."""
    beginnings = {b"%PDF-": "pdf", b"<!doctype html": "html", b"<?xml": "junit", b"{": "json"}
    return next((name for start, name in beginnings.items() if data.startswith(start)), "text")


def _row(sealed: "Sealed", differing: list[str] | None, others: list[str]) -> dict[str, object]:
    from openami.conformance.report import words

    judgement = sealed.report.judgement
    return {
        "verified": not differing and not others,
        "fault": "NOT_FROM_TRANSCRIPT" if differing else "NOT_MADE_FROM_IT" if others else None,
        "signedBy": sealed.kid,
        "signedAt": utc_text(sealed.signed_at),
        "sha256": sealed.digest,
        "kind": judgement.subject.kind,
        "names": list(judgement.subject.names),
        "conforms": judgement.conforms,
        "counts": words.counts(judgement),
        "differences": differing,
        "notMadeFromIt": others,
    }


def _tell(sealed: "Sealed") -> None:
    from openami.conformance.report import words

    judgement = sealed.report.judgement
    counts = ", ".join(
        f"{n} {words.counted(verdict, n)}" for verdict, n in words.counts(judgement).items() if n
    )
    say(f"{words.kind(judgement)} {words.names(judgement)}: {words.headline(judgement)}")
    say(f"  {counts or 'nothing was judged'}")
    say(f"  judged {utc_text(judgement.began_at)} to {utc_text(judgement.ended_at)}")
    say(f"  signed by the key {sealed.kid} on {utc_text(sealed.signed_at)}, and unaltered since")
    say(f"  SHA-256 {sealed.digest}: the same stands in its HTML, PDF and text")
