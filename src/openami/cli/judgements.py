"""How a judgement is printed: a summary for a person, one object a finding for a program."""

from typing import Any

import click
import msgspec

from openami.cli.report import Exit, print_json
from openami.conformance.judgement import Judgement
from openami.conformance.summary import summary


def print_judgement(judgement: Judgement, *, as_json: bool) -> Exit:
    """Print it on stdout; return the exit code that follows from it.

    As JSON each finding is a line, ``{"row":"finding",…}``, and ``{"row":"judgement",…}`` is the last.
    """
    if as_json:
        whole: dict[str, Any] = msgspec.to_builtins(judgement)
        for finding in whole.pop("findings"):
            print_json({"row": "finding", **finding})
        print_json({"row": "judgement", **whole})
    else:
        for line in summary(judgement):
            click.echo(line)
    return Exit.DONE if judgement.conforms else Exit.FAILED
