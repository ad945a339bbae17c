"""Links: how a message gets to one meter and its answer back, over HDLC or the wrapper. Pure.

A link is opened, asked, and closed; each is a dialogue (`steps`). After anything but a good answer it must
be opened anew: opening is what makes sure that no older answer is taken for a newer one (decision 0053).
"""

from collections import deque
from typing import Final, Protocol

from openami.gateway.drivers.dlms import hdlc
from openami.gateway.drivers.dlms.errors import AssociationRefused, LinkLost, UnfitAnswer
from openami.gateway.drivers.dlms.hdlc import Frame, FrameReader
from openami.gateway.drivers.dlms.steps import Steps
from openami.gateway.drivers.dlms.wrapper import Packet, PacketReader

MESSAGE_BYTES_MAX: Final = 0x4000
"""Of one answer in segments: four times what we tell the meter that we can take."""
_INFORMATION_BYTES_DEFAULT: Final = 128  # IEC 62056-46: where nothing was negotiated
_INFORMATION_BYTES_MAX: Final = 248  # what we propose: most of a frame, and still one byte to say
_FRAMES_MAX: Final = 16  # the window is one: more at once is a meter that repeats itself
_LLC_ASKED: Final = b"\xe6\xe6\x00"
_LLC_ANSWERED: Final = b"\xe6\xe7\x00"
# Pushed by the meter, and the answer to nothing: event and data notifications.
_NOTIFICATIONS: Final = (0x0F, 0xC2)
# Parameters of SNRM and UA: transmit and receive size, transmit and receive window.
_NEGOTIATION: Final = bytes.fromhex(
    f"818012 0501{_INFORMATION_BYTES_MAX:02x} 0601{_INFORMATION_BYTES_MAX:02x}"
    "070400000001 080400000001"
)
_RECEIVE_SIZE: Final = 0x06


class Link(Protocol):
    """A way to one meter."""

    def open(self) -> Steps[None]:
        """Be sure of the meter, and that it answers nothing older any more. Raises DlmsError."""
        ...

    def exchange(self, apdu: bytes) -> Steps[bytes]:
        """Send a message, return its answer. Raises DlmsError."""
        ...

    def close(self) -> Steps[None]:
        """Say goodbye. Raises DlmsError."""
        ...


class WrapperLink:
    """A TCP connection's messages with one logical device. The connection itself is the caller's."""

    def __init__(self, client: int, server: int) -> None:
        self._client = client
        self._server = server
        self._reader = PacketReader()

    def open(self) -> Steps[None]:
        """Nothing is said: a new TCP connection holds no old answers."""
        self._reader.forget()
        yield from ()

    def exchange(self, apdu: bytes) -> Steps[bytes]:
        """See `Link.exchange`."""
        received = yield Packet(self._client, self._server, apdu).encode()
        while True:
            for packet in self._reader.feed(received):
                ours = (packet.source, packet.destination) == (self._server, self._client)
                if ours and packet.payload[0] not in _NOTIFICATIONS:
                    return packet.payload
            received = yield b""

    def close(self) -> Steps[None]:
        """Nothing is said."""
        yield from ()


class HdlcLink:
    """A numbered dialogue with one meter on a line. The window is one frame each way."""

    def __init__(self, client: bytes, server: bytes) -> None:
        self._client = client
        self._server = server
        self._reader = FrameReader()
        self._arrived: deque[Frame] = deque(maxlen=_FRAMES_MAX)
        self._sent = 0
        self._received = 0
        self._segment_bytes = _INFORMATION_BYTES_DEFAULT

    def open(self) -> Steps[None]:
        """Set both counts to 0 with SNRM; the meter's UA tells how long its frames may be."""
        self._sent = self._received = 0
        frame = yield from self._ask(hdlc.SNRM, _NEGOTIATION)
        while frame.control != hdlc.UA:
            if frame.control == hdlc.DM:
                raise AssociationRefused("the meter refuses the HDLC link (DM)")
            frame = yield from self._next()
        self._segment_bytes = _receive_size(frame.information)

    def exchange(self, apdu: bytes) -> Steps[bytes]:
        """See `Link.exchange`."""
        message = _LLC_ASKED + apdu
        segments = [
            message[at : at + self._segment_bytes]
            for at in range(0, len(message), self._segment_bytes)
        ]
        for segment in segments[:-1]:
            yield from self._send_segment(segment)
        answer = yield from self._answer(segments[-1])
        if not answer.startswith(_LLC_ANSWERED):
            raise UnfitAnswer("the answer has no LLC header of a server")
        return answer[len(_LLC_ANSWERED) :]

    def close(self) -> Steps[None]:
        """End the link with DISC; a meter that has ended it itself says DM."""
        frame = yield from self._ask(hdlc.DISC)
        while frame.control not in (hdlc.UA, hdlc.DM):
            frame = yield from self._next()

    def _send_segment(self, segment: bytes) -> Steps[None]:
        frame = yield from self._ask(self._control(), segment, segmented=True)
        self._sent = (self._sent + 1) % 8
        while not (
            hdlc.is_ready(frame.control) and hdlc.received_number(frame.control) == self._sent
        ):
            _check_alive(frame)
            frame = yield from self._next()

    def _answer(self, segment: bytes) -> Steps[bytes]:
        frame = yield from self._ask(self._control(), segment)
        self._sent = (self._sent + 1) % 8
        answer = bytearray()
        while True:
            _check_alive(frame)
            if self._follows(frame):
                self._received = (self._received + 1) % 8
                answer += frame.information
                if len(answer) > MESSAGE_BYTES_MAX:
                    raise UnfitAnswer(f"an answer of more than {MESSAGE_BYTES_MAX} bytes")
                if not frame.segmented:
                    return bytes(answer)
                frame = yield from self._ask(hdlc.ready_control(self._received))
            else:
                frame = yield from self._next()  # a repeated or an older one: not ours to believe

    def _follows(self, frame: Frame) -> bool:
        return (
            hdlc.is_information(frame.control)
            and hdlc.sent_number(frame.control) == self._received
            and hdlc.received_number(frame.control) == self._sent
        )

    def _control(self) -> int:
        return hdlc.information_control(self._sent, self._received)

    def _ask(
        self, control: int, information: bytes = b"", *, segmented: bool = False
    ) -> Steps[Frame]:
        """Send a frame; return the first that comes after it."""
        self._reader.forget()
        self._arrived.clear()
        frame = Frame(self._server, self._client, control, information, segmented)
        return (yield from self._next(frame.encode()))

    def _next(self, to_send: bytes = b"") -> Steps[Frame]:
        """Return the next frame from our meter to us."""
        while not self._arrived:
            received = yield to_send
            to_send = b""
            self._arrived.extend(
                frame
                for frame in self._reader.feed(received)
                if frame.destination == self._client and frame.source == self._server
            )
        return self._arrived.popleft()


def _check_alive(frame: Frame) -> None:
    if frame.control in (hdlc.DM, hdlc.FRMR, hdlc.DISC):
        raise LinkLost("the meter has closed the HDLC link")


def _receive_size(parameters: bytes) -> int:
    """Return how much information a frame to this meter may hold; what it does not say is the default."""
    at = 3  # format, group, length of what follows
    while at + 2 <= len(parameters):
        tag, length = parameters[at], parameters[at + 1]
        value = parameters[at + 2 : at + 2 + length]
        if tag == _RECEIVE_SIZE and len(value) == length and 0 < length <= 4:
            told = int.from_bytes(value, "big")
            return min(max(told, 1), _INFORMATION_BYTES_MAX)
        at += 2 + length
    return _INFORMATION_BYTES_DEFAULT
