"""What a mixed demo shows at its end: which acts were seen at the operator's, which events, which values. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from openami.headend.store import Reading, StoredEvent
from openami.profile import MeterSerial, utc_text


class Act(StrEnum):
    """What happens on the feeder, by the name the summary gives it."""

    DEAD = "dead meter told lost, and nothing invented for it"
    WRONG_ADDRESS = "meter at a wrong address found out, and nothing published under its serial"
    SLOW_CLOCK = "slow clock told"
    CLOCK_SET = "slow clock set"
    COVER = "opened cover told out of the meter's own log"
    SAG = "under-voltage derived, and its end"
    DLMS_RELAY = "DLMS relay opened, armed, and closed by the customer's button"
    MODBUS_RELAY = "Modbus relay opened and closed"
    GAP = "cut line told, and its gap closed from the load profiles"


@dataclass(frozen=True, slots=True)
class Gap:
    """How long a line was cut, and how many intervals of that were read from each meter's load profile."""

    cut_at: datetime
    mended_at: datetime
    closed: Mapping[MeterSerial, int]

    def document(self) -> dict[str, object]:
        """Return it for a program."""
        return {
            "from": utc_text(self.cut_at),
            "to": utc_text(self.mended_at),
            "closed": dict(self.closed),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The end of a mixed demo, beside its account."""

    acts: Mapping[Act, bool]
    """Whether each was seen; what was not tried is missing."""
    waits: Mapping[Act, str] = field(default_factory=dict)
    """Acts that were rightly not carried out in this time, and why."""
    events: Mapping[str, Sequence[MeterSerial]]
    """Which meters' events of each type the operator has."""
    compared: Mapping[str, int]
    """How many values of each line were put beside the village's own."""
    wrong: tuple[Reading, ...]
    """Those the village never had."""
    gap: Gap | None
    """The cut line's; None when it was not cut."""

    @property
    def good(self) -> bool:
        """Whether all was seen that should be, and nothing else."""
        return not self.wrong and all(seen or act in self.waits for act, seen in self.acts.items())

    def lines(self) -> Iterator[str]:
        """Yield the summary for a person."""
        for act, seen in self.acts.items():
            mark = (
                "seen" if seen else f"waits: {self.waits[act]}" if act in self.waits else "NOT SEEN"
            )
            yield f"{act.value}: {mark}"
        for kind, serials in self.events.items():
            yield f"events {kind}: {', '.join(serials)}"
        compared = ", ".join(f"{count} of {line}" for line, count in self.compared.items())
        yield f"values beside the village's own: {compared}; {len(self.wrong)} wrong"

    def document(self) -> dict[str, object]:
        """Return the summary for a program."""
        return {
            "acts": {act.name.lower(): seen for act, seen in self.acts.items()},
            "waits": {act.name.lower(): why for act, why in self.waits.items()},
            "events": {kind: list(serials) for kind, serials in self.events.items()},
            "compared": dict(self.compared),
            "wrong": len(self.wrong),
            "gap": None if self.gap is None else self.gap.document(),
        }


def by_type(events: Sequence[StoredEvent]) -> dict[str, list[MeterSerial]]:
    """Return which meters told events of each type."""
    found: dict[str, set[MeterSerial]] = {}
    for event in events:
        found.setdefault(event.type, set()).add(MeterSerial(event.meter_serial))
    return {kind: sorted(found[kind]) for kind in sorted(found)}
