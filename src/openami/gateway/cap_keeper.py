"""Keeps the gateway to its monthly cap: counts, looks, and says what may be sent (decision 0076).

The rule is `monthly_cap`'s. Here is when it is asked: once a minute, and sooner where much was sent meanwhile. What
was counted is stored with every batch of acknowledgements, in its own commit, so a power cut forgets nothing that
was marked as sent, and no card is written to more often.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import partial
from typing import Final

import structlog

from openami.clock import Clock
from openami.gateway import cap_table
from openami.gateway.budget import Plan
from openami.gateway.cap_events import cap_drafts
from openami.gateway.cap_forecast import SIGN_OF_LIFE_S, bytes_per_day
from openami.gateway.cap_table import Series
from openami.gateway.database import DatabaseError
from openami.gateway.driver import PollGroup
from openami.gateway.entries import Draft, OutboxError, Within
from openami.gateway.link_account import LinkAccount
from openami.gateway.metrics import GatewayMetrics
from openami.gateway.monthly_cap import (
    HEARTBEAT_S,
    Balance,
    CapStage,
    Month,
    Standing,
    after_look,
    backlog_may_go,
    period_began,
)
from openami.gateway.normalise import Source, to_the_millisecond
from openami.gateway.on_change import GroupReport, OnChange
from openami.gateway.outbox import Outbox
from openami.gateway.snapshot import CapView
from openami.gateway.uplink import EVERYTHING, Passage, UplinkSettings
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
# What was read goes within a minute, over a bad link within some.
WAITS_AFTER: Final = timedelta(minutes=10)

# A cap that was taken away: what it made wait goes, and is told over.
NO_CAP_BYTES: Final = 2**53

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
        standing: Standing,
        start_s: float = START_S,
    ) -> None:
        self.account = account
        self.account.used_bytes = standing.used_bytes
        self._outbox = outbox
        self._settings = settings
        self._plan = plan
        self._rules = {s: OnChange(reports, fast_beat_s=HEARTBEAT_S[s]) for s in CapStage}
        self._source = source
        self._clock = clock
        self._metrics = metrics
        self._cap_bytes = settings.cap_bytes or NO_CAP_BYTES
        self.view = CapView(self._cap_bytes)
        self._known = standing
        self._forecast: _Forecast | None = None
        self._begun_s = clock.boottime()
        self._start_s = start_s
        self._eased_on: date | None = None
        self._told_at_s = float("-inf")
        self._looked_at_bytes = standing.used_bytes
        self._stirred = asyncio.Event()
        self._period: datetime | None = None
        self._above = self._last_seq = 0
        self._among: dict[Series, int] = {}  # bound: meters and groups
        self.passage = (
            Passage(live=False, backlog=False) if standing.stage.withholds else EVERYTHING
        )
        self._show()

    def on_change(self) -> OnChange:
        """Return which readings are told at all, as it stands."""
        return self._rules[self._known.stage]

    def readings_wait(self) -> bool:
        """Return whether readings wait by this rule, so that none is to be sent a second time."""
        return self._known.stage.withholds

    def counted(self) -> None:
        """Show what is counted, and look soon if it is much since the last look."""
        self._show()
        if self.account.used_bytes - self._looked_at_bytes >= LOOK_BYTES:
            self._stirred.set()

    def keeping(self) -> Within:
        """Return the work of storing what is counted, for the transaction of what it was spent on."""
        return partial(cap_table.store, standing=self._as_counted())

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
            forecast = await self._foretold(boottime_s)
            if forecast is not None:
                await self._judge(forecast.per_day, now, boottime_s)
            await self._let_pass(now)
        self._show()

    def _turn_month(self, now: datetime) -> None:
        begin = Month.of(now, self._settings.cap_from_day).begin
        before = self._known.month_began
        if begin == before:
            return
        # A month before the known one is a clock that was wrong: what was counted was spent all the same.
        if before is not None and begin > before:
            self.account.used_bytes = self._looked_at_bytes = 0
            self._eased_on = None
        self._known = replace(self._known, month_began=begin)

    async def _foretold(self, boottime_s: float) -> _Forecast | None:
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
            # Some thousand envelopes are encoded: a second of a slow machine, in which polls go on.
            per_day = await asyncio.to_thread(bytes_per_day, plan)
            self._forecast = made = _Forecast(known, boottime_s, per_day)
        return made

    async def _judge(
        self, per_day: Mapping[CapStage, float], now: datetime, boottime_s: float
    ) -> None:
        month = Month.of(now, self._settings.cap_from_day)
        balance = Balance(self._cap_bytes, self.account.used_bytes, month.left_days(now), per_day)
        before, moment = self._known, to_the_millisecond(now)
        after = after_look(
            before,
            balance,
            moment,
            may_ease=self._eased_on != now.date(),
            waiting=await self._outbox.database.run(
                partial(cap_table.waits, since=now - WAITS_AFTER)
            ),
        )
        self._eased_on = now.date()
        is_due = boottime_s - self._told_at_s >= SIGN_OF_LIFE_S
        drafts = cap_drafts(
            before,
            after,
            balance,
            source=self._source,
            moment=moment,
            boottime_s=boottime_s,
            sign_of_life=is_due,
        )
        # Held back before it is told: what the event is about may not begin after it.
        self._known = after
        backlog = backlog_may_go(after.stage, balance)
        live = not after.stage.withholds
        self._allow(Passage(live=live, backlog=backlog, among=self.passage.among))
        if after.stage is not before.stage:
            _log.warning(
                "cap stage changed",
                stage=after.stage.value,
                before=before.stage.value,
                used_bytes=balance.used_bytes,
                cap_bytes=balance.cap_bytes,
            )
        if drafts:
            await self._tell(drafts, before)
            self._told_at_s = boottime_s

    async def _tell(self, drafts: Sequence[Draft], before: Standing) -> None:
        try:
            await self._outbox.append(drafts, within=self.keeping())
        except OutboxError:
            self._known = before  # nobody was told: judged anew at the next look
            raise
        for draft in drafts:
            assert draft.envelope.event is not None
            self._metrics.events.labels(type=draft.envelope.event.type).inc()

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

    def _as_counted(self) -> Standing:
        return replace(self._known, used_bytes=self.account.used_bytes)

    def _store(self, connection: sqlite3.Connection) -> None:
        with transaction(connection):
            cap_table.store(connection, self._as_counted())

    def _show(self) -> None:
        view, known = self.view, self._as_counted()
        view.stage, view.used_bytes = known.stage, known.used_bytes
        view.waits = known.withheld_at is not None
