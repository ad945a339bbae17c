"""``openami headend run``: the head-end itself."""

import asyncio
import os
from pathlib import Path
from typing import Any

import click
import msgspec

from openami.cli.files import config_option
from openami.cli.logs import configure_logs
from openami.cli.report import Exit, fail, say
from openami.cli.storage import fail_for_store, registers_option
from openami.clock import SystemClock
from openami.headend.accounts.credentials import FIRST_LINK_HOURS
from openami.headend.config import (
    DEFAULT_STORE,
    ConfigError,
    HeadendConfig,
    read_config,
)
from openami.headend.main import run as run_headend
from openami.headend.store import StoreError
from openami.mqtt.port import TransportError
from openami.mqtt.settings import DEFAULT_URL, BrokerSettings
from openami.service_manager import ServiceSettings


# What a flag leaves unsaid is the file's word, so none of them has a default of its own here.
@click.command()
@config_option("A TOML file; flags overrule it.")
@click.option(
    "--broker", "url", metavar="URL", envvar="OPENAMI_BROKER", help=f"[default: {DEFAULT_URL}]"
)
@click.option("--ca-file", metavar="FILE", help="The authority that signed the broker's name.")
@click.option("--cert-file", metavar="FILE", help="Our certificate, where the broker asks for one.")
@click.option("--key-file", metavar="FILE", help="Its key.")
@click.option("--username", metavar="NAME", help="Our name to a broker that asks for a password.")
@click.option("--password-file", metavar="FILE", help="A file with the password and nothing else.")
@click.option("--client-id", metavar="ID", help="The name our session is kept under at the broker.")
@click.option(
    "--mqtt-version",
    "protocol",
    type=click.Choice(["5", "3.1.1"]),
    help="[default: 5]",
)
@click.option("--store", metavar="URL", envvar="OPENAMI_STORE", help=f"[default: {DEFAULT_STORE}]")
@click.option(
    "--broker-config",
    "broker_config_file",
    metavar="FILE",
    help="The broker's own configuration, to be checked at start for what would lose data.",
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    envvar="OPENAMI_LISTEN",
    help="Serve the console and the API there; beyond this machine it needs [web] in the file.",
)
@registers_option
def run(
    config_file: Path | None,
    listen: str | None,
    store: str | None,
    registers: str | None,
    broker_config_file: str | None,
    **broker: Any,
) -> None:
    """Receive, judge and store until told to stop (SIGTERM, Ctrl-C).

    A message is acknowledged to the broker when the store has committed it, never before. A broker or a
    database that is down is waited for. With --listen the console and the API are served, and while there
    is no account a link is printed that makes the first one.
    """
    configure_logs()
    try:
        config = _overlaid(
            HeadendConfig() if config_file is None else read_config(config_file),
            broker,
            store=store,
            registers_file=registers,
            broker_config_file=broker_config_file,
        )
        if listen is not None:
            config = msgspec.structs.replace(
                config, web=msgspec.structs.replace(config.web, listen=listen)
            )
        asyncio.run(
            run_headend(
                config,
                clock=SystemClock(),
                on_ready=lambda: say(f"ready: {config.mqtt.place} → {_without_password(config)}"),
                on_listening=_say_listening,
                service=ServiceSettings.of(os.environ),
            )
        )
    except ConfigError as error:
        fail(str(error), Exit.USAGE)
    except StoreError as error:
        fail_for_store(error)
    except TransportError as error:
        fail(str(error), Exit.CANNOT_CONNECT, error.remedy)


def _say_listening(url: str, first_link: str | None) -> None:
    say(f"listening: {url}")
    if first_link is not None:
        say(
            f"no account yet; this makes the first, once, within {FIRST_LINK_HOURS} h: {first_link}"
        )


def _overlaid(
    config: HeadendConfig, broker: dict[str, str | None], **others: str | None
) -> HeadendConfig:
    """Return the configuration with the flags that were given in place of what the file says."""
    given: dict[str, object] = {name: value for name, value in broker.items() if value is not None}
    if "url" in given:
        given["urls"] = ()
    try:
        mqtt = BrokerSettings(**{**msgspec.structs.asdict(config.mqtt), **given})
    except ValueError as error:
        raise ConfigError(str(error)) from None
    rest = {name: value for name, value in others.items() if value is not None}
    return msgspec.structs.replace(config, mqtt=mqtt, **rest)


def _without_password(config: HeadendConfig) -> str:
    """A PostgreSQL URL may hold a password, and what we say may end in a log."""
    scheme, _, rest = config.store.partition("://")
    login, at, place = rest.rpartition("@")
    user = login.partition(":")[0]
    return f"{scheme}://{user}{at}{place}"
