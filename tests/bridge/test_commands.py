"""Commands for bridged meters: told, bounded, and only those that are for a meter of the map."""

from datetime import timedelta

import pytest
from tests.bridge.bridged import MAP
from tests.bridge.firmware_samples import START

from openami.bridge.commands import TOLD_AGAIN_AFTER, RefusedCommands
from openami.profile import EventState, MeterSerial

OURS = MeterSerial("DDS-1000")


def refused() -> RefusedCommands:
    return RefusedCommands({OURS: MAP.source(OURS)})


def test_a_command_is_told_as_an_event_of_its_meter() -> None:
    told = refused().take("openami/v1/feeder-a/pole-7/meter/DDS-1000/command", START)
    assert told is not None
    assert str(told.topic) == "openami/v1/feeder-a/pole-7/meter/DDS-1000/event"
    event = told.envelope.event
    assert event is not None
    assert (event.type, event.state) == ("commands_refused", EventState.INSTANT)


@pytest.mark.parametrize(
    "topic",
    [
        "openami/v1/feeder-a/pole-8/meter/DDS-1000/command",
        "openami/v1/feeder-b/pole-7/meter/DDS-1000/command",
        "openami/v1/feeder-a/pole-7/meter/DDS-1001/command",
        "openami/v1/feeder-a/pole-7/meter/DDS-1000/telemetry",
        "openami/v1/feeder-a/pole-7/session/sip-1",
        "openami/StreetPoleEMS_37EAB0/cmd",
        "",
    ],
)
def test_what_is_for_somebody_else_is_not_told(topic: str) -> None:
    assert refused().take(topic, START) is None


@pytest.mark.parametrize(
    ("after", "is_told"), [(TOLD_AGAIN_AFTER, True), (timedelta(minutes=59), False)]
)
def test_a_meters_commands_are_told_once_an_hour(after: timedelta, is_told: bool) -> None:
    commands = refused()
    topic = "openami/v1/feeder-a/pole-7/meter/DDS-1000/command"
    assert commands.take(topic, START) is not None
    assert (commands.take(topic, START + after) is not None) == is_told


def test_only_the_maps_gateways_are_listened_to() -> None:
    assert refused().filters() == ["openami/v1/feeder-a/pole-7/meter/+/command"]
