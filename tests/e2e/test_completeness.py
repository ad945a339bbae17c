"""A broker loses what it has acknowledged: the head-end notices, asks, and has everything; no person acts."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.conftest import StartMosquitto
from tests.e2e.accounting import stored, taken_in
from tests.e2e.commanded import FEEDER_ID, commanded_village, until
from tests.e2e.test_commands import missing

from openami.headend.accounting import day_accounts
from openami.headend.completeness import SETTLED_AFTER_S, Arrival, DayAccount, Told, account
from openami.headend.gap_life import GapState
from openami.headend.sessions import HEAD_END
from openami.headend.store import Access
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.identity import to_ms
from openami.headend.store.open import open_store
from openami.profile import Quality
from openami.profile.command import CommandState
from openami.sip.actions import Action

pytestmark = [pytest.mark.broker, pytest.mark.slow]

# Often enough that some billing readings are among what is lost.
BILLING_S = 2
# Two minutes are for a bad radio link; here everything is on one machine.
IMPATIENT = f"""
[completeness]
grace_s = 3
intervals_s = {{ {FEEDER_ID} = {BILLING_S} }}
"""
DEADLINE_S = 60.0
BILLING_REGISTER = "1.8.0"


async def test_what_a_killed_broker_lost_comes_back_by_itself(
    mosquitto: StartMosquitto, tmp_path: Path
) -> None:
    # Nothing on its disk in between: what it has acknowledged is gone with it.
    forgetful = {"autosave_interval 1": "autosave_interval 3600"}
    async with commanded_village(
        mosquitto,
        tmp_path,
        meters=4,
        broker_changes=forgetful,
        billing_s=BILLING_S,
        headend_more=IMPATIENT,
    ) as system:
        async with open_store(system.store_url, Access.READ) as store, asyncio.timeout(DEADLINE_S):
            while not await store.numberings():  # something has come before the loss
                await asyncio.sleep(0.1)
        await system.headend.kill()
        at_kill = len(taken_in(system.outbox, "sent"))
        await until(lambda: len(taken_in(system.outbox, "sent")) > at_kill + 200)
        await asyncio.to_thread(system.broker.kill)
        await asyncio.to_thread(system.broker.start)
        await system.headend.start()
        log = tmp_path / "headend.log"
        await until(lambda: log.read_text().count("ready:") == 2)
        async with open_store(system.store_url, Access.READ) as store:
            lost = await missing(system, store)
            assert len(lost) > 20, "the broker has lost nothing, so nothing is shown"
            async with asyncio.timeout(DEADLINE_S):
                while not await intervals_missing(
                    store
                ):  # seen as soon as something newer has come
                    await asyncio.sleep(0.1)
                while not lost <= {identity for identity, _ in await stored(store, FEEDER_ID)}:
                    await asyncio.sleep(0.1)
                while any(gap.lives for gap in await store.gaps()):
                    await asyncio.sleep(0.1)
            ([_, _, numbering],) = await store.numberings()
            assert numbering.holes() == []
            asked = await store.commands()
            assert {(c.action, c.requested_by, c.state) for c in asked} == {
                (Action.RESEND, HEAD_END, CommandState.CONFIRMED)
            }
            assert {(gap.state, gap.missing) for gap in await store.gaps()} == {
                (GapState.CLOSED, 0)
            }
            assert (await store.totals()).conflicts == 0
            await system.gateway.stop()
            # A busy machine lets the gateway itself miss a poll: what was never read cannot come.
            unread = await intervals_unread(store, system.outbox)
            async with asyncio.timeout(DEADLINE_S):
                while await intervals_missing(store) > unread:
                    await asyncio.sleep(0.5)
        assert system.village.orders == []
        system.assert_sound()


async def intervals_missing(store: HeadEndStore) -> int:
    """Return how many intervals the day account misses, up to the last reading that has come."""
    last = await last_come(store)
    accounts = day_accounts(store, FEEDER_ID, [last.date()], now=just_settled(last))
    return missed([each async for each in accounts])


async def intervals_unread(store: HeadEndStore, outbox: Path) -> int:
    """Return how many intervals the gateway's own outbox misses, up to the same reading."""
    last = await last_come(store)
    arrivals = defaultdict[str, list[Arrival]](list)
    for meter, obis, told in sorted(taken_in(outbox), key=lambda identity: identity[2]):
        ts = datetime.fromisoformat(told)
        if obis == BILLING_REGISTER and ts.date() == last.date() and ts <= last:
            arrivals[meter].append(Arrival(to_ms(ts), lag_minutes=0, quality=Quality.GOOD))
    return missed(
        account(
            (FEEDER_ID, "", meter),
            last.date(),
            those,
            interval_s=BILLING_S,
            known_since=last,
            told=Told(),
            now=just_settled(last),
        )
        for meter, those in arrivals.items()
    )


async def last_come(store: HeadEndStore) -> datetime:
    """Return when the newest reading of the store was measured."""
    return max([row.last_ts for row in await store.meters(feeder_id=FEEDER_ID)])


def just_settled(last: datetime) -> datetime:
    """Return the moment at which the interval before this reading counts as over."""
    return last - timedelta(seconds=BILLING_S) + timedelta(seconds=SETTLED_AFTER_S)


def missed(accounts: Iterable[DayAccount]) -> int:
    """Return how many intervals are missing in all."""
    accounts = list(accounts)
    assert sum(each.expected or 0 for each in accounts) > 0
    return sum(each.missing or 0 for each in accounts)
