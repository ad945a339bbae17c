"""``openami meter swap``, ``protect`` and ``unprotect``: what a person did at a pole, or decided."""

from datetime import datetime
from typing import TYPE_CHECKING, NoReturn

import click

from openami.cli.command_rows import who_asks
from openami.cli.moments import as_moment
from openami.cli.options import store_option
from openami.cli.report import Exit, fail, say
from openami.cli.storage import with_store
from openami.clock import SystemClock
from openami.headend.store import Access

if TYPE_CHECKING:
    from openami.headend.assets.changes import AssetsRefused
    from openami.headend.store.commands import HeadEndStore

_feeder_option = click.option(
    "--feeder", metavar="F", help="Its feeder, where two have a meter of this serial."
)


@click.command()
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.option(
    "--closing", "closing_kwh", metavar="KWH", type=float, required=True, help="OLD's register."
)
@click.option(
    "--opening", "opening_kwh", metavar="KWH", type=float, required=True, help="NEW's register."
)
@click.option("--at", metavar="T", callback=as_moment, help="When it was done; now without it.")
@click.option("--reason", metavar="TEXT", default="", help="Why; for the audit log.")
@_feeder_option
@store_option
def swap(
    old: str,
    new: str,
    closing_kwh: float,
    opening_kwh: float,
    at: datetime | None,
    reason: str,
    feeder: str | None,
    store: str,
) -> None:
    """Enter that meter OLD was taken down and NEW put up in its place.

    Both registers of 1.8.0 are kept, so the place's consumption adds up across the swap.
    """
    from openami.headend.asset_changes import one_feeder, swap_meter
    from openami.headend.assets.changes import AssetsRefused, Swap

    now = SystemClock().now()
    wanted = Swap(old=old, new=new, at=at or now, closing_kwh=closing_kwh, opening_kwh=opening_kwh)

    async def run(open_store: "HeadEndStore") -> str:
        on = feeder or await one_feeder(open_store, old, now=wanted.at)
        await swap_meter(open_store, on, wanted, who=who_asks(), now=now, why=reason)
        return on

    try:
        on = with_store(store, run, Access.EDIT)
    except AssetsRefused as refused:
        _fail(refused)
    say(f"{on}: {old} closed at {closing_kwh:g} kWh, {new} opened at {opening_kwh:g} kWh")


@click.command()
@click.argument("serial")
@click.option("--reason", metavar="TEXT", default="", help="Why: a clinic, a pump, a school.")
@_feeder_option
@store_option
def protect(serial: str, reason: str, feeder: str | None, store: str) -> None:
    """Protect a critical customer's meter: it is cut off only when an engineer says why."""
    _protect(serial, on=True, reason=reason, feeder=feeder, store=store)


@click.command()
@click.argument("serial")
@click.option("--reason", metavar="TEXT", required=True, help="Why it needs no protection now.")
@_feeder_option
@store_option
def unprotect(serial: str, reason: str, feeder: str | None, store: str) -> None:
    """Protect a meter no longer."""
    _protect(serial, on=False, reason=reason, feeder=feeder, store=store)


def _protect(serial: str, *, on: bool, reason: str, feeder: str | None, store: str) -> None:
    from openami.headend.asset_changes import one_feeder, protect_meter
    from openami.headend.assets.changes import AssetsRefused

    now = SystemClock().now()

    async def run(open_store: "HeadEndStore") -> str:
        where = feeder or await one_feeder(open_store, serial, now=now)
        await protect_meter(open_store, where, serial, on=on, who=who_asks(), now=now, why=reason)
        return where

    try:
        where = with_store(store, run, Access.EDIT)
    except AssetsRefused as refused:
        _fail(refused)
    say(f"{where}: {serial} is {'protected' if on else 'no longer protected'}")


def _fail(refused: "AssetsRefused") -> NoReturn:
    fail(str(refused), Exit.REFUSED, refused.remedy)
