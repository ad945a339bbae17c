"""The profile's readers: envelope, topic, OBIS code, time, register list."""

from collections.abc import Sequence
from datetime import timedelta

import msgspec
from tests.fuzz.target import Target
from tests.profile.messages import example, register
from tests.profile.test_decoders import holds
from tests.profile.vectors import vectors

from openami import spec
from openami.profile import (
    CatalogueError,
    Code,
    Obis,
    ProfileError,
    RegisterCatalogue,
    decode_envelope,
    parse_topic,
    read_time,
    utc_text,
)


def envelope(data: bytes) -> None:
    """The fast decoder and the audit give one verdict; what was read is printed and read again as the same."""
    holds(data)
    try:
        read = decode_envelope(data)
    except ProfileError:
        return
    kept = msgspec.structs.replace(read, ignored=())  # what was not read is not sent on
    try:
        printed = kept.encode()
    except ProfileError as error:
        assert error.code is Code.TOO_LARGE  # 1e9 is longer as 1000000000.0
        return
    assert decode_envelope(printed) == kept


def topic(data: bytes) -> None:
    """ProfileError, or a topic that prints as what was read."""
    text = data.decode(errors="replace")
    try:
        read = parse_topic(text)
    except ProfileError:
        return
    assert str(read) == text


def obis(data: bytes) -> None:
    """ProfileError, or a code of which both spellings are read as the same."""
    try:
        read = Obis.parse(data.decode(errors="replace"))
    except ProfileError:
        return
    assert Obis.parse(str(read)) == Obis.parse(read.full) == read


def time(data: bytes) -> None:
    """None, or a moment in UTC that prints as a text of the same moment."""
    read = read_time(data.decode(errors="replace"))
    if read is not None:
        assert read.utcoffset() == timedelta(0)
        assert read_time(utc_text(read)) == read


def register_list(data: bytes) -> None:
    """CatalogueError in one line, or a list in which each code finds its entry."""
    try:
        catalogue = RegisterCatalogue.decode(data)
    except CatalogueError as error:
        assert "\n" not in str(error)
        return
    for entry in catalogue:
        assert catalogue.get(entry.code) is entry


def _envelopes() -> Sequence[bytes]:
    small = [v.payload for v in vectors("telemetry", "event") if len(v.payload) < 4096]
    return [example(), register(value=True), register(obis="1-0:1.8.0*255"), *small]


def _texts(*texts: str) -> Sequence[bytes]:
    return [text.encode() for text in texts]


TARGETS = (
    Target("envelope", envelope, _envelopes, 250),
    Target("topic", topic, lambda: [v.topic.encode() for v in vectors("topic")], 250),
    Target(
        "obis",
        obis,
        lambda: _texts("1.8.0", "1-0:1.8.0*255", "C.1.0", "96.11.1", "1.8.0*12", "0-0:F.F"),
        250,
    ),
    Target(
        "time",
        time,
        lambda: _texts(
            "2026-06-22T14:30:00Z", "2026-06-22T20:00:00.25+05:30", "9999-12-31T23:59:59-23:59"
        ),
        250,
    ),
    Target("register_list", register_list, lambda: [spec.load("vmrs-registers.json")], 40),
)
