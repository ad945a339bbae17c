"""A register's bytes on the terminal: every type and order, and the lines of a map for what is plausible."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from openami.cli.report import Exit, fail, print_json, print_table, say

if TYPE_CHECKING:
    from openami.gateway.doctor.spellings import Expected, Plausible, Spelling


def show_bytes(raw: bytes, expected: "Expected | None", as_json: bool) -> None:
    """Print a register in every type and order; end the command where something was expected and is not there."""
    from openami.gateway.doctor.spellings import RAW_BYTES, plausible, spellings

    if len(raw) not in RAW_BYTES:
        say(f"bytes: {raw.hex(' ')}")
        return
    read = spellings(raw)
    good = () if expected is None else plausible(read, expected)
    if as_json:
        _print_rows(raw, read, good)
    else:
        _print_orders(raw, read, good)
    if expected is None:
        say("--obis CODE, or --shows with what the display shows, marks what is plausible")
    elif not good:
        fail(_nothing(expected, raw), Exit.FAILED)
    elif not as_json:
        _print_best(good)


def _nothing(expected: "Expected", raw: bytes) -> str:
    if not any(raw):
        return (
            "the bytes are 0, which is 0 in every type and order: look when something is measured"
        )
    if expected.shown is not None:
        return f"none of these is {float(expected.shown):g}: another register?"
    if expected.high is None:
        return f"{expected.what} has no range: say --shows with what the display shows"
    return f"none of these is a {expected.what}: another register, or another scale?"


def _print_rows(raw: bytes, read: "Sequence[Spelling]", good: "Sequence[Plausible]") -> None:
    reasons = {one.spelling: one for one in good}
    for one in read:
        found = reasons.get(one)
        print_json(
            {
                "raw": raw.hex(),
                "order": one.order,
                "type": one.type,
                "value": one.text,
                "plausible": found is not None,
                "scale": None if found is None else str(found.scale),
                "reason": None if found is None else found.reason,
            }
        )


def _print_orders(raw: bytes, read: "Sequence[Spelling]", good: "Sequence[Plausible]") -> None:
    marked = {one.spelling for one in good}
    types = list(dict.fromkeys(one.type for one in read))
    orders = list(dict.fromkeys(one.order for one in read))
    by_place = {(one.order, one.type): one for one in read}
    rows = [[order, *(_cell(by_place[order, kind], marked) for kind in types)] for order in orders]
    click.echo(f"bytes {raw.hex(' ')}")
    print_table(["order", *types], rows)


def _cell(one: "Spelling", marked: "set[Spelling]") -> str:
    return one.text + " *" * (one in marked)


def _print_best(good: "Sequence[Plausible]") -> None:
    best = good[0]
    order = best.spelling.order
    click.echo(f"* {best.spelling.type} {order} x {best.scale}: {best.reason}")
    for other in good[1:]:
        click.echo(
            f"* {other.spelling.type} {other.spelling.order} x {other.scale}: {other.reason}"
        )
    if best.spelling.type == "float64" or order.word_order is None:
        click.echo("no register map can say this: it is a driver's affair")
        return
    click.echo(f'\ntype = "{best.spelling.type}"')
    if not best.spelling.type.endswith("16"):
        click.echo(f'word_order = "{order.word_order}"')
    if best.scale != 1:
        click.echo(f'scale = "{best.scale}"')
