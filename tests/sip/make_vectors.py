"""Writes ``spec/vectors/{session,command}``: signed documents for any implementation to verify.

    python -m tests.sip.make_vectors

The good ones are the known answers of docs/sip.md and what honest software might send in another spelling; each
bad one is the good one with one thing changed. Rights, freshness and interlocks need a gateway's state and are not
in them: the vectors judge bytes, members and acts, checks 2 to 4.
"""

import base64
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.profile.vectors import Vector
from tests.sip.attacks import having, lacking, later, plus_l, replaced, tail_bits
from tests.sip.known import NONCE, command, judged, session
from tests.sip.village import HES, METER, OTHER, POLE, STRANGER, act_with

import openami
from openami.sip.acts import ActType, read_acts
from openami.sip.canonical import SIGNATURE, encode_base64url, read_document
from openami.sip.compose import sign
from openami.sip.errors import SipCode, SipError

ROOT = Path(openami.__file__).parent / "spec" / "vectors"
_PREFIX = "openami/v1/feeder-north-paravur-01/pole-ems-0042"
SESSION_TOPIC = f"{_PREFIX}/session/sip-7f3a9c2e"
COMMAND_TOPIC = f"{_PREFIX}/meter/{METER}/command"
KEYS = {signer.kid: encode_base64url(signer.public.raw) for signer in (HES, POLE)}
Bytes = Callable[[bytes], bytes]


def _printed(members: Mapping[str, Any]) -> bytes:
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode()


def made() -> dict[str, Any]:
    """Return all vectors by their id."""
    offered = sign(session(), HES, ActType.OFFER, iat=1782138600)
    accepted = sign(offered, POLE, ActType.ACCEPT, iat=1782138601, nonce=NONCE)
    closed = sign(accepted, HES, ActType.CLOSE, iat=1782140000, reason="CLOSED")
    ordered = sign(command(), HES, ActType.COMMAND, iat=1782138605)
    found = [
        _good("session/y_offer", "The head-end's offer: known answer.", offered),
        _good("session/y_accept", "The same document with the gateway's accept.", accepted),
        _good("session/y_close", "And with its end: the core never changes.", closed),
        _good("session/y_members_in_another_order", "Order means nothing.", _turned(offered)),
        _good("command/y_disconnect", "A command: known answer.", ordered),
        _good("command/y_members_in_another_order", "Order means nothing.", _turned(ordered)),
        _good("command/y_escaped", "A member's name spelled with an escape.", ordered,
              replaced(b'"command"', b'"comm\\u0061nd"')),
        _good("command/y_with_white_space", "Nor does white space.", ordered,
              lambda payload: json.dumps(json.loads(payload), indent=3).encode()),
        *(_bad(f"session/n_{name}", comment, offered, change)
          for name, comment, change in [*_BYTES, *_ACTS, *_SESSION]),
        *(_bad(f"command/n_{name}", comment, ordered, change)
          for name, comment, change in [*_BYTES, *_ACTS, *_COMMAND]),
    ]  # fmt: skip
    return {vector["id"]: vector for vector in found}


def _turned(members: Mapping[str, Any]) -> dict[str, Any]:
    return dict(reversed(list(members.items())))


def _on_signature(change: Callable[[str], str]) -> Bytes:
    def changed(payload: bytes) -> bytes:
        members = json.loads(payload)
        return _printed({**members, SIGNATURE: change(members[SIGNATURE])})

    return changed


def _under_header(**header: Any) -> Bytes:
    """The head-end signs, under another header."""

    def changed(payload: bytes) -> bytes:
        members = json.loads(payload)
        typ = "sip-command" if "command" in members else "sip-offer"
        whole = {"alg": "Ed25519", "iat": 1782138605, "kid": HES.kid, "typ": typ, **header}
        return _printed({**members, SIGNATURE: act_with(whole, members, HES)})

    return changed


