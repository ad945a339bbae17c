"""The first hour on a phone (pure): how long still, each rule that did not pass, and what is open."""

from collections.abc import Sequence
from datetime import datetime
from html import escape
from typing import Final

from openami.gateway.commissioning.frame import Frame, form, page
from openami.gateway.commissioning.hour import HOUR
from openami.gateway.page_parts import badge, span
from openami.sip.commissioning import (
    NOTE_CHARS_MAX,
    Acceptance,
    Point,
    RuleResult,
    RuleVerdict,
)

# What a person answers for one by one; the rest is for the record's text. 30 forms are 20 kB.
POINTS_SHOWN_MAX: Final = 30
_RULES: Final = {
    RuleVerdict.PASS: ("●", "pass", "good"),
    RuleVerdict.WARN: ("▲", "warning", "warn"),
    RuleVerdict.FAIL: ("✕", "fails", "bad"),
}


def hour_page(
    frame: Frame,
    *,
    began_at: datetime | None,
    acceptance: Acceptance | None,
    still_open: Sequence[Point],
) -> str:
    """Return the first hour: not begun, under way, or judged."""
    if acceptance is not None:
        body = _judged(acceptance)
    elif began_at is None:
        body = "<p>It begins when every meter is ticked: an hour of readings, then each rule is judged.</p>"
    else:
        left = began_at + HOUR - frame.now
        body = f"<p>Under way since {began_at:%H:%M} UTC; {span(left)} still.</p>"
    if frame.by is not None:
        word = "Begin the hour" if began_at is None else "Begin another hour"
        body += form("walk-hour-begin", f"<button>{word}</button>")
    body += _open_points(still_open, frame.by is not None)
    return page(frame, "First hour", body)


def _judged(acceptance: Acceptance) -> str:
    by_verdict = {
        verdict: [result for result in acceptance.results if result.verdict is verdict]
        for verdict in (RuleVerdict.FAIL, RuleVerdict.WARN, RuleVerdict.PASS)
    }
    counts = ", ".join(f"{len(results)} {_RULES[v][1]}" for v, results in by_verdict.items())
    told = "".join(
        _rule(result)
        for verdict in (RuleVerdict.FAIL, RuleVerdict.WARN)
        for result in by_verdict[verdict]
    )
    return (
        f"<p>{acceptance.began_at:%Y-%m-%d %H:%M} to {acceptance.ended_at:%H:%M} UTC: {escape(counts)}.</p>"
        f'<ul class="walk">{told}</ul>'
    )


def _rule(result: RuleResult) -> str:
    about = f" {escape(result.meter)}" if result.meter else ""
    remedy = f'<span class="fault">{escape(result.remedy)}</span>' if result.remedy else ""
    return (
        f"<li>{badge(_RULES[result.verdict])} {escape(result.rule.replace('_', ' '))}{about}<br>"
        f"{escape(result.measured)}{remedy}</li>"
    )


def _open_points(still_open: Sequence[Point], signed_in: bool) -> str:
    if not still_open:
        return (
            f"<h2>Open</h2><p>{badge(('●', 'nothing', 'good'))}: the record will say accepted.</p>"
        )
    rows = "".join(_open_point(point, signed_in) for point in still_open[:POINTS_SHOWN_MAX])
    more = len(still_open) - POINTS_SHOWN_MAX
    left_out = f"<p>and {more} more</p>" if more > 0 else ""
    return f'<h2>Open: {len(still_open)}</h2><ul class="walk">{rows}</ul>{left_out}'


def _open_point(point: Point, signed_in: bool) -> str:
    about = f" {escape(point.about)}" if point.about else ""
    text = f"{escape(point.rule.replace('_', ' '))}{about}: {escape(point.words)}"
    if not signed_in:
        return f"<li>{text}</li>"
    answer = form(
        "walk-deviation",
        f'<input type="hidden" name="rule" value="{escape(point.rule)}">'
        f'<input type="hidden" name="about" value="{escape(point.about)}">'
        f'<label>Reason<input name="reason" required maxlength="{NOTE_CHARS_MAX}"></label>'
        '<button class="second">I answer for it</button>',
    )
    return f"<li><details><summary>{text}</summary>{answer}</details></li>"
