"""The head-end's rows as people and programs read them; members are the profile's words, times UTC ``Z``."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from openami.cli.report import print_json, print_table
from openami.headend.completeness import DayAccount
from openami.headend.gap_life import Gap
from openami.headend.states import GatewayState, MeterState
from openami.headend.store import (
    Conflict,
    GatewayRow,
    MeterRow,
    Reading,
    Reject,
    StoredEvent,
    StoredFinding,
)
from openami.profile import utc_text

Row = dict[str, Any]


def reading_row(reading: Reading) -> Row:
    """One stored register value."""
    return {
        "feederId": reading.feeder_id,
        "meterSerial": reading.meter_serial,
        "obis": str(reading.obis),
        "ts": utc_text(reading.ts),
        "value": reading.value,
        "unit": reading.unit,
        "quality": str(reading.quality),
        "receivedAt": utc_text(reading.received_at),
    }


def meter_row(meter: MeterRow, state: MeterState) -> Row:
    """One meter and its state."""
    return {
        "feederId": meter.feeder_id,
        "gatewayId": meter.gateway_id,
        "meterSerial": meter.meter_serial,
        "state": str(state),
        "worstQuality": str(meter.worst_quality),
        "lastTs": utc_text(meter.last_ts),
        "latestGoodTs": _text(meter.latest_good_ts),
        "firstSeen": utc_text(meter.first_seen),
        "lastSeen": utc_text(meter.last_seen),
    }


def gateway_row(gateway: GatewayRow, state: GatewayState) -> Row:
    """One gateway and its state."""
    return {
        "feederId": gateway.feeder_id,
        "gatewayId": gateway.gateway_id,
        "state": str(state),
        "lastSeq": gateway.last_seq,
        "firstSeen": utc_text(gateway.first_seen),
        "lastSeen": utc_text(gateway.last_seen),
    }


def event_row(event: StoredEvent) -> Row:
    """One event."""
    return {
        "feederId": event.feeder_id,
        "gatewayId": event.gateway_id,
        "meterSerial": event.meter_serial,
        "eventId": event.event_id,
        "type": event.type,
        "state": event.state,
        "severity": event.severity,
        "occurredAt": utc_text(event.occurred_at),
        "ts": utc_text(event.ts),
        "receivedAt": utc_text(event.received_at),
    }


def finding_row(finding: StoredFinding) -> Row:
    """One finding, folded per day."""
    return {
        "feederId": finding.feeder_id,
        "meterSerial": finding.meter_serial,
        "obis": finding.obis,
        "code": finding.code,
        "detail": finding.detail,
        "day": finding.day,
        "count": finding.count,
        "lastSeen": utc_text(finding.last_seen),
    }


def conflict_row(conflict: Conflict) -> Row:
    """Two values of one identity: the one in force and the other."""
    return {"kept": reading_row(conflict.kept), "other": reading_row(conflict.other)}


def reject_row(reject: Reject) -> Row:
    """One kept message without its bytes."""
    return {
        "id": reject.id,
        "receivedAt": utc_text(reject.received_at),
        "topic": reject.topic,
        "code": reject.code,
        "requirement": reject.requirement,
        "path": reject.path,
        "detail": reject.detail,
        "partial": reject.partial,
        "status": str(reject.status),
        "count": reject.count,
        "bytes": len(reject.payload),
    }


def account_row(account: DayAccount) -> Row:
    """One meter's day, and what of it is missing."""
    return {
        "row": "day",
        "feederId": account.feeder_id,
        "gatewayId": account.gateway_id,
        "meterSerial": account.meter_serial,
        "day": account.day.isoformat(),
        "intervalS": account.interval_s,
        "expected": account.expected,
        "received": account.received,
        "late": account.late,
        "suspect": account.suspect,
        "missing": account.missing,
        "gaps": [
            {
                "from": utc_text(gap.begin),
                "to": utc_text(gap.end),
                "intervals": gap.intervals,
                "reason": str(gap.reason),
            }
            for gap in account.gaps
        ],
    }


def gap_row(gap: Gap) -> Row:
    """One gap of a gateway."""
    return {
        "row": "gap",
        "feederId": gap.feeder_id,
        "gatewayId": gap.gateway_id,
        "firstSeq": gap.first if gap.epoch else None,
        "lastSeq": gap.last if gap.epoch else None,
        "missing": gap.missing,
        "from": _text(gap.measured_from),
        "to": _text(gap.measured_to),
        "state": str(gap.state),
        "reason": str(gap.reason),
        "noticedAt": utc_text(gap.noticed_at),
        "asks": gap.asks,
        "endedAt": _text(gap.ended_at),
    }


def cells(row: Row, names: Sequence[str]) -> list[str]:
    """Return a row's members as a table shows them; what is not there is a dash."""
    return ["–" if row[name] is None else printable(str(row[name])) for name in names]


def print_rows(
    rows: Iterable[Row],
    columns: Sequence[str],
    *,
    as_json: bool,
    headings: Sequence[str] | None = None,
) -> None:
    """Print these columns as a table, under their names unless others are given; or each row whole, as JSON."""
    if as_json:
        for row in rows:
            print_json(row)
        return
    named = [name.upper() for name in columns] if headings is None else list(headings)
    print_table(named, [cells(row, columns) for row in rows])


def printable(text: str) -> str:
    """Return a text that came from outside so that a terminal shows it and obeys nothing in it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else utc_text(moment)
