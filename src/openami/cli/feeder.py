"""``openami feeder``: what the head-end has heard from each feeder."""

import click

from openami.cli.options import store_option
from openami.cli.report import Exit, fail, print_json, print_table
from openami.cli.rows import Row, cells, gateway_row
from openami.cli.storage import json_option, with_store
from openami.clock import SystemClock
from openami.headend.states import count_states, gateway_state, states_of
from openami.headend.store import FeederRow, Store
from openami.profile import utc_text

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


def _feeder_row(feeder: FeederRow) -> Row:
    return {
        "feederId": feeder.feeder_id,
        "gateways": feeder.gateways,
        "meters": feeder.meters,
        "firstSeen": utc_text(feeder.first_seen),
        "lastSeen": utc_text(feeder.last_seen),
    }
