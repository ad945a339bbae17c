"""The scene: what acts have to know, learned from what was seen, however wrong the rest of a message is."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.conformance.observation import (
    Acknowledged,
    Connected,
    Disconnected,
    Published,
    RelaySeen,
    Subscribed,
)
from openami.conformance.scene import METERS_MAX, UNACKNOWLEDGED_MAX, Accepted, Scene
from openami.profile import MeterSerial

NOW = datetime(2026, 6, 22, 8, 0, tzinfo=UTC)
M1 = MeterSerial("M-1")


def reading(
    position: object = None,
    *,
    after_s: float = 0,
    serial: str = "M-1",
    quality: str = "good",
    code: str = "96.11.1",
    leaf: str = "telemetry",
    packet_id: int | None = None,
) -> Published:
    at = NOW + timedelta(seconds=after_s)
    registers = []
    if position is not None:
        registers = [{"obis": code, "value": position, "unit": "enum", "quality": quality}]
    members = {"ts": at.strftime("%Y-%m-%dT%H:%M:%SZ"), "registers": registers}
    topic = f"openami/v1/f/g/meter/{serial}/{leaf}"
    connection = None if packet_id is None else 1
    payload = json.dumps(members).encode()
    return Published(at, topic, payload, 1, False, connection=connection, packet_id=packet_id)


@pytest.mark.parametrize("code", ["96.11.1", "0-0:96.11.1", "0-0:96.11.1*255"])
def test_a_relay_is_where_its_last_good_reading_says(code: str) -> None:
    scene = Scene()
    scene.see(reading("connected", code=code))
    scene.see(reading("disconnected", after_s=5, quality="comms_lost", code=code))
    meter = scene.meters[M1]
    assert (meter.relay, meter.relay_measured_at) == ("connected", NOW)
    assert meter.lost_at == NOW + timedelta(seconds=5)
    scene.see(RelaySeen(NOW + timedelta(seconds=9), "M-1", False))
    assert (meter.relay, meter.relay_measured_at) == ("disconnected", NOW + timedelta(seconds=9))


def test_a_report_tells_where_a_relay_is_and_is_no_look_at_it() -> None:
    scene = Scene()
    scene.see(reading("connected"))
    scene.see(reading("disconnected", after_s=5, leaf="event"))
    meter = scene.meters[M1]
    assert (meter.relay, meter.relay_measured_at) == ("disconnected", NOW)


def test_an_interval_is_that_of_the_measurements_however_they_come() -> None:
    scene = Scene()
    for after_s in (0, 10):
        scene.see(reading(after_s=after_s))
    assert scene.meters[M1].interval_s is None, "one spacing may be a late one"
    for after_s in (20, 50, 60):
        burst = reading(after_s=after_s)
        scene.see(Published(NOW, burst.topic, burst.payload, 1, False))
    scene.see(reading(after_s=70, quality="comms_lost", position="connected"))
    assert scene.meters[M1].interval_s == 10


def test_a_report_tells_of_the_relay_and_of_its_command() -> None:
    scene = Scene()
    scene.see(reading())
    told = reading("disconnected", leaf="event")
    members = json.loads(told.payload) | {
        "report": {"command": "D", "status": "done", "code": "OK"}
    }
    scene.see(Published(told.at, told.topic, json.dumps(members).encode(), 1, False))
    assert scene.meters[M1].relay == "disconnected"
    assert scene.reports == {"D": ("done", "OK")}


def test_a_report_brings_the_nonce_in_force_of_a_session_that_was_accepted() -> None:
    scene = Scene()
    scene.accepted["kit-1"] = Accepted("old", NOW)
    for session_id in ("kit-1", "kit-2"):
        body = {
            "sessionId": session_id,
            "report": {"command": "D", "status": "refused", "nonce": "new"},
        }
        topic = "openami/v1/f/g/meter/M-1/event"
        scene.see(Published(NOW, topic, json.dumps(body).encode(), 1, False))
    assert {name: held.nonce for name, held in scene.accepted.items()} == {"kit-1": "new"}


def test_a_message_whose_acknowledgement_was_kept_back_is_known_when_it_comes_again() -> None:
    scene = Scene()
    first = reading(packet_id=7)
    scene.see(first)
    scene.see(Acknowledged(NOW, 1, 7, withheld=True))
    scene.see(reading(after_s=1, packet_id=8))
    assert (scene.withheld, scene.resent) == (1, 0)
    scene.see(Published(NOW, first.topic, first.payload, 1, False, connection=2, packet_id=1))
    assert scene.resent == 1


@pytest.mark.parametrize(
    ("topic_filter", "commands", "sessions"),
    [
        ("#", True, True),
        ("openami/v1/f/g/#", True, True),
        ("openami/v1/+/+/meter/+/command", True, False),
        ("openami/v1/f/g/meter/M-9/command", True, False),
        ("openami/v1/f/g/session/+", False, True),
        ("openami/v1/f/g/meter/+/telemetry", False, False),
        ("somebody/elses/command", False, False),
    ],
)
def test_who_listens_is_known_by_its_filters_while_it_is_there(
    topic_filter: str, commands: bool, sessions: bool
) -> None:
    scene = Scene()
    scene.see(Connected(NOW, 1, "pole", "5", False, 60, None, None, None))
    scene.see(Subscribed(NOW, 1, ((topic_filter, 1),)))
    assert (scene.hears_commands, scene.hears_sessions) == (commands, sessions)
    scene.see(Disconnected(NOW, 1, orderly=True, by_kit=False))
    assert (scene.hears_commands, scene.hears_sessions) == (False, False)
    assert scene.connections == {}


def test_what_it_remembers_is_bounded() -> None:
    scene = Scene()
    for number in range(METERS_MAX + 10):
        scene.see(reading(serial=f"M-{number}"))
    assert len(scene.meters) == METERS_MAX
    for number in range(UNACKNOWLEDGED_MAX + 10):
        scene.see(reading(after_s=number, packet_id=number + 1))
        scene.see(Acknowledged(NOW, 1, number + 1, withheld=True))
    assert len(scene._owed) == UNACKNOWLEDGED_MAX


@given(st.binary(max_size=80), st.sampled_from(["telemetry", "event", "command"]))
def test_no_payload_ends_it(payload: bytes, leaf: str) -> None:
    scene = Scene()
    scene.see(reading())
    for body in (payload, payload + b'"96.11.1"', b'{"registers":[96.11.1,{"obis":"96.11.1"}]}'):
        scene.see(Published(NOW, f"openami/v1/f/g/meter/M-1/{leaf}", body, 1, False))
        scene.see(Published(NOW, "openami/v1/f/g/session/s", body, 1, False))
    assert scene.meters[M1].relay is None
