"""What a line knows of one of its meters, from question to question."""

from openami.gateway.breaker import FAILURES_TO_OPEN, Breaker
from openami.gateway.drivers.modbus.doubt import Doubt
from openami.gateway.drivers.modbus.options import LinePlan, MeterPlan
from openami.gateway.drivers.modbus.plan import Block
from openami.gateway.drivers.modbus.register_map import Field, RegisterMap
from openami.gateway.drivers.modbus.sunspec.layout import Discovery, undiscovered


class Unit:
    """What the line knows of one meter."""

    def __init__(self, meter: MeterPlan, line: LinePlan, now: float) -> None:
        self.meter = meter
        self.map = meter.map
        self.identity = meter.identity
        """Whom it must say it is: as configured, else as it first said, where it is found out whether it can."""
        self.codes = frozenset(info.obis for info in meter.registers)
        """What it can be asked for."""
        self.bases = () if meter.discovery is None else meter.discovery.bases
        """Where a SunSpec meter's chain may begin, the likeliest first."""
        self.walks_at = 0.0
        """When its chain may be walked: no sooner than a refusal on the way can be believed."""
        self.in_step = False
        self.identified_at: float | None = None
        self.doubt = Doubt(line.options.late_reply_s)
        self.singly: set[Field] = set()
        """Fields of a block the meter refused: one of them is not there, and costs the others no more."""
        self.reported: set[Block | Field] = set()
        """What was complained of already."""
        self.breaker = Breaker.closed(
            share=line.options.silent_share,
            cycle_s=line.cycle_s,
            question_s=line.options.timeout_s + line.airtime_s(2) + line.silence_s,
            now=now,
        )

    def __str__(self) -> str:
        return f"meter {self.meter.serial} (unit {self.meter.unit})"

    @property
    def undiscovered(self) -> Discovery | None:
        """How its registers are to be found out, or None where they are known."""
        return None if self.map.registers else self.meter.discovery

    def look_elsewhere(self) -> None:
        """Look for a SunSpec meter's chain at its next base first."""
        self.bases = (*self.bases[1:], self.bases[0])
        self.forget_map()

    def fell_silent(self) -> None:
        """Note that a question went unanswered; a SunSpec meter may have moved where nothing answers any more."""
        if self.breaker.failures >= FAILURES_TO_OPEN:
            self.forget_map()

    def found(self, register_map: RegisterMap, base: int) -> None:
        """Have the map of a SunSpec meter whose chain begins here."""
        self.bases = (base, *(other for other in self.bases if other != base))
        self.map = register_map
        self.identified_at = None
        self.singly.clear()

    def forget_map(self) -> None:
        """Take a SunSpec meter for unknown again; any other's map is not found out, and stays."""
        if self.meter.discovery is not None:
            self.map = undiscovered(self.bases[0])
            self.identified_at = None
