"""The sheets as tables of texts, the same for every format (pure)."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from openami.conformance.bandwidth import BandwidthSheet, GatewayBill, MonthBill
from openami.conformance.coverage import (
    ALWAYS,
    CERTAINTIES,
    CoverageSheet,
    MeterCoverage,
    RegisterCoverage,
)
from openami.conformance.gap_matrix import GapMatrix, Row
from openami.conformance.missing import GatewayMissing, MeterMissing, MissingSheet
from openami.conformance.report import words
from openami.conformance.report.document import Report
from openami.profile import one_line


@dataclass(frozen=True, slots=True)
class Table:
    """A table of texts; ``numbers`` are the columns whose cells stand to the right.

    From the column ``states`` on, cells begin with a state of the gap matrix.
    """

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()
    states: int | None = None

    def state(self, column: int, cell: str) -> str | None:
        """Return the state a cell begins with, None where it has none."""
        if self.states is None or column < self.states:
            return None
        return cell.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Section:
    """One sheet: what it is about, its tables, and what has to be known to read them."""

    name: str
    title: str
    about: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()


def sections(report: Report) -> Iterator[Section]:
    """Yield the sheets there is something in."""
    if report.gaps.gateways:
        yield _gaps(report.gaps)
    if report.coverage is not None and report.coverage.meters:
        yield _coverage(report.coverage)
    if report.missing is not None and report.missing.gateways:
        yield _missing(report.missing)
    if report.bandwidth is not None and report.bandwidth.meters:
        yield _bandwidth(report.bandwidth)


# --- gap matrix ----------------------------------------------------------------------------------


def _gaps(matrix: GapMatrix) -> Section:
    notes: tuple[str, ...] = ()
    if matrix.gateways_left_out:
        notes = (f"{matrix.gateways_left_out} gateways more are not shown.",)
    return Section(
        "gaps",
        "Gap matrix",
        "What is asked, and whether each of those that were judged has it.",
        (
            Table(
                "Requirements, and registers that are required",
                ("No.", "Asked", "By", *map(one_line, matrix.gateways)),
                tuple(
                    (
                        row.id,
                        one_line(row.asked),
                        one_line(row.source),
                        *(_cell(row, gateway) for gateway in matrix.gateways),
                    )
                    for row in matrix.rows
                ),
                states=3,
            ),
        ),
        notes,
    )


def _by_gateway(table: Table) -> Table:
    """Return a table whose first column is the gateway without it, where it is one and the same."""
    gateways = {row[0] for row in table.rows}
    if len(gateways) != 1:
        return table
    return Table(
        f"{table.caption}: {gateways.pop()}",
        table.headings[1:],
        tuple(row[1:] for row in table.rows),
        frozenset(column - 1 for column in table.numbers),
    )


def _cell(row: Row, gateway: str) -> str:
    cell = next((each for each in row.cells if each.gateway == gateway), None)
    if cell is None:
        return "not shown"
    remark = f": {one_line(cell.remark)}" if cell.remark else ""
    return f"{cell.state}{remark}"


# --- coverage ------------------------------------------------------------------------------------


def _coverage(sheet: CoverageSheet) -> Section:
    by_certainty = [
        (certainty, meaning, [r for r in sheet.registers if r.certainty == certainty])
        for certainty, meaning in CERTAINTIES.items()
    ]
    tables = [
        _registers(
            f"Certainty {certainty}, {meaning}, {sum(r.meters > 0 for r in listed)} of {len(listed)} sent",
            [r for r in listed if r.meters or r.required != "no"],
            len(sheet.meters),
        )
        for certainty, meaning, listed in by_certainty
        if any(r.meters or r.required != "no" for r in listed)
    ]
    meters = Table(
        "What each meter sent and lacks",
        (
            "Gateway",
            "Meter",
            "Known to be",
            "Not known to be",
            "Sent",
            "Required and missing",
            "Remarks",
        ),
        tuple(_meter(meter) for meter in sheet.meters),
        frozenset({4}),
    )
    return Section(
        "coverage",
        "Register coverage",
        "Which registers of the list (VMRS 0.1-draft) came, and which required ones did not. Whether a meter is "
        "prepaid, has a relay, is net-metered or three-phase is taken from what was said of it (--meter-type) or "
        "from what it sends. Daily and static registers may not come up in a short judgement.",
        (*tables, _by_gateway(meters)),
        _unlisted(sheet),
    )


def _registers(caption: str, listed: Sequence[RegisterCoverage], meters: int) -> Table:
    return Table(
        caption,
        ("OBIS", "Register", "Unit", "Required", "Meters", "Readings", "Remarks"),
        tuple(
            (
                r.obis,
                one_line(r.name),
                one_line(r.unit),
                r.required,
                f"{r.meters}/{meters}",
                str(r.readings),
                _register_remarks(r, meters),
            )
            for r in listed
        ),
        frozenset({4, 5}),
    )


def _register_remarks(register: RegisterCoverage, meters: int) -> str:
    remarks = []
    if register.required == ALWAYS and register.meters < meters:
        remarks.append(f"missing from {meters - register.meters}")
    if register.wrong_units:
        remarks.append(f"also in {', '.join(repr(one_line(u)) for u in register.wrong_units)}")
    if register.suspect:
        remarks.append(f"{register.suspect} suspect")
    if register.comms_lost:
        remarks.append(f"{register.comms_lost} comms_lost")
    return ", ".join(remarks)


def _meter(meter: MeterCoverage) -> tuple[str, ...]:
    remarks = []
    if meter.wrong_unit:
        remarks.append(f"unit of {' '.join(meter.wrong_unit)}")
    if meter.suspect:
        remarks.append(f"suspect: {' '.join(meter.suspect)}")
    if meter.unreadable:
        remarks.append(f"{meter.unreadable} messages could not be read")
    return (
        one_line(meter.gateway),
        one_line(meter.meter),
        ", ".join(meter.types),
        ", ".join(meter.open),
        str(len(meter.sent)),
        _lacking(meter),
        "; ".join(remarks),
    )


def _lacking(meter: MeterCoverage) -> str:
    parts = [
        " ".join(codes) if type_ == ALWAYS else f"{type_}: {' '.join(codes)}"
        for type_, codes in meter.missing.items()
    ]
    return "; ".join(parts) or "nothing"


def _unlisted(sheet: CoverageSheet) -> tuple[str, ...]:
    if not sheet.unlisted:
        return ()
    codes = ", ".join(one_line(each.obis) for each in sheet.unlisted)
    more = f" and {sheet.unlisted_left_out} more" if sheet.unlisted_left_out else ""
    return (f"Sent, and not in the list: {codes}{more}.",)


# --- missing readings ----------------------------------------------------------------------------


def _missing(sheet: MissingSheet) -> Section:
    return Section(
        "missing",
        "Missing readings",
        "What had not been seen when the judgement ended; a gateway may still hold it back. Hours are UTC, by "
        "measured time; “told” means that the gateway said the meter did not answer.",
        (
            _by_gateway(
                Table(
                    "Readings by hour",
                    ("Gateway", "Meter", "Interval", "Came", "Expected", "Hours with fewer"),
                    tuple(_meter_missing(meter) for meter in sheet.meters),
                    frozenset({3, 4}),
                )
            ),
            Table(
                "Envelopes by number (seq)",
                ("Gateway", "Not seen", "Which"),
                tuple(_gateway_missing(gateway) for gateway in sheet.gateways),
                frozenset({1}),
            ),
        ),
    )


def _meter_missing(meter: MeterMissing) -> tuple[str, ...]:
    hours = [
        f"{each.hour[5:10]} {each.hour[11:13]}h {each.came}/{each.expected}{' told' if each.told else ''}"
        for each in meter.hours
    ]
    if meter.hours_left_out:
        hours.append(f"and {meter.hours_left_out} hours more")
    if meter.outside:
        hours.append(f"{meter.outside} readings measured too long ago or in the future")
    none = "none" if meter.interval_s is not None else "too few readings to tell an interval"
    return (
        one_line(meter.gateway),
        one_line(meter.meter),
        words.interval(meter.interval_s),
        str(meter.came),
        str(meter.expected),
        ", ".join(hours) or none,
    )


def _gateway_missing(gateway: GatewayMissing) -> tuple[str, ...]:
    name = one_line(gateway.gateway)
    if not gateway.numbered:
        return (name, "–", "its envelopes have no seq; intervals alone can tell")
    gaps = [str(g.first) if g.first == g.last else f"{g.first}–{g.last}" for g in gateway.gaps]
    if gateway.gaps_left_out:
        gaps.append(f"and {gateway.gaps_left_out} gaps more")
    return (name, str(gateway.missing), ", ".join(gaps) or "none")


# --- bandwidth -----------------------------------------------------------------------------------


def _bandwidth(sheet: BandwidthSheet) -> Section:
    months = [
        (meter, how, month)
        for meter in sheet.meters
        for how, month in (("seen", meter.seen), ("chosen", meter.chosen))
        if month is not None
    ]
    by_meter = Table(
        "A meter's month, in MB",
        (
            "Meter",
            "Interval",
            "Every",
            "Payload",
            "Topic",
            "MQTT",
            "TLS, TCP, IP",
            "Together",
            "Cost",
        ),
        tuple((one_line(meter.meter), how, *_month(month, sheet)) for meter, how, month in months),
        frozenset({3, 4, 5, 6, 7, 8}),
    )
    by_gateway = Table(
        "A gateway's month, in MB",
        ("Gateway", "Meters", "Idle", "As seen", "Cost as seen", "As chosen", "Cost as chosen"),
        tuple(_gateway_month(gateway, sheet) for gateway in sheet.gateways),
        frozenset({1, 2, 3, 4, 5, 6}),
    )
    unasked = set[str]()
    if sheet.price_per_mb is None:
        unasked |= {"Cost", "Cost as seen", "Cost as chosen"}
    if sheet.interval_s is None:
        unasked |= {"Interval", "As chosen", "Cost as chosen"}
    return Section(
        "bandwidth",
        "Bandwidth",
        f"What telemetry costs a month on the link between gateway and broker. {words.price(sheet)}",
        tuple(_without(table, unasked) for table in (by_gateway, by_meter) if table.rows),
        (_packets(sheet), *words.assumptions(sheet.assumptions)),
    )


def _without(table: Table, unasked: Collection[str]) -> Table:
    """Return a table without the columns of what nobody asked for."""
    kept = [column for column, heading in enumerate(table.headings) if heading not in unasked]
    return Table(
        table.caption,
        tuple(table.headings[column] for column in kept),
        tuple(tuple(row[column] for column in kept) for row in table.rows),
        frozenset(place for place, column in enumerate(kept) if column in table.numbers),
    )


def _gateway_month(gateway: GatewayBill, sheet: BandwidthSheet) -> tuple[str, ...]:
    mb = sheet.assumptions.mb_bytes
    return (
        one_line(gateway.gateway),
        str(gateway.meters),
        words.megabytes(gateway.idle_bytes, mb),
        words.megabytes(gateway.seen_bytes, mb),
        words.money(gateway.seen_cost, sheet.currency),
        words.megabytes(gateway.chosen_bytes, mb),
        words.money(gateway.chosen_cost, sheet.currency),
    )


def _packets(sheet: BandwidthSheet) -> str:
    seen, of = sum(meter.packets_seen for meter in sheet.meters), len(sheet.meters)
    if seen == of:
        return "The MQTT packets were seen, of all meters."
    if not seen:
        return "The MQTT packets were not seen: their size is reckoned from topic and payload, as in MQTT 3.1.1."
    return f"The MQTT packets of {seen} of {of} meters were seen; the others are reckoned, as in MQTT 3.1.1."


def _month(month: MonthBill, sheet: BandwidthSheet) -> tuple[str, ...]:
    mb = sheet.assumptions.mb_bytes
    return (
        words.interval(month.interval_s),
        words.megabytes(month.payload_bytes, mb),
        words.megabytes(month.topic_bytes, mb),
        words.megabytes(month.mqtt_bytes, mb),
        words.megabytes(month.link_bytes, mb),
        words.megabytes(month.total_bytes, mb),
        words.money(month.cost, sheet.currency),
    )
