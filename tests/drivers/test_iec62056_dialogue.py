"""One read-out without a wire: what is sent when; what becomes of each answer that is spoilt, or nobody's."""

from collections.abc import Iterator, Sequence

import pytest

from openami.gateway.drivers.iec62056.characters import Parity, check_character, to_send
from openami.gateway.drivers.iec62056.dialogue import (
    REPEATS_MAX,
    Act,
    Dialogue,
    Listen,
    Manner,
    Pause,
    Send,
    SetSpeed,
    read_out,
)
from openami.gateway.drivers.iec62056.errors import NoAnswer, NotSpoken, ReadOutError, UnfitAnswer

DATA = b"C.1.0(10021)\r\n1.8.0(001842.50*kWh)\r\n!\r\n"
SILENCE = b""


def even(characters: bytes) -> bytes:
    return to_send(characters, Parity.EVEN)


def block(data: bytes = DATA) -> bytes:
    covered = data + b"\x03"
    return even(b"\x02" + covered + bytes((check_character(covered),)))


WHO = even(b"/ISk5MT174\r\n")
IN_PEACE = Pause(0.02)
ACKNOWLEDGED = Send(even(b"\x06050\r\n"))
REPEAT = Send(even(b"\x15"))
SLOW_TO_FAST = Manner(baudrate=300, baudrate_max=19200)


def run(dialogue: Dialogue[bytes], answers: Sequence[bytes]) -> tuple[list[Act], bytes]:
    """Answer each Listen with the next of these; afterwards all is silent."""
    acts: list[Act] = []
    left: Iterator[bytes] = iter(answers)
    try:
        act = next(dialogue)
        while True:
            acts.append(act)
            act = dialogue.send(next(left, SILENCE) if isinstance(act, Listen) else b"")
    except StopIteration as done:
        data: bytes = done.value
        return acts, data


def said(acts: Sequence[Act]) -> list[Act]:
    return [act for act in acts if not isinstance(act, Listen)]


def test_a_read_out_is_sign_on_acknowledgement_and_a_change_of_speed() -> None:
    acts, data = run(read_out("00112233", SLOW_TO_FAST), [WHO, block()])
    assert data == DATA
    assert said(acts) == [
        Send(even(b"/?00112233!\r\n")),
        IN_PEACE,
        ACKNOWLEDGED,
        SetSpeed(9600),
    ]


def test_a_meter_is_left_in_peace_as_long_as_it_wants() -> None:
    for who, manner, pause_s in (
        (WHO, SLOW_TO_FAST, 0.02),
        (even(b"/ISK5MT174\r\n"), SLOW_TO_FAST, 0.2),
        (WHO, Manner(baudrate=300, baudrate_max=19200, reaction_s=0.3), 0.3),
    ):
        acts, _ = run(read_out("", manner), [who, block()])
        assert said(acts)[1:3] == [Pause(pause_s), ACKNOWLEDGED]


@pytest.mark.parametrize(
    ("who", "manner", "ordered", "speeds"),
    [
        (b"/ISk5MT\r\n", Manner(baudrate=300, baudrate_max=4800), b"\x06000\r\n", []),
        (b"/ISk0MT\r\n", SLOW_TO_FAST, b"\x06000\r\n", []),
        (b"/ISk7MT\r\n", SLOW_TO_FAST, b"\x06000\r\n", []),
        (b"/ISk5MT\r\n", Manner(baudrate=9600, baudrate_max=9600), b"\x06050\r\n", []),
        (b"/ISk6MT\r\n", Manner(baudrate=9600, baudrate_max=9600), b"\x06050\r\n", []),
        (b"/ISk3MT\r\n", Manner(baudrate=9600, baudrate_max=19200), b"\x06050\r\n", []),
        (b"/ISk6MT\r\n", SLOW_TO_FAST, b"\x06060\r\n", [SetSpeed(19200)]),
    ],
)
def test_the_speed_is_one_that_meter_and_line_have(
    who: bytes, manner: Manner, ordered: bytes, speeds: list[Act]
) -> None:
    acts, data = run(read_out("", manner), [even(who), block()])
    assert data == DATA
    assert said(acts)[1:] == [IN_PEACE, Send(even(ordered)), *speeds]


def test_a_meter_of_mode_b_or_a_is_not_acknowledged() -> None:
    acts, data = run(read_out("", SLOW_TO_FAST), [even(b"/ISkEMT\r\n"), block()])
    assert (said(acts)[1:], data) == ([SetSpeed(9600)], DATA)
    acts, data = run(read_out("", SLOW_TO_FAST), [even(b"/ISk@MT\r\n"), block()])
    assert (said(acts)[1:], data) == ([], DATA)


def test_a_meter_of_mode_b_that_goes_where_the_line_cannot_is_not_spoken_with() -> None:
    with pytest.raises(NotSpoken, match="9600 Bd"):
        run(read_out("", Manner(baudrate=300, baudrate_max=300)), [even(b"/ISkEMT\r\n")])


def test_data_without_a_check_character_are_not_read() -> None:
    with pytest.raises(UnfitAnswer, match="check character"):
        run(read_out("", SLOW_TO_FAST), [even(b"/ISk@MT\r\n"), even(DATA)])


