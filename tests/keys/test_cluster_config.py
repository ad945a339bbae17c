"""RabbitMQ's and NATS's files: the rights of the one model, word for word, and no name that widens them."""

import json
import re

import pytest
from click.testing import CliRunner
from paho.mqtt.client import topic_matches_sub

from openami.cli import main
from openami.mqtt.broker_rights import (
    BridgeName,
    BrokerRights,
    Market,
    Right,
    RightsError,
    mosquitto_acl,
    rules_by_name,
)
from openami.mqtt.nats_rights import nats_authorization, nats_conf
from openami.mqtt.rabbitmq_rights import rabbitmq_conf, rabbitmq_definitions

RIGHTS = BrokerRights(
    headends=("hes-1",),
    observers=("observer",),
    markets=(Market("market-coop", "feeder-1"),),
    bridges=(BridgeName("bridge-1", "feeder-2", "gateway-9"),),
    gateways=("feeder-1/gateway-1", "feeder-2/gateway-1"),
)
ROOT = "openami/v1"
TOPICS = [
    f"{ROOT}/{feeder}/{gateway}/{rest}"
    for feeder in ("feeder-1", "feeder-2", "feeder-11")
    for gateway in ("gateway-1", "gateway-9")
    for rest in (
        "meter/m/telemetry", "meter/m/event", "meter/m/command", "meter/m/x/command",
        "session/s", "session/s/t", "session", "telemetry",
    )
] + ["openami/probe/x", "openami/probe/x/y", "openami/probe", "openami", "x/openami/v1/f/g/session/s"]  # fmt: skip


@pytest.mark.parametrize("right", [Right.WRITE, Right.READ])
def test_rabbitmqs_patterns_fit_the_topics_of_the_model_and_no_others(right: Right) -> None:
    found = {
        each["user"]: re.compile(each[right.value])
        for each in json.loads(rabbitmq_definitions(RIGHTS))["topic_permissions"]
    }
    granted = 0
    for name, rules in rules_by_name(RIGHTS):
        filters = [rule.filter for rule in rules if rule.right in (right, Right.BOTH)]
        for topic in TOPICS:
            # RabbitMQ's own words: a dot between the levels. It searches, so the pattern has its ends.
            fits = found[name].search(topic.replace("/", ".")) is not None
            if topic == "openami/probe":
                continue  # the parent of a/#, which nobody publishes on
            assert fits is any(topic_matches_sub(f, topic) for f in filters), (name, topic)
            granted += fits
        for filter_ in filters:  # a subscription is judged by its filter, with * for +
            assert found[name].search(filter_.replace("/", ".").replace("+", "*"))
        for wider in ("#", "openami.#", "openami.v1.*.*.session.#", "*.v1.*.*.session.*"):
            may = name == "observer" and right is Right.READ and wider.startswith("openami.v1.")
            assert (found[name].search(wider) is not None) is may, (name, wider)
    assert granted > 20


def test_nats_has_the_filters_of_the_model_and_no_others() -> None:
    blocks = dict(
        re.findall(r'user: "CN=([^"]+)".*?\n(.*)', nats_authorization(RIGHTS))
    )  # a user's name, and the line of his permissions
    assert blocks.keys() == {name for name, _ in rules_by_name(RIGHTS)}
    for name, rules in rules_by_name(RIGHTS):
        publish, subscribe = blocks[name].split("subscribe:")
        for text, right in ((publish, Right.WRITE), (subscribe, Right.READ)):
            filters = {rule.filter for rule in rules if rule.right in (right, Right.BOTH)}
            parents = {f.removesuffix("/#") for f in filters if f.endswith("/#")}
            told = {
                word.replace(".", "/").replace("*", "+").replace("/>", "/#")
                for word in re.findall(r'"(openami[^"]*)"', text)
            }
            assert told == filters | parents, (name, right)
    # What is empty would allow everything.
    assert "allow: []" not in nats_authorization(RIGHTS)
    assert 'publish: { deny: ">" }' in blocks["observer"]


@pytest.mark.parametrize("write", [rabbitmq_definitions, nats_authorization])
def test_an_id_with_a_dot_is_not_written(write: object) -> None:
    """Both part levels with a dot: what such a gateway sends would reach nobody, with its PUBACK."""
    assert callable(write)
    for rights in (
        BrokerRights(gateways=("feeder.1/g",)),
        BrokerRights(markets=(Market("m", "feeder.1"),)),
        BrokerRights(bridges=(BridgeName("b", "f", "g.1"),)),
    ):
        with pytest.raises(RightsError, match="dot"):
            write(rights)


@pytest.mark.parametrize("name", ["f", "f/g/h", "f/+", "#/g", 'f"/g', "f/g\n", "f/", "/g"])
def test_a_gateway_is_named_by_two_ids(name: str) -> None:
    with pytest.raises(RightsError, match="is not FEEDER/GATEWAY"):
        BrokerRights(gateways=(name,))


def test_a_gateway_is_named_once() -> None:
    with pytest.raises(RightsError, match="twice"):
        BrokerRights(gateways=("f/g", "f/g"))


def test_who_is_denied_is_no_user() -> None:
    rights = BrokerRights(headends=("hes-1",), gateways=("f/g", "f/h"), denied=("f/g",))
    for text in (rabbitmq_definitions(rights), nats_authorization(rights)):
        assert "f/g" not in text
        assert "f/h" in text
    # mosquitto lets every gateway in by one pattern, and needs the denial.
    assert "user f/g\ntopic deny #" in mosquitto_acl(rights)


def test_nobody_has_a_password_in_rabbitmq() -> None:
    for user in json.loads(rabbitmq_definitions(RIGHTS))["users"]:
        assert user["password_hash"] == ""
        assert user["tags"] == ""


def test_every_node_is_named() -> None:
    conf = rabbitmq_conf(nodes=["rabbit@b1", "rabbit@b2"])
    assert "cluster_formation.classic_config.nodes.2 = rabbit@b2" in conf
    conf = nats_conf(nodes=["b2", "b1", "b3"])
    assert 'server_name: "b2"' in conf
    assert '"nats-route://b1:6222"' in conf
    assert "stream_replicas: 3" in conf
    for bad in ("", "b1 b2", 'b"', "rabbit"):
        with pytest.raises(RightsError):
            rabbitmq_conf(nodes=[bad])
    for hosts in ([], [""], ["b 1"], ['b"1']):
        with pytest.raises(RightsError):
            nats_conf(nodes=hosts)
    with pytest.raises(RightsError, match="plain path"):
        rabbitmq_conf(certs="/a b")


@pytest.mark.parametrize(
    ("broker", "nodes", "words"),
    [
        ("rabbitmq", ["rabbit@b1"], ["mqtt.listeners.ssl.default = 8884", '"user": "f/g"']),
        ("nats", ["b1", "b2", "b3"], ['listen: "0.0.0.0:8884"', 'user: "CN=f/g"']),
    ],
)
def test_the_command_prints_both_files(broker: str, nodes: list[str], words: list[str]) -> None:
    command = ["broker-config", broker, "--port", "8884", "--gateway", "f/g"]
    for node in nodes:
        command += ["--node", node]
    printed = CliRunner().invoke(main, command).stdout
    conf, acl = (CliRunner().invoke(main, [*command, part]).stdout for part in ("--conf", "--acl"))
    assert printed == f"{conf}\n{acl}"
    for word in words:
        assert word in printed


def test_the_command_asks_for_a_node_of_nats() -> None:
    result = CliRunner().invoke(main, ["broker-config", "nats"])
    assert result.exit_code == 2
    assert "--node" in result.stderr
