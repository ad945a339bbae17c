"""BrokerSettings: where the broker is and who we are to it; the table ``[mqtt]`` of a configuration."""

import ipaddress
from dataclasses import dataclass
from typing import Literal
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

Protocol = Literal["5", "3.1.1"]

DEFAULT_URL = "mqtt://127.0.0.1:1883"
_PORTS = {"mqtt": 1883, "mqtts": 8883}  # IANA

# Below 5 s a GPRS link is kept busy by pings alone; above 20 minutes most carriers' address
# translation has forgotten the connection, and a dead one would go unnoticed.
KEEPALIVE_S_MIN = 5
KEEPALIVE_S_MAX = 1200
# TCP, TLS and MQTT handshakes together; over GPRS with 2 s round trips they take about 12 s.
CONNECT_TIMEOUT_S_MAX = 300
# A broker that keeps the messages of a client gone for a year keeps them for nobody.
SESSION_EXPIRY_DAYS_MAX = 365
CLIENT_ID_CHARS_MAX = 256
# A cluster has three or five nodes. Each address may cost a connect timeout before its turn is over.
ADDRESSES_MAX = 8
SECONDS_A_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A broker's address, taken out of its URL."""

    tls: bool
    host: str
    port: int
    username: str | None

    @property
    def is_loopback(self) -> bool:
        """Whether what is sent there stays on this machine."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"


class BrokerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the broker is and who we are to it. Raises ValueError, naming the remedy.

    Certificates: over ``mqtts`` the broker's is always verified, against ``ca_file`` or, without one,
    against the authorities of the system. ``cert_file`` and ``key_file`` are ours.

    ``urls`` in place of ``url`` are the addresses of one cluster, tried in turn (`ClusterPort`). What is not
    a cluster must not stand there: a session left at one broker is not found at another.

    ``session_expiry_days`` is how long the broker keeps what we have not acknowledged after we have gone;
    0 asks for no session at all. It is the client's word in MQTT 5 only; in 3.1.1 the broker's
    configuration decides.
    """

    url: str = DEFAULT_URL
    urls: tuple[str, ...] = ()
    client_id: str = ""
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    username: str | None = None
    password_file: str | None = None
    protocol: Protocol = "5"
    keepalive_s: int = 60
    connect_timeout_s: float = 30.0
    session_expiry_days: float = 14.0

    def __post_init__(self) -> None:
        if self.urls:
            self._check_urls()
            return
        endpoint = parse_url(self.url)
        self._check_tls_files(endpoint)
        self._check_login(endpoint)
        _check_client_id(self.client_id)
        _check_range("keepalive_s", self.keepalive_s, KEEPALIVE_S_MIN, KEEPALIVE_S_MAX)
        _check_range("connect_timeout_s", self.connect_timeout_s, 0.1, CONNECT_TIMEOUT_S_MAX)
        _check_range("session_expiry_days", self.session_expiry_days, 0, SESSION_EXPIRY_DAYS_MAX)

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        client_id: str = "",
        ca_file: str | None = None,
        cert_file: str | None = None,
        key_file: str | None = None,
        username: str | None = None,
        password_file: str | None = None,
        protocol: Protocol = "5",
        session_expiry_days: float = 14.0,
    ) -> "BrokerSettings":
        """Return the settings a command line gives. Raises ValueError, naming the remedy."""
        return cls(
            url=url,
            client_id=client_id,
            ca_file=ca_file,
            cert_file=cert_file,
            key_file=key_file,
            username=username,
            password_file=password_file,
            protocol=protocol,
            session_expiry_days=session_expiry_days,
        )

    @property
    def addresses(self) -> tuple[str, ...]:
        """The URLs that lead to the broker; more than one where it is a cluster."""
        return self.urls or (self.url,)

    def at(self, url: str) -> "BrokerSettings":
        """Return the settings for one of the addresses. Raises ValueError, naming the remedy."""
        return msgspec.structs.replace(self, url=url, urls=())

    @property
    def endpoint(self) -> Endpoint:
        """The address in the URL; of several, the first."""
        return parse_url(self.addresses[0])

    @property
    def place(self) -> str:
        """Where the broker is, for people: every address of it."""
        return ", ".join(str(parse_url(url)) for url in self.addresses)

    @property
    def login(self) -> str | None:
        """The user name we give, wherever it was written."""
        return self.username or self.endpoint.username

    @property
    def session_expiry_s(self) -> int:
        """How long the broker keeps our session, in whole seconds."""
        return round(self.session_expiry_days * SECONDS_A_DAY)

    def cautions(self) -> tuple[str, ...]:
        """Return what the operator should be told at start, in sentences; mostly nothing."""
        endpoints = [parse_url(url) for url in self.addresses]
        return tuple(
            f"{endpoint} is not encrypted and not on this machine: anybody on the way can read and "
            "change readings, and the profile requires TLS in production; use mqtts:// and ca_file"
            for endpoint in endpoints
            if not (endpoint.tls or endpoint.is_loopback)
        )

    def _check_urls(self) -> None:
        if self.url != DEFAULT_URL:
            raise ValueError("url and urls are both given: write every address in urls")
        if len(self.urls) > ADDRESSES_MAX:
            raise ValueError(f"urls has {len(self.urls)} addresses, at most {ADDRESSES_MAX}")
        endpoints = [self.at(url).endpoint for url in self.urls]
        if len({(endpoint.host, endpoint.port) for endpoint in endpoints}) < len(endpoints):
            raise ValueError("urls names one address twice: write each node of the cluster once")
        if len({endpoint.tls for endpoint in endpoints}) > 1:
            raise ValueError("urls mixes mqtt:// and mqtts://: write all of them with mqtts://")

    def _check_tls_files(self, endpoint: Endpoint) -> None:
        given = [n for n in ("ca_file", "cert_file", "key_file") if getattr(self, n) is not None]
        if given and not endpoint.tls:
            raise ValueError(
                f"{given[0]} is for mqtts:// but the broker's url is {self.url}: write "
                f"mqtts://{endpoint.host} or take {given[0]} out"
            )
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("key_file without cert_file: name the certificate this key belongs to")

    def _check_login(self, endpoint: Endpoint) -> None:
        if self.username and endpoint.username and self.username != endpoint.username:
            raise ValueError(
                f"the url names user {endpoint.username!r} and username is {self.username!r}: "
                "write it in one place"
            )
        if self.password_file is not None and self.login is None:
            raise ValueError("password_file without username: name the user it belongs to")


