"""The status page as HTML (pure): a snapshot in, a text out, everything in it escaped.

For a phone beside the pole: one column, no script, state as shape and word and colour, what needs a person
first. The words are those of the head-end.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from html import escape
from typing import Final

from openami import __version__
from openami.gateway.meter_record import MeterRecord, MeterState
from openami.gateway.normalise import Remembered
from openami.gateway.snapshot import CheckState, Snapshot
from openami.profile import Obis

# How often the page loads itself anew: two looks in a fast interval.
REFRESH_S: Final = 30

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
_STATES: Final = {
    MeterState.ADDRESS_CLASH: ("✕", "address clash", "bad"),
    MeterState.METER_SILENT: ("✕", "silent", "bad"),
    MeterState.SUSPECT: ("▲", "suspect", "warn"),
    MeterState.NEVER_SEEN: ("○", "never seen", "warn"),
    MeterState.REPORTING: ("●", "reporting", "good"),
}
_CHECKS: Final = {
    CheckState.OK: ("●", "ok", "good"),
    CheckState.DEGRADED: ("▲", "degraded", "warn"),
    CheckState.FAIL: ("✕", "not ready", "bad"),
}


def status_page(snapshot: Snapshot) -> str:
    """Return the page as HTML."""
    return (
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="refresh" content="{REFRESH_S}">'
        f"<title>{escape(snapshot.gateway_id)}</title>"
        '<link rel="stylesheet" href="style.css"></head><body>'
        f"<header><h1>{escape(snapshot.gateway_id)}</h1>"
        f"<p>{escape(snapshot.feeder_id)} · {_clock_time(snapshot.now)} UTC</p></header>"
        f"<main>{_facts(snapshot)}{_faults(snapshot)}{_meters(snapshot)}</main>"
        f"<footer>openami {escape(__version__)} · up {_span(snapshot.now - snapshot.started_at)}"
        ' · <a href="metrics">metrics</a> · <a href="readyz">checks</a></footer>'
        "</body></html>\n"
    )


def _facts(snapshot: Snapshot) -> str:
    rows = (
        ("State", _badge(_CHECKS[snapshot.state])),
        ("Meters", _meter_counts(snapshot)),
        ("Waiting to be sent", _backlog(snapshot)),
        ("Room left", _room(snapshot)),
        ("Broker", _broker(snapshot)),
        ("Clock", _clock(snapshot)),
    )
    return "<dl>" + "".join(f"<div><dt>{dt}</dt><dd>{dd}</dd></div>" for dt, dd in rows) + "</dl>"


def _meter_counts(snapshot: Snapshot) -> str:
    counts = snapshot.meters_by_state
    return "<br>".join(
        f"{counts[state]} {_badge(shown)}" for state, shown in _STATES.items() if counts[state]
    )


def _backlog(snapshot: Snapshot) -> str:
    outbox = snapshot.outbox
    if outbox is None:
        return "unknown"
    text = f"{_count(outbox.pending, 'message')}" if outbox.pending else "nothing"
    if outbox.oldest_pending is not None:
        text += f", the oldest measured {_ago(outbox.oldest_pending, snapshot.now)}"
    if outbox.held:
        text += f"; {outbox.held} wait for the clock"
    if outbox.refused:
        text += f"; {outbox.refused} refused by the broker: {escape(outbox.refusal)}"
    if thinned := sum(stage.entries for stage in outbox.thinned.values()):
        text += f"; {thinned} deleted for room so far"
    return text


def _room(snapshot: Snapshot) -> str:
    if snapshot.outbox is None:
        return "unknown"
    days = snapshot.outbox.room_days
    used, bound = snapshot.outbox.bytes_used, snapshot.outbox.bytes_max
    share = f"{100 * used / bound:.0f} % of {bound / 2**20:.0f} MB used" if bound else "no room"
    if days is None:
        return f"not known yet; {share}"
    lasts = f"{_count(round(days), 'day')} without a broker" if days < 1000 else "years"
    return f"{lasts}; {share}"


def _broker(snapshot: Snapshot) -> str:
    uplink = snapshot.uplink
    since = "" if uplink.since is None else f" since {_ago(uplink.since, snapshot.now)}"
    if uplink.connected:
        text = f"{_badge(('●', 'connected', 'good'))} to {escape(uplink.broker)}{since}"
    else:
        text = f"{_badge(('▲', 'not connected', 'warn'))} to {escape(uplink.broker)}{since}"
    until = uplink.certificate_until
    if until is None:
        return text
    left = until - snapshot.now
    shown = f"our certificate is valid until {until:%Y-%m-%d}"
    if left < timedelta(0):
        shown = _badge(("✕", f"our certificate expired on {until:%Y-%m-%d}", "bad"))
    elif left < timedelta(days=30):
        shown = _badge(("▲", shown, "warn"))
    return f"{text}; {shown}"


def _clock(snapshot: Snapshot) -> str:
    if snapshot.outbox is None:
        return "unknown"
    reason = str(snapshot.outbox.clock.reason).replace("_", " ")
    if snapshot.outbox.clock.trusted:
        return f"{_badge(('●', 'trusted', 'good'))} ({escape(reason)})"
    return f"{_badge(('▲', 'not trusted', 'warn'))} ({escape(reason)})"


def _faults(snapshot: Snapshot) -> str:
    rows = [
        f"<li>{_badge(_CHECKS[check.state])} {escape(check.name)}: {escape(check.detail)}</li>"
        for check in snapshot.checks
        if check.state is not CheckState.OK
    ]
    rows += [
        f"<li>{_badge(('▲', 'slow', 'warn'))} line {escape(line.name)}: a cycle takes "
        f"{line.load:.0%} of its interval</li>"
        for line in snapshot.lines
        if line.load > 1
    ]
    return f'<ul class="faults">{"".join(rows)}</ul>' if rows else ""


def _meters(snapshot: Snapshot) -> str:
    order = list(_STATES)
    records = sorted(
        snapshot.records, key=lambda record: (order.index(record.state), record.serial)
    )
    rows = "".join(_meter(record, snapshot.now) for record in records)
    return (
        '<table><thead><tr><th scope="col">Meter</th><th scope="col">State</th>'
        f'<th scope="col">Last read</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def _meter(record: MeterRecord, now: datetime) -> str:
    read = "never" if record.answered_at is None else _ago(record.answered_at, now)
    fault = f'<p class="fault">{escape(record.fault)}</p>' if record.fault else ""
    return (
        f'<tr><th scope="row">{escape(record.serial)}<small>{escape(record.line)}</small></th>'
        f"<td>{_badge(_STATES[record.state])}</td><td>{read}</td></tr>"
        f'<tr class="values"><td colspan="3">{_values(record)}{fault}</td></tr>'
    )


def _values(record: MeterRecord) -> str:
    known = [_value(obis, record.memory[obis]) for obis in _KEY_REGISTERS if obis in record.memory]
    return " · ".join(value for value in known if value)


def _value(obis: Obis, remembered: Remembered) -> str:
    if remembered.known is None:
        return f"{_KEY_REGISTERS[obis] or escape(str(obis))} {_badge(('▲', 'suspect', 'warn'))}"
    unit = "" if remembered.known.unit == "enum" else f" {remembered.known.unit}"
    text = escape(f"{_KEY_REGISTERS[obis]}{remembered.known.value}{unit}")
    doubt = "" if remembered.doubt is None else f" {_badge(('▲', 'now suspect', 'warn'))}"
    return f'<span title="{escape(str(obis))}">{text}{doubt}</span>'


def _badge(shown: Sequence[str]) -> str:
    shape, word, kind = shown
    return f'<b class="{kind}"><i aria-hidden="true">{shape}</i> {escape(word)}</b>'


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _clock_time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _ago(moment: datetime, now: datetime) -> str:
    return f"{_span(now - moment)} ago" if moment <= now else f"{_clock_time(moment)} UTC"


def _span(span: timedelta) -> str:
    """Print a length of time by its largest unit: ``12 s``, ``4 min``, ``3 h``, ``41 d``."""
    seconds = max(0, int(span.total_seconds()))
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
