"""The table ``[signing]``: with which key this head-end commands, and whom it believes a keyring."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from openami.config_file import ConfigError

if TYPE_CHECKING:  # the commands that only read an address need no library that signs
    from openami.sip.keyring import Roots
    from openami.sip.keys import Signer

# A second threshold beside the gateways' own (sip.interlocks): no head-end cuts off more in an hour, whoever
# has its key. Two gateways' worth of the largest feeder.
DISCONNECTS_PER_HOUR_DEFAULT: Final = 50


class SigningSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table."""

    key_file: str
    roots_file: str
    disconnects_per_hour_max: Annotated[int, msgspec.Meta(ge=0)] = DISCONNECTS_PER_HOUR_DEFAULT

    def keys(self) -> "tuple[Signer, Roots]":
        """Return our key and the pinned roots. Raises ConfigError."""
        # Only a head-end that commands needs the library that signs.
        from openami.keyfiles import KeyFileError, load_roots, load_signer

        try:
            return load_signer(Path(self.key_file)), load_roots(Path(self.roots_file))
        except KeyFileError as error:
            raise ConfigError(f"{error}: {error.remedy}" if error.remedy else str(error)) from None
