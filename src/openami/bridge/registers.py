"""From what the firmware measured to registers: codes, units, signs, and how far each is to be believed (pure).

A value that is impossible is left out and said; one that may be wrong is suspect; one whose mistake can be
undone exactly, with another measured value to agree, is mended and said. Zeros of sensors that are not
there (reactive and apparent power, a phase, an export counter) are left out: zero would be a measurement.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from openami.bridge.counters import Counter, counted
from openami.bridge.findings import Effect, Finding, Reason, finding
from openami.bridge.firmware import Cabinet, Leakage, Measurement, Phase
from openami.profile import (
    Obis,
    Quality,
    RegisterReading,
    implausible,
    shipped_catalogue,
)

# No house and no pole has more; the float of a DDSU666 read as integers shows 1,725 V for 230 V.
VOLTAGE_V_MAX: Final = 1000.0
FREQUENCY_HZ_MIN: Final = 40.0  # … and its frequency is that of no network
FREQUENCY_HZ_MAX: Final = 70.0  # the same at the other end

# The firmware reads a DDS238's signed power as unsigned: -1 W is 65,535 W.
WRAP_W: Final = 65_536.0
WRAPPED_FROM_W: Final = 32_768.0
# Active power cannot exceed apparent power. Currents come in steps of 10 mA, and all three values are read
# one after another: a load that is switched meanwhile must not look like a contradiction.
POWER_SHARE_MAX: Final = 1.2
POWER_SLACK_W: Final = 100.0

# What the firmware writes where it does not know: P = V·I, and this power factor.
INVENTED_FACTOR: Final = 0.99
_FACTOR_TOLERANCE: Final = 1e-6  # a 32-bit float's last digit
# Of a product of two 32-bit floats: the meter's own value differs by more.
_PRODUCT_TOLERANCE: Final = 1e-4

# Sixteen bits of milliamperes.
SATURATED_FROM_A: Final = 65.53

# The humidity sensor's temperature is a signed count of tenths, read as unsigned.
TEMPERATURE_WRAP_C: Final = 6553.6
TEMPERATURE_WRAPPED_FROM_C: Final = 3276.8


@dataclass(frozen=True, slots=True)
class _PhaseCodes:
    voltage: str
    current: str
    power: str
    factor: str


_BY_PHASE: Final = (
    _PhaseCodes("32.7.0", "31.7.0", "21.7.0", "33.7.0"),
    _PhaseCodes("52.7.0", "51.7.0", "41.7.0", "53.7.0"),
    _PhaseCodes("72.7.0", "71.7.0", "61.7.0", "73.7.0"),
)


@dataclass(frozen=True, slots=True)
class Counters:
    """A meter's two energy counters as they are remembered."""

    imported: Counter = field(default_factory=Counter)
    exported: Counter = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Registers:
    """What a measurement comes to."""

    readings: tuple[RegisterReading, ...]
    findings: tuple[Finding, ...]
    counters: Counters
    went_back: tuple[RegisterReading, ...] = ()
    """Counters that went back with this measurement."""


def unusable(measurement: Measurement) -> Finding | None:
    """Return why nothing of a measurement can be believed; None when something can."""
    voltages = [phase.voltage for phase in measurement.phases if phase.voltage]
    if not voltages:
        return finding(Reason.NOT_MEASURED, "no voltage on any phase: the meter was not read")
    for voltage in voltages:
        if not 0 < voltage <= VOLTAGE_V_MAX:
            return finding(
                Reason.REGISTER_MAP_WRONG,
                f"{voltage:g} V: the firmware reads other registers than this meter has",
            )
    frequency = measurement.frequency
    if frequency and not FREQUENCY_HZ_MIN <= frequency <= FREQUENCY_HZ_MAX:
        return finding(
            Reason.REGISTER_MAP_WRONG,
            f"{frequency:g} Hz: the firmware reads other registers than this meter has",
        )
    return None


def registers_of(measurement: Measurement, counters: Counters) -> Registers:
    """Return the registers of a measurement that is not `unusable`."""
    told = _Told()
    if measurement.frequency:
        told.take("14.7.0", measurement.frequency, "Hz", decimals=2)
    if len(measurement.phases) == 1:
        _single_phase(told, measurement.phases[0])
    else:
        _three_phases(told, measurement.phases)
    after, went_back = _energies(told, measurement, counters)
    return Registers(
        readings=tuple(told.readings),
        findings=tuple(told.findings),
        counters=after,
        went_back=went_back,
    )


