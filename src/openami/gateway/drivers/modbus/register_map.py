"""Register maps: what a meter type keeps where, as data.

A map is one TOML file. It names its vendor, model and sources, says how sure each line is, and may carry
golden frames: requests and answers as they stand on an RTU line, with the values they mean. They are the
map's own tests; every map that ships has them. The keys are described in docs/drivers.md; an unknown key
is an error.

Pure: text in, RegisterMap out.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from openami.gateway import map_files
from openami.gateway.driver import KeyPath, RegisterInfo, RelayPosition
from openami.gateway.map_files import RegisterTable
from openami.gateway.strict import TableError
from openami.profile import Obis

# As many as `decimals` may be. Values are computed exactly: 1e-999999999 would take a gigabyte for each.
SCALE_DECIMALS_MAX: Final = 9
CODE_CHARS_MAX: Final = 20  # the largest u64
READ_REGISTERS_MAX: Final = 125  # Modbus application protocol: what fits one answer


class Area(StrEnum):
    """The table a register stands in, and so the function that reads it."""

    HOLDING = "holding"
    INPUT = "input"

    @property
    def function(self) -> int:
        """Modbus function code: 3 reads holding registers, 4 input registers."""
        return 3 if self is Area.HOLDING else 4


class NumberType(StrEnum):
    """How a value is spelled in 16-bit registers."""

    U16 = "u16"
    I16 = "i16"
    U32 = "u32"
    I32 = "i32"
    U64 = "u64"
    I64 = "i64"
    FLOAT32 = "float32"
    ASCII = "ascii"

    @property
    def words(self) -> int:
        """How many registers it takes; 0 where the map must say (``words``)."""
        return {"u16": 1, "i16": 1, "u64": 4, "i64": 4, "ascii": 0}.get(self.value, 2)

    @property
    def signed(self) -> bool:
        return self in (NumberType.I16, NumberType.I32, NumberType.I64, NumberType.FLOAT32)


class WordOrder(StrEnum):
    """Which word of a long value comes first; bytes within a word are always high first."""

    BIG = "big"
    LITTLE = "little"


class Certainty(StrEnum):
    """How sure a line is."""

    MANUAL = "manual"
    """Read in the vendor's manual."""
    FIELD = "field"
    """Used by others on real meters, or confirmed on one."""
    UNVERIFIED = "unverified"
    """Engineering knowledge: compare with the meter's display before you rely on it."""


class Ratio(StrEnum):
    """A transformer ratio the meter's values still have to be multiplied by."""

    CT = "ct_ratio"
    PT = "pt_ratio"


class Part(StrEnum):
    """Which part of a signed value a register publishes."""

    WHOLE = "whole"
    POSITIVE = "positive"
    NEGATIVE = "negative"
    """The size of what is below zero: 2.7.0 of a power that is negative on export."""


# --- the file ------------------------------------------------------------------------------------

_Address = Annotated[int, Meta(ge=0, le=0xFFFF)]
_Word = Annotated[int, Meta(ge=0, le=0xFFFF)]
_Words = Annotated[int, Meta(ge=1, le=16)]
_ReadMax = Annotated[int, Meta(ge=1, le=READ_REGISTERS_MAX)]
_Gap = Annotated[int, Meta(ge=0, le=READ_REGISTERS_MAX)]


class _Register(RegisterTable, frozen=True, kw_only=True, forbid_unknown_fields=True):
    address: _Address
    type: NumberType
    area: Area | None = None
    word_order: WordOrder | None = None
    words: _Words | None = None
    scale: Decimal = Decimal(1)
    split_sign: Obis | None = None
    net: Obis | None = None
    four_quadrant: bool = False
    multiply: tuple[Ratio, ...] = ()
    sentinels: tuple[int, ...] = ()
    values: dict[str, str] = msgspec.field(default_factory=dict)
    certainty: Certainty | None = None


class SerialDefaults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the meter's port is set when it leaves the factory; always 8 data bits."""

    baudrate: Literal[1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200] = 9600
    parity: Literal["N", "E", "O"] = "N"
    stopbits: Literal[1, 2] = 1


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one read may ask for. ``max_gap``: how many registers the map does not know may be read along."""

    max_read_registers: _ReadMax = READ_REGISTERS_MAX
    max_gap: _Gap = 0


class _Identify(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    address: _Address
    type: NumberType
    area: Area | None = None
    word_order: WordOrder | None = None
    words: _Words | None = None
    certainty: Certainty | None = None
    note: str = ""


class Relay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the contactor's position is read (function 3) and ordered, and by which codes."""

    address: _Address
    write_function: Literal[6, 16]
    connected: _Word
    disconnected: _Word
    ready_for_reconnection: _Word | None = None
    """The code by which the customer's own button may close it, where the meter has one."""
    certainty: Certainty = Certainty.UNVERIFIED
    note: str = ""

    @property
    def field(self) -> "Field":
        """Where its position is read."""
        return Field(Area.HOLDING, self.address, 1, NumberType.U16, WordOrder.BIG)

    @property
    def codes(self) -> Mapping[RelayPosition, int]:
        """The positions this meter knows."""
        codes = {
            RelayPosition.CONNECTED: self.connected,
            RelayPosition.DISCONNECTED: self.disconnected,
        }
        if self.ready_for_reconnection is not None:
            codes[RelayPosition.READY_FOR_RECONNECTION] = self.ready_for_reconnection
        return codes


