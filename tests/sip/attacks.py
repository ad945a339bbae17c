"""What a gateway must refuse, row by row, and beside each attack the honest twin that it must not refuse.

A row is played twice in a fresh village: once hostile, once honest, with nothing else different. Rows 1 to 106
are the table in docs/sip.md; from 107 on, what was found since.
"""

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from tests.sip.village import (
    ANNA,
    CLINIC,
    COOP,
    FEEDER,
    GATEWAY,
    HES,
    HES_2,
    IDENTITIES,
    METER,
    MOVED,
    OTHER,
    OTHER_POLE,
    PERMITTED,
    POLE,
    REPEATED,
    ROOT_A,
    ROOT_B,
    ROOT_C,
    SILENT,
    STRANGER,
    TAKEN,
    TRADE,
    Change,
    Village,
    act_with,
    printed,
    seconds,
    session_topic,
    topic_of,
    unsigned,
)

from openami.sip.actions import Action, Role
from openami.sip.acts import ActType
from openami.sip.canonical import SIGNATURE, decode_base64url, encode_base64url, read_document
from openami.sip.compose import command_members
from openami.sip.errors import SipCode

Play = Callable[[Village, bool], str]


@dataclass(frozen=True)
class Attack:
    """One row: what is tried, what it comes to, and what its honest twin comes to."""

    row: str
    what: str
    outcome: str
    play: Play
    twin: str = MOVED
    ready: bool = True
    """Whether keyring and session are in force at the start."""


ATTACKS: Final[list[Attack]] = []


def attack(
    row: int | str, what: str, outcome: str, *, twin: str = MOVED, ready: bool = True
) -> Callable[[Play], Play]:
    def add(play: Play) -> Play:
        ATTACKS.append(Attack(str(row), what, outcome, play, twin, ready))
        return play

    return add


# --- the ways of changing one thing ------------------------------------------------------------------


def on_the_way(row: int | str, what: str, outcome: str, change: Callable[[bytes], bytes]) -> None:
    """A signed command is changed by whoever carries it."""

    @attack(row, what, outcome)
    def _(village: Village, hostile: bool) -> str:
        payload = village.order(village.command())
        return village.deliver(change(payload) if hostile else payload)


def in_signature(row: int | str, what: str, outcome: str, change: Callable[[str], str]) -> None:
    """The signature of a good command is spelled otherwise."""

    @attack(row, what, outcome)
    def _(village: Village, hostile: bool) -> str:
        members = json.loads(village.order(village.command()))
        if hostile:
            members[SIGNATURE] = change(members[SIGNATURE])
        return village.deliver(printed(members))


def in_header(row: int | str, what: str, outcome: str, **changed: Any) -> None:
    """The head-end's key does sign, but under another header."""

    @attack(row, what, outcome)
    def _(village: Village, hostile: bool) -> str:
        members = village.command()
        header = {"alg": "Ed25519", "iat": seconds(village.now), "kid": HES.kid}
        header |= {"typ": "sip-command", **(changed if hostile else {})}
        return village.deliver(printed({**members, SIGNATURE: act_with(header, members, HES)}))


def in_command(
    row: int | str, what: str, outcome: str, change: Change, action: Action = Action.DISCONNECT
) -> None:
    """The head-end itself signs a command that is not as commands are."""

    @attack(row, what, outcome, twin=MOVED if action is not Action.RESEND else PERMITTED)
    def _(village: Village, hostile: bool) -> str:
        args = {"from": "2026-06-20T00:00:00Z", "to": "2026-06-21T00:00:00Z"}
        members = village.command(action, args=args if action is Action.RESEND else None)
        return village.send(change(members) if hostile else members)


def in_session(row: int | str, what: str, outcome: str, change: Change) -> None:
    """The head-end itself offers a session that is not as sessions are."""

    @attack(row, what, outcome, twin=TAKEN)
    def _(village: Village, hostile: bool) -> str:
        members = village.session("sip-2")
        return village.offer(change(members) if hostile else members)


def in_keyring(row: int | str, what: str, outcome: str, change: Change) -> None:
    """The roots themselves sign a keyring that is not as keyrings are."""

    @attack(row, what, outcome, twin=TAKEN)
    def _(village: Village, hostile: bool) -> str:
        members = village.keyring(2)
        return village.admit(change(members) if hostile else members)


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(payload: bytes) -> bytes:
        assert old in payload, old
        return payload.replace(old, new, 1)

    return change


def having(path: str, value: object) -> Change:
    """Return the change that puts a value at a place like ``command/seq``."""

    def change(members: dict[str, Any]) -> dict[str, Any]:
        copy: dict[str, Any] = json.loads(json.dumps(members))
        *way, last = path.split("/")
        inner: Any = copy
        for step in way:
            inner = inner[int(step) if isinstance(inner, list) else step]
        inner[int(last) if isinstance(inner, list) else last] = value
        return copy

    return change


def lacking(path: str) -> Change:
    """Return the change that takes a member away."""

    def change(members: dict[str, Any]) -> dict[str, Any]:
        copy: dict[str, Any] = json.loads(json.dumps(members))
        *way, last = path.split("/")
        inner: Any = copy
        for step in way:
            inner = inner[int(step) if isinstance(inner, list) else step]
        del inner[last]
        return copy

    return change


# --- 1 to 10: bytes ----------------------------------------------------------------------------------

on_the_way(1, "not JSON", SipCode.BAD_JSON, lambda payload: payload[:-1])
on_the_way(2, "an array on top", SipCode.BAD_JSON, lambda payload: b"[" + payload + b"]")
on_the_way(3, "UTF-16", SipCode.BAD_JSON, lambda payload: payload.decode().encode("utf-16"))
on_the_way(
    "3b", "UTF-16 without a mark", SipCode.BAD_JSON, lambda p: p.decode().encode("utf-16-le")
)
on_the_way(4, "a byte order mark", SipCode.BAD_JSON, lambda payload: b"\xef\xbb\xbf" + payload)
on_the_way(5, "NaN", SipCode.BAD_JSON, replaced(b'"disconnected"', b"NaN"))
on_the_way("5b", "-Infinity", SipCode.BAD_JSON, replaced(b'"disconnected"', b"-Infinity"))
on_the_way(6, "depth 8", SipCode.BAD_JSON, replaced(b'"disconnected"', b"[[[[[[[[]]]]]]]]"))
on_the_way(7, "a lone surrogate", SipCode.BAD_JSON, replaced(b'"disconnected"', b'"\\ud800"'))
on_the_way("7b", "a lone surrogate as a name", SipCode.BAD_JSON, replaced(b'"unit"', b'"\\udc00"'))
on_the_way(8, "2^53 as seq", SipCode.BAD_JSON, replaced(b'"seq": 1', b'"seq": 9007199254740992'))
on_the_way("8b", "5000 digits", SipCode.BAD_JSON, replaced(b'"seq": 1', b'"seq": 1' + b"0" * 5000))
on_the_way(9, "64 kB", SipCode.TOO_LARGE, lambda payload: payload + b" " * (64 * 1024))
on_the_way("9b", "16 kB and 1", SipCode.TOO_LARGE, lambda p: p + b" " * (16 * 1024 + 1 - len(p)))
on_the_way(
    10,
    "`action` twice, the one that was signed first",
    SipCode.DUPLICATE_MEMBER,
    replaced(b'"action": ', b'"action": "relay.reconnect", "action": '),
)


@attack("9c", "16 kB are read, one byte more is not", SipCode.TOO_LARGE)
def _largest(village: Village, hostile: bool) -> str:
    payload = village.order(village.command())
    return village.deliver(payload + b" " * (16 * 1024 - len(payload) + hostile))


# --- 11 to 33: acts ----------------------------------------------------------------------------------

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def tail_bits(signature: str) -> str:
    """64 bytes are 85 characters and a third: the last one has four bits that nobody reads."""
    return signature[:-1] + _ALPHABET[_ALPHABET.index(signature[-1]) + 1]


in_signature(11, "base64url with its tail bits set", SipCode.BAD_ENCODING, tail_bits)
in_signature(12, "base64url with padding", SipCode.BAD_ENCODING, lambda text: text + "==")
in_signature("12b", "a line feed in it", SipCode.BAD_ENCODING, lambda text: text + "\n")
in_signature(
    13, "the payload put in", SipCode.BAD_ENCODING, lambda text: text.replace("..", ".e30.")
)
in_signature("13b", "a part too many", SipCode.BAD_ENCODING, lambda text: text + ".")
in_signature(14, "the same act twice", SipCode.BAD_ENCODING, lambda text: f"{text} {text}")
in_signature("14b", "two spaces between", SipCode.BAD_ENCODING, lambda text: f"{text}  {text}")
in_signature("14c", "letters beyond ASCII", SipCode.BAD_ENCODING, lambda text: text + "é")


@attack(15, "one signer twice, for a quorum of two", SipCode.BAD_ENCODING)
def _twice(village: Village, hostile: bool) -> str:
    members = village.signed(village.command(serial=CLINIC), ActType.COMMAND, HES)
    second = HES if hostile else ANNA
    later = village.now + timedelta(seconds=1)
    whole = village.signed(members, ActType.COMMAND, second, iat=later)
    return village.deliver(printed(whole), CLINIC)