def test_an_echo_is_not_taken_for_the_meter() -> None:
    echoed = [even(b"/?7!\r\n"), WHO, even(b"\x06050\r\n"), block()]
    assert run(read_out("7", SLOW_TO_FAST), echoed)[1] == DATA


def test_without_parity_eight_bits_are_noise() -> None:
    manner = Manner(baudrate=9600, baudrate_max=9600, parity=Parity.NONE)
    plain = bytes(octet & 0x7F for octet in block())
    assert run(read_out("", manner), [b"/ISk5MT\r\n", plain])[1] == DATA
    with pytest.raises(ReadOutError):
        run(read_out("", manner), [WHO, block()])


# --- NAK -----------------------------------------------------------------------------------------


def bent(octets: bytes, at: int) -> bytes:
    return octets[:at] + bytes((octets[at] ^ 0x08,)) + octets[at + 1 :]


@pytest.mark.parametrize("spoilt", [bent(block(), 9), block()[:-1] + even(b"x"), block()[:20]])
def test_a_spoilt_block_is_had_again(spoilt: bytes) -> None:
    broken_off = [SILENCE] if len(spoilt) < len(block()) else []
    acts, data = run(read_out("", SLOW_TO_FAST), [WHO, spoilt, *broken_off, block()])
    assert data == DATA
    assert said(acts)[-2:] == [IN_PEACE, REPEAT]


def test_a_block_is_had_again_only_so_often() -> None:
    with pytest.raises(UnfitAnswer, match="check character"):
        run(read_out("", SLOW_TO_FAST), [WHO, *[bent(block(), 9)] * (1 + REPEATS_MAX), block()])


def test_a_meter_that_does_not_listen_is_not_asked_again() -> None:
    with pytest.raises(UnfitAnswer):
        run(read_out("", SLOW_TO_FAST), [even(b"/ISkEMT\r\n"), bent(block(), 9), block()])


def test_the_rest_of_a_block_is_not_taken_for_its_repetition() -> None:
    late = [WHO, block()[:20], SILENCE, block()[20:], block()]
    assert run(read_out("", SLOW_TO_FAST), late)[1] == DATA


# --- nothing, and nobody's -----------------------------------------------------------------------


def test_silence_is_no_answer() -> None:
    for answers in ([], [WHO]):
        with pytest.raises(NoAnswer):
            run(read_out("", SLOW_TO_FAST), answers)


def test_an_identification_cut_anywhere_is_unfit() -> None:
    for end in range(1, len(WHO)):
        with pytest.raises(UnfitAnswer):
            run(read_out("", SLOW_TO_FAST), [WHO[:end]])


def test_a_block_cut_anywhere_and_never_repeated_gives_nothing() -> None:
    for end in range(len(block())):
        with pytest.raises(ReadOutError):
            run(read_out("", SLOW_TO_FAST), [WHO, block()[:end]])


def test_every_answer_may_come_in_any_pieces() -> None:
    for size in (1, 2, 5):
        pieces = [
            whole[at : at + size] for whole in (WHO, block()) for at in range(0, len(whole), size)
        ]
        assert run(read_out("", SLOW_TO_FAST), pieces)[1] == DATA


def test_no_bent_bit_anywhere_becomes_other_data() -> None:
    whole = [WHO, block()]
    for part, octets in enumerate(whole):
        for at in range(len(octets)):
            for bit in range(8):
                spoilt = octets[:at] + bytes((octets[at] ^ 1 << bit,)) + octets[at + 1 :]
                answers = [*whole[:part], spoilt, *whole[part + 1 :]]
                try:
                    assert run(read_out("", SLOW_TO_FAST), answers)[1] == DATA
                except ReadOutError:
                    continue


def test_a_late_identification_is_followed_by_the_one_that_was_due() -> None:
    for answers in ([WHO, WHO, block()], [WHO + WHO, block()], [WHO, WHO + block()]):
        with pytest.raises(UnfitAnswer, match=r"answers|identification"):
            run(read_out("", SLOW_TO_FAST), answers)


@pytest.mark.parametrize("octets", [b"\x02", b"\x80", block()])
def test_who_speaks_on_where_it_should_wait_is_not_answered(octets: bytes) -> None:
    """A block on the heels of its identification was sent without our acknowledgement, and is an old one."""
    talk = read_out("", SLOW_TO_FAST)
    assert isinstance(next(talk), Send)
    assert isinstance(talk.send(b""), Listen)
    assert talk.send(WHO) == IN_PEACE
    with pytest.raises(UnfitAnswer, match="wait for us"):
        talk.send(octets)


def test_a_late_block_is_not_the_answer_to_the_next_sign_on() -> None:
    with pytest.raises(UnfitAnswer, match="no identification"):
        run(read_out("", SLOW_TO_FAST), [block()])
    assert run(read_out("", SLOW_TO_FAST), [block(b"old\r\n!\r\n"), WHO, block()])[1] == DATA


def test_noise_that_never_ends_is_given_up() -> None:
    with pytest.raises(UnfitAnswer):
        run(read_out("", SLOW_TO_FAST), [b"\x00" * 4096] * 100)
    with pytest.raises(UnfitAnswer):
        run(read_out("", SLOW_TO_FAST), [WHO, even(b"\x02"), *[even(b"x" * 4096)] * 100])
