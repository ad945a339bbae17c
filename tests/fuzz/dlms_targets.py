"""DLMS off a wire: noise for frames, frames for answers, answers for values. Anybody may be on the line."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from itertools import cycle
from typing import Any

from tests.fuzz.target import Target

from openami.gateway.drivers.dlms import hdlc
from openami.gateway.drivers.dlms.association import Association, Credentials, Security
from openami.gateway.drivers.dlms.ciphering import Keys
from openami.gateway.drivers.dlms.errors import DlmsError
from openami.gateway.drivers.dlms.hdlc import Frame, FrameReader
from openami.gateway.drivers.dlms.link import HdlcLink, Link, WrapperLink
from openami.gateway.drivers.dlms.map_files import load_map, shipped_maps
from openami.gateway.drivers.dlms.meter_map import read_map
from openami.gateway.drivers.dlms.reading import (
    Known,
    read_intervals,
    read_position,
    read_registers,
)
from openami.gateway.drivers.dlms.steps import Steps
from openami.gateway.drivers.dlms.times import Zone
from openami.gateway.drivers.dlms.wrapper import Packet, PacketReader
from openami.gateway.map_files import MapError

_CLIENT, _SERVER = hdlc.client_address(16), hdlc.server_address(1)
_ANSWERS_MAX = 200  # a dialogue that would go on for longer than noise feeds it
_MAP = load_map("single-phase-prepaid")
_NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def frames(data: bytes) -> None:
    """Every frame read stands in what came, checksums and all; how the bytes were cut makes no difference."""
    whole, reader = FrameReader().feed(data), FrameReader()
    pieces = [frame for at in range(len(data)) for frame in reader.feed(data[at : at + 1])]
    assert pieces == list(whole)
    for frame in whole:
        assert frame.encode() in data


def packets(data: bytes) -> None:
    """Every packet read stands in what came; how the bytes were cut makes no difference."""
    whole, reader = PacketReader().feed(data), PacketReader()
    pieces = [packet for at in range(len(data)) for packet in reader.feed(data[at : at + 1])]
    assert pieces == list(whole)
    for packet in whole:
        assert packet.encode() in data


def dialogue(data: bytes) -> None:
    """A meter that answers with these, one after the other, whatever is asked: values, or a DlmsError."""
    for credentials in (Credentials(), _keyed()):
        for asking in (_registers, _position, _intervals):
            messages = data.split(b"|")
            _run(_whole(WrapperLink(16, 1), credentials, asking), messages, _wrapped)
            _run(_whole(HdlcLink(_CLIENT, _SERVER), credentials, asking), messages, _framed)


def meter_map(data: bytes) -> None:
    """MapError in one line, or a map with a register."""
    try:
        read = read_map(data.decode(errors="replace"))
    except MapError as error:
        assert "\n" not in str(error), str(error)
        return
    assert read.registers


def _keyed() -> Credentials:
    counter = iter(range(2**32))
    keys = Keys(bytes(range(16)), bytes(range(16, 32)))
    return Credentials(security=Security(keys, b"OPEN0001", counter.__next__, bytes(16)))


_Asking = Callable[[Association], Steps[Any]]


def _registers(association: Association) -> Steps[Any]:
    return read_registers(association, tuple(_MAP.registers.values()), Zone(), Known())


def _position(association: Association) -> Steps[Any]:
    assert _MAP.relay is not None
    return read_position(association, _MAP.relay)


def _intervals(association: Association) -> Steps[Any]:
    assert _MAP.load_profile is not None
    registers = tuple(_MAP.registers.values())
    span = (_NOON, _NOON)
    return read_intervals(association, _MAP.load_profile, registers, span, Zone(), Known())


def _whole(link: Link, credentials: Credentials, asking: _Asking) -> Steps[None]:
    association = Association(link, credentials)
    yield from association.open()
    yield from asking(association)
    yield from association.close()


def _run(
    steps: Steps[None], messages: Sequence[bytes], carried: Callable[[bytes, bytes], bytes]
) -> None:
    """Answer each question with the next message, in sound frames: what is inside is what is spoilt."""
    answers = cycle(messages)
    try:
        asked = next(steps)
        for _ in range(_ANSWERS_MAX):
            asked = steps.send(carried(asked, next(answers)))
    except (StopIteration, DlmsError):
        return


def _wrapped(_: bytes, message: bytes) -> bytes:
    return Packet(1, 16, message).encode()


def _framed(asked: bytes, message: bytes) -> bytes:
    for frame in FrameReader().feed(asked):
        if not hdlc.is_information(frame.control):
            return Frame(_CLIENT, _SERVER, hdlc.UA, message[:100]).encode()
        told = hdlc.sent_number(frame.control)
        control = hdlc.information_control(hdlc.received_number(frame.control), (told + 1) % 8)
        return Frame(_CLIENT, _SERVER, control, b"\xe6\xe7\x00" + message[:1500]).encode()
    return message


_AARE = bytes.fromhex(
    "6129a109060760857405080101a203020100a305a103020100be10040e0800065f1f040000501f01f40007"
)
_COLUMNS = (
    "0102 0204 120008 0906000001 0000ff 0f02 120000 0204 120003 0906010001 0800ff 0f02 120000"
)
_ROWS = "0101 0202 090c07ea0601ff0c000000000000 0600000007"
_DIALOGUES = (
    _AARE
    + b"|"
    + b"|".join(bytes((0xC4, 1, at)) + bytes.fromhex("000600000007") for at in range(16)),
    _AARE
    + b"|"
    + bytes.fromhex("c401c00002020f00161e")
    + b"|"
    + bytes.fromhex("c401c1000600000007"),
    _AARE
    + b"|"
    + bytes.fromhex("c402c0000000000100030202")
    + b"|"
    + bytes.fromhex("c402c00100000002000411011102"),
    b"|".join(
        (
            _AARE,
            bytes.fromhex("c401c000" + _COLUMNS),
            bytes.fromhex("c401c1000600000384"),
            bytes.fromhex("c401c200" + _ROWS),
        )
    ),
    bytes.fromhex("d80106") + b"|" + bytes.fromhex("0e010203"),
)
_FRAMES = (
    Frame(_SERVER, _CLIENT, hdlc.SNRM).encode(),
    Frame(_CLIENT, hdlc.server_address(300, 301), 0x30, bytes(range(90)), True).encode() * 2,
    b"\x7e\xa7\xff" + Frame(_CLIENT, _SERVER, 0x10, b"\x7e\x7e").encode(),
)
_PACKETS = (Packet(1, 16, _AARE).encode() * 2, b"\x00" + Packet(1, 1, b"\x00\x01").encode())


def _maps() -> Sequence[bytes]:
    home = files("openami.gateway.drivers.dlms").joinpath("maps")
    return [home.joinpath(f"{name}.toml").read_bytes() for name in shipped_maps()]


TARGETS = (
    Target("dlms_frames", frames, lambda: _FRAMES, 150),
    Target("dlms_packets", packets, lambda: _PACKETS, 150),
    Target("dlms_dialogue", dialogue, lambda: _DIALOGUES, 150),
    Target("dlms_map", meter_map, _maps, 60),
)
