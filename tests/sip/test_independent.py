"""A second implementation agrees: joserfc on acts, jcs on canonical bytes; and what is signed cannot be changed."""

import json
from contextlib import suppress
from typing import Any

import jcs  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.errors import BadSignatureError, JoseError
from joserfc.jwk import OKPKey
from tests.sip.known import NONCE, command, session
from tests.sip.village import ANNA, COOP, HES, POLE, key

from openami.sip.acts import ActType, make_act, read_acts, verified_acts
from openami.sip.canonical import (
    SIGNATURE,
    canonical_bytes,
    decode_base64url,
    encode_base64url,
    read_document,
)
from openami.sip.compose import document_of, sign
from openami.sip.errors import SipError
from openami.sip.keys import KeySigner, PublicKey

ED25519 = jws.JWSRegistry(algorithms=["Ed25519"], strict_check_header=False)
KEYS = {signer.kid: signer.public for signer in (HES, POLE, ANNA, COOP)}


def jose_key(public: PublicKey) -> OKPKey:
    return OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": encode_base64url(public.raw)})


def verified_by_jose(act: str, canonical: bytes, public: PublicKey) -> dict[str, Any]:
    """Put the payload between the dots, as RFC 7515 Appendix F says, and ask somebody else's library."""
    head, _, signature = act.split(".")
    compact = f"{head}.{encode_base64url(canonical)}.{signature}"
    verified = jws.deserialize_compact(compact, jose_key(public), registry=ED25519)
    assert verified.payload == canonical
    return dict(verified.headers())


@pytest.mark.parametrize(
    ("members", "type_", "extra"),
    [
        (session(), ActType.OFFER, {}),
        (session(), ActType.ACCEPT, {"nonce": NONCE}),
        (session(), ActType.CLOSE, {"reason": "CLOSED"}),
        (command(), ActType.COMMAND, {}),
    ],
)
def test_joserfc_verifies_our_acts(
    members: dict[str, Any], type_: ActType, extra: dict[str, Any]
) -> None:
    document = document_of(members)
    act = make_act(HES, document, type_, iat=1782138600, **extra)
    header = verified_by_jose(act, document.canonical, HES.public)
    assert header["kid"] == HES.kid
    assert header["typ"] == type_.value
    assert jose_key(HES.public).thumbprint() == HES.kid
    with pytest.raises(BadSignatureError):
        verified_by_jose(act, document.canonical + b" ", HES.public)
    with pytest.raises(BadSignatureError):
        verified_by_jose(act, document.canonical, POLE.public)


def test_we_verify_an_act_of_joserfc() -> None:
    document = document_of(command())
    private = OKPKey.import_key(
        {
            "kty": "OKP", "crv": "Ed25519", "x": encode_base64url(HES.public.raw),
            "d": encode_base64url(bytes.fromhex(
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
            )),
        }
    )  # fmt: skip
    header = {"alg": "Ed25519", "iat": 1782138605, "kid": HES.kid, "typ": "sip-command"}
    compact = jws.serialize_compact(header, document.canonical, private, registry=ED25519)
    head, _, signature = compact.split(".")
    whole = {**document.members, SIGNATURE: f"{head}..{signature}"}
    (act,) = verified_acts(read_document(json.dumps(whole).encode()), KEYS)
    assert act.kid == HES.kid


# --- canonical bytes -------------------------------------------------------------------------------------

