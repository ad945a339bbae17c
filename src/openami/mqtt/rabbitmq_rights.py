"""The same rights as RabbitMQ has them: users, permissions and topic permissions in a definitions file (pure).

RabbitMQ has no pattern that turns ``feederId/gatewayId`` into topics, so every gateway is named. In its routing
keys a dot parts the levels of a topic: an id with a dot would be two levels, and what is published there
is acknowledged and reaches nobody (seen with 3.10.8), so no such name is written.
"""

import json
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

_VHOST: Final = "/"
_EXCHANGE: Final = "amq.topic"  # what the MQTT plug-in publishes on
_NO_TOPIC: Final = "^$"


def rabbitmq_definitions(rights: BrokerRights) -> str:
    """Return the definitions a node loads at its start. Raises RightsError for an id with a dot."""
    users = {name: rules for name, rules in rules_by_name(rights) if name not in rights.denied}
    document = {
        "vhosts": [{"name": _VHOST}],
        "users": [{"name": name, "password_hash": "", "tags": ""} for name in users],
        "permissions": [_own_session(name, name in rights.headends) for name in users],
        "topic_permissions": [
            {
                "user": name,
                "vhost": _VHOST,
                "exchange": _EXCHANGE,
                "write": _pattern(rules, Right.WRITE),
                "read": _pattern(rules, Right.READ),
            }
            for name, rules in users.items()
        ],
    }
    return json.dumps(document, indent=1) + "\n"


def rabbitmq_conf(
    *,
    listen: str = str(DEFAULT_PORT),
    nodes: Sequence[str] = (),
    certs: str = "/etc/rabbitmq/certs",
    acl_file: str = "/etc/rabbitmq/openami.json",
) -> str:
    """Return the configuration of every node; ``nodes`` are Erlang's names of them, e.g. rabbit@broker-1."""
    for node in nodes:
        if _is_node(node) is None:
            raise RightsError(f"{node[:80]!r} is no node; write NAME@HOST, e.g. rabbit@broker-1")
    lines = [
        f"cluster_formation.classic_config.nodes.{number} = {node}"
        for number, node in enumerate(nodes, 1)
    ]
    return filled(
        "rabbitmq.conf.in", paths={"certs": certs, "acl_file": acl_file}, listen=listen,
        nodes="\n".join(lines),
    )  # fmt: skip


_is_node = re.compile(r"[A-Za-z0-9_-]+@[A-Za-z0-9.-]+").fullmatch


def _own_session(name: str, tries_out: bool) -> dict[str, str]:
    """Return the right to one's own session, whose queue is called after the client id.

    A head-end tries the broker out at its start, under a name of its own for that (`broker_check`).
    """
    probe = "(-probe-[0-9a-f]+)?" if tries_out else ""
    queue = f"mqtt-subscription-{re.escape(name)}{probe}qos[01]"
    return {
        "user": name,
        "vhost": _VHOST,
        "configure": f"^{queue}$",
        "write": rf"^({queue}|amq\.topic)$",
        "read": rf"^({queue}|amq\.topic)$",
    }


def _pattern(rules: Iterable[Rule], right: Right) -> str:
    keys = [_routing_key(rule.filter) for rule in rules if rule.right in (right, Right.BOTH)]
    return f"^({'|'.join(keys)})$" if keys else _NO_TOPIC


def _routing_key(filter_: str) -> str:
    if "." in filter_:
        raise RightsError(
            f"{filter_!r} has a dot in it, which parts two levels in RabbitMQ: choose ids without dots"
        )
    # A subscription is judged by its filter; a + arrives as *, which is a level, and # as #, which is many.
    levels = {"+": "[^.#]+", "#": ".+"}
    return r"\.".join(levels.get(level, re.escape(level)) for level in filter_.split("/"))
