"""``openami conformance report``: a signed report in another format."""

from pathlib import Path

import click

from openami.cli.conformance_verify import opened
from openami.cli.files import A_FILE
from openami.cli.report import Exit, fail


@click.command()
@click.argument("report", metavar="REPORT", type=A_FILE)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["html", "pdf", "junit", "text"]),
    default="text",
    show_default=True,
    help="What to make of it.",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    default="-",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="Where to; standard output if nothing is said.",
)
def report(report: Path, format_: str, output: str) -> None:
    """Make HTML, PDF, JUnit or text of REPORT, a report.json; one that was altered is refused.

    Exit code 0: made; 1: the report is not to be believed; 2: a file cannot be read or written.
    """
    from openami.conformance.report.writing import FORMATS

    made = FORMATS[format_](opened(report))
    try:
        with click.open_file(output, "wb") as file:
            file.write(made)
    except OSError as error:
        fail(f"{output} cannot be written: {error.strerror or error}", Exit.USAGE)
