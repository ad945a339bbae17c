"""The same rights as NATS has them: one user for each certificate, with the subjects it may use (pure).

NATS has no pattern either: every gateway is named. A topic is a subject there, a dot for each slash, so an id
with a dot cannot be told apart; nats-server 2.9 closes the connection of whoever publishes one.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from openami.mqtt.broker_rights import (
    DEFAULT_PORT,
    BrokerRights,
    Right,
    RightsError,
    Rule,
    filled,
    rules_by_name,
)

# What comes at QoS 1 comes to MQTT's own subjects; the server refuses subscriptions to them by name.
_DELIVERIES: Final = "$MQTT.sub.>"
_ROUTE_PORT: Final = 6222  # NATS's own choice
_CLIENT_PORT: Final = 4222
_MONITOR_PORT: Final = 8222
# Of three copies one may be missing; NATS allows at most five, and each is a write more.
REPLICAS: Final = 3


def nats_authorization(rights: BrokerRights) -> str:
    """Return the users and what each may do. Raises RightsError for an id with a dot."""
    users = [_user(n, rules) for n, rules in rules_by_name(rights) if n not in rights.denied]
    return "\n".join([_HEAD, "authorization {", "  users: [", *users, "  ]", "}"]) + "\n"


def nats_conf(
    *,
    nodes: Sequence[str],
    listen: str = f"0.0.0.0:{DEFAULT_PORT}",
    route_port: int = _ROUTE_PORT,
    routes: Sequence[str] = (),
    client_port: int = _CLIENT_PORT,
    monitor_port: int = _MONITOR_PORT,
    certs: str = "/etc/nats/certs",
    store: str = "/var/lib/nats",
    acl_file: str = "openami-users.conf",
) -> str:
    """Return the configuration of the first of ``nodes``, which are host names."""
    if not nodes:
        raise RightsError("a node of NATS has a name: write --node, this node's first")
    for node in nodes:
        if _is_host(node) is None:
            raise RightsError(f"{node[:80]!r} is no host name")
    routes = routes or [f"{node}:{route_port}" for node in nodes]
    return filled(
        "nats.conf.in",
        paths={"certs": certs, "store": store, "acl_file": acl_file},
        name=nodes[0],
        listen=listen,
        client_port=str(client_port),
        monitor_port=str(monitor_port),
        route_port=str(route_port),
        route_listen=f"{listen.rpartition(':')[0]}:{route_port}",
        routes=", ".join(f'"nats-route://{route}"' for route in routes),
        replicas=str(min(REPLICAS, len(nodes))),
    )


_is_host = re.compile(r"[A-Za-z0-9.-]+").fullmatch

_HEAD: Final = """\
# Who may say what, on a NATS cluster for the OpenAMI northbound profile v0.1. What is not allowed below is
# refused. A user is a certificate, by its name. Written by `openami broker-config nats --acl`; after a change
# `nats-server --signal reload` on every node, which cuts off whoever is no longer named."""


def _user(name: str, rules: Sequence[Rule]) -> str:
    write = _subjects(rules, Right.WRITE)
    read = f'{_subjects(rules, Right.READ)}, "{_DELIVERIES}"'
    # An empty list of what is allowed would allow everything.
    publish = f"allow: [{write}]" if write else 'deny: ">"'
    return (
        f'    {{ user: "CN={name}", allowed_connection_types: ["MQTT"], permissions: {{\n'
        f"      publish: {{ {publish} }}, subscribe: {{ allow: [{read}] }} }} }}"
    )


def _subjects(rules: Iterable[Rule], right: Right) -> str:
    found = [rule.filter for rule in rules if rule.right in (right, Right.BOTH)]
    # In MQTT "a/#" is "a" as well, and NATS asks for the right to both.
    found += [filter_.removesuffix("/#") for filter_ in found if filter_.endswith("/#")]
    return ", ".join(f'"{_subject(filter_)}"' for filter_ in found)


def _subject(filter_: str) -> str:
    if "." in filter_:
        raise RightsError(
            f"{filter_!r} has a dot in it, which NATS cannot carry: choose ids without dots"
        )
    levels = {"+": "*", "#": ">"}
    return ".".join(levels.get(level, level) for level in filter_.split("/"))
