"""The forms of the API: how times, names and resources are written, read and described."""

import re
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from fastapi import Header, Path, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from openami.headend.accounts import Role
from openami.headend.store.pages import PAGE_MAX
from openami.profile import ID_PATTERN, Obis, read_time, utc_text
from openami.profile.identifiers import ID_CHARS_MAX
from openami.profile.obis import OBIS_PATTERN
from openami.profile.times import TIME_PATTERN

# A screenful for a person, ten kilobytes for a program; whoever wants more says so.
LIMIT_DEFAULT: Final = 100
# A sentence or two in the audit log.
REASON_CHARS_MAX: Final = 200
# Twice what a random key of 128 bits takes in the longest common form.
IDEMPOTENCY_KEY_CHARS_MAX: Final = 128
# An act is a compact JWS of an Ed25519 key: 300 characters.
ACT_CHARS_MAX: Final = 4_096
# A code of a finding or a fault, a type of event.
CODE_CHARS_MAX: Final = 64
# An account of more feeders than that is one of every feeder.
FEEDERS_NAMED_MAX: Final = 500
_DAY_CHARS: Final = len("2026-06-22")

# No control characters: what is written into the log is one line, and every store can hold it.
ONE_LINE: Final = r"^[^\x00-\x1f\x7f-\x9f]*$"


class Resource(BaseModel):
    """What is told. Members are written as the profile writes them: camelCase."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        serialize_by_alias=True,
        frozen=True,
    )


class Asked(BaseModel):
    """What is asked for: nothing but what is declared, and each thing in its own type."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, strict=True
    )


# --- times ---------------------------------------------------------------------------------------


# No meter was read before, and no clock that says 0000 or 9999 is believed.
_MOMENT: Final = "^(19[7-9][0-9]|2[01][0-9]{2})" + TIME_PATTERN.removeprefix("[0-9]{4}") + "$"
_is_moment = re.compile(_MOMENT).match


def _read_moment(value: object) -> object:
    if isinstance(value, str) and _is_moment(value) and (moment := read_time(value)) is not None:
        return moment
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    raise PydanticCustomError(
        "moment", "a time with its zone is asked for, like 2026-06-22T14:30:00Z (RFC 3339)"
    )


def _read_day(value: object) -> object:
    if type(value) is date:
        return value
    if isinstance(value, str) and len(value) == _DAY_CHARS and value.isascii():
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise PydanticCustomError("day", "a day of UTC's calendar is asked for, like 2026-06-22")


_AS_MOMENT: Final[dict[str, Any]] = {"type": "string", "format": "date-time"}
Moment = Annotated[
    datetime,
    BeforeValidator(_read_moment),
    PlainSerializer(utc_text, return_type=str),
    WithJsonSchema({**_AS_MOMENT, "pattern": _MOMENT}, mode="validation"),
    WithJsonSchema(_AS_MOMENT, mode="serialization"),
]
"""A moment: RFC 3339 with a zone; answered in UTC with ``Z``."""
Day = Annotated[
    date,
    BeforeValidator(_read_day),
    WithJsonSchema({"type": "string", "format": "date"}),
]
"""A day of UTC's calendar."""


# --- parameters ----------------------------------------------------------------------------------


ID: Final = f"^{ID_PATTERN}$"
_CODE: Final = r"^[A-Za-z0-9._-]+$"

FeederFilter = Annotated[
    str | None, Query(alias="feeder", pattern=ID, description="Of this feeder only.")
]
FeederNamed = Annotated[str, Query(alias="feeder", pattern=ID, description="Of this feeder.")]
GatewayFilter = Annotated[
    str | None, Query(alias="gateway", pattern=ID, description="Of this gateway only.")
]
MeterFilter = Annotated[
    str | None, Query(alias="meter", pattern=ID, description="Of the meter of this serial only.")
]
ObisFilter = Annotated[
    str | None,
    Query(
        alias="obis",
        pattern=f"^{OBIS_PATTERN}$",
        max_length=len("255-255:255.255.255*255"),
        description="Of this register only, e.g. 1.8.0.",
    ),
]
CodeFilter = Annotated[
    str | None,
    Query(alias="code", pattern=_CODE, max_length=CODE_CHARS_MAX, description="With this code."),
]
Since = Annotated[
    Moment | None, Query(description="From this moment on (RFC 3339 with a zone), included.")
]
Until = Annotated[
    Moment | None, Query(description="Before this moment (RFC 3339 with a zone), not included.")
]
Limit = Annotated[
    int,
    Query(ge=1, le=PAGE_MAX, description=f"How many on a page, {PAGE_MAX} at most."),
]
Cursor = Annotated[
    str | None,
    Query(
        alias="cursor",
        max_length=1024,
        json_schema_extra={"format": "openami-cursor"},
        description="Where the page begins: from `next` or `Link` of the page before; tells nothing else.",
    ),
]
FeederId = Annotated[str, Path(alias="feederId", pattern=ID, description="The feeder.")]
GatewayId = Annotated[str, Path(alias="gatewayId", pattern=ID, description="The gateway.")]
MeterSerial = Annotated[str, Path(alias="meterSerial", pattern=ID, description="The serial.")]
PoleId = Annotated[str, Path(alias="poleId", pattern=ID, description="The pole.")]
CustomerId = Annotated[str, Path(alias="customerId", pattern=ID, description="The customer.")]
CommandId = Annotated[str, Path(alias="commandId", pattern=ID, description="The command.")]
SessionId = Annotated[str, Path(alias="sessionId", pattern=ID, description="The session.")]
RejectId = Annotated[
    int, Path(alias="rejectId", ge=1, le=2**53 - 1, description="The kept message.")
]
IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        description="Change it only if it is still as it was when its ETag was this; else 412.",
    ),
]
IfNoneMatch = Annotated[
    str | None,
    Header(alias="If-None-Match", description="Answer 304 if its ETag is still this."),
]
IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]+$",
        max_length=IDEMPOTENCY_KEY_CHARS_MAX,
        description="A name you give this request: sent again under it, it is the same command, once.",
    ),
]

# --- members of bodies ---------------------------------------------------------------------------

Id = Annotated[str, Field(pattern=ID, max_length=ID_CHARS_MAX)]


def _read_whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


AS_WHOLE: Final = BeforeValidator(_read_whole)
"""Takes 6.0, which to JSON is a whole number. Stands after the bounds: they are described only before it."""
Reason = Annotated[
    str,
    Field(pattern=ONE_LINE, max_length=REASON_CHARS_MAX, description="Why; kept in the audit log."),
]


class RoleWord(StrEnum):
    """What an account or a token may do; each may do what the one before may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ENGINEER = "engineer"


RoleAsked = Literal["viewer", "operator", "engineer"]
Scope = Annotated[
    Annotated[list[Id], Field(min_length=1, max_length=FEEDERS_NAMED_MAX)] | None,
    Field(description="The feeders they see and touch; null for every one, which has to be said."),
]


def role_of(word: RoleAsked) -> Role:
    """Return the role a word stands for."""
    return Role[word.upper()]


def scope_of(feeders: list[str] | None) -> frozenset[str] | None:
    """Return a scope as accounts have it."""
    return None if feeders is None else frozenset(feeders)


def scope_told(feeders: frozenset[str] | None) -> list[str] | None:
    """Return a scope as it is told."""
    return None if feeders is None else sorted(feeders)


def register_of(text: str | None) -> Obis | None:
    """Return the register a filter names; its pattern has been checked."""
    return None if text is None else Obis.parse(text)
