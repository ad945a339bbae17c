"""The walk on a phone (pure): values in, HTML out, everything in it escaped.

For gloves, sun and bad reception: one column, large buttons, no script, each page a few kilobytes that says the
whole of what it knows, and that changes only when somebody looks again: a page that loads itself anew takes the
half-typed note with it. Links are relative and pages lie side by side, so that they work behind any address.
"""

from collections.abc import Sequence
from datetime import datetime
from html import escape
from typing import Final
from urllib.parse import quote

from openami.gateway.commissioning.frame import Frame, form, page
from openami.gateway.commissioning.load_test import BEFORE_AGE_S_MAX, LOAD_W_MAX, LOAD_W_MIN
from openami.gateway.commissioning.permit import PIN_DIGITS
from openami.gateway.commissioning.walk import MeterWalk
from openami.gateway.page_parts import STATES, ago, badge, count, values
from openami.sip.commissioning import (
    NAME_CHARS_MAX,
    NOTE_CHARS_MAX,
    Identified,
    LoadTest,
    LoadVerdict,
    Outcome,
    Tick,
)

_LAMP_W: Final = 60

_LOADS: Final = {
    LoadVerdict.ROSE: ("●", "its power rose", "good"),
    LoadVerdict.UNCHANGED: ("✕", "its power did not rise", "bad"),
    LoadVerdict.FELL: ("✕", "its power fell: it is wired backwards", "bad"),
    LoadVerdict.ELSEWHERE: ("✕", "another meter's power rose instead", "bad"),
    LoadVerdict.SILENT: ("✕", "it told no power", "bad"),
}


def list_page(frame: Frame, meters: Sequence[MeterWalk], swapped: Sequence[tuple[str, str]]) -> str:
    """Return the list: what is to be done first, what is done last."""
    done = sum(1 for meter in meters if _is_done(meter.tick))
    problems = sum(1 for meter in meters if meter.tick and meter.tick.outcome is Outcome.PROBLEM)
    told = f"{done} of {count(len(meters), 'meter')} right"
    if problems:
        told += f", {count(problems, 'problem')}"
    order = sorted(meters, key=lambda meter: (_is_done(meter.tick), meter.tick is not None))
    rows = "".join(_row(meter, frame.now) for meter in order)
    body = (
        f'<p class="count">{escape(told)}</p>{_swaps(swapped)}<ul class="walk">{rows}</ul>'
        '<p><a class="button" href="walk-hour">First hour</a></p>'
    )
    return page(frame, "Walk", body)


def meter_page(frame: Frame, meter: MeterWalk, following: str | None) -> str:
    """Return one meter: what it tells now, its load test, and the tick."""
    tick = "" if meter.tick is None else f"<p>{_ticked(meter.tick, frame.now)}</p>"
    body = f"{_facts(meter, frame.now)}{tick}"
    if frame.by is not None:
        body += f"{_ask_form(meter)}{_load_forms(meter, frame.now)}{_tick_form(meter)}"
    elif meter.load is not None:
        body += _load_result(meter.load, meter.load_pending)
    if following is not None:
        body += f'<p><a class="button" href="walk-meter?meter={quote(following)}">Next: {escape(following)}</a></p>'
    return page(frame, meter.serial, body)


def sign_in_page(frame: Frame) -> str:
    """Return the form for PIN and name."""
    body = (
        "<p>The PIN is printed by <code>openami gateway commission start</code> on the gateway. It works once.</p>"
        '<form method="post" action="walk-sign-in">'
        '<label>PIN<input name="pin" inputmode="numeric" autocomplete="off" required '
        f'maxlength="{2 * PIN_DIGITS}"></label>'
        f'<label>Your name<input name="by" autocomplete="name" required maxlength="{NAME_CHARS_MAX}"></label>'
        "<button>Sign in</button></form>"
    )
    return page(frame, "Sign in", body)


# --- the list ------------------------------------------------------------------------------------


def _is_done(tick: Tick | None) -> bool:
    return tick is not None and tick.outcome is Outcome.OK


def _row(meter: MeterWalk, now: datetime) -> str:
    tick = badge(("○", "not yet", "warn")) if meter.tick is None else _ticked(meter.tick, now)
    problem = f'<span class="fault">{escape(meter.problem)}</span>' if meter.problem else ""
    return (
        f'<li><a href="walk-meter?meter={quote(meter.serial)}">{escape(meter.serial)}</a> '
        f"{badge(STATES[meter.record.state])}<br>{tick}<br>{values(meter.record)}{problem}</li>"
    )


