"""The demo as a person sees it: one picture a second, as lines of text. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from openami.gateway.driver import RelayPosition
from openami.headend.store import Reading
from openami.profile import MeterSerial, Obis, Quality
from openami.simulator.audit import Traffic
from openami.simulator.plan import VillagePlan

_COLUMNS: Mapping[str, Obis] = {
    "V": Obis.parse("32.7.0"),
    "kW": Obis.parse("1.7.0"),
    "kWh": Obis.parse("1.8.0"),
    "credit kWh": Obis.parse("96.8.0"),
    "relay": Obis.parse("96.11.1"),
}
_DECIMALS = {"V": 1, "kW": 3, "kWh": 2, "credit kWh": 3}
_HEADINGS = ("meter", "customer", *_COLUMNS, "quality", "age")
_WIDTHS = (9, 12, 7, 8, 11, 11, 13, 11, 5)
_LEFT = {"meter", "customer", "relay", "quality"}
# Lines above and below the meters, and the shortest list of them that is worth its heading.
_FRAME_LINES = 9
_METERS_SHOWN_MIN = 3
# The latest turns of the story; older ones have been read.
NEWS_SHOWN_MAX = 3

# In the village a relay that nobody ordered moves for nothing else.
_REASONS = {
    RelayPosition.DISCONNECTED: "because the credit is used up",
    RelayPosition.CONNECTED: "because credit was bought",
}
_ORDERED = "as it was ordered; so the readings say, too"

_QUALITIES = (Quality.GOOD, Quality.SUSPECT, Quality.COMMS_LOST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What there is to see at a moment; ``latest`` is what the operator's store has."""

    now: datetime
    elapsed: timedelta
    duration: timedelta | None
    plan: VillagePlan
    broker: str
    headend_runs: bool
    traffic: Traffic
    messages: int
    stored: int
    latest: Mapping[MeterSerial, Sequence[Reading]] = field(default_factory=dict)
    news: Sequence[str] = ()
    entrance: Sequence[str] = ()
    """How a person gets into the console, line by line."""


def summary(picture: Picture) -> str:
    """Return the picture in one line, for a log."""
    headend = "" if picture.headend_runs else "  head-end down"
    return (
        f"{clock_text(picture.elapsed)}  sent {picture.traffic.sent} messages, "
        f"stored {picture.messages} with {picture.stored} readings, "
        f"backlog {picture.traffic.backlog}{headend}"
    )


def table(picture: Picture, *, lines_max: int) -> list[str]:
    """Return the picture as a table of at most this many lines; what does not fit is counted."""
    of = "" if picture.duration is None else f" of {clock_text(picture.duration)}"
    serials = [picture.plan.head_serial, *(c.serial for c in picture.plan.customers)]
    frame = _FRAME_LINES + len(picture.entrance)
    room = max(_METERS_SHOWN_MIN, lines_max - frame - NEWS_SHOWN_MAX)
    shown = serials if len(serials) <= room else serials[: room - 1]
    lines = [
        f"OpenAMI village, seed {picture.plan.seed}: {len(serials)} meters, "
        f"{clock_text(picture.elapsed)}{of}    Ctrl-C ends it",
        f"meters > Modbus TCP > gateway > outbox > {picture.broker} > head-end > store",
        f"sent {picture.traffic.sent} messages   backlog {picture.traffic.backlog}   "
        f"head-end {'running' if picture.headend_runs else 'DOWN'}   "
        f"stored {picture.messages} messages, {picture.stored} readings",
        *picture.entrance,
        "",
        _row(_HEADINGS),
        *(_row(_meter(picture, serial)) for serial in shown),
    ]
    if len(shown) < len(serials):
        lines.append(f"… and {len(serials) - len(shown)} more")
    return [*lines, "", *picture.news[-NEWS_SHOWN_MAX:]]


def relay_changes(
    before: Mapping[MeterSerial, Sequence[Reading]],
    after: Mapping[MeterSerial, Sequence[Reading]],
    *,
    ordered: MeterSerial | None = None,
) -> list[str]:
    """Return what an operator is told of relays that have moved between two looks at the store."""
    was, now = _relays(before), _relays(after)
    return [
        f"{serial}: the relay is {position} now, "
        f"{_ORDERED if serial == ordered else _REASONS[RelayPosition(position)]}"
        for serial, position in now.items()
        if serial in was and was[serial] != position
    ]


def _relays(latest: Mapping[MeterSerial, Sequence[Reading]]) -> dict[MeterSerial, str]:
    relay = _COLUMNS["relay"]
    return {
        serial: str(reading.value)
        for serial, readings in latest.items()
        for reading in readings
        if reading.obis == relay
    }


def _meter(picture: Picture, serial: MeterSerial) -> Sequence[str]:
    readings = {reading.obis: reading for reading in picture.latest.get(serial, ())}
    customer = next((c for c in picture.plan.customers if c.serial == serial), None)
    cells = [serial, "feeder head" if customer is None else customer.load_class.value]
    for name, obis in _COLUMNS.items():
        reading = readings.get(obis)
        cells.append("" if reading is None else _value(name, reading))
    if not readings:
        return [*cells, "", ""]
    worst = max((r.quality for r in readings.values()), key=_QUALITIES.index)
    age = picture.now - max(reading.ts for reading in readings.values())
    return [*cells, worst.value, f"{max(0, round(age.total_seconds()))} s"]


def _value(name: str, reading: Reading) -> str:
    value = reading.value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:.{_DECIMALS.get(name, 0)}f}"
    return str(value)


def _row(cells: Sequence[str]) -> str:
    pairs = zip(_HEADINGS, cells, _WIDTHS, strict=True)
    return "  ".join(
        cell.ljust(width) if name in _LEFT else cell.rjust(width) for name, cell, width in pairs
    ).rstrip()


def clock_text(duration: timedelta) -> str:
    """Print a duration as minutes and seconds."""
    minutes, seconds = divmod(int(duration.total_seconds()), 60)
    return f"{minutes:02d}:{seconds:02d}"