in_signature(16, "an empty signature", SipCode.NO_SIGNATURE, lambda _: "")
on_the_way("16b", "no signature", SipCode.NO_SIGNATURE, lambda p: printed(unsigned(json.loads(p))))
on_the_way(
    "16c",
    "signature null",
    SipCode.NO_SIGNATURE,
    lambda p: printed({**json.loads(p), SIGNATURE: None}),
)
on_the_way(
    "16d",
    "a list of signatures",
    SipCode.BAD_FIELD,
    lambda p: printed({**json.loads(p), SIGNATURE: [json.loads(p)[SIGNATURE]]}),
)
in_signature(17, "nine acts", SipCode.TOO_MANY_ACTS, lambda text: " ".join([text] * 9))
in_header(18, "alg none", SipCode.BAD_ALG, alg="none")


@attack(19, "HS256 with the public key as its secret", SipCode.BAD_ALG)
def _confused(village: Village, hostile: bool) -> str:
    members = village.command()
    header = {"alg": "HS256", "iat": seconds(village.now), "kid": HES.kid, "typ": "sip-command"}
    head = encode_base64url(json.dumps(header).encode())
    body = encode_base64url(read_document(printed(members)).canonical)
    mac = hmac.digest(HES.public.raw, f"{head}.{body}".encode(), hashlib.sha512)
    forged = {**members, SIGNATURE: f"{head}..{encode_base64url(mac)}"}
    return village.deliver(printed(forged)) if hostile else village.send(members)


in_header("19b", "EdDSA, the name of many algorithms", SipCode.BAD_ALG, alg="EdDSA")
in_header("19c", "a list of algorithms", SipCode.BAD_ALG, alg=["Ed25519"])
in_header(20, "crit and b64", SipCode.BAD_HEADER, crit=["b64"], b64=True)
in_header(21, "a key brought along", SipCode.BAD_HEADER, jwk={"kty": "OKP"})
in_header(22, "iat a float", SipCode.BAD_HEADER, iat=1782138605.5)
in_header(23, "iat negative", SipCode.BAD_HEADER, iat=-1)
in_header("23b", "iat true", SipCode.BAD_HEADER, iat=True)
in_header("23c", "iat beyond the calendar", SipCode.BAD_HEADER, iat=253_402_300_800)
in_header(24, "kid not a string", SipCode.BAD_HEADER, kid=[HES.kid])
in_header(25, "a nonce in a command's act", SipCode.BAD_HEADER, nonce="AAAAAAAAAAAAAAAAAAAAAA")


@attack("25d", "an accept whose nonce has 15 bytes", SipCode.BAD_HEADER, twin=TAKEN)
def _short_nonce(village: Village, hostile: bool) -> str:
    whole = village.signed(village.session("sip-2"), ActType.OFFER, HES)
    header = {"alg": "Ed25519", "iat": seconds(village.now), "kid": POLE.kid, "typ": "sip-accept"}
    nonce = encode_base64url(bytes(15 if hostile else 16))
    whole[SIGNATURE] += " " + act_with({**header, "nonce": nonce}, whole, POLE)
    return village.pole.take_session(session_topic("sip-2"), printed(whole))


@attack("25e", "a close with a sentence for a reason", SipCode.BAD_HEADER, twin=TAKEN)
def _sentence(village: Village, hostile: bool) -> str:
    members = village.session()
    header = {"alg": "Ed25519", "iat": seconds(village.now), "kid": HES.kid, "typ": "sip-close"}
    act = act_with({**header, "rsn": "because I say so" if hostile else "CLOSED"}, members, HES)
    return village.pole.take_session(session_topic("sip-1"), printed({**members, SIGNATURE: act}))


@attack("25f", "a close without a reason", SipCode.BAD_HEADER, twin=TAKEN)
def _no_reason(village: Village, hostile: bool) -> str:
    members = village.session()
    header = {"alg": "Ed25519", "iat": seconds(village.now), "kid": HES.kid, "typ": "sip-close"}
    reason = {} if hostile else {"rsn": "A" * 32}
    act = act_with({**header, **reason}, members, HES)
    return village.pole.take_session(session_topic("sip-1"), printed({**members, SIGNATURE: act}))


in_header("25b", "a nonce that is null", SipCode.BAD_HEADER, nonce=None)
in_header("25c", "a reason in a command's act", SipCode.BAD_HEADER, rsn="BECAUSE")
in_header(26, "typ JWT", SipCode.BAD_TYPE, typ="JWT")
in_header("26b", "typ a list", SipCode.BAD_TYPE, typ=["sip-command"])
in_header("26c", "typ an object", SipCode.BAD_TYPE, typ={"sip-command": 1})
in_header(27, "a report's act on a command", SipCode.WRONG_TYPE, typ="sip-report")


@attack("27b", "an accept's act on a command", SipCode.WRONG_TYPE)
def _accepting(village: Village, hostile: bool) -> str:
    members = village.command()
    kind = (
        {"typ": "sip-accept", "nonce": "AAAAAAAAAAAAAAAAAAAAAA"}
        if hostile
        else {"typ": "sip-command"}
    )
    header = {"alg": "Ed25519", "iat": seconds(village.now), "kid": HES.kid, **kind}
    return village.deliver(printed({**members, SIGNATURE: act_with(header, members, HES)}))


def raw_header(row: str, what: str, header: Callable[[bytes], bytes]) -> None:
    @attack(row, what, SipCode.BAD_HEADER)
    def _(village: Village, hostile: bool) -> str:
        members = village.command()
        good = json.dumps(
            {"alg": "Ed25519", "iat": seconds(village.now), "kid": HES.kid, "typ": "sip-command"}
        ).encode()
        act = act_with(header(good) if hostile else good, members, HES)
        return village.deliver(printed({**members, SIGNATURE: act}))


raw_header("27c", "a header that is not JSON", lambda _: b"alg")
raw_header("27d", "a header's member twice", replaced(b'{"alg"', b'{"alg": "none", "alg"'))
raw_header("27e", "a header that is a list", lambda header: b"[" + header + b"]")


@attack(28, "another meter", SipCode.BAD_SIGNATURE)
def _other_meter(village: Village, hostile: bool) -> str:
    payload = village.order(village.command())
    if hostile:
        return village.deliver(payload.replace(METER.encode(), OTHER.encode()), OTHER)
    return village.deliver(payload)


on_the_way(
    29, "another register", SipCode.BAD_SIGNATURE, replaced(b'"disconnected"', b'"connected"')
)
on_the_way("29b", "another seq", SipCode.BAD_SIGNATURE, replaced(b'"seq": 1', b'"seq": 2'))


def later(signature: str) -> str:
    head, _, sig = signature.split(".")
    header = json.loads(decode_base64url(head))
    header["iat"] += 1
    return f"{encode_base64url(json.dumps(header).encode())}..{sig}"


_L: Final = 2**252 + 27742317777372353535851937790883648493


def plus_l(signature: str) -> str:
    head, _, sig = signature.split(".")
    raw = decode_base64url(sig)
    s = int.from_bytes(raw[32:], "little") + _L
    return f"{head}..{encode_base64url(raw[:32] + s.to_bytes(32, 'little'))}"


def _shorter(signature: str) -> str:
    head, _, sig = signature.split(".")
    return f"{head}..{encode_base64url(decode_base64url(sig)[:63])}"


in_signature(30, "another iat", SipCode.BAD_SIGNATURE, later)
in_signature(31, "S + L", SipCode.BAD_SIGNATURE, plus_l)
in_signature(32, "63 bytes", SipCode.BAD_SIGNATURE, _shorter)


@attack(33, "the head-end's kid over a stranger's signature", SipCode.BAD_SIGNATURE)
def _borrowed(village: Village, hostile: bool) -> str:
    members = village.command()
    header = {"alg": "Ed25519", "iat": seconds(village.now), "kid": HES.kid, "typ": "sip-command"}
    act = act_with(header, members, STRANGER if hostile else HES)
    return village.deliver(printed({**members, SIGNATURE: act}))


@attack("33b", "a good act beside a bad one", SipCode.BAD_SIGNATURE)
def _one_bad(village: Village, hostile: bool) -> str:
    whole = village.signed(village.command(serial=CLINIC), ActType.COMMAND, HES, ANNA)
    if hostile:
        good, bad = whole[SIGNATURE].split(" ")
        whole[SIGNATURE] = f"{good} {later(bad)}"
    return village.deliver(printed(whole), CLINIC)


# --- 34 to 49: keys, topics, sessions ----------------------------------------------------------------


@attack(34, "a key that is not in the keyring", SipCode.UNKNOWN_KEY)
def _unknown(village: Village, hostile: bool) -> str:
    return village.send(village.command(), STRANGER if hostile else HES)


@attack("34b", "a root commands", SipCode.UNKNOWN_KEY)
def _root_commands(village: Village, hostile: bool) -> str:
    return village.send(village.command(), ROOT_A if hostile else HES)


@attack(35, "a head-end signs a keyring", SipCode.UNKNOWN_KEY, twin=TAKEN)
def _hes_signs(village: Village, hostile: bool) -> str:
    return village.admit(village.keyring(2), ROOT_A, HES if hostile else ROOT_B)


@attack(36, "a head-end's key that was revoked, in a live session", SipCode.UNKNOWN_KEY)
def _revoked(village: Village, hostile: bool) -> str:
    left = {name: who for name, who in IDENTITIES.items() if not (hostile and name == "hes-1")}
    assert village.admit(village.keyring(2, identities=left)) == TAKEN
    return village.send(village.command())


