"""Messages of an association: as the standard's examples have them, and unfit where they are cut or bent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.gateway.drivers.dlms import apdu, data
from openami.gateway.drivers.dlms.acse import (
    Mechanism,
    associate_request,
    read_associate_response,
)
from openami.gateway.drivers.dlms.apdu import (
    Attribute,
    Block,
    read_action_response,
    read_get_response,
    read_set_response,
)
from openami.gateway.drivers.dlms.ciphering import (
    Keys,
    check_proof,
    opaque,
    proof,
    read_sealed,
    seal,
    unseal,
)
from openami.gateway.drivers.dlms.errors import (
    AssociationRefused,
    CipherError,
    ServiceRefused,
    UnfitAnswer,
)

_CLOCK = Attribute(8, bytes((0, 0, 1, 0, 0, 255)), 2)
_KEYS = Keys(bytes(range(16)), bytes(range(0xD0, 0xE0)))
_TITLE = bytes.fromhex("4d4d4d0000bc614e")
_CLIENT_TITLE = bytes.fromhex("4d4d4d0000000001")


# --- requests ------------------------------------------------------------------------------------


def test_requests_are_as_the_standard_writes_them() -> None:
    assert apdu.get_request(1, _CLOCK).hex() == "c001c100080000010000ff0200"
    assert apdu.next_block_request(1, 2).hex() == "c002c100000002"
    assert apdu.get_request(1, _CLOCK, b"\x01\x00").hex() == "c001c100080000010000ff02010100"
    assert (
        apdu.action_request(1, Attribute(70, bytes((0, 0, 96, 3, 10, 255)), 1), data.int8(0)).hex()
        == "c301c10046000060030aff01010f00"
    )
    assert apdu.set_request(2, _CLOCK, data.uint8(7)).hex() == "c101c200080000010000ff02001107"


def test_an_association_with_a_password_is_as_the_standard_writes_it() -> None:
    """All of the example but what we propose to be able to do."""
    request = associate_request(
        Mechanism.LLS, apdu.initiate_request(), authentication=b"12345678"
    ).hex()
    assert request.startswith(
        "6036a1090607608574050801018a0207808b0760857405080201ac0a80083132333435363738"
        "be10040e01000000065f1f0400"
    )


# --- answers -------------------------------------------------------------------------------------


def test_answers_are_read() -> None:
    assert read_get_response(bytes.fromhex("c401c100 0600000007"), 1, _CLOCK) == 7
    block = read_get_response(bytes.fromhex("c402c1 01 00000003 00 02 abcd"), 1, _CLOCK)
    assert block == Block(3, True, b"\xab\xcd")
    read_set_response(bytes.fromhex("c501c200"), 2, _CLOCK)
    assert read_action_response(bytes.fromhex("c701c300 01 00 0902abcd"), 3, _CLOCK) == b"\xab\xcd"
    assert read_action_response(bytes.fromhex("c701c300 00"), 3, _CLOCK) is None
    assert read_action_response(bytes.fromhex("c701c300"), 3, _CLOCK) is None


@pytest.mark.parametrize(
    ("answer", "word", "exception"),
    [
        ("c401c1 01 03", "read-write-denied", False),
        ("c401c1 01 04", "object-undefined", False),
        ("c401c2 01 04", "object-undefined", False),  # numbered otherwise, as some meters do
        ("c401c1 01 77", "access-result-119", False),
        ("c402c1 01 00000001 01 0e", "data-block-unavailable", False),
        ("d8 01 06", "invocation-counter-error", True),
        ("0e 01 02 03", "confirmed-service-error", True),
    ],
)
def test_a_refusal_is_told_in_the_standards_word(answer: str, word: str, exception: bool) -> None:
    with pytest.raises(ServiceRefused) as refused:
        read_get_response(bytes.fromhex(answer), 1, _CLOCK)
    assert (refused.value.word, refused.value.exception) == (word, exception)
    assert "0-0:1.0.0*255 attribute 2" in str(refused.value)


@pytest.mark.parametrize(
    "answer",
    [
        "c401c2 00 0600000007",  # another question's
        "c501c1 00",  # another service's
        "c403c1 01 00 0600000007",  # a list
        "c401c1 00 0600000007 00",  # too long
        "63 03 80 01 00",
    ],
)
def test_an_answer_to_something_else_is_unfit(answer: str) -> None:
    with pytest.raises(UnfitAnswer):
        read_get_response(bytes.fromhex(answer), 1, _CLOCK)


def test_an_order_is_not_believed_to_be_refused_by_another_answer() -> None:
    """A refusal numbered otherwise is taken from a question, and not from an order: it may have been obeyed."""
    with pytest.raises(UnfitAnswer):
        read_action_response(bytes.fromhex("c701c1 03 00"), 2, _CLOCK)
    with pytest.raises(ServiceRefused):
        read_action_response(bytes.fromhex("c701c2 03 00"), 2, _CLOCK)


def test_an_answer_cut_at_any_byte_is_unfit() -> None:
    whole = bytes.fromhex("c401c100 02 02 06 00000007 09 03 616263")
    assert read_get_response(whole, 1, _CLOCK) == (7, b"abc")
    for at in range(len(whole)):
        with pytest.raises(UnfitAnswer):
            read_get_response(whole[:at], 1, _CLOCK)


@given(st.binary(min_size=1, max_size=60))
def test_noise_is_never_an_answer_that_breaks_us(noise: bytes) -> None:
    for octets in (noise, b"\xc4\x01\xc1" + noise, b"\xc4\x02\xc1" + noise):
        try:
            read_get_response(octets, 1, _CLOCK)
        except (UnfitAnswer, ServiceRefused):
            continue
    for octets in (noise, b"\x61" + bytes((len(noise),)) + noise):
        try:
            read_associate_response(octets)
        except (UnfitAnswer, AssociationRefused):
            continue


_AARE = bytes.fromhex(
    "6129a109060760857405080101a203020100a305a103020100be10040e0800065f1f040000501f01f40007"
)


def test_an_association_is_accepted_and_refused() -> None:
    accepted = read_associate_response(_AARE)
    assert apdu.read_initiate_response(accepted.user_information) == 500
    refused = _AARE.replace(
        bytes.fromhex("a203020100a305a103020100"), bytes.fromhex("a203020101a305a10302010d")
    )
    with pytest.raises(AssociationRefused, match="authentication failure"):
        read_associate_response(refused)
    for at in range(len(_AARE)):
        with pytest.raises(UnfitAnswer):
            read_associate_response(_AARE[:at])


# --- ciphering -----------------------------------------------------------------------------------


def test_a_message_is_sealed_as_the_standard_writes_it() -> None:
    """The Green Book's example of a ciphered GET of the clock."""
    plain = bytes.fromhex("c0010000080000010000ff0200")
    ciphered = opaque(0xC8, seal(_KEYS, _TITLE, 0x01234567, plain))
    assert ciphered.hex() == ("c81e3001234567411312ff935a47566827c467bc7d825c3be4a77c3fcc056b6b")
    assert unseal(_KEYS, _TITLE, read_sealed(ciphered, 0xC8)) == (0x01234567, plain)


