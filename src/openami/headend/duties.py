"""What is done once for a whole village, beside taking what comes: by one head-end, whatever number there are.

Each duty is a task for ever. Where several head-ends share the feeders they are all one worker's, the holder of the
rest, and its store is fenced: who has lost the rest can write nothing in any of them (decision 0073).
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import structlog

from openami.clock import Clock
from openami.headend.alarm_watch import AlarmWatch
from openami.headend.broker_link import BrokerLink
from openami.headend.bulk_work import BulkWork
from openami.headend.closing import Closing
from openami.headend.config import HeadendConfig
from openami.headend.downlink import Downlink
from openami.headend.folding import Folding
from openami.headend.gap_life import Patience
from openami.headend.new_ids import new_id
from openami.headend.resending import Resending
from openami.headend.retention import Retention
from openami.headend.statistics import Statistics
from openami.headend.store import StoreError
from openami.headend.store.commands import HeadEndStore
from openami.headend.tracing import Tracing
from openami.headend.uplink import why
from openami.mqtt.backoff import Backoff

# One head-end asks one broker and one database, so neither has to be spared for long; and every second
# that they are back and we are not is a second of lateness for the whole village.
RETRY_CEILING_S: Final = 15.0
# Rejected messages expire by the day, readings by the month; once an hour is soon enough.
PRUNE_INTERVAL_S: Final = 3600.0

_log = structlog.get_logger("headend")


@dataclass(frozen=True, slots=True)
class Premises:
    """What the duties work on."""

    config: HeadendConfig
    store: HeadEndStore
    clock: Clock
    statistics: Statistics
    link: Callable[[], BrokerLink]
    """To the broker, as far as everything is heard by it."""


def duties(
    premises: Premises, downlink: Downlink | None
) -> Mapping[str, Coroutine[Any, Any, None]]:
    """Return every duty by its name, each to be run as a task; without a downlink nothing is commanded."""
    store, clock = premises.store, premises.clock
    resending = _resending(premises, can_command=downlink is not None)
    found: dict[str, Coroutine[Any, Any, None]] = {
        "prune": _prune_hourly(premises, resending),
        "resending": resending.run(),
        "alarms": AlarmWatch(store, clock, premises.link).run(),
        "energy": Folding(store).run(),
    }
    after_days = premises.config.close_after_days()
    if after_days is not None:
        closing = Closing(store, clock, after_days=after_days)
        premises.statistics.closing = lambda: closing.seen
        found["closing"] = closing.run()
    if downlink is not None:
        bulk = BulkWork(
            store,
            clock,
            new_id=new_id,
            disconnects_per_hour_max=premises.config.disconnects_per_hour_max,
        )
        found |= {"downlink": downlink.run(), "bulk": bulk.run()}
    return found


def downlink_of(
    config: HeadendConfig, store: HeadEndStore, clock: Clock, tracing: Tracing
) -> Downlink | None:
    """Return what commands, where a key to command with is configured. Raises ConfigError."""
    keys = config.keys()
    if keys is None:
        return None
    signer, roots = keys
    return Downlink(
        store,
        signer,
        roots,
        clock=clock,
        new_id=new_id,
        disconnects_per_hour_max=config.disconnects_per_hour_max,
        tracing=tracing,
    )


def patient() -> Backoff:
    """Return how long to wait for a broker or a database between two attempts."""
    return Backoff(random.random, ceiling_s=RETRY_CEILING_S)


def _resending(premises: Premises, *, can_command: bool) -> Resending:
    """Return what asks for missing readings; without a key to command with, it only says what is missing."""
    grace = timedelta(seconds=premises.config.completeness.grace_s)
    return Resending(
        premises.store,
        clock=premises.clock,
        new_id=new_id,
        can_command=can_command,
        patience=Patience(grace=grace),
    )


async def _prune_hourly(premises: Premises, resending: Resending) -> None:
    store, clock = premises.store, premises.clock
    keep_months = premises.config.retention.readings_keep_months
    retention = keep_months and Retention(store, clock=clock, keep_months=keep_months)
    await _make_months(store, clock)
    while True:
        await asyncio.sleep(PRUNE_INTERVAL_S)
        try:
            premises.statistics.pruned += await store.prune(clock.now())
            await resending.prune()
            await store.prune_accounts(clock.now())
        except StoreError as error:  # the stream will meet the same error and act on it
            _log.warning("what is beyond its bounds was not pruned", **why(error))
        await _make_months(store, clock)
        if retention:
            await _remove_old(retention, premises.statistics)


async def _make_months(store: HeadEndStore, clock: Clock) -> None:
    """Make room for the month to come; whatever is missing then, a commit makes."""
    try:
        await store.make_months(clock.now())
    except StoreError as error:
        _log.warning("there is no room made for the readings of the next month", **why(error))


async def _remove_old(retention: Retention, statistics: Statistics) -> None:
    try:
        await retention.remove()
    except StoreError as error:  # what was decided stands in the store: the next look goes on
        _log.warning("old readings were not removed", **why(error))
    finally:
        statistics.readings_removed = retention.removed.readings
