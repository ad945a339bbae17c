"""HDLC frames and wrapper packets: whole ones come out, broken ones never, and noise does not last."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.gateway.drivers.dlms import hdlc
from openami.gateway.drivers.dlms.errors import DlmsError
from openami.gateway.drivers.dlms.hdlc import FRAME_BYTES_MAX, Frame, FrameReader, checksum
from openami.gateway.drivers.dlms.wrapper import PAYLOAD_BYTES_MAX, Packet, PacketReader
from openami.simulator.dlms import frames

_CLIENT = hdlc.client_address(16)
# A flag, and what looks like the beginning of a frame, inside the information.
_FRAMES = [
    Frame(hdlc.server_address(1), _CLIENT, hdlc.SNRM),
    Frame(hdlc.server_address(1, 17), _CLIENT, 0x10, bytes.fromhex("e6e600c001c1")),
    Frame(_CLIENT, hdlc.server_address(1, 300), 0x30, bytes.fromhex("7e7ea00703217e"), True),
    Frame(_CLIENT, hdlc.server_address(300, 16383), 0x30, bytes(range(200))),
]
_addresses = st.one_of(
    st.integers(1, 127).map(hdlc.server_address),
    st.tuples(st.integers(0, 0x3FFF), st.integers(0, 0x3FFF)).map(
        lambda pair: hdlc.server_address(*pair)
    ),
)
_frames = st.builds(
    Frame, _addresses, _addresses, st.integers(0, 255), st.binary(max_size=300), st.booleans()
)


def test_a_frame_is_as_others_write_it() -> None:
    """SNRM of client 16 to server 1, as every meter reader's log begins."""
    assert _FRAMES[0].encode().hex() == "7ea0070321930f017e"


@given(st.binary(max_size=300))
def test_the_checksum_is_x25(data: bytes) -> None:
    assert checksum(data) == frames.checksum(data)


@given(st.lists(_frames, max_size=4), st.integers(1, 50), st.binary(max_size=9))
def test_frames_survive_any_cutting_of_the_stream(
    frames: list[Frame], size: int, noise: bytes
) -> None:
    """Noise before the first flag included, as long as it is not a flag itself."""
    stream = noise.replace(b"\x7e", b"") + b"".join(frame.encode() for frame in frames)
    reader = FrameReader()
    read = [
        frame for at in range(0, len(stream), size) for frame in reader.feed(stream[at : at + size])
    ]
    assert read == frames


def test_neighbours_may_share_a_flag() -> None:
    stream = _FRAMES[0].encode()[:-1] + _FRAMES[1].encode()
    assert list(FrameReader().feed(stream)) == _FRAMES[:2]


@pytest.mark.parametrize("frame", _FRAMES)
def test_a_frame_cut_at_any_byte_is_none_and_spoils_at_most_itself(frame: Frame) -> None:
    whole = frame.encode()
    for at in range(len(whole)):
        reader = FrameReader()
        assert reader.feed(whole[:at]) == ()
        reader.forget()
        assert reader.feed(whole) == (frame,)


