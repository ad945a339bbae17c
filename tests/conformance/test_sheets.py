"""The sheets: register list, missing readings, bandwidth, gap matrix."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from tests.conformance.report.sample import (
    BEGAN,
    ENDED,
    LACKING,
    NAME,
    PLAIN,
    PREPAID,
    finding,
    judgement,
    sheets,
    telemetry,
    topic,
    traffic,
)

from openami.conformance.bandwidth import bandwidth_sheet
from openami.conformance.coverage import CoverageSheet, MeterCoverage, coverage_sheet
from openami.conformance.gap_matrix import GATEWAYS_MAX, Cell, gap_matrix
from openami.conformance.judgement import Evidence, Subject
from openami.conformance.missing import HOURS_LISTED_MAX, MeterMissing, missing_sheet
from openami.conformance.observation import Observation
from openami.conformance.sheets import sheets_of
from openami.conformance.traffic import Traffic
from openami.link_cost import Assumptions, link_bytes, packet_size
from openami.profile import RegisterCatalogue

Register = tuple[str, object, str, str]


def profile(messages: Iterator[Observation] | list[Observation]) -> Traffic:
    return traffic(iter(messages))


# --- coverage ------------------------------------------------------------------------------------


def covered(registers: Sequence[Register], **types: list[str]) -> MeterCoverage:
    """Return the sheet's line of the one meter M-1."""
    declared = {name.replace("every", "*").replace("_", "-"): of for name, of in types.items()}
    sheet = coverage_sheet(profile([telemetry("M-1", BEGAN, registers)]), types=declared)
    (meter,) = sheet.meters
    return meter


def register(sheet: CoverageSheet, obis: str) -> tuple[int, int, tuple[str, ...]]:
    (found,) = [each for each in sheet.registers if each.obis == obis]
    return found.meters, found.readings, found.wrong_units


def test_what_every_meter_has_to_send_is_missed_in_every_meter() -> None:
    meter = covered(LACKING)
    assert meter.missing == {"always": ("32.7.0",), "prepaid": ("96.8.0",)}
    assert meter.wrong_unit == ("31.7.0",)
    assert meter.suspect == ("1.8.0",)
    assert covered(PLAIN).missing == {}


def test_a_type_is_told_by_what_a_meter_sends() -> None:
    assert covered(PLAIN).types == ()
    assert covered(PREPAID).types == ("prepaid", "relay")
    three_phase = covered([*PLAIN, ("52.7.0", 230, "V", "good")])
    assert three_phase.types == ("three-phase",)
    assert three_phase.missing == {"three-phase": ("72.7.0", "51.7.0", "71.7.0")}


def test_a_type_is_told_by_whoever_knows_it() -> None:
    """Of all meters, or of one by its serial number; else what is missing stays open."""
    assert covered(PLAIN).open["relay"] == ("96.11.1",)
    for types in ({"every": ["relay"]}, {"M_1": ["relay"]}):
        meter = covered(PLAIN, **types)
        assert meter.missing == {"relay": ("96.11.1",)}
        assert "relay" not in meter.open
    assert covered(PLAIN, M_2=["relay"]).missing == {}


def test_registers_are_counted_over_all_meters() -> None:
    sheet = coverage_sheet(traffic())
    assert register(sheet, "1.8.0") == (3, 40, ())
    assert register(sheet, "32.7.0") == (2, 27, ())
    assert register(sheet, "31.7.0") == (3, 40, ("mA",))
    assert register(sheet, "2.8.0") == (0, 0, ())
    assert {each.certainty for each in sheet.registers} == {"A", "B", "C"}
    assert [each.obis for each in sheet.unlisted] == ["96.99.8"]
    assert not sheet.complete


def test_the_full_code_and_the_short_one_are_one_register() -> None:
    meter = covered([("1-0:1.8.0*255", 1, "kWh", "good")])
    assert meter.sent == ("1.8.0",)


def test_a_unit_is_the_lists_case_aside() -> None:
    """As OA-REG-008 has it: the sheet does not blame what the judge lets pass."""
    meter = covered([("1.8.0", 1, "KWH", "good"), ("31.7.0", 1, "mA", "good")])
    assert meter.wrong_unit == ("31.7.0",)


