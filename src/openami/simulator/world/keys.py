"""A village's keys, from its seed: the same village signs the same bytes (for simulation only, nobody's secret)."""

import json
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from openami.headend.audit import Entry
from openami.headend.store.commands import StoredKeyring
from openami.keyfiles import save_roots, write_private
from openami.sip.actions import Role
from openami.sip.acts import ActType
from openami.sip.compose import document_of, sign
from openami.sip.keyring import ANY, Limits, Roots
from openami.sip.keyring_draft import first_keyring, identity, next_version
from openami.sip.keys import KeySigner

HES: Final = "hes-1"
_WHO: Final = "village"
# A simulated day has more disconnects than a year of a real village; dwell and budget are attacked in tests/sip.
LIMITS: Final = Limits(disconnects_per_hour=100, min_dwell_s=0)


def seeded_key(seed: int, name: str) -> Ed25519PrivateKey:
    """Return the key of this name in this village."""
    return Ed25519PrivateKey.from_private_bytes(sha256(f"{seed}/{name}".encode()).digest())


@dataclass(slots=True)
class VillageKeys:
    """Root, head-end and gateways of one feeder, and the keyring that lists them."""

    seed: int
    feeder_id: str
    gateways: tuple[str, ...]
    members: dict[str, Any] | None = None

    def signer(self, name: str) -> KeySigner:
        """Return who signs under this name."""
        return KeySigner(seeded_key(self.seed, name))

    @property
    def roots(self) -> Roots:
        """Whom every machine believes a keyring."""
        root = self.signer("root")
        return Roots(1, {root.kid: root.public})

    def write(self, directory: Path, name: str) -> tuple[Path, Path]:
        """Put a machine's own key and the pins where its configuration names them; return both files."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        key_file, roots_file = directory / "sip.key", directory / "roots.json"
        private = seeded_key(self.seed, name)
        write_private(
            key_file, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        save_roots(roots_file, self.roots)
        return key_file, roots_file

    def next_keyring(self, now: datetime) -> tuple[StoredKeyring, Entry]:
        """Return the next version, signed by the root, as the head-end is given it."""
        if self.members is None:
            people = [identity(HES, Role.HES, self.signer(HES).public)]
            people += [identity(g, Role.GATEWAY, self.signer(g).public) for g in self.gateways]
            draft = first_keyring(people, feeder_id=self.feeder_id, limits=LIMITS, now=now)
        else:
            draft = next_version(self.members, now=now)
        signed = sign(draft, self.signer("root"), ActType.KEYRING, iat=int(now.timestamp()))
        self.members = dict(signed)
        keyring = StoredKeyring(
            feeder_id=self.feeder_id,
            gateway_id=ANY,
            version=int(str(draft["sessionId"]).rsplit("-", 1)[1]),
            document=json.dumps(signed).encode(),
            added_at=now,
            added_by=_WHO,
        )
        return keyring, Entry(
            who=_WHO, what="keyring given to the head-end", digest=document_of(signed).digest
        )