def _ticked(tick: Tick, now: datetime) -> str:
    shown = ("●", "right", "good") if tick.outcome is Outcome.OK else ("✕", "problem", "bad")
    note = f": {tick.note}" if tick.note else ""
    return f"{badge(shown)} {escape(f'{tick.by}, {ago(tick.at, now)}{note}')}"


def _swaps(swapped: Sequence[tuple[str, str]]) -> str:
    return "".join(
        f'<p class="said">{badge(("✕", "swapped", "bad"))} {escape(one)} and {escape(other)}: each showed the '
        "other's load. Exchange their addresses in the configuration, or their wires.</p>"
        for one, other in swapped
    )


# --- one meter -----------------------------------------------------------------------------------


def _facts(meter: MeterWalk, now: datetime) -> str:
    record = meter.record
    told = "it tells none" if meter.told is None else escape(meter.told)
    if meter.identity is not None and meter.told not in (None, meter.identity):
        told += f" {badge(('✕', f'expected {meter.identity}', 'bad'))}"
    rows = [
        ("State", badge(STATES[record.state])),
        ("Line", escape(record.line)),
        ("Serial it tells", told),
        ("Last read", "never" if record.answered_at is None else ago(record.answered_at, now)),
        ("Values", values(record) or "none yet"),
    ]
    problem = f'<p class="fault">{escape(meter.problem)}</p>' if meter.problem else ""
    fault = f'<p class="fault">{escape(record.fault)}</p>' if record.fault else ""
    facts = "".join(f"<div><dt>{dt}</dt><dd>{dd}</dd></div>" for dt, dd in rows)
    return f"<dl>{facts}</dl>{problem}{fault}"


def _ask_form(meter: MeterWalk) -> str:
    return form("walk-ask", f"{_hidden(meter)}<button>Ask it now</button>")


def _load_forms(meter: MeterWalk, now: datetime) -> str:
    begun = meter.begun
    head = "<h2>Whose house is it?</h2>"
    if begun is not None and begun.after_at is None:
        was = begun.before.get(meter.serial)
        before = "no power" if was is None else f"{was.watts:.0f} W"
        return (
            f"{head}<p>Before, {ago(begun.at, now)}: {before}. Now switch the load of {begun.load_w} W on, within "
            f"{BEFORE_AGE_S_MAX / 60:.0f} minutes.</p>"
            + form("walk-load-on", f"{_hidden(meter)}<button>It is on</button>")
            + form(
                "walk-load-before",
                f"{_hidden(meter)}{_load_field(begun.load_w)}<button>Begin again</button>",
            )
        )
    result = "" if meter.load is None else _load_result(meter.load, meter.load_pending)
    load_w = _LAMP_W if begun is None else begun.load_w
    return f"{head}{result}<p>Have a load ready in the house, switched off.</p>" + form(
        "walk-load-before", f"{_hidden(meter)}{_load_field(load_w)}<button>It is off</button>"
    )


def _load_field(load_w: int) -> str:
    return (
        f'<label>Load in watts<input name="load_w" type="number" inputmode="numeric" min="{LOAD_W_MIN}" '
        f'max="{LOAD_W_MAX}" value="{load_w}" required></label>'
    )


def _load_result(load: LoadTest, pending: int) -> str:
    def watts(value: float | None) -> str:
        return "unknown" if value is None else f"{value:.0f} W"

    text = (
        f"<p>{badge(_LOADS[load.verdict])}: {watts(load.before_w)} before, {watts(load.after_w)} with the load of "
        f"{load.load_w} W.</p>"
    )
    if load.elsewhere:
        text += f'<p class="said">It rose at {escape(", ".join(load.elsewhere))}: are the two swapped?</p>'
    if pending:
        text += (
            f"<p>{count(pending, 'other meter')} not read since; "
            '<a href="">look again</a> in a moment.</p>'
        )
    return text


def _tick_form(meter: MeterWalk) -> str:
    plate = ""
    if meter.identified(nameplate=False) is not Identified.TOLD:
        plate = (
            '<label class="box"><input type="checkbox" name="nameplate" value="yes"> '
            f"The plate on the meter says {escape(meter.serial)}</label>"
        )
    note = "" if meter.tick is None else escape(meter.tick.note)
    return "<h2>Tick</h2>" + form(
        "walk-tick",
        f"{_hidden(meter)}{plate}"
        f'<label>Note<textarea name="note" rows="2" maxlength="{NOTE_CHARS_MAX}">{note}</textarea></label>'
        '<button name="outcome" value="ok">It is right</button>'
        '<button name="outcome" value="problem" class="second">Leave it as a problem</button>',
    )


def _hidden(meter: MeterWalk) -> str:
    return f'<input type="hidden" name="meter" value="{escape(meter.serial)}">'
