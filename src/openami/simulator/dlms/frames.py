"""How questions reach a meter and its answers leave: the wrapper of TCP, and HDLC on a line. Pure.

A meter's side of IEC 62056-47 and IEC 62056-46: bytes are fed in, whole questions come out, and a question's
answer is bytes again. Who feeds them owns the port, knows which meter hears a station, and may let a question
go unanswered.

Stations are addressed as on the wire: two bytes of a wPort; one, two or four of an HDLC address.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from openami.simulator.dlms.server import Dialogue, LogicalDevice

Station = bytes

_HEADER: Final = struct.Struct(">HHHH")
_VERSION: Final = 1

_FLAG: Final = b"\x7e"
_SNRM, _UA, _DISC, _DM = 0x93, 0x73, 0x53, 0x1F
_FINAL: Final = 0x10
_TYPE_3, _SEGMENTED = 0xA000, 0x0800
_LENGTH: Final = 0x07FF
_ADDRESS_BYTES_MAX: Final = 4  # IEC 62056-46, 6.4.2.2: the longest extended address
_ASKED, _ANSWERED = b"\xe6\xe6\x00", b"\xe6\xe7\x00"
_INFORMATION_BYTES_DEFAULT: Final = 128
_INFORMATION_BYTES_MAX: Final = 248  # what one byte of the negotiation says, and a frame holds
_MAY_RECEIVE: Final = 0x06
_QUESTION_BYTES_MAX: Final = 2048  # in segments; a client's longest is a few hundred
_BUFFER_BYTES_MAX: Final = 0x0800 + 2  # a frame and its flags; no whole one is longer


@dataclass(frozen=True, slots=True)
class Question:
    """A whole frame or packet: to which station, from which client, and what."""

    station: Station
    client: int
    control: int
    content: bytes
    segmented: bool = False


class Framing(Protocol):
    """The frames of one line or of one connection."""

    def questions(self, octets: bytes) -> Iterator[Question]:
        """Yield the questions that these bytes complete."""
        ...

    def answer(self, question: Question, device: LogicalDevice) -> bytes | None:
        """Return what the device answers, framed; None where it says nothing."""
        ...


# --- wrapper -------------------------------------------------------------------------------------


class Wrapper:
    """The packets of one TCP connection."""

    def __init__(self) -> None:
        self._buffer = b""
        self._dialogues: dict[tuple[LogicalDevice, int], Dialogue] = {}

    def questions(self, octets: bytes) -> Iterator[Question]:
        """See `Framing.questions`. What is no packet ends the stream: nothing after it is read."""
        self._buffer = (self._buffer + octets)[:_BUFFER_BYTES_MAX]
        while len(self._buffer) >= _HEADER.size:
            version, client, station, size = _HEADER.unpack_from(self._buffer)
            end = _HEADER.size + size
            if version != _VERSION or len(self._buffer) < end:
                return
            content, self._buffer = self._buffer[_HEADER.size : end], self._buffer[end:]
            yield Question(station.to_bytes(2, "big"), client, 0, content)

    def answer(self, question: Question, device: LogicalDevice) -> bytes | None:
        """See `Framing.answer`."""
        key = (device, question.client)
        if key not in self._dialogues:
            self._dialogues[key] = device.dialogue(question.client)
        told = self._dialogues[key].answer(question.content)
        if told is None:
            return None
        station = int.from_bytes(question.station, "big")
        return _HEADER.pack(_VERSION, station, question.client, len(told)) + told


# --- HDLC ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Link:
    """A numbered conversation of one client with one device."""

    dialogue: Dialogue
    information_bytes: int
    sent: int = 0
    received: int = 0
    asked: bytes = b""
    waiting: list[bytes] = field(default_factory=list)
    """Segments of the answer that are still to go."""


class Hdlc:
    """The frames of one serial line, or of one connection to it."""

    def __init__(self, information_bytes_max: int = _INFORMATION_BYTES_DEFAULT) -> None:
        self._information_bytes_max = information_bytes_max
        self._buffer = b""
        self._links: dict[tuple[LogicalDevice, int], _Link] = {}

    def questions(self, octets: bytes) -> Iterator[Question]:
        """See `Framing.questions`. A frame with a wrong checksum is passed over, as is noise."""
        self._buffer += octets
        while frame := self._next_frame():
            question = _taken_apart(frame)
            if question is not None:
                yield question

    def close_links(self) -> None:
        """Forget every link, as meters do that nobody has asked for a while."""
        self._links.clear()

    def answer(self, question: Question, device: LogicalDevice) -> bytes | None:
        """See `Framing.answer`."""
        key = (device, question.client)
        if question.control == _SNRM:
            size = min(_told_size(question.content), self._information_bytes_max)
            self._links[key] = _Link(device.dialogue(question.client), size)
            return _framed(question, _UA, _negotiated(size))
        link = self._links.get(key)
        if question.control == _DISC or link is None:
            self._links.pop(key, None)
            return _framed(question, _DM if link is None else _UA)
        if question.control & 1:  # RR: the next segment
            follows = question.control >> 5 == link.sent and link.waiting
            return _segment(question, link) if follows else None
        if question.control >> 1 & 7 != link.received:
            return None
        return self._information(question, link)

    def _information(self, question: Question, link: _Link) -> bytes | None:
        link.received = (link.received + 1) % 8
        link.asked = (link.asked + question.content)[:_QUESTION_BYTES_MAX]
        if question.segmented:
            return _framed(question, link.received << 5 | _FINAL | 1)
        asked, link.asked = link.asked, b""
        told = link.dialogue.answer(asked[len(_ASKED) :]) if asked.startswith(_ASKED) else None
        if told is None:
            return None
        message, size = _ANSWERED + told, link.information_bytes
        link.waiting = [message[at : at + size] for at in range(0, len(message), size)]
        return _segment(question, link)

    def _next_frame(self) -> bytes:
        """Take the next frame out of the buffer, without its flags; nothing while it is incomplete."""
        while (at := self._buffer.find(_FLAG)) >= 0:
            self._buffer = self._buffer[at:]
            if len(self._buffer) < 3:
                return b""
            format_ = int.from_bytes(self._buffer[1:3], "big")
            end = 1 + (format_ & _LENGTH)
            if format_ & 0xF000 == _TYPE_3 and len(self._buffer) <= end:
                return b""
            frame = self._buffer[1:end]
            if format_ & 0xF000 == _TYPE_3 and self._buffer[end : end + 1] == _FLAG:
                self._buffer = self._buffer[end:]
                return frame
            self._buffer = self._buffer[1:]
        self._buffer = b""
        return b""


def _segment(question: Question, link: _Link) -> bytes:
    information = link.waiting.pop(0)
    control = link.received << 5 | _FINAL | link.sent << 1
    link.sent = (link.sent + 1) % 8
    return _framed(question, control, information, segmented=bool(link.waiting))


def _framed(
    question: Question, control: int, information: bytes = b"", *, segmented: bool = False
) -> bytes:
    addresses = bytes((question.client << 1 | 1,)) + question.station
    size = 2 + len(addresses) + 1 + 2 + (len(information) + 2 if information else 0)
    format_ = _TYPE_3 | (_SEGMENTED if segmented else 0) | size
    head = format_.to_bytes(2, "big") + addresses + bytes((control,))
    body = head + checksum(head)
    if information:
        body += information
        body += checksum(body)
    return _FLAG + body + _FLAG


def _taken_apart(frame: bytes) -> Question | None:
    """Return the question in a frame; None for noise, or for a client of more than one byte."""
    station_end = _address_end(frame, 2)
    control_at = station_end + 1
    if station_end == 0 or control_at + 3 > len(frame) or not frame[station_end] & 1:
        return None
    head_end = control_at + 1
    if checksum(frame[:head_end]) != frame[head_end : head_end + 2]:
        return None
    content = b""
    if len(frame) > head_end + 2:
        if checksum(frame[:-2]) != frame[-2:]:
            return None
        content = frame[head_end + 2 : -2]
    segmented = bool(int.from_bytes(frame[:2], "big") & _SEGMENTED)
    return Question(
        frame[2:station_end], frame[station_end] >> 1, frame[control_at], content, segmented
    )


def _address_end(frame: bytes, at: int) -> int:
    """Return where an address ends: with the first byte whose lowest bit is set; 0 for none."""
    for end in range(at + 1, at + 1 + _ADDRESS_BYTES_MAX):
        if end < len(frame) and frame[end - 1] & 1:
            return end
    return 0


def _told_size(parameters: bytes) -> int:
    """Return how much information a frame to this client may hold."""
    at = 3  # format, group, length of what follows
    while at + 2 <= len(parameters):
        tag, size = parameters[at : at + 2]
        value = parameters[at + 2 : at + 2 + size]
        if tag == _MAY_RECEIVE and value:
            return max(1, min(int.from_bytes(value, "big"), _INFORMATION_BYTES_MAX))
        at += 2 + size
    return _INFORMATION_BYTES_DEFAULT


def _negotiated(information_bytes: int) -> bytes:
    """Return the parameters of UA: what we send, what we take, one frame at a time each way."""
    parameters = bytes((0x05, 1, information_bytes, _MAY_RECEIVE, 1, _INFORMATION_BYTES_DEFAULT))
    parameters += bytes.fromhex("070400000001080400000001")
    return bytes((0x81, 0x80, len(parameters))) + parameters


def checksum(octets: bytes) -> bytes:
    """Return CRC-16/X-25, low byte first."""
    value = 0xFFFF
    for octet in octets:
        value ^= octet
        for _ in range(8):
            value = value >> 1 ^ (0x8408 if value & 1 else 0)
    return (value ^ 0xFFFF).to_bytes(2, "little")
