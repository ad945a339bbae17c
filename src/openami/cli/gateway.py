"""``openami gateway``: the edge."""

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from openami.cli.gateway_budget import budget
from openami.cli.gateway_commission import commission
from openami.cli.gateway_config import gateway_config_option, loaded
from openami.cli.gateway_enroll import enroll
from openami.cli.gateway_export import export
from openami.cli.logs import configure_logs
from openami.cli.report import Exit, fail, print_json, print_table, say
from openami.profile import utc_text

if TYPE_CHECKING:
    from openami.gateway.config import GatewayConfig

_DAY_S = 86_400
# A person waits; the gateway looks into its folder every second.
_TICKET_LOOK_S = 0.2


@click.group()
def gateway() -> None:
    """The gateway: reads meters, stores their registers, publishes them."""


for _command in (commission, enroll, budget, export):
    gateway.add_command(_command)


@gateway.command()
@gateway_config_option
def run(file: Path) -> None:
    """Read the meters and publish until told to stop (SIGTERM, Ctrl-C).

    A broker that cannot be reached is waited for: what is read is stored meanwhile.
    """
    from openami.clock import SystemClock
    from openami.gateway.config import ConfigError
    from openami.gateway.installed_drivers import InstalledDrivers
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
@gateway_config_option
def check(file: Path) -> None:
    """Check a configuration, register maps and named files included; touch no wire."""
    say(f"{file}: ok: {_summary(loaded(file))}")


@gateway.command()
@gateway_config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def backlog(file: Path, as_json: bool) -> None:
    """Show what waits in the outbox, and how long its room lasts."""
    from openami.gateway.backlog import read_figures
    from openami.gateway.database import DatabaseError

    config = loaded(file)
    try:
        figures = read_figures(config.database, config.outbox)
    except DatabaseError as error:
        fail(str(error), Exit.FAILED, error.remedy)
    if figures is None:
        fail(
            f"{config.database} is not there",
            Exit.FAILED,
            "the gateway makes it when it first runs",
        )
    row = _backlog_row(figures)
    if as_json:
        print_json(row)
    else:
        print_table(["", ""], [[name, _cell(value)] for name, value in row.items()])


@gateway.command()
@gateway_config_option
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
