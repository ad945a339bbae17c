"""The simulated village is described as an operator would describe it."""

import json
from datetime import UTC, datetime

import pytest

from openami.headend.assets import Feeder, FeederAssets, MeterRole
from openami.headend.assets.files import read_assets
from openami.headend.assets.geojson import geojson_of
from openami.headend.assets.importing import plan
from openami.profile import FeederId
from openami.simulator.load import LoadClass
from openami.simulator.scenario import village_tonight
from openami.simulator.village import serials
from openami.simulator.village_assets import village_assets

FEEDER = FeederId("demo")


@pytest.mark.parametrize("hour", [0, 3, 6, 12, 19, 23])
def test_every_meter_hangs_on_a_pole_and_the_whole_would_be_let_in(hour: int) -> None:
    now = datetime(2026, 6, 22, hour, 40, tzinfo=UTC)
    village = village_tonight(meters=80, seed=hour, now=now)
    assets = village_assets(village, FEEDER)
    assert {meter.serial for meter in assets.meters} == set(serials(village))
    assert assets.head_meters(now) == (village.head_serial,)
    assert {m.serial for m in assets.meters if m.protected} == {
        c.serial for c in village.customers if c.load_class is LoadClass.CLINIC
    }
    # About seven in the evening there.
    assert abs(now.astimezone(assets.feeder.zone).hour - 19) <= 1
    drafts, faults = read_assets(json.dumps(geojson_of(assets)).encode(), "village")
    unknown = {str(FEEDER): FeederAssets(feeder=Feeder(id=FEEDER, name=FEEDER))}
    found = plan(drafts, faults, unknown, assets.tariffs)
    assert not found.faults
    assert len(found.after[0].poles) == len(assets.poles)
    assert all(m.role is MeterRole.HEAD or m.customer_id for m in found.after[0].meters)


def test_one_seed_is_one_village() -> None:
    now = datetime(2026, 6, 22, tzinfo=UTC)
    one, again, other = (
        village_assets(village_tonight(meters=20, seed=seed, now=now), FEEDER) for seed in (1, 1, 2)
    )
    assert one == again
    assert one != other
