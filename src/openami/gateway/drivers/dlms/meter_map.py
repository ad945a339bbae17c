"""Meter maps: which objects of a meter hold which registers of the list, as data.

A map is one TOML file. DLMS meters tell scaler and unit themselves, so a map says where a register is and how
it is to be judged, and no more. The keys are described in docs/drivers.md; an unknown key is an error.

Pure: text in, MeterMap out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from openami.gateway import map_files
from openami.gateway.driver import KeyPath, RegisterInfo
from openami.gateway.drivers.dlms.apdu import Attribute
from openami.gateway.drivers.dlms.cosem import VALUE, ClassId, logical_name
from openami.gateway.map_files import RegisterTable
from openami.gateway.strict import TableError
from openami.profile import Obis, ProfileError
from openami.profile.event import EVENT_NAME_PATTERN

MAKERS_OWN: Final = "maker"
"""The numbering of event codes where the map does not say whose it is: nobody's that we know."""
SCALE_DECIMALS_MAX: Final = 9  # computed exactly: 1e-999999999 would take a gigabyte for each value


class Certainty(StrEnum):
    """How sure a line is."""

    STANDARD = "standard"
    """The code's meaning in IEC 62056-6-1 and the class's in 62056-6-2."""
    COMPANION = "companion"
    """A published companion standard or vendor document has it so."""
    UNVERIFIED = "unverified"
    """Engineering knowledge: compare with the meter's display before you rely on it."""


class Kind(StrEnum):
    """What an attribute's value becomes."""

    SCALED = "scaled"
    """A number with the meter's own scaler and unit."""
    NUMBER = "number"
    """A number with the map's own scale and unit."""
    TEXT = "text"
    TIME = "time"
    RELAY = "relay"


# --- the file ------------------------------------------------------------------------------------

_Numbering = Annotated[str, Meta(pattern=f"^{EVENT_NAME_PATTERN}$")]
_AttributeIndex = Annotated[int, Meta(ge=1, le=127)]


class _Register(RegisterTable, frozen=True, kw_only=True, forbid_unknown_fields=True):
    class_id: ClassId = msgspec.field(name="class")
    object: str | None = None
    attribute: _AttributeIndex = VALUE
    text: bool = False
    scale: Decimal | None = None
    certainty: Certainty | None = None


