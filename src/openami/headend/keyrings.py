"""Which keyring is in force for a gateway: admitted from its documents, oldest first, as the gateway does it.

Pure. A document that does not prove itself is passed over; it was somebody's mistake or worse, and is for a person
to see, never to believe. Roots may have been rotated on the way, so all versions are read and not just the last.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from openami.sip.actions import Role
from openami.sip.acts import Act, ActType, verified_acts
from openami.sip.canonical import Document, read_document
from openami.sip.errors import SipError
from openami.sip.keyring import Keyring, Roots, admit_keyring
from openami.sip.keys import PublicKey


@dataclass(frozen=True, slots=True)
class InForce:
    """A keyring, its bytes as they are published, and every key that may have signed them."""

    keyring: Keyring
    payload: bytes
    keys: Mapping[str, PublicKey]


def in_force(
    payloads: Sequence[bytes], *, roots: Roots, feeder_id: str, gateway_id: str
) -> InForce | None:
    """Return the newest keyring that the pinned roots vouch for; None where there is none."""
    found: InForce | None = None
    for payload in payloads:
        known = dict(roots.keys)
        try:
            keyring = admit_keyring(
                read_document(payload),
                roots=roots,
                in_force=0 if found is None else found.keyring.version,
                feeder_id=feeder_id,
                gateway_id=gateway_id,
            )
        except SipError:
            continue
        roots = keyring.roots
        found = InForce(keyring, payload, {**known, **keyring.keys})
    return found


def accepted_by_gateway(document: Document, current: InForce, *, gateway_id: str) -> Act | None:
    """Return the gateway's act over this very keyring, if the document has one. Raises SipError."""
    if document.digest != current.keyring.digest:
        return None
    for act in verified_acts(document, current.keys):
        identity = current.keyring.identities.get(act.kid)
        if (
            act.type is ActType.ACCEPT
            and identity is not None
            and identity.role is Role.GATEWAY
            and identity.id == gateway_id
        ):
            return act
    return None


# --- what a document says, before anybody has verified it ------------------------------------------


def protected_by(document: bytes) -> frozenset[str]:
    """Return the meters a keyring's document says are protected; none of one that cannot be read.

    It is not verified: what a second person has to sign is decided when the command is signed.
    """
    named = _feeder_scope(document).get("protected")
    if not isinstance(named, list):
        return frozenset()
    return frozenset(each for each in named if isinstance(each, str))


def named_disconnects_per_hour(document: bytes) -> int | None:
    """Return how many houses a keyring's document lets its gateway cut off in an hour; None where it says nothing.

    It is not verified: the gateway counts for itself.
    """
    limits = _feeder_scope(document).get("limits")
    most = limits.get("disconnectsPerHour") if isinstance(limits, dict) else None
    return most if type(most) is int else None


def _feeder_scope(document: bytes) -> Mapping[str, object]:
    try:
        scope = read_document(document).members.get("feederScope")
    except SipError:
        return {}
    return scope if isinstance(scope, dict) else {}
