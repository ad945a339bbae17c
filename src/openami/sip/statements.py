"""The daily statement: what a gateway has recorded on a UTC day, meter by meter, signed by it (decision 0032).

An envelope on the gateway's own event topic with ``report`` and ``signature``, as a command's report is: a reader
that knows the profile alone sees an event. A feeder's meters do not fit into one document, so a statement has
parts; it counts when all of them are there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from openami.profile import EventSource, EventState, EventTopic, Severity, read_time, utc_text
from openami.sip import fields
from openami.sip.account import (
    DIGEST_BYTES,
    MeterDay,
    Standing,
    day_of,
    digest_from,
    moment_of,
    ms_of,
)
from openami.sip.acts import Act, ActType, read_acts
from openami.sip.canonical import SIGNATURE, Document, decode_base64url
from openami.sip.errors import SipCode, SipError
from openami.sip.fields import print_moment

EVENT_TYPE: Final = "day_statement"
# With serial numbers of 64 characters a part of so many meters stays below the 16 kB of a signed document.
METERS_PER_PART_MAX: Final = 40
# A thousand meters are twice the largest feeder.
PARTS_MAX: Final = 25
# A reading each millisecond of a day, of thirty registers; what says more is no count.
READINGS_MAX: Final = 86_400_000 * 30
_GATEWAY_REGISTER: Final = "96.1.0"


@dataclass(frozen=True, slots=True)
class Stated:
    """What a gateway states of one meter's day."""

    meter: str
    account: MeterDay
    thinned: int = 0
    """Envelopes of the day that its full outbox gave up before the statement was made (decision 0020)."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One part of a statement, read and not yet believed: ``acts`` are to be verified by whoever has the keys."""

    feeder_id: str
    gateway_id: str
    day: date
    part: int
    parts: int
    meters: tuple[Stated, ...]
    acts: tuple[Act, ...]
    document: Document


def event_id_of(gateway_id: str, day: date, part: int) -> str:
    """Return the id of a part's event: told twice, it is the same event."""
    return f"{gateway_id}-{EVENT_TYPE}-{day}-{part}"


def statement_members(
    topic: EventTopic,
    day: date,
    meters: Sequence[Stated],
    *,
    part: int,
    parts: int,
    ts: datetime,
) -> dict[str, Any]:
    """Return one part, unsigned; ``topic`` is the gateway's own, in which its id stands for the meter's."""
    assert len(meters) <= METERS_PER_PART_MAX
    return {
        "schemaVersion": "0.1",
        "ts": print_moment(ts),
        "feederId": topic.feeder_id,
        "gatewayId": topic.gateway_id,
        "meterSerial": topic.meter_serial,
        "registers": [
            {"obis": _GATEWAY_REGISTER, "value": topic.gateway_id, "unit": "", "quality": "good"}
        ],
        "event": {
            "eventId": event_id_of(topic.gateway_id, day, part),
            "type": EVENT_TYPE,
            "state": EventState.INSTANT.value,
            "severity": Severity.INFO.value,
            "occurredAt": print_moment(ts),
            "source": EventSource.GATEWAY.value,
            "detail": f"what was recorded on {day}, part {part} of {parts}",
        },
        "report": {
            "day": day.isoformat(),
            "part": part,
            "parts": parts,
            "meters": [_stated_members(stated) for stated in meters],
        },
    }


def _stated_members(stated: Stated) -> dict[str, Any]:
    members = account_members(stated.meter, stated.account)
    return {**members, "thinned": stated.thinned}


def account_members(meter: str, account: MeterDay) -> dict[str, Any]:
    """Return a meter's day as documents have it."""
    members: dict[str, Any] = {
        "meter": meter,
        "readings": account.readings,
        "digest": account.digest_text,
    }
    for name, standing in (("first", account.first), ("last", account.last)):
        if standing is not None:
            members[name] = {"ts": utc_text(moment_of(standing.ts_ms)), "value": standing.value}
    return members


# --- reading -------------------------------------------------------------------------------------


def is_statement(members: Mapping[str, Any]) -> bool:
    """Return whether a document on an event topic is a daily statement and not a command's report."""
    report = members.get("report")
    return isinstance(report, dict) and "day" in report


def read_statement(document: Document) -> Statement:
    """Return what a part says, its signature aside. Raises SipError."""
    members = fields.closed(
        document.members,
        "",
        required=(
            "schemaVersion", "ts", "feederId", "gatewayId", "meterSerial", "registers", "event",
            "report", SIGNATURE,
        ),
        optional=("seq",),
    )  # fmt: skip
    feeder_id = fields.identifier(members["feederId"], "feederId")
    gateway_id = fields.identifier(members["gatewayId"], "gatewayId")
    if members["meterSerial"] != gateway_id:
        raise SipError(SipCode.TOPIC_MISMATCH, "a statement is a gateway's own event")
    body = fields.closed(members["report"], "report", required=("day", "part", "parts", "meters"))
    day = read_day(body["day"], "report/day")
    parts = fields.whole_number(body["parts"], "report/parts", least=1, most=PARTS_MAX)
    part = fields.whole_number(body["part"], "report/part", least=1, most=parts)
    meters = fields.listed(
        body["meters"], "report/meters", _stated, least=0, most=METERS_PER_PART_MAX
    )
    fields.distinct([stated.meter for stated in meters], "report/meters")
    for stated in meters:
        _check_day(stated.account, day)
    acts = read_acts(document)
    for act in acts:
        if act.type is not ActType.STATEMENT:
            raise SipError(SipCode.WRONG_TYPE, f"{act.type} states no day")
    return Statement(feeder_id, gateway_id, day, part, parts, meters, acts, document)


def read_day(value: object, place: str) -> date:
    """Return a day ``YYYY-MM-DD``. Raises BAD_FIELD."""
    if isinstance(value, str) and len(value) == len("2026-06-22"):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise fields.bad(place, "a day YYYY-MM-DD is asked for")


def _stated(value: object, place: str) -> Stated:
    members = fields.closed(
        value,
        place,
        required=("meter", "readings", "digest", "thinned"),
        optional=("first", "last"),
    )
    return Stated(
        fields.identifier(members["meter"], f"{place}/meter"),
        read_account(members, place),
        fields.whole_number(members["thinned"], f"{place}/thinned", least=0, most=READINGS_MAX),
    )


def read_account(members: Mapping[str, Any], place: str) -> MeterDay:
    """Return a meter's day from its members. Raises SipError."""
    digest = members["digest"]
    if not isinstance(digest, str) or len(decode_base64url(digest)) != DIGEST_BYTES:
        raise fields.bad(f"{place}/digest", f"{DIGEST_BYTES} bytes in base64url are asked for")
    return MeterDay(
        fields.whole_number(members["readings"], f"{place}/readings", least=0, most=READINGS_MAX),
        digest_from(digest),
        *(
            _standing(members[name], f"{place}/{name}") if name in members else None
            for name in ("first", "last")
        ),
    )


def _standing(value: object, place: str) -> Standing:
    members = fields.closed(value, place, required=("ts", "value"))
    ts = read_time(members["ts"]) if isinstance(members["ts"], str) else None
    number = members["value"]
    if ts is None or isinstance(number, bool) or not isinstance(number, int | float):
        raise fields.bad(place, "a time and a number are asked for")
    return Standing(ms_of(ts), number)


def _check_day(account: MeterDay, day: date) -> None:
    for standing in (account.first, account.last):
        if standing is not None and day_of(standing.ts_ms) != day:
            raise fields.bad("report/meters", "a standing of another day")
