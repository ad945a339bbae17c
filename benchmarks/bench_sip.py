"""What signed documents cost on one core: verify a command, load a keyring of 80 identities; one JSON line a case.

A command is judged whole, from its bytes to the permit (all but the commit), as the gateway does it; its keyring
has 80 identities, its session is the largest usual one.

    python -m benchmarks.bench_sip [REPEATS]
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from openami.profile import CommandTopic, FeederId, GatewayId, MeterSerial
from openami.sip.actions import Action, Role
from openami.sip.acts import ActType
from openami.sip.authorise import Claim, GatewayFacts, HeldSession, Permit, authorise, read_claim
from openami.sip.canonical import encode_base64url, read_document
from openami.sip.compose import command_members, document_of, session_members, sign
from openami.sip.fields import print_moment
from openami.sip.freshness import Nonce, Nonces, TimeFacts
from openami.sip.interlocks import Budget, RelayFacts
from openami.sip.keyring import Keyring, Roots, admit_keyring
from openami.sip.keys import KeySigner
from openami.sip.session import SessionState
from openami.sip.session_document import Participant, read_session

REPEATS = 7
CALLS = 200
VERIFY_MS_MAX = 1.0
KEYRING_MS_MAX = 50.0

NOW = datetime(2026, 6, 22, 14, 30, tzinfo=UTC)
FEEDER, GATEWAY = FeederId("feeder-north-paravur-01"), GatewayId("pole-ems-0042")
METER = MeterSerial("DS1000-88421")
NONCE = encode_base64url(bytes(range(16)))


def key(number: int) -> KeySigner:
    """Return one of many keys, the same at every run."""
    return KeySigner(Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big")))


ROOTS = [key(number) for number in (1, 2, 3)]
PINS = Roots(2, {root.kid: root.public for root in ROOTS})
HES, OPERATOR, POLE = key(10), key(11), key(12)


def seconds(moment: datetime) -> int:
    """Return a time as acts have it."""
    return int(moment.timestamp())


def keyring_payload(identities: int) -> bytes:
    """Return a keyring signed by two roots."""
    named = [
        ("hes-1", Role.HES, HES),
        ("anna", Role.OPERATOR, OPERATOR),
        (GATEWAY, Role.GATEWAY, POLE),
    ]
    named += [(f"m{n}", Role.METER, key(100 + n)) for n in range(identities - len(named))]
    members: dict[str, Any] = {
        "sessionId": "keyring-0000000001",
        "participants": [
            {
                "id": name,
                "role": role.value,
                "kid": signer.kid,
                "key": encode_base64url(signer.public.raw),
                **({"can": sorted(Action)} if role in (Role.HES, Role.OPERATOR) else {}),
            }
            for name, role, signer in named
        ],
        "feederScope": {
            "feederId": FEEDER,
            "gatewayId": GATEWAY,
            "meters": ["*"],
            "limits": {"disconnectsPerHour": 2},
        },
        "validFrom": print_moment(NOW - timedelta(days=1)),
        "validTo": print_moment(NOW + timedelta(days=89)),
    }
    for root in ROOTS[:2]:
        members = sign(members, root, ActType.KEYRING, iat=seconds(NOW))
    return json.dumps(members, separators=(",", ":")).encode()


def load(payload: bytes) -> Keyring:
    """Admit a keyring from its bytes."""
    return admit_keyring(
        read_document(payload), roots=PINS, in_force=0, feeder_id=FEEDER, gateway_id=GATEWAY
    )


def command_payload(*signers: KeySigner) -> bytes:
    """Return a signed command."""
    members = command_members(
        CommandTopic(FEEDER, GATEWAY, METER),
        Action.DISCONNECT,
        session_id="sip-7f3a9c2e",
        seq=1,
        nonce=NONCE,
        ts=NOW,
        not_after=NOW + timedelta(minutes=5),
    )
    for signer in signers:
        members = sign(members, signer, ActType.COMMAND, iat=seconds(NOW))
    return json.dumps(members, separators=(",", ":")).encode()


def facts(keyring: Keyring) -> GatewayFacts:
    """Return what a gateway of a hundred meters knows."""
    session = session_members(
        "sip-7f3a9c2e",
        [
            Participant("hes-1", Role.HES, HES.kid, frozenset(Action)),
            Participant("anna", Role.OPERATOR, OPERATOR.kid, frozenset(Action)),
            Participant(GATEWAY, Role.GATEWAY, POLE.kid, frozenset()),
        ],
        feeder_id=FEEDER,
        gateway_id=GATEWAY,
        meters=["*"],
        valid_from=NOW - timedelta(days=1),
        valid_to=NOW + timedelta(days=6),
    )
    held = HeldSession(
        document=read_session(document_of(session)),
        state=SessionState.ACTIVE,
        limits=keyring.limits,
        nonces=Nonces(Nonce(NONCE, 1000.0)),
    )
    return GatewayFacts(
        feeder_id=FEEDER,
        gateway_id=GATEWAY,
        meters=frozenset({METER, *(f"m{number}" for number in range(100))}),
        keyring=keyring,
        session=held,
        done=None,
        high_water=0,
        trades_done=frozenset(),
        tickets_used=frozenset(),
        relay=RelayFacts(False, Budget(2.0, 0.0), 5000.0, None),
        time=TimeFacts(1060.0, NOW, True, NOW - timedelta(days=1)),
    )


def judge(payload: bytes, known: GatewayFacts) -> None:
    """Judge a command from its bytes to the permit."""
    claim = read_claim(
        CommandTopic(FEEDER, GATEWAY, METER),
        payload,
        retain=False,
        feeder_id=FEEDER,
        gateway_id=GATEWAY,
        keyring=known.keyring,
    )
    assert isinstance(claim, Claim), claim
    verdict = authorise(claim, known)
    assert isinstance(verdict, Permit), verdict


def milliseconds(work: Callable[[], object], *, calls: int, repeats: int) -> list[float]:
    """Return the CPU time of a call, by repeat."""
    work()
    taken = []
    for _ in range(repeats):
        begun = time.process_time()
        for _ in range(calls):
            work()
        taken.append((time.process_time() - begun) / calls * 1000)
    return taken


def report(case: str, taken: list[float], *, bound_ms: float, **more: object) -> None:
    """Print one line."""
    line = {
        "benchmark": "sip",
        "case": case,
        "repeats": len(taken),
        "ms_best": round(min(taken), 4),
        "ms_median": round(statistics.median(taken), 4),
        "ms_worst": round(max(taken), 4),
        "bound_ms": bound_ms,
        "within": statistics.median(taken) <= bound_ms,
        **more,
    }
    print(json.dumps(line))


def main(repeats: int = REPEATS) -> None:
    """Print a line for each case."""
    ring = keyring_payload(80)
    known = facts(load(ring))
    for case, signers in (("verify a command", [HES]), ("with two persons", [HES, OPERATOR])):
        payload = command_payload(*signers)
        taken = milliseconds(lambda p=payload: judge(p, known), calls=CALLS, repeats=repeats)  # type: ignore[misc]
        report(case, taken, bound_ms=VERIFY_MS_MAX, bytes=len(payload))
    taken = milliseconds(lambda: load(ring), calls=10, repeats=repeats)
    report("load a keyring of 80 identities", taken, bound_ms=KEYRING_MS_MAX, bytes=len(ring))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:2]))