@attack(37, "meter A's command on meter B's topic", SipCode.TOPIC_MISMATCH)
def _wrong_topic(village: Village, hostile: bool) -> str:
    return village.deliver(village.order(village.command()), OTHER if hostile else METER)


@attack(38, "another gateway's command for the same serial", SipCode.TOPIC_MISMATCH)
def _other_gateway(village: Village, hostile: bool) -> str:
    topic = topic_of(gateway="pole-ems-0043" if hostile else GATEWAY)
    members = command_members(
        topic,
        Action.DISCONNECT,
        session_id="sip-1",
        seq=1,
        nonce=village.pole.nonces["sip-1"],
        ts=village.now,
        not_after=village.now + timedelta(seconds=300),
    )
    return village.pole.take_command(topic, village.order(members))


@attack(39, "a handshake on another session's topic", SipCode.TOPIC_MISMATCH, twin=TAKEN)
def _other_session(village: Village, hostile: bool) -> str:
    whole = village.signed(village.session("sip-2"), ActType.OFFER, HES)
    topic = session_topic("sip-3" if hostile else "sip-2")
    return village.pole.take_session(topic, printed(whole))


in_session(
    40, "another feeder's scope", SipCode.TOPIC_MISMATCH, having("feederScope/feederId", "f-2")
)
in_session(
    "40b", "another gateway's", SipCode.TOPIC_MISMATCH, having("feederScope/gatewayId", "g-2")
)
in_keyring(
    "40c", "a keyring for others", SipCode.TOPIC_MISMATCH, having("feederScope/gatewayId", "g-2")
)
in_keyring(
    "40d", "a keyring elsewhere", SipCode.TOPIC_MISMATCH, having("feederScope/feederId", "f-2")
)


@attack("40e", "another gateway's close, for a session of ours", SipCode.TOPIC_MISMATCH, twin=TAKEN)
def _foreign_close(village: Village, hostile: bool) -> str:
    members = village.session("sip-2")
    if hostile:
        members["feederScope"]["gatewayId"] = "pole-ems-0043"
    return village.close(members)


@attack(41, "a retained command", SipCode.RETAINED)
def _retained(village: Village, hostile: bool) -> str:
    return village.deliver(village.order(village.command()), retain=hostile)


@attack(42, "a retained handshake", SipCode.RETAINED, twin=TAKEN)
def _retained_offer(village: Village, hostile: bool) -> str:
    whole = village.signed(village.session("sip-2"), ActType.OFFER, HES)
    return village.pole.take_session(session_topic("sip-2"), printed(whole), retain=hostile)


@attack(43, "a command without a handshake", SipCode.NO_SESSION, ready=False)
def _no_handshake(village: Village, hostile: bool) -> str:
    assert village.admit(village.keyring()) == TAKEN
    if not hostile:
        assert village.offer(village.session()) == TAKEN
    return village.send(village.command())


@attack("43b", "a command before any keyring", SipCode.NO_KEYRING, ready=False)
def _no_keyring(village: Village, hostile: bool) -> str:
    if not hostile:
        assert village.admit(village.keyring()) == TAKEN
        assert village.offer(village.session()) == TAKEN
    return village.send(village.command())


@attack("43c", "an offer before any keyring", SipCode.NO_KEYRING, twin=TAKEN, ready=False)
def _offer_first(village: Village, hostile: bool) -> str:
    if not hostile:
        assert village.admit(village.keyring()) == TAKEN
    return village.offer(village.session())


@attack(44, "an unknown session", SipCode.NO_SESSION)
def _unknown_session(village: Village, hostile: bool) -> str:
    nonce = village.pole.nonces["sip-1"]
    session_id = "sip-9" if hostile else "sip-1"
    return village.send(village.command(session_id=session_id, nonce=nonce))


@attack("44b", "an accept of a session that was never offered", SipCode.NO_SESSION, twin=TAKEN)
def _accept_alone(village: Village, hostile: bool) -> str:
    members = village.session("sip-2")
    header = {"alg": "Ed25519", "iat": seconds(village.now), "kid": HES.kid, "typ": "sip-offer"}
    if hostile:
        header |= {"typ": "sip-accept", "nonce": "AAAAAAAAAAAAAAAAAAAAAA"}
    whole = {**members, SIGNATURE: act_with(header, members, HES)}
    return village.pole.take_session(session_topic("sip-2"), printed(whole))


@attack(45, "a command after the close", SipCode.SESSION_CLOSED)
def _after_close(village: Village, hostile: bool) -> str:
    payload = village.order(village.command())
    if hostile:
        assert village.close(village.session()) == TAKEN
    return village.deliver(payload)


@attack(46, "the close before its offer, then the offer", SipCode.SESSION_CLOSED, twin=TAKEN)
def _close_first(village: Village, hostile: bool) -> str:
    members = village.session("sip-2")
    if hostile:
        assert village.close(members) == TAKEN
    return village.offer(members)


@attack("46b", "a gateway's key closes a session", SipCode.NOT_ALLOWED, twin=TAKEN)
def _closed_by_pole(village: Village, hostile: bool) -> str:
    return village.close(village.session(), POLE if hostile else ANNA)


@attack(47, "a session's id for another document", SipCode.SESSION_CONFLICT, twin=SILENT)
def _conflict(village: Village, hostile: bool) -> str:
    return village.offer(village.session(hours=25 if hostile else 24))


@attack(48, "an offer after the session's end", SipCode.SESSION_EXPIRED, twin=TAKEN)
def _past(village: Village, hostile: bool) -> str:
    members = village.session("sip-2", hours=1 if hostile else 3)
    village.pole.pass_time(3000)
    village.pole.tick()
    village.pole.connect()
    assert village.send(village.command()) == MOVED  # from here on the clock is witnessed
    village.pole.pass_time(3000)
    return village.offer(members)


@attack("48b", "a command signed after the session's end", SipCode.SESSION_EXPIRED)
def _signed_late(village: Village, hostile: bool) -> str:
    village.clocks.synchronised = False
    assert village.offer(village.session("sip-2", hours=1)) == TAKEN
    village.pole.pass_time(3601 if hostile else 3600)
    village.pole.connect()
    return village.send(village.command(session_id="sip-2"))


@attack("48c", "a command signed before the session's beginning", SipCode.SESSION_EXPIRED)
def _signed_early(village: Village, hostile: bool) -> str:
    iat = village.now - timedelta(seconds=301 if hostile else 300)
    return village.send(village.command(life_s=250), iat=iat)


@attack("48d", "an offer older than the keyring that ended it", SipCode.SESSION_EXPIRED, twin=TAKEN)
def _before_keyring(village: Village, hostile: bool) -> str:
    """No clock at all: what the roots have signed since is time enough."""
    village.clocks.synchronised = False
    members = village.session("sip-2", hours=1)
    village.pole.pass_time(3700 if hostile else 3500)
    assert village.admit(village.keyring(2)) == TAKEN
    return village.offer(members)


@attack(49, "a ninth session", SipCode.TOO_MANY_SESSIONS, twin=TAKEN)
def _ninth(village: Village, hostile: bool) -> str:
    for number in range(2, 9):
        assert village.offer(village.session(f"sip-{number}")) == TAKEN
    if not hostile:
        assert village.close(village.session("sip-8")) == TAKEN
    return village.offer(village.session("sip-9"))


# --- 50 to 62: replay and time -----------------------------------------------------------------------


@attack(50, "the same number, another content", SipCode.SEQ_REUSED, twin=REPEATED)
def _reused(village: Village, hostile: bool) -> str:
    members = village.command(seq=5)
    assert village.send(members) == MOVED
    return village.send(village.command(Action.RECONNECT, seq=5) if hostile else members)


@attack(51, "a lower number after a higher", SipCode.SEQ_REPLAY)
def _lower(village: Village, hostile: bool) -> str:
    held_back = village.order(village.command(seq=6 if hostile else 8, life_s=600))
    assert village.send(village.command(Action.RECONNECT, seq=7)) == MOVED
    village.pole.pass_time(300)
    return village.deliver(held_back)


@attack(52, "an exact duplicate: told again, not moved again", REPEATED)
def _duplicate(village: Village, hostile: bool) -> str:
    payload = village.order(village.command())
    return _twice_but_moved_once(village, payload, lambda: None, hostile)


@attack(53, "an exact duplicate after a reboot", REPEATED)
def _duplicate_rebooted(village: Village, hostile: bool) -> str:
    payload = village.order(village.command())
    return _twice_but_moved_once(village, payload, village.pole.reboot, hostile)


def _twice_but_moved_once(
    village: Village, payload: bytes, between: Callable[[], None], again: bool
) -> str:
    outcome = village.deliver(payload)
    if again:
        between()
        outcome = village.deliver(payload)
    assert len(village.pole.movements) == 1
    return outcome


@attack(54, "a command withheld until after a reboot", SipCode.STALE_NONCE)
def _withheld(village: Village, hostile: bool) -> str:
    payload = village.order(village.command())
    if hostile:
        village.pole.reboot()
    return village.deliver(payload)


