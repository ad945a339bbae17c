"""How commands speak: data to stdout, talk to stderr, failures as one sentence and an exit code."""

import json
import sys
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, NoReturn

import click


class Exit(IntEnum):
    """What a command's end means to the script that called it."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    CANNOT_CONNECT = 3
    REFUSED = 4
    OUTCOME_UNKNOWN = 5
    INTERRUPTED = 130


def say(text: str) -> None:
    """Say something to the person, on stderr."""
    click.echo(text, err=True)


def fail(message: str, code: Exit, remedy: str = "") -> NoReturn:
    """End with one sentence, its remedy, and the code."""
    say(f"openami: {message}" + (f" — {remedy}" if remedy else ""))
    sys.exit(code)


def print_json(row: Mapping[str, Any]) -> None:
    """Print one object on one line of stdout."""
    click.echo(json.dumps(row, ensure_ascii=False, separators=(",", ":"), default=str))


def print_table(headings: list[str], rows: list[list[str]]) -> None:
    """Print rows in aligned columns on stdout; nothing but the headings when there are none."""
    widths = [max(len(cell) for cell in column) for column in zip(headings, *rows, strict=True)]
    for line in (headings, *rows):
        click.echo("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip())
