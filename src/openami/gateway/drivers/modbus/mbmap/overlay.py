"""The overlay: what an mbmap file cannot say. A TOML file beside it."""

from decimal import Decimal
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from openami.gateway.driver import PollGroup
from openami.gateway.drivers.modbus.register_map import Certainty, Golden, Ratio
from openami.gateway.map_files import MapError
from openami.gateway.strict import TableError, convert
from openami.profile import Obis
from openami.toml_text import TomlError, read_toml

OVERLAY_CHARS_MAX: Final = 256 * 1024  # as long as a register map may be

_Word = Annotated[int, Meta(ge=0, le=0xFFFF)]
_Words = Annotated[int, Meta(ge=1, le=16)]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """One register that is wanted, by its name in the mbmap file; ``group/name`` where a name stands twice."""

    name: str
    obis: Obis
    poll: PollGroup = PollGroup.FAST
    decimals: int | None = None
    unit: str | None = None
    """What its scaled value is in, where the file says nothing or something we do not know."""
    words: _Words | None = None
    """How long a text is."""
    split_sign: Obis | None = None
    net: Obis | None = None
    four_quadrant: bool = False
    multiply: tuple[Ratio, ...] = ()
    values: dict[str, str] = {}
    """What codes mean, instead of the file's own words for them."""
    sentinels: tuple[int, ...] = ()
    min: Decimal | None = None
    max: Decimal | None = None
    monotonic: bool = False
    rollover: Decimal | None = None
    certainty: Certainty | None = None
    note: str = ""


class WantedIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Which register tells the meter's own serial number."""

    name: str
    words: _Words | None = None


class WantedRelay(msgspec.Struct, frozen=True, kw_only=True):
    """Which register holds the relay, and its codes."""

    name: str
    write_function: Literal[6, 16]
    connected: _Word
    disconnected: _Word
    ready_for_reconnection: _Word | None = None
    note: str = ""


class Overlay(msgspec.Struct, frozen=True, kw_only=True):
    """A whole overlay."""

    id: str
    register: tuple[Wanted, ...]
    max_gap: int = 0
    """How many registers nobody wants a read may cross; an mbmap file does not say."""
    certainty: Certainty | None = None
    """Instead of what the file's x_status says."""
    ignore: tuple[str, ...] = ()
    """Keys of the file's head that change nothing for these registers."""
    identify: WantedIdentity | None = None
    relay: WantedRelay | None = None
    golden: tuple[Golden, ...] = ()


def read_overlay(text: str) -> Overlay:
    """Return an overlay. Raises MapError."""
    if len(text) > OVERLAY_CHARS_MAX:
        raise MapError(f"it has {len(text)} characters, at most {OVERLAY_CHARS_MAX} are read")
    try:
        return convert(read_toml(text, parse_float=Decimal), Overlay)
    except TomlError as error:
        raise MapError(f"the file {error}") from None
    except TableError as error:
        raise MapError(str(error)) from None
