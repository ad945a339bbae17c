"""A Modbus register map against the register list, its own golden frames, and good sense. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from openami.gateway.driver import PollGroup, RegisterInfo
from openami.gateway.drivers.modbus.frames import FrameError, rtu_pdu
from openami.gateway.drivers.modbus.plan import Block, plan
from openami.gateway.drivers.modbus.readings import decode_exchange
from openami.gateway.drivers.modbus.register_map import Certainty, Golden, Ratio, RegisterMap
from openami.profile import Obis, RegisterCatalogue

_BILLED = Obis.parse("1.8.0")
# A wrong word order or scale shows itself in these, if their range is known.
_TELLING = (Obis.parse("32.7.0"), Obis.parse("14.7.0"))


class Mark(StrEnum):
    """What a check says of the map."""

    GOOD = "ok"
    DOUBTFUL = "look"
    """It can be used; a person should look at it."""
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at, and what was found."""

    mark: Mark
    what: str
    found: str


def check_map(register_map: RegisterMap, catalogue: RegisterCatalogue) -> Iterator[Check]:
    """Look at all a map can be judged by without a meter."""
    infos = [register.info for register in register_map.registers.values()]
    yield from check_registers(infos, catalogue)
    yield from _ranges(register_map)
    for group in PollGroup:
        yield from _blocks(register_map, group)
    yield from _certainty(register_map)
    for golden in register_map.golden:
        yield _golden(register_map, golden)
    yield from _not_shown(register_map)


def check_registers(infos: list[RegisterInfo], catalogue: RegisterCatalogue) -> Iterator[Check]:
    """Look at codes and units, for a map of any protocol."""
    wrong = 0
    for info in infos:
        listed = catalogue.get(info.obis)
        if listed is None:
            yield Check(Mark.WRONG, "codes", f"{info.obis} is not in the register list")
        elif listed.unit != info.unit:
            said = f"{info.obis} is in {info.unit!r}, the register list says {listed.unit!r}"
            yield Check(Mark.WRONG, "units", said)
        elif listed.monotonic != info.monotonic:
            remedy = "add" if listed.monotonic else "take away"
            yield Check(Mark.WRONG, "counters", f"{info.obis}: {remedy} monotonic = true")
        else:
            continue
        wrong += 1
    if not wrong:
        yield Check(
            Mark.GOOD, "codes and units", f"{len(infos)} registers, as in the register list"
        )
    if _BILLED not in {info.obis for info in infos}:
        yield Check(
            Mark.DOUBTFUL, "billing", f"{_BILLED} is not there: nothing can be billed by it"
        )


def _ranges(register_map: RegisterMap) -> Iterator[Check]:
    for code in _TELLING:
        register = register_map.registers.get(code)
        if register is not None and register.info.maximum is None:
            said = f"{code} has no max: a wrong word order or scale would not be noticed"
            yield Check(Mark.DOUBTFUL, "ranges", said)


def _blocks(register_map: RegisterMap, group: PollGroup) -> Iterator[Check]:
    fields = frozenset(r.field for r in register_map.registers.values() if r.info.group is group)
    if not fields:
        return
    blocks = plan(fields, known=register_map.fields, limits=register_map.limits)
    assert blocks is not None  # no shape is in doubt before anything was asked
    told = ", ".join(_block(block) for block in blocks)
    yield Check(Mark.GOOD, f"{group} reads", f"{len(blocks)}: {told}")


def _block(block: Block) -> str:
    return f"{block.area} 0x{block.address:04X} x{block.count}"


def _certainty(register_map: RegisterMap) -> Iterator[Check]:
    unsure = [
        str(code)
        for code, register in register_map.registers.items()
        if register.certainty is Certainty.UNVERIFIED
    ]
    if unsure:
        said = f"{', '.join(unsure)}: unverified; compare with the meter's display"
        yield Check(Mark.DOUBTFUL, "certainty", said)


def _golden(register_map: RegisterMap, golden: Golden) -> Check:
    what = f"golden: {golden.name}"
    try:
        unit, request = rtu_pdu(bytes.fromhex(golden.request))
        answering, response = rtu_pdu(bytes.fromhex(golden.response))
        ratios = {Ratio(name): value for name, value in golden.options.items()}
        readings = decode_exchange(register_map, request, response, ratios)
    except (FrameError, ValueError) as error:
        return Check(Mark.WRONG, what, str(error))
    except KeyError as missing:
        return Check(Mark.WRONG, what, f"its options do not give {missing.args[0]}")
    if unit != answering:
        return Check(Mark.WRONG, what, f"unit {unit} is asked, unit {answering} answers")
    got = {str(reading.obis): str(reading.value) for reading in readings}
    for code in sorted({*got, *golden.expect}):
        if got.get(code, "") != golden.expect.get(code, ""):
            said = f"{code} is {got.get(code) or 'no value'}, expected {golden.expect.get(code) or 'none'}"
            return Check(Mark.WRONG, what, said)
    count = len(golden.expect)
    return Check(Mark.GOOD, what, f"{count} register{'s' * (count != 1)}")


def _not_shown(register_map: RegisterMap) -> Iterator[Check]:
    shown = {code for golden in register_map.golden for code in golden.expect}
    missing = [str(code) for code in register_map.registers if str(code) not in shown]
    if missing:
        remedy = "`openami driver probe --golden` makes frames of what a meter answers"
        yield Check(Mark.DOUBTFUL, "golden frames", f"none shows {', '.join(missing)}; {remedy}")