def test_another_list_may_say_required_in_its_own_words() -> None:
    entries = [
        {"obis": obis, "name": obis, "unit": "", "certainty": "A", "required": required}
        for obis, required in (("1.8.0", True), ("2.8.0", False), ("1.7.0", "nice to have"))
    ]
    catalogue = RegisterCatalogue.decode(json.dumps({"registers": entries}).encode())
    sheet = coverage_sheet(profile([telemetry("M-1", BEGAN, [])]), catalogue=catalogue)
    assert [each.required for each in sheet.registers] == ["always", "no", "no"]
    assert sheet.meters[0].missing == {"always": ("1.8.0",)}


# --- missing readings ----------------------------------------------------------------------------


def missed(minutes: list[int], *, start: datetime = BEGAN) -> MeterMissing:
    """Return the line of M-1, beside a meter M-2 that is heard each quarter of an hour for six hours."""
    messages: list[Observation] = [
        telemetry("M-2", start + timedelta(minutes=minute), PLAIN) for minute in range(0, 361, 15)
    ]
    messages += [telemetry("M-1", start + timedelta(minutes=m), PLAIN) for m in minutes]
    messages.sort(key=lambda each: each.at)
    sheet = missing_sheet(profile(messages))
    assert sheet.meters[1].hours == ()
    return sheet.meters[0]


def hours(meter: MeterMissing) -> list[tuple[str, int, int]]:
    return [(each.hour[11:13], each.came, each.expected) for each in meter.hours]


EVERY_15 = list(range(0, 361, 15))


def test_nothing_is_missing_where_all_came() -> None:
    meter = missed(EVERY_15)
    assert (meter.interval_s, meter.hours, meter.came, meter.expected) == (900, (), 24, 24)


def test_an_hour_with_fewer_is_told_by_hour() -> None:
    meter = missed([m for m in EVERY_15 if m not in (75, 90, 180)])
    assert hours(meter) == [("13", 2, 4), ("15", 3, 4)]
    assert (meter.came, meter.expected) == (21, 24)


def test_a_meter_that_falls_silent_is_missed_while_its_gateway_is_heard() -> None:
    assert hours(missed([m for m in EVERY_15 if m < 120])) == [
        ("14", 0, 4), ("15", 0, 4), ("16", 0, 4), ("17", 0, 4),
    ]  # fmt: skip


def test_a_meter_that_begins_late_is_not_missed_before() -> None:
    assert hours(missed([m for m in EVERY_15 if m >= 120])) == []


def test_a_reading_a_second_before_the_hour_is_not_missed_after_it() -> None:
    start = BEGAN - timedelta(seconds=1)
    assert hours(missed(EVERY_15, start=start)) == []
    # And one that comes a minute late at every second hour.
    assert hours(missed([m + (1 if m == 60 else 0) for m in EVERY_15])) == []


def test_three_readings_are_no_habit() -> None:
    meter = missed([0, 15, 30])
    assert (meter.interval_s, meter.hours) == (None, ())


def test_a_reading_a_minute_may_be_one_in_twenty_short() -> None:
    every_minute = [telemetry("M-1", BEGAN + timedelta(minutes=m), PLAIN) for m in range(181)]
    few_less = [each for each in every_minute if each.at.minute not in (7, 17, 27)]
    assert missing_sheet(profile(list(few_less))).meters[0].hours == ()
    more_less = [each for each in few_less if each.at.minute != 37]
    assert len(missing_sheet(profile(list(more_less))).meters[0].hours) == 3


def test_what_the_gateway_says_of_a_silent_meter_stands_beside_the_hour() -> None:
    silent = missing_sheet(traffic()).meters[2]
    assert [(each.hour, each.told) for each in silent.hours] == [("2026-06-22T13:00:00Z", True)]


def test_the_list_of_hours_has_a_bound_and_the_sum_has_none() -> None:
    minutes = [0, 15, 30, 45, (HOURS_LISTED_MAX + 12) * 60]
    meter = missing_sheet(
        profile([telemetry("M-1", BEGAN + timedelta(minutes=m), PLAIN) for m in minutes])
    ).meters[0]
    assert len(meter.hours) == HOURS_LISTED_MAX
    assert meter.hours_left_out == 11
    assert meter.expected - meter.came == 4 * (HOURS_LISTED_MAX + 11)


def test_a_clock_of_1970_is_not_fifty_years_of_missing_readings() -> None:
    old = [telemetry("M-1", datetime(1970, 1, 1, tzinfo=UTC), PLAIN, at=BEGAN)]
    new = [telemetry("M-1", BEGAN + timedelta(minutes=m), PLAIN) for m in (0, 15, 30, 45)]
    (meter,) = missing_sheet(profile([*old, *new])).meters
    assert (meter.outside, meter.expected) == (1, 3)


