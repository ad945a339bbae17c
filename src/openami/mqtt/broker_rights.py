"""Who may say what at the broker: one model, written as mosquitto's and as EMQX's rules (pure).

What is not allowed below is refused. A user's name is its certificate's common name. A gateway's is
``feederId/gatewayId``, which the pattern rules turn into its own part of the topic tree; the others are listed by
name, because a pattern that fits a head-end would fit whoever is called like one.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from string import Template
from typing import Final

from openami.profile import CommandTopic, EventTopic, SessionTopic, TelemetryTopic, is_id

# Where the head-end tries out the broker at its start; outside the profile's topics.
PROBE_FILTER: Final = "openami/probe/#"
DEFAULT_PORT: Final = 8883  # IANA, secure-mqtt
_EVERYTHING: Final = "openami/v1/#"
_ROOT: Final = "openami/v1/"
_ANY_ROOT: Final = f"{_ROOT}+/+/"


class Right(StrEnum):
    """What may be done with a topic."""

    READ = "read"
    WRITE = "write"
    BOTH = "readwrite"


@dataclass(frozen=True, slots=True)
class Rule:
    """One right to the topics of a filter."""

    right: Right
    filter: str


@dataclass(frozen=True, slots=True)
class Market:
    """A market participant and the feeder it trades on."""

    name: str
    feeder_id: str


@dataclass(frozen=True, slots=True)
class BridgeName:
    """A bridge and one of the gateways it speaks for (docs/bridge.md)."""

    name: str
    feeder_id: str
    gateway_id: str


class RightsError(ValueError):
    """A name that may not stand in the broker's rules; the message says why."""


@dataclass(frozen=True, slots=True)
class BrokerRights:
    """Who there is, besides the gateways. Raises RightsError for a name that would widen a rule."""

    headends: Sequence[str] = ()
    observers: Sequence[str] = ()
    markets: Sequence[Market] = ()
    bridges: Sequence[BridgeName] = ()
    gateways: Sequence[str] = ()
    """As FEEDER/GATEWAY, for brokers whose rules know no pattern (RabbitMQ, NATS)."""
    denied: Sequence[str] = ()
    """Clients to be cut off although they are connected; see `openami headend revoke`."""

    def __post_init__(self) -> None:
        # A market may stand there for several feeders, a bridge for several gateways.
        markets = {market.name for market in self.markets}
        bridges = {bridge.name for bridge in self.bridges}
        names = [*self.headends, *self.observers, *markets, *bridges]
        ids = [market.feeder_id for market in self.markets]
        ids += [id_ for each in self.bridges for id_ in (each.feeder_id, each.gateway_id)]
        for name in (*names, *ids):
            if not is_id(name):
                raise RightsError(
                    f"{name[:80]!r} is not an id: letters, digits, . _ - (a + or # would be a wildcard)"
                )
        if len(set(names)) != len(names):
            raise RightsError("one name stands for two users")
        for name in self.denied:
            if not all(is_id(part) for part in name.split("/")) or name.count("/") > 1:
                raise RightsError(f"{name[:80]!r} is neither an id nor FEEDER/GATEWAY")
        for name in self.gateways:
            if not all(is_id(part) for part in name.split("/")) or name.count("/") != 1:
                raise RightsError(f"{name[:80]!r} is not FEEDER/GATEWAY")
        if len(set(self.gateways)) != len(self.gateways):
            raise RightsError("one gateway stands there twice")


HEADEND: Final = (
    Rule(Right.READ, TelemetryTopic.filter()),
    Rule(Right.READ, EventTopic.filter()),
    Rule(Right.WRITE, CommandTopic.filter()),
    Rule(Right.BOTH, SessionTopic.filter()),
    Rule(Right.BOTH, PROBE_FILTER),
)
OBSERVER: Final = (Rule(Right.READ, _EVERYTHING),)


