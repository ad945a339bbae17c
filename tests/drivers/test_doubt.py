"""Doubt ends by an answer or by time, and never by being asked about."""

from openami.gateway.drivers.modbus.doubt import Doubt
from openami.gateway.drivers.modbus.register_map import Area

_SHAPE = (Area.HOLDING, 4)
_OTHER = (Area.INPUT, 2)
_LATE_S = 120.0


def test_a_shape_is_in_doubt_until_its_answer_came() -> None:
    doubt = Doubt(_LATE_S)
    doubt.asked(_SHAPE, 0.0)
    assert doubt.shapes(1.0) == {_SHAPE}
    doubt.answered(_SHAPE)
    assert doubt.shapes(1.0) == frozenset()


def test_or_until_no_answer_can_come_any_more() -> None:
    doubt = Doubt(_LATE_S)
    doubt.asked(_SHAPE, 10.0)
    assert doubt.shapes(10.0 + _LATE_S - 0.001) == {_SHAPE}
    assert doubt.shapes(10.0 + _LATE_S) == frozenset()


def test_it_lasts_until_the_last_shape_is_out_of_it() -> None:
    doubt = Doubt(_LATE_S)
    doubt.asked(_SHAPE, 0.0)
    doubt.asked(_OTHER, 30.0)
    assert doubt.lasts_s(40.0) == 110.0
    doubt.answered(_OTHER)
    assert doubt.lasts_s(40.0) == 80.0


def test_asked_when_it_has_just_ended_it_lasts_no_longer() -> None:
    doubt = Doubt(_LATE_S)
    assert doubt.lasts_s(5.0) == 0.0
    doubt.asked(_SHAPE, 0.0)
    assert doubt.lasts_s(_LATE_S + 5.0) == 0.0


def test_an_exception_could_be_late_only_in_the_same_area() -> None:
    doubt = Doubt(_LATE_S)
    doubt.asked(_SHAPE, 0.0)
    assert doubt.in_area(Area.HOLDING, 1.0)
    assert not doubt.in_area(Area.INPUT, 1.0)
