"""Fixtures with real parts: brokers, certificates, a database server. No mocks."""

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import structlog
from hypothesis import settings
from tests.mosquitto import Mosquitto
from tests.pki import Pki
from tests.postgres import Postgres, running_postgres
from tests.tools import require_tool

from openami.clock import SystemClock

# The same examples every time, so that a failure is everybody's; `HYPOTHESIS_PROFILE=explore` looks further.
settings.register_profile(
    "check", derandomize=True, deadline=None, print_blob=True, max_examples=30
)
settings.register_profile("explore", deadline=None, print_blob=True, max_examples=20_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "check"))


@pytest.fixture(autouse=True)
def log_settings_end_with_their_test() -> Iterator[None]:
    """Whoever runs a command in our process sets up logs, and would decide what the next test hears."""
    yield
    structlog.reset_defaults()


StartMosquitto = Callable[..., Mosquitto]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: a test of minutes that is taken up last is waited for with idle cores."""
    items.sort(key=_hurry)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Look for garbage once, when everything is collected, and set the rest aside.

    While ten thousand tests are collected little is garbage, and looking again and again is a third of the work;
    later a look through all of them takes a second, in which no meter is heard.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def _hurry(item: pytest.Item) -> tuple[float, bool]:
    timeout = item.get_closest_marker("timeout")
    return -float(timeout.args[0]) if timeout else 0.0, item.get_closest_marker("slow") is None


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[StartMosquitto]:
    """Start brokers: ``mosquitto("max_queued_messages 10", …)`` returns one that is running."""
    require_tool("mosquitto")
    started: list[Mosquitto] = []

    def start(*lines: str, within: Sequence[str] = ()) -> Mosquitto:
        directory = tmp_path / f"mosquitto-{len(started)}"
        directory.mkdir()
        broker = Mosquitto(directory, lines, within=within)
        started.append(broker)
        broker.start()
        return broker

    yield start
    for broker in started:
        broker.kill()


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """Certificates: see `Pki`."""
    return Pki(tmp_path_factory.mktemp("pki"), SystemClock().now())


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running cluster, one for each test process; leave it running."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """The URL of a fresh database, gone after the test."""
    url = postgres.new_database()
    yield url
    postgres.drop_database(url)
