"""``openami conformance verify``: who signed a report, and is it still what was signed? No network."""

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from openami.cli.report import Exit, fail, print_json, say
from openami.profile import one_line, utc_text

if TYPE_CHECKING:
    from openami.conformance.report.document import ReportError, Sealed

# A report of another run differs everywhere; the first few say so.
_DIFFERENCES_TOLD = 20


@click.command()
@click.argument(
    "report", metavar="REPORT", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "--signed-by",
    metavar="THUMBPRINT",
    help="The key it has to be signed by, as its owner tells it.",
)
@click.option(
    "--transcript",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Judge this transcript again: the report has to follow from it.",
)
@click.option(
    "--registers",
    metavar="FILE",
    help="With --transcript: the register list it was judged by, where it was not ours.",
)
@click.option("--json", "as_json", is_flag=True, help="One object.")
def verify(
    report: Path,
    signed_by: str | None,
    transcript: Path | None,
    registers: str | None,
    as_json: bool,
) -> None:
    """Say who signed REPORT, a report.json, and whether it is unaltered.

    Whose key it is, no file can say: compare the thumbprint with the one the kit's owner tells, or name it with
    --signed-by.

    Exit code 0: every byte is as it was signed, and with --transcript the findings follow from it; 1: it is not to
    be believed, and why; 2: a file cannot be read.
    """
    sealed = opened(report, signed_by, as_json=as_json)
    differing: list[str] = []
    if transcript is not None:
        differing = _differences(sealed, transcript, registers)
    if as_json:
        print_json(_row(sealed, None if transcript is None else differing))
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
    if transcript is not None and not as_json:
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


def _row(sealed: "Sealed", differing: list[str] | None) -> dict[str, object]:
    from openami.conformance.report import words

    judgement = sealed.report.judgement
    return {
        "verified": not differing,
        "fault": "NOT_FROM_TRANSCRIPT" if differing else None,
        "signedBy": sealed.kid,
        "signedAt": utc_text(sealed.signed_at),
        "sha256": sealed.digest,
        "kind": judgement.subject.kind,
        "names": list(judgement.subject.names),
        "conforms": judgement.conforms,
        "counts": words.counts(judgement),
        "differences": differing,
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
    say(f"  SHA-256 {sealed.digest}: the same has to stand in its HTML, PDF and text")
