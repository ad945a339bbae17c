"""``openami broker-config``: the broker's configuration and access rules, from one model."""

from collections.abc import Callable, Mapping
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
from openami.mqtt.nats_rights import nats_authorization, nats_conf
from openami.mqtt.rabbitmq_rights import rabbitmq_conf, rabbitmq_definitions

_ACLS: Mapping[str, Callable[[BrokerRights], str]] = {
    "mosquitto": mosquitto_acl,
    "emqx": emqx_acl,
    "rabbitmq": rabbitmq_definitions,
    "nats": nats_authorization,
}


@click.command("broker-config")
@click.argument("broker", type=click.Choice(list(_ACLS)))
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
    "--gateway",
    "gateways",
    metavar="FEEDER/GATEWAY",
    multiple=True,
    help="RabbitMQ and NATS know no pattern: every gateway by name.",
)
@click.option(
    "--node",
    "nodes",
    metavar="NODE",
    multiple=True,
    help="Each node of a cluster, this one first: rabbit@HOST for RabbitMQ, HOST for NATS.",
)
@click.option(
    "--deny", "denied", metavar="NAME", multiple=True, help="Cut off, though connected now."
)
def broker_config(
    broker: str,
    only_acl: bool,
    only_conf: bool,
    headends: tuple[str, ...],
    nodes: tuple[str, ...],
    **given: Any,
) -> None:
    """Print a broker's configuration and access rules; without --acl or --conf both, one after the other.

    mosquitto's are run by our tests, with certificates and every forbidden topic. RabbitMQ's and NATS's were
    run as clusters of three whose nodes were killed: RabbitMQ is recommended, NATS is not (docs/scale.md).
    EMQX's are written from its documentation and were never run.
    """
    files = {name: given[name] for name in ("certs", "acl_file") if given[name] is not None}
    port: int = given["port"]
    try:
        rights = BrokerRights(
            headends=headends or ("hes-1",),
            observers=given["observers"],
            markets=tuple(_market(text) for text in given["markets"]),
            bridges=tuple(_bridge(text) for text in given["bridges"]),
            gateways=given["gateways"],
            denied=given["denied"],
        )
        acl = _ACLS[broker](rights)
        match broker:
            case "rabbitmq":
                conf = rabbitmq_conf(listen=str(port), nodes=nodes, **files)
            case "nats":
                conf = nats_conf(listen=f"0.0.0.0:{port}", nodes=nodes, **files)
            case "emqx":
                conf = emqx_conf(port=port, **files)
            case _:
                conf = mosquitto_conf(port=port, **files)
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
