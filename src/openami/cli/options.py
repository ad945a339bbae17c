"""The options that say where broker and store are: the same for every command that needs one."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import click

from openami.cli.report import Exit, fail
from openami.headend.config import DEFAULT_STORE
from openami.mqtt.settings import DEFAULT_URL, BrokerSettings, Protocol

_Command = TypeVar("_Command", bound=Callable[..., Any])

# How the decorated command gets them: keyword arguments, to be handed to `broker_settings`.
_OPTIONS = (
    click.option(
        "--broker",
        "broker_url",
        metavar="URL",
        envvar="OPENAMI_BROKER",
        default=DEFAULT_URL,
        show_default=True,
        help="The broker: mqtt://host:port, or mqtts:// with TLS.",
    ),
    click.option("--ca-file", metavar="FILE", help="The authority that signed the broker's name."),
    click.option(
        "--cert-file", metavar="FILE", help="Our certificate, where the broker asks for one."
    ),
    click.option("--key-file", metavar="FILE", help="Its key."),
    click.option("--username", metavar="NAME", help="Our name, where the broker asks for one."),
    click.option(
        "--password-file", metavar="FILE", help="A file with the password and nothing else."
    ),
    click.option(
        "--mqtt-version",
        "protocol",
        type=click.Choice(["5", "3.1.1"]),
        default="5",
        show_default=True,
        help="The version of MQTT to speak.",
    ),
)


store_option = click.option(
    "--store",
    metavar="URL",
    envvar="OPENAMI_STORE",
    default=DEFAULT_STORE,
    show_default=True,
    help="The head-end's store: sqlite:///path or postgresql://…",
)


def broker_options(command: _Command) -> _Command:
    """Add the options; the command receives them as keyword arguments for `broker_settings`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def broker_settings(
    *,
    broker_url: str,
    ca_file: str | None,
    cert_file: str | None,
    key_file: str | None,
    username: str | None,
    password_file: str | None,
    protocol: str,
    client_id: str = "",
    session_expiry_days: float = 14.0,
) -> BrokerSettings:
    """Return what the options say; end the command with the remedy when they contradict."""
    try:
        return BrokerSettings.from_url(
            broker_url,
            client_id=client_id,
            ca_file=ca_file,
            cert_file=cert_file,
            key_file=key_file,
            username=username,
            password_file=password_file,
            protocol=cast(Protocol, protocol),
            session_expiry_days=session_expiry_days,
        )
    except ValueError as error:
        fail(str(error), Exit.USAGE)
