"""``openami gateway``: the edge."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openami.cli.gateway_enroll import enroll
from openami.cli.logs import configure_logs
from openami.cli.report import Exit, fail, print_json, print_table, say
from openami.profile import utc_text

if TYPE_CHECKING:
    from openami.gateway.config import GatewayConfig

_DAY_S = 86_400

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
    config = _loaded(file)
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
    say(f"{file}: ok: {_summary(_loaded(file))}")


@gateway.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def backlog(file: Path, as_json: bool) -> None:
    """Show what waits in the outbox, and how long its room lasts."""
    from openami.gateway.backlog import read_figures
    from openami.gateway.database import DatabaseError
    from openami.gateway.main import DATABASE_FILE

    config = _loaded(file)
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


def _loaded(file: Path) -> "GatewayConfig":
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
        f"→ {config.mqtt.endpoint}{page}"
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
