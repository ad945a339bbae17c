"""``openami feeder``: what the head-end has heard from each feeder, and what it has not."""

from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

import click

from openami.cli.moments import as_moment
from openami.cli.options import store_option
from openami.cli.report import Exit, fail, print_json, print_table
from openami.cli.rows import Row, account_row, cells, gap_row, gateway_row, printable
from openami.cli.storage import json_option, with_store
from openami.clock import SystemClock
from openami.headend.states import count_states, gateway_state, states_of
from openami.headend.store import FeederRow, Store
from openami.profile import utc_text

if TYPE_CHECKING:  # who only lists feeders needs no library that signs
    from openami.headend.store.commands import HeadEndStore

_LIST = ("feederId", "gateways", "meters", "lastSeen")
_ACCOUNT = ("meterSerial", "day", "expected", "received", "late", "suspect", "missing")
_GAP = ("gatewayId", "missing", "state", "reason", "asks", "from", "to", "firstSeq", "lastSeq")
# A quarter of a year is one answer; a year is for a report that is made of them.
DAYS_MAX = 92
_GATEWAYS = ("gatewayId", "state", "meters", "lastSeq", "lastSeen")


@click.group()
def feeder() -> None:
    """Feeders, their gateways and meters."""


@feeder.command("list")
@store_option
@json_option
def list_feeders(store: str, as_json: bool) -> None:
    """List the feeders that were heard of."""

    async def read(open_store: Store) -> list[Row]:
        return [_feeder_row(row) for row in await open_store.feeders()]

    rows = with_store(store, read)
    if as_json:
        for row in rows:
            print_json(row)
    else:
        print_table(
            ["FEEDER", "GATEWAYS", "METERS", "RECEIVED"], [cells(row, _LIST) for row in rows]
        )


@feeder.command()
@click.argument("feeder_id", metavar="FEEDER")
@store_option
@json_option
def show(feeder_id: str, store: str, as_json: bool) -> None:
    """Show a feeder: its gateways, and its meters by state."""
    now = SystemClock().now()

    async def read(open_store: Store) -> Row:
        found = next((f for f in await open_store.feeders() if f.feeder_id == feeder_id), None)
        if found is None:
            fail(
                f"no feeder {feeder_id!r} was ever heard of",
                Exit.FAILED,
                "`openami feeder list` names those that were",
            )
        gateways = await open_store.gateways(feeder_id)
        states = states_of(await open_store.meters(feeder_id=feeder_id), gateways, now=now)
        return {
            **_feeder_row(found),
            "meterStates": count_states([state for _, state in states]),
            "gatewayRows": [
                {
                    **gateway_row(gateway, gateway_state(gateway, now)),
                    "meters": sum(m.gateway_id == gateway.gateway_id for m, _ in states),
                }
                for gateway in gateways
            ],
        }

    row = with_store(store, read)
    if as_json:
        print_json(row)
        return
    click.echo(f"{feeder_id}  gateways {row['gateways']} · meters {row['meters']}")
    states = [f"{state} {count}" for state, count in row["meterStates"].items()]
    click.echo(" · ".join(states) + "\n")
    print_table(
        ["GATEWAY", "STATE", "METERS", "SEQ", "RECEIVED"],
        [cells(gateway, _GATEWAYS) for gateway in row["gatewayRows"]],
    )


@feeder.command()
@click.argument("feeder_id", metavar="FEEDER")
@click.option("--day", metavar="D", callback=as_moment, help="One day, in UTC; today without it.")
@click.option(
    "--since", metavar="T", callback=as_moment, help="Every day from then: 7d, or a date."
)
@click.option("--meter", metavar="S", help="Only this meter.")
@store_option
@json_option
def completeness(
    feeder_id: str,
    day: datetime | None,
    since: datetime | None,
    meter: str | None,
    store: str,
    as_json: bool,
) -> None:
    """Say what should have come, what did, and why the rest is missing: by meter and day, and by gateway."""
    now = SystemClock().now()
    if day is not None and since is not None:
        raise click.UsageError("--day is one day, --since is many: give one of them")
    days = _days(day or since or now, now if since is not None else day or now)

    async def read(open_store: "HeadEndStore") -> tuple[list[Row], list[Row]]:
        from openami.headend.accounting import day_accounts

        known = {row.meter_serial for row in await open_store.meters(feeder_id=feeder_id)}
        if not known or meter not in (None, *known):
            fail(
                f"no meter {meter!r} on feeder {feeder_id!r} was ever heard of"
                if known
                else f"no feeder {feeder_id!r} was ever heard of",
                Exit.FAILED,
                "`openami meter list` names those that were",
            )
        accounts = day_accounts(open_store, feeder_id, days, now=now, meter_serial=meter)
        gaps = await open_store.gaps(feeder_id=feeder_id, closed=False)
        return [account_row(each) async for each in accounts], [gap_row(gap) for gap in gaps]

    accounts, gaps = with_store(store, read)
    if as_json:
        for row in (*accounts, *gaps):
            print_json(row)
        return
    print_table(
        ["METER", "DAY", "EXPECTED", "RECEIVED", "LATE", "SUSPECT", "MISSING", "WHY"],
        [[*cells(row, _ACCOUNT), _why(row)] for row in accounts],
    )
    if gaps:
        click.echo()
        print_table(
            ["GATEWAY", "MISSING", "STATE", "REASON", "ASKS", "FROM", "TO", "FIRST", "LAST"],
            [cells(row, _GAP) for row in gaps],
        )


def _days(first: datetime, last: datetime) -> list[date]:
    """Return the UTC days between two moments. Raises UsageError when they are too many."""
    count = (last.date() - first.date()).days + 1
    if not 1 <= count <= DAYS_MAX:
        raise click.UsageError(f"that is not between 1 and {DAYS_MAX} days back: ask for less")
    return [first.date() + timedelta(days=n) for n in range(count)]


def _why(account: Row) -> str:
    """Say why intervals are missing, the reason that explains most first."""
    if account["expected"] is None:
        return "interval unknown"
    counts: dict[str, int] = {}
    for gap in account["gaps"]:
        counts[gap["reason"]] = counts.get(gap["reason"], 0) + gap["intervals"]
    ranked = sorted(counts.items(), key=lambda each: -each[1])
    return printable(", ".join(f"{reason} {count}" for reason, count in ranked))


def _feeder_row(feeder: FeederRow) -> Row:
    return {
        "feederId": feeder.feeder_id,
        "gateways": feeder.gateways,
        "meters": feeder.meters,
        "firstSeen": utc_text(feeder.first_seen),
        "lastSeen": utc_text(feeder.last_seen),
    }
