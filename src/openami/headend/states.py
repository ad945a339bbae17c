"""A meter's and a gateway's state in one word; the same words everywhere an operator looks.

Three silences are kept apart (decision 0007): the gateway says that the meter is silent, the gateway itself
is silent, and the head-end has lost its broker. The last is not a meter's state: it is said of the head-end.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from openami.headend.store import GatewayRow, MeterRow
from openami.profile import Quality

# Billing registers come every 15 minutes at the latest; after two that did not come, and some minutes for
# a slow link, it is silence and not lateness.
GATEWAY_SILENT_AFTER_MINUTES: Final = 35
# The same for a meter of which its gateway, itself well, says nothing at all any more.
METER_SILENT_AFTER_MINUTES: Final = 35
# A gateway whose readings wait by its monthly cap says so every two hours, and may say nothing else.
WITHHOLDING_SILENT_AFTER_MINUTES: Final = 150


class MeterState(StrEnum):
    """What an operator should think of a meter, the worst that holds."""

    REPORTING = "reporting"
    SUSPECT = "suspect"
    """A register of its latest is one its gateway does not vouch for."""
    METER_SILENT = "meter_silent"
    """Its gateway says that it does not answer, or has nothing to say of it any more."""
    GATEWAY_SILENT = "gateway_silent"
    """Nothing is heard of its gateway; of the meter nothing is known."""
    NEVER_SEEN = "never_seen"
    """No message of it was ever accepted."""


class GatewayState(StrEnum):
    """Whether a gateway is heard of."""

    REPORTING = "reporting"
    GATEWAY_SILENT = "gateway_silent"


def gateway_state(gateway: GatewayRow, now: datetime) -> GatewayState:
    """Judge a gateway by when something of it was last received."""
    minutes = (
        WITHHOLDING_SILENT_AFTER_MINUTES if gateway.withholds else GATEWAY_SILENT_AFTER_MINUTES
    )
    if now - gateway.last_seen > timedelta(minutes=minutes):
        return GatewayState.GATEWAY_SILENT
    return GatewayState.REPORTING


def meter_state(meter: MeterRow | None, gateway: GatewayRow | None, *, now: datetime) -> MeterState:
    """Judge a meter by its latest registers and by when something of it was last received.

    Where its gateway withholds readings, by the registers alone: that a meter does not answer is an event, and
    events are never withheld.
    """
    if meter is None or gateway is None:
        return MeterState.NEVER_SEEN
    if gateway_state(gateway, now) is GatewayState.GATEWAY_SILENT:
        return MeterState.GATEWAY_SILENT
    silent_for = now - meter.last_seen
    if not gateway.withholds and silent_for > timedelta(minutes=METER_SILENT_AFTER_MINUTES):
        return MeterState.METER_SILENT
    match meter.worst_quality:
        case Quality.COMMS_LOST:
            return MeterState.METER_SILENT
        case Quality.SUSPECT:
            return MeterState.SUSPECT
        case Quality.GOOD:
            return MeterState.REPORTING


def states_of(
    meters: Sequence[MeterRow], gateways: Sequence[GatewayRow], *, now: datetime
) -> list[tuple[MeterRow, MeterState]]:
    """Judge each meter with the gateway through which it last spoke."""
    known = {(row.feeder_id, row.gateway_id): row for row in gateways}
    return [
        (meter, meter_state(meter, known.get((meter.feeder_id, meter.gateway_id)), now=now))
        for meter in meters
    ]


def count_states(states: Sequence[MeterState]) -> dict[str, int]:
    """Count meters by state, in the order of the enumeration; what is not there is left out."""
    counts = Counter(states)
    return {state.value: counts[state] for state in MeterState if counts[state]}
