"""Messages to test with: the profile's example, strategies for sound ones, and ways to spoil them."""

import json
import random
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

from openami import spec
from openami.profile import (
    Envelope,
    Event,
    EventSource,
    EventState,
    FeederId,
    GatewayId,
    MeterSerial,
    Obis,
    Quality,
    RegisterReading,
    SessionId,
    Severity,
    utc_text,
)

EXAMPLE: dict[str, Any] = json.loads(spec.load("profile-v0.1.json"))["envelope"]["example"]


def as_bytes(document: object) -> bytes:
    """Return a document as compact JSON."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def example(**members: object) -> bytes:
    """Return the profile's example with some members replaced; None takes a member out."""
    document = EXAMPLE | members
    return as_bytes({name: value for name, value in document.items() if value is not None})


def register(**members: object) -> bytes:
    """Return the example with one register, of which some members are replaced."""
    return example(registers=[EXAMPLE["registers"][0] | members])


# --- what is sound -------------------------------------------------------------------------------

_ALNUM = "ABCXYZabcxyz0189"
ids = st.builds(
    lambda first, rest: first + rest,
    st.sampled_from(_ALNUM),
    st.text(_ALNUM + "._-", max_size=30),
)
groups = st.integers(0, 255)
codes = st.one_of(
    st.sampled_from(["1.8.0", "96.8.0", "96.11.1", "1-0:2.8.0*255", "C.1.0", "1.8.0*12"]),
    st.builds("{}.{}.{}".format, groups, groups, groups),
    st.builds("{}-{}:{}.{}.{}*{}".format, groups, groups, groups, groups, groups, groups),
)
texts = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20)
values = st.one_of(
    st.booleans(),
    st.integers(-(2**53) + 1, 2**53 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
)
moments = st.datetimes(
    datetime(1, 1, 2),  # noqa: DTZ001  the strategy asks for naive bounds
    datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]),
)
readings = st.builds(
    RegisterReading, codes.map(Obis.parse), values, texts, st.sampled_from(list(Quality))
)
event_names = st.text(_ALNUM, min_size=1, max_size=20)
events = st.builds(
    lambda event, number: event if number is None else with_code(event, number),
    st.builds(
        Event,
        event_id=event_names,
        type=event_names,
        state=st.sampled_from(list(EventState)),
        severity=st.sampled_from(list(Severity)),
        occurred_at=moments.map(utc_text),
        source=st.sampled_from(list(EventSource)),
        detail=st.none() | texts,
    ),
    st.none() | st.integers(-1000, 1000),
)


def with_code(event: Event, number: int) -> Event:
    """Return the event with a code, which never travels without its code system."""
    return Event(
        event_id=event.event_id,
        type=event.type,
        state=event.state,
        severity=event.severity,
        occurred_at=event.occurred_at,
        source=event.source,
        code_system="dsmr",
        code=number,
    )


envelopes = st.builds(
    Envelope,
    ts=moments,
    feeder_id=ids.map(FeederId),
    gateway_id=ids.map(GatewayId),
    meter_serial=ids.map(MeterSerial),
    registers=st.lists(readings, min_size=1, max_size=5).map(tuple),
    session_id=st.none() | ids.map(SessionId),
    schema_version=st.sampled_from(["0.1", "0.1", "0.2", "0.17"]),
    seq=st.none() | st.integers(0, 2**53 - 1),
    event=st.none() | events,
)

# --- what is spoilt ------------------------------------------------------------------------------

