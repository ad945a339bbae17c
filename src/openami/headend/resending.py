"""The head-end asks for what is missing, by itself: each gap until it is closed or proved lost.

Beside uplink and downlink: it looks at what the stream has left missing, lets the gap's life decide
(`openami.headend.gap_life`), and enters `readings.resend` into the ledger like anybody who asks; the downlink
signs and sends it. It publishes nothing, keeps no state but when gaps were last filled, and waits by
``asyncio.sleep`` alone, so that a simulation can run it on virtual time (decision 0031).
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, time, timedelta
from typing import Final

import structlog

from openami.clock import Clock
from openami.headend.accounting import day_accounts
from openami.headend.commands import TTL_DEFAULT_S, LedgerCommand, RequestRefused
from openami.headend.gap_life import (
    Ask,
    Gap,
    GapState,
    Patience,
    Span,
    Surroundings,
    answered,
    next_step,
    noticed,
    window,
)
from openami.headend.interval_gaps import noticed_silences, silences
from openami.headend.sessions import HEAD_END
from openami.headend.states import GatewayState, gateway_state
from openami.headend.store import GatewayRow, StoreError
from openami.headend.store.commands import HeadEndStore
from openami.headend.told_spans import thinned_spans
from openami.profile import utc_text
from openami.profile.command import CommandState
from openami.sip.actions import Action

# Two short questions to the database; a gap is minutes old before anything is done about it.
LOOK_INTERVAL_S: Final = 2.0
# For gateways without numbers: a quarter hour is the usual interval, and a look reads two days of their meters.
INTERVAL_LOOK_S: Final = 900.0
# Yesterday too, so that a gap around midnight is seen to close; an older one ends by its age.
INTERVAL_LOOK_DAYS: Final = 1
# A gateway tells of thinning once an hour at most: a week of it.
OWN_EVENTS_MAX: Final = 168

_Gateway = tuple[str, str]

_log = structlog.get_logger("headend.completeness")


class Resending:
    """Looks for gaps and asks for them. Runs until it is cancelled."""

    def __init__(
        self,
        store: HeadEndStore,
        *,
        clock: Clock,
        new_id: Callable[[str], str],
        can_command: bool,
        patience: Patience | None = None,
        look_interval_s: float = LOOK_INTERVAL_S,
    ) -> None:
        """``can_command``: whether a downlink runs beside it. ``new_id`` makes an id nobody has."""
        self._store = store
        self._clock = clock
        self._new_id = new_id
        self._can_command = can_command
        self._patience = patience or Patience()
        self._look_interval_s = look_interval_s
        self._began_at = clock.now()
        self._filled_at: dict[_Gateway, datetime] = {}
        self._looked_at: dict[_Gateway, datetime] = {}

    async def run(self) -> None:
        """Look, for ever. Raises nothing that waiting could mend."""
        said = False
        while True:
            try:
                await self.look()
                said = False
            except StoreError as error:  # the stream meets the same error, and acts on it
                if not said:
                    _log.warning("gaps were not looked for", error=str(error))
                said = True
            await asyncio.sleep(self._look_interval_s)

    async def look(self) -> None:
        """Take one look at every gateway. Raises StoreError."""
        now = self._clock.now()
        known: dict[_Gateway, list[Gap]] = defaultdict(list)
        for gap in await self._store.gaps(closed=False):
            known[gap.gateway].append(gap)
        numberings = {
            (feeder, gateway): numbering
            for feeder, gateway, numbering in await self._store.numberings()
        }
        for row in await self._store.gateways():
            gateway = known_as(row)
            numbering = numberings.get(gateway)
            if numbering is None:
                changed = await self._silences(row, known[gateway], now)
            else:
                changed = noticed(known[gateway], numbering, gateway, now)
            if known[gateway] or changed:
                epoch = None if numbering is None else numbering.current.number
                await self._attend(row, epoch, known[gateway], changed, now)

    async def prune(self) -> None:
        """Forget gaps that ended long ago. Raises StoreError."""
        await self._store.prune_gaps(self._clock.now())

    async def _attend(
        self,
        row: GatewayRow,
        epoch: int | None,
        known: Sequence[Gap],
        changed: Sequence[Gap],
        now: datetime,
    ) -> None:
        """Bring one gateway's gaps up to what has come, and do what follows for each, the oldest first."""
        gaps = {_key(gap): gap for gap in known}
        for gap in changed:
            gaps[_key(gap)] = gap
            if gap.changed_at == now > gap.noticed_at:
                self._filled_at[gap.gateway] = now
        for key, gap in gaps.items():
            if gap.command_id is not None:
                gaps[key] = await self._with_answer(gap, now)
        around = Surroundings(
            gateway_speaks=gateway_state(row, now) is GatewayState.REPORTING,
            filled_at=self._filled_at.get(known_as(row), self._began_at),
            epoch=epoch,
            can_command=self._can_command,
            another_is_asked=any(gap.state is GapState.ASKED for gap in gaps.values()),
            thinned=await self._thinned(row) if any(g.answers for g in gaps.values()) else (),
            withholds=row.withholds,
        )
        to_ask: Gap | None = None
        for key, gap in gaps.items():
            if not gap.lives:
                continue
            step = next_step(gap, around, self._patience, now)
            if isinstance(step, Ask):
                step = to_ask = replace(step.gap, command_id=self._new_id("cmd"))
                around = replace(around, another_is_asked=True)
            gaps[key] = step
        before = {_key(gap): gap for gap in known}
        written = [gap for key, gap in gaps.items() if gap != before.get(key)]
        # First what is asked, then the command: if we end between, it ends as one nobody answered.
        await self._store.put_gaps(written)
        for gap in written:
            _say(gap, before.get(_key(gap)))
        if to_ask is not None:
            await self._request(to_ask, now)

    async def _silences(
        self, row: GatewayRow, known: Sequence[Gap], now: datetime
    ) -> Sequence[Gap]:
        """Look what readings of a gateway without numbers have not come, now and then."""
        gateway = known_as(row)
        looked_at = self._looked_at.get(gateway)
        pause = timedelta(seconds=INTERVAL_LOOK_S)
        is_silent = gateway_state(row, now) is not GatewayState.REPORTING
        if is_silent or (looked_at is not None and now < looked_at + pause):
            return ()
        self._looked_at[gateway] = now
        days = [(now - timedelta(days=ago)).date() for ago in range(INTERVAL_LOOK_DAYS, -1, -1)]
        accounts = day_accounts(
            self._store, row.feeder_id, days, now=now, gateway_id=row.gateway_id
        )
        found = silences([account async for account in accounts])
        looked_since = datetime.combine(days[0], time(), now.tzinfo)
        return noticed_silences(known, found, gateway, looked_since=looked_since, now=now)

    async def _with_answer(self, gap: Gap, now: datetime) -> Gap:
        """Return a gap after what became of the command that asks for it."""
        assert gap.command_id is not None
        command = await self._store.command(gap.command_id)
        if command is None:
            return answered(gap, CommandState.EXPIRED, None, self._patience, now)
        if command.is_open:
            return gap
        state = command.resolved_as or command.state
        return answered(gap, state, command.code, self._patience, now)

    async def _thinned(self, row: GatewayRow) -> tuple[Span, ...]:
        """Return what a gateway told of thinning: as a happening of its own, it stands in the meter's place."""
        events = await self._store.events(
            feeder_id=row.feeder_id, meter_serial=row.gateway_id, at_most=OWN_EVENTS_MAX
        )
        return tuple(thinned_spans(events))

    async def _request(self, gap: Gap, now: datetime) -> None:
        """Enter the request for a gap into the ledger."""
        meter = await self._a_meter(gap)
        if meter is None:
            return
        begin, end = window(gap)
        verdict = await self._store.request_command(
            LedgerCommand(
                id=gap.command_id or "",
                feeder_id=gap.feeder_id,
                gateway_id=gap.gateway_id,
                meter_serial=meter,
                action=Action.RESEND,
                args={"from": utc_text(begin), "to": utc_text(end)},
                requested_by=HEAD_END,
                reason=f"{gap.missing} missing of {gap.name}",
                requested_at=now,
                not_after=(now + timedelta(seconds=TTL_DEFAULT_S)).replace(microsecond=0),
                due_at=now,
            ),
            now,
        )
        if isinstance(verdict, RequestRefused):
            _log.warning("not asked for", gap=gap.name, reason=verdict.detail)

    async def _a_meter(self, gap: Gap) -> str | None:
        """Return a meter to address: another one each time, should the keyring not cover the first."""
        meters = [
            meter.meter_serial
            for meter in await self._store.meters(feeder_id=gap.feeder_id)
            if meter.gateway_id == gap.gateway_id and meter.meter_serial != gap.gateway_id
        ]
        return meters[(gap.asks - 1) % len(meters)] if meters else None


def known_as(row: GatewayRow) -> _Gateway:
    """Return what a gateway is known as."""
    return row.feeder_id, row.gateway_id


def _key(gap: Gap) -> tuple[int, int]:
    return gap.epoch, gap.first


def _say(gap: Gap, before: Gap | None) -> None:
    """Say what a person would want to find in the log: that it was asked for, and how it ended."""
    state_before = GapState.OPEN if before is None else before.state
    if gap.state is state_before or (gap.state is GapState.CLOSED and not gap.asks):
        return
    say = _log.warning if gap.state is GapState.LOST else _log.info
    say(
        "gap moved",
        state=gap.state.value,
        feeder=gap.feeder_id,
        gateway=gap.gateway_id,
        gap=gap.name,
        missing=gap.missing,
        reason=gap.reason.value,
        asks=gap.asks,
    )
