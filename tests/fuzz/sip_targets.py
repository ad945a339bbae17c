"""Signed documents: nothing is believed that was not signed, by whom the keyring lists.

Each honest document here is signed once, and its digest kept. Whatever the fuzzer makes of them, a gateway or
head-end may believe a document only if its digest is one of those: nobody else holds a key.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from tests.fuzz.target import Target
from tests.sip.test_reports import TOPIC, keyring, report
from tests.sip.village import (
    FEEDER,
    GATEWAY,
    HES,
    POLE,
    ROOT_A,
    ROOT_B,
    START,
    Village,
    printed,
    seconds,
    session_topic,
    topic_of,
    unsigned,
)

from openami.gateway.handshake import Self, StoreEnd, StoreKeyring, StoreSession, receive
from openami.gateway.tickets import _topic_of as topic_of_ticket
from openami.profile import ProfileError
from openami.sip.actions import Action
from openami.sip.acts import ActType, read_acts
from openami.sip.authorise import Permit, Refusal, Repeat, authorise, read_claim
from openami.sip.canonical import DOCUMENT_BYTES_MAX, SIGNATURE, Document, read_document
from openami.sip.command import check_agreement
from openami.sip.compose import document_of, sign
from openami.sip.errors import SipError
from openami.sip.reports import read_report


@dataclass(frozen=True)
class Honest:
    """A village with a keyring and a session in force, and the documents its parties have signed."""

    village: Village
    sessions: Sequence[bytes]
    commands: Sequence[bytes]
    tickets: Sequence[bytes]
    reports: Sequence[bytes]
    digests: frozenset[str]


@cache
def honest() -> Honest:
    village = Village()
    keyring_2, again = village.keyring(2), village.session("sip-2")
    session = village.session("sip-1")
    sessions = [
        printed(village.signed(keyring_2, ActType.KEYRING, ROOT_A, ROOT_B)),
        printed(village.signed(again, ActType.OFFER, HES)),
        printed(village.signed(session, ActType.CLOSE, HES, reason="CLOSED")),
    ]
    commands = [
        village.order(village.command(action)) for action in (Action.DISCONNECT, Action.RECONNECT)
    ]
    tickets = [village.order(village.ticket())]
    reports = [printed(village.signed(report(), ActType.REPORT, POLE))]
    all_of_them = [*sessions, *commands, *tickets, *reports]
    return Honest(
        village, sessions, commands, tickets, reports,
        frozenset(read_document(payload).digest for payload in all_of_them),
    )  # fmt: skip


def _read(data: bytes) -> Document | None:
    try:
        return read_document(data)
    except SipError as error:
        assert _is_one_line(error.detail)
        return None


def _is_one_line(detail: str) -> bool:
    """Whether a text may stand in a log: one line, and nothing that moves a terminal's cursor."""
    return detail.isprintable()


def document(data: bytes) -> None:
    """SipError, or a document whose canonical bytes are read as the same document; acts or SipError."""
    read = _read(data)
    if read is None:
        return
    if len(read.canonical) <= DOCUMENT_BYTES_MAX:
        again = read_document(read.canonical)
        assert (again.canonical, again.digest) == (read.canonical, read.digest)
    try:
        acts = read_acts(read)
    except SipError as error:
        assert _is_one_line(error.detail)
        return
    assert " ".join(act.text for act in acts) == read.members[SIGNATURE]


def session(data: bytes) -> None:
    """A gateway stores a keyring, a session or an end only as it was signed."""
    pole = honest().village.pole
    for session_id in ("keyring-0000000002", "sip-1", "sip-2"):
        step = receive(
            pole.memory,
            session_topic(session_id),
            data,
            retain=False,
            me=Self(FEEDER, GATEWAY, POLE.kid),
            time=pole.facts(),
            fresh_nonce="AAAAAAAAAAAAAAAAAAAAAA",
        )
        if any(isinstance(e, StoreKeyring | StoreSession | StoreEnd) for e in step.effects):
            assert read_document(data).digest in honest().digests


def command(data: bytes) -> None:
    """Nobody gets past the signature but with a document that was signed; and then a verdict comes out."""
    if _judged(data) is not None:
        assert read_document(data).digest in honest().digests


def _judged(data: bytes, topic: Any = None) -> type | None:
    """Return which verdict an authentic command met; None for one that is not authentic."""
    pole = honest().village.pole
    claim = read_claim(
        topic or topic_of(),
        data,
        retain=False,
        feeder_id=FEEDER,
        gateway_id=GATEWAY,
        keyring=pole.memory.keyring,
    )
    if isinstance(claim, Refusal):
        assert claim.command is None, "a stranger is not answered"
        assert _is_one_line(claim.detail)
        return None
    verdict = authorise(claim, pole._facts_of(claim))
    assert isinstance(verdict, Refusal | Permit | Repeat)
    if isinstance(verdict, Refusal):
        assert _is_one_line(verdict.detail)
    else:
        check_agreement(verdict.command)
    return type(verdict)


def ticket(data: bytes) -> None:
    """What lies in the folder of tickets names a topic or nothing, and is believed only as it was signed."""
    try:
        topic = topic_of_ticket(data)
    except (SipError, ProfileError):
        return
    if _judged(data, topic) is not None:
        assert read_document(data).digest in honest().digests


def resigned(data: bytes) -> None:
    """A key holder gone mad: the document signed as it stands still meets SipError or a verdict, nothing else."""
    read = _read(data)
    if read is None:
        return
    members = unsigned(read.members)
    payload = printed(_signed(members, ActType.COMMAND, HES))
    if (again := _read(payload)) is not None:
        assert again.digest == read.digest
    _judged(payload)
    _judged(printed(_signed(members, ActType.OFFER, HES)))
    pole = honest().village.pole
    for signed in (
        _signed(_signed(members, ActType.KEYRING, ROOT_A), ActType.KEYRING, ROOT_B),
        _signed(members, ActType.OFFER, HES),
    ):
        for session_id in ("keyring-0000000002", "sip-2"):
            receive(
                pole.memory,
                session_topic(session_id),
                printed(signed),
                retain=False,
                me=Self(FEEDER, GATEWAY, POLE.kid),
                time=pole.facts(),
                fresh_nonce="AAAAAAAAAAAAAAAAAAAAAA",
            )
    _reported(printed(_signed(members, ActType.REPORT, POLE)))


def _signed(members: Mapping[str, Any], type_: ActType, signer: Any) -> dict[str, Any]:
    return sign(dict(members), signer, type_, iat=seconds(START))


@cache
def _keyring() -> Any:
    return keyring()


def _reported(data: bytes) -> bool:
    try:
        read_report(read_document(data), TOPIC, _keyring())
    except SipError as error:
        assert _is_one_line(error.detail)
        return False
    return True


def sip_report(data: bytes) -> None:
    """A head-end believes a report only as its gateway signed it."""
    if _reported(data):
        assert read_document(data).digest in honest().digests


def _all() -> Sequence[bytes]:
    found = honest()
    return [*found.sessions, *found.commands, *found.tickets, *found.reports]


def _unsigned() -> Sequence[bytes]:
    return [printed(unsigned(document_of(read_document(p).members).members)) for p in _all()]


TARGETS = (
    Target("sip_document", document, _all, 200),
    Target("sip_session", session, lambda: honest().sessions, 150),
    Target("sip_command", command, lambda: honest().commands, 150),
    Target("sip_ticket", ticket, lambda: honest().tickets, 150),
    Target("sip_report", sip_report, lambda: honest().reports, 150),
    Target("sip_resigned", resigned, _unsigned, 100),
)