def _signed_anew(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Bytes:
    """The head-end signs a document that is not as it should be."""

    def changed(payload: bytes) -> bytes:
        members = json.loads(payload)
        del members[SIGNATURE]
        type_ = ActType.COMMAND if "command" in members else ActType.OFFER
        return _printed(sign(change(members), HES, type_, iat=1782138605))

    return changed


def _strangers(payload: bytes) -> bytes:
    members = json.loads(payload)
    type_ = ActType.COMMAND if "command" in members else ActType.OFFER
    del members[SIGNATURE]
    return _printed(sign(members, STRANGER, type_, iat=1782138605))


def _borrowed(payload: bytes) -> bytes:
    members = json.loads(payload)
    typ = "sip-command" if "command" in members else "sip-offer"
    header = {"alg": "Ed25519", "iat": 1782138605, "kid": HES.kid, "typ": typ}
    return _printed({**members, SIGNATURE: act_with(header, members, STRANGER)})


_BYTES: list[tuple[str, str, Bytes]] = [
    ("utf16", "Other parsers guess the encoding.", lambda p: p.decode().encode("utf-16")),
    ("byte_order_mark", "Not JSON (RFC 8259 §8.1).", lambda p: b"\xef\xbb\xbf" + p),
    ("cut_off", "The last byte is missing.", lambda p: p[:-1]),
    ("two_documents", "One after another.", lambda p: p + p),
    ("an_array", "A document is an object.", lambda p: b"[" + p + b"]"),
    ("signature_twice", "Which one do you verify?", replaced(b"{", b'{"signature":"",')),
    (
        "feeder_twice",
        "Which one was signed?",
        replaced(b'"feederId":', b'"feederId":"f","feederId":'),
    ),
    (
        "lone_surrogate",
        "No UTF-8, so no canonical form.",
        replaced(b'"pole-ems-0042"', b'"\\ud800"'),
    ),
    ("not_a_number", "NaN is not JSON.", replaced(b'"pole-ems-0042"', b"NaN")),
    ("beyond_a_double", "1e400 is infinite for many.", replaced(b'"pole-ems-0042"', b"1e400")),
    ("too_deep", "Depth 8.", replaced(b'"pole-ems-0042"', b"[[[[[[[]]]]]]]")),
    ("too_large", "16 kB and a byte.", lambda p: p + b" " * (16 * 1024 + 1 - len(p))),
]
_ACTS: list[tuple[str, str, Bytes]] = [
    ("unsigned", "No member signature.", lambda p: _printed(lacking(SIGNATURE)(json.loads(p)))),
    ("signature_empty", "No act is no proof.", _on_signature(lambda _: "")),
    ("signature_a_list", "One string.", lambda p: _printed(having(SIGNATURE, [])(json.loads(p)))),
    ("tail_bits", "base64url that is not what would be written.", _on_signature(tail_bits)),
    ("padding", "base64url with padding.", _on_signature(lambda text: text + "==")),
    (
        "payload_embedded",
        "Verify one, use the other.",
        _on_signature(lambda t: t.replace("..", ".e30.")),
    ),
    ("act_twice", "One signer is not two.", _on_signature(lambda text: f"{text} {text}")),
    ("nine_acts", "A flood.", _on_signature(lambda text: " ".join([text] * 9))),
    ("alg_none", "The header chooses nothing.", _under_header(alg="none")),
    ("alg_hs256", "The public key is no secret.", _under_header(alg="HS256")),
    ("alg_eddsa", "One name, one algorithm.", _under_header(alg="EdDSA")),
    ("crit", "The header is closed.", _under_header(crit=["b64"], b64=False)),
    ("jwk", "A key brought along.", _under_header(jwk={"kty": "OKP"})),
    ("iat_float", "A whole number.", _under_header(iat=1782138605.5)),
    ("iat_true", "A number.", _under_header(iat=True)),
    ("typ_jwt", "Not a type of act.", _under_header(typ="JWT")),
    ("typ_list", "Not a string: must not end the program.", _under_header(typ=["sip-command"])),
    ("typ_report", "Another statement.", _under_header(typ="sip-report")),
    ("kid_list", "A string.", _under_header(kid=[HES.kid])),
    ("nonce_too_many", "Only an accept has one.", _under_header(nonce="AAECAwQFBgcICQoLDA0ODw")),
    ("iat_changed", "The header is signed.", _on_signature(later)),
    ("s_plus_l", "S is below the order (RFC 8032 §5.1.7).", _on_signature(plus_l)),
    ("stranger", "A key nobody vouched for.", _strangers),
    ("borrowed_kid", "The head-end's name, another's signature.", _borrowed),
]
_SESSION: list[tuple[str, str, Bytes]] = [
    ("meters_changed", "The scope is signed.", replaced(b'["*"]', b'["M-1"]')),
    ("seventh_member", "Exactly six.", _signed_anew(having("state", "active"))),
    ("five_members", "Exactly six.", _signed_anew(lacking("validTo"))),
    ("role_unknown", "A closed list.", _signed_anew(having("participants/0/role", "king"))),
    (
        "right_unknown",
        "A closed list.",
        _signed_anew(having("participants/0/can", ["relay.toggle"])),
    ),
    ("wildcard", "Ids are no patterns.", _signed_anew(having("feederScope/feederId", "+"))),
    (
        "ends_before_it_begins",
        "It ends before it begins.",
        _signed_anew(having("validTo", "2026-06-22T13:59:59Z")),
    ),
    ("nine_days", "Eight at most.", _signed_anew(having("validTo", "2026-07-01T14:00:00Z"))),
    ("offset", "One form of time.", _signed_anew(having("validTo", "2026-06-23T14:00:00+00:00"))),
    ("another_topic", "The document is for its topic.", _signed_anew(having("sessionId", "sip-2"))),
]
_COMMAND: list[tuple[str, str, Bytes]] = [
    ("action_twice", "Which one was signed?", replaced(b'"action":', b'"action":"relay.arm","action":')),
    ("value_changed", "The body is signed.", replaced(b'"disconnected"', b'"connected"')),
    ("seq_beyond_2_53", "Readers differ beyond it.", replaced(b'"seq":1', b'"seq":9007199254740992')),
    ("seq_float", "A whole number.", _signed_anew(having("command/seq", 1.5))),
    ("seq_true", "A number.", _signed_anew(having("command/seq", True))),
    ("seq_0", "From 1.", _signed_anew(having("command/seq", 0))),
    ("action_unknown", "A closed list.", _signed_anew(having("command/action", "relay.toggle"))),
    ("argument_too_many", "A closed set.", _signed_anew(having("command/args", {"force": True}))),
    ("member_too_many", "A closed set.", _signed_anew(having("priority", 1))),
    ("without_nonce", "What makes it fresh.", _signed_anew(lacking("command/nonce"))),
    ("version_0_2", "0.1 is asked for.", _signed_anew(having("schemaVersion", "0.2"))),
    ("month_13", "Month 13.", _signed_anew(having("command/notAfter", "2026-13-22T14:35:05Z"))),
    ("another_meter", "The topic is not signed; the body is.", _signed_anew(having("meterSerial", OTHER))),
]  # fmt: skip


_FLAGS = {
    "Basic": "offer accept close disconnect members_in_another_order escaped with_white_space",
    "Escapes": "escaped",
    "Utf8": "utf16 lone_surrogate",
    "Json": "byte_order_mark cut_off two_documents an_array not_a_number",
    "NotFinite": "not_a_number beyond_a_double",
    "Duplicate": "signature_twice feeder_twice action_twice act_twice",
    "Depth": "too_deep",
    "Size": "too_large",
    "Flood": "nine_acts too_deep",
    "Signature": "unsigned signature_empty signature_a_list s_plus_l stranger borrowed_kid",
    "Changed": "iat_changed meters_changed value_changed",
    "Encoding": "tail_bits padding payload_embedded",
    "Algorithm": "alg_none alg_hs256 alg_eddsa crit jwk",
    "Header": "iat_float iat_true typ_jwt typ_list typ_report kid_list nonce_too_many",
    "IntegerBounds": "seq_beyond_2_53 seq_float seq_true seq_0",
    "ClosedMembers": "seventh_member five_members argument_too_many member_too_many without_nonce",
    "ClosedWords": "role_unknown right_unknown action_unknown version_0_2",
    "Wildcard": "wildcard",
    "Time": "ends_before_it_begins nine_days offset month_13",
    "TopicMismatch": "another_topic another_meter",
}  # fmt: skip
_SIX_MEMBERS = (
    "session/y_offer",
    "session/y_accept",
    "session/n_five_members",
    "session/n_unsigned",
)


def _good(id_: str, comment: str, members: Mapping[str, Any], change: Bytes | None = None) -> Any:
    payload = _printed(members) if change is None else change(_printed(members))
    document = read_document(payload)
    acts = [
        {"typ": a.type.value, "kid": a.kid, "iat": a.iat, **({"nonce": a.nonce} if a.nonce else {})}
        for a in read_acts(document)
    ]
    result = {"accept": True, "canonical": document.canonical.decode(), "digest": document.digest}
    return _vector(id_, comment, payload, {**result, "acts": acts})


def _bad(id_: str, comment: str, members: Mapping[str, Any], change: Bytes) -> Any:
    payload = change(_printed(members))
    vector = _vector(id_, comment, payload, {"accept": False})
    vector["result"]["code"] = _code(vector).value
    return vector


def _code(vector: dict[str, Any]) -> SipCode:
    try:
        judged(Vector("", "", vector))
    except SipError as error:
        return error.code
    raise AssertionError(f"{vector['id']} was not refused")


def _vector(id_: str, comment: str, payload: bytes, result: dict[str, Any]) -> dict[str, Any]:
    try:
        body = {"payload": payload.decode()}
        if len(payload) > 16 * 1024:
            text = payload.rstrip(b" ").decode()
            body = {"payload_pieces": [text, {"text": " ", "times": len(payload) - len(text)}]}  # type: ignore[dict-item]
    except UnicodeDecodeError:
        body = {"payload_base64": base64.b64encode(payload).decode()}
    topic = SESSION_TOPIC if id_.startswith("session/") else COMMAND_TOPIC
    return {
        "id": id_,
        "comment": comment,
        "flags": _flags(id_),
        "topic": topic,
        **body,
        "keys": KEYS,
        "result": result | _source(id_),
    }


def _flags(id_: str) -> list[str]:
    name = id_.partition("/")[2][2:]
    found = [flag for flag, names in _FLAGS.items() if name in names.split()]
    assert found, f"{id_}: which bug does it catch?"
    return found


def _source(id_: str) -> dict[str, str]:
    """Whose word is broken by the wrong answer: the profile names the six members, and nothing more."""
    if id_ in _SIX_MEMBERS:
        return {"requirement": "OA-SES-003"}
    return {"source": "decision 0022"}


def main() -> None:
    for id_, vector in made().items():
        path = ROOT / f"{id_}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(vector, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