def test_a_challenge_is_answered_as_the_standard_writes_it() -> None:
    """The Green Book's example of HLS with GMAC, both ways."""
    ours = proof(_KEYS, _CLIENT_TITLE, 1, b"P6wRJ21F")
    assert ours.hex() == "10000000011a52fe7dd3e72748973c1e28"
    theirs = bytes.fromhex("1001234567fe1466afb3dbcd4f9389e2b7")
    check_proof(_KEYS, _TITLE, b"K56iVagY", theirs)
    with pytest.raises(CipherError):
        check_proof(_KEYS, _CLIENT_TITLE, b"K56iVagY", theirs)


def test_a_sealed_message_bent_in_any_bit_is_not_opened() -> None:
    sealed = seal(_KEYS, _TITLE, 7, b"\xc0\x01")
    for bit in range(8 * len(sealed)):
        bent = bytearray(sealed)
        bent[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CipherError):
            unseal(_KEYS, _TITLE, bytes(bent))
    for at in range(len(sealed)):
        with pytest.raises(CipherError):
            unseal(_KEYS, _TITLE, sealed[:at])


def test_keys_are_printed_nowhere() -> None:
    for shown in (repr(_KEYS), str(_KEYS)):
        assert _KEYS.encryption.hex() not in shown
        assert repr(_KEYS.encryption) not in shown


@pytest.mark.parametrize("size", [15, 17])
def test_a_key_has_sixteen_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        Keys(bytes(size), bytes(16))
