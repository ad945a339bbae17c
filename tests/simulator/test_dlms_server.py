"""What is sent to a simulated DLMS meter is cut, bent or made up: it answers or is silent, and does nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.simulator.dlms_village import CLIENTS, PASSWORD, House, house

from openami.gateway.driver import RelayPosition
from openami.simulator.dlms.frames import Hdlc, Wrapper, checksum
from openami.simulator.dlms.server import Dialogue

_AARQ = bytes.fromhex("601da109060760857405080101be10040e01000000065f1f0400001e1dffff")
_AARQ_PASSWORD = bytes.fromhex(
    "6036a1090607608574050801018a0207808b0760857405080201ac0a80083132333435363738"
    "be10040e01000000065f1f0400001e1dffff"
)
_GET = bytes.fromhex("c001c100030100010800ff0200")
_GET_LONG = bytes.fromhex("c001c1000f0000280000ff0200")
_NEXT = bytes.fromhex("c002c100000001")
_GET_RANGE = bytes.fromhex(
    "c001c100070100630100ff0201 01 0204 0204 120008 09060000010000ff 0f02 120000"
    "090c 07ea0601ff0d000000000000 090c 07ea0601ff0e000000000000 0100"
)
_SET_CLOCK = bytes.fromhex("c101c100080000010000ff0200 090c 07ea0601ff0d000000800000")
_DISCONNECT = bytes.fromhex("c301c100460000 60030aff 01 01 0f00")
_RELEASE = bytes.fromhex("6203800100")
_MESSAGES = {
    "associate": _AARQ_PASSWORD,
    "get": _GET,
    "get long": _GET_LONG,
    "next block": _NEXT,
    "get range": _GET_RANGE,
    "set clock": _SET_CLOCK,
    "disconnect": _DISCONNECT,
    "release": _RELEASE,
}
_NOT_ALLOWED = b"\xd8\x01\x01"


def _associated(home: House) -> Dialogue:
    dialogue = home.meter.device.dialogue(CLIENTS["lls"])
    answer = dialogue.answer(_AARQ_PASSWORD)
    assert answer is not None
    assert b"\xa2\x03\x02\x01\x00" in answer, "not accepted"
    return dialogue


def _relay(home: House) -> RelayPosition:
    return home.village.measured(home.village.plan.customers[0].serial).relay


def test_each_message_is_understood_when_it_is_whole() -> None:
    """Or cutting it would prove nothing."""
    home = house()
    dialogue = _associated(home)
    answers = {name: dialogue.answer(message) or b"" for name, message in _MESSAGES.items()}
    assert answers["get"][:4] == bytes.fromhex("c401c100")
    assert answers["get long"][:4] == bytes.fromhex("c402c100")
    assert answers["next block"][:4] == bytes.fromhex("c402c100")
    assert answers["get range"] == bytes.fromhex("c401c1000100")
    assert answers["set clock"] == bytes.fromhex("c501c100")
    assert answers["disconnect"] == bytes.fromhex("c701c10000")
    assert answers["release"][:1] == b"\x63"
    assert _relay(home) is RelayPosition.DISCONNECTED
    assert dialogue.answer(_GET) == _NOT_ALLOWED


@pytest.mark.parametrize("name", list(_MESSAGES))
def test_a_message_cut_at_any_byte_does_nothing(name: str) -> None:
    home = house()
    before = home.meter.time.now()
    for end in range(len(_MESSAGES[name])):
        _associated(home).answer(_MESSAGES[name][:end])
        assert _relay(home) is RelayPosition.CONNECTED
        assert home.meter.time.now() == before


@given(
    st.sampled_from(list(_MESSAGES.values())),
    st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), max_size=4),
    st.binary(max_size=20),
)
def test_nothing_that_comes_breaks_it(
    message: bytes, bent: list[tuple[int, int]], after: bytes
) -> None:
    spoilt = bytearray(message + after)
    for at, octet in bent:
        spoilt[at % len(spoilt)] = octet
    answer = _associated(house()).answer(bytes(spoilt))
    assert answer is None or answer


@given(st.binary(max_size=200), st.integers(1, 40))
def test_noise_before_a_frame_costs_at_most_that_frame(noise: bytes, size: int) -> None:
    home = house()
    client = bytes((CLIENTS["none"] << 1 | 1,))
    head = b"\xa0\x07" + b"\x03" + client + b"\x93"
    snrm = b"\x7e" + head + checksum(head) + b"\x7e"
    framing = Hdlc()
    stream = noise + snrm * 300  # longer than any frame the noise may announce
    questions = [
        question
        for at in range(0, len(stream), size)
        for question in framing.questions(stream[at : at + size])
    ]
    assert questions
    assert framing.answer(questions[-1], home.meter.device) is not None


def test_what_is_no_packet_is_not_answered() -> None:
    framing = Wrapper()
    assert list(framing.questions(b"GET / HTTP/1.1\r\n\r\n")) == []
    assert list(framing.questions(b"\x00\x01\x00\x10\x00\x01\x00\x02\xc0\x01")) == []


def test_a_wrong_password_is_refused_and_a_public_client_orders_nothing() -> None:
    home = house()
    stranger = home.meter.device.dialogue(CLIENTS["lls"])
    answer = stranger.answer(_AARQ_PASSWORD.replace(PASSWORD.encode(), b"87654321"))
    assert answer is not None
    assert b"\xa2\x03\x02\x01\x01" in answer
    assert stranger.answer(_GET) == _NOT_ALLOWED
    public = home.meter.device.dialogue(CLIENTS["none"])
    assert public.answer(_GET) == _NOT_ALLOWED
    public.answer(_AARQ)
    assert public.answer(_DISCONNECT) == bytes.fromhex("c701c103")
    assert public.answer(_SET_CLOCK) == bytes.fromhex("c501c103")
    assert _relay(home) is RelayPosition.CONNECTED