@attack("54b", "a command between a boot and its first accept", SipCode.STALE_NONCE)
def _between(village: Village, hostile: bool) -> str:
    payload = village.order(village.command())
    if hostile:
        village.pole.boot()
    return village.deliver(payload)


@attack("54c", "a command that echoes the nonce before the last", SipCode.STALE_NONCE)
def _two_nonces_ago(village: Village, hostile: bool) -> str:
    payload = village.order(village.command())
    village.pole.connect()
    if hostile:
        village.pole.connect()
    return village.deliver(payload)


@attack("54d", "the nonce before the last renewal, after its grace", SipCode.STALE_NONCE)
def _after_grace(village: Village, hostile: bool) -> str:
    payload = village.order(village.command())
    village.pole.connect()
    village.pole.pass_time(61 if hostile else 60)
    return village.deliver(payload)


@attack("54e", "a nonce older than the session allows", SipCode.STALE_NONCE)
def _old_nonce(village: Village, hostile: bool) -> str:
    assert village.offer(village.session("sip-2", limits={"nonceLife": 300})) == TAKEN
    village.pole.pass_time(301 if hostile else 300)
    return village.send(village.command(session_id="sip-2"))


@attack("54f", "the nonce of another session", SipCode.STALE_NONCE)
def _other_nonce(village: Village, hostile: bool) -> str:
    assert village.offer(village.session("sip-2")) == TAKEN
    nonce = village.pole.nonces["sip-2" if hostile else "sip-1"]
    return village.send(village.command(nonce=nonce))


@attack(
    55, "a new card; keyring, offer and command are all replayed", SipCode.STALE_NONCE, ready=False
)
def _wiped(village: Village, hostile: bool) -> str:
    keyring, session = village.keyring(), village.session()
    assert village.admit(keyring) == TAKEN
    assert village.offer(session) == TAKEN
    payload = village.order(village.command())
    if hostile:
        village.pole.wipe()
        assert village.admit(keyring) == TAKEN
        assert village.offer(session) == TAKEN
    return village.deliver(payload)


@attack(56, "the clock 40 days back after a power cut, a command 20 days old", SipCode.STALE_NONCE)
def _power_cut(village: Village, hostile: bool) -> str:
    payload = village.order(village.command(life_s=600))
    if hostile:
        village.pole.pass_time(20 * 86_400)
        village.clocks.off, village.clocks.synchronised = timedelta(days=-40), False
        village.pole.reboot()
    return village.deliver(payload)


@attack(57, "no clock, a command withheld for an hour of the same boot", SipCode.STALE_NONCE)
def _hour(village: Village, hostile: bool) -> str:
    village.clocks.synchronised = False
    payload = village.order(village.command())
    village.pole.pass_time(3600 if hostile else 300)
    return village.deliver(payload)


@attack(58, "the network's time set back two hours to revive a command", SipCode.STALE_NONCE)
def _set_back(village: Village, hostile: bool) -> str:
    payload = village.order(village.command())
    if hostile:
        village.pole.pass_time(3000)
        village.clocks.off = timedelta(hours=-2)
    return village.deliver(payload)


@attack(59, "after notAfter", SipCode.EXPIRED)
def _expired(village: Village, hostile: bool) -> str:
    payload = village.order(village.command())
    village.pole.pass_time(301 if hostile else 300)
    return village.deliver(payload)


@attack(60, "a life longer than the roots allow", SipCode.BAD_FIELD)
def _long_life(village: Village, hostile: bool) -> str:
    return village.send(village.command(life_s=601 if hostile else 600))


@attack("60b", "a life of nothing", SipCode.BAD_FIELD)
def _no_life(village: Village, hostile: bool) -> str:
    return village.send(village.command(life_s=0 if hostile else 1))


@attack("60c", "the second person's act ended before it was made", SipCode.BAD_FIELD)
def _second_too_late(village: Village, hostile: bool) -> str:
    members = village.signed(village.command(serial=CLINIC), ActType.COMMAND, HES)
    later = village.now + timedelta(seconds=301 if hostile else 30)
    village.clocks.synchronised = False
    whole = village.signed(members, ActType.COMMAND, ANNA, iat=later)
    return village.deliver(printed(whole), CLINIC)


@attack(61, "signed in the future", SipCode.NOT_YET_VALID)
def _future(village: Village, hostile: bool) -> str:
    iat = village.now + timedelta(seconds=61 if hostile else 60)
    return village.send(village.command(), iat=iat)


@attack("62a", "(must work) the clock says 1970", MOVED)
def _in_1970(village: Village, hostile: bool) -> str:
    if hostile:
        village.clocks.synchronised, village.clocks.off = False, timedelta(days=-56 * 365)
    village.pole.tick()
    return village.send(village.command())


@attack("62b", "(must work) the network's time is 400 days ahead", MOVED)
def _ahead(village: Village, hostile: bool) -> str:
    village.pole.reboot()
    if hostile:
        village.clocks.off = timedelta(days=400)
    village.pole.tick()
    return village.send(village.command())


@attack("62c", "(must work) the head-end is 50 s behind", MOVED)
def _behind(village: Village, hostile: bool) -> str:
    iat = village.now - timedelta(seconds=50 if hostile else 0)
    return village.send(village.command(), iat=iat)


@attack("62d", "(must work) the head-end was a week ahead, once", MOVED)
def _week_ahead(village: Village, hostile: bool) -> str:
    _poison(village, timedelta(days=7) if hostile else timedelta(0))
    village.pole.tick()
    return village.deliver(village.order(village.command(session_id="sip-2", serial=OTHER)), OTHER)


def _poison(village: Village, ahead: timedelta) -> None:
    """A head-end's key says that it is later than it is; the gateway has no clock of its own."""
    village.clocks.synchronised = False
    assert village.offer(village.session("sip-2", hours=191)) == TAKEN
    members = village.command(session_id="sip-2", life_s=ahead.total_seconds() + 300)
    assert village.send(members, iat=village.now + ahead) == MOVED
    village.clocks.synchronised = True


@attack(
    "62e",
    "(must work) a session is offered to a gateway whose time was poisoned",
    TAKEN,
    twin=TAKEN,
)
def _offer_poisoned(village: Village, hostile: bool) -> str:
    _poison(village, timedelta(days=7) if hostile else timedelta(0))
    return village.offer(village.session("sip-3", hours=24))


@attack("62f", "(must work) an operator's ticket, at a gateway whose time was poisoned", MOVED)
def _ticket_poisoned(village: Village, hostile: bool) -> str:
    _poison(village, timedelta(days=7) if hostile else timedelta(0))
    village.pole.pass_time(60)
    return village.send(village.ticket(days=2), ANNA)


# --- 63 to 79: rights --------------------------------------------------------------------------------


@attack(63, "a market participant cuts off", SipCode.NOT_ALLOWED)
def _market(village: Village, hostile: bool) -> str:
    return village.send(village.command(), COOP if hostile else HES)


@attack("63b", "a gateway's own key cuts off", SipCode.NOT_ALLOWED)
def _pole_commands(village: Village, hostile: bool) -> str:
    return village.send(village.command(), POLE if hostile else HES)


@attack(64, "an operator without the right", SipCode.NOT_ALLOWED)
def _without_right(village: Village, hostile: bool) -> str:
    can = {"anna": frozenset[Action]()} if hostile else None
    assert village.offer(village.session("sip-2", can=can)) == TAKEN
    members = village.command(session_id="sip-2", serial=CLINIC)
    return village.deliver(village.order(members, HES, ANNA), CLINIC)


@attack("64b", "a right that the roots have taken back since", SipCode.NOT_ALLOWED)
def _taken_back(village: Village, hostile: bool) -> str:
    name, role, signer, _ = IDENTITIES["hes-1"]
    rest = frozenset({Action.RECONNECT} if hostile else Action)
    identities = {**IDENTITIES, "hes-1": (name, role, signer, rest)}
    assert village.admit(village.keyring(2, identities=identities)) == TAKEN
    return village.send(village.command())


@attack(65, "an operator alone", SipCode.QUORUM)
def _operator_alone(village: Village, hostile: bool) -> str:
    return village.send(village.command(), ANNA, *(() if hostile else (HES,)))


@attack(66, "a protected meter, by the head-end alone", SipCode.QUORUM)
def _protected(village: Village, hostile: bool) -> str:
    signers = (HES,) if hostile else (HES, ANNA)
    return village.deliver(village.order(village.command(serial=CLINIC), *signers), CLINIC)


@attack("66b", "a protected meter, by two head-ends", SipCode.QUORUM)
def _two_machines(village: Village, hostile: bool) -> str:
    session = village.session("sip-2", who=("hes-1", "hes-2", "anna", "pole"))
    assert village.offer(session) == TAKEN
    members = village.command(session_id="sip-2", serial=CLINIC)
    return village.deliver(village.order(members, HES, HES_2 if hostile else ANNA), CLINIC)


@attack(67, "a settlement without the market", SipCode.QUORUM, twin=PERMITTED)
def _settled_alone(village: Village, hostile: bool) -> str:
    signers = (HES,) if hostile else (HES, COOP)
    return village.send(village.command(Action.SETTLE, args=TRADE), *signers)


@attack("67b", "a settlement without the head-end", SipCode.QUORUM, twin=PERMITTED)
def _settled_by_market(village: Village, hostile: bool) -> str:
    signers = (COOP,) if hostile else (COOP, HES)
    return village.send(village.command(Action.SETTLE, args=TRADE), *signers)


