"""Settlements in the shape Odyssey pulls payments in, as far as it is published.

Published is what MicroPowerManager answers: ``{"payments": […], "errors": ""}`` for a range of time, with the
members below; for a meter it puts the serial in ``meterId`` and ``N/A`` in ``serialNumber``, and so do we. Not
published, and therefore not claimed: which members Odyssey needs, its ranges, its answer to a wrong one.

The head-end sells nothing: the only money it knows of are the trades its gateways settled. What a vending system
has taken is not here.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from babel.numbers import get_currency_precision

from openami.headend.commands import RECONCILE_DAYS, LedgerCommand
from openami.headend.exports.neutral import Places
from openami.headend.exports.pseudonyms import Pseudonyms
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.pages import PAGE_MAX, Key, Wanted
from openami.profile import utc_text
from openami.profile.command import CommandState
from openami.sip.actions import Action

# A hundred metres: enough to see the village, too little to see the house.
_POSITION_DECIMALS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentsAsked:
    """Which payments, and how much of whom."""

    since: datetime
    until: datetime
    """Not included."""
    feeders: frozenset[str] | None = None
    names: bool = False
    """Whether customers stand under their own ids and names, instead of pseudonyms."""
    positions: bool = False
    """Whether the pole's position is told, to three decimals."""


async def payments(
    store: HeadEndStore, asked: PaymentsAsked, pseudonyms: Pseudonyms
) -> dict[str, Any]:
    """Return the answer to a pull, newest first. Raises StoreError."""
    places = Places(store)
    told = [
        await _payment(command, asked, places, pseudonyms)
        async for command in _settled(store, asked)
    ]
    return {"payments": told, "errors": ""}


async def _settled(store: HeadEndStore, asked: PaymentsAsked) -> AsyncIterator[LedgerCommand]:
    # What ended unknown may be settled by what telemetry shows, so much later.
    wanted = Wanted(
        feeders=asked.feeders,
        since=asked.since - timedelta(days=RECONCILE_DAYS),
        until=asked.until,
    )
    after: Key | None = None
    while True:
        page = await store.commands_page(wanted, after=after, at_most=PAGE_MAX)
        for placed in page:
            command = placed.row
            if (
                command.action is Action.SETTLE
                and (command.resolved_as or command.state) is CommandState.CONFIRMED
                and asked.since <= settled_at(command) < asked.until
            ):
                yield command
        if len(page) < PAGE_MAX:
            return
        after = tuple(page[-1].key)


def settled_at(command: LedgerCommand) -> datetime:
    """Return when a confirmed settlement was known to be one."""
    at = command.resolved_at if command.resolved_as is not None else command.ended_at
    assert at is not None, "what is confirmed has ended"
    return at


async def _payment(
    command: LedgerCommand, asked: PaymentsAsked, places: Places, pseudonyms: Pseudonyms
) -> dict[str, Any]:
    at = settled_at(command)
    assets = await places.feeder(command.feeder_id)
    meter = assets.meter(command.meter_serial, at)
    customer = None if meter is None else assets.customer(meter.customer_id)
    pole = None if meter is None else assets.pole(meter.pole_id)
    currency = str(command.args["currency"])
    # Keys with no value are left out, as there.
    told = {
        "timestamp": utc_text(at),
        "amount": float(amount_of(int(command.args["amountMinor"]), currency)),
        "currency": currency,
        "transactionType": "FULL_PAYMENT",
        "transactionId": command.trade_id,
        "serialNumber": "N/A",
        "meterId": command.meter_serial,
        "customerId": None,
        "customerName": None,
        "latitude": None,
        "longitude": None,
    }
    if customer is not None:
        told["customerId"] = (
            customer.id if asked.names else pseudonyms.of(command.feeder_id, customer.id)
        )
        told["customerName"] = customer.name if asked.names else None
    if asked.positions and pole is not None and pole.latitude is not None:
        told["latitude"] = round(pole.latitude, _POSITION_DECIMALS)
        told["longitude"] = None if pole.longitude is None else round(pole.longitude, 3)
    return {name: value for name, value in told.items() if value is not None}


def amount_of(minor: int, currency: str) -> Decimal:
    """Return an amount in its currency's own unit: 1250 is 12.50 USD and 1250 UGX."""
    return Decimal(minor).scaleb(-get_currency_precision(currency))
