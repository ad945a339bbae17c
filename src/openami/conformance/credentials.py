"""What the kit gives the one it judges: its authority, a certificate or a password; kept in one directory.

    ca.pem           the kit's authority: what a gateway has to trust
    client.crt       a certificate for it
    client.key       its key, unless the gateway made its own and sent a request
    password         or a user name and this, for a gateway that has no certificates
    ca.key           signs the above; the kit's own
    door.pem         certificate and key of the kit's listener; the kit's own, made anew at each start

Everything stays for the next run, so that a gateway is configured once. The directory is its owner's alone:
whoever can read it can be the gateway, or the kit.
"""

import secrets
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from openami.conformance.mqtt_packets import Connect
from openami.keyfiles import (
    ensure_private_directory,
    read_private,
    write_private,
    write_public,
)
from openami.pki.certificates import (
    Authority,
    TransportPublicKey,
    issue_client,
    issue_server,
    make_authority,
    new_serial,
    new_transport_key,
    print_certificate,
    print_key,
    read_certificate,
    read_key,
    read_signing_request,
    renewal_due,
    same_key,
)
from openami.pki.names import CommonName

DEFAULT_DIRECTORY: Final = "openami-conformance"
USERNAME: Final = "openami"
_AUTHORITY_NAME: Final = "OpenAMI conformance kit"
# Nobody guesses 96 bits in an afternoon; a person can still type them.
_PASSWORD_BYTES = 12


@dataclass(frozen=True, slots=True)
class Credentials:
    """The kit's directory, filled."""

    directory: Path
    authority: Authority
    password: str

    @property
    def ca_file(self) -> Path:
        """What a client has to trust."""
        return self.directory / "ca.pem"

    @property
    def cert_file(self) -> Path:
        """The client's certificate."""
        return self.directory / "client.crt"

    @property
    def key_file(self) -> Path:
        """Its key; not there where the client made its own."""
        return self.directory / "client.key"

    def refusal(self, connect: Connect, certified_as: str | None) -> str | None:
        """Return why a client is not let in; None lets it in.

        TLS has looked at the certificate: one that was not signed by this authority never comes so far.
        """
        if certified_as is not None:
            return None
        given = (connect.username or "", connect.password or b"")
        if given[0] == USERNAME and secrets.compare_digest(given[1], self.password.encode()):
            return None
        who = connect.client_id[:80] or "a client"
        if connect.username is None:
            return (
                f"{who} came with neither a certificate nor a password: give it {self.cert_file} and "
                f"its key, or the user name {USERNAME} and the password in {self.directory}"
            )
        return f"{who} came with a wrong user name or password: they are in {self.directory}"


def make_credentials(
    directory: Path, name: CommonName, *, now: datetime, request: bytes | None = None
) -> Credentials:
    """Fill the directory with what is not there yet, and return it.

    ``request`` is the gateway's own certificate request (PKCS#10, PEM): then no key is made for it. Raises
    KeyFileError, and CertificateError for a request that cannot be signed.
    """
    ensure_private_directory(directory)
    authority = _authority(directory, now)
    made = Credentials(directory, authority, _password(directory))
    if request is not None:
        _, key = read_signing_request(request)
        if not _certified(made.cert_file, key, now):
            write_public(made.cert_file, _client(authority, key, name, now))
        made.key_file.unlink(missing_ok=True)
        return made
    if made.key_file.exists():
        key = read_key(read_private(made.key_file)).public_key()
        if _certified(made.cert_file, key, now):
            return made
    private = new_transport_key()
    write_private(made.key_file, print_key(private))
    write_public(made.cert_file, _client(authority, private.public_key(), name, now))
    return made


def door_context(
    credentials: Credentials, names: Sequence[str], *, now: datetime
) -> ssl.SSLContext:
    """Return the TLS of the kit's listener, known by these names and addresses.

    A client may show a certificate; the profile asks for TLS and leaves open who a client is. Raises
    CertificateError for a name that is none.
    """
    key = new_transport_key()
    certificate = issue_server(
        credentials.authority, key.public_key(), names, now=now, serial=new_serial()
    )
    file = credentials.directory / "door.pem"
    write_private(file, print_certificate(certificate) + print_key(key))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(credentials.ca_file))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_cert_chain(file)
    return context


def _authority(directory: Path, now: datetime) -> Authority:
    key_file = directory / "ca.key"
    certificate_file = directory / "ca.pem"
    if key_file.exists():
        certificate = read_certificate(certificate_file.read_bytes())
        return Authority(certificate, read_key(read_private(key_file)))
    authority = make_authority(new_transport_key(), _AUTHORITY_NAME, now=now, serial=new_serial())
    write_public(certificate_file, print_certificate(authority.certificate))
    write_private(key_file, print_key(authority.key))
    return authority


def _password(directory: Path) -> str:
    file = directory / "password"
    if file.exists():
        return read_private(file).decode().strip()
    password = secrets.token_urlsafe(_PASSWORD_BYTES)
    write_private(file, f"{password}\n".encode())
    return password


def _certified(file: Path, key: TransportPublicKey, now: datetime) -> bool:
    """Return whether the file holds a certificate of this key that lasts."""
    if not file.exists():
        return False
    certificate = read_certificate(file.read_bytes())
    return same_key(certificate, key) and not renewal_due(certificate, now)


def _client(
    authority: Authority, key: TransportPublicKey, name: CommonName, now: datetime
) -> bytes:
    return print_certificate(issue_client(authority, key, name, now=now, serial=new_serial()))
