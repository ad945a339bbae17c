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
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from openami.config_file import ConfigError as ConfigError
from openami.config_file import beside, meant, read_bytes, unknown_key, wrong_value
from openami.headend.accounts.proxy import ProxyAuthSettings, ProxyRules
from openami.headend.accounts.users import AccountError
from openami.headend.closing import AFTER_DAYS, can_close
from openami.headend.completeness import CompletenessSettings
from openami.headend.horizon import RetentionSettings
from openami.headend.listening import Listening, ListeningError, WebSettings, listening_of
from openami.headend.signing import SigningSettings
from openami.headend.store.closed import AFTER_DAYS_MIN
from openami.headend.worker_settings import WorkersSettings, session_settings
from openami.mqtt.settings import BrokerSettings
from openami.profile import CatalogueError, RegisterCatalogue, one_line, shipped_catalogue
from openami.toml_text import read_toml

if TYPE_CHECKING:
    from openami.sip.keyring import Roots
    from openami.sip.keys import Signer

DEFAULT_STORE: Final = "sqlite:///openami.db"
# The persistent session hangs on the name: it must be the same after every restart.
DEFAULT_CLIENT_ID: Final = "openami-headend"


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
        default_factory=lambda: BrokerSettings(client_id=DEFAULT_CLIENT_ID)
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
        return session_settings(self.mqtt, number)

    def check_workers(self) -> None:
        """Raise ConfigError where several head-ends are to share what cannot be shared."""
        if self.workers is not None:
            self.workers.check(self.store, self.mqtt)

    def catalogue(self) -> RegisterCatalogue:
        """Return the register list. Raises ConfigError."""
        if self.registers_file is None:
            return shipped_catalogue()
        return read_catalogue(Path(self.registers_file))

    def keys(self) -> "tuple[Signer, Roots] | None":
        """Return our key and the pinned roots, where this head-end commands. Raises ConfigError."""
        return None if self.signing is None else self.signing.keys()

    def broker_config(self) -> str | None:
        """Return the text of the broker's own configuration, where one is named. Raises ConfigError."""
        if self.broker_config_file is None:
            return None
        return read_bytes(Path(self.broker_config_file)).decode(errors="replace")


def read_catalogue(path: Path) -> RegisterCatalogue:
    """Read a register list. Raises ConfigError."""
    try:
        return RegisterCatalogue.decode(read_bytes(path))
    except CatalogueError as error:
        raise ConfigError(f"{path}: {error}") from None


def read_config(path: Path) -> HeadendConfig:
    """Read a configuration file. Raises ConfigError, naming file, line and remedy."""
    content = read_bytes(path)
    try:
        text = content.decode()
        document = read_toml(text)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    document.setdefault("mqtt", {})
    if isinstance(document["mqtt"], dict):
        document["mqtt"].setdefault("client_id", DEFAULT_CLIENT_ID)
    try:
        config = msgspec.convert(document, HeadendConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(path, text, one_line(str(error)))) from None
    mqtt = beside(path, config.mqtt, "ca_file", "cert_file", "key_file", "password_file")
    web = beside(path, config.web, "cert_file", "key_file")
    config = msgspec.structs.replace(config, mqtt=mqtt, web=web)
    return beside(path, config, "registers_file", "broker_config_file")


def _explain(path: Path, text: str, error: str) -> str:
    """Turn the validator's words into file, line, key, and a guess at what was meant."""
    if unknown := unknown_key(error):
        table, key = unknown
        tables: dict[str, type[msgspec.Struct]] = {
            "mqtt": BrokerSettings,
            "signing": SigningSettings,
            "completeness": CompletenessSettings,
            "retention": RetentionSettings,
            "workers": WorkersSettings,
            "closing": ClosingSettings,
            "web": WebSettings,
            "proxy_auth": ProxyAuthSettings,
        }
        hint = meant(key, tables.get(table, HeadendConfig))
        return f"{path}:{_line_of(text, table, key)}: unknown key {key} — {hint}"
    if wrong := wrong_value(error):
        at, why = wrong
        table, _, key = at.rpartition(".")
        return f"{path}:{_line_of(text, table, key)}: {at}: {why}"
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
