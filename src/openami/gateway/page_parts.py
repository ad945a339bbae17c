"""What the gateway's own pages are made of (pure): a meter's state and values, times, badges; all of it escaped."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from html import escape
from typing import Final

from openami.gateway.meter_record import MeterRecord, MeterState
from openami.gateway.normalise import Remembered
from openami.profile import Obis

# What is worth a glance, in this order, and what stands before it; the rest is the head-end's to show.
_KEY_REGISTERS: Final = {
    Obis.parse(code): label
    for code, label in (
        ("1.8.0", "import "),
        ("2.8.0", "export "),
        ("96.8.0", "credit "),
        ("96.11.1", "relay "),
        ("16.7.0", ""),
        ("1.7.0", ""),
        ("32.7.0", ""),
        ("52.7.0", ""),
        ("72.7.0", ""),
    )
}

# Shape, word and class: never colour alone. The order is that of the page: what needs a person first.
STATES: Final = {
    MeterState.ADDRESS_CLASH: ("✕", "address clash", "bad"),
    MeterState.METER_SILENT: ("✕", "silent", "bad"),
    MeterState.SUSPECT: ("▲", "suspect", "warn"),
    MeterState.NEVER_SEEN: ("○", "never seen", "warn"),
    MeterState.REPORTING: ("●", "reporting", "good"),
}


def values(record: MeterRecord) -> str:
    """Return a meter's last known values on one line."""
    known = [_value(obis, record.memory[obis]) for obis in _KEY_REGISTERS if obis in record.memory]
    return " · ".join(value for value in known if value)


def _value(obis: Obis, remembered: Remembered) -> str:
    if remembered.known is None:
        return f"{_KEY_REGISTERS[obis] or escape(str(obis))} {badge(('▲', 'suspect', 'warn'))}"
    unit = "" if remembered.known.unit == "enum" else f" {remembered.known.unit}"
    text = escape(f"{_KEY_REGISTERS[obis]}{remembered.known.value}{unit}")
    doubt = "" if remembered.doubt is None else f" {badge(('▲', 'now suspect', 'warn'))}"
    return f'<span title="{escape(str(obis))}">{text}{doubt}</span>'


def badge(shown: Sequence[str]) -> str:
    """Return a shape, a word and their colour's class as markup."""
    shape, word, kind = shown
    return f'<b class="{kind}"><i aria-hidden="true">{shape}</i> {escape(word)}</b>'


def count(number: int, noun: str) -> str:
    """Return a number and its noun: ``1 message``, ``2 messages``."""
    return f"{number} {noun}{'s' * (number != 1)}"


def clock_time(moment: datetime) -> str:
    """Return a date and time of UTC, to the second."""
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def ago(moment: datetime, now: datetime) -> str:
    """Return how long ago a moment was; the moment itself where it is still to come."""
    return f"{span(now - moment)} ago" if moment <= now else f"{clock_time(moment)} UTC"


def span(length: timedelta) -> str:
    """Print a length of time by its largest unit: ``12 s``, ``4 min``, ``3 h``, ``41 d``."""
    seconds = max(0, int(length.total_seconds()))
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
