"""What a head-end must not believe: reports and accepts that are forged, replayed, or another's.

Row by row as in ``attacks``: hostile, then honest, with nothing else different.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from tests.headend.new_store import new_store
from tests.sip.attacks import having, lacking
from tests.sip.village import (
    ANNA,
    FEEDER,
    GATEWAY,
    HES,
    IDENTITIES,
    METER,
    OTHER,
    OTHER_POLE,
    PINS,
    POLE,
    ROOT_A,
    ROOT_B,
    START,
    STRANGER,
    Change,
    Identity,
    Village,
    printed,
    seconds,
)

from openami.headend.ingest import Message, ingest
from openami.headend.sessions import LedgerSession, heard
from openami.headend.store.open import open_store
from openami.profile import EventTopic, FeederId, GatewayId, MeterSerial, shipped_catalogue
from openami.sip.actions import Role
from openami.sip.acts import ActType, verified_acts
from openami.sip.canonical import read_document
from openami.sip.compose import document_of, sign
from openami.sip.errors import SipCode, SipError
from openami.sip.keyring import Keyring, admit_keyring
from openami.sip.keys import KeySigner
from openami.sip.reports import CODE_OK, Report, ReportStatus, read_report, report_members
from openami.sip.session import SessionState

DIGEST: Final = "_oT1gJYEJkTgIcgqS96uD1xQ1324g_0uACFyWPrKOp4"
TOPIC: Final = EventTopic(FEEDER, GATEWAY, METER)
BOTH_POLES: Final[dict[str, Identity]] = {
    **IDENTITIES,
    "pole-2": ("pole-2", Role.GATEWAY, OTHER_POLE, frozenset()),
}


def keyring(feeder: str = FEEDER) -> Keyring:
    members = Village(ready=False).keyring(identities=BOTH_POLES, gatewayId="*", feederId=feeder)
    for root in (ROOT_A, ROOT_B):
        members = sign(members, root, ActType.KEYRING, iat=seconds(START))
    return admit_keyring(
        document_of(members), roots=PINS, in_force=0, feeder_id=feeder, gateway_id=GATEWAY
    )


def report(state: str = "connected", ts: datetime = START) -> dict[str, Any]:
    return report_members(
        TOPIC,
        session_id="sip-1",
        seq=1,
        ticket=None,
        command_digest=DIGEST,
        status=ReportStatus.DONE,
        code=CODE_OK,
        nonce="AAECAwQFBgcICQoLDA0ODw",
        registers=[{"obis": "96.11.1", "value": state, "unit": "enum", "quality": "good"}],
        ts=ts,
    )


def read(
    members: dict[str, Any],
    *signers: KeySigner,
    type_: ActType = ActType.REPORT,
    topic: EventTopic = TOPIC,
    ring: Keyring | None = None,
) -> Report:
    for signer in signers:
        members = sign(members, signer, type_, iat=seconds(START))
    return read_report(read_document(printed(members)), topic, ring or keyring())


def test_an_honest_report_is_read() -> None:
    found = read({**report(), "seq": 17, "event": {"eventId": "x"}}, POLE)
    assert (found.session_id, found.seq, found.ticket) == ("sip-1", 1, None)
    assert (found.command_digest, found.status, found.code) == (DIGEST, ReportStatus.DONE, "OK")
    assert found.registers[0]["value"] == "connected"
    assert found.nonce == "AAECAwQFBgcICQoLDA0ODw"


@pytest.mark.parametrize(
    ("told", "microseconds"),
    [(".7Z", 700_000), (".250Z", 250_000), (".123456Z", 123_456), ("Z", 0)],
)
def test_a_report_says_when_it_measured_to_the_millisecond_or_to_the_second(
    told: str, microseconds: int
) -> None:
    found = read({**report(), "ts": f"2026-06-22T14:30:05{told}"}, POLE)
    assert found.ts == datetime(2026, 6, 22, 14, 30, 5, microseconds, tzinfo=UTC)


async def test_two_states_of_a_relay_within_a_second_are_two_readings(tmp_path: Path) -> None:
    async with open_store(new_store(tmp_path / "headend.db")) as store:
        for state, millisecond in (("disconnected", 100), ("connected", 900)):
            at = START.replace(microsecond=1000 * millisecond)
            payload = printed(report(state, at))
            message = Message(str(TOPIC), payload, at + timedelta(seconds=1))
            await store.commit([ingest(message, catalogue=shipped_catalogue())])
        assert await store.conflicts(TOPIC.feeder_id, TOPIC.meter_serial) == []
        [latest] = await store.latest(TOPIC.feeder_id, TOPIC.meter_serial)
        assert (latest.value, latest.ts) == ("connected", START.replace(microsecond=900_000))


def test_a_tickets_report_is_read() -> None:
    members = report()
    del members["sessionId"], members["report"]["seq"], members["report"]["nonce"]
    members["report"]["ticket"] = "t-1"
    found = read(members, POLE)
    assert (found.session_id, found.seq, found.ticket, found.nonce) == (None, None, "t-1", None)


@dataclass(frozen=True)
class Forgery:
    what: str
    code: SipCode
    attempt: Callable[[], object]


MEMBERS: Final = [
    ("a member too many", having("state", "x")),
    ("no registers", lacking("registers")),
    ("registers of nothing", having("registers", [])),
    ("registers that are an object", having("registers", {})),
    ("a register's quality a list", having("registers/0/quality", [])),
    ("schemaVersion 0.2", having("schemaVersion", "0.2")),
    ("a time without zone", having("ts", "2026-06-22T14:30:05")),
    ("a time of seven decimals", having("ts", "2026-06-22T14:30:05.1234567Z")),
    ("a time of no decimals", having("ts", "2026-06-22T14:30:05.Z")),
    ("a time of no day", having("ts", "2026-06-31T14:30:05.250Z")),
    ("a session's id that is a list", having("sessionId", ["sip-1"])),
    ("report a string", having("report", "done")),
    ("a member too many in report", having("report/why", "x")),
    ("an unknown status", having("report/status", "great")),
    ("a status that is a list", having("report/status", ["done"])),
    ("a status that is an object", having("report/status", {})),
    ("no code", lacking("report/code")),
    ("a code without end", having("report/code", "A" * 33)),
    ("a digest without end", having("report/command", "A" * 44)),
    ("a digest that is a list", having("report/command", [DIGEST])),
    ("seq true", having("report/seq", True)),
    ("seq 0", having("report/seq", 0)),
    ("a nonce without end", having("report/nonce", "A" * 23)),
    ("a nonce that is an object", having("report/nonce", {})),
    ("a ticket with a slash", having("report/ticket", "t/1")),
    ("seq null", having("report/seq", None)),
]


def _changed(change: Change) -> Callable[[], object]:
    return lambda: read(change(report()), POLE)


FORGERIES: Final = [
    Forgery("unsigned", SipCode.NO_SIGNATURE, lambda: read(report())),
    Forgery("by a stranger", SipCode.UNKNOWN_KEY, lambda: read(report(), STRANGER)),
    Forgery("by the head-end itself", SipCode.NOT_ALLOWED, lambda: read(report(), HES)),
    Forgery("by an operator", SipCode.NOT_ALLOWED, lambda: read(report(), ANNA)),
    Forgery("by another gateway", SipCode.NOT_ALLOWED, lambda: read(report(), OTHER_POLE)),
    Forgery("by both gateways", SipCode.NOT_ALLOWED, lambda: read(report(), POLE, OTHER_POLE)),
    Forgery(
        "under a command's act",
        SipCode.WRONG_TYPE,
        lambda: read(report(), POLE, type_=ActType.COMMAND),
    ),
    Forgery(
        "changed on the way",
        SipCode.BAD_SIGNATURE,
        lambda: read_report(
            read_document(
                printed(sign(report(), POLE, ActType.REPORT, iat=1)).replace(b'"done"', b'"failed"')
            ),
            TOPIC,
            keyring(),
        ),
    ),
    Forgery(
        "on another meter's topic",
        SipCode.TOPIC_MISMATCH,
        lambda: read(report(), POLE, topic=EventTopic(FEEDER, GATEWAY, OTHER)),
    ),
    Forgery(
        "on another gateway's topic",
        SipCode.TOPIC_MISMATCH,
        lambda: read(report(), POLE, topic=EventTopic(FEEDER, GatewayId("pole-2"), METER)),
    ),
    Forgery(
        "from another feeder that has a gateway of that name",
        SipCode.TOPIC_MISMATCH,
        lambda: read(report(), POLE, ring=keyring("feeder-2")),
    ),
    *(Forgery(what, SipCode.BAD_FIELD, _changed(change)) for what, change in MEMBERS),
]


@pytest.mark.parametrize("forgery", [pytest.param(f, id=f.what) for f in FORGERIES])
def test_a_forged_report_is_refused(forgery: Forgery) -> None:
    with pytest.raises(SipError) as caught:
        forgery.attempt()
    assert caught.value.code is forgery.code


# --- what the head-end hears of a session ------------------------------------------------------------


def session_of(state: SessionState = SessionState.ACTIVE) -> LedgerSession:
    return LedgerSession(
        id="sip-1",
        feeder_id=FEEDER,
        gateway_id=GATEWAY,
        requested_by="anna",
        reason="rota",
        requested_at=START,
        valid_from=START,
        valid_to=START + timedelta(days=1),
        state=state,
        nonce="x",
    )


def told(type_: ActType, signer: KeySigner, *, seen: tuple[str, ...] = (), **extra: Any) -> object:
    members = sign(Village(ready=False).session(), signer, type_, iat=seconds(START), **extra)
    acts = verified_acts(read_document(json.dumps(members).encode()), keyring().keys)
    return heard(session_of(), acts, keyring(), nonces_seen=seen, now=START)


NONCE: Final = bytes(range(16))
NONCE_TEXT: Final = "AAECAwQFBgcICQoLDA0ODw"


def test_an_accept_is_believed_once() -> None:
    change = told(ActType.ACCEPT, POLE, nonce=NONCE)
    assert change is not None
    assert told(ActType.ACCEPT, POLE, nonce=NONCE, seen=(NONCE_TEXT,)) is None


def test_an_accept_by_anybody_else_is_not_believed() -> None:
    for signer in (HES, ANNA, OTHER_POLE):
        assert told(ActType.ACCEPT, signer, nonce=NONCE) is None


def test_a_gateway_does_not_close_a_session() -> None:
    assert told(ActType.CLOSE, POLE, reason="CLOSED") is None
    assert told(ActType.CLOSE, ANNA, reason="CLOSED") is not None


def test_a_report_is_bound_to_its_topic_by_type() -> None:
    """Ids are names, not patterns: what is no id is not even a topic."""
    with pytest.raises(ValueError, match="BAD_ID"):
        EventTopic(FeederId("+"), GATEWAY, MeterSerial("#"))
