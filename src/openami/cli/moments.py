"""Moments on the command line: how long ago, or when."""

import re
from datetime import UTC, datetime, timedelta

import click

from openami.clock import SystemClock

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_is_ago = re.compile(r"(\d{1,6})([mhdw])").fullmatch


def parse_moment(text: str, now: datetime) -> datetime:
    """Return the moment a text names: ``7d`` ago, or an ISO 8601 date or time, UTC if it names no zone.

    Raises ValueError.
    """
    try:
        if ago := _is_ago(text):
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is no moment: write how long ago (90m, 12h, 7d, 4w) or when "
            "(2026-06-22, 2026-06-22T14:30:00Z; without a zone it is UTC)"
        ) from None


def as_moment(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """Read an option's moment: a click callback."""
    try:
        return None if value is None else parse_moment(value, SystemClock().now())
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None
