"""The gateway's directory of keys, and how it comes to what is in it.

    sip.key          signs accepts and reports; made here, never leaves
    transport.pem    certificate and key to the broker in one file, so that both are exchanged at once
    transport.new    the next transport key, while its certificate is being asked for
    request.json     the last request, sent again as it is when no answer came
    ca.pem           the village's authority
    roots.json       the village's roots: who may sign a keyring
    keyring.json     the first keyring; later ones come over the broker, or on a stick

A request and its answer are the same bytes by HTTPS and on a stick.
"""

import http.client
import json
import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from openami.keyfiles import (
    KeyFileError,
    ensure_private_directory,
    load_signer,
    make_key,
    read_private,
    read_roots,
    save_roots,
    write_private,
)
from openami.pki.certificates import (
    CertificateError,
    TransportKey,
    common_name_of,
    new_transport_key,
    print_certificate,
    print_key,
    read_certificate,
    read_key,
    same_key,
    same_public_key,
)
from openami.pki.enrolment import (
    ANSWER_BYTES_MAX,
    Answer,
    EnrolmentError,
    Refusal,
    Request,
    make_request,
    read_answer,
    read_request,
    read_token,
    village_fingerprint,
)
from openami.pki.names import GatewayName
from openami.profile import one_line
from openami.sip.keys import KeySigner

# A TLS handshake over GPRS takes seconds, the answer as many; nobody waits longer at a pole.
HTTP_TIMEOUT_S: Final = 60.0
DEFAULT_PORT: Final = 8443


class EnrolmentFailed(Exception):
    """The server could not be reached, or it or the answer could not be believed; ``remedy`` says what to do."""

    def __init__(self, message: str, remedy: str = "", *, refused: bool = False) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.refused = refused


@dataclass(frozen=True, slots=True)
class GatewayKeys:
    """The gateway's directory of keys. Nothing is read before it is asked for."""

    directory: Path

    @property
    def sip_key_file(self) -> Path:
        """The signing key."""
        return self.directory / "sip.key"

    @property
    def transport_file(self) -> Path:
        """Certificate and key to the broker."""
        return self.directory / "transport.pem"

    @property
    def authority_file(self) -> Path:
        """The village's authority."""
        return self.directory / "ca.pem"

    @property
    def roots_file(self) -> Path:
        """The pins."""
        return self.directory / "roots.json"

    @property
    def keyring_file(self) -> Path:
        """The first keyring."""
        return self.directory / "keyring.json"

    @property
    def request_file(self) -> Path:
        """The request that waits for its answer."""
        return self.directory / "request.json"

    @property
    def next_transport_file(self) -> Path:
        """The transport key that waits for its certificate."""
        return self.directory / "transport.new"

    @property
    def enrolled(self) -> bool:
        """Whether an answer was installed."""
        return self.transport_file.exists()

    def request(self, name: GatewayName, *, now: datetime) -> bytes:
        """Return the request that waits, or a new one; the keys are made with it. Raises KeyFileError."""
        ensure_private_directory(self.directory)
        if self._waits_for(name):
            return read_private(self.request_file)
        signer = self._signer()
        transport = new_transport_key()
        payload = make_request(name, signer, signer.public, transport, iat=int(now.timestamp()))
        write_private(self.next_transport_file, print_key(transport))
        write_private(self.request_file, payload)
        return payload

    def install(self, payload: bytes, *, village: str | None) -> Answer:
        """Install the answer to the request that waits. Raises EnrolmentError, KeyFileError.

        The transport file is written last: until it is there, the gateway counts as not enrolled, and what is
        there before is used until then.
        """
        request, transport = self._waiting()
        answer = read_answer(payload, request, village=village)
        if not same_key(answer.certificate, transport.public_key()):
            raise EnrolmentError(Refusal.BAD_ANSWER, "the certificate is for a key that is gone")
        write_private(self.authority_file, print_certificate(answer.authority))
        save_roots(self.roots_file, answer.roots)
        write_private(self.keyring_file, answer.keyring_payload)
        self._exchange(answer, transport)
        return answer

    def install_renewal(self, payload: bytes) -> Answer:
        """Install a renewed certificate, and nothing but it. Raises EnrolmentError, KeyFileError.

        Authority, roots and keyring stay as they are: a server must not be able to exchange whom the gateway
        believes. Other roots come by a keyring that the old ones signed.
        """
        request, transport = self._waiting()
        answer = read_answer(payload, request, village=None)
        pinned = read_certificate(read_private(self.authority_file))
        if print_certificate(pinned) != print_certificate(answer.authority):
            raise EnrolmentError(Refusal.WRONG_VILLAGE, "the certificate is by another authority")
        self._exchange(answer, transport)
        return answer

    def name(self) -> GatewayName:
        """Return what the installed certificate calls the gateway. Raises KeyFileError, CertificateError."""
        certificate = read_certificate(read_private(self.transport_file))
        return GatewayName.parse(common_name_of(certificate))

    def _exchange(self, answer: Answer, transport: TransportKey) -> None:
        write_private(
            self.transport_file, print_certificate(answer.certificate) + print_key(transport)
        )
        self.request_file.unlink()
        self.next_transport_file.unlink()

    def _signer(self) -> KeySigner:
        if self.sip_key_file.exists():
            return load_signer(self.sip_key_file)
        return make_key(self.sip_key_file)

    def _waiting(self) -> tuple[Request, TransportKey]:
        if not self.request_file.exists() or not self.next_transport_file.exists():
            raise KeyFileError(
                f"{self.directory} waits for no answer",
                "make a request first: openami gateway enroll --request FILE",
            )
        try:
            transport = read_key(read_private(self.next_transport_file))
        except CertificateError as error:
            raise KeyFileError(f"{self.next_transport_file}: {error}", "delete it") from None
        return read_request(read_private(self.request_file)), transport

    def _waits_for(self, name: GatewayName) -> bool:
        """Whether the request on disk is whole, for this name and keys, and not answered already.

        A power cut may have left a request without its key, or both after their certificate was installed.
        """
        if not self.request_file.exists() or not self.next_transport_file.exists():
            return False
        try:
            request, transport = self._waiting()
        except (EnrolmentError, KeyFileError):
            return False
        return (
            request.name == name
            and request.sip_key.kid == self._signer().kid
            and same_public_key(transport.public_key(), request.transport_key)
            and not self._installed(transport)
        )

    def _installed(self, transport: TransportKey) -> bool:
        if not self.transport_file.exists():
            return False
        certificate = read_certificate(read_private(self.transport_file))
        return same_key(certificate, transport.public_key())


