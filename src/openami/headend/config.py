"""HeadendConfig: one optional TOML file, overruled by flags.

store = "sqlite:////var/lib/openami/headend.db"
registers_file = "/etc/openami/vmrs-registers.json"     # the register list; ours when left out
broker_config_file = "/etc/mosquitto/conf.d/openami.conf"   # read at start, to warn of what loses data

[mqtt]
url = "mqtts://broker.example:8883"
client_id = "openami-headend"
ca_file = "/etc/openami/ca.pem"

[signing]                                               # without it, a head-end listens and commands nothing
key_file = "/etc/openami/head-end.key.pem"              # our key, named in the keyring with the role hes
roots_file = "/etc/openami/roots.json"                  # the operator's roots, who sign the keyring
disconnects_per_hour_max = 50                           # our own threshold, beside the gateways'

[completeness]
grace_s = 120                                           # a gap is asked for when nothing has filled it for so long
intervals_s = { feeder-a = 900 }                        # how often a feeder's meters report; learnt where left out

[retention]                                             # without it, no reading is ever removed
readings_keep_months = 24                               # whole months before the current one; 3 at least

[workers]                                               # several head-ends share the feeders (PostgreSQL only)
slices = 8                                              # into how many shares they are split; never changed
name = "hes-a"                                          # what people call this one; the machine's where left out
lease_s = 10                                            # who does not show itself for so long is replaced

[closing]                                               # months become Parquet; needs openami[parquet]
after_days = 45                                         # so many days after their end; 0 for never

[web]                                                   # the console and the API; without it there are none
listen = "0.0.0.0:8443"
cert_file = "/etc/openami/web.pem"
key_file = "/etc/openami/web.key.pem"
public_url = "https://head-end.example:8443"            # how people reach it, where that is another address

[proxy_auth]                                            # where a reverse proxy knows who people are
header = "X-Forwarded-User"
groups_header = "X-Forwarded-Groups"
trusted = ["127.0.0.1/32"]
groups = { village-engineers = "engineer", "*" = "viewer" }
"""

import re
import socket
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import msgspec

from openami.headend.accounts.proxy import ProxyAuthSettings, ProxyRules
from openami.headend.accounts.users import AccountError
from openami.headend.closing import AFTER_DAYS, can_close
from openami.headend.gap_life import GRACE_S
from openami.headend.horizon import KEEP_MONTHS_MIN
from openami.headend.listening import Listening, ListeningError, WebSettings, listening_of
from openami.headend.slices import SLICES_DEFAULT, SLICES_MAX, session_name
from openami.headend.store.closed import AFTER_DAYS_MIN
from openami.headend.worker_life import LEASE_MAX_S, LEASE_MIN_S, LEASE_S
from openami.mqtt.settings import CLIENT_ID_CHARS_MAX, BrokerSettings
from openami.profile import CatalogueError, RegisterCatalogue, one_line, shipped_catalogue
from openami.toml_text import read_toml

if TYPE_CHECKING:  # the commands that only read an address need no library that signs
    from openami.sip.keyring import Roots
    from openami.sip.keys import Signer

DEFAULT_STORE: Final = "sqlite:///openami.db"
# The persistent session hangs on the name: it must be the same after every restart.
DEFAULT_CLIENT_ID: Final = "openami-headend"
# A second threshold beside the gateways' own (sip.interlocks): no head-end cuts off more in an hour, whoever
# has its key. Two gateways' worth of the largest feeder.
DISCONNECTS_PER_HOUR_MAX: Final = 50
# A head-end needs nothing that only MQTT 5 has, and reads a message in two thirds of the time without its
# properties (benchmarks/RESULTS.md).
DEFAULT_PROTOCOL: Final = "3.1.1"
# What stands for a session's name in the table [mqtt]: each slice may have a certificate or a user of its own.
SESSION: Final = "{session}"
_NAMED_BY_SESSION: Final = ("cert_file", "key_file", "username", "password_file")
# A column of a table on a screen.
WORKER_NAME_CHARS_MAX: Final = 64
# A head-end's configuration is a dozen lines; a megabyte is another file.
CONFIG_BYTES_MAX: Final = 1024 * 1024


class ConfigError(ValueError):
    """The operator's configuration cannot be used; the message says where and why."""


class SigningSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """With which key this head-end commands, and whom it believes a keyring."""

    key_file: str
    roots_file: str
    disconnects_per_hour_max: Annotated[int, msgspec.Meta(ge=0)] = DISCONNECTS_PER_HOUR_MAX


class CompletenessSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What should come, and when it is asked for; the table ``[completeness]``."""

    grace_s: Annotated[float, msgspec.Meta(gt=0)] = GRACE_S
    """A gap is asked for when its gateway is heard and has filled none for so long."""
    intervals_s: dict[str, Annotated[int, msgspec.Meta(ge=1, le=86_400)]] = {}
    """How often the meters of a feeder report, in seconds, by feeder; learnt from each meter where left out."""


class RetentionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long readings are kept; the table ``[retention]``."""

    readings_keep_months: Annotated[int, msgspec.Meta(ge=KEEP_MONTHS_MIN)] | None = None
    """So many whole months before the current one; all where left out."""


class WorkersSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How several head-ends share one broker's feeders (decision 0073); the table ``[workers]``."""

    slices: Annotated[int, msgspec.Meta(ge=1, le=SLICES_MAX)] = SLICES_DEFAULT
    """Into how many shares the feeders are split; the same in every worker, and never changed."""
    name: Annotated[str, msgspec.Meta(max_length=WORKER_NAME_CHARS_MAX)] = ""
    """What people call this one; the machine's name where it is left out."""
    lease_s: Annotated[float, msgspec.Meta(ge=LEASE_MIN_S, le=LEASE_MAX_S)] = LEASE_S
    """Who has not shown itself for so long is replaced."""


class ClosingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When months are closed; the table ``[closing]``."""

    after_days: Annotated[int, msgspec.Meta(ge=0)] = AFTER_DAYS
    """So many days after a month's end; 0 is never."""


class HeadendConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a head-end has to know to run."""

    store: str = DEFAULT_STORE
    registers_file: str | None = None
    broker_config_file: str | None = None
    mqtt: BrokerSettings = msgspec.field(
        default_factory=lambda: BrokerSettings(
            client_id=DEFAULT_CLIENT_ID, protocol=DEFAULT_PROTOCOL
        )
    )
    signing: SigningSettings | None = None
    completeness: CompletenessSettings = CompletenessSettings()
    retention: RetentionSettings = RetentionSettings()
    workers: WorkersSettings | None = None
    closing: ClosingSettings | None = None
    web: WebSettings = WebSettings()
    proxy_auth: ProxyAuthSettings | None = None

    def close_after_days(self) -> int | None:
        """Return when months are closed, None for never. Raises ConfigError."""
        if self.closing is None or not self.closing.after_days:
            return None
        if self.closing.after_days < AFTER_DAYS_MIN:
            raise ConfigError(f"[closing] after_days is at least {AFTER_DAYS_MIN}, or 0 for never")
        if not can_close():
            raise ConfigError(
                "[closing] needs pyarrow: pip install 'openami[parquet]', or after_days = 0"
            )
        return self.closing.after_days

    def listening(self) -> Listening | None:
        """Return where the console and the API are reached; None where they are not. Raises ConfigError."""
        try:
            return listening_of(self.web, machine=socket.gethostname())
        except ListeningError as error:
            raise ConfigError(f"[web] {error}") from None

    def proxy_rules(self) -> ProxyRules | None:
        """Return whom a reverse proxy may speak for, where there is one. Raises ConfigError."""
        if self.proxy_auth is None:
            return None
        if not self.web.public_url:
            raise ConfigError(
                "[proxy_auth] needs [web] public_url: under what name the proxy is reached"
            )
        try:
            return ProxyRules(self.proxy_auth)
        except AccountError as error:
            raise ConfigError(f"[proxy_auth] {error}: {error.remedy}") from None

    @property
    def disconnects_per_hour_max(self) -> int:
        """How many this head-end cuts off within an hour; none where it commands nothing."""
        return 0 if self.signing is None else self.signing.disconnects_per_hour_max

    def session(self, number: int) -> BrokerSettings:
        """Return how a slice's session at the broker is reached; the rest's is that of a single head-end."""
        name = session_name(self.mqtt.client_id, number)
        given = {each: getattr(self.mqtt, each) for each in _NAMED_BY_SESSION}
        own = {each: text and text.replace(SESSION, name) for each, text in given.items()}
        return msgspec.structs.replace(self.mqtt, client_id=name, **own)

    def check_workers(self) -> None:
        """Raise ConfigError where several head-ends are to share what cannot be shared."""
        if self.workers is None:
            return
        if self.store.startswith("sqlite:"):
            raise ConfigError(
                "[workers] needs a PostgreSQL store: one SQLite file has one head-end. Move it with "
                "`openami headend migrate-store`, or take [workers] out"
            )
        if not self.mqtt.session_expiry_s:
            raise ConfigError(
                "[workers] needs sessions at the broker that outlive a worker: session_expiry_days is 0"
            )
        if self.mqtt.cert_file is not None and SESSION not in self.mqtt.cert_file:
            raise ConfigError(
                "[workers] needs a certificate for each slice, for the broker names sessions by them: write "
                f'cert_file = ".../{SESSION}.pem" in [mqtt], and make them with `openami headend certify-slices`'
            )
        longest = session_name(self.mqtt.client_id, self.workers.slices)
        if len(longest) > CLIENT_ID_CHARS_MAX:
            raise ConfigError(f"[workers] makes the client id {longest}, which is too long")

    def catalogue(self) -> RegisterCatalogue:
        """Return the register list. Raises ConfigError."""
        if self.registers_file is None:
            return shipped_catalogue()
        return read_catalogue(Path(self.registers_file))

    def keys(self) -> "tuple[Signer, Roots] | None":
        """Return our key and the pinned roots, where this head-end commands. Raises ConfigError."""
        if self.signing is None:
            return None
        # Only a head-end that commands needs the library that signs.
        from openami.keyfiles import KeyFileError, load_roots, load_signer

        try:
            signer = load_signer(Path(self.signing.key_file))
            return signer, load_roots(Path(self.signing.roots_file))
        except KeyFileError as error:
            raise ConfigError(f"{error}: {error.remedy}" if error.remedy else str(error)) from None

    def broker_config(self) -> str | None:
        """Return the text of the broker's own configuration, where one is named. Raises ConfigError."""
        if self.broker_config_file is None:
            return None
        return _read(Path(self.broker_config_file)).decode(errors="replace")


