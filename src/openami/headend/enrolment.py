"""The desk where gateways are enrolled: a request comes, by a server or on a stick, and an answer goes.

What has to hold before anything is signed:

* the one-time token is known, not expired, unused (or used for this very request: an answer may get lost on the
  way, and the same request gets the same answer again), and bound to the gateway of the request;
* the request is signed by both keys it is about, and neither of them is weak (`openami.pki.enrolment`);
* the names in it are one: the gateway's two ids, and nothing that could be a head-end's.

A renewal needs no token: the signing key, which the register knows, vouches for the new transport key.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from openami.headend.register import EnrolledGateway, Issued, Register
from openami.headend.village import Village
from openami.pki.certificates import read_certificate, same_key
from openami.pki.enrolment import (
    TOKEN_BYTES,
    EnrolmentError,
    Refusal,
    Request,
    make_answer,
    read_request,
    read_token,
    token_hash,
    token_text,
)
from openami.pki.names import GatewayName

# A technician drives to the pole the same day; a lost note is worth nothing the next.
TOKEN_LIFE: Final = timedelta(hours=24)
TOKEN_LIFE_MAX: Final = timedelta(days=30)
# Before half of its certificate's life is over a gateway gets no new one: bounds what one key can have signed.
RENEWABLE_AFTER: Final = 0.5


@dataclass(frozen=True, slots=True)
class EnrolmentDesk:
    """Answers requests out of a village's directory. Every method may take a second: call it from a thread."""

    village: Village
    now: Callable[[], datetime]

    def new_token(self, name: GatewayName, *, life: timedelta = TOKEN_LIFE) -> str:
        """Return a new one-time token for a gateway, as a person carries it."""
        assert timedelta(0) < life <= TOKEN_LIFE_MAX
        secret, now = secrets.token_bytes(TOKEN_BYTES), self.now()
        with self.village.register() as register:
            register.add_token(token_hash(secret), str(name), expires_at=now + life, now=now)
        return token_text(secret, self.village.fingerprint())

    def enrol_by_token(self, payload: bytes, token: str) -> bytes:
        """Return the answer to a request that came with a token. Raises EnrolmentError."""
        secret, _ = read_token(token)
        hash_ = token_hash(secret)
        # Without a token nobody has anything checked, and nobody learns what is wrong with what he sent.
        with self.village.register() as register:
            self._check_token(register, hash_)
        request = read_request(payload)
        with self.village.register() as register, register.transaction():
            used_for = self._check_token(register, hash_, request)
            if used_for is not None:
                return self._answered_before(register, request)
            answer = self._enrol(register, request)
            register.use_token(hash_, request.digest)
        return answer

    def enrol_by_hand(self, payload: bytes) -> bytes:
        """Return the answer to a request that a person vouches for. Raises EnrolmentError."""
        request = read_request(payload)
        with self.village.register() as register, register.transaction():
            known = register.gateway(str(request.name))
            if known is not None and known.request == request.digest and not known.revoked_at:
                return known.answer
            return self._enrol(register, request)

    def renew(self, payload: bytes) -> bytes:
        """Return the answer to a request the gateway's known signing key vouches for. Raises EnrolmentError."""
        request = read_request(payload)
        with self.village.register() as register, register.transaction():
            known = register.gateway(str(request.name))
            if known is None or known.sip_key != request.sip_key.raw:
                raise EnrolmentError(
                    Refusal.UNKNOWN_GATEWAY, "no gateway is enrolled with this name and this key"
                )
            if known.revoked_at is not None:
                raise EnrolmentError(Refusal.REVOKED, f"{request.name} was revoked")
            if known.request == request.digest:
                return known.answer
            self._check_due(register, request)
            return self._enrol(register, request)

    def _check_token(
        self, register: Register, hash_: bytes, request: Request | None = None
    ) -> str | None:
        """Return the digest of the request a token was used for; None for an unused one."""
        token = register.token(hash_)
        if token is None or token.expires_at <= self.now():
            raise _bad_token()
        if request is not None:
            if token.request not in (None, request.digest):
                raise _bad_token()
            if token.gateway != str(request.name):
                raise EnrolmentError(
                    Refusal.WRONG_NAME,
                    f"the token is for another gateway than {request.name}",
                )
        return token.request

    def _answered_before(self, register: Register, request: Request) -> bytes:
        known = register.gateway(str(request.name))
        if known is None or known.request != request.digest or known.revoked_at is not None:
            raise _bad_token()
        return known.answer

    def _enrol(self, register: Register, request: Request) -> bytes:
        now = self.now()
        name = request.name
        keyring = self.village.signed_keyring(name.feeder_id, name.gateway_id)
        if keyring is None:
            raise EnrolmentError(
                Refusal.NO_KEYRING,
                f"there is no signed keyring for {name}: `openami keyring new --feeder {name.feeder_id}`",
            )
        certificate = self.village.issue(request.transport_key, name.common_name, now=now)
        answer = make_answer(
            request,
            certificate,
            authority=self.village.authority().certificate,
            roots=self.village.roots(),
            keyring=keyring,
        )
        register.enter(Issued.of(certificate))
        register.enrol(
            EnrolledGateway(str(name), request.sip_key.raw, request.digest, answer, now, None)
        )
        return answer

    def _check_due(self, register: Register, request: Request) -> None:
        for issued in register.certificates(str(request.name))[:1]:
            certificate = read_certificate(issued.pem)
            if same_key(certificate, request.transport_key):
                raise EnrolmentError(Refusal.BAD_REQUEST, "a renewal is for a new transport key")
            begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
            if self.now() < begin + (end - begin) * RENEWABLE_AFTER:
                raise EnrolmentError(
                    Refusal.NOT_DUE, f"the certificate is good until {end:%Y-%m-%d}"
                )


def _bad_token() -> EnrolmentError:
    return EnrolmentError(
        Refusal.BAD_TOKEN, "the token is unknown, used or expired: have a new one made"
    )
