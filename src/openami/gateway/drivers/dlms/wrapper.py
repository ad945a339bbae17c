"""The wrapper of DLMS over TCP (IEC 62056-47): eight bytes before each message. Pure.

``version 0001 | source port | destination port | length``, each two bytes, high byte first. The ports name
client and logical device, not TCP.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_HEADER: Final = struct.Struct(">HHHH")
_VERSION: Final = 1
_VERSION_SPELLED: Final = b"\x00\x01"
PAYLOAD_BYTES_MAX: Final = 0x4000
"""Four times what we tell the meter that we can take; a longer one is noise that looks like a header."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One wrapped message."""

    source: int
    destination: int
    payload: bytes

    def encode(self) -> bytes:
        """Return the packet's bytes."""
        return _HEADER.pack(_VERSION, self.source, self.destination, len(self.payload)) + (
            self.payload
        )


class PacketReader:
    """Bytes in, whole packets out; what cannot begin a packet is passed over.

    Holds at most one packet's worth of bytes between two calls.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> tuple[Packet, ...]:
        """Return the packets that these bytes complete."""
        self._buffer += data
        packets = tuple(self._packets())
        assert len(self._buffer) < PAYLOAD_BYTES_MAX + _HEADER.size
        return packets

    def forget(self) -> None:
        """Drop what is unfinished: it belongs to an older question."""
        self._buffer.clear()

    def _packets(self) -> Iterator[Packet]:
        while True:
            self._skip_to_version()
            if len(self._buffer) < _HEADER.size:
                return
            _, source, destination, length = _HEADER.unpack_from(self._buffer)
            if not 0 < length <= PAYLOAD_BYTES_MAX:
                del self._buffer[0]
                continue
            end = _HEADER.size + length
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[_HEADER.size : end])
            del self._buffer[:end]
            yield Packet(source, destination, payload)

    def _skip_to_version(self) -> None:
        at = self._buffer.find(_VERSION_SPELLED)
        if at < 0:  # a last zero may be the first half of a version
            at = len(self._buffer) - self._buffer.endswith(_VERSION_SPELLED[:1])
        del self._buffer[:at]
