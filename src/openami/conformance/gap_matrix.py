"""The gap matrix: what is asked, and whether each gateway has it, partly or not, with a remark (pure).

The form in which proofs of concept are compared: one row for each requirement and for each register that is
required, one column for each gateway; the remark says what is missing, at which meters, and what to do.
"""

from collections.abc import Iterable, Sequence
from typing import Final, Literal

import msgspec

from openami.conformance.coverage import ALWAYS, CoverageSheet, MeterCoverage, RegisterCoverage
from openami.conformance.judgement import Finding, Judgement
from openami.profile import ProfileError, SessionTopic, parse_topic

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
    names = sorted({*judgement.subject.names, *(meter.gateway for meter in meters)})
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
    if not alone and gateway not in finding.broken_by:
        return Cell(gateway, "have", "")
    # What the profile does not ask for cannot be missing in it.
    missing = finding.verdict == "failed" and finding.broken >= finding.seen
    meters = _meters_of(finding, gateway)
    where = f"{', '.join(meters)}: " if meters else ""
    return Cell(gateway, "missing" if missing else "partly", f"{where}{finding.remedy}")


def _meters_of(finding: Finding, gateway: str) -> list[str]:
    """Return the meters its evidence is of, in its order; more may have it."""
    found: dict[str, None] = {}
    for evidence in finding.evidence:
        try:
            topic = parse_topic(evidence.topic)
        except ProfileError:
            continue
        if (
            not isinstance(topic, SessionTopic)
            and gateway == f"{topic.feeder_id}/{topic.gateway_id}"
        ):
            found[topic.meter_serial] = None
    return list(found)


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
