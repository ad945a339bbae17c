"""Where the console and the API are reached, and whether that is safe. Pure."""

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

import msgspec


class WebSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``[web]``."""

    listen: str = ""
    """``HOST:PORT``; empty serves nothing."""
    cert_file: str | None = None
    """Our certificate and what leads to its root, PEM: with it, HTTPS."""
    key_file: str | None = None
    """Its key, where it does not stand in the same file."""
    allow_http: bool = False
    """HTTP beyond this machine: passwords travel readable, and every page says so."""
    public_url: str = ""
    """How people reach it, where that is not the address it listens on: behind a proxy, or by a name."""


class ListeningError(ValueError):
    """The table ``[web]`` cannot be meant, or is not safe; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the web listens and what people call it."""

    host: str
    port: int
    url: str
    """Without a slash at the end."""
    cert_file: str | None
    key_file: str | None
    secure: bool
    """Whether people reach it by HTTPS."""

    @property
    def netloc(self) -> str:
        """Return the host a browser names."""
        return urlsplit(self.url).netloc


_WILDCARDS: Final = ("0.0.0.0", "::")
_SCHEMES: Final = ("http", "https")


def listening_of(settings: WebSettings, *, machine: str) -> Listening | None:
    """Return where to listen; None for nowhere. ``machine`` is this machine's name. Raises ListeningError."""
    if not settings.listen:
        return None
    host, port = _address(settings.listen)
    tls = settings.cert_file is not None
    public = urlsplit(settings.public_url)
    if settings.public_url and (public.scheme not in _SCHEMES or not public.netloc):
        raise ListeningError(
            f"public_url = {settings.public_url!r}: write https://name or http://name"
        )
    loopback = _is_loopback(host)
    if not (tls or loopback or settings.allow_http):
        raise ListeningError(
            f"listen = {settings.listen!r} would let passwords cross the network readable: give "
            "cert_file and key_file, listen on 127.0.0.1 behind a proxy, or say allow_http = true"
        )
    scheme = "https" if tls else "http"
    known_as = machine if host in _WILDCARDS else host
    own = f"{scheme}://{f'[{known_as}]' if ':' in known_as else known_as}:{port}"
    return Listening(
        host=host,
        port=port,
        url=settings.public_url.rstrip("/") or own,
        cert_file=settings.cert_file,
        key_file=settings.key_file,
        secure=(public.scheme or scheme) == "https",
    )


def _address(text: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port, rest = parts.hostname, parts.port, parts.path
    except ValueError:
        host = port = rest = None
    if host is None or not port or rest or "@" in text:
        raise ListeningError(f"listen = {text!r}: write HOST:PORT, as 127.0.0.1:8080 or [::]:8443")
    return host, port


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
