"""SunSpec meters of other hands: filled by the SunSpec Alliance's library, served by pymodbus, read by us."""

import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from fractions import Fraction
from functools import cache
from pathlib import Path
from subprocess import PIPE, run

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice
from tests.tools import free_port

from openami.gateway.driver import LineSettings, MeterSettings, RawReading
from openami.gateway.drivers.modbus import ModbusDriver
from openami.profile import MeterSerial

_PEER = Path(__file__).with_name("pysunspec_peer.py")
_INTEGER_MODELS, _FLOAT_MODELS = (201, 202, 203, 204), (211, 212, 213, 214)
_SCALE_FACTORS = {"A_SF": -2, "V_SF": -1, "Hz_SF": -2, "W_SF": 1, "VA_SF": 0, "PF_SF": -1}
_SCALE_FACTORS |= {"TotWh_SF": 2, "VAR_SF": 0, "TotVAh_SF": -2}
_RAW = {"AphA": 413, "PhVphA": 2305, "Hz": 4998, "W": -95, "VA": 1040, "PF": -913, "VAR": 430}
_RAW |= {"TotWhImp": 18_425, "TotWhExp": 4_000_000_000, "TotVAhImp": 77, "Evt": 0b1000100}
_FLOATS = {"AphA": 4.13, "PhVphA": 230.5, "Hz": 49.98, "W": -950.0, "VA": 1040.0, "PF": -0.913}
_FLOATS |= {"VAR": 430.0, "TotWhImp": 1_842_500.0, "TotWhExp": 16_777_215.0, "TotVAhImp": 0.77}
_FLOATS |= {"Evt": 0b1000100}
# What both mean, in the register list's units.
_TOLD = {
    "31.7.0": Fraction("4.13"),
    "32.7.0": Fraction("230.5"),
    "14.7.0": Fraction("49.98"),
    "1.7.0": Fraction(0),
    "2.7.0": Fraction("0.95"),
    "16.7.0": Fraction("-0.95"),
    "9.7.0": Fraction("1.04"),
    "3.7.0": Fraction("0.43"),
    "4.7.0": Fraction(0),
    "13.7.0": Fraction("-0.913"),
    "1.8.0": Fraction("1842.5"),
    "9.8.0": Fraction("0.00077"),
    "96.5.0": Fraction(0b1000100),
}
_EXPORT = {"int": Fraction(400_000_000), "float": Fraction("16777.215")}


@cache
def _images() -> Mapping[str, list[int]]:
    """Every meter model, filled by the peer."""
    wanted: dict[str, Mapping[str, float]] = {
        str(model): {**_RAW, **_SCALE_FACTORS} for model in _INTEGER_MODELS
    }
    wanted |= {str(model): _FLOATS for model in _FLOAT_MODELS}
    told = run(
        [sys.executable, _PEER, "write"],
        input=json.dumps(wanted),
        stdout=PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    images: Mapping[str, list[int]] = json.loads(told.stdout)
    return images


@asynccontextmanager
async def _served(words: list[int], base: int) -> AsyncIterator[int]:
    port = free_port()
    block = [SimData(base, values=words, datatype=DataType.REGISTERS)]
    server = ModbusTcpServer([SimDevice(1, block)], address=("127.0.0.1", port))
    await server.serve_forever(background=True)
    try:
        yield port
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]  # pymodbus's


async def _read(port: int, **meter: object) -> dict[str, RawReading]:
    settings = LineSettings(
        "peer",
        [MeterSettings(MeterSerial("P-1"), {"unit": 1, "map": "sunspec", **meter})],
        {"transport": "tcp", "host": "127.0.0.1", "port": port},
    )
    async with ModbusDriver.open(settings) as line:
        meter_ = line.meters[MeterSerial("P-1")]
        readings = await meter_.read([info.obis for info in meter_.registers])
        return {str(reading.obis): reading for reading in readings}


@pytest.mark.parametrize("base", [0, 40_000])
@pytest.mark.parametrize("model", [*_INTEGER_MODELS, *_FLOAT_MODELS])
async def test_what_the_peer_put_into_a_model_is_read_out_of_it(model: int, base: int) -> None:
    async with _served(_images()[str(model)], base) as port:
        readings = await _read(port, identity="PSS-7")
    kind = "int" if model < 210 else "float"
    expected = {**_TOLD, "2.8.0": _EXPORT[kind]}
    assert set(readings) == set(expected)
    for code, value in expected.items():
        told = readings[code].value
        assert not isinstance(told, str)
        # A float32 of 0.77 VAh is told to the watt-hour.
        within = Fraction(1, 1000) if (code, kind) == ("9.8.0", "float") else 0
        assert abs(Fraction(told) - value) <= within, (code, told)
