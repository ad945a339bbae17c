"""``openami feeder balance``: what a feeder was supplied with, what was sold, and why the rest is missing."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from openami.cli.moments import as_moment
from openami.cli.options import store_option
from openami.cli.report import Exit, fail, print_json, print_table
from openami.cli.rows import Row, printable
from openami.cli.storage import json_option, with_store
from openami.clock import SystemClock
from openami.headend.store.identity import from_ms
from openami.profile import utc_text

if TYPE_CHECKING:
    from openami.headend.balance import Balance, Range
    from openami.headend.consumption import Break
    from openami.headend.store.commands import HeadEndStore

# As long as a bill.
_DAYS_BACK = 30

_REFUSALS = {
    "no_head": "No head meter is described, so nothing can be called missing: "
    "tell it with `openami feeder import`.",
    "too_short": "Nobody is named: fewer than two weeks of hours are known.",
    "too_silent": "Nobody is named: in too many hours too many meters are not known.",
}


@click.command()
@click.argument("feeder_id", metavar="FEEDER")
@click.option(
    "--since", callback=as_moment, help="From: 12h, 7d, 4w ago, or a date. Without it: 30 days."
)
@click.option("--until", callback=as_moment, help="Up to, not included. Without it: now.")
@store_option
@json_option
def balance(
    feeder_id: str, since: datetime | None, until: datetime | None, store: str, as_json: bool
) -> None:
    """Balance a feeder: supplied minus sold as a range, and ranked reasons for what is missing.

    Only hours that are over count, and of them those in which the head meter is known.
    """
    from openami.headend.balancing import feeder_balance

    now = SystemClock().now()
    begin = since or now - timedelta(days=_DAYS_BACK)

    async def read(open_store: "HeadEndStore") -> "Balance":
        try:
            return await feeder_balance(open_store, feeder_id, begin, until or now, now=now)
        except ValueError as error:
            fail(str(error), Exit.USAGE)

    found = with_store(store, read)
    if as_json:
        print_json(balance_row(found))
    else:
        _tell(found)


def balance_row(found: "Balance") -> Row:
    """Return a balance as it is told to programs; energies in Wh."""
    share = found.unaccounted_percent
    return {
        "feederId": found.feeder_id,
        "from": utc_text(found.begin),
        "to": utc_text(found.end),
        "headHours": found.head_hours,
        "suppliedWh": found.supplied_wh,
        "soldWh": _range(found.sold),
        "unaccountedWh": _range(found.unaccounted),
        "unaccountedPercent": None if share is None else [round(each, 2) for each in share],
        "meters": found.meters,
        "metersHeard": found.heard,
        "unheard": [
            {
                "meterSerial": each.serial,
                "why": each.why.value,
                "hours": each.hours,
                "mayBeWh": _range(each.may_be),
                "lastTs": None if each.last_at is None else utc_text(each.last_at),
            }
            for each in found.unheard
        ],
        "estimated": [
            {
                "meterSerial": each.serial,
                "spreadWh": each.spread_wh,
                "atLeastWh": each.at_least_wh,
                "breaks": [_break(told) for told in each.breaks],
            }
            for each in found.estimated
        ],
        "poles": [
            {
                "poleId": each.pole_id,
                "suppliedWh": each.supplied_wh,
                "soldWh": _range(each.sold),
                "hours": each.hours,
            }
            for each in found.poles
        ],
        "reasons": [
            {
                "kind": each.kind.value,
                "wh": _range(each.wh),
                "meterSerials": list(each.serials),
                "sentence": each.sentence,
                "accuses": each.accuses,
                "sure": each.sure,
            }
            for each in found.reasons
        ],
        "refusal": found.refusal,
    }


def _range(wh: "Range") -> list[int]:
    return [wh.low, wh.high]


def _break(told: "Break") -> Row:
    return {
        "ts": utc_text(from_ms(told.ms)),
        "kind": told.kind.value,
        "beforeWh": told.before_wh,
        "afterWh": told.after_wh,
        "countedWh": told.counted_wh,
    }


def _tell(found: "Balance") -> None:
    click.echo(f"{printable(found.feeder_id)}  {utc_text(found.begin)} to {utc_text(found.end)}")
    click.echo(f"supplied     {_kwh(found.supplied_wh)} kWh in {found.head_hours} hours")
    click.echo(
        f"sold         {_between(found.sold)} kWh, {found.heard} of {found.meters} meters "
        "heard in all of them"
    )
    share = found.unaccounted_percent
    percent = "" if share is None else f" ({share[0]:.1f} to {share[1]:.1f} %)"
    click.echo(f"unaccounted  {_between(found.unaccounted)} kWh{percent}")
    if found.refusal:
        click.echo(_REFUSALS[found.refusal])
    if found.reasons:
        click.echo()
        print_table(
            ["WHY", "KWH", "METERS", "SURE"],
            [
                [
                    each.kind.value.replace("_", " "),
                    _between(each.wh),
                    printable(" ".join(each.serials)),
                    f"{each.sure:g}" if each.accuses else "",
                ]
                for each in found.reasons
            ],
        )
        click.echo()
        for sentence in dict.fromkeys(each.sentence for each in found.reasons):
            click.echo(f"· {sentence}")
    if found.poles:
        click.echo()
        print_table(
            ["POLE", "SUPPLIED", "SOLD"],
            [
                [printable(each.pole_id), _kwh(each.supplied_wh), _between(each.sold)]
                for each in found.poles
            ],
        )


def _kwh(wh: int) -> str:
    return f"{wh / 1000:.1f}"


def _between(wh: "Range") -> str:
    return _kwh(wh.low) if wh.low == wh.high else f"{_kwh(wh.low)} to {_kwh(wh.high)}"
