"""Commands from north for bridged meters: none is carried out, none goes south; that somebody asked is told.

The firmware takes commands without a key, an end or an answer, so there is no way to carry one out that
the profile's rules would allow. The bridge has no key either, accepts no session, and signs no report: the
head-end's ledger ends such a command as unanswered. The event says why.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from openami.bridge.events import EventType, Outgoing, Source, event, to_the_millisecond
from openami.profile import CommandTopic, EventState, MeterSerial, ProfileError, parse_topic

# Whoever may publish a command could otherwise fill the line with events; a person reads one.
TOLD_AGAIN_AFTER: Final = timedelta(hours=1)

DETAIL: Final = (
    "a command came for this meter; it is bridged from firmware that has no authenticated commands, "
    "so nothing was switched"
)


class RefusedCommands:
    """Which meters' commands were refused when."""

    def __init__(self, sources: Mapping[MeterSerial, Source]) -> None:
        self._sources = sources
        self._told: dict[MeterSerial, datetime] = {}  # bounded by the meters of the map

    def filters(self) -> list[str]:
        """Return what commands for these meters are published on."""
        gateways = {(each.feeder_id, each.gateway_id) for each in self._sources.values()}
        return [CommandTopic.filter(feeder, gateway) for feeder, gateway in sorted(gateways)]

    def take(self, topic: str, now: datetime) -> Outgoing | None:
        """Return the event that tells of a command; None where it need not be told."""
        try:
            parsed = parse_topic(topic)
        except ProfileError:
            return None
        if not isinstance(parsed, CommandTopic):
            return None
        source = self._sources.get(parsed.meter_serial)
        if source is None or (source.feeder_id, source.gateway_id) != (
            parsed.feeder_id,
            parsed.gateway_id,
        ):
            return None
        last = self._told.get(source.serial)
        if last is not None and timedelta(0) <= now - last < TOLD_AGAIN_AFTER:
            return None
        self._told[source.serial] = now
        return event(
            EventType.COMMANDS_REFUSED,
            EventState.INSTANT,
            source,
            occurred_at=to_the_millisecond(now),
            detail=DETAIL,
        )
