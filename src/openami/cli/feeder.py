"""``openami feeder``: what the head-end has heard from each feeder, and what it has not."""

import sys
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from openami.cli.feeder_balance import balance
from openami.cli.feeder_import import import_assets, template
from openami.cli.files import config_option
from openami.cli.moments import as_moment
from openami.cli.options import store_option
from openami.cli.report import Exit, fail, print_json, print_table, say
from openami.cli.rows import Row, account_row, cells, gap_row, gateway_row, print_rows, printable
from openami.cli.storage import json_option, with_store
from openami.cli.verify import tell_certificate
from openami.clock import SystemClock
from openami.headend.config import ConfigError, read_config
from openami.headend.states import count_states, gateway_state, states_of
from openami.headend.store import FeederRow, Store
from openami.profile import utc_text

if TYPE_CHECKING:
    from openami.headend.store.commands import HeadEndStore
    from openami.sip.keyring import Roots
    from openami.sip.keys import Signer

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
    headings = ["FEEDER", "GATEWAYS", "METERS", "RECEIVED"]
    print_rows(rows, _LIST, as_json=as_json, headings=headings)


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
        since = await open_store.kept_since()
        if since is not None and days[0] < since.date():
            say(
                f"readings measured before {utc_text(since)} were removed: those days have no account"
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


@feeder.command()
@click.argument("feeder_id", metavar="FEEDER")
@click.option("--gateway", "gateway_id", metavar="ID", required=True)
@click.option("--day", metavar="DAY", required=True, help="A day by UTC: 2026-06-22.")
@config_option(
    "The head-end's TOML file: its key signs, its roots vouch for the gateway's.", required=True
)
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write it; without it, to stdout.",
)
@store_option
def certificate(
    feeder_id: str, gateway_id: str, day: str, config_file: Path, out: Path | None, store: str
) -> None:
    """Certify a gateway's day: what it states it recorded, beside what this head-end has, signed by both.

    `openami verify` checks it anywhere, without a network. Exit code 1: it is written, and says what is missing.
    """
    from openami.headend.day_certificates import compose
    from openami.keyfiles import KeyFileError, write_public
    from openami.sip.certificate import CertificateError, verify_certificate

    signer, roots = _keys(config_file)
    when = _day(day)

    async def make(open_store: "HeadEndStore") -> bytes:
        return await compose(
            open_store,
            feeder_id=feeder_id,
            gateway_id=gateway_id,
            day=when,
            signer=signer,
            roots=roots,
            now=SystemClock().now(),
        )

    try:
        document = with_store(store, make)
        verified = verify_certificate(document, roots)  # what nobody could verify is not handed out
        if out is None:
            click.echo(document)
        else:
            write_public(out, document)
    except CertificateError as error:
        fail(f"{error.fault}: {error}", Exit.FAILED, error.remedy)
    except KeyFileError as error:
        fail(str(error), Exit.FAILED, error.remedy)
    tell_certificate(verified)
    if not verified.complete:
        sys.exit(Exit.FAILED)


def _keys(config_file: Path) -> "tuple[Signer, Roots]":
    try:
        keys = read_config(config_file).keys()
    except ConfigError as error:
        fail(str(error), Exit.USAGE)
    if keys is None:
        fail(f"{config_file} names no key to sign with", Exit.USAGE, "add the table [signing]")
    return keys


def _day(text: str) -> date:
    from openami.sip.errors import SipError
    from openami.sip.statements import read_day

    try:
        return read_day(text, "--day")
    except SipError as error:
        fail(error.detail, Exit.USAGE)


feeder.add_command(balance)
feeder.add_command(import_assets)
feeder.add_command(template)


def _feeder_row(feeder: FeederRow) -> Row:
    return {
        "feederId": feeder.feeder_id,
        "gateways": feeder.gateways,
        "meters": feeder.meters,
        "firstSeen": utc_text(feeder.first_seen),
        "lastSeen": utc_text(feeder.last_seen),
    }
