"""What is told when the monthly cap slows telemetry or eases it (pure, decision 0076).

Events of the gateway itself, with its clock as the register they are about (decision 0009).
"""

from datetime import datetime

from openami.gateway.entries import Draft, Kind
from openami.gateway.event_types import EventType
from openami.gateway.events import clock_reading, event_envelope
from openami.gateway.monthly_cap import Balance, CapStage, Standing
from openami.gateway.normalise import Source
from openami.link_cost import MB_BYTES
from openami.profile import EventState, MeterSerial, Quality


def cap_drafts(
    before: Standing,
    after: Standing,
    balance: Balance,
    *,
    source: Source,
    moment: datetime,
    boottime_s: float,
    sign_of_life: bool,
) -> list[Draft]:
    """Return the events of a look at the cap.

    ``sign_of_life``: where readings wait it is told again, as the same event: nobody's alarm counts it twice, and
    a gateway that has nothing else to say is heard.
    """
    detail = (
        f"stage {after.stage} of the monthly cap: {balance.used_bytes / MB_BYTES:.1f} of "
        f"{balance.cap_bytes / MB_BYTES:.1f} MB used, {balance.left_days:.1f} days left"
    )
    told: list[tuple[EventType, EventState, datetime]] = []
    slowed, was_slowed = (each.stage is not CapStage.FULL for each in (after, before))
    if slowed is not was_slowed:
        told.append((EventType.TELEMETRY_SLOWED, _state(begins=slowed), moment))
    since = after.withheld_at
    if since != before.withheld_at or (since is not None and sign_of_life):
        state = _state(begins=since is not None)
        told.append((EventType.TELEMETRY_WITHHELD, state, since or moment))
    return [
        Draft(
            event_envelope(
                kind,
                state,
                source=source,
                serial=MeterSerial(source.gateway_id),
                occurred_at=occurred_at,
                registers=(clock_reading(moment, Quality.GOOD),),
                ts=moment,
                detail=detail,
            ),
            Kind.EVENT,
            boottime_s=boottime_s,
        )
        for kind, state, occurred_at in told
    ]


def _state(*, begins: bool) -> EventState:
    return EventState.RAISED if begins else EventState.CLEARED