class _Told:
    """Collects registers; a value outside of what the register list allows becomes a finding."""

    def __init__(self) -> None:
        self.readings: list[RegisterReading] = []
        self.findings: list[Finding] = []

    def take(
        self, obis: str, value: float, unit: str, *, decimals: int, doubt: Finding | None = None
    ) -> RegisterReading | None:
        reading = RegisterReading(
            obis=Obis.parse(obis),
            value=round(value, decimals) + 0.0,  # never -0.0
            unit=unit,
            quality=Quality.GOOD if doubt is None else Quality.SUSPECT,
        )
        register = shipped_catalogue().get(reading.obis)
        assert register is not None, obis
        fault = implausible(reading, register)
        if fault is not None:
            self.findings.append(finding(Reason.OUT_OF_RANGE, fault, obis=obis))
            return None
        if doubt is not None and doubt not in self.findings:
            self.findings.append(doubt)
        self.readings.append(reading)
        return reading


# --- phases --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Power:
    """Active power in W, positive for import, and why it is not to be vouched for."""

    watts: float
    doubt: Finding | None


def _single_phase(told: _Told, phase: Phase) -> None:
    """A single-phase meter's registers are those of L1, and its totals."""
    codes = _BY_PHASE[0]
    _voltage_and_current(told, phase, codes)
    power = _power(told, phase, "1.7.0", may_be_wrapped=True)
    if power is not None:
        _split(told, power.watts, power.doubt)
    _factor(told, phase, "13.7.0")
    if phase.reactive:
        code = "3.7.0" if phase.reactive > 0 else "4.7.0"
        told.take(code, abs(phase.reactive) / 1000, "kvar", decimals=4)
    if phase.apparent:
        told.take("9.7.0", abs(phase.apparent) / 1000, "kVA", decimals=4)


def _three_phases(told: _Told, phases: tuple[Phase, ...]) -> None:
    """Each phase that has a voltage, and the sum of their powers; sums of sums are not made of a part."""
    powers: list[_Power | None] = []
    for phase, codes in zip(phases, _BY_PHASE, strict=True):
        if not phase.voltage:
            continue
        _voltage_and_current(told, phase, codes)
        power = _power(told, phase, codes.power, may_be_wrapped=False)
        powers.append(power)
        if power is not None:
            told.take(codes.power, power.watts / 1000, "kW", decimals=4, doubt=power.doubt)
        _factor(told, phase, codes.factor)
    whole = [power for power in powers if power is not None]
    if whole and len(whole) == len(powers):
        doubts = [power.doubt for power in whole if power.doubt is not None]
        _split(told, sum(power.watts for power in whole), doubts[0] if doubts else None)


def _voltage_and_current(told: _Told, phase: Phase, codes: _PhaseCodes) -> None:
    if phase.voltage:
        told.take(codes.voltage, phase.voltage, "V", decimals=2)
    current = phase.current
    if current is None:
        return
    doubt = None
    if current < 0:
        told.findings.append(
            finding(Reason.CURRENT_NEGATIVE, f"{current:g} A; RMS has no sign", obis=codes.current)
        )
    if abs(current) >= SATURATED_FROM_A and abs(current) < SATURATED_FROM_A + 0.01:
        doubt = finding(
            Reason.CURRENT_SATURATED,
            f"{abs(current):g} A is the largest the chip can say",
            obis=codes.current,
        )
    told.take(codes.current, abs(current), "A", decimals=3, doubt=doubt)


def _power(told: _Told, phase: Phase, obis: str, *, may_be_wrapped: bool) -> _Power | None:
    """Return the active power as far as it can be told, beside what voltage and current allow."""
    watts = phase.power
    if watts is None:
        return None
    if phase.voltage is None or phase.current is None:
        return _Power(watts, None)
    apparent = abs(phase.voltage * phase.current)
    if abs(watts) <= apparent * POWER_SHARE_MAX + POWER_SLACK_W:
        return _Power(watts, _invented(phase, watts, apparent, obis))
    unwrapped = watts - WRAP_W
    if may_be_wrapped and WRAPPED_FROM_W <= watts < WRAP_W and _agrees(phase, unwrapped, apparent):
        told.findings.append(
            finding(Reason.POWER_WRAPPED, f"{watts:g} W is {unwrapped:g} W", obis=obis)
        )
        return _Power(unwrapped, None)
    return _Power(
        watts,
        finding(
            Reason.POWER_CONTRADICTED,
            f"{watts:g} W with {phase.voltage:g} V and {phase.current:g} A",
            obis=obis,
        ),
    )


def _agrees(phase: Phase, watts: float, apparent: float) -> bool:
    """Return whether voltage, current and power factor speak for a power, as exactly as they can."""
    slack = (POWER_SHARE_MAX - 1) * apparent + POWER_SLACK_W
    factor = abs(phase.power_factor or 0.0)
    if not 0 < factor <= 1:
        return abs(watts) <= apparent + slack
    return abs(abs(watts) - factor * apparent) <= slack