@attack(68, "the second act by somebody who is not in the session", SipCode.NOT_A_PARTICIPANT)
def _not_in_session(village: Village, hostile: bool) -> str:
    who = ("hes-1", "pole") if hostile else ("hes-1", "anna", "pole")
    assert village.offer(village.session("sip-2", who=who)) == TAKEN
    return village.send(village.command(session_id="sip-2"), HES, ANNA)


@attack(
    69, "an offer by a head-end that is not in the session", SipCode.NOT_A_PARTICIPANT, twin=TAKEN
)
def _outsider_offers(village: Village, hostile: bool) -> str:
    return village.offer(village.session("sip-2"), HES_2 if hostile else HES)


@attack("69b", "an offer by a market participant", SipCode.NOT_ALLOWED, twin=TAKEN)
def _market_offers(village: Village, hostile: bool) -> str:
    return village.offer(village.session("sip-2"), COOP if hostile else HES)


@attack("69c", "an offer signed by the head-end and the market", SipCode.NOT_ALLOWED, twin=TAKEN)
def _market_helps(village: Village, hostile: bool) -> str:
    return village.offer(village.session("sip-2"), HES, COOP if hostile else ANNA)


@attack("69d", "whoever may not offer, spends an honest session's id", TAKEN, twin=TAKEN)
def _spent_id(village: Village, hostile: bool) -> str:
    members = village.session("sip-2")
    if hostile:
        published = village.pole.published
        assert (
            village.offer({**members, "validTo": members["validFrom"]}, COOP) == SipCode.BAD_FIELD
        )
        assert village.offer(members, COOP) == SipCode.NOT_ALLOWED
        assert village.pole.published == published
    return village.offer(members)


@attack("69e", "a command's act on a session's document", SipCode.WRONG_TYPE, twin=TAKEN)
def _command_on_session(village: Village, hostile: bool) -> str:
    whole = village.signed(village.session("sip-2"), ActType.OFFER, HES)
    if hostile:
        whole = village.signed(whole, ActType.COMMAND, ANNA)
    return village.pole.take_session(session_topic("sip-2"), printed(whole))


@attack(70, "a session without this gateway", SipCode.NOT_A_PARTICIPANT, twin=TAKEN)
def _without_pole(village: Village, hostile: bool) -> str:
    who = ("hes-1", "anna") if hostile else ("hes-1", "anna", "pole")
    return village.offer(village.session("sip-2", who=who))


@attack(71, "a meter out of the session's scope", SipCode.OUT_OF_SCOPE)
def _out_of_scope(village: Village, hostile: bool) -> str:
    assert village.offer(village.session("sip-2", meters=[OTHER if hostile else METER])) == TAKEN
    return village.send(village.command(session_id="sip-2"))


@attack("71b", "a meter out of the keyring's scope", SipCode.OUT_OF_SCOPE)
def _out_of_keyring(village: Village, hostile: bool) -> str:
    keyring = village.keyring(2, meters=[OTHER if hostile else METER])
    assert village.admit(keyring) == TAKEN
    return village.send(village.command())


@attack(72, "a meter that is not here", SipCode.OUT_OF_SCOPE)
def _not_here(village: Village, hostile: bool) -> str:
    serial = "DS1000-99999" if hostile else METER
    return village.deliver(village.order(village.command(serial=serial)), serial)


in_command(
    73, "an unknown action", SipCode.UNKNOWN_ACTION, having("command/action", "relay.toggle")
)
in_command("73b", "an action that is a list", SipCode.UNKNOWN_ACTION, having("command/action", []))
in_command(
    74, "registers that say another thing", SipCode.ACTION_MISMATCH,
    having("registers/0/value", "connected"),
)  # fmt: skip
in_command(
    "74b", "another register", SipCode.ACTION_MISMATCH, having("registers/0/obis", "96.11.2")
)
in_command(
    "74c",
    "a register too many",
    SipCode.ACTION_MISMATCH,
    lambda members: {**members, "registers": members["registers"] * 2},
)


@attack(75, "a third disconnect within the hour", SipCode.RATE_LIMIT)
def _third(village: Village, hostile: bool) -> str:
    _cut_off(village, 2)
    village.pole.pass_time(0 if hostile else 1800)
    village.pole.tick()
    return village.deliver(village.order(village.command(serial="HOUSE-9")), "HOUSE-9")


def _cut_off(village: Village, count: int) -> None:
    for number in range(count):
        serial = f"HOUSE-{number}"
        assert village.deliver(village.order(village.command(serial=serial)), serial) == MOVED


@attack("75b", "the hour's budget, after a reboot", SipCode.RATE_LIMIT)
def _rebooted_budget(village: Village, hostile: bool) -> str:
    _cut_off(village, 2 if hostile else 1)
    village.pole.reboot()
    return village.deliver(village.order(village.command(serial="HOUSE-9")), "HOUSE-9")


@attack("75c", "the hour's budget, after the clock jumped", SipCode.RATE_LIMIT)
def _jumped_budget(village: Village, hostile: bool) -> str:
    _cut_off(village, 2 if hostile else 1)
    village.clocks.off = timedelta(hours=6)
    return village.deliver(village.order(village.command(serial="HOUSE-9")), "HOUSE-9")


@attack("75d", "the hour's budget, through another session", SipCode.RATE_LIMIT)
def _other_budget(village: Village, hostile: bool) -> str:
    _cut_off(village, 2 if hostile else 1)
    assert village.offer(village.session("sip-2")) == TAKEN
    order = village.order(village.command(serial="HOUSE-9", session_id="sip-2"))
    return village.deliver(order, "HOUSE-9")


@attack(76, "a limit raised by one person", SipCode.QUORUM, twin=TAKEN)
def _bulk_alone(village: Village, hostile: bool) -> str:
    session = village.session("sip-2", limits={"disconnectsPerHour": 10})
    return village.offer(session, *((HES,) if hostile else (HES, ANNA)))


@attack("76b", "a dwell shortened by one person", SipCode.QUORUM, twin=TAKEN)
def _dwell_alone(village: Village, hostile: bool) -> str:
    return village.offer(village.session("sip-2", limits={"minDwell": 59 if hostile else 61}))


@attack("76c", "a bulk session uses what a plain one may not", SipCode.RATE_LIMIT)
def _bulk(village: Village, hostile: bool) -> str:
    session = village.session("sip-2", limits={"disconnectsPerHour": 10})
    assert village.offer(session, HES, ANNA) == TAKEN
    _cut_off(village, 2)
    session_id = "sip-1" if hostile else "sip-2"
    village.pole.pass_time(1500)  # 0.8 of a plain session's disconnect, four of a bulk session's
    order = village.order(village.command(serial="HOUSE-9", session_id=session_id))
    return village.deliver(order, "HOUSE-9")


@attack("76d", "a bulk session one of whose persons has left the keyring", SipCode.RATE_LIMIT)
def _bulk_orphaned(village: Village, hostile: bool) -> str:
    session = village.session("sip-2", limits={"disconnectsPerHour": 10})
    assert village.offer(session, HES, ANNA) == TAKEN
    left = {name: who for name, who in IDENTITIES.items() if not (hostile and name == "anna")}
    assert village.admit(village.keyring(2, identities=left)) == TAKEN
    outcomes = []
    for number in range(3):
        order = village.order(village.command(serial=f"HOUSE-{number}", session_id="sip-2"))
        outcomes.append(village.deliver(order, f"HOUSE-{number}"))
    assert outcomes[:2] == [MOVED, MOVED]
    return outcomes[2]


@attack(77, "a trade twice", SipCode.TRADE_DONE, twin=PERMITTED)
def _trade_twice(village: Village, hostile: bool) -> str:
    assert village.send(village.command(Action.SETTLE, args=TRADE), HES, COOP) == PERMITTED
    again = {**TRADE, "tradeId": "trade-1" if hostile else "trade-2"}
    return village.send(village.command(Action.SETTLE, args=again), HES, COOP)


@attack(78, "a participant who is not in the keyring", SipCode.UNKNOWN_PARTICIPANT, twin=TAKEN)
def _ghost(village: Village, hostile: bool) -> str:
    members = village.session("sip-2")
    ghost = {"id": "ghost", "role": "hes", **({"kid": STRANGER.kid} if hostile else {})}
    members["participants"].append(ghost)
    return village.offer(members)


in_session(
    "78b",
    "a participant by another name",
    SipCode.UNKNOWN_PARTICIPANT,
    having("participants/0/id", "x"),
)
in_session(
    "78c",
    "a participant in another role",
    SipCode.UNKNOWN_PARTICIPANT,
    having("participants/1/role", "hes"),
)
in_session(
    79, "a session that grants more than the keyring", SipCode.NOT_ALLOWED,
    having("participants/2/can", ["settlement.commit", "relay.reconnect"]),
)  # fmt: skip


# --- 80 to 88: the keyring ---------------------------------------------------------------------------


@attack(80, "a keyring by one root of two", SipCode.QUORUM, twin=TAKEN)
def _one_root(village: Village, hostile: bool) -> str:
    return village.admit(village.keyring(2), *((ROOT_A,) if hostile else (ROOT_A, ROOT_C)))


