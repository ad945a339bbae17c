"""The shipped model files against SunSpec's tables, and our mapping against both and the register list."""

from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path

import pytest

from openami.gateway.drivers.modbus.sunspec import models
from openami.gateway.drivers.modbus.sunspec.layout import Discovery
from openami.gateway.drivers.modbus.sunspec.mapping import shipped_mapping
from openami.gateway.drivers.modbus.sunspec.models import (
    COMMON,
    METERS,
    POINT_TYPES,
    Model,
    Point,
    shipped_model,
)
from openami.profile import shipped_catalogue

_INTEGER = {"A": 2, "PhV": 7, "Hz": 16, "W": 18, "VA": 23, "VAR": 28, "PF": 33, "TotWh_SF": 54}
_INTEGER |= {"TotWhExp": 38, "TotWhImp": 46, "TotVArhImpQ1": 72, "Evt": 105}
_FLOAT = {"A": 2, "PhV": 10, "Hz": 26, "W": 28, "VA": 36, "VAR": 44, "PF": 52}
_FLOAT |= {"TotWhExp": 60, "TotWhImp": 68, "TotVArhImpQ1": 92, "Evt": 124}


def _values(model: Model) -> list[Point]:
    return [p for p in model.points.values() if p.name not in ("ID", "L") and p.type != "sunssf"]


@pytest.mark.parametrize("number", METERS)
def test_points_stand_where_sunspec_publishes_them(number: int) -> None:
    model = shipped_model(number)
    table, length = (_INTEGER, 105) if number < 210 else (_FLOAT, 124)
    assert model.length == length
    assert {name: model.points[name].offset for name in table} == table


def test_the_common_model_is_the_published_one() -> None:
    points = shipped_model(COMMON).points
    told = {name: (points[name].offset, points[name].words) for name in ("Mn", "Md", "SN", "DA")}
    assert told == {"Mn": (2, 16), "Md": (18, 16), "SN": (50, 16), "DA": (66, 1)}


@pytest.mark.parametrize("number", METERS)
def test_a_scale_factor_stands_behind_what_it_scales_within_one_read(number: int) -> None:
    """So a value and its factor are one field, and of one answer."""
    model = shipped_model(number)
    for point in _values(model):
        assert POINT_TYPES[point.type].number.words == point.words
        assert (point.scale_factor is not None) == (point.type in ("int16", "acc32")), point
        if point.scale_factor is not None:
            factor = model.points[point.scale_factor]
            assert factor.type == "sunssf"
            assert point.offset + point.words <= factor.offset < point.offset + 125


def test_the_files_are_the_alliances_own_unchanged() -> None:
    found = find_spec("sunspec2")
    assert found is not None
    assert found.submodule_search_locations is not None
    theirs = Path(found.submodule_search_locations[0]) / "models" / "json"
    ours = Path(models.__file__).parent / "models"
    names = {file.name for file in ours.iterdir()}
    assert names == {f"model_{number}.json" for number in (COMMON, *METERS)}
    for name in names:
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name


@pytest.mark.parametrize("number", METERS)
def test_every_point_is_read_or_left_out_for_a_reason(number: int) -> None:
    mapping = shipped_mapping()
    mapped = {register.point for register in mapping.registers}
    for point in _values(shipped_model(number)):
        reasons = [pattern for pattern in mapping.left_out if fnmatchcase(point.name, pattern)]
        assert (point.name in mapped) != bool(reasons), (point.name, reasons)


def test_the_mapping_names_no_point_that_no_model_has() -> None:
    mapping = shipped_mapping()
    names = {name for number in METERS for name in shipped_model(number).points}
    assert {register.point for register in mapping.registers} <= names
    for pattern in mapping.left_out:
        assert any(fnmatchcase(name, pattern) for name in names), pattern


def test_codes_and_units_are_those_of_the_register_list() -> None:
    infos = Discovery().registers
    assert {str(info.obis) for info in infos} >= {"1.8.0", "2.8.0", "1.7.0", "32.7.0", "31.7.0"}
    for info in infos:
        listed = shipped_catalogue().get(info.obis)
        assert listed is not None, info.obis
        assert info.unit == listed.unit, info.obis
        assert info.monotonic == listed.monotonic, info.obis


def test_a_unit_is_the_same_in_every_model() -> None:
    """What a meter can be asked for is fixed before its model is known."""
    for number in METERS:
        assert set(Discovery(model=number).registers) <= set(Discovery().registers)
