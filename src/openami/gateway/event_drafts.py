"""From happenings at one meter to the drafts that tell them, as many as are told (pure)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from openami.gateway.entries import Draft, Kind
from openami.gateway.event_types import EventType
from openami.gateway.events import LoggedCode, event_envelope, serial_reading
from openami.gateway.normalise import Source, to_the_millisecond
from openami.gateway.telling import Happening, StormTold, Telling, admit
from openami.profile import EventState, MeterSerial, Quality, RegisterReading, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A happening with all that would be told of it; ``registers`` were measured at ``ts``."""

    happening: Happening
    detail: str
    ts: datetime
    occurred_at: datetime
    registers: tuple[RegisterReading, ...] = ()
    """Empty where the meter's serial number has to do."""
    boottime_s: float | None = None
    logged: LoggedCode | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Teller:
    """Whose meter it is, and when it is told."""

    source: Source
    serial: MeterSerial
    now: datetime
    boottime_s: float
    per_hour: int

    def drafts(
        self, telling: Telling, candidates: Sequence[Candidate]
    ) -> tuple[Telling, list[Draft]]:
        """Return what is told of these, which are in the order of their time."""
        admitted = admit(
            telling,
            [each.happening for each in candidates],
            self.now,
            per_hour=self.per_hour,
        )
        drafts = [self._storm(storm) for storm in admitted.storms]
        for candidate, state in zip(candidates, admitted.states, strict=True):
            if state is not None:
                drafts.append(self._draft(candidate, state))
        return admitted.telling, drafts

    def _draft(self, told: Candidate, state: EventState) -> Draft:
        ends = told.happening.state is EventState.CLEARED
        envelope = event_envelope(
            told.happening.type,
            state,
            source=self.source,
            serial=self.serial,
            occurred_at=told.occurred_at,
            registers=told.registers or (serial_reading(self.serial, Quality.GOOD),),
            ts=told.ts,
            detail=told.detail,
            severity=Severity.INFO if ends else told.happening.severity,
            logged=told.logged,
        )
        return Draft(envelope, Kind.EVENT, boottime_s=told.boottime_s)

    def _storm(self, storm: StormTold) -> Draft:
        if storm.state is EventState.RAISED:
            detail = f"more than {self.per_hour} events in this hour: the others are only counted"
        else:
            detail = f"{storm.counted} events of that hour were only counted"
        now = to_the_millisecond(self.now)
        return self._draft(
            Candidate(
                happening=Happening(EventType.EVENT_STORM, storm.state),
                detail=detail,
                ts=now,
                occurred_at=now,
                boottime_s=self.boottime_s,
            ),
            storm.state,
        )
