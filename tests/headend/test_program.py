"""The head-end as a process, with a real broker and somebody else's publisher."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.headend.messages import EVENT, EVENT_TOPIC, EXAMPLE, ROOT, TOPIC, payload, register
from tests.headend.program import Program, head_end, openami, openami_json, publish, wait_for
from tests.mosquitto import Mosquitto
from tests.pki import Pki
from tests.postgres import running_postgres
from tests.tools import free_port

from openami.profile import MESSAGE_BYTES_MAX, Code

pytestmark = [pytest.mark.broker, pytest.mark.slow]
StartMosquitto = Callable[..., Mosquitto]
METER = EXAMPLE["meterSerial"]


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/headend.db"


def tally(store: str, column: str) -> int:
    """Ask the database itself, with somebody else's reader."""
    with closing(sqlite3.connect(store.removeprefix("sqlite:///"))) as database:
        (value,) = database.execute(f"SELECT {column} FROM tally").fetchone()
        return int(value)


def test_the_profiles_example_is_printed_back_and_sent_twice_is_stored_once(
    mosquitto: StartMosquitto, store: str, tmp_path: Path
) -> None:
    broker = mosquitto()
    with head_end(tmp_path / "log", "--broker", broker.url, "--store", store) as program:
        program.wait_until_ready()
        publish(broker.port, TOPIC, payload())
        wait_for(lambda: tally(store, "stored") == 3)
        publish(broker.port, TOPIC, payload())
        wait_for(lambda: tally(store, "duplicates") == 3)

        readings = openami_json("meter", "readings", METER, "--store", store)
        assert program.stop() == 0

    received = {reading.pop("receivedAt") for reading in readings}
    assert len(received) == 1
    assert received.pop().endswith("Z")
    identity = {"feederId": EXAMPLE["feederId"], "meterSerial": METER, "ts": EXAMPLE["ts"]}
    expected = [{**identity, **item} for item in EXAMPLE["registers"]]
    assert sorted(readings, key=str) == sorted(expected, key=str)
    assert tally(store, "stored") == 3


BAD = [
    ("malformed JSON", TOPIC, payload()[:-2], Code.BAD_JSON),
    ("a number for a time", TOPIC, payload(ts=1782138600), Code.WRONG_TYPE),
    (
        "a string for a number",
        TOPIC,
        payload(registers=[register(value="1")]),
        Code.WRONG_VALUE_TYPE,
    ),
    ("a missing member", TOPIC, payload(gatewayId=None), Code.MISSING_MEMBER),
    ("a time without zone", TOPIC, payload(ts="2026-06-22T14:30:00"), Code.BAD_TIME),
    ("a time to come", TOPIC, payload(ts="2199-06-22T14:30:00Z"), Code.TIME_IN_FUTURE),
    ("a time long gone", TOPIC, payload(ts="1970-01-01T00:00:00Z"), Code.TIME_TOO_OLD),
    ("another meter's topic", TOPIC, payload(meterSerial="M-2"), Code.TOPIC_MISMATCH),
    ("an id no topic can hold", f"{ROOT}/meter/a b/telemetry", payload(), Code.BAD_ID),
    ("oversize", TOPIC, payload() + b" " * MESSAGE_BYTES_MAX, Code.TOO_LARGE),
    ("depth 100,000 within bounds", TOPIC, b"[" * 60_000, Code.TOO_DEEP),
    ("depth 100,000", TOPIC, b"[" * 100_000, Code.TOO_LARGE),
    ("invalid UTF-8", TOPIC, payload().replace(b"good", b"g\xffod"), Code.BAD_UTF8),
    ("an unknown version", TOPIC, payload(schemaVersion="2.0"), Code.UNKNOWN_VERSION),
    ("another unit", TOPIC, payload(registers=[register(unit="h")]), Code.WRONG_UNIT),
    ("no register", TOPIC, payload(registers=[]), Code.EMPTY_REGISTERS),
    ("nothing", TOPIC, b"", Code.BAD_JSON),
]