def parse_url(url: str) -> Endpoint:
    """Return the address a broker URL names. Raises ValueError, naming the remedy."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"the broker url {url!r} cannot be read: {error}") from None
    if parts.scheme not in _PORTS:
        raise ValueError(
            f"the broker url {url!r} must begin with mqtt:// or mqtts:// (TLS), "
            "e.g. mqtts://broker.example:8883"
        )
    if not parts.hostname:
        raise ValueError("the broker url names no host; write e.g. mqtts://broker.example:8883")
    _check_nothing_more(parts)
    if port == 0:
        raise ValueError("the broker url names port 0; write 8883 for TLS or 1883 without")
    return Endpoint(
        tls=parts.scheme == "mqtts",
        host=parts.hostname,
        port=port or _PORTS[parts.scheme],
        username=unquote(parts.username) if parts.username else None,
    )


def _check_nothing_more(parts: SplitResult) -> None:
    if parts.password is not None:
        # Never repeat the url here: what holds a password does not belong in a log.
        raise ValueError(
            "the broker url holds a password, which others can read in the list of processes: "
            "put it in a file and name that as password_file"
        )
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(
            "the broker url has something after the port; topics are the profile's, so write only "
            "mqtts://host:port"
        )


def _check_client_id(client_id: str) -> None:
    if len(client_id) > CLIENT_ID_CHARS_MAX:
        raise ValueError(
            f"client_id has {len(client_id)} characters, at most {CLIENT_ID_CHARS_MAX} are allowed"
        )
    if any(sign in client_id for sign in "+#") or not client_id.isprintable():
        # mosquitto refuses + and # where an ACL pattern could be widened by them.
        raise ValueError(
            f"client_id {client_id!r} holds a character brokers refuse: + # or control"
        )


def _check_range(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name} is {value}, it must be between {least} and {most}")
