"""``openami feeder``: what the head-end has heard from each feeder."""

import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import click

from openami.cli.options import store_option
from openami.cli.report import Exit, fail, print_json, print_table
from openami.cli.rows import Row, cells, gateway_row
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
@click.option("--gateway", "gateway_id", metavar="ID", required=True)
@click.option("--day", metavar="DAY", required=True, help="A day by UTC: 2026-06-22.")
@click.option(
    "-c",
    "--config",
    "config_file",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=Path),
    help="The head-end's TOML file: its key signs, its roots vouch for the gateway's.",
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


def _feeder_row(feeder: FeederRow) -> Row:
    return {
        "feederId": feeder.feeder_id,
        "gateways": feeder.gateways,
        "meters": feeder.meters,
        "firstSeen": utc_text(feeder.first_seen),
        "lastSeen": utc_text(feeder.last_seen),
    }
