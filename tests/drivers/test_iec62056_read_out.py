"""What a block's data mean: data sets, units, times, current and past values, registers of the list."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.gateway.drivers.iec62056.data_sets import (
    DATA_SETS_MAX,
    LINE_CHARS_MAX,
    DataSet,
    Value,
    read_data_sets,
)
from openami.gateway.drivers.iec62056.errors import UnfitAnswer, WrongValue
from openami.gateway.drivers.iec62056.forms import FORMS_MAX, Forms, form_of
from openami.gateway.drivers.iec62056.map_files import load_map
from openami.gateway.drivers.iec62056.meter_map import read_map
from openami.gateway.drivers.iec62056.read_out import ReadOut, understood
from openami.gateway.drivers.iec62056.times import Zone, read_time, read_time_of_two
from openami.gateway.drivers.iec62056.units import in_unit
from openami.profile import Obis

MAP = load_map("generic-single-phase")


def data(*lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in (*lines, "!")).encode("ascii")


def read(*lines: str, zone: Zone | None = None) -> ReadOut:
    return understood(data(*lines), MAP, zone or Zone())


def values(*lines: str, zone: Zone | None = None) -> dict[str, object]:
    return {str(obis): told.value for obis, told in read(*lines, zone=zone).readings.items()}


# --- data sets -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("1.8.0(001842.50*kWh)", [DataSet("1.8.0", (Value("001842.50", "kWh"),))]),
        ("F.F(00000000)", [DataSet("F.F", (Value("00000000"),))]),
        (
            "1.8.0(1*kWh)1.8.1(2*kWh)",
            [DataSet("1.8.0", (Value("1", "kWh"),)), DataSet("1.8.1", (Value("2", "kWh"),))],
        ),
        (
            "1.6.0(01.234*kW)(2605011530)",
            [DataSet("1.6.0", (Value("01.234", "kW"), Value("2605011530")))],
        ),
        ("0.2.0()", [DataSet("0.2.0", (Value(""),))]),
        ("1-0:1.8.0*255(7*Wh)", [DataSet("1-0:1.8.0*255", (Value("7", "Wh"),))]),
        ("P.01(1)(2)(3)", [DataSet("P.01", (Value("1"), Value("2"), Value("3")))]),
    ],
)
def test_a_line_holds_data_sets(line: str, expected: list[DataSet]) -> None:
    assert list(read_data_sets(data(line))) == expected


@pytest.mark.parametrize(
    "line",
    [
        "",
        "1.8.0",
        "1.8.0(1",
        "1.8.0 1)",
        "(1*kWh)",
        "1.8.0((1*kWh)",
        "1.8.0(1*kWh))",
        "1.8.0(1*kWh) ",
        " 1.8.0(1*kWh)",
        "1.8.0(1\t2)",
        "1.8.0(1!2)",
        "1.8.0(1*kWh)x",
        "1.8.0(" + "1" * 129 + ")",
        "1" * 23 + "(1)",
        "1.8.0(1)" * (LINE_CHARS_MAX // 8) + "F.F(0)",
    ],
)
def test_a_line_that_is_not_well_formed_is_left_out_whole(line: str) -> None:
    assert list(read_data_sets(data(line, "2.8.0(3*kWh)"))) == [
        DataSet("2.8.0", (Value("3", "kWh"),))
    ]


@pytest.mark.parametrize(
    "octets", [b"", b"!", b"1.8.0(1)\r\n", b"1.8.0(1)\r\n!", b"1.8.0(1)!\r\n", b"!\r\n1.8.0(1)\r\n"]
)
def test_data_end_in_a_line_of_their_own(octets: bytes) -> None:
    with pytest.raises(UnfitAnswer, match="do not end"):
        read_data_sets(octets)


def test_the_data_sets_have_a_bound() -> None:
    many = ["A(1)" * 100] * (DATA_SETS_MAX // 100)
    assert len(read_data_sets(data(*many))) == DATA_SETS_MAX
    with pytest.raises(UnfitAnswer, match="2000"):
        read_data_sets(data(*many, "A(1)"))


_code = st.sampled_from(["1.8.0", "1-0:1.8.0*255", "1.8.0*01", "1.8.0&99", "F.F", "P.01", "0"])
_text = st.text([chr(code) for code in range(32, 127) if chr(code) not in "()!*"], max_size=20)
_value = st.builds(Value, _text, _text)
_data_set = st.builds(DataSet, _code, st.lists(_value, min_size=1, max_size=3).map(tuple))


@given(st.lists(_data_set, max_size=8))
def test_what_is_written_is_read(data_sets: list[DataSet]) -> None:
    lines = [
        told.code + "".join(f"({value.text}*{value.unit})" for value in told.values)
        for told in data_sets
    ]
    assert list(read_data_sets(data(*lines))) == data_sets


@given(st.binary(max_size=300))
def test_anything_is_data_sets_or_unfit(octets: bytes) -> None:
    try:
        told = understood(octets + b"\r\n!\r\n", MAP, Zone(330))
    except UnfitAnswer:
        return
    assert set(told.readings) | set(told.left_out) <= set(MAP.registers)


# --- registers -----------------------------------------------------------------------------------


def test_a_read_out_of_a_meter_in_use_is_understood() -> None:
    told = values(
        "0-0:C.1.0(72432595)",
        "0-0:1.0.0(2021-07-12 22:20:17)",
        "1-0:1.8.0(00000000001.329*kWh)",
        "1-0:1.8.0*101(00000000001.329*kWh)",
        "1-0:1.8.1(00000000001.329*kWh)",
        "1-0:1.8.2(00000000000.000*kWh)",
        "1-0:2.8.0(00000000000.501*kWh)",
        zone=Zone(60),
    )
    assert told == {
        "96.1.0": "72432595",
        "1.0.0": "2021-07-12T21:20:17+00:00",
        "1.8.0": Decimal("1.329"),
        "1.8.1": Decimal("1.329"),
        "1.8.2": Decimal(0),
        "2.8.0": Decimal("0.501"),
    }


@pytest.mark.parametrize("code", ["1.8.0", "1-0:1.8.0", "1-0:1.8.0*255", "1.8.0*255", "01.08.00"])
def test_a_code_is_the_same_in_its_spellings(code: str) -> None:
    assert values(f"{code}(5.5*kWh)") == {"1.8.0": Decimal("5.5")}


@pytest.mark.parametrize(
    "code", ["1.8.0*01", "1.8.0&01", "1-0:1.8.0*12", "1-0:1.8.0&99", "1.8.0*00"]
)
def test_a_past_period_is_never_the_current_value(code: str) -> None:
    assert "1.8.0" not in values(f"{code}(9.9*kWh)", "2.8.0(1*kWh)")
    assert values("1.8.0(5.5*kWh)", f"{code}(9.9*kWh)") == {"1.8.0": Decimal("5.5")}
    assert values(f"{code}(9.9*kWh)", "1.8.0(5.5*kWh)") == {"1.8.0": Decimal("5.5")}


@pytest.mark.parametrize("code", ["0-1:1.8.0", "1-1:1.8.0", "1.80", "1.8", "X.8.0", "1.8.0.0"])
def test_another_code_is_another_data_set(code: str) -> None:
    assert "1.8.0" not in values(f"{code}(9.9*kWh)", "2.8.0(1*kWh)")


@pytest.mark.parametrize("code", ["F.F", "97.97.0", "0-0:97.97.0*255", "F.F.0"])
def test_the_error_register_is_a_text(code: str) -> None:
    assert values(f"{code}(00000040)") == {"0-0:97.97.0*255": "00000040"}


@pytest.mark.parametrize(
    ("lines", "identity"),
    [
        (["C.1.0(7)", "0.0.0(8)"], "7"),
        (["0.0.0(8)"], "8"),
        (["96.1.0(9)", "0.0.0(8)"], "9"),
        (["0-0:96.1.0*255(9)"], "9"),
        (["1-0:0.0.0*255( 8 )"], "8"),
        (["C.1.0(7)", "C.1.0(7)"], "7"),
        (["C.1.0(7)", "C.1.0(8)", "0.0.0(7)"], None),
        (["C.1.1(7)"], None),
    ],
)
def test_a_meter_tells_who_it_is(lines: list[str], identity: str | None) -> None:
    assert read(*lines).identity == identity


def test_a_register_that_stands_twice_with_two_values_has_none() -> None:
    told = read("1.8.0(5*kWh)", "1.8.0(6*kWh)", "2.8.0(1*kWh)", "2.8.0(1*kWh)")
    assert [str(obis) for obis in told.readings] == ["2.8.0"]
    assert "twice" in told.left_out[Obis.parse("1.8.0")]


def test_of_several_values_the_first_is_the_registers() -> None:
    assert values("1.6.0(01.234*kW)(2605011530)(9*kW)") == {"1.6.0": Decimal("1.234")}


@pytest.mark.parametrize("empty", ["", "  ", "----.--", "-"])
def test_an_empty_place_gives_no_value_and_no_complaint(empty: str) -> None:
    told = read(f"1.8.0({empty}*kWh)", "2.8.0(1*kWh)")
    assert Obis.parse("1.8.0") not in {**told.readings, **told.left_out}


@pytest.mark.parametrize(
    "text", ["1,5", "1.5.0", "1e5", "0x10", "½", "1 2", "+", "--1", "1" * 16, "1." + "1" * 10]
)
def test_what_is_no_number_is_left_out(text: str) -> None:
    told = understood(f"1.8.0({text}*kWh)\r\n!\r\n".encode("latin-1"), MAP, Zone())
    assert Obis.parse("1.8.0") in told.left_out
    assert not told.readings


# --- units ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "told", "wanted", "expected"),
    [
        ("001842500", "Wh", "kWh", "1842.500"),
        ("1.8425", "MWh", "kWh", "1842.5"),
        ("1842.50", "kWh", "kWh", "1842.50"),
        ("1842.50", "KWH", "kWh", "1842.50"),
        ("12", "kVArh", "kvarh", "12"),
        ("999999999999999.999999999", "Wh", "kWh", "999999999999.999999999999"),
        ("-250", "W", "kW", "-0.250"),
        ("0.2301", "kV", "V", "230.1"),
        ("4200", "mA", "A", "4.2"),
        ("50.01", "HZ", "Hz", "50.01"),
        ("0.95", "", "1", "0.95"),
        ("3", "", "count", "3"),
        ("21.5", "°C", "°C", "21.5"),
    ],
)
def test_a_number_is_told_in_the_lists_unit_exactly(
    number: str, told: str, wanted: str, expected: str
) -> None:
    assert in_unit(Decimal(number), told, wanted) == Decimal(expected)


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ("kW", "kWh"),
        ("kvarh", "kWh"),
        ("", "kWh"),
        ("mWh", "kWh"),
        ("m3", "kWh"),
        ("kWh", "1"),
        ("V", "A"),
        ("%", "1"),
    ],
)
def test_another_quantity_is_refused(told: str, wanted: str) -> None:
    with pytest.raises(WrongValue, match="tells"):
        in_unit(Decimal(1), told, wanted)


def test_a_meter_that_writes_no_unit_has_its_maps() -> None:
    assert values("12.7.0(230.1)", "31.7.0(4.2)") == {
        "32.7.0": Decimal("230.1"),
        "31.7.0": Decimal("4.2"),
    }
    wh = read_map(
        'id = "m"\nvendor = "v"\nmodel = "m"\nsource = ["s"]\ncertainty = "field"\n'
        '[[register]]\nobis = "1.8.0"\nunit = "kWh"\ntold_unit = "Wh"\n'
    )
    [told] = understood(data("1.8.0(1842500)"), wh, Zone()).readings.values()
    assert told.value == Decimal("1842.5")


# --- times ---------------------------------------------------------------------------------------

NOON = datetime(2026, 6, 22, 12, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("260622120005", 0),
        ("20260622120005", 0),
        ("2026-06-22 12:00:05", 0),
        ("26-06-22 17:30:05", 330),
        ("2606221730 05".replace(" ", ""), 330),
        ("1260622140005", 60),
        ("0260622130005", 60),
        ("2260622120005", 60),
        ("260622140005S", 60),
        ("260622130005W", 60),
        ("26.06.22,12:00:05", 0),
        ("2026/06/22T12:00:05", 0),
    ],
)
def test_a_time_is_understood_in_the_meters_zone(text: str, offset: int) -> None:
    assert read_time(text, Zone(offset)) == NOON


@pytest.mark.parametrize(
    ("date", "clock", "offset"),
    [
        ("260622", "120005", 0),
        ("26-06-22", "17:30:05", 330),
        ("0260622", "0130005", 60),
        ("1260622", "1140005", 60),
        ("260622", "1140005", 60),
        ("2260622", "2120005", 60),
    ],
)
def test_date_and_time_of_day_make_a_time(date: str, clock: str, offset: int) -> None:
    assert read_time_of_two(date, clock, Zone(offset)) == NOON
    told = values(f"0.9.1({clock})", f"0.9.2({date})", zone=Zone(offset))
    assert told == {"1.0.0": NOON.isoformat()}


def test_a_time_in_no_known_zone_is_told_in_none() -> None:
    assert values("0-0:1.0.0(260622120005)") == {"1.0.0": "2026-06-22T12:00:05"}
    assert read_time("2260622120005", Zone()) == NOON


@pytest.mark.parametrize(
    "text",
    [
        "",
        "260622",
        "261322120005",
        "260622250005",
        "260231120005",
        "2606221200",
        "3260622120005",
        "26-0622 120005",
        "26062212000",
        "22.06.2026 12:00:05",
        "26-06-22 12:00",
        "000000000000",
    ],
)
def test_a_time_that_is_none_is_left_out(text: str) -> None:
    with pytest.raises(WrongValue):
        read_time(text, Zone(0))


@pytest.mark.parametrize(
    "lines", [["0.9.1(120005)"], ["0.9.2(260622)"], ["0.9.1(1200)", "0.9.2(260622)"]]
)
def test_half_a_time_is_left_out(lines: list[str]) -> None:
    assert Obis.parse("1.0.0") in read(*lines).left_out


# --- forms ---------------------------------------------------------------------------------------


def test_a_form_is_the_same_for_all_digits() -> None:
    assert form_of(Value("001842.50", "kWh")) == form_of(Value("999999.99", "kWh"))
    others = [
        Value("01842.50", "kWh"),
        Value("001842.5", "kWh"),
        Value("0018425.0", "kWh"),
        Value("001842.50", "Wh"),
    ]
    assert form_of(Value("001842.50", "kWh")) not in map(form_of, others)


def test_a_new_form_has_to_be_told_twice_in_a_row() -> None:
    forms, energy = Forms(), Obis.parse("1.8.0")
    assert [forms.believed({energy: "000"}) for _ in range(3)] == [False, True, True]
    assert not forms.believed({energy: "0"})
    assert forms.believed({energy: "000"})
    assert not forms.believed({energy: "0"}), "in between it was written as ever"
    assert forms.believed({energy: "0"})
    assert forms.believed({})


def test_one_form_of_several_that_changes_again_is_not_believed() -> None:
    forms, first, second = Forms(), Obis.parse("1.8.0"), Obis.parse("2.8.0")
    assert not forms.believed({first: "00", second: "00"})
    assert not forms.believed({first: "00", second: "0"})
    assert forms.believed({first: "00", second: "0"})


def test_the_forms_of_a_register_have_a_bound() -> None:
    forms, energy = Forms(), Obis.parse("1.8.0")
    for digits in range(1, FORMS_MAX + 2):
        assert not forms.believed({energy: "0" * digits})
        assert forms.believed({energy: "0" * digits})
    assert not forms.believed({energy: "0"}), "the oldest are forgotten"
