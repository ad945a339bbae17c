"""``openami broker-config``: the broker's configuration and access rules, from one model."""

from typing import Any

import click

from openami.cli.report import Exit, fail
from openami.mqtt.broker_rights import (
    DEFAULT_PORT,
    BridgeName,
    BrokerRights,
    Market,
    RightsError,
    emqx_acl,
    emqx_conf,
    mosquitto_acl,
    mosquitto_conf,
)


@click.command("broker-config")
@click.argument("broker", type=click.Choice(["mosquitto", "emqx"]))
@click.option("--acl", "only_acl", is_flag=True, help="Only the access rules.")
@click.option("--conf", "only_conf", is_flag=True, help="Only the configuration.")
@click.option("--dir", "certs", metavar="DIR", help="Where the broker finds its certificates.")
@click.option("--acl-file", metavar="FILE", help="Where it finds the access rules.")
@click.option("--port", type=click.IntRange(1, 65535), default=DEFAULT_PORT, show_default=True)
@click.option("--hes", "headends", metavar="NAME", multiple=True, help="[default: hes-1]")
@click.option("--observer", "observers", metavar="NAME", multiple=True, help="Reads everything.")
@click.option(
    "--market", "markets", metavar="NAME:FEEDER", multiple=True, help="Trades on a feeder."
)
@click.option(
    "--bridge",
    "bridges",
    metavar="NAME:FEEDER/GATEWAY",
    multiple=True,
    help="Bridges a gateway's pole; again for each.",
)
@click.option(
    "--deny", "denied", metavar="NAME", multiple=True, help="Cut off, though connected now."
)
def broker_config(
    broker: str, only_acl: bool, only_conf: bool, headends: tuple[str, ...], **given: Any
) -> None:
    """Print a broker's configuration and access rules; without --acl or --conf both, one after the other.

    mosquitto's are run by our tests, with certificates and every forbidden topic. EMQX's are written from
    its documentation and were never run.
    """
    files = {name: given[name] for name in ("certs", "acl_file") if given[name] is not None}
    try:
        rights = BrokerRights(
            headends=headends or ("hes-1",),
            observers=given["observers"],
            markets=tuple(_market(text) for text in given["markets"]),
            bridges=tuple(_bridge(text) for text in given["bridges"]),
            denied=given["denied"],
        )
        acl = mosquitto_acl(rights) if broker == "mosquitto" else emqx_acl(rights)
        conf = (mosquitto_conf if broker == "mosquitto" else emqx_conf)(port=given["port"], **files)
    except RightsError as error:
        fail(str(error), Exit.USAGE)
    parts = [text for text, wanted in ((conf, not only_acl), (acl, not only_conf)) if wanted]
    click.echo("\n".join(parts) if parts else f"{conf}\n{acl}", nl=False)


def _market(text: str) -> Market:
    name, colon, feeder_id = text.partition(":")
    if not colon:
        raise RightsError(f"{text!r} is not NAME:FEEDER")
    return Market(name, feeder_id)


def _bridge(text: str) -> BridgeName:
    name, colon, gateway = text.partition(":")
    feeder_id, slash, gateway_id = gateway.partition("/")
    if not colon or not slash:
        raise RightsError(f"{text!r} is not NAME:FEEDER/GATEWAY")
    return BridgeName(name, feeder_id, gateway_id)
