"""Durations on the command line: 30s, 5m, 2h, 7d."""

import re
from datetime import timedelta

import click

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_is_duration = re.compile(r"(\d{1,6})([smhd])", re.ASCII).fullmatch


def as_duration(ctx: click.Context, param: click.Parameter, value: str | None) -> timedelta | None:
    """Read an option's duration: a click callback."""
    if value is None:
        return None
    found = _is_duration(value)
    if found is None or int(found[1]) == 0:
        raise click.BadParameter(f"{value!r} is no duration: write 30s, 5m, 2h or 7d", ctx, param)
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
