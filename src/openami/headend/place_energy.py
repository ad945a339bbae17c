"""What each house of a feeder has counted, across the meters that hung there one after the other."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, tzinfo

from openami.headend.assets import SWAP_OBIS, Counted, FeederAssets
from openami.headend.bridging import one_course
from openami.headend.periods import Step
from openami.headend.store.energy import ACTIVE_IMPORT, EnergyStore, SeriesEnergy
from openami.profile import Obis

Succession = tuple[Counted, ...]


def successions(
    assets: FeederAssets, heard: Sequence[str], begin: datetime, end: datetime
) -> list[Succession]:
    """Return which of the meters that were heard followed whom, by the serial of the last; others stand alone."""
    known = set(heard)
    found = [
        each
        for each in assets.successions(begin, end)
        if any(span.serial in known for span in each)
    ]
    placed = {span.serial for each in found for span in each}
    alone = ((Counted(serial, begin, end, None, None),) for serial in known - placed)
    return sorted([*found, *alone], key=lambda each: (each[-1].serial, each[0].begin))


async def succession_energy(
    store: EnergyStore,
    feeder_id: str,
    succession: Succession,
    since: datetime,
    until: datetime,
    step: Step,
    *,
    zone: tzinfo,
    obis: Obis = ACTIVE_IMPORT,
) -> SeriesEnergy | None:
    """Return what meters counted together, by period; None where none of them has the register.

    Raises ValueError as the store does, and StoreError.
    """
    if str(obis) != SWAP_OBIS:  # nobody wrote the others down at a swap
        succession = tuple(replace(span, opening_kwh=None, closing_kwh=None) for span in succession)
    rows: dict[str, SeriesEnergy] = {}
    for serial in dict.fromkeys(span.serial for span in succession):
        for row in await store.energy(
            feeder_id, since, until, step, zone=zone, obis=obis, meter_serial=serial
        ):
            rows[serial] = row
    return one_course(succession, rows)
