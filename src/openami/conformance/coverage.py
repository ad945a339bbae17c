"""The coverage sheet: which registers of the list each meter sent, and which required ones are missing (pure).

The list says of whom a register is required: of every meter, or of prepaid ones, those with a relay, net-metered
and three-phase ones. Of what type a meter is, the profile does not tell. It is taken from what the vendor says
of it, or from what the meter itself sends; where neither tells, a missing register is shown and not counted.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from openami.conformance.traffic import MeterTraffic, Traffic
from openami.profile import Certainty, Register, RegisterCatalogue, shipped_catalogue

ALWAYS: Final = "always"
METER_TYPES: Final = ("prepaid", "relay", "net-metered", "three-phase")

# Registers that only such a meter has, though others are what the list requires of it.
_SHOWS_TYPE: Final[Mapping[str, frozenset[str]]] = {
    "prepaid": frozenset({"19.10.0"}),
    "relay": frozenset({"96.3.10"}),
    "net-metered": frozenset({"2.7.0", "2.8.1", "2.8.2", "2.8.3", "2.8.4"}),
    "three-phase": frozenset({"41.7.0", "61.7.0", "53.7.0", "73.7.0"}),
}

CERTAINTIES: Final[Mapping[Certainty, str]] = {
    Certainty.A: "standard code",
    Certainty.B: "common practice, differs by vendor",
    Certainty.C: "working proposal",
}

# A vendor's own codes, over all meters; who has more is told the number.
UNLISTED_MAX: Final = 50
_WRONG_UNITS_SHOWN = 3


class RegisterCoverage(msgspec.Struct, frozen=True, rename="camel"):
    """One register of the list: by how many meters it was sent, and how it came.

    ``wrong_units`` are the units it came in that are not the list's, the first few.
    """

    obis: str
    name: str
    unit: str
    certainty: str
    required: str
    meters: int
    readings: int
    suspect: int
    comms_lost: int
    wrong_units: tuple[str, ...]


class MeterCoverage(msgspec.Struct, frozen=True, rename="camel"):
    """One meter: what it sent, and what it should have.

    ``types`` are those it is known to be of, "always" aside. ``missing`` has the registers that are required
    and did not come, by type; ``open`` the same of types it is not known to be of.
    """

    gateway: str
    meter: str
    types: tuple[str, ...]
    sent: tuple[str, ...]
    missing: dict[str, tuple[str, ...]]
    open: dict[str, tuple[str, ...]]
    wrong_unit: tuple[str, ...]
    suspect: tuple[str, ...]
    unreadable: int


class Unlisted(msgspec.Struct, frozen=True, rename="camel"):
    """A code that came and is not in the list."""

    obis: str
    meters: int
    units: tuple[str, ...]


class CoverageSheet(msgspec.Struct, frozen=True, rename="camel"):
    """What the meters of a gateway, or of several, sent of the register list."""

    registers: tuple[RegisterCoverage, ...]
    meters: tuple[MeterCoverage, ...]
    unlisted: tuple[Unlisted, ...]
    unlisted_left_out: int

    @property
    def complete(self) -> bool:
        """Whether no meter is known to lack anything that is required of it."""
        return not any(meter.missing for meter in self.meters)


def coverage_sheet(
    traffic: Traffic,
    *,
    types: Mapping[str, Collection[str]] | None = None,
    catalogue: RegisterCatalogue | None = None,
) -> CoverageSheet:
    """Return the sheet. ``types`` says of meters by serial number, or of all by ``*``, what they are."""
    declared = types or {}
    listed = catalogue or shipped_catalogue()
    by_type = _required_by_type(listed)
    meters = sorted(traffic.meters.values(), key=lambda each: (each.gateway, each.meter))
    known = {str(entry.code): entry for entry in listed}
    unlisted = _unlisted(meters, known)
    return CoverageSheet(
        registers=tuple(_register(entry, meters) for entry in listed),
        meters=tuple(
            _meter(meter, known, by_type, {*declared.get("*", ()), *declared.get(meter.meter, ())})
            for meter in meters
        ),
        unlisted=unlisted[:UNLISTED_MAX],
        unlisted_left_out=max(0, len(unlisted) - UNLISTED_MAX),
    )


def required_of(register: Register) -> str:
    """Return of which meters a register is required: ``always``, a meter type, or ``no``."""
    if register.required is True:
        return ALWAYS
    known = register.required in (ALWAYS, *METER_TYPES)
    return str(register.required) if known else "no"


def is_unit_of(register: Register, unit: str) -> bool:
    """Return whether a unit is the list's, case aside, as OA-REG-008 has it; where it names none, any is."""
    return not register.unit or unit.casefold() == register.unit.casefold()


