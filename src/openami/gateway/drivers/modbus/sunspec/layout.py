"""A chain of models → a register map: the map that other meters have as a file. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from openami.gateway.driver import RegisterInfo
from openami.gateway.drivers.modbus.register_map import (
    Area,
    Field,
    Limits,
    NumberType,
    Register,
    RegisterMap,
    SerialDefaults,
    WordOrder,
    decimals_of,
)
from openami.gateway.drivers.modbus.sunspec.chain import BASES, Chain, ChainError, Link
from openami.gateway.drivers.modbus.sunspec.mapping import Mapped, shipped_mapping
from openami.gateway.drivers.modbus.sunspec.models import (
    COMMON,
    HEADER_WORDS,
    METERS,
    POINT_TYPES,
    Model,
    Point,
    shipped_model,
)
from openami.profile import Obis

NAME: Final = "sunspec"
# A model may be read in one piece: none of its registers is missing.
_LIMITS = Limits(max_gap=125)
# How many lengths of read a meter can be brought into step with before its chain is known.
_BEGINNINGS = range(2, 18)


@dataclass(frozen=True, slots=True)
class Discovery:
    """What a configuration says of a SunSpec meter, beside its address."""

    bases: tuple[int, ...] = BASES
    model: int | None = None
    """The meter model to read where there are several; None takes the first."""
    export_is_positive: bool = False

    @property
    def registers(self) -> tuple[RegisterInfo, ...]:
        """What such a meter may have: all the mapping knows, until the model is known."""
        models = METERS if self.model is None else (self.model,)
        infos = {}
        for model in map(shipped_model, models):
            for mapped in shipped_mapping().registers:
                if mapped.point in model.points:
                    unit = shipped_mapping().units[model.points[mapped.point].unit].unit
                    infos[mapped.obis] = mapped.info(unit)
        return tuple(infos.values())


def undiscovered(base: int) -> RegisterMap:
    """Return the map of a meter whose chain is not known yet: it can be brought into step, and no more."""
    beginnings = (_holding(base, count, NumberType.ASCII) for count in _BEGINNINGS)
    return _map(fields=tuple(beginnings))


def layout(chain: Chain, discovery: Discovery) -> RegisterMap:
    """Return the register map of the meter that has this chain. Raises ChainError."""
    link = _meter_of(chain, discovery.model)
    model = shipped_model(link.id)
    registers = {
        mapped.obis: register
        for mapped in shipped_mapping().registers
        if (register := _register(link, model, mapped, discovery)) is not None
    }
    if not registers:
        raise ChainError(f"its model {link.id} has {link.length} registers, too few for any value")
    header = _holding(link.address, HEADER_WORDS, NumberType.U32)
    fields = {header, *(register.field for register in registers.values())}
    return _map(
        vendor=chain.maker,
        model=f"{chain.model} (SunSpec {link.id})",
        registers=registers,
        fields=tuple(sorted(fields)),
        identify=_serial(chain.links[0]),
        witnesses={header: link.id << 16 | link.length},
    )


def _meter_of(chain: Chain, wanted: int | None) -> Link:
    for link in chain.links:
        if link.id == wanted or (wanted is None and link.id in METERS):
            return link
    told = ", ".join(str(link.id) for link in chain.links)
    sought = "a meter's (201 to 204, 211 to 214)" if wanted is None else str(wanted)
    raise ChainError(f"it has the models {told}, and none is {sought}")


def _register(link: Link, model: Model, mapped: Mapped, discovery: Discovery) -> Register | None:
    """Return a register of the meter; None where the model lacks its point, or is cut off before its end."""
    point = model.points.get(mapped.point)
    if point is None:
        return None
    end = _end(model, point)
    if end > HEADER_WORDS + link.length:
        return None
    kind = POINT_TYPES[point.type]
    unit = shipped_mapping().units[point.unit]
    is_float = kind.number is NumberType.FLOAT32
    return Register(
        info=mapped.info(unit.unit),
        field=_holding(link.address + point.offset, end - point.offset, kind.number),
        scale=-unit.scale if mapped.turns and discovery.export_is_positive else unit.scale,
        decimals=unit.decimals if is_float else decimals_of(unit.scale),
        part=mapped.part,
        four_quadrant=False,
        multiply=(),
        sentinels=kind.absent,
        certainty=mapped.certainty,
        scale_factor_last=point.scale_factor is not None,
    )


def _end(model: Model, point: Point) -> int:
    """Return where the read of a point ends: behind its scale factor, so that both are of one answer."""
    last = point if point.scale_factor is None else model.points[point.scale_factor]
    return last.offset + last.words


def _serial(common: Link) -> Field | None:
    point = shipped_model(COMMON).points["SN"]
    if point.offset + point.words > HEADER_WORDS + common.length:
        return None
    return _holding(common.address + point.offset, point.words, NumberType.ASCII)


def _holding(address: int, count: int, kind: NumberType) -> Field:
    return Field(Area.HOLDING, address, count, kind, WordOrder.BIG)


def _map(
    *,
    fields: tuple[Field, ...],
    vendor: str = "",
    model: str = "",
    registers: Mapping[Obis, Register] | None = None,
    identify: Field | None = None,
    witnesses: Mapping[Field, int] | None = None,
) -> RegisterMap:
    mapping = shipped_mapping()
    return RegisterMap(
        id=NAME,
        vendor=vendor,
        model=model,
        source=mapping.source,
        certainty=mapping.certainty,
        registers=registers or {},
        fields=fields,
        limits=_LIMITS,
        serial=SerialDefaults(),
        identify=identify,
        relay=None,
        golden=(),
        witnesses=witnesses or {},
    )
