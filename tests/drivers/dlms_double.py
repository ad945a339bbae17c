"""DLMS meters on a bad line: the simulated meter's protocol, with a script between it and the wire.

The protocol is the simulator's, which is written from the standards and not from the driver (decision 0064). What a
test gives are bare objects, and what is wrong: with an answer on its way, or with the meter itself.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from openami.simulator.dlms import data
from openami.simulator.dlms.frames import Framing, Hdlc, Question, Wrapper
from openami.simulator.dlms.objects import ControlMode, DisconnectControl, Transition
from openami.simulator.dlms.server import (
    Dialogue,
    LogicalDevice,
    Password,
    Place,
    Public,
    Refused,
    Result,
)

Send = Callable[[bytes], None]
Read = Callable[[int], bytes]
"""The number of the question → the attribute's data."""
_ASSOCIATE, _RELEASE, _ACTION = 0x60, 0x62, 0xC3
_NOT_ALLOWED = b"\xd8\x01\x01"
_BLOCK_OVERHEAD_BYTES = 40


def named(text: str) -> bytes:
    return bytes(int(group) for group in text.split("."))


def number(value: int) -> bytes:
    return data.double_long_unsigned(value)


def text(value: str) -> bytes:
    return data.octet_string(value.encode())


def scaler(exponent: int, unit: int) -> bytes:
    return data.structure(data.integer(exponent), data.enumerated(unit))


class Fault(Enum):
    NONE = auto()
    DROP = auto()
    LATE = auto()
    TRUNCATE = auto()
    FLIP = auto()
    NOISE = auto()
    TWICE = auto()


@dataclass
class DlmsDouble:
    """One meter."""

    objects: dict[tuple[int, bytes, int], Read] = field(default_factory=dict)
    password: bytes | None = None
    silent: bool = False
    mute_orders: bool = False
    garbles_orders: bool = False
    """It does what it is ordered, and answers as if to another order."""
    orders: int = 0
    written: dict[tuple[int, bytes, int], bytes] = field(default_factory=dict)
    asked: int = 0
    refusals: int = 0
    """Associations it did not grant."""
    block_bytes: int = 100
    exception: bool = False
    """It answers every question with an exception, as a meter does that knows no association."""
    closed: bool = True
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.control = DisconnectControl(lambda: self.closed, self._moved)
        self.device = _Device(self)

    @property
    def associated(self) -> list[int]:
        """The clients that are associated."""
        return [client for client, each in self.device.dialogues.items() if each.associated]

    def forget(self) -> None:
        """Lose all associations, as at a power cut."""
        for each in self.device.dialogues.values():
            each.associated = False

    def arm_only(self) -> None:
        """Leave a remote reconnection to the customer's button from now on."""
        self.control.mode = ControlMode.BUTTON

    def get(self, place: Place, selection: bytes | None) -> bytes:
        """See `openami.simulator.dlms.server.Objects`."""
        self.asked += 1
        if place[0] == self.control.class_id:
            return self.control.get(place[2], selection)
        read = self.objects.get(place)
        if read is None:
            raise Refused(Result.OBJECT_UNDEFINED)
        return read(self.asked)

    def set(self, place: Place, value: bytes) -> None:
        if place not in self.objects:
            raise Refused(Result.READ_WRITE_DENIED)
        self.written[place] = value
        self.objects[place] = lambda _: value

    def act(self, place: Place, parameter: bytes) -> None:
        self.orders += 1
        self.control.act(place[2], parameter)

    def _moved(self, why: Transition) -> None:
        if why is not Transition.ARMED:
            self.closed = why is not Transition.REMOTE_DISCONNECT


class _Device(LogicalDevice):
    """The double as its clients see it."""

    def __init__(self, double: DlmsDouble) -> None:
        access = Public(orders=True) if double.password is None else Password(double.password)
        clients = dict.fromkeys(range(1, 128), access)
        super().__init__(
            double, clients, message_bytes_max=double.block_bytes + _BLOCK_OVERHEAD_BYTES
        )
        self.double = double
        self.dialogues: dict[int, Dialogue] = {}

    def dialogue(self, client: int) -> Dialogue:
        self.dialogues[client] = _Dialogue(self, client)
        return self.dialogues[client]


class _Dialogue(Dialogue):
    device: _Device

    def answer(self, message: bytes) -> bytes | None:
        double = self.device.double
        if double.exception and message[0] not in (_ASSOCIATE, _RELEASE):
            return _NOT_ALLOWED
        told = super().answer(message)
        if message[0] == _ASSOCIATE:
            double.refusals += not self.associated
        if message[0] != _ACTION or told is None:
            return told
        if double.mute_orders:
            return None
        garbled = double.garbles_orders * 0x0F
        return told[:2] + bytes((told[2] ^ garbled,)) + told[3:]


@dataclass
class DlmsBus:
    """Meters behind one port, by their station: a wPort, or an HDLC address as on the wire."""

    meters: dict[bytes, DlmsDouble]
    hdlc: bool
    script: Callable[[int], tuple[Fault, float]] = lambda _: (Fault.NONE, 0.0)
    turnaround_s: float = 0.0
    information_bytes: int = 60
    questions: int = 0
    overlaps: int = 0
    _busy: int = 0
    _packets: dict[Send, Wrapper] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._frames = Hdlc(self.information_bytes)

    def received(self, octets: bytes, send: Send) -> None:
        framing: Framing = self._frames if self.hdlc else self._packets.setdefault(send, Wrapper())
        for question in framing.questions(octets):
            task = asyncio.create_task(self._answer(framing, question, send), name="meter")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def told_at_once(self, frames: bytes) -> list[bytes]:
        """Return what the meters say to HDLC frames, for a line that gives it its time."""
        said: list[bytes] = []
        for question in self._frames.questions(frames):
            meter = self.meters.get(question.station)
            if meter is None or meter.silent:
                continue
            answer = self._frames.answer(question, meter.device)
            if answer is not None:
                said.append(answer)
        return said

    def close_links(self) -> None:
        """Forget every link, as meters do that nobody has asked for a while."""
        self._frames.close_links()

    async def rest(self) -> None:
        """Cancel the answers that are still to come."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _answer(self, framing: Framing, question: Question, send: Send) -> None:
        number_ = self.questions
        self.questions += 1
        meter = self.meters.get(question.station)
        if meter is None or meter.silent:
            return
        self.overlaps += self._busy
        self._busy += 1
        try:
            fault, late_s = self.script(number_)
            async with meter.turn:
                answer = framing.answer(question, meter.device)
                await asyncio.sleep(self.turnaround_s + (late_s if fault is Fault.LATE else 0))
                if answer is not None:
                    for octets in _spoilt(answer, fault, number_):
                        send(octets)
        finally:
            self._busy -= 1


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
