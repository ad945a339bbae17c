"""DLMS meters at byte level, behind the wrapper or on an HDLC line: they answer by script, late, wrong or never.

Written from the standards and not from the driver: its own CRC, its own frames, its own messages. It knows
associations without security and by password; ciphered ones are proved against other people's servers.
"""

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

Send = Callable[[bytes], None]


def fcs(data: bytes) -> bytes:
    """CRC-16/X-25 bit by bit."""
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ 0x8408 if value & 1 else value >> 1
    return struct.pack("<H", value ^ 0xFFFF)


def named(text: str) -> bytes:
    return bytes(int(group) for group in text.split("."))


def number(value: int) -> bytes:
    return b"\x06" + struct.pack(">I", value)


def text(value: str) -> bytes:
    return bytes((9, len(value))) + value.encode()


def scaler(exponent: int, unit: int) -> bytes:
    return b"\x02\x02\x0f" + struct.pack(">b", exponent) + bytes((0x16, unit))


class Fault(Enum):
    NONE = auto()
    DROP = auto()
    LATE = auto()
    TRUNCATE = auto()
    FLIP = auto()
    NOISE = auto()
    TWICE = auto()


Read = Callable[[int], bytes]
"""The number of the question → the attribute's data."""


@dataclass
class DlmsDouble:
    """One meter."""

    objects: dict[tuple[int, bytes, int], Read] = field(default_factory=dict)
    password: bytes | None = None
    silent: bool = False
    mute_orders: bool = False
    garbles_orders: bool = False
    """It does what it is ordered, and answers as if to another order."""
    arms_only: bool = False
    """A remote reconnection leaves it to the customer's button."""
    control_state: int = 1
    orders: int = 0
    written: dict[tuple[int, bytes, int], bytes] = field(default_factory=dict)
    asked: int = 0
    refusals: int = 0
    """Associations it did not grant."""
    associated: set[object] = field(default_factory=set)
    blocks: list[bytes] = field(default_factory=list)
    block_bytes: int = 100
    exception: bool = False
    """It answers every question with an exception, as a meter does that knows no association."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def answer(self, apdu: bytes, dialogue: object) -> bytes | None:
        """Return what the meter says to a message; None where it says nothing."""
        if apdu[0] == 0x60:
            return self._associate(apdu, dialogue)
        if apdu[0] == 0x62:
            self.associated.discard(dialogue)
            return b"\x63\x03\x80\x01\x00"
        if dialogue not in self.associated or self.exception:
            return b"\xd8\x01\x01"
        if apdu[0] == 0xC0:
            return self._get(apdu)
        if apdu[0] == 0xC1:
            return self._set(apdu)
        if apdu[0] == 0xC3:
            return self._act(apdu)
        return b"\xd8\x02\x02"

    def _associate(self, apdu: bytes, dialogue: object) -> bytes:
        told = apdu.split(b"\xac", 1)[1] if b"\xac" in apdu else b""
        granted = (
            self.password is None or told[3 : 3 + told[2]] == self.password
            if told
            else (self.password is None)
        )
        result, diagnostic = (0, 0) if granted else (1, 13)
        if granted:
            self.associated.add(dialogue)
        else:
            self.refusals += 1
        body = bytes.fromhex("a109060760857405080101") + bytes((0xA2, 3, 2, 1, result))
        body += bytes.fromhex("a305a1030201") + bytes((diagnostic,))
        body += bytes.fromhex("be10040e0800065f1f040000101d04000007")
        return bytes((0x61, len(body))) + body

    def _get(self, apdu: bytes) -> bytes:
        head = bytes((0xC4, apdu[1], apdu[2]))
        if apdu[1] == 2:
            return self._block(head, struct.unpack(">I", apdu[3:7])[0] + 1)
        class_id, name, index = struct.unpack(">H", apdu[3:5])[0], apdu[5:11], apdu[11]
        self.asked += 1
        if (class_id, index) == (70, 3):
            return head + b"\x00\x16" + bytes((self.control_state,))
        if (class_id, index) == (70, 2):
            return head + b"\x00\x03" + bytes((self.control_state == 1,))
        read = self.objects.get((class_id, name, index))
        if read is None:
            return head + b"\x01\x04"
        value = read(self.asked)
        if len(value) <= self.block_bytes:
            return head + b"\x00" + value
        size = self.block_bytes
        self.blocks = [value[at : at + size] for at in range(0, len(value), size)]
        return self._block(bytes((0xC4, 2, apdu[2])), 1)

    def _block(self, head: bytes, wanted: int) -> bytes:
        block = self.blocks[wanted - 1]
        last = wanted == len(self.blocks)
        return head + bytes((last,)) + struct.pack(">I", wanted) + bytes((0, len(block))) + block

    def _set(self, apdu: bytes) -> bytes:
        class_id, name, index = struct.unpack(">H", apdu[3:5])[0], apdu[5:11], apdu[11]
        known = (class_id, name, index) in self.objects
        if known:
            self.written[class_id, name, index] = apdu[13:]
            self.objects[class_id, name, index] = lambda _: apdu[13:]
        return bytes((0xC5, 1, apdu[2], 0 if known else 3))

    def _act(self, apdu: bytes) -> bytes | None:
        self.orders += 1
        reconnected = 2 if self.arms_only else 1
        self.control_state = 0 if apdu[11] == 1 else reconnected
        number_ = apdu[2] ^ 0x0F if self.garbles_orders else apdu[2]
        return None if self.mute_orders else bytes((0xC7, 1, number_, 0, 0))


@dataclass
class _HdlcDialogue:
    sent: int = 0
    received: int = 0
    connected: bool = False
    asked: bytes = b""
    frames: list[tuple[bytes, bool]] = field(default_factory=list)


@dataclass
class DlmsBus:
    """Meters behind one port, by their address: a wPort, or an HDLC address as on the wire."""

    meters: dict[bytes, DlmsDouble]
    hdlc: bool
    script: Callable[[int], tuple[Fault, float]] = lambda _: (Fault.NONE, 0.0)
    turnaround_s: float = 0.0
    information_bytes: int = 60
    questions: int = 0
    overlaps: int = 0
    _busy: int = 0
    _inboxes: dict[Send, bytearray] = field(default_factory=dict)
    _dialogues: dict[tuple[int, bytes, bytes], _HdlcDialogue] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def received(self, data: bytes, send: Send) -> None:
        inbox = self._inboxes.setdefault(send, bytearray())
        inbox += data
        while question := self._next(inbox):
            task = asyncio.create_task(self._answer(question, send), name="meter")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def close_links(self) -> None:
        """Forget every link, as meters do that nobody has asked for a while."""
        for dialogue in self._dialogues.values():
            dialogue.connected = False

    async def rest(self) -> None:
        """Cancel the answers that are still to come."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _next(self, inbox: bytearray) -> bytes:
        if self.hdlc:
            if len(inbox) < 3:
                return b""
            size = ((inbox[1] & 7) << 8 | inbox[2]) + 2
        else:
            if len(inbox) < 8:
                return b""
            size = 8 + struct.unpack(">H", inbox[6:8])[0]
        if len(inbox) < size:
            return b""
        question = bytes(inbox[:size])
        del inbox[:size]
        return question

    async def _answer(self, question: bytes, send: Send) -> None:
        number_ = self.questions
        self.questions += 1
        address = _hdlc_addresses(question)[0] if self.hdlc else question[4:6]
        meter = self.meters.get(address)
        if meter is None or meter.silent:
            return
        self.overlaps += self._busy
        self._busy += 1
        try:
            fault, late_s = self.script(number_)
            async with meter.turn:
                answer = (self._hdlc if self.hdlc else self._wrapped)(meter, question, send)
                await asyncio.sleep(self.turnaround_s + (late_s if fault is Fault.LATE else 0))
                if answer is not None:
                    for octets in _spoilt(answer, fault, number_):
                        send(octets)
        finally:
            self._busy -= 1

    def _wrapped(self, meter: DlmsDouble, question: bytes, send: Send) -> bytes | None:
        answer = meter.answer(question[8:], (send, question[2:6]))
        if answer is None:
            return None
        return b"\x00\x01" + question[4:6] + question[2:4] + struct.pack(">H", len(answer)) + answer

    def _hdlc(self, meter: DlmsDouble, question: bytes, send: Send) -> bytes | None:
        server, client, control, information = _hdlc_taken_apart(question)
        dialogue = self._dialogues.setdefault((id(meter), server, client), _HdlcDialogue())
        segmented = bool(question[1] & 8)
        if control == 0x93:
            dialogue.__init__(connected=True)  # type: ignore[misc]  # all counts at 0
            told = bytes.fromhex("818012050180060180") + bytes.fromhex("07040000000108040000 0001")
            return _frame(client, server, 0x73, told)
        if control == 0x53 or not dialogue.connected:
            answer = 0x73 if control == 0x53 and dialogue.connected else 0x1F
            dialogue.connected = False
            return _frame(client, server, answer)
        if control & 1:  # RR: the next segment
            if control >> 5 != dialogue.sent or not dialogue.frames:
                return None
            return self._segment(dialogue, client, server)
        if control >> 1 & 7 != dialogue.received:
            return None
        dialogue.received = (dialogue.received + 1) % 8
        dialogue.asked += information
        if segmented:
            return _frame(client, server, dialogue.received << 5 | 0x11)
        asked, dialogue.asked = dialogue.asked, b""
        assert asked[:3] == b"\xe6\xe6\x00"
        told_ = meter.answer(asked[3:], (server, client))
        if told_ is None:
            return None
        message, size = b"\xe6\xe7\x00" + told_, self.information_bytes
        dialogue.frames = [
            (message[at : at + size], at + size < len(message))
            for at in range(0, len(message), size)
        ]
        return self._segment(dialogue, client, server)

    def _segment(self, dialogue: _HdlcDialogue, client: bytes, server: bytes) -> bytes:
        information, more = dialogue.frames.pop(0)
        control = dialogue.received << 5 | 0x10 | dialogue.sent << 1
        dialogue.sent = (dialogue.sent + 1) % 8
        return _frame(client, server, control, information, more=more)