INTEGERS = st.integers(min_value=-(2**53) + 1, max_value=2**53 - 1)
# A whole float from 2^53 to 10^21 has the canonical form of an integer that no strict reader takes; no document
# of ours holds one (a value so large is a counter, and counters are integers).
FLOATS = st.floats(allow_nan=False, allow_infinity=False).filter(
    lambda number: not 2**53 <= abs(number) < 10**21
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = st.none() | st.booleans() | INTEGERS | FLOATS | TEXT
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(
    TEXT.filter(lambda name: name != SIGNATURE), VALUES, min_size=1, max_size=6
)


@given(DOCUMENTS)
def test_canonical_bytes_are_those_of_a_second_implementation(members: dict[str, Any]) -> None:
    assert canonical_bytes(members) == jcs.canonicalize(members)


@st.composite
def spellings(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    """A document, and one of the many texts it may be sent as."""
    members = draw(DOCUMENTS.filter(_shallow))
    turned = dict(draw(st.permutations(list(members.items()))))
    text = json.dumps(
        turned,
        ensure_ascii=draw(st.booleans()),
        indent=draw(st.sampled_from([None, 0, 1, "\t"])),
    )
    return members, text.encode()


def _shallow(value: Any, depth: int = 5) -> bool:
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return depth > 0 and all(_shallow(each, depth - 1) for each in inner)
    return True


@given(spellings())
def test_canonical_bytes_do_not_hang_on_spelling(case: tuple[dict[str, Any], bytes]) -> None:
    members, text = case
    document = read_document(text)
    assert document.canonical == canonical_bytes(members)
    assert read_document(document.canonical).canonical == document.canonical


# --- what is signed ---------------------------------------------------------------------------------------

SIGNERS = st.lists(st.sampled_from([HES, POLE, ANNA, COOP]), unique=True, min_size=1, max_size=4)


@given(DOCUMENTS.filter(_shallow), SIGNERS, st.integers(0, 253_402_300_799))
def test_what_is_signed_verifies(
    members: dict[str, Any], signers: list[KeySigner], iat: int
) -> None:
    whole: dict[str, Any] = members
    for signer in signers:
        whole = sign(whole, signer, ActType.COMMAND, iat=iat)
    acts = verified_acts(read_document(json.dumps(whole).encode()), KEYS)
    assert [act.kid for act in acts] == [signer.kid for signer in signers]
    assert {act.iat for act in acts} == {iat}


SIGNED = [
    json.dumps(
        sign(sign(command(), HES, ActType.COMMAND, iat=1782138605), ANNA, ActType.COMMAND, iat=1)
    ),
    json.dumps(
        sign(sign(session(), HES, ActType.OFFER, iat=1), POLE, ActType.ACCEPT, iat=2, nonce=NONCE)
    ),
]


def survives(payload: bytes, original: bytes) -> bool:
    """Whether a changed text is believed to be something else than what was signed."""
    try:
        document = read_document(payload)
        acts = verified_acts(document, KEYS)
    except SipError:
        return False
    honest = read_document(original)
    # Another spelling of the same document is the same document: white space, or E for e.
    return document.canonical != honest.canonical or [a.text for a in acts] != [
        a.text for a in read_acts(honest)
    ]


@pytest.mark.parametrize("text", SIGNED)
def test_any_single_changed_bit_is_refused(text: str) -> None:
    """Every bit of every byte, of the body and of the acts: some 12,000 forgeries."""
    original = text.encode()
    assert not survives(original, original)
    for place in range(len(original)):
        for bit in range(8):
            changed = bytearray(original)
            changed[place] ^= 1 << bit
            assert not survives(bytes(changed), original), (place, bit, bytes(changed))


@pytest.mark.parametrize("text", SIGNED)
def test_any_text_cut_off_is_refused(text: str) -> None:
    for length in range(len(text)):
        with pytest.raises(SipError):
            verified_acts(read_document(text[:length].encode()), KEYS)


@settings(max_examples=300)
@given(
    st.binary(max_size=200)
    | st.text(max_size=200).map(str.encode)
    | VALUES.map(json.dumps).map(str.encode)
)
def test_whatever_comes_only_a_sip_error_goes(payload: bytes) -> None:
    """A reader that can be made to fail in any other way can be made to fail from afar."""
    with suppress(SipError):
        verified_acts(read_document(payload), KEYS)


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(["alg", "typ", "kid", "iat", "nonce", "rsn", "x"]), VALUES))
def test_whatever_a_header_holds_only_a_sip_error_goes(header: dict[str, Any]) -> None:
    members = command()
    full = {"alg": "Ed25519", "typ": "sip-command", "kid": HES.kid, "iat": 1, **header}
    head = encode_base64url(json.dumps(full).encode())
    payload = encode_base64url(document_of(members).canonical)
    signature = encode_base64url(HES.sign(f"{head}.{payload}".encode()))
    whole = {**members, SIGNATURE: f"{head}..{signature}"}
    try:
        (act,) = verified_acts(read_document(json.dumps(whole).encode()), KEYS)
    except SipError:
        return
    assert isinstance(act.kid, str)
    assert type(act.iat) is int


@given(st.text(max_size=30))
def test_base64url_has_one_spelling(text: str) -> None:
    try:
        data = decode_base64url(text)
    except SipError:
        return
    assert encode_base64url(data) == text


def test_two_keys_do_not_verify_for_each_other() -> None:
    signers = [key(number) for number in range(20, 40)]
    for signer in signers:
        for other in signers:
            assert other.public.verify(signer.sign(b"x"), b"x") == (signer is other)


def test_joserfc_refuses_what_we_refuse() -> None:
    """The flip side: what a stranger's library would call forged, is."""
    document = document_of(command())
    act = make_act(HES, document, ActType.COMMAND, iat=1)
    head, _, signature = act.split(".")
    raw = bytearray(decode_base64url(signature))
    raw[0] ^= 1
    with pytest.raises(JoseError):
        verified_by_jose(f"{head}..{encode_base64url(bytes(raw))}", document.canonical, HES.public)