def test_every_kind_of_bad_input_is_rejected_kept_and_counted_and_the_stream_goes_on(
    mosquitto: StartMosquitto, store: str, tmp_path: Path
) -> None:
    broker = mosquitto()
    # Retained before the head-end has ever been there, so that the broker hands it over as such.
    publish(broker.port, f"{ROOT}/meter/OLD-1/telemetry", payload(meterSerial="OLD-1"), "-r")
    with head_end(tmp_path / "log", "--broker", broker.url, "--store", store) as program:
        program.wait_until_ready()
        for _, topic, body, _ in BAD:
            publish(broker.port, topic, body)
        # Foreign topics and commands are not even subscribed to: nobody stores what is not a reading.
        publish(broker.port, f"{ROOT}/meter/{METER}/command", payload())
        publish(broker.port, "sensors/kitchen", b"21.5")
        publish(broker.port, TOPIC, payload())
        wait_for(lambda: tally(store, "stored") == 3)
        wait_for(lambda: tally(store, "rejected_messages") == len(BAD) + 1)

        rows = openami_json("reject", "list", "--store", store)
        by_payload = {
            openami_json("reject", "show", str(row["id"]), "--store", store)[0].get("payload"): row
            for row in rows[:3]
        }
        assert openami("reject", "list", "--store", store).count("\n") == len(rows) + 1
        assert program.stop() == 0
    expected = sorted([*(str(code) for *_, code in BAD), "RETAINED"])
    assert sorted(row["code"] for row in rows) == expected
    assert all(row["status"] == "open" and row["count"] == 1 for row in rows)
    assert len(by_payload) == 3
    assert openami_json("meter", "list", "--store", store)[0]["meterSerial"] == METER


def test_killed_with_9_and_started_again_nothing_is_lost(
    mosquitto: StartMosquitto, store: str, tmp_path: Path
) -> None:
    broker = mosquitto()
    arguments = ("--broker", broker.url, "--store", store)
    with head_end(tmp_path / "log", *arguments) as program:
        program.wait_until_ready()
        publish(broker.port, TOPIC, payload())
        wait_for(lambda: tally(store, "stored") == 3)
        program.kill()
    publish(broker.port, TOPIC, payload(ts="2026-06-22T14:45:00Z"))
    with head_end(tmp_path / "log2", *arguments) as program:
        wait_for(lambda: tally(store, "stored") == 6)


def test_the_broker_restarts_and_the_head_end_is_back_by_itself(
    mosquitto: StartMosquitto, store: str, tmp_path: Path
) -> None:
    broker = mosquitto()
    with head_end(tmp_path / "log", "--broker", broker.url, "--store", store) as program:
        program.wait_until_ready()
        broker.restart()
        wait_for(lambda: program.log().count("connected to the broker") == 2)
        publish(broker.port, TOPIC, payload())
        wait_for(lambda: tally(store, "stored") == 3)
        assert program.log().count("no connection to the broker") == 1


def test_a_broker_that_is_not_there_yet_is_waited_for(
    mosquitto: StartMosquitto, store: str, tmp_path: Path
) -> None:
    broker = mosquitto()
    broker.stop()
    with head_end(tmp_path / "log", "--broker", broker.url, "--store", store) as program:
        wait_for(lambda: "no connection to the broker" in program.log())
        broker.start()
        program.wait_until_ready()


def test_of_a_cluster_a_node_that_does_not_answer_is_passed_over(
    mosquitto: StartMosquitto, store: str, tmp_path: Path
) -> None:
    """Neither the trial of the broker at the start nor the uplink holds on to its address."""
    broker = mosquitto()
    config = tmp_path / "headend.toml"
    urls = [f"mqtt://127.0.0.1:{free_port()}", broker.url]
    config.write_text(f'store = "{store}"\n[mqtt]\nurls = {json.dumps(urls)}\n')
    with head_end(tmp_path / "log", "-c", config) as program:
        program.wait_until_ready()
        publish(broker.port, TOPIC, payload())
        wait_for(lambda: tally(store, "stored") == 3)


def test_a_broker_with_the_wrong_certificate_ends_it_with_one_sentence(
    mosquitto: StartMosquitto, pki: Pki, store: str, tmp_path: Path
) -> None:
    server = pki.server()
    broker = mosquitto(
        "listener {port} 127.0.0.1", f"certfile {server.cert_file}", f"keyfile {server.key_file}"
    )
    wrong = ("--broker", broker.tls_url, "--ca-file", pki.foreign_ca_file, "--store", store)
    with head_end(tmp_path / "log", *wrong) as program:
        assert program.ended() == 3
    assert "signed by another authority" in program.log()
    assert "check ca_file" in program.log()
    right = ("--broker", broker.tls_url, "--ca-file", pki.ca_file, "--store", store)
    with head_end(tmp_path / "log2", *right) as program:
        program.wait_until_ready()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--store", "sqlite:////proc/none/headend.db"), 2, "/proc/none"),
        (("--store", "oracle://x"), 2, "no kind of store"),
        (("--broker", "http://x"), 2, "must begin with mqtt://"),
        (("--registers", "/none.json"), 2, "/none.json: No such file"),
        (("-c", "/none.toml"), 2, "/none.toml: No such file"),
        (("--nonsense",), 2, "No such option"),
    ],
)
def test_what_a_person_has_to_mend_is_said_in_one_line(
    arguments: tuple[str, ...], code: int, says: str, tmp_path: Path
) -> None:
    program = Program(tmp_path / "log", *arguments)
    assert program.ended() == code
    assert says in program.log()
    assert "Traceback" not in program.log()


