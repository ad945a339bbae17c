"""Where the broker is: what is accepted, and what is refused one step beyond."""

import msgspec
import pytest

from openami.mqtt.settings import BrokerSettings, Endpoint, parse_url


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("mqtt://127.0.0.1", Endpoint(False, "127.0.0.1", 1883, None)),
        ("mqtts://broker.example", Endpoint(True, "broker.example", 8883, None)),
        ("mqtts://broker.example:1/", Endpoint(True, "broker.example", 1, None)),
        ("mqtt://[::1]:65535", Endpoint(False, "::1", 65535, None)),
        ("MQTT://Broker.Example", Endpoint(False, "broker.example", 1883, None)),
        ("mqtt://gw%2F1@host", Endpoint(False, "host", 1883, "gw/1")),
    ],
)
def test_a_url_names_an_endpoint(url: str, endpoint: Endpoint) -> None:
    assert parse_url(url) == endpoint
    assert parse_url(str(endpoint)) == Endpoint(endpoint.tls, endpoint.host, endpoint.port, None)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "must begin with mqtt://"),
        ("broker.example", "must begin with mqtt://"),
        ("http://broker.example", "must begin with mqtt://"),
        ("mqtt:broker.example", "names no host"),
        ("mqtts://", "names no host"),
        ("mqtt://host:0", "port 0"),
        ("mqtt://host:65536", "cannot be read"),
        ("mqtt://host:x", "cannot be read"),
        ("mqtt://[::1", "cannot be read"),
        ("mqtt://host/topic", "after the port"),
        ("mqtt://host?clean=1", "after the port"),
        ("mqtt://user:pass@host", "password_file"),
    ],
)
def test_another_url_is_refused(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as raised:
        BrokerSettings(url=url)
    assert "pass@" not in str(raised.value)


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ({"keepalive_s": 4}, "keepalive_s is 4, it must be between 5 and 1200"),
        ({"keepalive_s": 5}, None),
        ({"keepalive_s": 1200}, None),
        ({"keepalive_s": 1201}, "keepalive_s"),
        ({"connect_timeout_s": 0.0}, "connect_timeout_s"),
        ({"connect_timeout_s": 301.0}, "connect_timeout_s"),
        ({"session_expiry_days": -1}, "session_expiry_days"),
        ({"session_expiry_days": 365}, None),
        ({"session_expiry_days": 366}, "session_expiry_days"),
        ({"protocol": "3.1.1"}, None),
        ({"protocol": "3.1"}, "Invalid enum value '3.1'"),
        ({"client_id": "feeder-1/gateway-1"}, None),
        ({"client_id": "a+b"}, "refuse"),
        ({"client_id": "a\nb"}, "refuse"),
        ({"client_id": "x" * 257}, "257 characters"),
        ({"ca_file": "ca.pem"}, "ca_file is for mqtts://"),
        ({"url": "mqtts://host", "ca_file": "ca.pem"}, None),
        ({"url": "mqtts://host", "key_file": "k.pem"}, "key_file without cert_file"),
        ({"url": "mqtts://host", "cert_file": "both.pem"}, None),
        ({"password_file": "p"}, "password_file without username"),
        ({"username": "u", "password_file": "p"}, None),
        ({"url": "mqtt://u@host", "password_file": "p"}, None),
        ({"url": "mqtt://u@host", "username": "v"}, "write it in one place"),
        ({"ca_flie": "ca.pem"}, "unknown field `ca_flie`"),
    ],
)
def test_the_table_of_a_configuration(toml: dict[str, object], said: str | None) -> None:
    if said is None:
        assert isinstance(msgspec.convert(toml, BrokerSettings), BrokerSettings)
    else:
        with pytest.raises(msgspec.ValidationError, match=said):
            msgspec.convert(toml, BrokerSettings)


def test_a_command_line_says_the_same() -> None:
    assert BrokerSettings.from_url("mqtts://host", ca_file="ca.pem") == BrokerSettings(
        url="mqtts://host", ca_file="ca.pem"
    )
    with pytest.raises(ValueError, match="ca_file is for mqtts://"):
        BrokerSettings.from_url("mqtt://host", ca_file="ca.pem")


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("mqtt://127.0.0.1", False),
        ("mqtt://127.8.8.8", False),
        ("mqtt://[::1]", False),
        ("mqtt://localhost", False),
        ("mqtts://broker.example", False),
        ("mqtt://broker.example", True),
        ("mqtt://192.168.1.10", True),
        ("mqtt://localhost.example", True),
    ],
)
def test_plain_mqtt_over_a_network_is_warned_of(url: str, warned: bool) -> None:
    cautions = BrokerSettings(url=url).cautions()
    assert bool(cautions) is warned
    assert all("not encrypted" in caution and "mqtts://" in caution for caution in cautions)


def test_the_expiry_in_seconds() -> None:
    assert BrokerSettings().session_expiry_s == 14 * 86_400
    assert BrokerSettings(session_expiry_days=0).session_expiry_s == 0


NODES = ("mqtts://a.example", "mqtts://b.example:8884")


def test_several_addresses_are_one_broker() -> None:
    settings = BrokerSettings(urls=NODES, ca_file="ca.pem", client_id="hes-1")
    assert settings.addresses == NODES
    assert settings.place == "mqtts://a.example:8883, mqtts://b.example:8884"
    assert settings.at(NODES[1]) == BrokerSettings(
        url=NODES[1], ca_file="ca.pem", client_id="hes-1"
    )
    assert BrokerSettings(url=NODES[0]).addresses == NODES[:1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"urls": NODES, "url": "mqtts://c.example"}, "url and urls are both given"),
        ({"urls": ("mqtts://a.example", "mqtts://a.example:8883")}, "one address twice"),
        ({"urls": ("mqtts://a.example", "mqtt://b.example")}, "mixes"),
        ({"urls": ("mqtts://a.example", "b.example")}, "must begin with mqtt://"),
        ({"urls": ("mqtt://a.example",), "ca_file": "ca.pem"}, "ca_file is for mqtts://"),
        ({"urls": NODES, "keepalive_s": 1}, "keepalive_s is 1"),
        ({"urls": tuple(f"mqtts://n{number}" for number in range(9))}, "at most 8"),
    ],
)
def test_addresses_that_are_no_cluster_are_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        msgspec.convert(given, BrokerSettings)


def test_every_address_that_is_not_encrypted_is_cautioned_about() -> None:
    urls = ("mqtt://127.0.0.1", "mqtt://a.example", "mqtt://b.example")
    cautions = BrokerSettings(urls=urls).cautions()
    assert [caution.split(" is ")[0] for caution in cautions] == [f"{u}:1883" for u in urls[1:]]
