"""The broker's files: what is shipped is what is printed, and no name widens a rule."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from openami.cli import main
from openami.headend.broker_check import Severity, judge_config
from openami.mqtt.broker_rights import (
    BridgeName,
    BrokerRights,
    Market,
    RightsError,
    emqx_acl,
    emqx_conf,
    mosquitto_acl,
    mosquitto_conf,
)

DEPLOY = Path("deploy/mosquitto")


def test_the_shipped_files_are_what_is_printed() -> None:
    """`openami broker-config mosquitto` with an observer writes both files of deploy/mosquitto."""
    run = CliRunner().invoke
    command = ["broker-config", "mosquitto", "--observer", "observer"]
    assert run(main, [*command, "--acl"]).stdout == (DEPLOY / "acl").read_text()
    assert run(main, [*command, "--conf"]).stdout == (DEPLOY / "mosquitto.conf").read_text()
    both = run(main, command).stdout
    assert both.startswith((DEPLOY / "mosquitto.conf").read_text())
    assert both.endswith((DEPLOY / "acl").read_text())


def test_what_is_printed_loses_nothing() -> None:
    """The head-end's own judge of configurations has no complaint."""
    findings = judge_config(mosquitto_conf())
    assert [f for f in findings if f.severity is Severity.LOSES_DATA] == []


@pytest.mark.parametrize("name", ["+", "#", "a/b", "a b", "a\nuser x", "", "é", "x" * 65])
def test_no_name_widens_a_rule(name: str) -> None:
    """As a head-end, an observer, a market participant, its feeder, or one to be cut off."""
    for rights in (
        {"headends": (name,)},
        {"observers": (name,)},
        {"markets": (Market(name, "f"),)},
        {"markets": (Market("m", name),)},
    ):
        with pytest.raises(RightsError):
            BrokerRights(**rights)
    if name != "a/b":
        with pytest.raises(RightsError):
            BrokerRights(denied=(name,))


def test_one_name_is_one_user() -> None:
    for rights in (
        {"headends": ("a", "a")},
        {"headends": ("a",), "observers": ("a",)},
        {"headends": ("a",), "markets": (Market("a", "f"),)},
    ):
        with pytest.raises(RightsError, match="two users"):
            BrokerRights(**rights)


def test_a_market_on_two_feeders_is_one_user() -> None:
    rights = BrokerRights(markets=(Market("m", "f1"), Market("m", "f2")))
    acl = mosquitto_acl(rights)
    assert acl.count("user m\n") == 1
    assert "openami/v1/f1/+/session/+" in acl
    assert "openami/v1/f2/+/session/+" in acl


def test_a_bridge_of_two_gateways_is_one_user_without_sessions() -> None:
    rights = BrokerRights(bridges=(BridgeName("b", "f", "g1"), BridgeName("b", "f", "g2")))
    (block,) = [b for b in mosquitto_acl(rights).split("\n\n") if b.startswith("user b\n")]
    assert block.splitlines()[1:] == [
        f"topic {right} openami/v1/f/{gateway}/meter/+/{leaf}"
        for gateway in ("g1", "g2")
        for right, leaf in (("write", "telemetry"), ("write", "event"), ("read", "command"))
    ]


def test_a_bridges_name_and_gateways_widen_no_rule() -> None:
    for bridge in (
        BridgeName("b", "f", "+"),
        BridgeName("b", "#", "g"),
        BridgeName("b\n", "f", "g"),
    ):
        with pytest.raises(RightsError):
            BrokerRights(bridges=(bridge,))
    with pytest.raises(RightsError, match="two users"):
        BrokerRights(headends=("b",), bridges=(BridgeName("b", "f", "g"),))


def test_denials_stand_before_every_grant() -> None:
    rights = BrokerRights(headends=("hes-1",), denied=("f/g", "hes-1"))
    acl = mosquitto_acl(rights)
    assert acl.index("user f/g\ntopic deny #") < acl.index("topic read")
    assert emqx_acl(rights).index('{deny, {username, "f/g"}}') < emqx_acl(rights).index("{allow")


def test_both_brokers_have_the_same_topics() -> None:
    """One model: every filter of mosquitto's file is in EMQX's, and no other."""
    rights = BrokerRights(
        ("hes-1",), ("observer",), (Market("m", "f1"),), (BridgeName("b", "f1", "g1"),)
    )
    ours = {
        line.split()[-1].replace("%u", "${username}")
        for line in mosquitto_acl(rights).splitlines()
        if line.startswith(("topic", "pattern"))
    }
    theirs = {text for text in emqx_acl(rights).split('"') if text.startswith("openami/")}
    assert ours == theirs
    assert emqx_acl(rights).endswith("{deny, all}.\n")
    for text in (emqx_acl(rights), emqx_conf()):
        assert "NOT RUN" in text


def test_paths_and_ports_are_checked() -> None:
    assert "cafile /srv/x/ca.pem" in mosquitto_conf(certs="/srv/x/")
    for certs in ("/srv/a b", "/srv/\nallow_anonymous true", "", '"'):
        with pytest.raises(RightsError):
            mosquitto_conf(certs=certs)
    for port in (0, 65536):
        with pytest.raises(RightsError):
            mosquitto_conf(port=port)


def test_the_command_says_what_is_wrong() -> None:
    result = CliRunner().invoke(main, ["broker-config", "mosquitto", "--hes", "+"])
    assert result.exit_code == 2
    assert "wildcard" in result.stderr
    result = CliRunner().invoke(main, ["broker-config", "mosquitto", "--market", "m"])
    assert result.exit_code == 2
    assert "NAME:FEEDER" in result.stderr
