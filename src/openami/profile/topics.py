"""Topics: one class per kind; parse and print are inverses.

    openami/v1/{feederId}/{gatewayId}/meter/{meterSerial}/telemetry
    openami/v1/{feederId}/{gatewayId}/meter/{meterSerial}/event
    openami/v1/{feederId}/{gatewayId}/meter/{meterSerial}/command
    openami/v1/{feederId}/{gatewayId}/session/{sessionId}

A topic with an id that is none cannot be made: not parsed, and not built to publish to. Subscription
filters are made here too, so that the layout of a topic stands in one place.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from openami.profile.errors import Code, ProfileError
from openami.profile.identifiers import (
    FeederId,
    GatewayId,
    MeterSerial,
    SessionId,
    check_gateway_name,
    check_id,
)

_ROOT = "openami/v1"
_LEVELS_OF_METER_TOPIC = 7
_ANY = "+"

# A feeder of 500 meters uses about a thousand topics; see identifiers for why the bound holds.
_CACHED_TOPICS_MAX = 16_384


@dataclass(frozen=True, slots=True)
class _MeterTopic:
    feeder_id: FeederId
    gateway_id: GatewayId
    meter_serial: MeterSerial

    leaf: ClassVar[str]

    def __post_init__(self) -> None:
        _check(self.feeder_id, self.gateway_id, self.meter_serial)

    def __str__(self) -> str:
        return f"{_ROOT}/{self.feeder_id}/{self.gateway_id}/meter/{self.meter_serial}/{self.leaf}"

    @classmethod
    def filter(
        cls,
        feeder_id: str = _ANY,
        gateway_id: str = _ANY,
        meter_serial: str = _ANY,
    ) -> str:
        """Return the subscription filter for this kind; what is not named matches any.

        Raises ProfileError BAD_ID.
        """
        _check_filter(feeder_id, gateway_id, meter_serial)
        return f"{_ROOT}/{feeder_id}/{gateway_id}/meter/{meter_serial}/{cls.leaf}"


class TelemetryTopic(_MeterTopic):
    """Where a gateway publishes a meter's registers."""

    __slots__ = ()
    leaf = "telemetry"


class EventTopic(_MeterTopic):
    """Where a gateway publishes a meter's events, and the results of commands."""

    __slots__ = ()
    leaf = "event"


class CommandTopic(_MeterTopic):
    """Where the head-end publishes a meter's commands."""

    __slots__ = ()
    leaf = "command"


@dataclass(frozen=True, slots=True)
class SessionTopic:
    """Where a session is offered, accepted and closed."""

    feeder_id: FeederId
    gateway_id: GatewayId
    session_id: SessionId

    def __post_init__(self) -> None:
        _check(self.feeder_id, self.gateway_id, self.session_id)

    def __str__(self) -> str:
        return f"{_ROOT}/{self.feeder_id}/{self.gateway_id}/session/{self.session_id}"

    @classmethod
    def filter(cls, feeder_id: str = _ANY, gateway_id: str = _ANY, session_id: str = _ANY) -> str:
        """Return the subscription filter for sessions; what is not named matches any.

        Raises ProfileError BAD_ID.
        """
        _check_filter(feeder_id, gateway_id, session_id)
        return f"{_ROOT}/{feeder_id}/{gateway_id}/session/{session_id}"


Topic = TelemetryTopic | EventTopic | CommandTopic | SessionTopic

_METER_TOPICS: dict[str, type[TelemetryTopic] | type[EventTopic] | type[CommandTopic]] = {
    kind.leaf: kind for kind in (TelemetryTopic, EventTopic, CommandTopic)
}


@lru_cache(maxsize=_CACHED_TOPICS_MAX)
def parse_topic(topic: str) -> Topic:
    """Return what a topic names. Raises ProfileError: BAD_TOPIC for a foreign layout, BAD_ID."""
    levels = topic.split("/", _LEVELS_OF_METER_TOPIC)
    if levels[:2] != _ROOT.split("/"):
        raise _foreign(topic)
    match levels[2:]:
        case [feeder_id, gateway_id, "meter", meter_serial, leaf] if leaf in _METER_TOPICS:
            return _METER_TOPICS[leaf](
                FeederId(feeder_id), GatewayId(gateway_id), MeterSerial(meter_serial)
            )
        case [feeder_id, gateway_id, "session", session_id]:
            return SessionTopic(FeederId(feeder_id), GatewayId(gateway_id), SessionId(session_id))
        case _:
            raise _foreign(topic)


def _check(feeder_id: str, gateway_id: str, last_id: str) -> None:
    for level in (feeder_id, gateway_id, last_id):
        check_id(level, path="")
    check_gateway_name(feeder_id, gateway_id, path="")


def _check_filter(*levels: str) -> None:
    for level in levels:
        if level != _ANY:
            check_id(level, path="")


def _foreign(topic: str) -> ProfileError:
    return ProfileError(
        Code.BAD_TOPIC,
        "OA-TOP-001",
        "",
        f"{topic[:200]!r} is not one of the profile's four topics, "
        f"e.g. {_ROOT}/FEEDER/GATEWAY/meter/SERIAL/telemetry",
    )
