"""Bulk disconnections carried out: their commands asked for one by one, at the pace that is configured.

It enters requests into the ledger and nothing else; the downlink signs and sends them as any other. Killed at any
moment, it goes on where the store says it is.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Final

import structlog

from openami.clock import Clock
from openami.headend.bulk import Bulk, BulkMeter, BulkState, finished, lapsed, withdrawn
from openami.headend.bulk_preview import FeederFacts
from openami.headend.commands import BUDGET_WINDOW, Change, LedgerCommand
from openami.headend.commands import withdrawn as command_withdrawn
from openami.headend.keyrings import named_disconnects_per_hour, protected_by
from openami.headend.ordering import Order, new_command
from openami.headend.store import ROWS_MAX, StoreError
from openami.headend.store.commands import Around, HeadEndStore, StoredKeyring
from openami.headend.store.pages import PAGE_MAX, Wanted
from openami.profile import Obis
from openami.sip.actions import RELAY_STATE_OBIS, Action
from openami.sip.keyring import ANY

# Two people watch the first house go dark; while nothing runs, a look is one question by index.
LOOK_S: Final = 1.0
_RELAY: Final = Obis.parse(RELAY_STATE_OBIS)

_log = structlog.get_logger("headend.bulk")


class BulkWork:
    """Looks every LOOK_S. The store's failures are the stream's to deal with: here they are only waited out."""

    def __init__(
        self,
        store: HeadEndStore,
        clock: Clock,
        *,
        new_id: Callable[[str], str],
        disconnects_per_hour_max: int,
    ) -> None:
        self._store = store
        self._clock = clock
        self._new_id = new_id
        self._per_hour = disconnects_per_hour_max

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self.look()
            except StoreError as error:
                _log.warning("bulk disconnections wait", reason=str(error), remedy=error.remedy)
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Ask for as many as may be asked for now, the oldest proposal's first. Raises StoreError."""
        for bulk in reversed(await self._store.bulks(only_open=True)):
            if bulk.state is BulkState.RUNNING:
                await self._go_on(bulk)
            else:
                await self._lapse(bulk)

    async def _lapse(self, bulk: Bulk) -> None:
        now = self._clock.now()
        if lapsed(bulk, now) is not None:
            await self._store.change_bulk(bulk.id, lambda found: lapsed(found, now), now)

    async def _go_on(self, bulk: Bulk) -> None:
        meters = await self._store.bulk_meters(bulk.id)
        waiting = [meter for meter, _ in meters if not meter.is_settled]
        rooms = await self._rooms(bulk, {meter.gateway_id for meter in waiting})
        for meter in waiting:
            if rooms.get(meter.gateway_id, 1) <= 0:
                continue
            if not await self._asked(bulk, meter):
                break
            if meter.gateway_id in rooms:
                rooms[meter.gateway_id] -= 1
        now = self._clock.now()
        meters = await self._store.bulk_meters(bulk.id)
        if all(meter.is_settled and not (told and told.is_open) for meter, told in meters):
            await self._store.change_bulk(bulk.id, lambda found: finished(found, now), now)

    async def _asked(self, bulk: Bulk, meter: BulkMeter) -> bool:
        now = self._clock.now()
        new = new_command(
            Order(
                feeder_id=bulk.feeder_id,
                gateway_id=meter.gateway_id,
                meter_serial=meter.meter_serial,
                action=Action.DISCONNECT,
                args={},
                reason=f"{bulk.reason} ({bulk.id})",
            ),
            command_id=self._new_id("cmd"),
            by=bulk.requested_by,
            idempotency_key=f"{bulk.id}:{meter.position}",
            now=now,
        )
        return await self._store.ask_for_meter(meter, new, now, per_hour=self._per_hour)

    async def _rooms(self, bulk: Bulk, gateways: Collection[str]) -> dict[str, int]:
        """Return how many more each gateway would cut off within the hour, where its keyring says so.

        What it would refuse is not asked for: a refusal is an end, and nobody would ask again.
        """
        wanted = Wanted(
            feeders=frozenset({bulk.feeder_id}), since=self._clock.now() - BUDGET_WINDOW
        )
        page = await self._store.commands_page(wanted, after=None, at_most=PAGE_MAX)
        lately = Counter(
            each.row.gateway_id for each in page if each.row.action is Action.DISCONNECT
        )
        keyrings = await self._store.keyrings(bulk.feeder_id)
        found = {}
        for gateway in gateways:
            document = _newest(keyrings, gateway)
            most = None if document is None else named_disconnects_per_hour(document)
            if most is not None:
                found[gateway] = most - lately[gateway]
        return found


def _newest(keyrings: Sequence[StoredKeyring], gateway_id: str) -> bytes | None:
    """Return the newest keyring that concerns a gateway."""
    own = [each for each in keyrings if each.gateway_id in (gateway_id, ANY)]
    return max(own, key=lambda each: each.version).document if own else None


async def feeder_facts(store: HeadEndStore, feeder_id: str, clock: Clock) -> FeederFacts:
    """Return what a preview of a feeder looks at. Raises StoreError."""
    today = await store.today(feeder_id, clock.now(), registers=(_RELAY,))
    keyrings = await store.keyrings(feeder_id)
    newest = {
        gateway: _newest(keyrings, gateway) for gateway in {each.meter.gateway_id for each in today}
    }
    open_ones = await store.commands(feeder_id=feeder_id, only_open=True, at_most=ROWS_MAX)
    return FeederFacts(
        meters={each.meter.meter_serial: each.meter for each in today},
        assets=await store.assets(feeder_id),
        relays={
            each.meter.meter_serial: each.latest[_RELAY] for each in today if _RELAY in each.latest
        },
        protected={
            gateway: protected_by(document)
            for gateway, document in newest.items()
            if document is not None
        },
        asked={each.meter_serial for each in open_ones if each.action is Action.DISCONNECT},
    )


async def stop(store: HeadEndStore, bulk_id: str, *, who: str, clock: Clock) -> Bulk | None:
    """Withdraw a bulk disconnection, and each of its commands that is not sent yet; None if there is none.

    Raises BulkRefused and StoreError.
    """
    now = clock.now()
    after = await store.change_bulk(bulk_id, lambda bulk: withdrawn(bulk, who=who, now=now), now)
    if after is None:
        return None

    def call_back(found: LedgerCommand, _: Around) -> Change | None:
        return command_withdrawn(found, now, who=who)

    for _meter, command in await store.bulk_meters(bulk_id):
        if command is not None and command.is_open:
            await store.change_command(command.id, call_back, now)
    return after