# What stands in the place of a value: everything a reader has been known to stumble over.
_VALUES = r"""
null ; true ; false ; 0 ; -0 ; -0.0 ; 1 ; -1 ; 1.5 ; 1e5 ; 1e400 ; -1e400 ; 1e-400
9007199254740991 ; 9007199254740992 ; -9007199254740992 ; 18446744073709551616
NaN ; Infinity ; -Infinity ; 007 ; 0x10 ; 1. ; .5 ; +1
"" ; "0.1" ; "0.2" ; "1.0" ; "good" ; "bad" ; "a:b" ; "a/b" ; "é" ; "\u00e9"
"\u0000" ; "\ud800" ; "\ud83d\ude00"
"1.8.0" ; "1-0:1.8.0*255" ; "C.1.0" ; "1.8"
"2026-06-22T14:30:00Z" ; "2026-06-22T20:00:00+05:30" ; "2026-06-22T14:30:00.0000001Z"
"2026-04-31T00:00:00Z" ; "9999-12-31T23:59:59-23:59" ; "2026-06-22 14:30:00Z"
"2026-W26-1T14:30:00Z" ; "2026-06-22T24:00:00Z"
[] ; {} ; [[]] ; [{}] ; {"a":1} ; {"a":1,"a":2} ; [{"obis":"1.8.0"}] ; [0] ; {"x":[{"y":[]}]}
"""
TOKENS = [
    *re.split(r" ; |\n", _VALUES.strip()),
    *("[" * depth + "]" * depth for depth in (12, 13, 14, 15, 16, 17, 1200)),
]
tokens = st.sampled_from(TOKENS)
_NAMES = (
    *("ts", "feederId", "gatewayId", "meterSerial", "sessionId", "schemaVersion", "registers"),
    *("seq", "event", "obis", "value", "unit", "quality", "x", r"\u0074s", "a:b"),
)

_tokens_of = re.compile(r'"(?:[^"\\]|\\.)*"?|[{}\[\],:]|[^"{}\[\],:]+', re.DOTALL).findall


def spoil_tokens(payload: bytes, token: str, chance: random.Random) -> bytes:
    """Change one token of a message: replace, drop, double, swap, or add a member."""
    parts = _tokens_of(payload.decode())
    at = chance.randrange(len(parts))
    change: Callable[[], list[str]] = chance.choice(
        [
            lambda: [*parts[:at], token, *parts[at + 1 :]],
            lambda: [*parts[:at], *parts[at + 1 :]],
            lambda: [*parts[: at + 1], *parts[at:]],
            lambda: [*parts[:at], " ", parts[at], "\n", *parts[at + 1 :]],
            lambda: _with_member(parts, token, chance),
            lambda: _with_value(parts, token, chance),
            lambda: _with_member(parts, token, chance),
            lambda: _with_value(parts, token, chance),
        ]
    )
    return "".join(change()).encode()


def _with_member(parts: list[str], token: str, chance: random.Random) -> list[str]:
    """Put one more member at the head of an object: perhaps unknown, perhaps a second of its name."""
    at = chance.choice([i for i, part in enumerate(parts) if part == "{"]) if "{" in parts else -1
    comma = [] if parts[at + 1 : at + 2] == ["}"] else [","]
    member = ['"', chance.choice(_NAMES), '"', chance.choice(["", " "]), ":", token, *comma]
    return [*parts[: at + 1], *member, *parts[at + 1 :]]


def _with_value(parts: list[str], token: str, chance: random.Random) -> list[str]:
    """Put a token in the place of a member's value, where that is a single token."""
    places = [
        i + 1 for i, part in enumerate(parts[:-1]) if part == ":" and parts[i + 1] not in ("{", "[")
    ]
    if not places:
        return parts
    at = chance.choice(places)
    return [*parts[:at], token, *parts[at + 1 :]]


def spoil_bytes(payload: bytes, chance: random.Random) -> bytes:
    """Change one to three bytes of a message."""
    spoilt = bytearray(payload)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(spoilt) + 1)
        byte = chance.choice(b'{}[]",:\\ \n\t\0\x1f019eE+-.aZT/\x80\xc3\xed\xff')
        match chance.randrange(3):
            case 0:
                spoilt[at : at + 1] = bytes([byte])
            case 1:
                spoilt[at:at] = bytes([byte])
            case _:
                del spoilt[at : at + 1]
    return bytes(spoilt)


spoilt_messages = st.one_of(
    st.builds(
        spoil_tokens,
        envelopes.map(Envelope.encode),
        tokens,
        st.randoms(use_true_random=False),
    ),
    st.builds(spoil_bytes, envelopes.map(Envelope.encode), st.randoms(use_true_random=False)),
    st.builds(
        lambda payload, first, second, chance: spoil_tokens(
            spoil_tokens(payload, first, chance), second, chance
        ),
        st.just(as_bytes(EXAMPLE)),
        tokens,
        tokens,
        st.randoms(use_true_random=False),
    ),
)