def market_rules(feeder_id: str) -> tuple[Rule, ...]:
    """Return the rights of a market participant on one feeder: no telemetry, and never a command."""
    return (
        Rule(Right.BOTH, SessionTopic.filter(feeder_id)),
        Rule(Right.READ, EventTopic.filter(feeder_id)),
    )


def gateway_rules(own: str) -> tuple[Rule, ...]:
    """Return a gateway's rights; ``own`` stands for its feeder's and its own id with a slash between."""

    def below(filter_: str) -> str:
        return f"{_ROOT}{own}/{filter_.removeprefix(_ANY_ROOT)}"

    return (
        Rule(Right.WRITE, below(TelemetryTopic.filter())),
        Rule(Right.WRITE, below(EventTopic.filter())),
        Rule(Right.READ, below(CommandTopic.filter())),
        Rule(Right.BOTH, below(SessionTopic.filter())),
    )


def bridge_rules(own: str) -> tuple[Rule, ...]:
    """Return what a bridge may do for one of its gateways: no session, for it signs nothing."""
    return tuple(rule for rule in gateway_rules(own) if rule.filter != f"{_ROOT}{own}/session/+")


def rules_by_name(rights: BrokerRights) -> Iterator[tuple[str, Sequence[Rule]]]:
    """Yield everybody's rights, for brokers whose rules know no pattern: every gateway is named."""
    yield from ((name, HEADEND) for name in rights.headends)
    yield from ((name, OBSERVER) for name in rights.observers)
    yield from _by_market(rights)
    yield from _by_bridge(rights)
    yield from ((name, gateway_rules(name)) for name in rights.gateways)


# --- mosquitto -------------------------------------------------------------------------------------


def mosquitto_acl(rights: BrokerRights) -> str:
    """Return mosquitto's access file."""
    blocks = [_MOSQUITTO_HEAD]
    if rights.denied:
        denials = [f"user {name}\ntopic deny #" for name in rights.denied]
        blocks.append("\n\n".join([_DENIED, *denials]))
    if rights.headends:
        blocks.append("\n\n".join([_HEADENDS, *(_user(n, HEADEND) for n in rights.headends)]))
    if rights.observers:
        blocks.append("\n\n".join([_OBSERVERS, *(_user(n, OBSERVER) for n in rights.observers)]))
    if rights.markets:
        users = [_user(name, rules) for name, rules in _by_market(rights)]
        blocks.append("\n\n".join([_MARKETS, *users]))
    if rights.bridges:
        users = [_user(name, rules) for name, rules in _by_bridge(rights)]
        blocks.append("\n\n".join([_BRIDGES, *users]))
    patterns = [f"pattern {rule.right} {rule.filter}" for rule in gateway_rules("%u")]
    blocks.append("\n".join([_GATEWAYS, *patterns]))
    return "\n\n".join(blocks) + "\n"


def mosquitto_conf(
    *,
    port: int = DEFAULT_PORT,
    certs: str = "/etc/mosquitto/certs",
    acl_file: str = "/etc/mosquitto/openami.acl",
) -> str:
    """Return mosquitto's configuration; every line of it carries its reason."""
    return _filled("mosquitto.conf.in", port=port, certs=certs, acl_file=acl_file)


_MOSQUITTO_HEAD: Final = """\
# Who may say what, on a broker for the OpenAMI northbound profile v0.1. What is not allowed below is
# refused. The user is the certificate's common name (use_identity_as_username in mosquitto.conf).
# Written by `openami broker-config mosquitto --acl`."""
_DENIED: Final = "# Revoked: nothing more, not even on a connection that is open."
_HEADENDS: Final = (
    "# The head-end, by name; one block for each. The probe is its own: it looks at its start whether this\n"
    "# broker loses anything."
)
_OBSERVERS: Final = (
    "# Whoever runs `openami watch` or a conformance check: reads everything, says nothing."
)
_MARKETS: Final = (
    "# Market participants: the sessions and results of their own feeders. Never a command."
)
_BRIDGES: Final = (
    "# Bridges: what other firmware's poles tell, as the gateways named here. They read commands, to say that\n"
    "# they were refused."
)
_GATEWAYS: Final = """\
# Every gateway: its common name is "{feederId}/{gatewayId}" (63 characters together at most), so %u is
# the two levels of its own root and a stolen certificate opens that root only. The authority must sign
# no gateway a name without exactly one slash, and none with + or #."""


