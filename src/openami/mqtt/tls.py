"""TLS to the broker: who is trusted, who we are, and the session a reconnect resumes (decision 0077).

A link that breaks every quarter of an hour pays for its certificates each time. With a session of the connection
before, the handshake is half as long. Whoever is resumed is not verified again, so three things bound it:

* A session belongs to its context, and a context to one broker and to the very bytes of our files: another
  authority, certificate or key, and it is made anew and knows no session.
* Verified in full at least once a day, so that what was revoked or has expired is noticed.
* A session is offered once. Where that fails, for whatever reason, the next attempt is a full handshake.
"""

import hashlib
import ssl
from pathlib import Path
from typing import Final

from openami.mqtt import failures
from openami.mqtt.settings import BrokerSettings, Endpoint

# A certificate that was withdrawn opens no connection for longer than this; brokers forget a session after two
# hours anyway, unless it was resumed meanwhile.
FULL_HANDSHAKE_EVERY_S: Final = 86_400.0


class ResumingContext(ssl.SSLContext):
    """A context that offers the session it keeps.

    `ssl` takes a session where a TLS object is made, and asyncio, which makes it, has no argument for one.
    """

    _session: ssl.SSLSession | None = None

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        offered, self._session = session or self._session, None
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, offered)

    def keep(self, connection: ssl.SSLObject) -> None:
        """Keep the session of a connection for the next; call it when its first message has come.

        In TLS 1.3 a server sends what a session is resumed with after the handshake, before all else.
        """
        session = connection.session
        if session is not None and session.has_ticket:
            self._session = session


class BrokerTls:
    """Makes the contexts for one client's connections, and keeps the last one while it may."""

    def __init__(self, settings: BrokerSettings) -> None:
        self._settings = settings
        self._kept: tuple[Endpoint, bytes, float, ResumingContext] | None = None

    def context(self, endpoint: Endpoint, now_s: float) -> ResumingContext | None:
        """Return the context for a connection; None where none is encrypted. Raises TransportError.

        ``now_s`` are seconds of a clock that is never set.
        """
        if not endpoint.tls:
            return None
        # Before they are loaded: what is changed in between is then noticed at the next connection.
        files = _digest(self._settings)
        if self._kept is not None and files is not None:
            of_endpoint, of_files, since_s, context = self._kept
            is_young = now_s - since_s < FULL_HANDSHAKE_EVERY_S
            if of_endpoint == endpoint and of_files == files and is_young:
                return context
        context = _context(self._settings)
        self._kept = None if files is None else (endpoint, files, now_s, context)
        return context


def _digest(settings: BrokerSettings) -> bytes | None:
    """Return what tells that our files are the same; None where they cannot be read, or are not ours."""
    if settings.ca_file is None:
        return None  # the system's authorities change without our noticing
    digest = hashlib.sha256()
    for name in (settings.ca_file, settings.cert_file, settings.key_file):
        try:
            content = b"" if name is None else Path(name).read_bytes()
        except OSError:
            return None  # loading it tells what is wrong with it
        digest.update(hashlib.sha256(content).digest())
    return digest.digest()


def _context(settings: BrokerSettings) -> ResumingContext:
    context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        # How strictly certificates are read is the default's, which differs from one Python to the next.
        context.verify_flags = ssl.create_default_context(cafile=settings.ca_file).verify_flags
        if settings.ca_file is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(settings.ca_file)
    except OSError as error:
        raise failures.unusable_file("ca_file", settings.ca_file or "", error) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.cert_file is not None:
        try:
            # A key with a passphrase would have OpenSSL ask for it on the terminal, and wait.
            context.load_cert_chain(settings.cert_file, settings.key_file, password=lambda: "")
        except OSError as error:
            name, path = "cert_file", settings.cert_file
            if settings.key_file is not None and _holds_a_certificate(path):
                name, path = "key_file", settings.key_file
            raise failures.unusable_file(name, path, error) from None
    return context


def _holds_a_certificate(path: str) -> bool:
    """Tell which of two files OpenSSL could not use: it does not say."""
    try:
        return b"BEGIN CERTIFICATE" in Path(path).read_bytes()
    except OSError:
        return False
