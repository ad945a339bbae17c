"""Whether what an operator's store holds is what the village was: each value beside the village's own.

The village is lived again, with what was done to it, and asked each second. A value was measured within a few
seconds of the time it bears, while the meters were read one after the other; so it must lie between the least and
the most that the village had then, as far as its register can tell. A value out of a load profile was captured at
its very time, and has to be it.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from openami.headend.store import Reading
from openami.profile import MeterSerial, Obis
from openami.simulator.display import quantities
from openami.simulator.plan import VillagePlan, epoch_ms
from openami.simulator.village import Intervention, Village, serials

# Between a measurement and the time it bears: a serial line's slowest read-out, and a machine that is busy.
APART_S_MAX: Final = 4
# What the coarsest register of the village's meters tells apart, and a swing of the source within a second.
_TOLERANCES: Final[Mapping[Obis, Decimal]] = {
    Obis.parse("1.8.0"): Decimal("0.011"),
    Obis.parse("32.7.0"): Decimal("0.3"),
    Obis.parse("1.7.0"): Decimal("0.011"),
}
# Of a load profile's: half a count of the coarsest of the meters that keep one, or all that was cut off.
_CAPTURED_TOLERANCES: Final[Mapping[Obis, Decimal]] = {
    Obis.parse("1.8.0"): Decimal("0.0001"),
    Obis.parse("32.7.0"): Decimal("0.1"),
}
_S_MS: Final = 1000

Shown = Mapping[Obis, Decimal]


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many values were compared, and those the village never had."""

    compared: int
    wrong: tuple[Reading, ...]


class Relived:
    """A village, second by second, from its plan and what was done to it."""

    def __init__(
        self, plan: VillagePlan, interventions: Sequence[Intervention], *, until: datetime
    ) -> None:
        self._begin_s = math.ceil(plan.start_ms / _S_MS)
        village = Village(plan)
        to_come = list(interventions)
        self._seconds: list[Mapping[MeterSerial, Shown]] = []
        for second in range(self._begin_s, epoch_ms(until) // _S_MS + APART_S_MAX + 1):
            while to_come and to_come[0].at_ms <= second * _S_MS:
                village.relive(to_come.pop(0))
            village.advance(second * _S_MS)
            self._seconds.append({serial: _shown(village, serial) for serial in serials(plan)})

    def compare(
        self, readings: Iterable[Reading], *, captured: Callable[[Reading], bool]
    ) -> Comparison:
        """Put readings beside the village; ``captured`` says of which a meter's own time is known."""
        compared, wrong = 0, []
        for reading in readings:
            is_captured = captured(reading)
            tolerances = _CAPTURED_TOLERANCES if is_captured else _TOLERANCES
            if reading.obis not in tolerances:
                continue
            compared += 1
            apart_s = 0 if is_captured else APART_S_MAX
            if not self._had(reading, apart_s, tolerances[reading.obis]):
                wrong.append(reading)
        return Comparison(compared, tuple(wrong))

    def _had(self, reading: Reading, apart_s: int, tolerance: Decimal) -> bool:
        at_s = reading.ts.timestamp() - self._begin_s
        first = max(0, math.floor(at_s) - apart_s)
        seconds = self._seconds[first : math.ceil(at_s) + apart_s + 1]
        serial = MeterSerial(reading.meter_serial)
        had = [second[serial][reading.obis] for second in seconds]
        if not had or isinstance(reading.value, str):
            return False
        value = Decimal(str(reading.value))
        return min(had) - tolerance <= value <= max(had) + tolerance


def _shown(village: Village, serial: MeterSerial) -> Shown:
    shown = quantities(village.measured(serial))
    return {obis: value for obis in _TOLERANCES if isinstance(value := shown[obis], Decimal)}
