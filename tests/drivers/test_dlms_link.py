"""Links and associations as dialogues: what is sent, what is passed over, what is not believed."""

from collections.abc import Callable
from itertools import count

import pytest

from openami.gateway.drivers.dlms import apdu, hdlc
from openami.gateway.drivers.dlms.apdu import Attribute
from openami.gateway.drivers.dlms.association import (
    Association,
    Credentials,
    Security,
    ServerCounter,
)
from openami.gateway.drivers.dlms.ciphering import Keys, opaque, proof, seal, unseal
from openami.gateway.drivers.dlms.data import Value
from openami.gateway.drivers.dlms.errors import (
    AssociationRefused,
    CipherError,
    LinkLost,
    ServiceRefused,
    UnfitAnswer,
)
from openami.gateway.drivers.dlms.hdlc import Frame, FrameReader
from openami.gateway.drivers.dlms.link import MESSAGE_BYTES_MAX, HdlcLink, WrapperLink
from openami.gateway.drivers.dlms.steps import Steps
from openami.gateway.drivers.dlms.wrapper import Packet

_CLIENT, _SERVER, _OTHER = (
    hdlc.client_address(16),
    hdlc.server_address(1, 17),
    hdlc.server_address(1, 18),
)
_ANSWERED = b"\xe6\xe7\x00"
_UA = Frame(_CLIENT, _SERVER, hdlc.UA)


def information(
    sent: int, received: int, octets: bytes, *, segmented: bool = False, source: bytes = _SERVER
) -> Frame:
    return Frame(
        _CLIENT, source, hdlc.information_control(sent, received), octets, segmented=segmented
    )


def linked(ua: Frame = _UA) -> HdlcLink:
    """A link whose meter has answered SNRM."""
    link = HdlcLink(_CLIENT, _SERVER)
    steps = link.open()
    (asked,) = FrameReader().feed(next(steps))
    assert (asked.control, asked.destination, asked.source) == (hdlc.SNRM, _SERVER, _CLIENT)
    with pytest.raises(StopIteration):
        steps.send(ua.encode())
    return link


def sent(octets: bytes) -> Frame:
    (frame,) = FrameReader().feed(octets)
    return frame


def finished(steps: Steps[bytes], octets: bytes) -> bytes:
    with pytest.raises(StopIteration) as done:
        steps.send(octets)
    value = done.value.value
    assert isinstance(value, bytes)
    return value


def test_messages_are_numbered_and_answers_must_follow() -> None:
    link = linked()
    for number in range(10):
        steps = link.exchange(b"ask")
        frame = sent(next(steps))
        assert frame.control == hdlc.information_control(number % 8, number % 8)
        assert frame.information == b"\xe6\xe6\x00ask"
        answer = information(number % 8, (number + 1) % 8, _ANSWERED + b"told")
        assert finished(steps, answer.encode()) == b"told"


@pytest.mark.parametrize(
    "passed_over",
    [
        information(7, 1, _ANSWERED + b"old"),  # another number
        information(0, 0, _ANSWERED + b"old"),  # to another question
        information(0, 1, _ANSWERED + b"other", source=_OTHER),  # another meter
        Frame(_CLIENT, _SERVER, hdlc.UI, _ANSWERED + b"push"),
        Frame(_CLIENT, _SERVER, hdlc.ready_control(1)),
        _UA,  # a late one
    ],
)
def test_what_does_not_follow_is_passed_over(passed_over: Frame) -> None:
    steps = linked().exchange(b"ask")
    next(steps)
    assert steps.send(passed_over.encode()) == b""
    assert finished(steps, information(0, 1, _ANSWERED + b"told").encode()) == b"told"


def test_a_long_answer_is_asked_for_segment_by_segment() -> None:
    steps = linked().exchange(b"ask")
    next(steps)
    first = information(0, 1, _ANSWERED + b"to", segmented=True)
    ready = sent(steps.send(first.encode()))
    assert ready.control == hdlc.ready_control(1)
    # repeated by a meter that did not hear us: the same segment is not taken twice
    assert steps.send(first.encode()) == b""
    assert finished(steps, information(1, 1, b"ld").encode()) == b"told"


