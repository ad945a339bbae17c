"""The demo's story: what goes wrong, when, and what of it can be seen. Pure."""

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from openami.simulator.load import MINUTES_PER_DAY
from openami.simulator.plan import UJ_PER_KWH, TopUp, VillagePlan, plan_village
from openami.simulator.village import Village

# The story is told once a minute; a shorter demo tells it faster, and below five seconds a part has no
# time to come back before the end.
STORY_S_MAX = 60.0
DEMO_S_MIN = 5.0

# A village in the evening has something to show; the demo's clock is the real one, its village's
# time zone is the one in which it is now this late.
_EVENING_MINUTE = 19 * 60
# A small token, worth a few evenings of a household.
_TOPUP_UJ = 2 * UJ_PER_KWH
_WITHOUT_END_UJ = 1000 * UJ_PER_KWH

# Shares of the story.
_METER_DIES, _METER_REVIVES = 0.12, 0.40
_CREDIT_ENDS, _CREDIT_BOUGHT = 0.20, 0.75
_HEADEND_DIES, _HEADEND_RETURNS = 0.45, 0.65
_HOUSE_CUT_OFF, _HOUSE_RECONNECTED, _COMMAND_REPLAYED = 0.25, 0.32, 0.36


class Turn(Enum):
    """A turn of the story that somebody has to bring about."""

    METER_DIES = (
        "a meter stops answering: its last values go on as comms_lost, its neighbours are read"
    )
    METER_REVIVES = "the meter answers again"
    HOUSE_CUT_OFF = "a house is to be cut off: a signed command, read back from its relay"
    HOUSE_RECONNECTED = "the house is to have its light again"
    COMMAND_REPLAYED = "somebody publishes the first command again, byte for byte"
    HEADEND_DIES = "the head-end is killed: readings wait with the broker, unacknowledged"
    HEADEND_RETURNS = "the head-end is started again and takes what has waited"


@dataclass(frozen=True, slots=True)
class Scene:
    """A turn and its second, from the moment all parts were up."""

    at_s: float
    turn: Turn


def story(story_s: float) -> tuple[Scene, ...]:
    """Return the scenes of one telling, in order."""
    return (
        Scene(_METER_DIES * story_s, Turn.METER_DIES),
        Scene(_HOUSE_CUT_OFF * story_s, Turn.HOUSE_CUT_OFF),
        Scene(_HOUSE_RECONNECTED * story_s, Turn.HOUSE_RECONNECTED),
        Scene(_COMMAND_REPLAYED * story_s, Turn.COMMAND_REPLAYED),
        Scene(_METER_REVIVES * story_s, Turn.METER_REVIVES),
        Scene(_HEADEND_DIES * story_s, Turn.HEADEND_DIES),
        Scene(_HEADEND_RETURNS * story_s, Turn.HEADEND_RETURNS),
    )


def story_length_s(duration_s: float | None) -> float:
    """Return how long one telling takes in a demo of this length; None is one without end."""
    return STORY_S_MAX if duration_s is None else min(STORY_S_MAX, duration_s)


def village_tonight(*, meters: int, seed: int, now: datetime) -> VillagePlan:
    """Return the village of this seed, where it is now seven in the evening."""
    minute = now.hour * 60 + now.minute
    # East or west of Greenwich by half a day at most, as clocks on earth are.
    half = MINUTES_PER_DAY // 2
    offset = (_EVENING_MINUTE - minute + half) % MINUTES_PER_DAY - half
    return plan_village(meters=meters, seed=seed, start=now, utc_offset_minutes=offset)


def with_credit_ending(plan: VillagePlan, story_s: float, *, begins_ms: int) -> VillagePlan:
    """Return the plan in which one prepaid customer's credit ends during the story, and is bought anew.

    It is the one who uses most in that time; a village whose prepaid customers all sleep stays as it is.
    """
    ends_ms = begins_ms + round(_CREDIT_ENDS * 1000 * story_s)
    bought_ms = begins_ms + round(_CREDIT_BOUGHT * 1000 * story_s)
    # Who has credit without end shows what would be used by then.
    rich = tuple(
        dataclasses.replace(customer, credit_uj=_WITHOUT_END_UJ) if customer.prepaid else customer
        for customer in plan.customers
    )
    trial = Village(dataclasses.replace(plan, customers=rich))
    trial.advance(ends_ms)
    used = {
        customer.serial: trial.measured(customer.serial).import_uj - customer.counter_uj
        for customer in plan.customers
        if customer.prepaid
    }
    serial = max(used, key=lambda each: used[each], default=None)
    if serial is None or used[serial] == 0:
        return plan
    customers = tuple(
        dataclasses.replace(customer, credit_uj=used[serial], topups=(TopUp(bought_ms, _TOPUP_UJ),))
        if customer.serial == serial
        else customer
        for customer in plan.customers
    )
    return dataclasses.replace(plan, customers=customers)