def _frame(
    destination: bytes, source: bytes, control: int, information: bytes = b"", *, more: bool = False
) -> bytes:
    addresses = destination + source
    size = 2 + len(addresses) + 1 + 2 + (len(information) + 2 if information else 0)
    head = struct.pack(">H", 0xA000 | 0x0800 * more | size) + addresses + bytes((control,))
    body = head + fcs(head)
    if information:
        body += information
        body += fcs(body)
    return b"\x7e" + body + b"\x7e"


def _hdlc_addresses(frame: bytes) -> tuple[bytes, bytes]:
    addresses, at = [], 3
    for _ in range(2):
        end = at
        while not frame[end] & 1:
            end += 1
        addresses.append(frame[at : end + 1])
        at = end + 1
    return addresses[0], addresses[1]


def _hdlc_taken_apart(frame: bytes) -> tuple[bytes, bytes, int, bytes]:
    server, client = _hdlc_addresses(frame)
    at = 3 + len(server) + len(client)
    assert fcs(frame[1:-3]) == frame[-3:-1], frame.hex(" ")
    assert fcs(frame[1 : at + 1]) == frame[at + 1 : at + 3], frame.hex(" ")
    return server, client, frame[at], frame[at + 3 : -3]


def _spoilt(answer: bytes, fault: Fault, number_: int) -> list[bytes]:
    match fault:
        case Fault.DROP:
            return []
        case Fault.TRUNCATE:
            return [answer[: number_ % len(answer)]]
        case Fault.FLIP:
            at = number_ % len(answer)
            return [answer[:at] + bytes((answer[at] ^ 1 << number_ % 8,)) + answer[at + 1 :]]
        case Fault.NOISE:
            return [b"\x00\xff\x7e\xa0\x41\x7e" + answer]
        case Fault.TWICE:
            return [answer, answer]
        case _:
            return [answer]
