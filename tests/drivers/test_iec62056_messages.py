"""What is on a mode C line: characters with parity, sign-on, identification, acknowledgement, block."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.gateway.drivers.iec62056.block import BLOCK_CHARS_MAX, Block, BlockReader
from openami.gateway.drivers.iec62056.characters import (
    SPOILT,
    Parity,
    as_read,
    check_character,
    to_send,
)
from openami.gateway.drivers.iec62056.errors import UnfitAnswer
from openami.gateway.drivers.iec62056.messages import (
    IDENTIFICATION_CHARS_MAX,
    REACTION_FAST_S,
    REACTION_S,
    Mode,
    acknowledgement,
    find_identification,
    sign_on,
)

# Written out by hand: "/?!" CR LF with even parity as an oscilloscope shows it.
SIGN_ON_TO_ANYBODY = bytes.fromhex("af3f218d0a")
BLOCK = b"\x021.8.0(001842.50*kWh)\r\n!\r\n\x03"


def test_even_parity_is_made_as_the_line_has_it() -> None:
    assert to_send(sign_on(""), Parity.EVEN) == SIGN_ON_TO_ANYBODY
    assert to_send(b"\x15", Parity.EVEN) == b"\x95"
    assert to_send(sign_on("00112233"), Parity.NONE) == b"/?00112233!\r\n"


@given(st.binary(max_size=50).map(lambda octets: bytes(octet & 0x7F for octet in octets)))
def test_what_is_sent_is_read(characters: bytes) -> None:
    for parity in Parity:
        assert as_read(to_send(characters, parity), parity) == characters


@pytest.mark.parametrize("bit", range(8))
def test_one_bent_bit_spoils_a_character(bit: int) -> None:
    for character in range(128):
        bent = bytes((to_send(bytes((character,)), Parity.EVEN)[0] ^ 1 << bit,))
        assert as_read(bent, Parity.EVEN) == bytes((SPOILT,))


def test_without_parity_an_eighth_bit_is_noise() -> None:
    assert as_read(b"\xaf?", Parity.NONE) == bytes((SPOILT,)) + b"?"


# --- identification ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "maker", "mode", "baudrate", "rest"),
    [
        ("/ISk5MT174-0001", "ISk", Mode.C, 9600, "MT174-0001"),
        ("/APA5\\2NORAX30", "APA", Mode.C, 9600, "\\2NORAX30"),
        ("/LGZ4\\2ZMD310", "LGZ", Mode.C, 4800, "\\2ZMD310"),
        ("/ABC0", "ABC", Mode.C, 300, ""),
        ("/ABC6X", "ABC", Mode.C, 19200, "X"),
        ("/ABC7X", "ABC", Mode.C, None, "X"),
        ("/ABC9X", "ABC", Mode.C, None, "X"),
        ("/ABCAX", "ABC", Mode.B, 600, "X"),
        ("/ABCFX", "ABC", Mode.B, 19200, "X"),
        ("/ABCGX", "ABC", Mode.B, None, "X"),
        ("/ABCJX", "ABC", Mode.A, None, "JX"),
        ("/ABC@X", "ABC", Mode.A, None, "@X"),
    ],
)
def test_an_identification_tells_maker_mode_and_speed(
    text: str, maker: str, mode: Mode, baudrate: int | None, rest: str
) -> None:
    who = find_identification(text.encode() + b"\r\n")
    assert who is not None
    assert (who.maker, who.mode, who.baudrate, who.text) == (maker, mode, baudrate, rest)
    assert who.reaction_s == (REACTION_FAST_S if maker[2].islower() else REACTION_S)


@pytest.mark.parametrize(
    "text",
    [
        "/ISk5MT174-0001\r",
        "/ISk5MT174-0001\n",
        "/IS5MT\r\n",
        "/1Sk5MT\r\n",
        "/ISk\r\n",
        "ISk5MT\r\n",
        "/ISk5MT!\r\n",
        "/ISk5M\x80T\r\n",
        "/ISk\x80MT\r\n",
        "/ISk5" + "x" * (IDENTIFICATION_CHARS_MAX + 1) + "\r\n",
        "/?10021!\r\n",
    ],
)
def test_what_is_no_identification_is_waited_on(text: str) -> None:
    assert find_identification(text.encode("latin-1")) is None


def test_an_identification_is_as_long_as_makers_write_it_and_no_longer() -> None:
    assert find_identification(b"/ISk5" + b"x" * IDENTIFICATION_CHARS_MAX + b"\r\n") is not None


@pytest.mark.parametrize("before", [b"\x80\x00", b"/?10021!\r\n", b"/IS", b"5)\r\n!\r\n\x03H"])
def test_noise_and_echo_before_an_identification_are_thrown_away(before: bytes) -> None:
    assert find_identification(before + b"/ISk5MT\r\n") is not None


@pytest.mark.parametrize("behind", [b"/ISk5MT\r\n", b"\x02", b"x", b"\x80"])
def test_nobody_may_speak_behind_an_identification(behind: bytes) -> None:
    with pytest.raises(UnfitAnswer, match="two answers"):
        find_identification(b"/ISk5MT\r\n" + behind)


@pytest.mark.parametrize(
    ("baudrate", "expected"),
    [
        (300, b"\x06000\r\n"),
        (2400, b"\x06030\r\n"),
        (9600, b"\x06050\r\n"),
        (19200, b"\x06060\r\n"),
    ],
)
def test_an_acknowledgement_orders_a_read_out(baudrate: int, expected: bytes) -> None:
    assert acknowledgement(baudrate) == expected


# --- block ---------------------------------------------------------------------------------------


def block(characters: bytes = BLOCK) -> bytes:
    return characters + bytes((check_character(characters[1:]),))


def test_the_check_character_leaves_stx_out_and_takes_etx_in() -> None:
    assert check_character(b"1.8.0\x03") == 0x31 ^ 0x2E ^ 0x38 ^ 0x2E ^ 0x30 ^ 0x03


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_block_is_read_in_whatever_pieces_it_comes(size: int) -> None:
    reader, whole = BlockReader(), b"\x80\r\n" + block()
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    assert [reader.feed(piece) for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert reader.feed(pieces[-1]) == Block(BLOCK[1:-1], True)


def test_a_block_cut_anywhere_is_none() -> None:
    for end in range(len(block())):
        assert BlockReader().feed(block()[:end]) is None


def test_what_comes_behind_a_block_is_not_part_of_it() -> None:
    assert BlockReader().feed(block() + block()) == Block(BLOCK[1:-1], True)


def test_one_character_changed_or_spoilt_is_seen() -> None:
    for at in range(1, len(block())):
        for character in (SPOILT, block()[at] ^ 1, block()[at] ^ 0x40):
            bent = block()[:at] + bytes((character,)) + block()[at + 1 :]
            read = BlockReader().feed(bent)
            assert read is None or not read.sound, (at, character)


def test_one_character_lost_is_seen() -> None:
    for at in range(1, len(block())):
        read = BlockReader().feed(block()[:at] + block()[at + 1 :])
        assert read is None or not read.sound, at


def test_another_identification_is_no_block() -> None:
    with pytest.raises(UnfitAnswer, match="identification"):
        BlockReader().feed(b"\x80/ISk5MT\r\n" + block())


def test_a_block_has_a_bound() -> None:
    reader = BlockReader()
    assert reader.feed(b"\x02" + b"x" * BLOCK_CHARS_MAX) is None
    with pytest.raises(UnfitAnswer, match="32768"):
        reader.feed(b"x")
