"""What each stage of the monthly cap costs a day, by the gateway's own configuration (pure, decision 0076)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import msgspec

from openami.gateway.budget import Plan, month_bytes
from openami.gateway.config import ScheduleSettings
from openami.gateway.driver import PollGroup
from openami.gateway.monthly_cap import HEARTBEAT_S, CapStage, Lived, lived
from openami.gateway.on_change import GroupReport
from openami.link_cost import DAY_S

# While readings wait the gateway tells so this often, in an event of the size of any other.
SIGN_OF_LIFE_S: Final = 7_200
# Of a group that is told on change. Where more of it changes the month is slowed later and harder; less, and it is
# eased sooner. The cap holds either way, because what is counted is what was sent.
CHANGED_SHARE: Final = 0.2


def bytes_per_day(plan: Plan) -> Mapping[CapStage, float]:
    """Return the link's bytes a day at each stage."""
    return {stage: month_bytes(_at(stage, plan)) / plan.assumed.month_days for stage in CapStage}


class CappedMonth(msgspec.Struct, frozen=True, rename="camel"):
    """A month under a cap in which everything goes as foretold: its stages one after the other, and its bytes."""

    cap_bytes: int
    total_bytes: int
    stages: tuple[Lived, ...]


def capped_month(plan: Plan, cap_bytes: int) -> CappedMonth:
    """Return a month of this plan under a cap, on the upper side: without topic aliases, as it is counted."""
    per_day = bytes_per_day(replace(plan, topic_aliases=0))
    stages = tuple(lived(cap_bytes, per_day, plan.assumed.month_days))
    return CappedMonth(cap_bytes, stages[-1].used_bytes, stages)


def _at(stage: CapStage, plan: Plan) -> Plan:
    beat_s = HEARTBEAT_S[stage]
    if beat_s is None:
        return replace(plan, changed_share=CHANGED_SHARE)
    if not stage.withholds:
        report = plan.reports.get(PollGroup.FAST)
        beat_s = max(beat_s, plan.schedule.fast_s, report.heartbeat_s if report else 0)
        told = {PollGroup.FAST: GroupReport(heartbeat_s=beat_s)}
        return replace(plan, reports=told, changed_share=0.0)
    told_s = max(beat_s, plan.schedule.billing_s)
    signs = DAY_S / SIGN_OF_LIFE_S / max(1, len(plan.meters))
    asked = (replace(meter, infos=(), known={}) for meter in plan.meters)
    return replace(
        plan,
        schedule=ScheduleSettings(fast_s=told_s, billing_s=told_s),
        reports={},
        meters=plan.meters if stage is not CapStage.ESSENTIAL else tuple(asked),
        events_per_meter_day=plan.events_per_meter_day + signs,
    )