def _user(name: str, rules: Sequence[Rule]) -> str:
    return "\n".join([f"user {name}", *(f"topic {rule.right} {rule.filter}" for rule in rules)])


def _by_market(rights: BrokerRights) -> Iterator[tuple[str, list[Rule]]]:
    for name in dict.fromkeys(market.name for market in rights.markets):
        feeders = [market.feeder_id for market in rights.markets if market.name == name]
        yield name, [rule for feeder_id in feeders for rule in market_rules(feeder_id)]


def _by_bridge(rights: BrokerRights) -> Iterator[tuple[str, list[Rule]]]:
    for name in dict.fromkeys(bridge.name for bridge in rights.bridges):
        own = [f"{b.feeder_id}/{b.gateway_id}" for b in rights.bridges if b.name == name]
        yield name, [rule for each in own for rule in bridge_rules(each)]


# --- EMQX ------------------------------------------------------------------------------------------


def emqx_acl(rights: BrokerRights) -> str:
    """Return EMQX's access file. Not run: see the template."""
    lines = [_EMQX_HEAD]
    lines += [f'{{deny, {{username, "{name}"}}}}.' for name in rights.denied]
    for name in rights.headends:
        lines += _allow(f'"{name}"', HEADEND)
    for name in rights.observers:
        lines += _allow(f'"{name}"', OBSERVER)
    for name, rules in _by_market(rights):
        lines += _allow(f'"{name}"', rules)
    for name, rules in _by_bridge(rights):
        lines += _allow(f'"{name}"', rules)
    lines += _allow(f'{{re, "{_GATEWAY_NAME}"}}', gateway_rules("${username}"))
    return "\n".join([*lines, "{deny, all}."]) + "\n"


def emqx_conf(
    *,
    port: int = DEFAULT_PORT,
    certs: str = "etc/certs",
    acl_file: str = "etc/openami-acl.conf",
) -> str:
    """Return EMQX's configuration. Not run: see the template."""
    return _filled("emqx.conf.in", port=port, certs=certs, acl_file=acl_file)


_EMQX_HEAD: Final = """\
%% NOT RUN: written from EMQX's documentation by `openami broker-config emqx --acl`.
%% The first rule that fits decides; the last one denies."""
# Of an older EMQX, which would put a + of a name into the topic, the expression is the second guard.
_GATEWAY_NAME: Final = "^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$"


def _allow(who: str, rules: Sequence[Rule]) -> list[str]:
    lines = []
    for action, right in (("publish", Right.WRITE), ("subscribe", Right.READ)):
        filters = [f'"{rule.filter}"' for rule in rules if rule.right in (right, Right.BOTH)]
        if filters:
            lines.append(f"{{allow, {{username, {who}}}, {action}, [{', '.join(filters)}]}}.")
    return lines


def _filled(template: str, *, port: int, certs: str, acl_file: str) -> str:
    if not 0 < port < 65536:
        raise RightsError(f"{port} is no port")
    return filled(template, paths={"certs": certs, "acl_file": acl_file}, port=str(port))


def filled(template: str, *, paths: Mapping[str, str], **values: str) -> str:
    """Return a template of a broker's configuration with its values. Raises RightsError for an odd path."""
    for path in paths.values():
        if _is_plain_path(path) is None:
            raise RightsError(f"{path!r} is no plain path: write one without spaces and quotes")
    text = files("openami.mqtt").joinpath("broker_templates", template).read_text("utf-8")
    plain = {name: path.rstrip("/") for name, path in paths.items()}
    return Template(text).substitute(plain, **values)


_is_plain_path = re.compile(r"[A-Za-z0-9_./+@-]+").fullmatch
