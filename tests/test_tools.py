"""The fixtures themselves: a broker that keeps its promises to the tests, a database that is fresh."""

import socket
import subprocess

import pytest
from tests.conftest import StartMosquitto
from tests.mosquitto import Mosquitto
from tests.postgres import Postgres
from tests.tools import require_tool


def _publish(broker: Mosquitto) -> int:
    program = require_tool("mosquitto_pub")
    arguments = ["-h", "127.0.0.1", "-p", str(broker.port), "-t", "a", "-m", "b", "-q", "1"]
    return subprocess.run([program, *arguments], timeout=10, check=False).returncode


@pytest.mark.broker
def test_a_broker_starts_stops_and_starts_again_on_its_port(mosquitto: StartMosquitto) -> None:
    broker = mosquitto()
    assert _publish(broker) == 0
    broker.stop()
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", broker.port)) != 0
    broker.start()
    assert _publish(broker) == 0


@pytest.mark.broker
def test_a_broker_with_a_bad_line_says_so(mosquitto: StartMosquitto) -> None:
    with pytest.raises(RuntimeError, match="Unknown configuration variable"):
        mosquitto("no_such_setting 1")


@pytest.mark.postgres
def test_each_database_is_fresh(postgres: Postgres, postgres_url: str) -> None:
    other = postgres.new_database()
    assert other != postgres_url
    assert postgres.sql("SELECT 1") == "1"
    postgres.drop_database(other)


def test_a_missing_tool_skips_on_a_laptop_and_fails_where_it_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAMI_REQUIRE_TOOLS", raising=False)
    with pytest.raises(pytest.skip.Exception):
        require_tool("no-such-program")
    monkeypatch.setenv("OPENAMI_REQUIRE_TOOLS", "1")
    with pytest.raises(pytest.fail.Exception):
        require_tool("no-such-program")


@pytest.mark.xdist_group("told")
def test_tests_of_one_group_stay_together(request: pytest.FixtureRequest) -> None:
    """Not every pytest lets xdist tell them; a browser and a demo in each process are a minute of both cores."""
    if not getattr(request.config.option, "loadgroup", False):
        pytest.skip("only `make check` asks for groups")
    assert request.node.nodeid.endswith("@told"), "pytest and pytest-xdist do not fit together"