def _is_invented(phase: Phase, watts: float, apparent: float) -> bool:
    factor = phase.power_factor
    return (
        factor is not None
        and abs(factor - INVENTED_FACTOR) <= _FACTOR_TOLERANCE
        and apparent > 0
        and abs(abs(watts) - apparent) <= _PRODUCT_TOLERANCE * apparent
    )


def _invented(phase: Phase, watts: float, apparent: float, obis: str) -> Finding | None:
    if not _is_invented(phase, watts, apparent):
        return None
    return finding(
        Reason.POWER_FACTOR_INVENTED,
        f"{watts:g} W is V·I, with a power factor of 0.99",
        obis=obis,
        effect=Effect.SUSPECT,
    )


def _factor(told: _Told, phase: Phase, obis: str) -> None:
    factor = phase.power_factor
    if not factor:  # zero is what stands there when nothing was computed
        return
    if phase.power is not None and phase.voltage is not None and phase.current is not None:
        apparent = abs(phase.voltage * phase.current)
        if _is_invented(phase, phase.power, apparent):
            told.findings.append(
                finding(Reason.POWER_FACTOR_INVENTED, f"{factor:g} is a constant", obis=obis)
            )
            return
    told.take(obis, factor, "1", decimals=3)


def _split(told: _Told, watts: float, doubt: Finding | None) -> None:
    """Publish a signed power as import and export; what is nothing is a measured zero."""
    told.take("1.7.0", max(watts, 0.0) / 1000, "kW", decimals=4, doubt=doubt)
    told.take("2.7.0", max(-watts, 0.0) / 1000, "kW", decimals=4, doubt=doubt)


# --- energies ------------------------------------------------------------------------------------


def _energies(
    told: _Told, measurement: Measurement, counters: Counters
) -> tuple[Counters, tuple[RegisterReading, ...]]:
    imported = counted(counters.imported, measurement.import_wh, "1.8.0", zero_means_none=False)
    exported = counted(counters.exported, measurement.export_wh, "2.8.0", zero_means_none=True)
    went_back: list[RegisterReading] = []
    for obis, now in (("1.8.0", imported), ("2.8.0", exported)):
        if now.kwh is None:
            if now.finding is not None:
                told.findings.append(now.finding)
            continue
        reading = told.take(obis, now.kwh, "kWh", decimals=3, doubt=now.finding)
        if reading is not None and now.began_to_doubt:
            went_back.append(reading)
    return Counters(imported.counter, exported.counter), tuple(went_back)


# --- the cabinet ---------------------------------------------------------------------------------


def cabinet_registers(cabinet: Cabinet) -> Registers:
    """Return the cabinet's air; zero and zero is a sensor that was never read."""
    told = _Told()
    if not cabinet.temperature and not cabinet.humidity:
        told.findings.append(finding(Reason.NOT_MEASURED, "0 °C and 0 %: the sensor was not read"))
    else:
        for obis, value, unit in _air(told, cabinet):
            told.take(obis, value, unit, decimals=1)
    return Registers(tuple(told.readings), tuple(told.findings), Counters())


def _air(told: _Told, cabinet: Cabinet) -> Iterator[tuple[str, float, str]]:
    temperature = cabinet.temperature
    if temperature is not None:
        if TEMPERATURE_WRAPPED_FROM_C <= temperature < TEMPERATURE_WRAP_C:
            unwrapped = temperature - TEMPERATURE_WRAP_C
            told.findings.append(
                finding(
                    Reason.TEMPERATURE_WRAPPED,
                    f"{temperature:g} °C is {unwrapped:.1f} °C",
                    obis="96.9.0",
                )
            )
            temperature = unwrapped
        yield "96.9.0", temperature, "°C"
    if cabinet.humidity is not None:
        yield "96.9.2", cabinet.humidity, "%"


def leakage_registers(leakage: Leakage) -> Registers:
    """Return leakage currents that are not zero. Suspect: nobody has published the sensor's registers."""
    told = _Told()
    for obis, value in (
        ("128.7.0", leakage.sinusoidal),
        ("128.7.1", leakage.pulsating),
        ("128.7.2", leakage.dc),
    ):
        if value:
            about = f"{value:g} mA of a sensor without a register map"
            doubt = finding(Reason.SENSOR_UNKNOWN, about, obis=obis)
            told.take(obis, value, "mA", decimals=3, doubt=doubt)
    return Registers(tuple(told.readings), tuple(told.findings), Counters())