class Golden(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request and its answer as bytes on an RTU line (hex), and what they mean.

    A value of "" says that the register has no value there (a sentinel).
    """

    name: str
    request: str
    response: str
    expect: dict[str, str]
    options: dict[str, Decimal] = {}


class _MapFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str
    vendor: str
    model: str
    source: tuple[str, ...]
    certainty: Certainty
    register: tuple[_Register, ...]
    golden: tuple[Golden, ...] = ()
    models: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    area: Area = Area.HOLDING
    word_order: WordOrder = WordOrder.BIG
    sentinels: dict[NumberType, tuple[int, ...]] = {}
    serial: SerialDefaults = SerialDefaults()
    limits: Limits = Limits()
    identify: _Identify | None = None
    relay: Relay | None = None


# --- the map -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Field:
    """Where a value's bits are, and how they are spelled."""

    area: Area
    address: int
    count: int
    type: NumberType
    word_order: WordOrder

    @property
    def end(self) -> int:
        return self.address + self.count


@dataclass(frozen=True, slots=True)
class Register:
    """One register as it is published: whence, how scaled, and how it is to be judged."""

    info: RegisterInfo
    field: Field
    scale: Decimal
    decimals: int
    part: Part
    four_quadrant: bool
    multiply: tuple[Ratio, ...]
    sentinels: frozenset[int]
    certainty: Certainty
    values: Mapping[int, str] = dataclasses.field(default_factory=dict, hash=False)
    """What the codes of an enumeration mean, e.g. 0: disconnected; empty for a number."""
    scale_factor_last: bool = False
    """The field goes on to a last word that tells by which power of ten the meter means the value."""


@dataclass(frozen=True, slots=True)
class RegisterMap:
    """A meter type."""

    id: str
    vendor: str
    model: str
    source: tuple[str, ...]
    certainty: Certainty
    registers: Mapping[Obis, Register]
    fields: tuple[Field, ...]
    """Every place that may be read, in order; the planner may read a neighbour along."""
    limits: Limits
    serial: SerialDefaults
    identify: Field | None
    relay: Relay | None
    golden: tuple[Golden, ...]
    witnesses: Mapping[Field, int] = dataclasses.field(default_factory=dict)
    """What a meter must hold for the map to be its own; read along with every value."""

    @property
    def ratios(self) -> frozenset[Ratio]:
        """The transformer ratios a meter of this type must be configured with."""
        return frozenset(r for register in self.registers.values() for r in register.multiply)


def read_map(text: str) -> RegisterMap:
    """Return the map a TOML text describes. Raises MapError."""
    return map_files.read(text, _MapFile, _build)


def _build(file: _MapFile) -> RegisterMap:
    registers: dict[Obis, Register] = {}
    for at, entry in enumerate(file.register):
        for register in _registers(file, entry, ("register", at)):
            if register.info.obis in registers:
                raise TableError(f"{register.info.obis} stands twice", path=("register", at))
            registers[register.info.obis] = register
    map_files.check_whole(registers, file.source)
    if file.relay is not None and len(set(file.relay.codes.values())) < len(file.relay.codes):
        raise TableError("two positions have one code", path=("relay",))
    identify = file.identify
    return RegisterMap(
        id=file.id,
        vendor=file.vendor,
        model=file.model,
        source=file.source,
        certainty=file.certainty,
        registers=registers,
        fields=_in_order(register.field for register in registers.values()),
        limits=file.limits,
        serial=file.serial,
        identify=None if identify is None else _field(file, identify, ("identify",)),
        relay=file.relay,
        golden=file.golden,
    )


def _in_order(fields: Iterable[Field]) -> tuple[Field, ...]:
    return tuple(sorted(set(fields)))


def _registers(file: _MapFile, entry: _Register, path: KeyPath) -> Iterable[Register]:
    field = _field(file, entry, path)
    _check(entry, path)
    yield _register(file, entry, field, entry.obis, _first_part(entry))
    if entry.split_sign is not None:
        yield _register(file, entry, field, entry.split_sign, Part.NEGATIVE)
    if entry.net is not None:
        yield _register(file, entry, field, entry.net, Part.WHOLE)


def _first_part(entry: _Register) -> Part:
    return Part.WHOLE if entry.split_sign is None else Part.POSITIVE


def _check(entry: _Register, path: KeyPath) -> None:
    if entry.split_sign is not None and not entry.type.signed:
        raise TableError(f"{entry.type} has no sign to split", path=(*path, "split_sign"))
    if entry.net is not None and entry.split_sign is None:
        raise TableError("net goes with split_sign", path=(*path, "net"))
    if entry.type is NumberType.FLOAT32 and entry.decimals is None:
        raise TableError("a float32 needs its decimals", path=(*path, "decimals"))
    if not entry.scale.is_finite() or entry.scale == 0:
        raise TableError("the scale is a number other than 0", path=(*path, "scale"))
    # Its size first: to count the decimals of 1e-999999999 rounds it to 0.
    if abs(entry.scale.adjusted()) > SCALE_DECIMALS_MAX or (
        decimals_of(entry.scale) > SCALE_DECIMALS_MAX
    ):
        raise TableError(
            f"the scale has at most {SCALE_DECIMALS_MAX} decimals and {SCALE_DECIMALS_MAX + 1} digits",
            path=(*path, "scale"),
        )
    if entry.type is NumberType.ASCII and (entry.scale != 1 or entry.multiply):
        raise TableError("text is not scaled", path=(*path, "scale"))
    if entry.values:
        _check_enumeration(entry, path)


def _check_enumeration(entry: _Register, path: KeyPath) -> None:
    if entry.type.signed or entry.type is NumberType.ASCII:
        raise TableError("values go with u16, u32 or u64", path=(*path, "values"))
    if entry.scale != 1 or entry.multiply or entry.decimals is not None:
        raise TableError("an enumeration is not scaled", path=(*path, "values"))
    for code in entry.values:
        if (
            len(code) > CODE_CHARS_MAX
            or not (code.isascii() and code.isdecimal())
            or str(int(code)) != code
        ):
            raise TableError(
                f"{code!r} is no code: write the whole number the register holds",
                path=(*path, "values"),
            )


def _field(file: _MapFile, entry: _Register | _Identify, path: KeyPath) -> Field:
    if (entry.type is NumberType.ASCII) != (entry.words is not None):
        raise TableError("words goes with ascii, and with nothing else", path=(*path, "words"))
    count = entry.words or entry.type.words
    if entry.address + count > 0x10000:
        raise TableError("it ends beyond register 65535", path=(*path, "address"))
    if count > file.limits.max_read_registers:
        raise TableError("it is longer than one read may be", path=(*path, "type"))
    return Field(
        area=entry.area or file.area,
        address=entry.address,
        count=count,
        type=entry.type,
        word_order=entry.word_order or file.word_order,
    )


def _register(file: _MapFile, entry: _Register, field: Field, obis: Obis, part: Part) -> Register:
    decimals = decimals_of(entry.scale) if entry.decimals is None else entry.decimals
    minimum, maximum = _range_of(entry.info, part)
    return Register(
        info=dataclasses.replace(
            entry.info,
            obis=obis,
            decimals=None if entry.type is NumberType.ASCII or entry.values else decimals,
            minimum=minimum,
            maximum=maximum,
        ),
        field=field,
        scale=entry.scale,
        decimals=decimals,
        part=part,
        four_quadrant=entry.four_quadrant,
        multiply=entry.multiply,
        sentinels=frozenset((*entry.sentinels, *file.sentinels.get(entry.type, ()))),
        certainty=entry.certainty or file.certainty,
        values={int(code): meaning for code, meaning in entry.values.items()},
    )


def _range_of(info: RegisterInfo, part: Part) -> tuple[float | None, float | None]:
    match part:
        case Part.WHOLE:
            return info.minimum, info.maximum
        case Part.POSITIVE:
            return 0.0, info.maximum
        case Part.NEGATIVE:
            return 0.0, None if info.minimum is None else -info.minimum


def decimals_of(scale: Decimal) -> int:
    """Return how many decimals a value of this scale has."""
    exponent = scale.normalize().as_tuple().exponent
    assert isinstance(exponent, int)  # finite, checked
    return max(0, -exponent)


def wanted(register_map: RegisterMap, codes: Sequence[Obis]) -> tuple[Register, ...]:
    """Return the map's registers for these codes, in their order; what the map lacks is left out."""
    known = register_map.registers
    return tuple(known[code] for code in dict.fromkeys(codes) if code in known)
