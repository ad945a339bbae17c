"""HDLC frames of DLMS (IEC 62056-46, frame type 3): bytes to frames and back. Pure.

``7E | format and length | destination | source | control | HCS | information | FCS | 7E``. A frame is read by
its length field: both checksums and enciphered information may hold a 7E. A frame without information has no
HCS. Checksums are CRC-16/X-25, low byte first.

Addresses are kept as they stand on the wire, 1, 2 or 4 bytes, the lowest bit set in the last.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from openami.gateway.drivers.dlms.errors import DlmsError

FLAG: Final = 0x7E
FRAME_BYTES_MAX: Final = 0x7FF  # the length field has 11 bits; the two flags are not counted
_ADDRESS_LENGTHS: Final = (1, 2, 4)
_TYPE_3: Final = 0xA0
_SEGMENTED: Final = 0x08
# Format, the shortest addresses, control, one checksum.
_FRAME_BYTES_MIN: Final = 2 + 1 + 1 + 1 + 2

SNRM: Final = 0x93
UA: Final = 0x73
DISC: Final = 0x53
DM: Final = 0x1F
FRMR: Final = 0x97
UI: Final = 0x13
FINAL: Final = 0x10
"""The poll/final bit of a control byte."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame; addresses as on the wire."""

    destination: bytes
    source: bytes
    control: int
    information: bytes = b""
    segmented: bool = False
    """More frames of the same message follow."""

    def encode(self) -> bytes:
        """Return the frame's bytes, flags included. Raises DlmsError when it is too long."""
        head_bytes = 2 + len(self.destination) + len(self.source) + 1
        length = head_bytes + 2 + (len(self.information) + 2 if self.information else 0)
        if length > FRAME_BYTES_MAX:
            raise DlmsError(f"a frame has at most {FRAME_BYTES_MAX} bytes, this one {length}")
        first = _TYPE_3 | (_SEGMENTED if self.segmented else 0) | length >> 8
        head = bytes((first, length & 0xFF)) + self.destination + self.source
        body = head + bytes((self.control,))
        body += checksum(body)
        if self.information:
            body += self.information
            body += checksum(body)
        return bytes((FLAG,)) + body + bytes((FLAG,))


def information_control(sent: int, received: int) -> int:
    """Return the control byte of an I frame: N(S), N(R), poll set."""
    return received << 5 | FINAL | sent << 1


def ready_control(received: int) -> int:
    """Return the control byte of an RR frame: N(R), poll set."""
    return received << 5 | FINAL | 1


def is_information(control: int) -> bool:
    return not control & 1


def is_ready(control: int) -> bool:
    return control & 0x0F == 1


def sent_number(control: int) -> int:
    """Return N(S) of an I frame."""
    return control >> 1 & 7


def received_number(control: int) -> int:
    """Return N(R) of an I or RR frame: the number the sender waits for."""
    return control >> 5


def client_address(client: int) -> bytes:
    """Return a client's address, 1 to 127, as on the wire."""
    assert 0 < client < 0x80
    return bytes((client << 1 | 1,))


def server_address(logical: int, physical: int | None = None, *, size: int | None = None) -> bytes:
    """Return a server's address as on the wire, in the shortest form it fits, or in ``size`` bytes.

    One byte holds a logical device alone; two and four bytes hold logical and physical device.
    Raises ValueError for what does not fit.
    """
    if physical is None:
        if size not in (None, 1) or not 0 < logical < 0x80:
            raise ValueError("a server without a physical address is 1 to 127, in one byte")
        return bytes((logical << 1 | 1,))
    fits = 2 if logical < 0x80 and physical < 0x80 else 4
    size = fits if size is None else size
    if size not in (2, 4) or size < fits or not 0 <= logical < 0x4000 or not 0 <= physical < 0x4000:
        raise ValueError("two bytes hold addresses up to 127, four bytes up to 16383")
    if size == 2:
        return bytes((logical << 1, physical << 1 | 1))
    return bytes(
        (
            logical >> 7 << 1,
            (logical & 0x7F) << 1,
            physical >> 7 << 1,
            (physical & 0x7F) << 1 | 1,
        )
    )


