"""Who takes part, with what work, how each is started, and how what it stored is counted."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from benchmarks.peers import install, node_red_flow
from benchmarks.processes import free_port
from openami.headend.uplink import FILTERS

REGISTERS = 3
_TOPIC = FILTERS[0]
_ROUTE = Path(__file__).with_name("mq_bridge_route.py")


class Kept(Enum):
    """What a contestant leaves behind."""

    NOTHING = "nothing; it ends by itself when it has seen all"
    RAW = "the envelope as it came"
    FIELDS = "five members of the envelope's header"
    READINGS = "judged, deduplicated readings, and all that a head-end keeps beside them"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a contestant finds broker and store, and a folder of its own."""

    port: int
    url: str
    folder: Path
    messages: int


Command = Callable[[Place], Sequence[str | Path]]


@dataclass(frozen=True, slots=True)
class Contestant:
    """A program that takes messages from a broker. ``needs`` is the file without which it is not installed."""

    name: str
    words: str
    engine: str
    kept: Kept
    command: Command
    needs: Path = Path(sys.executable)

    @property
    def is_ours(self) -> bool:
        return self.needs == Path(sys.executable)

    @property
    def is_installed(self) -> bool:
        return self.needs.exists()


def _headend(place: Place) -> Sequence[str | Path]:
    broker = f"mqtt://127.0.0.1:{place.port}"
    command = (sys.executable, "-m", "openami", "headend", "run")
    return (*command, "--broker", broker, "--store", place.url)


def _raw(place: Place) -> Sequence[str | Path]:
    return (sys.executable, "-m", "benchmarks.peers.raw_headend", str(place.port), place.url)


def _mqtt_alone(place: Place) -> Sequence[str | Path]:
    return (*_raw(place)[:-1], "none", str(place.messages))


def _c_subscriber(place: Place) -> Sequence[str | Path]:
    return (install.C_SUBSCRIBER, str(place.port), _TOPIC, str(place.messages))


def _mq_bridge(way: str, concurrency: int) -> Command:
    def command(place: Place) -> Sequence[str | Path]:
        words = (str(place.port), _TOPIC, place.url, way, str(concurrency))
        return (install.MQ_BRIDGE_PYTHON, _ROUTE, *words)

    return command


def _node_red(place: Place) -> Sequence[str | Path]:
    modules = install.NODE_RED_PROGRAM.parents[1]
    words = node_red_flow.write(
        place.folder, modules, port=place.port, ui=free_port(), topic=_TOPIC, url=place.url
    )
    return ("node", install.NODE_RED_PROGRAM, *words)


CONTESTANTS: Sequence[Contestant] = (
    Contestant(
        "c_subscriber", "a C subscriber (libmosquitto): acknowledges, counts, keeps nothing", "",
        Kept.NOTHING, _c_subscriber, install.C_SUBSCRIBER,
    ),
    Contestant(
        "mqtt_alone", "our MQTT client alone: acknowledges in batches, keeps nothing", "",
        Kept.NOTHING, _mqtt_alone,
    ),
    Contestant("headend_sqlite", "our head-end, SQLite", "sqlite", Kept.READINGS, _headend),
    Contestant("headend_postgres", "our head-end, PostgreSQL", "postgres", Kept.READINGS, _headend),
    Contestant("raw_sqlite", "our parts, raw envelope, SQLite", "sqlite", Kept.RAW, _raw),
    Contestant("raw_postgres", "our parts, raw envelope, PostgreSQL", "postgres", Kept.RAW, _raw),
    Contestant(
        "mq_bridge_raw_1", "mq-bridge, raw envelope, PostgreSQL, one at a time", "postgres",
        Kept.RAW, _mq_bridge("raw", 1), install.MQ_BRIDGE_PYTHON,
    ),
    Contestant(
        "mq_bridge_raw_4", "mq-bridge, raw envelope, PostgreSQL, four at a time", "postgres",
        Kept.RAW, _mq_bridge("raw", 4), install.MQ_BRIDGE_PYTHON,
    ),
    Contestant(
        "mq_bridge_fields_4", "mq-bridge, five members by COPY, PostgreSQL, four at a time",
        "postgres", Kept.FIELDS, _mq_bridge("fields", 4), install.MQ_BRIDGE_PYTHON,
    ),
    Contestant(
        "node_red", "Node-RED, raw envelope, PostgreSQL, an INSERT each", "postgres",
        Kept.RAW, _node_red, install.NODE_RED_PROGRAM,
    ),
)  # fmt: skip
