"""``openami gateway``: the edge."""

import asyncio
import json
import sys
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from openami.cli.gateway_budget import Price, tell_budget
from openami.cli.gateway_commission import commission
from openami.cli.gateway_enroll import enroll
from openami.cli.gateway_export import export_backlog, since_option
from openami.cli.logs import configure_logs
from openami.cli.report import Exit, fail, print_json, print_table, say
from openami.profile import utc_text

if TYPE_CHECKING:
    from openami.gateway.config import GatewayConfig

_DAY_S = 86_400
# A person waits; the gateway looks into its folder every second.
_TICKET_LOOK_S = 0.2

config_option = click.option(
    "-c",
    "--config",
    "file",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The gateway's TOML file; OPENAMI_GATEWAY__SECTION__KEY overrules it.",
)


@click.group()
def gateway() -> None:
    """The gateway: reads meters, stores their registers, publishes them."""


gateway.add_command(commission)
gateway.add_command(enroll)


@gateway.command()
@config_option
def run(file: Path) -> None:
    """Read the meters and publish until told to stop (SIGTERM, Ctrl-C).

    A broker that cannot be reached is waited for: what is read is stored meanwhile.
    """
    from openami.clock import SystemClock
    from openami.gateway.config import ConfigError
    from openami.gateway.main import InstalledDrivers
    from openami.gateway.main import run as run_gateway

    configure_logs()
    config = loaded(file)
    try:
        asyncio.run(
            run_gateway(
                config,
                InstalledDrivers(),
                clock=SystemClock(),
                on_ready=lambda: say(f"ready: {_summary(config)}"),
            )
        )
    except ConfigError as error:
        fail(str(error), Exit.USAGE)


@gateway.command()
@config_option
def check(file: Path) -> None:
    """Check a configuration, register maps and named files included; touch no wire."""
    say(f"{file}: ok: {_summary(loaded(file))}")


@gateway.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def backlog(file: Path, as_json: bool) -> None:
    """Show what waits in the outbox, and how long its room lasts."""
    from openami.gateway.backlog import read_figures
    from openami.gateway.database import DatabaseError
    from openami.gateway.main import DATABASE_FILE

    config = loaded(file)
    try:
        figures = read_figures(config.data_dir / DATABASE_FILE, config.outbox)
    except DatabaseError as error:
        fail(str(error), Exit.FAILED, error.remedy)
    if figures is None:
        fail(
            f"{config.data_dir / DATABASE_FILE} is not there",
            Exit.FAILED,
            "the gateway makes it when it first runs",
        )
    row = _backlog_row(figures)
    if as_json:
        print_json(row)
    else:
        print_table(["", ""], [[name, _cell(value)] for name, value in row.items()])


@gateway.command()
@config_option
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
    tell_budget(
        loaded(file),
        file,
        price_per_mb=price_per_mb,
        currency=currency,
        changed_share=changed_share,
        events_per_day=events_per_day,
        connections_per_day=connections_per_day,
        topic_aliases=topic_aliases,
        as_json=as_json,
    )


@gateway.command()
@config_option
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@since_option
@click.option("--all", "everything", is_flag=True, help="Also what is kept after sending.")
@click.option("--unsigned", is_flag=True, help="Without a signature, even if there is a key.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def export(
    file: Path,
    out: Path,
    since: datetime | None,
    everything: bool,
    unsigned: bool,
    as_json: bool,
) -> None:
    """Write the backlog to OUT, a new file or a folder, to be carried to the head-end by hand.

    One file, signed by this gateway; works while it runs and when it does not. Nothing is marked as sent: when
    the network is back all of it is published too, and the head-end ignores what it has.
    """
    export_backlog(
        loaded(file),
        out,
        since=since,
        everything=everything,
        unsigned=unsigned,
        as_json=as_json,
    )


@gateway.command()
@config_option
@click.argument("document", metavar="FILE", type=click.Path(exists=True, path_type=Path))
@click.option("--wait", "wait_s", default=60.0, show_default=True, help="Seconds to wait for it.")
def ticket(file: Path, document: Path, wait_s: float) -> None:
    """Hand an emergency ticket to the running gateway, and print the report it signs.

    The ticket is signed by an operator, for one meter of this gateway, and works once. Exit code 4: refused;
    5: the gateway has not answered, so the outcome is unknown.
    """
    import time
    from hashlib import sha256

    from openami.gateway import tickets

    config = loaded(file)
    content = document.read_bytes()
    name = f"{document.stem[:40]}-{sha256(content).hexdigest()[:12]}"
    try:
        answer = tickets.drop(config.tickets, name, content)
    except OSError as error:
        fail(f"{config.tickets}: {error.strerror}", Exit.FAILED, "run it as the gateway's user")
    for _ in range(max(1, int(wait_s / _TICKET_LOOK_S))):
        if answer.exists():
            _tell_ticket(answer)
        time.sleep(_TICKET_LOOK_S)
    fail(
        "the gateway has not answered",
        Exit.OUTCOME_UNKNOWN,
        f"does it run, with [commands]? Its answer will be {answer}",
    )


def _tell_ticket(answer: Path) -> NoReturn:
    """Print a ticket's report; the file stays as a receipt."""
    report = answer.read_bytes()
    try:
        told = json.loads(report)["report"]
    except (ValueError, KeyError):
        fail(report.decode("utf-8", "replace").strip(), Exit.REFUSED)
    click.echo(report.decode())
    match told["status"]:
        case "done":
            sys.exit(Exit.DONE)
        case "refused":
            fail(f"the ticket is refused: {told['code']}", Exit.REFUSED)
        case "failed":
            fail(f"the meter did not obey: {told['code']}", Exit.FAILED)
        case _:
            fail(
                "it is not known whether the relay moved", Exit.OUTCOME_UNKNOWN, "look at the meter"
            )


def loaded(file: Path) -> "GatewayConfig":
    from openami.gateway.config import ConfigError, load_config
    from openami.gateway.main import InstalledDrivers

    try:
        return load_config(file, InstalledDrivers())
    except ConfigError as error:
        fail(str(error), Exit.USAGE)


def _summary(config: "GatewayConfig") -> str:
    meters, lines = len(list(config.serials)), len(config.lines)
    page = f", status on {config.status.listen}" if config.status.address else ""
    return (
        f"{meters} meter{'s' * (meters != 1)} on {lines} line{'s' * (lines != 1)} "
        f"→ {config.mqtt.place}{page}"
    )


def _backlog_row(figures: Any) -> Mapping[str, object]:
    from openami.gateway.entries import Kind, State

    level = figures.level
    oldest, room = figures.oldest_pending, figures.room
    return {
        "pending": level.count(State.PENDING),
        "pendingEvents": level.entries[State.PENDING, Kind.EVENT],
        "held": level.count(State.HELD),
        "refused": level.count(State.REFUSED),
        "kept": level.count(State.SENT),
        "oldestPending": None if oldest is None else utc_text(oldest),
        "bytesUsed": level.usage.total,
        "bytesMax": level.bound.events,
        "roomDays": None if room is None else round(room.total_seconds() / _DAY_S, 1),
        "thinned": {stage: thinned.entries for stage, thinned in figures.thinned.items()},
        "lastSeq": figures.last_seq,
    }


def _cell(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {count}" for name, count in value.items()) or "-"
    return "-" if value is None else str(value)