class FrameReader:
    """Bytes in, whole and proven frames out; noise is passed over.

    Holds at most one frame's worth of bytes between two calls.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> tuple[Frame, ...]:
        """Return the frames that these bytes complete."""
        self._buffer += data
        frames = tuple(self._frames())
        assert len(self._buffer) <= FRAME_BYTES_MAX + 2
        return frames

    def forget(self) -> None:
        """Drop what is unfinished: it belongs to an older question."""
        self._buffer.clear()

    def _frames(self) -> Iterator[Frame]:
        while self._skip_to_flag():
            length = _length(self._buffer)
            if length is None:
                return  # too short to know
            if length == 0:
                del self._buffer[0]  # this flag begins nothing; another may
                continue
            if len(self._buffer) < length + 2:
                return
            frame = _frame(bytes(self._buffer[1 : length + 1]))
            if frame is None or self._buffer[length + 1] != FLAG:
                del self._buffer[0]
                continue
            # The closing flag stays: it may open the next frame.
            del self._buffer[: length + 1]
            yield frame

    def _skip_to_flag(self) -> bool:
        at = self._buffer.find(FLAG)
        del self._buffer[: len(self._buffer) if at < 0 else at]
        while len(self._buffer) > 1 and self._buffer[1] == FLAG:
            del self._buffer[0]
        return bool(self._buffer)


def _length(buffer: bytearray) -> int | None:
    """Return how long the frame behind the flag is; None while unknown, 0 when none can begin here.

    The header has its own checksum, so that noise that looks like a flag and a length does not make the
    reader wait for bytes nobody sends.
    """
    if len(buffer) < 3:
        return None
    length = (buffer[1] & 0x07) << 8 | buffer[2]
    if buffer[1] & 0xF0 != _TYPE_3 or length < _FRAME_BYTES_MIN:
        return 0
    at = 3
    for _ in range(2):
        size = _address_bytes(buffer, at)
        if size is None:
            return None
        if size == 0:
            return 0
        at += size
    head_end = at + 1 + 2
    if length + 1 < head_end:
        return 0
    if len(buffer) < head_end:
        return None
    if checksum(bytes(buffer[1 : head_end - 2])) != buffer[head_end - 2 : head_end]:
        return 0
    # Behind the header is nothing, or information and its own checksum.
    return length if length + 1 == head_end or length + 1 > head_end + 2 else 0


def _address_bytes(buffer: bytes | bytearray, at: int) -> int | None:
    """Return how long the address at this place is; None while unknown, 0 when it is none."""
    for length in range(1, _ADDRESS_LENGTHS[-1] + 1):
        if len(buffer) < at + length:
            return None
        if buffer[at + length - 1] & 1:
            return length if length in _ADDRESS_LENGTHS else 0
    return 0


def _frame(body: bytes) -> Frame | None:
    """Return the frame between the flags, its header known to be good; None if its checksum is wrong."""
    destination_bytes = _address_bytes(body, 2)
    assert destination_bytes
    source_at = 2 + destination_bytes
    source_bytes = _address_bytes(body, source_at)
    assert source_bytes
    control_at = source_at + source_bytes
    information = b""
    if len(body) > control_at + 3:
        if checksum(body[:-2]) != body[-2:]:
            return None
        information = body[control_at + 3 : -2]
    return Frame(
        body[2:source_at],
        body[source_at:control_at],
        body[control_at],
        information,
        segmented=bool(body[0] & _SEGMENTED),
    )


def _table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x8408 if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


_CRC_TABLE: Final = _table()


def checksum(data: bytes) -> bytes:
    """Return CRC-16/X-25 of the bytes, low byte first."""
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return (crc ^ 0xFFFF).to_bytes(2, "little")