def test_a_long_message_is_sent_in_the_meters_segments() -> None:
    ua = Frame(_CLIENT, _SERVER, hdlc.UA, bytes.fromhex("81800c050110060110070400000001"))
    steps = linked(ua).exchange(bytes(range(20)))
    first = sent(next(steps))
    assert (len(first.information), first.segmented) == (16, True)
    second = sent(steps.send(Frame(_CLIENT, _SERVER, hdlc.ready_control(1)).encode()))
    assert (first.information + second.information, second.segmented) == (
        b"\xe6\xe6\x00" + bytes(range(20)),
        False,
    )
    assert finished(steps, information(0, 2, _ANSWERED + b"told").encode()) == b"told"


@pytest.mark.parametrize("control", [hdlc.DM, hdlc.FRMR, hdlc.DISC])
def test_a_link_that_the_meter_closes_is_lost(control: int) -> None:
    steps = linked().exchange(b"ask")
    next(steps)
    with pytest.raises(LinkLost):
        steps.send(Frame(_CLIENT, _SERVER, control).encode())


def test_a_meter_that_refuses_the_link_refuses_us() -> None:
    steps = HdlcLink(_CLIENT, _SERVER).open()
    next(steps)
    with pytest.raises(AssociationRefused):
        steps.send(Frame(_CLIENT, _SERVER, hdlc.DM).encode())


def test_an_answer_without_end_is_cut_off() -> None:
    steps = linked().exchange(b"ask")
    next(steps)
    octets = bytes(1000)
    most = MESSAGE_BYTES_MAX // 1000
    for number in range(most):
        assert steps.send(information(number % 8, 1, octets, segmented=True).encode())
    with pytest.raises(UnfitAnswer, match=f"more than {MESSAGE_BYTES_MAX}"):
        steps.send(information(most % 8, 1, octets, segmented=True).encode())


def test_an_answer_without_a_servers_header_is_unfit() -> None:
    steps = linked().exchange(b"ask")
    next(steps)
    with pytest.raises(UnfitAnswer, match="LLC"):
        steps.send(information(0, 1, b"\xe6\xe6\x00told").encode())


def test_the_wrapper_passes_over_what_is_others_or_pushed() -> None:
    steps = WrapperLink(16, 1).exchange(b"ask")
    assert next(steps) == Packet(16, 1, b"ask").encode()
    for packet in (Packet(2, 16, b"told"), Packet(1, 17, b"told"), Packet(1, 16, b"\x0fpush")):
        assert steps.send(packet.encode()) == b""
    assert finished(steps, Packet(1, 16, b"told").encode()) == b"told"


# --- an association by keys ----------------------------------------------------------------------

_KEYS = Keys(bytes(range(16)), bytes(range(16, 32)))
_OURS, _THEIRS = b"OPEN0001", b"METER001"
_CHALLENGE, _ANSWERING = b"0123456789abcdef", b"fedcba9876543210"
_ENERGY = Attribute(3, bytes((1, 0, 1, 8, 0, 255)), 2)
_INITIATED = bytes.fromhex("0800065f1f040000101d04000007")


class KeyedMeter:
    """A meter that has the keys, and says what a test wants it to."""

    def __init__(self, first_counter: int = 0) -> None:
        self.counter = count(first_counter)
        self.keys = _KEYS
        self.challenge = _ANSWERING
        self.last = b""

    def sealed(self, tag: int, message: bytes) -> bytes:
        return opaque(tag, seal(self.keys, _THEIRS, next(self.counter), message))

    def accept(self) -> bytes:
        fields = bytes.fromhex("a109060760857405080103a203020100a305a10302010e")
        fields += b"\xa4\x0a\x04\x08" + _THEIRS
        told = self.challenge
        fields += bytes((0xAA, len(told) + 2, 0x80, len(told))) + told if told else b""
        initiated = self.sealed(0x28, _INITIATED)
        fields += bytes((0xBE, len(initiated) + 2, 4, len(initiated))) + initiated
        return opaque(0x61, fields)

    def prove(self, asked: bytes) -> bytes:
        _, message = unseal(_KEYS, _OURS, asked[2:])
        assert message[-17:] == proof(
            _KEYS, _OURS, int.from_bytes(message[-16:-12], "big"), _ANSWERING
        )
        told = proof(self.keys, _THEIRS, next(self.counter), _CHALLENGE)
        answer = bytes((0xC7, 1, message[2], 0, 1, 0, 9, len(told))) + told
        return self.sealed(0xCF, answer)

    def tell(self, asked: bytes, value: int) -> bytes:
        _, message = unseal(_KEYS, _OURS, asked[2:])
        self.last = self.sealed(0xCC, bytes((0xC4, 1, message[2], 0, 17, value)))
        return self.last


