"""The table ``[workers]``: how several head-ends share one broker's feeders (decision 0073), and what it needs."""

from typing import Annotated, Final

import msgspec

from openami.config_file import ConfigError
from openami.headend.slices import SLICES_DEFAULT, SLICES_MAX, session_name
from openami.headend.worker_life import LEASE_MAX_S, LEASE_MIN_S, LEASE_S
from openami.mqtt.settings import CLIENT_ID_CHARS_MAX, BrokerSettings

# What stands for a session's name in the table [mqtt]: each slice may have a certificate or a user of its own.
SESSION: Final = "{session}"
_NAMED_BY_SESSION: Final = ("cert_file", "key_file", "username", "password_file")
# A column of a table on a screen.
WORKER_NAME_CHARS_MAX: Final = 64


class WorkersSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table."""

    slices: Annotated[int, msgspec.Meta(ge=1, le=SLICES_MAX)] = SLICES_DEFAULT
    """Into how many shares the feeders are split; the same in every worker, and never changed."""
    name: Annotated[str, msgspec.Meta(max_length=WORKER_NAME_CHARS_MAX)] = ""
    """What people call this one; the machine's name where it is left out."""
    lease_s: Annotated[float, msgspec.Meta(ge=LEASE_MIN_S, le=LEASE_MAX_S)] = LEASE_S
    """Who has not shown itself for so long is replaced."""

    def check(self, store: str, mqtt: BrokerSettings) -> None:
        """Raise ConfigError where this store or this broker cannot be shared."""
        if store.startswith("sqlite:"):
            raise ConfigError(
                "[workers] needs a PostgreSQL store: one SQLite file has one head-end. Move it with "
                "`openami headend migrate-store`, or take [workers] out"
            )
        if not mqtt.session_expiry_s:
            raise ConfigError(
                "[workers] needs sessions at the broker that outlive a worker: session_expiry_days is 0"
            )
        if mqtt.cert_file is not None and SESSION not in mqtt.cert_file:
            raise ConfigError(
                "[workers] needs a certificate for each slice, for the broker names sessions by them: write "
                f'cert_file = ".../{SESSION}.pem" in [mqtt], and make them with `openami headend certify-slices`'
            )
        longest = session_name(mqtt.client_id, self.slices)
        if len(longest) > CLIENT_ID_CHARS_MAX:
            raise ConfigError(f"[workers] makes the client id {longest}, which is too long")


def session_settings(mqtt: BrokerSettings, number: int) -> BrokerSettings:
    """Return how a slice's session at the broker is reached; the rest's is that of a single head-end."""
    name = session_name(mqtt.client_id, number)
    given = {each: getattr(mqtt, each) for each in _NAMED_BY_SESSION}
    own = {each: text and text.replace(SESSION, name) for each, text in given.items()}
    return msgspec.structs.replace(mqtt, client_id=name, **own)
