"""Keeps the gateway to its monthly cap: counts, looks, and says what may be sent (decision 0076).

The rule is `monthly_cap`'s. Here is when it is asked: once a minute, and sooner where much was sent meanwhile. What
was counted is stored with every batch of acknowledgements, in its own commit, so a power cut forgets nothing that
was marked as sent, and no card is written to more often.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import partial
from typing import Final

import structlog

from openami.clock import Clock
from openami.gateway import cap_table
from openami.gateway.budget import Plan
from openami.gateway.cap_forecast import SIGN_OF_LIFE_S, bytes_per_day
from openami.gateway.cap_table import Series, Stored
from openami.gateway.database import DatabaseError
from openami.gateway.driver import PollGroup
from openami.gateway.entries import Draft, Kind, OutboxError
from openami.gateway.event_types import EventType
from openami.gateway.events import clock_reading, event_envelope
from openami.gateway.link_account import LinkAccount
from openami.gateway.metrics import GatewayMetrics
from openami.gateway.monthly_cap import (
    HEARTBEAT_S,
    Balance,
    CapStage,
    Month,
    backlog_may_go,
    period_began,
    stage_after,
)
from openami.gateway.normalise import Source, to_the_millisecond
from openami.gateway.on_change import GroupReport, OnChange
from openami.gateway.outbox import Outbox
from openami.gateway.snapshot import CapView
from openami.gateway.uplink import EVERYTHING, MB_BYTES, Passage, UplinkSettings
from openami.profile import EventState, MeterSerial, Quality
from openami.sqlite_transaction import transaction

# A minute of telemetry is less than a thousandth of any month.
LOOK_INTERVAL_S: Final = 60.0
# A backlog may run at 20 kB/s: after so many bytes is looked sooner, which is what a cap can be exceeded by.
LOOK_BYTES: Final = 50_000
# A month's plan changes with a meter's values, and whose line is open.
FORECAST_INTERVAL_S: Final = 3_600.0
# Until then lines open and tell which registers there are; what a line that stays shut would send is not foretold.
START_S: Final = 120.0
START_LOOK_S: Final = 1.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Forecast:
    meters_known: int
    made_at_s: float
    per_day: Mapping[CapStage, float]


class CapKeeper:
    """One gateway's cap. ``passage`` is what the uplink may send, ``on_change`` what the collectors tell by."""

    def __init__(
        self,
        outbox: Outbox,
        settings: UplinkSettings,
        account: LinkAccount,
        *,
        plan: Callable[[], Plan],
        reports: Mapping[PollGroup, GroupReport],
        source: Source,
        clock: Clock,
        metrics: GatewayMetrics,
        stored: Stored,
        start_s: float = START_S,
    ) -> None:
        self.account = account
        self.account.used_bytes = stored.used_bytes
        self._outbox = outbox
        self._settings = settings
        self._plan = plan
        self._rules = {s: OnChange(reports, fast_beat_s=HEARTBEAT_S[s]) for s in CapStage}
        self._source = source
        self._clock = clock
        self._metrics = metrics
        self.view = CapView(settings.cap_bytes)
        self._known = stored
        self._forecast: _Forecast | None = None
        self._begun_s = clock.boottime()
        self._start_s = start_s
        self._eased_on: date | None = None
        self._told_at_s = float("-inf")
        self._looked_at_bytes = stored.used_bytes
        self._stirred = asyncio.Event()
        self._period: datetime | None = None
        self._above = self._last_seq = 0
        self._among: dict[Series, int] = {}  # bound: meters and groups
        self.passage = Passage(live=False, backlog=False) if stored.stage.withholds else EVERYTHING
        self._show()

    def on_change(self) -> OnChange:
        """Return which readings are told at all, as it stands."""
        return self._rules[self._known.stage]

    def readings_wait(self) -> bool:
        """Return whether readings wait by this rule, so that none is to be sent a second time."""
        return self._known.stage.withholds

    def counted(self) -> None:
        """Look soon, if much has been counted since the last look."""
        if self.account.used_bytes - self._looked_at_bytes >= LOOK_BYTES:
            self._stirred.set()

    def keeping(self) -> Callable[[sqlite3.Connection], None]:
        """Return the work of storing what is counted, for the transaction of what it was spent on."""
        return partial(cap_table.store, stored=self._as_counted())

    async def run(self) -> None:
        """Look, for ever; a disk that fails is waited for."""
        try:
            while True:
                try:
                    await self.look()
                except (DatabaseError, OutboxError) as error:
                    _log.error("cap not kept", reason=str(error), remedy=error.remedy)
                interval_s = START_LOOK_S if self._forecast is None else LOOK_INTERVAL_S
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(interval_s):
                        await self._stirred.wait()
                self._stirred.clear()
        finally:
            # The last word; what a disk that fails now does not take is counted since the last batch.
            with contextlib.suppress(DatabaseError):
                await self._outbox.database.run(self._store)

    async def look(self) -> None:
        """Judge anew, and tell what has changed. Raises DatabaseError and OutboxError."""
        self.account.idle(asyncio.get_running_loop().time())
        self._looked_at_bytes = self.account.used_bytes
        now, boottime_s = self._clock.now(), self._clock.boottime()
        if self._outbox.clock_verdict.trusted:
            self._turn_month(now)
            forecast = self._foretold(boottime_s)
            if forecast is not None:
                await self._judge(forecast.per_day, now, boottime_s)
            await self._let_pass(now)
        self._show()

    def _turn_month(self, now: datetime) -> None:
        begin = Month.of(now, self._settings.cap_from_day).begin
        before = self._known.begin
        if begin == before:
            return
        # A month before the known one is a clock that was wrong: what was counted was spent all the same.
        if before is not None and begin > before:
            self.account.used_bytes = self._looked_at_bytes = 0
            self._eased_on = None
        self._known = replace(self._known, begin=begin)

    def _foretold(self, boottime_s: float) -> _Forecast | None:
        plan = self._plan()
        known = sum(bool(meter.infos) for meter in plan.meters)
        if known < len(plan.meters) and boottime_s - self._begun_s < self._start_s:
            return None
        made = self._forecast
        if (
            made is None
            or made.meters_known != known
            or boottime_s - made.made_at_s >= FORECAST_INTERVAL_S
        ):
            self._forecast = made = _Forecast(known, boottime_s, bytes_per_day(plan))
        return made

    async def _judge(
        self, per_day: Mapping[CapStage, float], now: datetime, boottime_s: float
    ) -> None:
        month = Month.of(now, self._settings.cap_from_day)
        balance = Balance(
            self.view.cap_bytes, self.account.used_bytes, month.left_days(now), per_day
        )
        before = self._known
        stage = stage_after(before.stage, balance, may_ease=self._eased_on != now.date())
        self._eased_on = now.date()
        backlog = backlog_may_go(stage, balance)
        withheld_at = before.withheld_at
        if not (stage.withholds or (withheld_at is not None and not backlog)):
            withheld_at = None
        elif withheld_at is None or stage is not before.stage:
            withheld_at = to_the_millisecond(now)
        after = replace(before, stage=stage, withheld_at=withheld_at)
        drafts = self._drafts(before, after, balance, now, boottime_s)
        # Held back before it is told: what the event is about may not begin after it.
        self._known = after
        self._allow(Passage(live=not stage.withholds, backlog=backlog, among=self.passage.among))
        if stage is not before.stage:
            _log.warning(
                "cap stage changed",
                stage=stage.value,
                before=before.stage.value,
                used_bytes=balance.used_bytes,
                cap_bytes=balance.cap_bytes,
            )
        try:
            if drafts:
                await self._outbox.append(drafts, within=self.keeping())
        except OutboxError:
            self._known = before  # nobody was told: judged anew at the next look
            raise
        for draft in drafts:
            assert draft.envelope.event is not None
            self._metrics.events.labels(type=draft.envelope.event.type).inc()

    def _drafts(
        self, before: Stored, after: Stored, balance: Balance, now: datetime, boottime_s: float
    ) -> list[Draft]:
        """Return what is to be told of a change; and that readings wait still, as the same event again."""
        detail = (
            f"stage {after.stage} of the monthly cap: {balance.used_bytes / MB_BYTES:.1f} of "
            f"{balance.cap_bytes / MB_BYTES:.1f} MB used, {balance.left_days:.1f} days left"
        )
        moment = to_the_millisecond(now)
        told: list[tuple[EventType, EventState, datetime]] = []
        slowed, was_slowed = (each.stage is not CapStage.FULL for each in (after, before))
        if slowed is not was_slowed:
            told.append((EventType.TELEMETRY_SLOWED, _state(begins=slowed), moment))
        withheld_at = after.withheld_at
        is_due = withheld_at is not None and boottime_s - self._told_at_s >= SIGN_OF_LIFE_S
        if withheld_at != before.withheld_at or is_due:
            begins = withheld_at is not None
            told.append(
                (EventType.TELEMETRY_WITHHELD, _state(begins=begins), withheld_at or moment)
            )
            self._told_at_s = boottime_s
        return [self._draft(*each, detail, moment, boottime_s) for each in told]

    def _draft(
        self,
        kind: EventType,
        state: EventState,
        occurred_at: datetime,
        detail: str,
        moment: datetime,
        boottime_s: float,
    ) -> Draft:
        envelope = event_envelope(
            kind,
            state,
            source=self._source,
            serial=MeterSerial(self._source.gateway_id),
            occurred_at=occurred_at,
            registers=(clock_reading(moment, Quality.GOOD),),
            ts=moment,
            detail=detail,
        )
        return Draft(envelope, Kind.EVENT, boottime_s=boottime_s)

    async def _let_pass(self, now: datetime) -> None:
        """Let the first of each meter's hour or day go, as they come."""
        began = period_began(self._known.stage, now)
        if began != self._period:
            # What was numbered at the look before was measured before the period began.
            self._period, self._above, self._among = began, self._last_seq, {}
        self._last_seq = self._outbox.last_seq
        if began is not None:
            work = partial(cap_table.first_of_each, since=began, above=self._above)
            found = await self._outbox.database.run(work)
            self._among = {**found, **self._among}
        self._allow(replace(self.passage, among=frozenset(self._among.values())))

    def _allow(self, passage: Passage) -> None:
        if passage != self.passage:
            self.passage = passage
            self._outbox.appended.set()

    def _as_counted(self) -> Stored:
        return replace(self._known, used_bytes=self.account.used_bytes)

    def _store(self, connection: sqlite3.Connection) -> None:
        with transaction(connection):
            cap_table.store(connection, self._as_counted())

    def _show(self) -> None:
        view, known = self.view, self._as_counted()
        view.stage, view.used_bytes = known.stage, known.used_bytes
        view.waits = known.withheld_at is not None


def _state(*, begins: bool) -> EventState:
    return EventState.RAISED if begins else EventState.CLEARED