def read_catalogue(path: Path) -> RegisterCatalogue:
    """Read a register list. Raises ConfigError."""
    try:
        return RegisterCatalogue.decode(_read(path))
    except CatalogueError as error:
        raise ConfigError(f"{path}: {error}") from None


def read_config(path: Path) -> HeadendConfig:
    """Read a configuration file. Raises ConfigError, naming file, line and remedy."""
    try:
        text = _read(path).decode()
        document = read_toml(text)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    document.setdefault("mqtt", {})
    if isinstance(document["mqtt"], dict):
        document["mqtt"].setdefault("client_id", DEFAULT_CLIENT_ID)
        document["mqtt"].setdefault("protocol", DEFAULT_PROTOCOL)
    try:
        config = msgspec.convert(document, HeadendConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(path, text, one_line(str(error)))) from None
    mqtt = _beside(path, config.mqtt, "ca_file", "cert_file", "key_file", "password_file")
    web = _beside(path, config.web, "cert_file", "key_file")
    config = msgspec.structs.replace(config, mqtt=mqtt, web=web)
    return _beside(path, config, "registers_file", "broker_config_file")


_Table = TypeVar("_Table", bound=msgspec.Struct)


def _beside(path: Path, table: _Table, *names: str) -> _Table:
    """Return the table with the files it names looked for beside the configuration file."""
    given = {name: getattr(table, name) for name in names}
    found = {name: str(path.parent / file) for name, file in given.items() if file is not None}
    return msgspec.structs.replace(table, **found)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(CONFIG_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    if len(content) > CONFIG_BYTES_MAX:
        raise ConfigError(f"{path} has more than {CONFIG_BYTES_MAX} bytes: is it the right file?")
    return content


_unknown_key = re.compile(
    r"Object contains unknown field `(?P<key>.+?)`(?: - at `\$\.?(?P<at>.*)`)?"
)
_wrong_value = re.compile(r"(?P<why>.+) - at `\$\.?(?P<at>.*)`")


def _explain(path: Path, text: str, error: str) -> str:
    """Turn the validator's words into file, line, key, and a guess at what was meant."""
    if found := _unknown_key.fullmatch(error):
        table, key = found["at"] or "", found["key"]
        tables = {
            "mqtt": BrokerSettings,
            "signing": SigningSettings,
            "completeness": CompletenessSettings,
            "retention": RetentionSettings,
            "workers": WorkersSettings,
            "closing": ClosingSettings,
            "web": WebSettings,
            "proxy_auth": ProxyAuthSettings,
        }
        known = tables.get(table, HeadendConfig).__struct_fields__
        close = get_close_matches(key, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
        return f"{path}:{_line_of(text, table, key)}: unknown key {key} — {hint}"
    if found := _wrong_value.fullmatch(error):
        table, _, key = found["at"].rpartition(".")
        return f"{path}:{_line_of(text, table, key)}: {found['at']}: {found['why']}"
    return f"{path}: {error}"


def _line_of(text: str, table: str, key: str) -> int:
    """Return the line on which a key stands in a table; that of the table, or 1, when it does not."""
    here, last_of_table = "", 1
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([A-Za-z0-9_.-]+)\s*\]", line):
            here = header[1]
            if here in (table, key):
                last_of_table = number
        elif here == table and re.match(rf"""\s*["']?{re.escape(key)}["']?\s*[=.]""", line):
            return number
    return last_of_table