@pytest.mark.parametrize("frame", _FRAMES)
def test_a_frame_with_a_bent_bit_is_none(frame: Frame) -> None:
    """Any bit but the two flags': CRC-16 finds every single one."""
    whole = frame.encode()
    for bit in range(8, 8 * (len(whole) - 1)):
        bent = bytearray(whole)
        bent[bit // 8] ^= 1 << bit % 8
        assert FrameReader().feed(bytes(bent)) == ()


@given(st.binary(max_size=3000))
def test_noise_is_bounded_and_does_not_raise(noise: bytes) -> None:
    reader = FrameReader()
    for at in range(0, len(noise), 100):
        reader.feed(noise[at : at + 100])
    reader.forget()
    assert reader.feed(_FRAMES[1].encode()) == (_FRAMES[1],)


def test_a_flag_in_noise_does_not_swallow_the_frame_behind_it() -> None:
    """Noise that promises a long frame is seen through as soon as its header is there."""
    noise = bytes.fromhex("7ea7ff0321937777")
    assert FrameReader().feed(noise + _FRAMES[0].encode()) == (_FRAMES[0],)


def test_a_frame_too_long_is_not_sent() -> None:
    most = FRAME_BYTES_MAX - 2 - 1 - 1 - 1 - 2 - 2
    assert len(Frame(b"\x03", b"\x21", 0x10, bytes(most)).encode()) == FRAME_BYTES_MAX + 2
    with pytest.raises(DlmsError, match="at most 2047 bytes"):
        Frame(b"\x03", b"\x21", 0x10, bytes(most + 1)).encode()


@pytest.mark.parametrize(
    ("logical", "physical", "size", "octets"),
    [
        (1, None, None, "03"),
        (1, 17, None, "0223"),
        (1, 17, 4, "00020023"),
        (1, 145, None, "00020223"),
        (0x3FFF, 0x3FFF, None, "fefefeff"),
    ],
)
def test_addresses_take_one_two_or_four_bytes(
    logical: int, physical: int | None, size: int | None, octets: str
) -> None:
    assert hdlc.server_address(logical, physical, size=size).hex() == octets


@pytest.mark.parametrize(
    ("logical", "physical", "size"),
    [(0, None, None), (128, None, None), (1, None, 2), (1, 128, 2), (1, 17, 1), (0x4000, 1, None)],
)
def test_an_address_that_does_not_fit_is_refused(
    logical: int, physical: int | None, size: int | None
) -> None:
    with pytest.raises(ValueError):
        hdlc.server_address(logical, physical, size=size)


# --- the wrapper ---------------------------------------------------------------------------------

_PACKETS = [
    Packet(16, 1, b"\x60"),
    Packet(1, 16, bytes.fromhex("000100100001")),
    Packet(1, 1, b"x"),
]
_packets = st.builds(
    Packet, st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.binary(min_size=1, max_size=300)
)


def test_a_packet_is_as_others_write_it() -> None:
    assert Packet(16, 1, b"\xc0\x01").encode().hex() == "0001001000010002c001"


@given(st.lists(_packets, max_size=4), st.integers(1, 50))
def test_packets_survive_any_cutting_of_the_stream(packets: list[Packet], size: int) -> None:
    stream = b"".join(packet.encode() for packet in packets)
    reader = PacketReader()
    read = [
        packet
        for at in range(0, len(stream), size)
        for packet in reader.feed(stream[at : at + size])
    ]
    assert read == packets


def test_a_packet_cut_at_any_byte_is_none() -> None:
    for packet in _PACKETS:
        whole = packet.encode()
        for at in range(len(whole)):
            reader = PacketReader()
            assert reader.feed(whole[:at]) == ()
            reader.forget()
            assert reader.feed(whole) == (packet,)


def test_noise_before_a_packet_is_passed_over() -> None:
    whole = _PACKETS[0].encode()
    for noise in (
        b"\xff",
        b"\x00",
        b"\x00\x00",
        b"\x02\x01\x00",
    ):
        assert PacketReader().feed(noise + whole) == (_PACKETS[0],)


@given(st.binary(max_size=3000))
def test_noise_for_packets_is_bounded_and_does_not_raise(noise: bytes) -> None:
    reader = PacketReader()
    for at in range(0, len(noise), 100):
        reader.feed(noise[at : at + 100])
    reader.forget()
    assert reader.feed(_PACKETS[0].encode()) == (_PACKETS[0],)


def test_a_packet_beyond_the_bound_is_noise() -> None:
    largest = Packet(1, 1, bytes(PAYLOAD_BYTES_MAX))
    assert PacketReader().feed(largest.encode()) == (largest,)
    beyond = Packet(1, 1, b"\x01" * (PAYLOAD_BYTES_MAX + 1))
    assert beyond not in PacketReader().feed(beyond.encode())
