"""What objects mean: exact values in the list's units, times in UTC, relays as they stand, profiles as rows."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.gateway.driver import RelayPosition
from openami.gateway.drivers.dlms.apdu import Attribute
from openami.gateway.drivers.dlms.cosem import (
    Scale,
    multiplied,
    read_scale,
    read_text,
    relay_position,
    scaled,
)
from openami.gateway.drivers.dlms.data import Value
from openami.gateway.drivers.dlms.errors import WrongType
from openami.gateway.drivers.dlms.meter_map import read_map
from openami.gateway.drivers.dlms.profile_generic import (
    logged_events,
    read_columns,
    read_rows,
)
from openami.gateway.drivers.dlms.times import DeviationSign, MeterTime, Zone, read_time, write_time
from openami.gateway.map_files import MapError

_STANDARD = Zone()
_INVERTED = Zone(DeviationSign.INVERTED)


# --- scaler and unit -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "value", "unit", "number"),
    [
        ((0, 30), 1_842_500, "kWh", "1842.500"),
        ((-1, 35), 2301, "V", "230.1"),
        ((-2, 33), 523, "A", "5.23"),
        ((0, 27), -951, "kW", "-0.951"),
        ((3, 30), 7, "kWh", "7"),
        ((4, 30), 7, "kWh", "70"),
        ((-3, 255), 987, "1", "0.987"),
        ((0, 255), 3, "count", "3"),
        ((-2, 44), 4998, "Hz", "49.98"),
        ((0, 44), Decimal("49.98"), "Hz", "49.98"),
        ((12, 30), 2**64 - 1, "kWh", "18446744073709551615000000000"),
    ],
)
def test_a_number_is_exact_in_the_lists_unit(
    told: tuple[int, int], value: Value, unit: str, number: str
) -> None:
    got = scaled(value, read_scale(told), unit)
    assert got is not None
    assert str(got) == number  # and prints its digits, never an exponent


@pytest.mark.parametrize(
    ("value", "factor", "number"),
    [
        (1234, "0.01", "12.34"),
        (3, "1", "3"),
        (2**64 - 1, "0.987654321", "18219006492780381151.527278415"),
        (7, "1e9", "7000000000"),
    ],
)
def test_a_number_without_a_scaler_has_the_maps_scale_exactly(
    value: int, factor: str, number: str
) -> None:
    assert str(multiplied(value, Decimal(factor))) == number
    assert multiplied(None, Decimal(factor)) is None


@pytest.mark.parametrize("told", [None, (0,), (0, 12), (13, 30), (-13, 30), ("0", 30), 30])
def test_what_is_no_scale_or_an_unknown_unit_is_not_guessed(told: Value) -> None:
    with pytest.raises(WrongType):
        read_scale(told)


def test_another_unit_than_the_maps_is_refused() -> None:
    with pytest.raises(WrongType, match="tells kVAh, its map says kWh"):
        scaled(1, read_scale((0, 31)), "kWh")


@pytest.mark.parametrize("value", [True, "7", b"7", (7,)])
def test_what_is_no_number_is_refused(value: Value) -> None:
    with pytest.raises(WrongType):
        scaled(value, Scale(0, "kWh"), "kWh")


def test_null_data_is_no_value() -> None:
    assert scaled(None, Scale(0, "kWh"), "kWh") is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("DS1000-88421 ", "DS1000-88421"),
        (b"DS1000\x00\x00", "DS1000"),
        (12345678, "12345678"),
        (bytes.fromhex("0102fe"), "0102fe"),
        ("a\x07b", "ab"),
    ],
)
def test_a_serial_number_is_read_as_meters_tell_it(value: Value, text: str) -> None:
    assert read_text(value) == text


# --- relay ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "control", "position"),
    [
        (True, 1, RelayPosition.CONNECTED),
        (False, 0, RelayPosition.DISCONNECTED),
        (False, 2, RelayPosition.READY_FOR_RECONNECTION),
        # A meter that says two things: the customer has what the output says.
        (False, 1, RelayPosition.DISCONNECTED),
        (True, 0, RelayPosition.CONNECTED),
        (True, 2, RelayPosition.CONNECTED),
        (None, 0, RelayPosition.DISCONNECTED),
        (None, 1, RelayPosition.CONNECTED),
        (None, 2, RelayPosition.READY_FOR_RECONNECTION),
    ],
)
def test_a_relay_is_told_as_its_output_stands(
    output: bool | None, control: int, position: RelayPosition
) -> None:
    assert relay_position(output, control) is position


def test_a_fourth_state_is_not_guessed() -> None:
    with pytest.raises(WrongType):
        relay_position(True, 3)


# --- times ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "zone", "at"),
    [
        # as two makers' simulators tell noon in UTC+2
        ("07e80501030c000000ff88ff", _STANDARD, datetime(2024, 5, 1, 10, tzinfo=UTC)),
        ("07ea060fff0c000000ff8800", _STANDARD, datetime(2026, 6, 15, 10, tzinfo=UTC)),
        ("07e80501030c0000000078ff", _INVERTED, datetime(2024, 5, 1, 10, tzinfo=UTC)),
        ("07e80501ff0c00ffff000000", _STANDARD, datetime(2024, 5, 1, 12, tzinfo=UTC)),
        ("07e80501030c0000008000ff", _STANDARD, datetime(2024, 5, 1, 12)),  # noqa: DTZ001
        (
            "07e80501030c0000008000ff",
            Zone(utc_offset_minutes=330),
            datetime(2024, 5, 1, 6, 30, tzinfo=UTC),
        ),
    ],
)
def test_a_time_is_read_in_utc(octets: str, zone: Zone, at: datetime) -> None:
    assert read_time(bytes.fromhex(octets), zone) == MeterTime(at, True)


@pytest.mark.parametrize(
    "octets",
    ["ffff0501030c000000800000", "07e8ff01030c000000800000", "07e8050103ff000000800000"],
)
def test_a_time_that_is_left_open_is_none(octets: str) -> None:
    assert read_time(bytes.fromhex(octets), _STANDARD) is None


def test_summer_time_without_its_deviation_is_not_believed() -> None:
    """The option of such a meter knows one offset: summer is an hour off, and in autumn an hour comes twice."""
    zone = Zone(utc_offset_minutes=60)
    for deviation, status, believed in (
        ("8000", 0x80, False),
        ("8000", 0x00, True),
        ("ff88", 0x80, True),
    ):
        octets = bytes.fromhex(f"07ea0a1907021e0000{deviation}") + bytes((status,))
        told = read_time(octets, zone)
        assert told is not None
        assert told.believed is believed


@pytest.mark.parametrize("status", [0x01, 0x02, 0x03, 0x83])
def test_a_time_that_the_meter_does_not_believe_says_so(status: int) -> None:
    told = read_time(bytes.fromhex("07e80501030c0000000000") + bytes((status,)), _STANDARD)
    assert told is not None
    assert not told.believed


@pytest.mark.parametrize(
    "octets",
    [
        "",
        "07e8",
        "07e80d01030c000000000000",
        "07e80501030c000000040000",
        "07e8051f0319000000000000",
    ],
)
def test_what_is_no_time_is_refused(octets: str) -> None:
    with pytest.raises(WrongType):
        read_time(bytes.fromhex(octets), _STANDARD)


@given(
    st.datetimes(datetime(2000, 1, 2), datetime(2099, 12, 30), timezones=st.just(UTC)),  # noqa: DTZ001
    st.integers(-720, 840),
    st.sampled_from([_STANDARD, _INVERTED]),
)
def test_a_time_that_is_written_is_read(at: datetime, offset: int, zone: Zone) -> None:
    told = read_time(write_time(at, zone, offset), zone)
    assert told is not None
    assert timedelta() <= at - told.at < timedelta(milliseconds=10)


# --- profiles ------------------------------------------------------------------------------------

_CLOCK = (8, bytes((0, 0, 1, 0, 0, 255)), 2, 0)
_ENERGY = (3, bytes((1, 0, 1, 8, 0, 255)), 2, 0)
_CODE = (1, bytes((0, 0, 96, 11, 1, 255)), 2, 0)


def _at(hour: int, minute: int = 0) -> bytes:
    return write_time(datetime(2026, 6, 1, hour, minute, tzinfo=UTC), _STANDARD, 0)


def test_rows_are_read_in_the_order_of_the_meters_columns() -> None:
    for columns, buffer in (
        ((_CLOCK, _ENERGY), ((_at(1), 10), (_at(1, 15), 11))),
        ((_ENERGY, _CLOCK), ((10, _at(1)), (11, _at(1, 15)))),
    ):
        rows = read_rows(buffer, read_columns(columns), _STANDARD, 900)
        energy = Attribute(*_ENERGY[:3])
        assert [(row.time.at.minute, dict(row.values)) for row in rows] == [
            (0, {energy: 10}),
            (15, {energy: 11}),
        ]


def test_a_row_without_a_time_follows_by_the_period_and_one_without_a_value_has_none() -> None:
    buffer = ((None, 9), (_at(1), 10), (None, None), (None, 12))
    rows = read_rows(buffer, read_columns((_CLOCK, _ENERGY)), _STANDARD, 900)
    assert [(row.time.at.minute, list(row.values.values())) for row in rows] == [
        (0, [10]),
        (15, []),
        (30, [12]),
    ]


def test_rows_without_a_period_have_no_times_of_their_own() -> None:
    buffer = ((_at(1), 10), (None, 11))
    assert len(read_rows(buffer, read_columns((_CLOCK, _ENERGY)), _STANDARD, 0)) == 1


@pytest.mark.parametrize("columns", [(), None, 7, ((8,),), ((8, b"12345", 2, 0),), (_CLOCK,) * 65])
def test_what_are_no_columns_is_refused(columns: Value) -> None:
    with pytest.raises(WrongType):
        read_columns(columns)


@pytest.mark.parametrize("buffer", [None, 7, (7,), ((_at(1),),)])
def test_what_are_no_rows_is_refused(buffer: Value) -> None:
    with pytest.raises(WrongType):
        read_rows(buffer, read_columns((_CLOCK, _ENERGY)), _STANDARD, 900)


def test_a_profile_without_a_clock_has_no_times() -> None:
    with pytest.raises(WrongType, match="without a clock"):
        read_rows((), read_columns((_ENERGY,)), _STANDARD, 900)


def test_an_event_log_tells_which_log_and_which_code() -> None:
    """The bare code means another thing in each companion standard, so the log goes with it."""
    buffer = ((_at(3), 44), (_at(4), 45))
    rows = read_rows(buffer, read_columns((_CLOCK, _CODE)), _STANDARD, 0)
    events = logged_events(rows, "0-0:99.98.1", "idis")
    assert [(event.at.hour, event.log, event.code) for event in events] == [
        (3, "0-0:99.98.1", 44),
        (4, "0-0:99.98.1", 45),
    ]
    assert {(event.code_system, event.at_believed) for event in events} == {("idis", True)}
    wrong = read_rows(((_at(3), "44"),), read_columns((_CLOCK, _CODE)), _STANDARD, 0)
    with pytest.raises(WrongType):
        logged_events(wrong, "0-0:99.98.1", "idis")


def test_an_entry_whose_time_zone_nobody_tells_is_not_believed() -> None:
    """Twelve bytes with the deviation left open, of a meter whose options do not say it either."""
    nowhere = bytes((0x07, 0xEA, 6, 1, 1, 3, 0, 0, 0, 0x80, 0x00, 0x00))
    rows = read_rows(((nowhere, 44),), read_columns((_CLOCK, _CODE)), _STANDARD, 0)
    (event,) = logged_events(rows, "0-0:99.98.1", "idis")
    assert (event.at, event.at_believed) == (datetime(2026, 6, 1, 3, tzinfo=UTC), False)


def test_a_map_says_whose_numbering_each_log_is_of() -> None:
    text = (
        'id = "m"\nvendor = "v"\nmodel = "m"\nsource = ["s"]\ncertainty = "companion"\n'
        'code_system = "idis"\n[[event_log]]\nobject = "0-0:99.98.0*255"\n'
        '[[event_log]]\nobject = "0-0:99.98.1*255"\ncode_system = "hexing-7"\n'
        '[[register]]\nobis = "1.8.0"\nclass = 3\nunit = "kWh"\n'
    )
    logs = read_map(text).event_logs
    assert [(log.name, log.code_system) for log in logs] == [
        ("0-0:99.98.0", "idis"),
        ("0-0:99.98.1", "hexing-7"),
    ]
    with pytest.raises(MapError, match="code_system"):
        read_map(text.replace('"idis"', '"not a name"'))
