"""The village's SunSpec meter, read by the SunSpec Alliance's own client."""

import asyncio
import json
import math
import sys
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from openami.clock import SystemClock
from openami.gateway.driver import LineSettings, MeterSettings
from openami.gateway.drivers.modbus import ModbusDriver
from openami.simulator.display import quantities
from openami.simulator.lines import VillageLine, village_lines
from openami.simulator.modbus_server import ModbusLine, serving
from openami.simulator.plan import UJ_PER_KWH, plan_village
from openami.simulator.sunspec_meter import SIMULATED, SunSpecMeter
from openami.simulator.village import Measured, Village

EVENING = datetime(2026, 6, 22, 13, 30, tzinfo=UTC)
PEER = Path(__file__).parents[1] / "drivers" / "pysunspec_peer.py"


def measured(model: int) -> Measured:
    """What a meter of this model knows: the feeder's where it has three phases, else a customer's."""
    plan = plan_village(meters=8, seed=1, start=EVENING)
    village = Village(plan)
    village.advance(village.now_ms + 90 * 60_000)
    return village.measured(plan.head_serial if model % 10 == 3 else plan.customers[0].serial)


async def _read_by_the_peer(model: int, base: int) -> dict[str, Any]:
    meter = SunSpecMeter(model, lambda: measured(model), maker_number=99_000_007, base=base)
    async with serving(ModbusLine({1: meter})) as port:
        peer = await asyncio.create_subprocess_exec(
            sys.executable, PEER, "read", str(port), stdout=asyncio.subprocess.PIPE
        )
        told, _ = await peer.communicate()
    assert peer.returncode == 0
    answer: dict[str, Any] = json.loads(told)
    return answer


@pytest.mark.parametrize(
    ("model", "base"), list(zip(SIMULATED.values(), (40_000, 0, 50_000, 40_000), strict=True))
)
async def test_the_peer_reads_what_the_meter_measures(model: int, base: int) -> None:
    """Models, scale factors and sentinels, as others understand them."""
    knows = measured(model)
    told = await _read_by_the_peer(model, base)
    assert told["base"] == base
    assert set(told) == {"base", "1", str(model)}
    assert told["1"]["SN"] == "99000007"
    points = told[str(model)]
    active = sum(phase.active_w for phase in knows.phases)
    reactive = sum(phase.reactive_var for phase in knows.phases)
    factor = 100 if model < 210 else 1  # percent, in the integer models
    for name, value in {
        "A": sum(phase.current_a for phase in knows.phases),
        "AphA": knows.phases[0].current_a,
        "PhVphA": knows.phases[0].voltage_v,
        "Hz": knows.frequency_hz,
        "W": active,
        "VAR": reactive,
        "VA": math.hypot(active, reactive),
        "PF": factor * active / math.hypot(active, reactive),
        "TotWhImp": knows.import_uj * 1000 // UJ_PER_KWH,
    }.items():
        assert points[name] == pytest.approx(value, rel=2e-4, abs=5e-4), name
    single_phase = len(knows.phases) == 1
    assert (points["PhVphC"] is None) == single_phase
    assert (points["WphC"] is None) == single_phase
    assert points["Evt"] == 0


async def _through_the_driver(line: VillageLine) -> dict[str, dict[str, object]]:
    """Read a village's line as the gateway does: by the configuration the demo writes."""
    async with line.serving() as place:
        settings = LineSettings(
            place.name,
            [MeterSettings(meter.serial, meter.options) for meter in place.meters],
            place.options,
        )
        async with ModbusDriver.open(settings) as opened:
            return {
                str(serial): {
                    str(reading.obis): reading.value
                    for reading in await meter.read([info.obis for info in meter.registers])
                }
                for serial, meter in opened.meters.items()
            }


@pytest.mark.parametrize(
    ("head", "customer"), [("sunspec-203", "sunspec-201"), ("sunspec-213", "sunspec-211")]
)
async def test_the_gateways_driver_reads_a_village_of_them(head: str, customer: str) -> None:
    plan = plan_village(meters=5, seed=3, start=SystemClock().now())
    plan = replace(
        plan, head_model=head, customers=tuple(replace(c, model=customer) for c in plan.customers)
    )
    village = Village(plan)
    for line in village_lines(village, SystemClock()):
        told = await _through_the_driver(line)
        for place in line.meters:
            shown = {str(o): v for o, v in quantities(village.measured(place.serial)).items()}
            values = told[str(place.serial)]
            three_phase = place.serial == plan.head_serial
            assert ("72.7.0" in values) == three_phase
            assert ("2.8.0" in values) == customer.endswith("211")  # of 0: an accumulator has none
            assert values.keys() >= {"1.8.0", "1.7.0", "32.7.0", "31.7.0", "13.7.0", "14.7.0"}
            for code, value in values.items():
                assert isinstance(value, int | Decimal)
                if code in shown:
                    # Between the reading and now a watt-second or two was counted.
                    assert float(value) == pytest.approx(float(shown[code]), rel=5e-4, abs=2e-3)
