"""The kit as an operator: keys, keyring and sessions, for gateways and head-ends that keep ours (docs/sip.md).

How a session is signed is a decision of this system and not the profile's word, so nothing here is asked of a
vendor. A gateway that does keep it is enrolled with the kit as with any village, by request and answer, and can
then be judged on what it does with honest orders as well as with forged ones (pure).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from openami.pki.certificates import Authority, issue_client
from openami.pki.enrolment import Request, make_answer
from openami.pki.names import GatewayName
from openami.profile import SessionId, SessionTopic
from openami.sip.actions import Action, Role
from openami.sip.acts import ActType
from openami.sip.canonical import read_document
from openami.sip.compose import printed, session_members, sign
from openami.sip.keyring import ANY, Keyring, Limits, Roots, admit_keyring
from openami.sip.keyring_draft import first_keyring, identity
from openami.sip.keys import KeySigner, PublicKey
from openami.sip.session_document import Participant

HES_ID: Final = "hes-kit"
# The kit orders a relay back and forth in a minute, which a village would not.
LIMITS: Final = Limits(disconnects_per_hour=500, min_dwell_s=0)
# Longer than any run; the keyring in the gateway is the kit's until it is enrolled elsewhere.
SESSION_LIFE: Final = timedelta(hours=8)


@dataclass(frozen=True, slots=True)
class Operator:
    """The kit's own keys: the root that signs the keyring, and the head-end that signs sessions and commands."""

    root: KeySigner
    hes: KeySigner

    @property
    def roots(self) -> Roots:
        """The pins a gateway gets."""
        return Roots(1, {self.root.kid: self.root.public})

    def keyring(self, name: GatewayName, gateway_key: PublicKey, *, now: datetime) -> bytes:
        """Return the signed keyring of one gateway."""
        draft = first_keyring(
            [
                identity(HES_ID, Role.HES, self.hes.public),
                identity(name.gateway_id, Role.GATEWAY, gateway_key),
            ],
            feeder_id=name.feeder_id,
            limits=LIMITS,
            now=now,
        )
        return printed(sign(draft, self.root, ActType.KEYRING, iat=int(now.timestamp())))

    def admitted(self, keyring: bytes, name: GatewayName) -> Keyring:
        """Return a keyring of ours as a gateway admits it. Raises SipError."""
        return admit_keyring(
            read_document(keyring),
            roots=self.roots,
            in_force=0,
            feeder_id=name.feeder_id,
            gateway_id=name.gateway_id,
        )

    def answer(
        self, request: Request, authority: Authority, keyring: bytes, *, now: datetime, serial: int
    ) -> bytes:
        """Return the answer to a gateway's request to be enrolled: certificate, roots and keyring."""
        certificate = issue_client(
            authority, request.transport_key, request.name.common_name, now=now, serial=serial
        )
        return make_answer(
            request,
            certificate,
            authority=authority.certificate,
            roots=self.roots,
            keyring=keyring,
        )

    def session(
        self,
        name: GatewayName,
        session_id: str,
        gateway_key: PublicKey | None,
        *,
        now: datetime,
        life: timedelta = SESSION_LIFE,
    ) -> dict[str, Any]:
        """Return a session of all a gateway's meters: the profile's fields, and no signature yet."""
        kid = None if gateway_key is None else gateway_key.kid
        return session_members(
            session_id,
            [
                Participant(
                    HES_ID, Role.HES, self.hes.kid, frozenset({Action.DISCONNECT, Action.RECONNECT})
                ),
                Participant(name.gateway_id, Role.GATEWAY, kid, frozenset()),
            ],
            feeder_id=name.feeder_id,
            gateway_id=name.gateway_id,
            meters=(ANY,),
            valid_from=now - timedelta(minutes=1),
            valid_to=now + life,
        )

    def offer(self, session: Mapping[str, Any], *, now: datetime) -> bytes:
        """Return the session with the head-end's offer: all six fields."""
        return printed(sign(session, self.hes, ActType.OFFER, iat=int(now.timestamp())))

    def close(self, session: Mapping[str, Any], *, now: datetime) -> bytes:
        """Return the session with the head-end's end of it."""
        iat = int(now.timestamp())
        return printed(sign(session, self.hes, ActType.CLOSE, iat=iat, reason="KIT_DONE"))


def session_topic(name: GatewayName, session_id: str) -> SessionTopic:
    """Return where a session of a gateway is spoken of."""
    return SessionTopic(name.feeder_id, name.gateway_id, SessionId(session_id))