@attack("80b", "an act among a keyring's that is none", SipCode.WRONG_TYPE, twin=TAKEN)
def _not_a_keyring(village: Village, hostile: bool) -> str:
    whole = village.signed(village.keyring(2), ActType.KEYRING, ROOT_A, ROOT_B)
    if hostile:
        whole = village.signed(whole, ActType.OFFER, ROOT_C)
    return village.pole.take_session(session_topic(whole["sessionId"]), printed(whole))


@attack(81, "an older keyring", SipCode.KEYRING_ROLLBACK, twin=TAKEN)
def _rollback(village: Village, hostile: bool) -> str:
    assert village.admit(village.keyring(7)) == TAKEN
    return village.admit(village.keyring(6 if hostile else 8))


@attack("81b", "another keyring of the same version", SipCode.KEYRING_ROLLBACK, twin=SILENT)
def _same_version(village: Village, hostile: bool) -> str:
    return village.admit(village.keyring(1, days=91 if hostile else 90))


@attack("81c", "an older keyring after a reboot", SipCode.KEYRING_ROLLBACK, twin=TAKEN)
def _rollback_rebooted(village: Village, hostile: bool) -> str:
    assert village.admit(village.keyring(7)) == TAKEN
    village.pole.reboot()
    return village.admit(village.keyring(6 if hostile else 8))


# Edwards25519: the eight points whose order divides 8, as they may be spelled (RFC 8032 §5.1.2).
SMALL_ORDER: Final = {
    "order 1": "0100000000000000000000000000000000000000000000000000000000000000",
    "order 2": "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "order 4": "0000000000000000000000000000000000000000000000000000000000000000",
    "order 4, negative": "0000000000000000000000000000000000000000000000000000000000000080",
    "order 8, a": "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "order 8, a negative": "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "order 8, b": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "order 8, b negative": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
}
NOT_CANONICAL: Final = {
    "order 1, x negative": "0100000000000000000000000000000000000000000000000000000000000080",
    "order 2, x negative": "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "y = p": "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "y = p + 1": "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "y = 2^255 - 1": "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
}


def _weak(row: str, points: Mapping[str, str]) -> None:
    for name, text in points.items():
        raw = bytes.fromhex(text)
        jwk = {"crv": "Ed25519", "kty": "OKP", "x": encode_base64url(raw)}
        digest = hashlib.sha256(json.dumps(jwk, separators=(",", ":")).encode()).digest()

        def change(
            members: dict[str, Any], *, raw: bytes = raw, digest: bytes = digest
        ) -> dict[str, Any]:
            named = having("participants/0/kid", encode_base64url(digest))(members)
            return having("participants/0/key", encode_base64url(raw))(named)

        in_keyring(f"{row} {name}", "a key that signs anything", SipCode.WEAK_KEY, change)


_weak("82", SMALL_ORDER)
_weak("83", NOT_CANONICAL)
in_keyring(
    84, "a kid that is not its key's thumbprint", SipCode.BAD_FIELD,
    having("participants/0/kid", ANNA.kid),
)  # fmt: skip


@attack(85, "one key for two identities", SipCode.BAD_FIELD, twin=TAKEN)
def _one_key(village: Village, hostile: bool) -> str:
    other = ("hes-3", Role.HES, HES if hostile else STRANGER, frozenset[Action]())
    return village.admit(village.keyring(2, identities={**IDENTITIES, "hes-3": other}))


@attack("85b", "two keys for one identity", SipCode.BAD_FIELD, twin=TAKEN)
def _one_name(village: Village, hostile: bool) -> str:
    other = ("hes-1" if hostile else "hes-3", Role.HES, STRANGER, frozenset[Action]())
    return village.admit(village.keyring(2, identities={**IDENTITIES, "hes-3": other}))


@attack("85c", "a root's key as a head-end's", SipCode.BAD_FIELD, twin=TAKEN)
def _root_as_hes(village: Village, hostile: bool) -> str:
    other = ("hes-3", Role.HES, ROOT_C if hostile else STRANGER, frozenset(Action))
    return village.admit(village.keyring(2, identities={**IDENTITIES, "hes-3": other}))


in_keyring(
    86, "a keyring's id of nine digits", SipCode.BAD_FIELD, having("sessionId", "keyring-000000002")
)
in_keyring("86b", "not digits", SipCode.BAD_FIELD, having("sessionId", "keyring-000000000x"))


@attack(87, "a disconnect under a keyring that has ended", SipCode.KEYRING_EXPIRED)
def _keyring_ended(village: Village, hostile: bool) -> str:
    return _after_the_keyring(village, 86_401 if hostile else 86_399, Action.DISCONNECT)


@attack(88, "(must work) a reconnect under a keyring that has ended", MOVED)
def _reconnect_late(village: Village, hostile: bool) -> str:
    return _after_the_keyring(village, 86_401 if hostile else 86_399, Action.RECONNECT)


@attack(
    "88b", "a settlement under a keyring that has ended", SipCode.KEYRING_EXPIRED, twin=PERMITTED
)
def _settle_late(village: Village, hostile: bool) -> str:
    return _after_the_keyring(village, 86_401 if hostile else 86_399, Action.SETTLE)


def _after_the_keyring(village: Village, passed_s: float, action: Action) -> str:
    assert village.admit(village.keyring(2, days=1)) == TAKEN
    assert village.offer(village.session("sip-2", hours=48)) == TAKEN
    village.pole.pass_time(passed_s)
    village.pole.tick()
    args = TRADE if action is Action.SETTLE else None
    members = village.command(action, session_id="sip-2", args=args)
    return village.send(members, *((HES, COOP) if action is Action.SETTLE else (HES,)))


# --- 89 to 104: types and shapes ---------------------------------------------------------------------

in_session(89, "a seventh member", SipCode.BAD_FIELD, having("state", "active"))
in_command(90, "a member too many", SipCode.BAD_FIELD, having("priority", 1))
in_command(91, "seq true", SipCode.BAD_FIELD, having("command/seq", True))
in_command("91b", "seq 0", SipCode.BAD_FIELD, having("command/seq", 0))
in_command("91c", "seq 1.5", SipCode.BAD_FIELD, having("command/seq", 1.5))
in_command("91d", "seq a string", SipCode.BAD_FIELD, having("command/seq", "1"))
in_command(
    92, "a time with an offset", SipCode.BAD_FIELD, having("ts", "2026-06-22T14:30:05+00:00")
)
in_command("92b", "a fraction", SipCode.BAD_FIELD, having("ts", "2026-06-22T14:30:05.0Z"))
in_command("92c", "a line feed", SipCode.BAD_FIELD, having("ts", "2026-06-22T14:30:05Z\n"))
in_command("92d", "a time as a number", SipCode.BAD_FIELD, having("command/notAfter", 1782138605))
in_command(93, "month 13", SipCode.BAD_FIELD, having("command/notAfter", "2026-13-22T14:30:05Z"))
in_command(
    "93b", "second 60", SipCode.BAD_FIELD, having("command/notAfter", "2026-06-22T14:30:60Z")
)
in_command("93c", "foreign digits", SipCode.BAD_FIELD, having("ts", "2026-06-22T14:30:0٥Z"))
in_command(94, "schemaVersion 0.2", SipCode.BAD_FIELD, having("schemaVersion", "0.2"))
in_command("94b", "no schemaVersion", SipCode.BAD_FIELD, lacking("schemaVersion"))
in_command(95, "no nonce", SipCode.BAD_FIELD, lacking("command/nonce"))
in_command("95b", "a nonce that is a list", SipCode.BAD_FIELD, having("command/nonce", ["A"]))
in_command("95c", "a nonce without end", SipCode.BAD_FIELD, having("command/nonce", "A" * 23))
in_command("95d", "an empty nonce", SipCode.BAD_FIELD, having("command/nonce", ""))
in_command(96, "an unknown member of command", SipCode.BAD_FIELD, having("command/force", True))
in_command(97, "args a list", SipCode.BAD_FIELD, having("command/args", []))
in_command("97b", "args nobody asked for", SipCode.BAD_FIELD, having("command/args", {"a": 1}))
in_command("97c", "command a string", SipCode.BAD_FIELD, having("command", "relay.disconnect"))
in_command(98, "registers an object", SipCode.BAD_FIELD, having("registers", {}))
in_command("98b", "no registers", SipCode.BAD_FIELD, having("registers", []))
in_command(
    "98c", "33 registers", SipCode.BAD_FIELD, lambda m: {**m, "registers": m["registers"] * 33}
)
in_command("98d", "a register that is a list", SipCode.BAD_FIELD, having("registers/0", []))
in_command("98e", "a register's value null", SipCode.BAD_FIELD, having("registers/0/value", None))
in_command("98f", "a unit that is an object", SipCode.BAD_FIELD, having("registers/0/unit", {}))
in_command(
    "98g", "a quality nobody knows", SipCode.BAD_FIELD, having("registers/0/quality", "best")
)
in_command(
    "98h", "a quality that is a list", SipCode.BAD_FIELD, having("registers/0/quality", ["good"])
)
in_command("98i", "an obis without end", SipCode.BAD_FIELD, having("registers/0/obis", "1" * 33))
in_command("98j", "a member more in a register", SipCode.BAD_FIELD, having("registers/0/ts", "x"))
in_command("98k", "no session", SipCode.BAD_FIELD, lacking("sessionId"))
in_command("98l", "a session's id with a slash", SipCode.BAD_FIELD, having("sessionId", "sip/1"))
in_command(
    "98m", "a session's id that is a list", SipCode.BAD_FIELD, having("sessionId", ["sip-1"])
)
in_command("98n", "a feeder that is a list", SipCode.BAD_FIELD, having("feederId", [FEEDER]))
in_command(
    "98o", "a range's end that is no time", SipCode.BAD_FIELD, having("command/args/to", "tomorrow"),
    Action.RESEND,
)  # fmt: skip
in_command(
    "98p", "a range that ends before it begins", SipCode.BAD_FIELD,
    having("command/args/to", "2026-06-19T00:00:00Z"), Action.RESEND,
)  # fmt: skip
in_command("98q", "an argument less", SipCode.BAD_FIELD, lacking("command/args/to"), Action.RESEND)


