"""The status page as HTML (pure): a snapshot in, a text out, everything in it escaped.

For a phone beside the pole: one column, state as shape and word and colour, what needs a person first. A script
(`status.js`) renews it; without it there is a link. The words are those of the head-end.
"""

from datetime import datetime, timedelta
from html import escape
from typing import Final

from openami import __version__
from openami.gateway.meter_record import MeterRecord
from openami.gateway.monthly_cap import CapStage
from openami.gateway.page_parts import STATES, ago, badge, clock_time, count, span, values
from openami.gateway.snapshot import CapView, CheckState, Snapshot

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
        f"<title>{escape(snapshot.gateway_id)}</title>"
        '<link rel="stylesheet" href="style.css"><link rel="icon" href="data:,">'
        '<script src="status.js" defer></script></head><body>'
        f"<header><h1>{escape(snapshot.gateway_id)}</h1>"
        f'<p><span id="seen">{escape(snapshot.feeder_id)} · {clock_time(snapshot.now)} UTC</span>'
        ' · <a href="">Look again</a></p></header>'
        f"<main>{_facts(snapshot)}{_faults(snapshot)}{_meters(snapshot)}</main>"
        f"<footer>openami {escape(__version__)} · up {span(snapshot.now - snapshot.started_at)}"
        ' · <a href="walk">walk</a> · <a href="metrics">metrics</a> · <a href="readyz">checks</a></footer>'
        "</body></html>\n"
    )


def _facts(snapshot: Snapshot) -> str:
    rows = (
        ("State", badge(_CHECKS[snapshot.state])),
        ("Meters", _meter_counts(snapshot)),
        ("Waiting to be sent", _backlog(snapshot)),
        ("Room left", _room(snapshot)),
        ("Broker", _broker(snapshot)),
        *((("This month", _month(cap)),) if (cap := snapshot.uplink.cap) else ()),
        ("Clock", _clock(snapshot)),
    )
    return "<dl>" + "".join(f"<div><dt>{dt}</dt><dd>{dd}</dd></div>" for dt, dd in rows) + "</dl>"


def _meter_counts(snapshot: Snapshot) -> str:
    counts = snapshot.meters_by_state
    return "<br>".join(
        f"{counts[state]} {badge(shown)}" for state, shown in STATES.items() if counts[state]
    )


def _backlog(snapshot: Snapshot) -> str:
    outbox = snapshot.outbox
    if outbox is None:
        return "unknown"
    text = f"{count(outbox.pending, 'message')}" if outbox.pending else "nothing"
    if outbox.oldest_pending is not None:
        text += f", the oldest measured {ago(outbox.oldest_pending, snapshot.now)}"
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
    lasts = f"{count(round(days), 'day')} without a broker" if days < 1000 else "years"
    return f"{lasts}; {share}"


def _broker(snapshot: Snapshot) -> str:
    uplink = snapshot.uplink
    since = "" if uplink.since is None else f" since {ago(uplink.since, snapshot.now)}"
    if uplink.connected:
        text = f"{badge(('●', 'connected', 'good'))} to {escape(uplink.broker)}{since}"
    else:
        text = f"{badge(('▲', 'not connected', 'warn'))} to {escape(uplink.broker)}{since}"
    until = uplink.certificate_until
    if until is None:
        return text
    left = until - snapshot.now
    shown = f"our certificate is valid until {until:%Y-%m-%d}"
    if left < timedelta(0):
        shown = badge(("✕", f"our certificate expired on {until:%Y-%m-%d}", "bad"))
    elif left < timedelta(days=30):
        shown = badge(("▲", shown, "warn"))
    return f"{text}; {shown}"


def _month(cap: CapView) -> str:
    text = f"{cap.used_bytes / 1e6:.1f} of {cap.cap_bytes / 1e6:.1f} MB"
    if cap.stage is not CapStage.FULL:
        text += f"; {badge(('▲', f'telemetry {cap.stage}', 'warn'))}"
    return f"{text}; readings wait for room" if cap.waits else text


def _clock(snapshot: Snapshot) -> str:
    if snapshot.outbox is None:
        return "unknown"
    reason = str(snapshot.outbox.clock.reason).replace("_", " ")
    if snapshot.outbox.clock.trusted:
        return f"{badge(('●', 'trusted', 'good'))} ({escape(reason)})"
    return f"{badge(('▲', 'not trusted', 'warn'))} ({escape(reason)})"


def _faults(snapshot: Snapshot) -> str:
    rows = [
        f"<li>{badge(_CHECKS[check.state])} {escape(check.name)}: {escape(check.detail)}</li>"
        for check in snapshot.checks
        if check.state is not CheckState.OK
    ]
    rows += [
        f"<li>{badge(('▲', 'slow', 'warn'))} line {escape(line.name)}: a cycle takes "
        f"{line.load:.0%} of its interval</li>"
        for line in snapshot.lines
        if line.load > 1
    ]
    return f'<ul class="faults">{"".join(rows)}</ul>' if rows else ""


def _meters(snapshot: Snapshot) -> str:
    order = list(STATES)
    records = sorted(
        snapshot.records, key=lambda record: (order.index(record.state), record.serial)
    )
    rows = "".join(_meter(record, snapshot.now) for record in records)
    return (
        '<table><thead><tr><th scope="col">Meter</th><th scope="col">State</th>'
        f'<th scope="col">Last read</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def _meter(record: MeterRecord, now: datetime) -> str:
    read = "never" if record.answered_at is None else ago(record.answered_at, now)
    fault = f'<p class="fault">{escape(record.fault)}</p>' if record.fault else ""
    return (
        f'<tr><th scope="row">{escape(record.serial)}<small>{escape(record.line)}</small></th>'
        f"<td>{badge(STATES[record.state])}</td><td>{read}</td></tr>"
        f'<tr class="values"><td colspan="3">{values(record)}{fault}</td></tr>'
    )
