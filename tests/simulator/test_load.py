"""Load shapes: what is shipped, and how a day is found in it."""

import pytest

from openami.simulator.load import (
    MINUTES_PER_DAY,
    LoadClass,
    LoadShape,
    load_shapes,
    parse_shapes,
)


@pytest.mark.parametrize("load_class", LoadClass)
def test_every_class_has_variants_that_differ(load_class: LoadClass) -> None:
    shapes = load_shapes(load_class)
    assert len(shapes) == len(set(shapes)) == 4
    for shape in shapes:
        assert all(len(day) == MINUTES_PER_DAY for day in (*shape.weekdays, *shape.sundays))
        assert all(min(day) >= 0 for day in shape.weekdays)
        assert sum(sum(day) for day in shape.weekdays) > 0


def test_the_mill_rests_on_sunday() -> None:
    for shape in load_shapes(LoadClass.MILL):
        assert max(max(day) for day in shape.sundays) < 200
        assert max(max(day) for day in shape.weekdays) > 2000


def test_a_day_is_found_by_its_date() -> None:
    """1970 began on a Thursday: day 3 is a Sunday, day 10 the next; the other days take turns."""
    shape = LoadShape(
        weekdays=tuple((day,) * MINUTES_PER_DAY for day in (1, 2)),
        sundays=((9,) * MINUTES_PER_DAY,),
    )
    found = [shape.power_w(day * MINUTES_PER_DAY) for day in range(12)]
    assert found == [1, 2, 1, 9, 1, 2, 1, 2, 1, 2, 9, 2]


def test_a_minute_is_found_within_the_day() -> None:
    shape = LoadShape(weekdays=(tuple(range(MINUTES_PER_DAY)),), sundays=((0,),))
    assert shape.power_w(0) == 0
    assert shape.power_w(MINUTES_PER_DAY - 1) == MINUTES_PER_DAY - 1
    assert shape.power_w(MINUTES_PER_DAY) == 0


def content(minutes: int, heading: str = "minute,1wd1,1we1") -> str:
    return "\n".join([heading, *(f"{minute},5,6" for minute in range(minutes))])


def test_a_file_has_every_minute_of_the_day() -> None:
    assert parse_shapes(content(MINUTES_PER_DAY))[0].power_w(0) == 5
    with pytest.raises(ValueError, match="one row for each"):
        parse_shapes(content(MINUTES_PER_DAY - 1))
    with pytest.raises(ValueError, match="one row for each"):
        parse_shapes(content(MINUTES_PER_DAY + 1))


def test_a_variant_has_weekdays_and_sundays() -> None:
    with pytest.raises(ValueError, match="weekdays and Sundays"):
        parse_shapes(content(MINUTES_PER_DAY, heading="minute,1wd1,2we1"))
