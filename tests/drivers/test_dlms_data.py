"""DLMS Data: read exactly, within bounds, and nothing but UnfitAnswer for what is no data."""

import math
import struct
from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.gateway.drivers.dlms import data
from openami.gateway.drivers.dlms.axdr import Reader, length_of
from openami.gateway.drivers.dlms.data import (
    DEPTH_MAX,
    ELEMENTS_MAX,
    BitString,
    Value,
    read_data,
)
from openami.gateway.drivers.dlms.errors import UnfitAnswer


def read(octets: bytes | str) -> Value:
    reader = Reader(bytes.fromhex(octets) if isinstance(octets, str) else octets)
    value = read_data(reader)
    reader.end()
    return value


@pytest.mark.parametrize(
    ("octets", "value"),
    [
        ("00", None),
        ("0300", False),
        ("03ff", True),
        ("040cabc0", BitString("101010111100")),
        ("05ffffffff", -1),
        ("06ffffffff", 0xFFFFFFFF),
        ("0903616263", b"abc"),
        ("0a03616263", "abc"),
        ("0c02c3a9", "é"),
        ("0a01e9", "é"),  # a maker's own 8-bit letters
        ("0d42", 42),
        ("0ffe", -2),
        ("10ff88", -120),
        ("117f", 127),
        ("12ffff", 0xFFFF),
        ("14ffffffffffffff00", -256),
        ("15ffffffffffffffff", 2**64 - 1),
        ("161e", 30),
        ("173fc00000", Decimal("1.5")),
        ("02020f02161e", (2, 30)),
        ("0101020112000a", ((10,),)),
    ],
)
def test_each_type_is_read(octets: str, value: Value) -> None:
    assert read(octets) == value


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**64 - 1), st.binary(max_size=300))
def test_what_is_written_is_read(signed: int, unsigned: int, octets: bytes) -> None:
    written = data.structure(
        data.int64(signed),
        data.uint64(unsigned),
        data.octet_string(octets),
        data.array(data.null(), data.boolean(True), data.visible_string("a")),
        data.enum(30),
    )
    assert read(written) == (signed, unsigned, octets, (None, True, "a"), 30)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_float_is_the_shortest_decimal_that_is_that_float(value: float) -> None:
    told = read(b"\x17" + struct.pack(">f", value))
    assert isinstance(told, Decimal)
    assert struct.pack(">f", float(told)) == struct.pack(">f", value)
    assert len(told.as_tuple().digits) <= 9


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_double_is_read_exactly(value: float) -> None:
    told = read(b"\x18" + struct.pack(">d", value))
    assert isinstance(told, Decimal)
    assert float(told) == value


def test_what_is_meant_by_49_98_is_49_98() -> None:
    assert read(b"\x17" + struct.pack(">f", 49.98)) == Decimal("49.98")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_float_that_is_no_number_is_no_value(value: float) -> None:
    assert read(b"\x17" + struct.pack(">f", value)) is None


def test_a_compact_array_is_read_as_its_rows() -> None:
    # structure of a 32-bit and an 8-bit number, ten bytes of contents: two rows
    assert read("130202060f" + "0a" + "00000001ff" + "0000000202") == ((1, -1), (2, 2))


@pytest.mark.parametrize(
    "octets",
    [
        "",
        "01",
        "0102",
        "0600000000" + "00",  # too much
        "060000",
        "09ff",
        "0985" + "ff" * 5,
        "0da0",
        "63",
        "1300" + "01" + "00",  # elements without bytes
    ],
)
def test_what_is_no_data_is_unfit(octets: str) -> None:
    with pytest.raises(UnfitAnswer):
        read(octets)


def test_depth_and_number_have_bounds() -> None:
    nested = data.null()
    for _ in range(DEPTH_MAX):
        nested = data.array(nested)
    read(nested)
    with pytest.raises(UnfitAnswer, match="deep"):
        read(data.array(nested))
    many = b"\x01" + length_of(ELEMENTS_MAX - 1) + bytes(ELEMENTS_MAX - 1)
    read(many)
    with pytest.raises(UnfitAnswer, match="more than"):
        read(b"\x01" + length_of(ELEMENTS_MAX) + bytes(ELEMENTS_MAX))


@given(st.binary(max_size=200))
def test_noise_is_data_or_unfit(octets: bytes) -> None:
    try:
        read(octets)
    except UnfitAnswer:
        return


@pytest.mark.parametrize(
    ("write", "value"),
    [(data.int8, 128), (data.uint8, -1), (data.uint16, 0x10000), (data.int16, -0x8001)],
)
def test_what_does_not_fit_is_not_written(write: Callable[[int], bytes], value: int) -> None:
    with pytest.raises(OverflowError):
        write(value)