@attack("98r", "a trade of a fraction", SipCode.BAD_FIELD, twin=PERMITTED)
def _fraction(village: Village, hostile: bool) -> str:
    trade = {**TRADE, "energyWh": 1200.5 if hostile else 1200}
    return village.send(village.command(Action.SETTLE, args=trade), HES, COOP)


@attack("98s", "a trade without a name", SipCode.BAD_FIELD, twin=PERMITTED)
def _nameless(village: Village, hostile: bool) -> str:
    trade = {**TRADE, "tradeId": ["trade-1"] if hostile else "trade-1"}
    return village.send(village.command(Action.SETTLE, args=trade), HES, COOP)


@attack("98t", "a token without end", SipCode.BAD_FIELD, twin=PERMITTED)
def _endless_token(village: Village, hostile: bool) -> str:
    token = "1" * (257 if hostile else 256)
    return village.send(village.command(Action.CREDIT_TOKEN, args={"token": token}))


in_session(
    99, "a feeder's id with a wildcard", SipCode.BAD_FIELD, having("feederScope/feederId", "+")
)
in_session("99b", "a meter's", SipCode.BAD_FIELD, having("feederScope/meters", ["*", METER]))
in_session("99c", "a gateway's", SipCode.BAD_FIELD, having("feederScope/gatewayId", "*"))
in_session("99d", "no meters", SipCode.BAD_FIELD, having("feederScope/meters", []))
in_session("99e", "a meter twice", SipCode.BAD_FIELD, having("feederScope/meters", [METER, METER]))
in_session(100, "no participants", SipCode.BAD_FIELD, having("participants", []))
in_session("100b", "participants an object", SipCode.BAD_FIELD, having("participants", {}))
in_session(
    "100c",
    "33 participants",
    SipCode.BAD_FIELD,
    lambda m: {**m, "participants": m["participants"] * 9},
)
in_session(101, "an unknown role", SipCode.BAD_FIELD, having("participants/0/role", "king"))
in_session(
    "101b", "a role that is a list", SipCode.BAD_FIELD, having("participants/0/role", ["hes"])
)
in_session(
    102, "a participant twice", SipCode.BAD_FIELD,
    lambda m: {**m, "participants": [*m["participants"], m["participants"][0]]},
)  # fmt: skip
in_session(
    "102b", "one key under two names", SipCode.BAD_FIELD,
    lambda m: {**m, "participants": [*m["participants"], {**m["participants"][0], "id": "x"}]},
)  # fmt: skip
in_session(
    "102c", "a kid that is a list", SipCode.BAD_FIELD, having("participants/0/kid", [HES.kid])
)
in_session(
    103, "an unknown right", SipCode.BAD_FIELD, having("participants/0/can", ["relay.toggle"])
)
in_session(
    "103b", "a right twice", SipCode.BAD_FIELD, having("participants/0/can", ["relay.arm"] * 2)
)
in_session("103c", "a right that is a list", SipCode.BAD_FIELD, having("participants/0/can", [[]]))
in_session(
    104, "validTo before validFrom", SipCode.BAD_FIELD, having("validTo", "2026-06-22T14:00:00Z")
)


@attack("104b", "a session of more than eight days", SipCode.BAD_FIELD, twin=TAKEN)
def _long_session(village: Village, hostile: bool) -> str:
    members = village.session("sip-2", hours=8 * 24 - 1 / 12)
    if hostile:
        members = village.session("sip-2", hours=8 * 24)
    return village.offer(members)


in_session("104c", "limits nobody knows", SipCode.BAD_FIELD, having("feederScope/limits", {"x": 1}))
in_session(
    "104d", "a limit true", SipCode.BAD_FIELD, having("feederScope/limits", {"nonceLife": True})
)
in_session(
    "104e",
    "a nonce of a second",
    SipCode.BAD_FIELD,
    having("feederScope/limits", {"nonceLife": 59}),
)
in_session(
    "104f", "a nonce of a day", SipCode.BAD_FIELD, having("feederScope/limits", {"nonceLife": 3601})
)
in_session("104g", "no scope", SipCode.BAD_FIELD, having("feederScope", "all"))
in_keyring(
    "104h", "no limit named", SipCode.BAD_FIELD, lacking("feederScope/limits/disconnectsPerHour")
)
in_keyring("104i", "no limits", SipCode.BAD_FIELD, lacking("feederScope/limits"))
in_keyring(
    "104j", "validTo before validFrom", SipCode.BAD_FIELD, having("validTo", "2026-06-01T00:00:00Z")
)
in_keyring("104k", "a key that is a number", SipCode.BAD_FIELD, having("participants/0/key", 1))
in_keyring("104l", "a key of 31 bytes", SipCode.BAD_FIELD, having("participants/0/key", "A" * 42))
in_keyring("104m", "81 identities", SipCode.BAD_FIELD, lambda m: {**m, "participants": [{}] * 81})
in_keyring(
    "104n",
    "roots' threshold without roots",
    SipCode.BAD_FIELD,
    having("feederScope/rootThreshold", 1),
)
in_keyring(
    "104o",
    "hours of a day of 25",
    SipCode.BAD_FIELD,
    having("feederScope/protectedHours", [{"from": "18:00", "to": "25:00"}]),
)
in_keyring(
    "104p",
    "hours without colon",
    SipCode.BAD_FIELD,
    having("feederScope/protectedHours", [{"from": "1800", "to": "06:00"}]),
)
in_keyring(
    "104q",
    "hours without length",
    SipCode.BAD_FIELD,
    having("feederScope/protectedHours", [{"from": "18:00", "to": "18:00"}]),
)
in_keyring(
    "104r",
    "a key in another spelling",
    SipCode.BAD_ENCODING,
    having("participants/0/key", encode_base64url(HES.public.raw) + "="),
)


# --- 105 and 106 -------------------------------------------------------------------------------------


@attack(105, "the power goes between intent and relay; the command comes again", REPEATED)
def _crash(village: Village, hostile: bool) -> str:
    payload = village.order(village.command())
    if hostile:
        village.pole.dies_moving = True
        assert village.deliver(payload) == "died"
        outcome = village.deliver(payload)
        assert village.pole.movements == []
        return outcome
    return village.deliver(payload)


@attack(106, "an echo of the gateway's own accept", SILENT, twin=TAKEN)
def _echo(village: Village, hostile: bool) -> str:
    members = village.session("sip-2")
    if not hostile:
        return village.offer(members)
    assert village.offer(members) == TAKEN
    published, nonce = village.pole.published, village.pole.nonces["sip-2"]
    header = {"alg": "Ed25519", "iat": seconds(village.now), "kid": POLE.kid, "typ": "sip-accept"}
    own = act_with({**header, "nonce": nonce}, members, POLE)
    offered = village.signed(members, ActType.OFFER, HES)
    echo = {**offered, SIGNATURE: f"{offered[SIGNATURE]} {own}"}
    outcome = village.pole.take_session(session_topic("sip-2"), printed(echo))
    assert village.pole.published == published
    return outcome


# --- 107 on: tickets, interlocks, roots --------------------------------------------------------------


@attack(107, "a ticket twice: told again, not moved again", REPEATED)
def _ticket_twice(village: Village, hostile: bool) -> str:
    payload = village.order(village.ticket(), ANNA)
    return _twice_but_moved_once(village, payload, village.pole.reboot, hostile)


@attack("107b", "another ticket of the same number", SipCode.TICKET_USED)
def _ticket_number(village: Village, hostile: bool) -> str:
    assert village.send(village.ticket(ticket="t-1"), ANNA) == MOVED
    village.pole.pass_time(60)
    return village.send(village.ticket(ticket="t-1" if hostile else "t-2"), ANNA)


@attack(108, "a ticket to cut off", SipCode.NOT_ALLOWED)
def _unsafe_ticket(village: Village, hostile: bool) -> str:
    return village.send(village.ticket(Action.DISCONNECT if hostile else Action.RECONNECT), ANNA)


@attack("108b", "a ticket by the head-end", SipCode.NOT_ALLOWED)
def _hes_ticket(village: Village, hostile: bool) -> str:
    return village.send(village.ticket(), HES if hostile else ANNA)


@attack("108c", "a ticket for a right the operator has not", SipCode.NOT_ALLOWED)
def _ticket_right(village: Village, hostile: bool) -> str:
    name, role, signer, _ = IDENTITIES["anna"]
    rights = frozenset({Action.ARM} if hostile else {Action.RECONNECT})
    identities = {**IDENTITIES, "anna": (name, role, signer, rights)}
    assert village.admit(village.keyring(2, identities=identities)) == TAKEN
    return village.send(village.ticket(), ANNA)