def carried(octets: bytes) -> bytes:
    return Packet(1, 1, octets).encode()


def associate(
    meter: KeyedMeter, server_counter: ServerCounter | None = None
) -> tuple[Association, "count[int]"]:
    counter = count(100)
    security = Security(_KEYS, _OURS, counter.__next__, _CHALLENGE)
    association = Association(
        WrapperLink(1, 1), Credentials(security=security), server_counter=server_counter
    )
    steps = association.open()
    next(steps)
    asked = steps.send(carried(meter.accept()))
    with pytest.raises(StopIteration):
        steps.send(carried(meter.prove(asked[8:])))
    return association, counter


def get(association: Association, answered: Callable[[bytes], bytes]) -> Value:
    steps = association.get(_ENERGY)
    asked = next(steps)
    with pytest.raises(StopIteration) as done:
        steps.send(carried(answered(asked[8:])))
    value: Value = done.value.value
    return value


def test_each_message_is_sealed_with_a_value_of_its_own() -> None:
    meter = KeyedMeter()
    association, counter = associate(meter)
    seen = []
    for value in (7, 8):

        def answered(asked: bytes, value: int = value) -> bytes:
            seen.append(int.from_bytes(asked[3:7], "big"))
            return meter.tell(asked, value)

        assert get(association, answered) == value
    assert seen == [103, 104]  # after AARQ, proof, and the message around it
    assert next(counter) == 105


def test_an_answer_that_is_repeated_is_not_believed() -> None:
    """Sixteen questions later it even has the right invoke id."""
    meter = KeyedMeter()
    association, _ = associate(meter)
    get(association, lambda asked: meter.tell(asked, 7))
    old = meter.last
    for _ in range(apdu.INVOKE_IDS - 1):
        get(association, lambda asked: meter.tell(asked, 8))
    with pytest.raises(CipherError, match="invocation counter"):
        get(association, lambda _: old)


def test_an_answer_of_an_older_association_is_not_believed() -> None:
    counter = ServerCounter()
    meter = KeyedMeter()
    association, _ = associate(meter, counter)
    get(association, lambda asked: meter.tell(asked, 7))
    with pytest.raises(CipherError, match="invocation counter"):
        associate(KeyedMeter(), counter)  # the same, recorded and played again
    associate(KeyedMeter(first_counter=1000), counter)


def test_an_answer_in_the_clear_is_not_believed_but_an_exception_is_heard() -> None:
    meter = KeyedMeter()
    association, _ = associate(meter)
    with pytest.raises(UnfitAnswer):
        get(association, lambda _: bytes.fromhex("c401c2001107"))
    with pytest.raises(ServiceRefused, match="deciphering-error"):
        get(association, lambda _: bytes.fromhex("d80105"))


def test_who_lacks_the_keys_is_no_meter() -> None:
    meter = KeyedMeter()
    meter.keys = Keys(bytes(16), bytes(16))
    with pytest.raises(CipherError, match="our keys"):
        associate(meter)


@pytest.mark.parametrize("challenge", [b"", b"seven77", bytes(65)])
def test_a_meter_that_does_not_challenge_us_is_refused(challenge: bytes) -> None:
    """Nothing weaker than what is configured is accepted."""
    meter = KeyedMeter()
    meter.challenge = challenge
    with pytest.raises(AssociationRefused, match="challenge"):
        associate(meter)


def test_a_plain_association_where_keys_are_configured_is_refused() -> None:
    security = Security(_KEYS, _OURS, count().__next__, _CHALLENGE)
    steps = Association(WrapperLink(1, 1), Credentials(security=security)).open()
    next(steps)
    plain = bytes.fromhex(
        "6129a109060760857405080101a203020100a305a103020100be10040e0800065f1f040000501f01f40007"
    )
    with pytest.raises(AssociationRefused):
        steps.send(carried(plain))