def test_what_of_the_broker_would_lose_data_is_said_and_the_head_end_runs_all_the_same(
    mosquitto: StartMosquitto, store: str, tmp_path: Path
) -> None:
    default, sound = mosquitto(), mosquitto("max_queued_messages 1000000", "set_tcp_nodelay true")
    config = ("--broker-config", default.config)
    with head_end(tmp_path / "log", "--broker", default.url, "--store", store, *config) as program:
        program.wait_until_ready()
    assert "max_queued_messages is 1000" in program.log(), "read in its configuration"
    assert program.log().count("QUEUE_LIMIT") == 1, "said once, not once for each way to know"
    with head_end(tmp_path / "log1", "--broker", default.url, "--store", store) as program:
        program.wait_until_ready()
    assert "for a client that was busy and kept" in program.log(), "found out by trying"
    with head_end(tmp_path / "log2", "--broker", sound.url, "--store", store) as program:
        program.wait_until_ready()
    assert "loses" not in program.log()


def test_a_file_says_it_and_a_flag_overrules_it(
    mosquitto: StartMosquitto, store: str, tmp_path: Path
) -> None:
    broker = mosquitto()
    config = tmp_path / "headend.toml"
    config.write_text(f'store = "{store}"\n[mqtt]\nurl = "mqtt://127.0.0.1:{free_port()}"\n')
    with head_end(tmp_path / "log", "-c", config, "--broker", broker.url) as program:
        program.wait_until_ready()
    assert Path(store.removeprefix("sqlite:///")).exists()


@pytest.mark.postgres
def test_a_database_server_that_is_down_keeps_everything_with_the_broker(
    mosquitto: StartMosquitto, tmp_path: Path
) -> None:
    broker = mosquitto()
    with running_postgres() as server:
        store = server.new_database()
        with head_end(tmp_path / "log", "--broker", broker.url, "--store", store) as program:
            program.wait_until_ready()
            publish(broker.port, TOPIC, payload())
            wait_for(lambda: len(openami_json("meter", "list", "--store", store)) == 1)
            server.stop()
            publish(broker.port, TOPIC, payload(ts="2026-06-22T14:45:00Z"))
            wait_for(lambda: "the store failed; nothing is acknowledged" in program.log())
            publish(broker.port, TOPIC, payload(ts="2026-06-22T15:00:00Z"))
            server.start()
            wait_for(lambda: "the store answers again" in program.log())
            # The one in between was refused by nobody: it was never acknowledged, so it came again.
            reading = ("meter", "readings", METER, "--obis", "1.8.0", "--store", store)
            wait_for(lambda: len(openami_json(*reading)) == 3)
            assert program.stop() == 0
        assert program.log().count("the store failed") == 1


@pytest.mark.postgres
def test_a_text_the_database_cannot_hold_does_not_stop_the_stream(
    mosquitto: StartMosquitto, postgres_url: str, tmp_path: Path
) -> None:
    """PostgreSQL refuses U+0000 in any text; wherever a message hides it, the others are stored."""
    broker = mosquitto()
    hidden = [
        payload(event={**EVENT, "eventId": "e\0"}),
        payload(event={**EVENT, "detail": "\0"}),
        payload(event={**EVENT, "type": "a\0b"}),
        payload(schemaVersion="0.2", remark="\0"),
        payload(registers=[register(unit="\0")]),
        payload(registers=[register(obis="1\0")]),
        payload(feederId="\0"),
    ]
    with head_end(tmp_path / "log", "--broker", broker.url, "--store", postgres_url) as program:
        program.wait_until_ready()
        for body in hidden:
            publish(broker.port, EVENT_TOPIC, body)
        publish(broker.port, EVENT_TOPIC.replace(METER, "M-2"), payload(meterSerial="M-2"))
        reading = ("meter", "readings", "M-2", "--store", postgres_url)
        wait_for(lambda: "M-2" in openami("meter", "list", "--store", postgres_url))
        assert len(openami_json(*reading)) == 3
        assert program.stop() == 0
