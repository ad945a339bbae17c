"""``openami bridge``: other firmware's messages, published as the profile asks."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openami.cli.files import config_option
from openami.cli.logs import configure_logs
from openami.cli.report import Exit, fail, print_json, say
from openami.profile import utc_text

if TYPE_CHECKING:
    from openami.bridge.config import BridgeConfig
    from openami.bridge.translating import Told


@click.group()
def bridge() -> None:
    """Bridges: what other firmware publishes, in the profile's form."""


@bridge.command()
@config_option("The bridge's TOML file.", name="file", required=True)
@click.option("--check", "only_check", is_flag=True, help="Check the file and end; touch no wire.")
@click.option("--json", "as_json", is_flag=True, help="Print what became of each message.")
def meshems(file: Path, only_check: bool, as_json: bool) -> None:
    """Publish the reference firmware's messages north until told to stop (SIGTERM, Ctrl-C).

    Nothing is ever sent to the firmware. With --json each of its messages is one object on stdout: what was
    published for it, and what was left out, doubted or mended and why.
    """
    from openami.bridge.config import ConfigError
    from openami.bridge.main import run
    from openami.clock import SystemClock

    config = _loaded(file)
    if only_check:
        if as_json:
            print_json(_summary_row(config))
        else:
            say(f"{file}: ok: {_summary(config)}")
        return
    configure_logs()
    try:
        asyncio.run(
            run(
                config,
                clock=SystemClock(),
                on_ready=lambda: say(f"ready: {_summary(config)}"),
                on_told=_print if as_json else None,
            )
        )
    except ConfigError as error:
        fail(str(error), Exit.USAGE)


def _loaded(file: Path) -> "BridgeConfig":
    from openami.bridge.config import ConfigError, read_config

    try:
        return read_config(file)
    except ConfigError as error:
        fail(str(error), Exit.USAGE)


def _summary_row(config: "BridgeConfig") -> dict[str, Any]:
    return {
        "poles": len(config.pole),
        "meters": sum(len(pole.meters) for pole in config.pole),
        "south": config.south.place,
        "north": config.north.place,
    }


def _summary(config: "BridgeConfig") -> str:
    row = _summary_row(config)
    return "{meters} meters on {poles} poles, {south} → {north}".format(**row)


def _print(told: "Told") -> None:
    print_json(
        {
            "at": utc_text(told.at),
            "pole": told.pole,
            "topic": told.topic,
            "published": [
                {
                    "topic": str(outgoing.topic),
                    "ts": utc_text(outgoing.envelope.ts),
                    "event": outgoing.envelope.event and outgoing.envelope.event.type,
                    "registers": [
                        {
                            "obis": str(register.obis),
                            "value": register.value,
                            "unit": register.unit,
                            "quality": register.quality.value,
                        }
                        for register in outgoing.envelope.registers
                    ],
                }
                for outgoing in told.outgoing
            ],
            "findings": [
                {
                    "reason": each.reason.value,
                    "effect": each.effect.value,
                    "register": each.obis,
                    "detail": each.detail,
                }
                for each in told.findings
            ],
        }
    )
