"""A silent meter is told apart from a silent gateway: it is said to be silent, for as long as it is."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final

from openami.conformance.message import Message
from openami.conformance.observation import Act, ActBegan, ActEnded
from openami.conformance.occasion import Occasion
from openami.conformance.recent import Recent
from openami.conformance.rules.group import Seen
from openami.conformance.rules.intervals import Intervals, Meter, is_lost, meter_of
from openami.profile import TelemetryTopic

# A gateway tries a meter again before it calls it silent; three intervals are time enough for that.
INTERVALS_UNPLUGGED_MIN: Final = 3
# Meters that are known to have been told of as silent, each once: a feeder has 500.
METERS_KEPT_MAX: Final = 2_000


@dataclass(slots=True)
class _Unplugged:
    """A meter that was unplugged on purpose; ``serial`` None: any of them."""

    serial: str | None
    began: datetime
    told: bool = False


class Silences:
    """Judges what comes while a meter is unplugged."""

    requirements: ClassVar = frozenset(("OA-SIL-001",))

    def __init__(self) -> None:
        self._intervals = Intervals()
        self._told: Recent[Meter, bool] = Recent(METERS_KEPT_MAX)
        self._unplugged: _Unplugged | None = None

    def see(self, seen: Seen) -> Iterable[Occasion]:
        match seen:
            case ActBegan(act=Act.METER_UNPLUGGED):
                self._unplugged = _Unplugged(seen.meter_serial, seen.at)
            case ActEnded(act=Act.METER_UNPLUGGED):
                unplugged, self._unplugged = self._unplugged, None
                if unplugged is not None and seen.done:
                    return self._judge_end(unplugged, seen.at)
            case Message(kind=kind) if kind is TelemetryTopic and not seen.published.stored:
                return self._hear(seen)
            case _:
                pass
        return ()

    def _hear(self, message: Message) -> Iterator[Occasion]:
        self._intervals.note(message)
        meter = meter_of(message)
        if meter is None or not is_lost(message):
            return
        unplugged = self._unplugged
        if unplugged is not None and unplugged.serial in (None, meter[2]):
            unplugged.told = True
        if meter not in self._told:  # ordinary traffic shows it too
            self._told.note(meter, True)
            yield Occasion("OA-SIL-001")

    def _judge_end(self, unplugged: _Unplugged, ended: datetime) -> Iterator[Occasion]:
        """Judge a meter that was unplugged long enough to be missed."""
        if unplugged.told:
            return
        known = [
            (meter, every)
            for meter in self._intervals.meters()
            if unplugged.serial in (None, meter[2])
            and (every := self._intervals.of(meter)) is not None
            and ended - unplugged.began >= every * INTERVALS_UNPLUGGED_MIN
        ]
        for meter, every in known[:1]:  # where nobody said which meter it was, one stands for it
            fault = (
                f"meter {meter[2]}, measured every {every.total_seconds():.0f} s, was unplugged for "
                f"{(ended - unplugged.began).total_seconds():.0f} s, and no reading of it came with comms_lost"
            )
            yield Occasion("OA-SIL-001", fault, by="/".join(meter[:2]))