@attack("108d", "a ticket of 31 days", SipCode.BAD_FIELD)
def _long_ticket(village: Village, hostile: bool) -> str:
    return village.send(village.ticket(days=31 if hostile else 30), ANNA)


@attack("108e", "a ticket after its end", SipCode.EXPIRED)
def _old_ticket(village: Village, hostile: bool) -> str:
    payload = village.order(village.ticket(days=1), ANNA)
    village.pole.pass_time(86_401 if hostile else 86_400)
    return village.deliver(payload)


@attack(
    "108f", "a ticket retired by the roots' next keyring, where there is no clock", SipCode.EXPIRED
)
def _retired_ticket(village: Village, hostile: bool) -> str:
    village.clocks.synchronised = False
    payload = village.order(village.ticket(days=1), ANNA)
    village.pole.pass_time(86_401)
    if hostile:
        assert village.admit(village.keyring(2)) == TAKEN
    return village.deliver(payload)


@attack("108g", "a ticket signed ahead", SipCode.NOT_YET_VALID)
def _future_ticket(village: Village, hostile: bool) -> str:
    members = village.ticket(days=2)
    ahead = timedelta(seconds=61 if hostile else 60)
    return village.send(members, ANNA, iat=village.now + ahead)


@attack("108h", "a ticket in a session", SipCode.BAD_FIELD)
def _ticket_in_session(village: Village, hostile: bool) -> str:
    members = village.ticket()
    return village.send({**members, "sessionId": "sip-1"} if hostile else members, ANNA)


@attack("108i", "a ticket with a seq", SipCode.BAD_FIELD)
def _ticket_with_seq(village: Village, hostile: bool) -> str:
    members = village.ticket()
    return village.send(having("command/seq", 1)(members) if hostile else members, ANNA)


@attack("108j", "a ticket for another gateway's meter", SipCode.OUT_OF_SCOPE)
def _ticket_elsewhere(village: Village, hostile: bool) -> str:
    serial = "DS1000-99999" if hostile else METER
    members = {**village.ticket(), "meterSerial": serial}
    return village.deliver(village.order(members, ANNA), serial)


@attack("108k", "a ticket whose registers say another thing", SipCode.ACTION_MISMATCH)
def _ticket_mismatch(village: Village, hostile: bool) -> str:
    members = village.ticket()
    return village.send(
        having("registers/0/value", "disconnected")(members) if hostile else members, ANNA
    )


@attack(109, "a disconnect within five minutes of a reconnection", SipCode.DWELL)
def _dwell(village: Village, hostile: bool) -> str:
    assert village.send(village.command(Action.RECONNECT)) == MOVED
    village.pole.pass_time(299 if hostile else 300)
    return village.send(village.command(Action.DISCONNECT))


@attack("109b", "a reconnect within a minute of a disconnect", SipCode.DWELL)
def _short_dwell(village: Village, hostile: bool) -> str:
    assert village.send(village.command(Action.DISCONNECT)) == MOVED
    village.pole.pass_time(59 if hostile else 60)
    return village.send(village.command(Action.RECONNECT))


@attack("109c", "the dwell, after a reboot and a clock that jumped", SipCode.DWELL)
def _dwell_rebooted(village: Village, hostile: bool) -> str:
    assert village.send(village.command(Action.RECONNECT)) == MOVED
    village.pole.reboot()
    village.clocks.off = timedelta(hours=1)
    village.pole.pass_time(200 if hostile else 300)
    return village.send(village.command(Action.DISCONNECT))


@attack(110, "a reconnect while somebody works on the line", SipCode.LOCKOUT)
def _locked(village: Village, hostile: bool) -> str:
    village.pole.locked_out = hostile
    return village.send(village.command(Action.RECONNECT))


@attack("110b", "a ticket while somebody works on the line", SipCode.LOCKOUT)
def _locked_ticket(village: Village, hostile: bool) -> str:
    village.pole.locked_out = hostile
    return village.send(village.ticket(), ANNA)


@attack(
    "110c",
    "a request for readings while somebody works on the line",
    SipCode.LOCKOUT,
    twin=PERMITTED,
)
def _locked_resend(village: Village, hostile: bool) -> str:
    village.pole.locked_out = hostile
    args = {"from": "2026-06-20T00:00:00Z", "to": "2026-06-21T00:00:00Z"}
    return village.send(village.command(Action.RESEND, args=args))


HOURS: Final = [{"from": "14:00", "to": "14:31"}, {"from": "22:00", "to": "05:00"}]


@attack(111, "a disconnect in protected hours", SipCode.PROTECTED_HOURS)
def _hours(village: Village, hostile: bool) -> str:
    assert village.admit(village.keyring(2, protectedHours=HOURS)) == TAKEN
    village.pole.pass_time(54 if hostile else 55)
    return village.send(village.command())


@attack("111b", "past midnight", SipCode.PROTECTED_HOURS)
def _night(village: Village, hostile: bool) -> str:
    assert village.admit(village.keyring(2, protectedHours=HOURS)) == TAKEN
    village.pole.pass_time(11 * 3600 if hostile else 15 * 3600)
    village.pole.tick()
    return village.send(village.command())


@attack("111c", "a disconnect at an hour nobody knows", SipCode.PROTECTED_HOURS)
def _no_clock(village: Village, hostile: bool) -> str:
    assert village.admit(village.keyring(2, protectedHours=HOURS)) == TAKEN
    village.pole.pass_time(120)
    village.clocks.synchronised = not hostile
    return village.send(village.command())


@attack("111d", "(must work) a reconnect in protected hours", MOVED)
def _reconnect_at_night(village: Village, hostile: bool) -> str:
    hours = HOURS if hostile else []
    assert village.admit(village.keyring(2, protectedHours=hours)) == TAKEN
    return village.send(village.command(Action.RECONNECT))


@attack("111e", "(must work) a reconnect when the hour's budget is used up", MOVED)
def _reconnect_unbudgeted(village: Village, hostile: bool) -> str:
    _cut_off(village, 2 if hostile else 1)
    village.pole.pass_time(60)
    return village.deliver(
        village.order(village.command(Action.RECONNECT, serial="HOUSE-0")), "HOUSE-0"
    )


on_the_way(112, "1e400", SipCode.BAD_JSON, replaced(b'"disconnected"', b"1e400"))

NEW_ROOTS: Final = {
    "root-1": ("root-1", Role.ROOT, STRANGER, frozenset[Action]()),
    "root-2": ("root-2", Role.ROOT, OTHER_POLE, frozenset[Action]()),
}


@attack(113, "new roots, one of which did not sign", SipCode.QUORUM, twin=TAKEN)
def _silent_root(village: Village, hostile: bool) -> str:
    keyring = village.keyring(2, identities={**IDENTITIES, **NEW_ROOTS})
    signers = (ROOT_A, ROOT_B, STRANGER, *(() if hostile else (OTHER_POLE,)))
    return village.admit(keyring, *signers)


@attack("113b", "new roots that the old ones did not sign", SipCode.QUORUM, twin=TAKEN)
def _usurpers(village: Village, hostile: bool) -> str:
    keyring = village.keyring(2, identities={**IDENTITIES, **NEW_ROOTS})
    signers = (STRANGER, OTHER_POLE, ROOT_A, *(() if hostile else (ROOT_B,)))
    return village.admit(keyring, *signers)


@attack("113c", "old roots, after the rotation", SipCode.UNKNOWN_KEY, twin=TAKEN)
def _old_roots(village: Village, hostile: bool) -> str:
    rotated = village.keyring(2, identities={**IDENTITIES, **NEW_ROOTS})
    assert village.admit(rotated, ROOT_A, ROOT_B, STRANGER, OTHER_POLE) == TAKEN
    signers = (ROOT_A, ROOT_B) if hostile else (STRANGER, OTHER_POLE)
    return village.admit(village.keyring(3), *signers)


@attack("113d", "one new root, where the rotation asks for two", SipCode.QUORUM, twin=TAKEN)
def _new_threshold(village: Village, hostile: bool) -> str:
    keyring = village.keyring(
        2, identities={**IDENTITIES, **NEW_ROOTS}, rootThreshold=2 if hostile else 1
    )
    assert village.admit(keyring, ROOT_A, ROOT_B, STRANGER, OTHER_POLE) == TAKEN
    return village.admit(village.keyring(3), STRANGER)


@attack("113f", "fewer new roots than have to sign", SipCode.BAD_FIELD, twin=TAKEN)
def _too_few(village: Village, hostile: bool) -> str:
    named = dict(list(NEW_ROOTS.items())[: 1 if hostile else 2])
    signers = (STRANGER, *(() if hostile else (OTHER_POLE,)))
    keyring = village.keyring(2, identities={**IDENTITIES, **named})
    return village.admit(keyring, ROOT_A, ROOT_B, *signers)


@attack("113e", "more roots asked for than there are", SipCode.BAD_FIELD, twin=TAKEN)
def _impossible(village: Village, hostile: bool) -> str:
    keyring = village.keyring(
        2, identities={**IDENTITIES, **NEW_ROOTS}, rootThreshold=3 if hostile else 2
    )
    return village.admit(keyring, ROOT_A, ROOT_B, STRANGER, OTHER_POLE)
