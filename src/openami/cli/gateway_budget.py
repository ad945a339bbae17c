"""``openami gateway budget``: what a month will cost."""

import asyncio
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from openami.cli.gateway_config import gateway_config_option, loaded
from openami.cli.report import Exit, fail, print_json, print_table, say

if TYPE_CHECKING:
    from openami.gateway.budget import Budget
    from openami.gateway.cap_forecast import CappedMonth

# Above it, nobody would send a byte.
_PRICE_MAX: Final = Decimal(1_000_000)


class Price(click.ParamType[Decimal]):
    """A price: a decimal number, exactly."""

    name = "price"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Decimal:
        try:
            price = Decimal(str(value))
        except InvalidOperation:
            self.fail(f"{value!r} is no decimal number", param, ctx)
        if not price.is_finite() or not 0 <= price <= _PRICE_MAX:
            self.fail(f"{value!r} is not between 0 and {_PRICE_MAX:,}", param, ctx)
        return price


@click.command()
@gateway_config_option
@click.option("--price-per-mb", type=Price(), metavar="PRICE", help="What 1,000,000 bytes cost.")
@click.option("--currency", default="", metavar="NAME", help="Stands behind each sum.")
@click.option(
    "--changed-share",
    type=click.FloatRange(0, 1),
    default=1.0,
    show_default=True,
    help="Of groups told on change: at how many of their polls something has changed.",
)
@click.option(
    "--events-per-day",
    type=click.FloatRange(0, 1000),
    default=1.0,
    show_default=True,
    help="Events a meter and day that are reckoned with.",
)
@click.option(
    "--connections-per-day",
    type=click.IntRange(1, 10_000),
    default=1,
    show_default=True,
    help="How often a day the link breaks; all but one resume their TLS session.",
)
@click.option(
    "--topic-aliases",
    type=click.IntRange(0, 65_535),
    default=10,
    show_default=True,
    help="How many the broker takes in MQTT 5.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def budget(
    file: Path,
    price_per_mb: Decimal | None,
    currency: str,
    changed_share: float,
    events_per_day: float,
    connections_per_day: int,
    topic_aliases: int,
    as_json: bool,
) -> None:
    """Predict the MB and the money of a month, and what slower intervals would save.

    From the configuration and the registers of the meters' maps; of meters that have been read, with their own
    values. Touches no wire, and does not disturb a gateway that runs.
    """
    import msgspec

    from openami.gateway.budget import budget as month_of
    from openami.gateway.cap_forecast import capped_month
    from openami.gateway.database import DatabaseError
    from openami.gateway.driver import DriverError
    from openami.gateway.installed_drivers import InstalledDrivers
    from openami.gateway.planning import plan

    config = loaded(file)
    try:
        planned = asyncio.run(
            plan(
                config,
                InstalledDrivers(),
                changed_share=changed_share,
                events_per_meter_day=events_per_day,
                price_per_mb=price_per_mb,
                connections_per_day=connections_per_day,
                topic_aliases=topic_aliases,
            )
        )
    except DriverError as error:
        fail(f"{file}: a line does not say what it has: {error}", Exit.CANNOT_CONNECT)
    except DatabaseError as error:
        fail(str(error), Exit.FAILED, error.remedy)
    month = month_of(planned)
    cap_bytes = config.uplink.cap_bytes
    capped = capped_month(planned, cap_bytes) if cap_bytes else None
    if as_json:
        price = None if price_per_mb is None else f"{price_per_mb:f}"
        print_json(
            {
                **msgspec.to_builtins(month),
                "pricePerMb": price,
                "currency": currency,
                "capped": msgspec.to_builtins(capped),
            }
        )
        return
    _print(month, currency)
    if capped is not None:
        _print_capped(capped, month.assumptions.mb_bytes)


def _print_capped(capped: "CappedMonth", mb_bytes: int) -> None:
    cap_mb, total_mb = (f"{n / mb_bytes:.2f}" for n in (capped.cap_bytes, capped.total_bytes))
    days = ", ".join(f"{each.stage.value} {each.days:g} days" for each in capped.stages)
    click.echo(f"with a cap of {cap_mb} MB: {days}; {total_mb} MB")
    if capped.total_bytes > capped.cap_bytes:
        say(
            f"the cap does not hold: what always goes takes more than {cap_mb} MB; a longer keepalive_s "
            "spares pings"
        )


def _print(month: "Budget", currency: str) -> None:
    mb_bytes = month.assumptions.mb_bytes

    def mb(count: int) -> str:
        return f"{count / mb_bytes:.2f}"

    def money(amount: str | None) -> str:
        return "" if amount is None else f"{amount} {currency}".strip()

    rows = [
        [
            share.name,
            "" if share.interval_s is None else f"{share.interval_s} s",
            f"{share.messages:,}",
            mb(share.bytes),
            money(share.cost),
        ]
        for share in month.shares
    ]
    rows.append(["connection", "", "", mb(month.idle_bytes), money(month.idle_cost)])
    rows.append(["a month", "", "", mb(month.total_bytes), money(month.total_cost)])
    print_table(["", "every", "messages", "MB", "cost"], rows)
    for slower in month.slower:
        saved = f" ({money(slower.saved_cost)})" if slower.saved_cost is not None else ""
        click.echo(
            f"{slower.group} every {slower.interval_s} s: {mb(slower.total_bytes)} MB, "
            f"saves {mb(slower.saved_bytes)}{saved}"
        )
    unread = month.meters - month.meters_read
    if unread:
        say(f"values of {unread} of {month.meters} meters are assumed: they have not been read yet")
    say("without commands, sessions and what the head-end asks for again")