class _Identify(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    object: str
    class_id: ClassId = msgspec.field(name="class", default=ClassId.DATA)
    attribute: _AttributeIndex = VALUE
    certainty: Certainty | None = None
    note: str = ""


class _Place(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    object: str
    certainty: Certainty | None = None
    note: str = ""


class _EventLog(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    object: str
    code_system: _Numbering | None = None
    certainty: Certainty | None = None
    note: str = ""


class _MapFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str
    vendor: str
    model: str
    source: tuple[str, ...]
    certainty: Certainty
    register: tuple[_Register, ...]
    models: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    identify: _Identify | None = None
    relay: _Place | None = None
    load_profile: _Place | None = None
    code_system: _Numbering = MAKERS_OWN
    event_log: tuple[_EventLog, ...] = ()


# --- the map -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Register:
    """One register as it is published: from which attribute, and how it is to be judged."""

    info: RegisterInfo
    attribute: Attribute
    kind: Kind
    scale: Decimal
    certainty: Certainty

    @property
    def scaler(self) -> Attribute:
        """The attribute that tells its power of ten and its unit."""
        index = ClassId(self.attribute.class_id).scaler_attribute
        assert index is not None, "only a scaled register has one"
        return Attribute(self.attribute.class_id, self.attribute.name, index)


@dataclass(frozen=True, slots=True)
class EventLogPlace:
    """An event log: its object, and whose numbering its codes are of."""

    object: bytes
    code_system: str

    @property
    def name(self) -> str:
        """The object as people write it: 0-0:99.98.1."""
        a, b, c, d, e, _ = self.object
        return f"{a}-{b}:{c}.{d}.{e}"


@dataclass(frozen=True, slots=True)
class MeterMap:
    """A meter type."""

    id: str
    vendor: str
    model: str
    source: tuple[str, ...]
    certainty: Certainty
    registers: Mapping[Obis, Register]
    identify: Attribute | None
    relay: bytes | None
    """The logical name of the disconnect control object."""
    load_profile: bytes | None
    event_logs: tuple[EventLogPlace, ...]

    def numbered_by(self, code_system: str) -> "MeterMap":
        """Return the map of a meter whose event codes are of another numbering."""
        logs = tuple(replace(log, code_system=code_system) for log in self.event_logs)
        return replace(self, event_logs=logs)


def read_map(text: str) -> MeterMap:
    """Return the map a TOML text describes. Raises MapError."""
    return map_files.read(text, _MapFile, _build)


def wanted(meter_map: MeterMap, codes: Sequence[Obis]) -> tuple[Register, ...]:
    """Return the map's registers for these codes, in their order; what the map lacks is left out."""
    known = meter_map.registers
    return tuple(known[code] for code in dict.fromkeys(codes) if code in known)


def _build(file: _MapFile) -> MeterMap:
    registers: dict[Obis, Register] = {}
    for at, entry in enumerate(file.register):
        if entry.obis in registers:
            raise TableError(f"{entry.obis} stands twice", path=("register", at))
        registers[entry.obis] = _register(file, entry, ("register", at))
    map_files.check_whole(registers, file.source)
    identify, relay, profile = file.identify, file.relay, file.load_profile
    return MeterMap(
        id=file.id,
        vendor=file.vendor,
        model=file.model,
        source=file.source,
        certainty=file.certainty,
        registers=registers,
        identify=None
        if identify is None
        else Attribute(
            identify.class_id,
            _name(identify.object, ("identify", "object")),
            identify.attribute,
        ),
        relay=None if relay is None else _name(relay.object, ("relay", "object")),
        load_profile=None if profile is None else _name(profile.object, ("load_profile", "object")),
        event_logs=tuple(
            EventLogPlace(
                _name(log.object, ("event_log", at, "object")), log.code_system or file.code_system
            )
            for at, log in enumerate(file.event_log)
        ),
    )


def _register(file: _MapFile, entry: _Register, path: KeyPath) -> Register:
    name = (
        _name(str(entry.obis.full), (*path, "obis"))
        if entry.object is None
        else _name(entry.object, (*path, "object"))
    )
    kind = _kind(entry, path)
    return Register(
        info=entry.info,
        attribute=Attribute(entry.class_id, name, entry.attribute),
        kind=kind,
        scale=Decimal(1) if entry.scale is None else entry.scale,
        certainty=entry.certainty or file.certainty,
    )


def _kind(entry: _Register, path: KeyPath) -> Kind:
    if entry.text and entry.class_id is not ClassId.DATA:
        raise TableError("text is what class 1 may hold", path=(*path, "text"))
    if entry.scale is not None and (entry.text or entry.class_id not in _SCALED_BY_MAP):
        raise TableError("the meter tells this class's scale itself", path=(*path, "scale"))
    if entry.scale is not None:
        _check_scale(entry.scale, path)
    match entry.class_id:
        case ClassId.PROFILE_GENERIC:
            raise TableError("a profile is no register", path=(*path, "class"))
        case ClassId.CLOCK:
            return Kind.TIME
        case ClassId.DISCONNECT_CONTROL:
            return Kind.RELAY
        case ClassId.DATA | ClassId.CREDIT:
            return Kind.TEXT if entry.text else Kind.NUMBER
        case _:
            return Kind.SCALED


_SCALED_BY_MAP: Final = (ClassId.DATA, ClassId.CREDIT)


def _check_scale(scale: Decimal, path: KeyPath) -> None:
    if not scale.is_finite() or scale == 0 or abs(scale.adjusted()) > SCALE_DECIMALS_MAX:
        raise TableError(
            f"the scale is a number with at most {SCALE_DECIMALS_MAX} decimals, and not 0",
            path=(*path, "scale"),
        )
    if len(scale.as_tuple().digits) > SCALE_DECIMALS_MAX:
        raise TableError(
            f"the scale has at most {SCALE_DECIMALS_MAX} digits", path=(*path, "scale")
        )


def _name(text: str, path: KeyPath) -> bytes:
    try:
        return logical_name(Obis.parse(text).groups)
    except ProfileError as error:
        raise TableError(error.detail, path=path) from None
    except ValueError as error:
        raise TableError(f"{text!r}: {error}", path=path) from None
