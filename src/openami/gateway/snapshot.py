"""How the gateway is doing at one moment, and whether it can do its work (pure).

One picture for the status page, the health checks and the metrics, so that they cannot disagree.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from openami.gateway.meter_record import MeterRecord, MeterState
from openami.gateway.monthly_cap import CapStage
from openami.gateway.outbox import OutboxState
from openami.profile import FeederId, GatewayId


@dataclass(slots=True)
class LineView:
    """How a line is doing; its collector keeps it up to date."""

    name: str
    fault: str = ""
    """The driver's complaint while the line is down."""
    load: float = 0.0
    """The last cycle's length as a share of the fast interval; above 1 instants are missed."""
    store_fault: str = ""
    """Why the last batch could not be stored; empty when it was."""
    beat_at: float | None = None
    """When the loop last showed that it lives, in the event loop's seconds."""


@dataclass(slots=True)
class CapView:
    """How the month stands under its cap; the cap's keeper keeps it up to date."""

    cap_bytes: int
    used_bytes: int = 0
    stage: CapStage = CapStage.FULL
    waits: bool = False
    """Whether readings wait by the cap's rule."""


@dataclass(slots=True)
class UplinkView:
    """How the way to the broker is doing; the uplink's loop keeps it up to date."""

    broker: str
    connected: bool = False
    since: datetime | None = None
    """Since when it is as it is; None before the first attempt has ended."""
    fault: str = ""
    remedy: str = ""
    certificate_until: datetime | None = None
    """Until when our client certificate is valid; None without one."""
    cap: CapView | None = None
    """None without a cap."""


class CheckState(StrEnum):
    """The result of one check. Only a failure makes the gateway not ready."""

    OK = "ok"
    DEGRADED = "degraded"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing the gateway needs for its work, and how it stands."""

    name: str
    state: CheckState
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything about the gateway at one moment. ``outbox`` is None while it cannot be read."""

    feeder_id: FeederId
    gateway_id: GatewayId
    now: datetime
    started_at: datetime
    records: Sequence[MeterRecord]
    lines: Sequence[LineView]
    uplink: UplinkView
    outbox: OutboxState | None
    outbox_fault: str = ""
    stuck_lines: Sequence[str] = field(default=())
    """Lines whose loop has not shown a sign of life for too long."""

    @property
    def meters_by_state(self) -> Mapping[MeterState, int]:
        """How many meters are in each state."""
        counts = dict.fromkeys(MeterState, 0)
        for record in self.records:
            counts[record.state] += 1
        return counts

    @property
    def checks(self) -> Sequence[Check]:
        """Everything that is looked at, the worst first."""
        rank = (CheckState.FAIL, CheckState.DEGRADED, CheckState.OK)
        return sorted(self._checks(), key=lambda check: rank.index(check.state))

    @property
    def state(self) -> CheckState:
        """The worst of the checks."""
        return self.checks[0].state

    def _checks(self) -> Iterator[Check]:
        yield self._database()
        yield self._collector()
        yield self._uplink()
        yield self._clock()
        for line in self.lines:
            if line.fault:
                yield Check(f"line {line.name}", CheckState.DEGRADED, line.fault)

    def _database(self) -> Check:
        faults = [line.store_fault for line in self.lines if line.store_fault]
        fault = self.outbox_fault or (faults[0] if faults else "")
        return Check("database", CheckState.FAIL if fault else CheckState.OK, fault)

    def _collector(self) -> Check:
        if not self.stuck_lines:
            return Check("collector", CheckState.OK)
        return Check(
            "collector", CheckState.FAIL, f"no sign of life from {', '.join(self.stuck_lines)}"
        )

    def _uplink(self) -> Check:
        """Without an uplink the gateway does its work: it stores."""
        if self.uplink.connected:
            return Check("uplink", CheckState.OK)
        told = "; ".join(part for part in (self.uplink.fault, self.uplink.remedy) if part)
        return Check("uplink", CheckState.DEGRADED, told or "not connected yet")

    def _clock(self) -> Check:
        if self.outbox is None or self.outbox.clock.trusted:
            return Check("clock", CheckState.OK)
        return Check(
            "clock",
            CheckState.DEGRADED,
            f"not trusted ({self.outbox.clock.reason}): readings wait until their time is known",
        )