def enrol_by_token(
    keys: GatewayKeys, name: GatewayName, *, url: str, token: str, now: datetime
) -> Answer:
    """Enrol at a server with a one-time token. Raises EnrolmentFailed, EnrolmentError, KeyFileError.

    The server is believed because it shows the authority and the roots of the token's fingerprint, and proves
    by TLS that this authority signed its name. Before that nothing is said to it, the token least of all.
    """
    _, village = read_token(token)
    authority = _village_authority(url, village)
    payload = keys.request(name, now=now)
    body = _post(url, "/v1/enrol", payload, authority=authority, token=token.strip())
    return keys.install(body, village=village)


def renew(keys: GatewayKeys, *, url: str, now: datetime) -> Answer:
    """Have the transport certificate renewed. Raises EnrolmentFailed, EnrolmentError, KeyFileError."""
    authority = read_private(keys.authority_file).decode("ascii")
    payload = keys.request(keys.name(), now=now)
    return keys.install_renewal(_post(url, "/v1/renew", payload, authority=authority))


def _village_authority(url: str, village: str) -> str:
    """Return the authority's certificate, from whoever answers; the fingerprint tells whether it is it."""
    unverified = ssl.create_default_context()
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    return _authority_in(
        _exchange(url, "GET", "/v1/village", None, tls=unverified), url, village=village
    )


def _authority_in(answer: bytes, url: str, *, village: str) -> str:
    """Return the authority's PEM out of an answer from anybody at all. Raises EnrolmentFailed."""
    try:
        told = json.loads(answer)
        pem = told["authority"]
        found = village_fingerprint(read_certificate(pem.encode()), read_roots(told["roots"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise EnrolmentFailed(
            f"{url} is no enrolment server: {one_line(str(error))}", "check the address"
        ) from None
    if found != village:
        raise EnrolmentFailed(
            f"{url} is not the village the token was made for",
            "check the address; if it is right, somebody sits between: do not enrol over this network",
        )
    assert isinstance(pem, str)
    return pem


def _post(
    url: str, path: str, payload: bytes, *, authority: str, token: str | None = None
) -> bytes:
    tls = ssl.create_default_context(cadata=authority)
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    return _exchange(url, "POST", path, payload, tls=tls, token=token)


def _exchange(
    url: str,
    method: str,
    path: str,
    payload: bytes | None,
    *,
    tls: ssl.SSLContext,
    token: str | None = None,
) -> bytes:
    host, port = _address(url)
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    connection = http.client.HTTPSConnection(host, port, timeout=HTTP_TIMEOUT_S, context=tls)
    try:
        connection.request(method, path, payload, headers)
        response = connection.getresponse()
        body = response.read(ANSWER_BYTES_MAX + 1)
        status = response.status
    except ssl.SSLCertVerificationError as error:
        raise EnrolmentFailed(
            f"{url} shows a certificate that is not to be believed: {error.verify_message}",
            "use the name the server's certificate is for, and check this machine's clock",
        ) from None
    except (OSError, http.client.HTTPException) as error:
        raise EnrolmentFailed(
            f"cannot reach {url}: {error}", "check the address and whether the server runs"
        ) from None
    finally:
        connection.close()
    if status != http.client.OK:
        raise _refusal(url, status, body)
    return body


def _refusal(url: str, status: int, body: bytes) -> EnrolmentFailed:
    try:
        told = json.loads(body)
        code, detail = str(told["code"]), str(told["detail"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return EnrolmentFailed(f"{url} answers with status {status}", "check the address")
    refused = code in Refusal.__members__
    return EnrolmentFailed(f"{url} refuses: {one_line(f'{code}: {detail[:300]}')}", refused=refused)


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = 0
    if parts.scheme != "https" or not parts.hostname or port == 0 or parts.path not in ("", "/"):
        raise EnrolmentFailed(
            f"{url!r} is not the address of an enrolment server", "write https://HOST:PORT"
        )
    return parts.hostname, port or DEFAULT_PORT