def _required_by_type(listed: Iterable[Register]) -> dict[str, tuple[str, ...]]:
    by_type: dict[str, list[str]] = {type_: [] for type_ in (ALWAYS, *METER_TYPES)}
    for entry in listed:
        of_whom = required_of(entry)
        if of_whom in by_type:
            by_type[of_whom].append(str(entry.code))
    return {type_: tuple(codes) for type_, codes in by_type.items()}


def _register(entry: Register, meters: Iterable[MeterTraffic]) -> RegisterCoverage:
    found = [m.registers[str(entry.code)] for m in meters if str(entry.code) in m.registers]
    units = sorted({unit for each in found for unit in each.units if not is_unit_of(entry, unit)})
    return RegisterCoverage(
        obis=str(entry.code),
        name=entry.name,
        unit=entry.unit,
        certainty=str(entry.certainty),
        required=required_of(entry),
        meters=len(found),
        readings=sum(each.readings for each in found),
        suspect=sum(each.suspect for each in found),
        comms_lost=sum(each.comms_lost for each in found),
        wrong_units=tuple(units[:_WRONG_UNITS_SHOWN]),
    )


def _meter(
    meter: MeterTraffic,
    known: Mapping[str, Register],
    by_type: Mapping[str, tuple[str, ...]],
    declared: Collection[str],
) -> MeterCoverage:
    sent = meter.registers
    types = tuple(
        type_
        for type_ in METER_TYPES
        if type_ in declared or any(c in sent for c in (*by_type[type_], *_SHOWS_TYPE[type_]))
    )
    lacking = {
        type_: codes
        for type_ in (ALWAYS, *METER_TYPES)
        if (codes := tuple(code for code in by_type[type_] if code not in sent))
    }
    return MeterCoverage(
        gateway=meter.gateway,
        meter=meter.meter,
        types=types,
        sent=tuple(code for code in known if code in sent),
        missing={t: codes for t, codes in lacking.items() if t == ALWAYS or t in types},
        open={t: codes for t, codes in lacking.items() if t != ALWAYS and t not in types},
        wrong_unit=tuple(
            code
            for code, entry in known.items()
            if code in sent and not all(is_unit_of(entry, unit) for unit in sent[code].units)
        ),
        suspect=tuple(code for code in known if code in sent and sent[code].suspect),
        unreadable=meter.unreadable,
    )


def _unlisted(
    meters: Iterable[MeterTraffic], known: Mapping[str, Register]
) -> tuple[Unlisted, ...]:
    """Return the codes that are not in the list, those of most meters first."""
    found: dict[str, list[MeterTraffic]] = {}
    for meter in meters:
        for code in meter.registers:
            if code not in known:
                found.setdefault(code, []).append(meter)
    return tuple(
        Unlisted(
            code,
            len(senders),
            tuple(sorted({unit for m in senders for unit in m.registers[code].units}))[
                :_WRONG_UNITS_SHOWN
            ],
        )
        for code, senders in sorted(found.items(), key=lambda each: (-len(each[1]), each[0]))
    )
