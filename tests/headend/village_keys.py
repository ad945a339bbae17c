"""The keys of a small village, and the keyring its root signs."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from openami.sip.acts import ActType
from openami.sip.canonical import encode_base64url
from openami.sip.compose import sign
from openami.sip.fields import print_moment
from openami.sip.keyring import Roots
from openami.sip.keys import KeySigner

FEEDER = "feeder-north-paravur-01"
GATEWAY = "pole-ems-0042"
METER = "DS1000-88421"
CLINIC = "DS1000-99000"
"""A protected meter."""
START = datetime(2026, 6, 22, 14, 30, 5, tzinfo=UTC)

_RELAY = ["relay.disconnect", "relay.reconnect", "relay.arm"]
RIGHTS: Mapping[str, list[str]] = {
    "hes-1": [*_RELAY, "credit.token", "readings.resend", "settlement.commit"],
    "anita": _RELAY,
    "market-coop": ["settlement.commit"],
    GATEWAY: [],
}
ROLES = {"hes-1": "hes", "anita": "operator", "market-coop": "market", GATEWAY: "gateway"}


def private_key(name: str) -> Ed25519PrivateKey:
    """Return somebody's key: the same in every process."""
    return Ed25519PrivateKey.from_private_bytes(sha256(name.encode()).digest())


def signer(name: str) -> KeySigner:
    """Return somebody's signer."""
    return KeySigner(private_key(name))


ROOTS = Roots(1, {signer("root").kid: signer("root").public})


def keyring(
    version: int = 1,
    *,
    names: Sequence[str] = tuple(ROLES),
    gateway_id: str = GATEWAY,
    now: datetime = START,
    **limits: int,
) -> bytes:
    """Return a keyring's bytes as its root signs them."""
    members: dict[str, Any] = {
        "sessionId": f"keyring-{version:010d}",
        "participants": [
            {
                "id": name,
                "role": ROLES[name],
                "kid": signer(name).kid,
                "key": encode_base64url(signer(name).public.raw),
                "can": RIGHTS[name],
            }
            for name in names
        ],
        "feederScope": {
            "feederId": FEEDER,
            "gatewayId": gateway_id,
            "meters": ["*"],
            "limits": {"disconnectsPerHour": 100, "minDwell": 0, **limits},
            "protected": [CLINIC],
        },
        "validFrom": print_moment(now - timedelta(days=1)),
        "validTo": print_moment(now + timedelta(days=90)),
    }
    whole = sign(members, signer("root"), ActType.KEYRING, iat=int(now.timestamp()))
    return json.dumps(whole).encode()


def write_key(path: Path, name: str) -> Path:
    """Write somebody's private key as an operator has it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_bytes(
        private_key(name).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    path.chmod(0o600)
    return path


def write_roots(path: Path) -> Path:
    """Write the pinned roots as an operator has them."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys = [encode_base64url(key.raw) for key in ROOTS.keys.values()]
    path.write_text(json.dumps({"threshold": ROOTS.threshold, "keys": keys}))
    path.chmod(0o600)
    return path
