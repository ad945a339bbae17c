"""Plausibility: from an accepted message to findings, never to a silent repair.

Pure but for `LatestValues`, a bounded memory that the caller owns. A finding says what a person should
look at; the reading is stored as it came (decision 0006). What the profile forbids is not judged here:
that is a rejection, made in `ingest`.
"""

from collections import OrderedDict
from datetime import datetime
from enum import StrEnum
from typing import Final

from openami.headend.ingest import Accepted, Finding, Kind, report_type
from openami.headend.store import Reading
from openami.profile import (
    SCHEMA_VERSION,
    Obis,
    Quality,
    Register,
    RegisterCatalogue,
    RegisterReading,
    implausible,
    json_type,
    utc_text,
)

# A message has at most some 1,000 registers, and a sender that gets them all wrong has one fault.
FINDINGS_PER_MESSAGE_MAX: Final = 256
# Counters remembered, about 300 bytes each: 20 MB hold three counters of 20,000 meters. Beyond that the
# counter heard of longest ago is forgotten, and its next value is not compared.
COUNTERS_REMEMBERED_MAX: Final = 65_536


class FindingCode(StrEnum):
    """The stable codes of a finding."""

    UNKNOWN_REGISTER = "UNKNOWN_REGISTER"
    """The register list does not have this code; the value is stored unjudged."""
    OUT_OF_RANGE = "OUT_OF_RANGE"
    """The value lies outside what the register list holds plausible."""
    UNKNOWN_VALUE = "UNKNOWN_VALUE"
    """The value is none of the words the register list names."""
    REGISTER_ROLLBACK = "REGISTER_ROLLBACK"
    """A counter stands lower than it stood earlier: a meter changed, reset or tampered with."""
    NEWER_VERSION = "NEWER_VERSION"
    """The sender speaks a later draft of the profile; what it added was not read (decision 0017)."""
    EXTENSION_IGNORED = "EXTENSION_IGNORED"
    """A member with the name of one of our extensions has another shape (decision 0017)."""
    EVENT_WITHOUT_DETAILS = "EVENT_WITHOUT_DETAILS"
    """A message on the event topic says nothing of what happened (decision 0009)."""


class LatestValues:
    """The latest good value of each counter, bounded; forgets the one that was written longest ago."""

    def __init__(self, counters_max: int = COUNTERS_REMEMBERED_MAX) -> None:
        self._counters_max = counters_max
        self._latest: OrderedDict[tuple[str, str, Obis], tuple[datetime, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._latest)

    def get(self, feeder_id: str, meter_serial: str, obis: Obis) -> tuple[datetime, float] | None:
        """Return when the counter was last measured, and where it stood."""
        return self._latest.get((feeder_id, meter_serial, obis))

    def remember(
        self, feeder_id: str, meter_serial: str, obis: Obis, *, ts: datetime, value: float
    ) -> None:
        """Take a value as the counter's latest."""
        key = (feeder_id, meter_serial, obis)
        self._latest[key] = (ts, value)
        self._latest.move_to_end(key)
        if len(self._latest) > self._counters_max:
            self._latest.popitem(last=False)

    def recall(self, stored: Reading, *, catalogue: RegisterCatalogue) -> None:
        """Remember a reading that the store has, if it is a counter's good value."""
        entry = catalogue.get(stored.obis)
        value = stored.value
        if isinstance(value, str | bool) or stored.quality is not Quality.GOOD:
            return
        if entry is not None and entry.monotonic:
            self.remember(
                stored.feeder_id, stored.meter_serial, stored.obis, ts=stored.ts, value=value
            )


def validate(
    accepted: Accepted, *, catalogue: RegisterCatalogue, latest: LatestValues
) -> tuple[Finding, ...]:
    """Return what a person should know about the message; empty for an ordinary one."""
    found = _about_the_message(accepted)
    for register in accepted.envelope.registers:
        entry = catalogue.get(register.obis)
        if entry is None or implausible(register, entry) is not None:
            found.append(_hard_to_believe(register, entry, accepted))
        elif entry.monotonic and not isinstance(register.value, (str, bool)):
            back = _rollback(register, register.value, accepted=accepted, latest=latest)
            if back is not None:
                found.append(_finding(accepted, FindingCode.REGISTER_ROLLBACK, back, register.obis))
    return tuple(found[:FINDINGS_PER_MESSAGE_MAX])


def _about_the_message(accepted: Accepted) -> list[Finding]:
    envelope = accepted.envelope
    found = [
        _finding(
            accepted,
            FindingCode.EXTENSION_IGNORED,
            f"the member {name} has a shape this reader does not know; it was not read",
        )
        for name in envelope.ignored
    ]
    if envelope.schema_version != SCHEMA_VERSION:
        found.append(
            _finding(
                accepted,
                FindingCode.NEWER_VERSION,
                f"schemaVersion is {envelope.schema_version}, read as {SCHEMA_VERSION}",
            )
        )
    if (
        accepted.kind is Kind.EVENT
        and envelope.event is None
        and "event" not in envelope.ignored
        and report_type(accepted) is None
    ):
        found.append(
            _finding(
                accepted,
                FindingCode.EVENT_WITHOUT_DETAILS,
                "a message on the event topic has no member event; its registers are stored",
            )
        )
    return found


def _hard_to_believe(
    register: RegisterReading, entry: Register | None, accepted: Accepted
) -> Finding:
    """Say why a register's value cannot be judged, or is not plausible."""
    obis = register.obis
    if entry is None:
        why = "the register list does not have this code; the value is stored unjudged"
        return _finding(accepted, FindingCode.UNKNOWN_REGISTER, why, obis)
    why = implausible(register, entry) or ""
    is_number = json_type(register.value) == "number"
    code = FindingCode.OUT_OF_RANGE if is_number else FindingCode.UNKNOWN_VALUE
    return _finding(accepted, code, why, obis)


def _rollback(
    register: RegisterReading, value: float, *, accepted: Accepted, latest: LatestValues
) -> str | None:
    """Compare a counter with its latest good value, and remember it if it is a later good one.

    Only forward in measured time: what an outbox sends late belongs before, and says nothing of now. A
    value its sender does not vouch for is compared but not remembered, or one wild value would make
    the next sound one look like a rollback.
    """
    envelope = accepted.envelope
    before = latest.get(envelope.feeder_id, envelope.meter_serial, register.obis)
    if before is not None and envelope.ts <= before[0]:
        return None
    if register.quality is Quality.GOOD:
        latest.remember(
            envelope.feeder_id, envelope.meter_serial, register.obis, ts=envelope.ts, value=value
        )
    if before is None or value >= before[1]:
        return None
    return f"the counter stands at {value}; at {utc_text(before[0])} it stood at {before[1]}"


def _finding(
    accepted: Accepted, code: FindingCode, detail: str, obis: Obis | None = None
) -> Finding:
    return Finding(code, accepted.envelope.meter_serial, "" if obis is None else str(obis), detail)