def test_numbers_that_were_not_seen_are_told_by_gateway() -> None:
    (gateway,) = missing_sheet(traffic()).gateways
    (gap,) = gateway.gaps
    assert (gateway.missing, gap.first, gap.last) == (2, 7, 8)
    assert (gap.after, gap.before) == ("2026-06-22T12:15:00Z", "2026-06-22T12:30:00Z")
    (unnumbered,) = missing_sheet(profile([telemetry("M-1", BEGAN, PLAIN)])).gateways
    assert not unnumbered.numbered


# --- bandwidth -----------------------------------------------------------------------------------


def four(wire_bytes: int = 0) -> Traffic:
    """A meter heard every minute, four times."""
    return profile(
        [
            telemetry(
                "M-1",
                BEGAN + timedelta(minutes=m),
                [("1.8.0", 1, "kWh", "good")],
                wire_bytes=wire_bytes,
            )
            for m in range(4)
        ]
    )


def test_a_publish_packet_has_the_size_the_standard_says() -> None:
    """MQTT 3.1.1 §2.2.3 and §3.3: the length takes a byte up to 127, two up to 16,383."""
    assert packet_size(3, 120) == 1 + 1 + 127
    assert packet_size(3, 121) == 1 + 2 + 128
    assert packet_size(0, 16_379) == 1 + 2 + 16_383
    assert packet_size(0, 16_380) == 1 + 3 + 16_384


def test_a_segment_more_costs_its_headers() -> None:
    assumed = Assumptions()
    one, two = link_bytes(1_400 - 22, assumed), link_bytes(1_400 - 21, assumed)
    assert (one, two) == (22 + 52, 22 + 104)


def test_a_month_is_the_interval_times_what_a_message_costs() -> None:
    (meter,) = bandwidth_sheet(four()).meters
    month = meter.seen
    assert month is not None
    assert meter.topic_bytes == len(topic("M-1"))
    assert (month.interval_s, month.messages) == (60, 30 * 24 * 60)
    assert month.payload_bytes == month.messages * meter.payload_bytes
    # Fixed header 3, topic length 2, packet identifier 2, and the PUBACK's 4.
    assert month.mqtt_bytes == month.messages * (3 + 2 + 2 + 4)
    # The message's record and segment, the PUBACK's, and the acknowledgement of that.
    assert month.link_bytes == month.messages * (74 + 74 + 52)
    assert month.total_bytes == (
        month.payload_bytes + month.topic_bytes + month.mqtt_bytes + month.link_bytes
    )
    assert month.cost is None


def test_packets_that_were_seen_are_taken_as_they_were() -> None:
    (meter,) = bandwidth_sheet(four(wire_bytes=500)).meters
    assert (meter.packet_bytes, meter.packets_seen) == (500, True)
    (meter,) = bandwidth_sheet(four()).meters
    assert not meter.packets_seen


def test_an_interval_that_was_chosen_scales_the_bill() -> None:
    (meter,) = bandwidth_sheet(four(), interval_s=3600).meters
    assert meter.seen is not None
    assert meter.chosen is not None
    assert meter.chosen.total_bytes * 60 == meter.seen.total_bytes


def test_registers_in_two_messages_cost_two_messages() -> None:
    messages: list[Observation] = [
        telemetry("M-1", BEGAN + timedelta(minutes=m), [(code, 1, "kWh", "good")])
        for m in range(4)
        for code in ("1.8.0", "2.8.0")
    ]
    (meter,) = bandwidth_sheet(profile(messages)).meters
    assert meter.seen is not None
    assert (meter.seen.interval_s, meter.seen.messages) == (60, 2 * 30 * 24 * 60)


@pytest.mark.parametrize(("price", "cost"), [("0", "0.00"), ("1", "21.00"), ("0.04", "0.84")])
def test_a_price_makes_it_money(price: str, cost: str) -> None:
    (meter,) = bandwidth_sheet(four(), price_per_mb=Decimal(price), currency="EUR").meters
    assert meter.seen is not None
    assert meter.seen.cost == cost
    assert meter.seen.total_bytes == 30 * 24 * 60 * (207 + 68 + 11 + 200)


def test_a_gateway_pays_for_its_connection_too() -> None:
    """A ping every minute is spared by a message every minute; a day's handshake is not."""
    (gateway,) = bandwidth_sheet(four(), interval_s=86_400).gateways
    assert gateway.idle_bytes == 30 * 5_000
    (meter,) = bandwidth_sheet(four(), interval_s=86_400).meters
    assert meter.chosen is not None
    assert gateway.chosen_bytes is not None
    pings = 30 * 24 * 60 - 30
    assert gateway.chosen_bytes - meter.chosen.total_bytes == pings * (2 * 74 + 4 + 52) + 150_000


