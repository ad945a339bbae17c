"""What a meter shows: its quantities by OBIS code, in the register list's units, exactly.

A register map turns them into 16-bit registers (``modbus_meter``); how exact the reader's view is, is
the map's matter, as with a real meter.
"""

import math
from collections.abc import Mapping
from decimal import Decimal

from openami.profile import Obis
from openami.simulator.plan import UJ_PER_KWH
from openami.simulator.village import Measured, Phase

Quantity = Decimal | str

_W_PER_KW = 1000
# Voltage and current distortion of LED drivers and small motors on a weak feeder, in percent; constant,
# because nothing in the village depends on them.
_THD_VOLTAGE = Decimal("2.4")
_THD_CURRENT = Decimal("31.5")
# The group C of a phase's quantities is L1's plus this.
_PHASE_STEP = 20
# Instantaneous values are floats of the model; finer digits than a micro-unit are noise of the arithmetic.
_DECIMALS = 6


def quantities(measured: Measured) -> Mapping[Obis, Quantity]:
    """Return everything this meter could show now."""
    shown: dict[str, Quantity] = {
        "1.8.0": _kwh(measured.import_uj),
        "2.8.0": Decimal(0),
        "3.8.0": _kwh(measured.reactive_uj),
        "4.8.0": Decimal(0),
        "14.7.0": _decimal(measured.frequency_hz),
        "96.1.0": str(measured.serial),
        "96.11.1": str(measured.relay),
        "96.3.10": str(measured.relay),
    }
    shown |= _powers(measured.phases)
    for index, phase in enumerate(measured.phases):
        shown |= _phase(index, phase, measured.phase_import_uj[index])
    if measured.credit_uj is not None:
        shown["96.8.0"] = _kwh(measured.credit_uj)
    return {Obis.parse(code): value for code, value in shown.items()}


def _powers(phases: tuple[Phase, ...]) -> dict[str, Quantity]:
    active = sum(phase.active_w for phase in phases)
    reactive = sum(phase.reactive_var for phase in phases)
    apparent = math.hypot(active, reactive)
    return {
        "1.7.0": _decimal(active / _W_PER_KW),
        "2.7.0": Decimal(0),
        "16.7.0": _decimal(active / _W_PER_KW),
        "3.7.0": _decimal(reactive / _W_PER_KW),
        "4.7.0": Decimal(0),
        "9.7.0": _decimal(apparent / _W_PER_KW),
        "13.7.0": _power_factor(active, apparent),
    }


def _phase(index: int, phase: Phase, import_uj: int) -> dict[str, Quantity]:
    step = index * _PHASE_STEP
    apparent = math.hypot(phase.active_w, phase.reactive_var)
    return {
        f"{32 + step}.7.0": _decimal(phase.voltage_v),
        f"{31 + step}.7.0": _decimal(phase.current_a),
        f"{21 + step}.7.0": _decimal(phase.active_w / _W_PER_KW),
        f"{23 + step}.7.0": _decimal(phase.reactive_var / _W_PER_KW),
        f"{29 + step}.7.0": _decimal(apparent / _W_PER_KW),
        f"{33 + step}.7.0": _power_factor(phase.active_w, apparent),
        f"{21 + step}.8.0": _kwh(import_uj),
        f"{22 + step}.8.0": Decimal(0),
        f"{32 + step}.7.124": _THD_VOLTAGE,
        f"{31 + step}.7.124": _THD_CURRENT,
    }


def _kwh(energy_uj: int) -> Decimal:
    return Decimal(energy_uj) / UJ_PER_KWH


def _power_factor(active_w: float, apparent_va: float) -> Decimal:
    # Without current there is no angle; meters show 1.
    return _decimal(active_w / apparent_va) if apparent_va else Decimal(1)


def _decimal(value: float) -> Decimal:
    return round(Decimal(value), _DECIMALS)
