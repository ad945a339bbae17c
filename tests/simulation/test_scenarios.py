"""Stories as files: what can be told, and what is wrong with one that cannot."""

from pathlib import Path

import pytest

from openami.config_file import CONFIG_BYTES_MAX
from openami.simulator.world.faults import Fault, PowerCut, dice_faults, ends_at_h, kind_of
from openami.simulator.world.scenario import (
    ScenarioError,
    diced_village,
    load_scenario,
    read_scenario,
    scenario_names,
)


@pytest.mark.parametrize("name", scenario_names())
def test_every_story_that_ships_can_be_read_and_has_its_faults_within_its_days(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.fault
    assert max(map(ends_at_h, scenario.fault)) <= scenario.days * 24


def test_a_story_of_ones_own_is_read_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('title = "mine"\n[[fault]]\nkind = "power_cut"\nat_h = 1\nfor_h = 2\n')
    assert load_scenario(str(file)).fault == (PowerCut(at_h=1, for_h=2),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title = 1", "Expected `str`, got `int`"),
        ("days = 1", "missing required field `title`"),
        ('title = "x"\ndays = 0', "Expected `float` > 0.0"),
        ('title = "x"\nspeed = 1', "unknown field `speed`"),
        ('title = "x"\n[[fault]]\nkind = "flood"\nat_h = 1', "Invalid value 'flood'"),
        ('title = "x"\n[[fault]]\nat_h = 1', "fault[0]: kind is missing"),
        ('title = "x"\n[[fault]]\nkind = "power_cut"\nat_h = -1\nfor_h = 1', "`float` >= 0.0"),
        ('title = "x"\n[village]\ngateways = 51', "`int` <= 50"),
        ("title = ", "Invalid value"),
    ],
)
def test_what_is_wrong_with_a_story_is_said(text: str, said: str) -> None:
    with pytest.raises(ScenarioError, match=r"mine\.toml: ") as raised:
        read_scenario(text, where="mine.toml")
    assert said in str(raised.value)


def test_a_story_nobody_wrote_names_those_there_are() -> None:
    with pytest.raises(ScenarioError, match="known are clock-lost, "):
        load_scenario("monsoon")
    with pytest.raises(ScenarioError, match="No such file"):
        load_scenario("nowhere.toml")


def test_a_file_too_large_for_a_story_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "large.toml"
    file.write_bytes(b"#" * CONFIG_BYTES_MAX)
    with pytest.raises(ScenarioError, match="title"):
        load_scenario(str(file))
    file.write_bytes(b"#" * (CONFIG_BYTES_MAX + 1))
    with pytest.raises(ScenarioError, match="more than"):
        load_scenario(str(file))


def test_a_hundred_days_of_dice_throw_every_kind_of_fault_and_always_the_same() -> None:
    thrown = dice_faults(1, 100)
    assert {kind_of(fault) for fault in thrown} == {
        kind.__struct_config__.tag for kind in Fault.__args__
    }
    assert thrown == dice_faults(1, 100)
    assert thrown != dice_faults(2, 100)
    assert [fault.at_h for fault in thrown] == sorted(fault.at_h for fault in thrown)


def test_villages_differ_by_seed() -> None:
    assert len({diced_village(seed) for seed in range(50)}) > 10
    assert diced_village(7) == diced_village(7)
