"""The gap matrix: what is asked, and whether each gateway has it, partly or not, with a remark (pure).

The form in which proofs of concept are compared: one row for each requirement and for each register that is
required, one column for each gateway; the remark says what is missing, at which meters, and what to do.
"""

from collections.abc import Iterable, Sequence
from typing import Final, Literal

import msgspec

from openami.conformance.coverage import ALWAYS, CoverageSheet, MeterCoverage, RegisterCoverage
from openami.conformance.judgement import Finding, Judgement, Place
from openami.profile import ProfileError, parse_topic

State = Literal["have", "partly", "missing", "not shown"]

# More columns are no table; who judges a feeder of more gateways judges them one by one.
GATEWAYS_MAX: Final = 12
_METERS_NAMED = 3


class Cell(msgspec.Struct, frozen=True, rename="camel"):
    """How one gateway stands to what is asked; the remark is empty where it has it."""

    gateway: str
    state: State
    remark: str


class Row(msgspec.Struct, frozen=True, rename="camel"):
    """What is asked, and by whom: ``profile``, ``decision NNNN`` or ``register list``."""

    id: str
    asked: str
    source: str
    cells: tuple[Cell, ...]


class GapMatrix(msgspec.Struct, frozen=True, rename="camel"):
    """The rows in the order of the requirements, the registers after them."""

    gateways: tuple[str, ...]
    gateways_left_out: int
    rows: tuple[Row, ...]


def gap_matrix(judgement: Judgement, coverage: CoverageSheet | None) -> GapMatrix:
    """Return the matrix of a judgement and, where a gateway was judged, of its coverage sheet."""
    meters = () if coverage is None else coverage.meters
    names = sorted(
        {place.gateway for finding in judgement.findings for place in finding.places}
        | {meter.gateway for meter in meters}
    ) or list(judgement.subject.names)
    shown = names[:GATEWAYS_MAX]
    rows = [
        Row(
            finding.requirement,
            finding.text,
            finding.source,
            tuple(_cell(finding, name, alone=len(names) == 1) for name in shown),
        )
        for finding in judgement.findings
    ]
    if coverage is not None:
        rows += [
            _register_row(register, meters, shown)
            for register in coverage.registers
            if register.required != "no"
        ]
    return GapMatrix(tuple(shown), len(names) - len(shown), tuple(rows))


# --- requirements --------------------------------------------------------------------------------


def _cell(finding: Finding, gateway: str, *, alone: bool) -> Cell:
    match finding.verdict:
        case "passed":
            return Cell(gateway, "have", "")
        case "not exercised":
            return Cell(gateway, "not shown", finding.exercise)
        case "not testable":
            return Cell(gateway, "not shown", "the profile leaves it open")
        case "failed" | "warning":
            return _broken(finding, gateway, alone=alone)


def _broken(finding: Finding, gateway: str, *, alone: bool) -> Cell:
    places = [place for place in finding.places if place.gateway == gateway]
    broken = [place for place in places if place.broken]
    if finding.places:
        if not broken:
            return Cell(gateway, "have" if places else "not shown", "")
    elif not alone and gateway not in _gateways_of(finding):
        return Cell(gateway, "not shown", "")
    seen = sum(place.seen for place in places) or finding.seen
    times = sum(place.broken for place in broken) or finding.broken
    everywhere = times >= seen and len(broken) == len(places)
    # What the profile does not ask for cannot be missing in it.
    state: State = "missing" if everywhere and finding.verdict == "failed" else "partly"
    return Cell(gateway, state, f"{_where(broken, places)}{finding.remedy}")


def _where(broken: Sequence[Place], places: Sequence[Place]) -> str:
    meters = sorted({place.meter for place in broken if place.meter})
    behind = {place.meter for place in places if place.meter}
    if not meters or len(meters) == len(behind):
        return ""
    return f"{_named(meters, len(behind))}: "


def _gateways_of(finding: Finding) -> set[str]:
    """Return the gateways its evidence is of."""
    found = set()
    for evidence in finding.evidence:
        try:
            topic = parse_topic(evidence.topic)
        except ProfileError:
            continue
        found.add(f"{topic.feeder_id}/{topic.gateway_id}")
    return found


# --- registers -----------------------------------------------------------------------------------


def _register_row(
    register: RegisterCoverage, meters: Iterable[MeterCoverage], gateways: Iterable[str]
) -> Row:
    of_whom = "every meter" if register.required == ALWAYS else f"{register.required} meters"
    unit = f", {register.unit}" if register.unit else ""
    return Row(
        register.obis,
        f"{register.name}{unit}: of {of_whom}",
        "register list",
        tuple(
            _register_cell(register, gateway, [m for m in meters if m.gateway == gateway])
            for gateway in gateways
        ),
    )


def _register_cell(
    register: RegisterCoverage, gateway: str, meters: Sequence[MeterCoverage]
) -> Cell:
    obis = register.obis
    asked = [m for m in meters if register.required == ALWAYS or register.required in m.types]
    if not asked:
        why = (
            "no message of a meter" if not meters else f"no meter is known to be {_type(register)}"
        )
        return Cell(gateway, "not shown", why)
    lacking = [m.meter for m in asked if obis not in m.sent]
    wrong = [m.meter for m in asked if obis in m.wrong_unit]
    if not lacking and not wrong:
        return Cell(gateway, "have", "")
    remarks = []
    if lacking and len(lacking) < len(asked):
        remarks.append(f"not from {_named(lacking, len(asked))}")
    if wrong:
        remarks.append(f"unit not {register.unit or 'empty'}: {_named(wrong, len(asked))}")
    state: State = "missing" if len(lacking) == len(asked) else "partly"
    return Cell(gateway, state, "; ".join(remarks) or "map it in the gateway")


def _type(register: RegisterCoverage) -> str:
    return "one with a relay" if register.required == "relay" else register.required


def _named(meters: Sequence[str], of: int) -> str:
    """Return the first few meters by name and how many they are."""
    first = ", ".join(meters[:_METERS_NAMED])
    more = len(meters) - _METERS_NAMED
    return f"{first}{f' and {more} more' if more > 0 else ''} ({len(meters)} of {of} meters)"
