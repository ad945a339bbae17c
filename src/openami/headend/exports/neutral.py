"""Our own table of readings, one row a register value: the same columns in CSV, JSON Lines and Parquet.

It is what our other exports are made of, and stays as it is: columns are added at the end, never changed.
"""

import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from typing import Final

from openami.headend.assets import FeederAssets, Meter
from openami.headend.exports.pseudonyms import Pseudonyms
from openami.headend.store import MeterRow, Reading
from openami.headend.store.assets import AssetStore
from openami.profile import utc_text

Cell = str | float | int | bool | None
TableRow = Mapping[str, Cell]

COLUMNS: Final = {
    "feeder_id": "the feeder",
    "pole_id": "the pole the meter hung on when it was read; empty when nobody has said",
    "gateway_id": "the gateway through which the meter spoke last",
    "meter_serial": "the meter's serial",
    "customer_ref": "the customer it supplied then, under a pseudonym",
    "obis": "the register, by its reduced OBIS code",
    "unit": "the unit",
    "event_time_utc": "measured time",
    "value": "the value, when it is a number",
    "value_text": "the value, when it is a word",
    "quality": "good, suspect or comms_lost",
    "received_at_utc": "when the head-end received it",
    "record_hash": "SHA-256 over identity, value, unit and quality: equal rows have equal hashes",
}
# 128 bits are enough to tell rows apart, and half of the file's size less.
_HASH_DIGITS: Final = 32


class Places:
    """Where meters hung, asked of the store once for each feeder."""

    def __init__(self, store: AssetStore) -> None:
        self._store = store
        self._assets: dict[str, FeederAssets] = {}
        self._meters: dict[tuple[str, str], list[Meter]] = {}

    async def feeder(self, feeder_id: str) -> FeederAssets:
        """Return a feeder's assets. Raises StoreError."""
        known = self._assets.get(feeder_id)
        if known is None:
            known = self._assets[feeder_id] = await self._store.assets(feeder_id)
            for meter in known.meters:
                self._meters.setdefault((feeder_id, meter.serial), []).append(meter)
        return known

    async def placements(self, feeder_id: str, serial: str) -> Sequence[Meter]:
        """Return where a serial hung, by time. Raises StoreError."""
        await self.feeder(feeder_id)
        return self._meters.get((feeder_id, serial), ())


async def neutral_rows(
    readings: AsyncIterable[tuple[MeterRow, Reading]], places: Places, pseudonyms: Pseudonyms
) -> AsyncIterator[TableRow]:
    """Yield readings as rows of the table."""
    async for meter, reading in readings:
        placements = await places.placements(reading.feeder_id, reading.meter_serial)
        at = next((each for each in placements if each.counts_at(reading.ts)), None)
        customer = None if at is None else pseudonyms.of(reading.feeder_id, at.customer_id)
        is_text = isinstance(reading.value, str)
        yield {
            "feeder_id": reading.feeder_id,
            "pole_id": None if at is None else at.pole_id,
            "gateway_id": meter.gateway_id,
            "meter_serial": reading.meter_serial,
            "customer_ref": customer,
            "obis": str(reading.obis),
            "unit": reading.unit,
            "event_time_utc": utc_text(reading.ts),
            "value": None if isinstance(reading.value, str) else reading.value,
            "value_text": str(reading.value) if is_text else None,
            "quality": str(reading.quality),
            "received_at_utc": utc_text(reading.received_at),
            "record_hash": record_hash(reading),
        }


def record_hash(reading: Reading) -> str:
    """Return what tells a row from every other, and from its own later correction."""
    said = "\0".join(
        (
            reading.feeder_id,
            reading.meter_serial,
            str(reading.obis),
            utc_text(reading.ts),
            type(reading.value).__name__,
            repr(reading.value),
            reading.unit,
            str(reading.quality),
        )
    )
    return hashlib.sha256(said.encode()).hexdigest()[:_HASH_DIGITS]
