"""A house's energy goes on across a swap: its meters are one course, with what nobody read between them."""

from datetime import timedelta

import pytest
from tests.headend.decisions import FEEDER, register
from tests.headend.test_balancing import BEGIN, DAY, HOUR, NOW, described, hourly, meter

from openami.headend.assets import Counted, successions_of
from openami.headend.consumption import Known
from openami.headend.periods import Step
from openami.headend.place_energy import succession_energy, successions
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.energy import ACTIVE_IMPORT, SeriesEnergy
from openami.profile import Obis

SWAP = BEGIN + 10 * HOUR
EXPORT = Obis.parse("2.8.0")


@pytest.fixture
async def swapped(store: HeadEndStore) -> HeadEndStore:
    """The old meter is read until 09:30 and closed at 10:00; the new one, from 11:00 on, began with 5 kWh."""
    await described(
        store,
        meter("A", "c1", valid_to=SWAP, closing_kwh=100.0 + 10 * 0.8),
        meter("B", "c1", valid_from=SWAP, opening_kwh=5.0),
        meter("C", "c2"),
    )
    await store.commit(
        hourly("A", 0.8, range(10))
        + hourly("B", 0.8, range(11, 49), start=5.0 - 8.0)
        + hourly("C", 0.1, range(49))
        + hourly("X", 0.2, range(49))
    )
    return store


async def energies(
    store: HeadEndStore, step: Step = Step.DAY, obis: Obis = ACTIVE_IMPORT
) -> dict[str, SeriesEnergy]:
    assets = await store.assets(FEEDER)
    heard = [row.meter_serial for row in await store.meters(feeder_id=FEEDER)]
    found = {}
    for each in successions(assets, heard, BEGIN, BEGIN + 2 * DAY):
        energy = await succession_energy(
            *(store, FEEDER, each, BEGIN, BEGIN + 2 * DAY, step),
            zone=assets.feeder.zone,
            obis=obis,
        )
        if energy is not None:
            found[energy.meter_serial] = energy
    return found


async def test_two_meters_of_one_house_are_one_course(swapped: HeadEndStore) -> None:
    found = await energies(swapped)
    assert sorted(found) == ["B", "C", "X"]
    assert found["B"].total_wh == 48 * 800
    assert found["B"].wh == (24 * 800, 24 * 800)
    assert (found["C"].total_wh, found["X"].total_wh) == (4_800, 9_600)


async def test_what_nobody_measured_by_the_hour_is_spread_and_says_so(
    swapped: HeadEndStore,
) -> None:
    found = (await energies(swapped, Step.HOUR))["B"]
    assert set(found.wh) == {800}
    spread = [n for n, known in enumerate(found.known) if known is Known.SPREAD]
    assert spread == [9, 10]


async def test_of_other_registers_nobody_wrote_down_where_they_stood(store: HeadEndStore) -> None:
    await described(
        store,
        meter("A", "c1", valid_to=SWAP, closing_kwh=900.0),
        meter("B", "c1", valid_from=SWAP, opening_kwh=0.0),
    )
    fed_in = (register(3.0, EXPORT),)
    await store.commit(
        hourly("A", 0.8, range(10), more=fed_in) + hourly("B", 0.8, range(11, 49), more=fed_in)
    )
    assert (await energies(store, obis=EXPORT))["B"].total_wh == 0


async def test_a_meter_that_hangs_elsewhere_later_is_told_at_both_places(
    store: HeadEndStore,
) -> None:
    await described(
        store,
        meter("A", "c1", valid_to=SWAP),
        meter("A", "c2", valid_from=SWAP),
        meter("B", "c1", valid_from=SWAP),
    )
    await store.commit(hourly("A", 0.8, range(49)) + hourly("B", 0.5, range(10, 49)))
    assets = await store.assets(FEEDER)
    found = successions(assets, ["A", "B"], BEGIN, NOW)
    assert [[span.serial for span in each] for each in found] == [["A"], ["A", "B"]]


def test_meters_side_by_side_stay_apart_and_each_is_followed_by_its_own() -> None:
    def counted(serial: str, begin: int, end: int) -> Counted:
        return Counted(serial, BEGIN + begin * HOUR, BEGIN + end * HOUR, None, None)

    spans = [counted("A", 0, 4), counted("B", 0, 6), counted("A2", 4, 9), counted("B2", 7, 9)]
    found = successions_of(spans)
    assert [[span.serial for span in each] for each in found] == [["A", "A2"], ["B", "B2"]]
    apart = replace_end(spans[0], timedelta(minutes=1))
    assert len(successions_of([apart, spans[2]])) == 2, "for a minute both counted"


def replace_end(span: Counted, by: timedelta) -> Counted:
    return Counted(span.serial, span.begin, span.end + by, span.opening_kwh, span.closing_kwh)