def test_a_gateway_of_which_a_meter_is_not_known_has_no_sum() -> None:
    """A part would pass as the whole."""
    messages: list[Observation] = [
        telemetry("M-1", BEGAN + timedelta(minutes=m), PLAIN) for m in range(4)
    ]
    messages.append(telemetry("M-2", BEGAN, PLAIN))
    (gateway,) = bandwidth_sheet(profile(messages)).gateways
    assert gateway.seen_bytes is None


def test_no_telemetry_no_bill() -> None:
    sheet = bandwidth_sheet(Traffic())
    assert (sheet.meters, sheet.gateways) == ((), ())


# --- gap matrix ----------------------------------------------------------------------------------


def cells(row: str) -> tuple[Cell, ...]:
    (found,) = [each for each in sheets().gaps.rows if each.id == row]
    return found.cells


@pytest.mark.parametrize(
    ("row", "state", "remark"),
    [
        ("OA-QOS-001", "partly", "DS1000-88422: Set the QoS"),
        ("OA-REG-007", "partly", "DS1000-88422: Convert"),
        ("OA-SES-002", "not shown", "Connect a meter with a relay"),
        ("OA-TOP-001", "have", ""),
        ("OA-SIP-009", "not shown", "the profile leaves it open"),
        ("1.8.0", "have", ""),
        ("32.7.0", "partly", "not from DS1000-88422 (1 of 3 meters)"),
        ("31.7.0", "partly", "unit not A: DS1000-88422 (1 of 3 meters)"),
        ("96.8.0", "partly", "not from DS1000-88422 (1 of 2 meters)"),
        ("52.7.0", "not shown", "no meter is known to be three-phase"),
    ],
)
def test_a_row_says_have_partly_or_missing(row: str, state: str, remark: str) -> None:
    (cell,) = cells(row)
    assert (cell.gateway, cell.state) == (NAME, state)
    assert cell.remark.startswith(remark)
    assert (cell.remark == "") == (remark == "")


def test_what_failed_every_time_is_missing_and_a_warning_never_is() -> None:
    always = {"seen": 4, "broken": 4, "broken_by": (NAME,)}
    said = judgement(
        (
            finding("OA-QOS-001", verdict="failed", **always),
            finding("OA-REG-007", verdict="warning", source="decision 0015", **always),
        )
    )
    assert [row.cells[0].state for row in gap_matrix(said, None).rows] == ["missing", "partly"]


def test_each_gateway_answers_for_itself() -> None:
    other = "feeder-1/gw-2"
    said = judgement(
        (finding("OA-QOS-001", verdict="failed", broken=3, broken_by=(other,)),),
        subject=Subject("gateway", (NAME, other)),
    )
    (row,) = gap_matrix(said, None).rows
    assert {cell.gateway: cell.state for cell in row.cells} == {NAME: "have", other: "partly"}


def test_evidence_on_a_strange_topic_names_no_meter() -> None:
    strange = Evidence(BEGAN, "elsewhere", "a/b/c")
    said = judgement((finding("OA-TOP-001", verdict="failed", broken=1, evidence=(strange,)),))
    (row,) = gap_matrix(said, None).rows
    assert row.cells[0].remark == row.cells[0].remark.lstrip(": ")


def test_no_more_columns_than_a_table_has() -> None:
    names = tuple(f"f-1/gw-{number:02}" for number in range(GATEWAYS_MAX + 2))
    matrix = gap_matrix(judgement(subject=Subject("gateway", names)), None)
    assert (len(matrix.gateways), matrix.gateways_left_out) == (GATEWAYS_MAX, 2)


def test_a_head_end_has_the_matrix_alone() -> None:
    said = judgement(subject=Subject("headend", ("hes-1",)))
    made = sheets_of(said, traffic())
    assert (made.coverage, made.missing, made.bandwidth) == (None, None, None)
    assert {row.source for row in made.gaps.rows} == {"profile", "decision 0015"}


def test_a_gateway_that_sent_nothing_has_sheets_with_nothing_in_them() -> None:
    made = sheets_of(judgement(ended_at=ENDED), Traffic())
    assert made.coverage is not None
    assert made.coverage.meters == ()
    (cell,) = [row.cells[0] for row in made.gaps.rows if row.id == "1.8.0"]
    assert (cell.state, cell.remark) == ("not shown", "no message of a meter")
