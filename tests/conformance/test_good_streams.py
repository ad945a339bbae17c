"""A good gateway and a good head-end pass everything, and a good device is not blamed for what it may do."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.conformance.mutants import command_without_session
from tests.conformance.streams import (
    BEGAN,
    GOOD_REGISTERS,
    INTERVAL,
    METER,
    OTHER,
    ROOT,
    SESSION_TOPIC,
    Stream,
    as_bytes,
    broken,
    command_topic,
    commanded,
    good_gateway,
    good_headend,
    judged,
    network_lost,
    ordinary,
    registers_with,
    session_opened,
    verdicts,
)

from openami.conformance.judge import Judge
from openami.conformance.observation import Act, Published
from openami.profile import utc_text
from openami.profile.requirements import requirements
from openami.sip.reports import ReportStatus


def test_a_good_gateway_passes_all_that_can_be_tested() -> None:
    judgement = judged(good_gateway())
    for finding in judgement.findings:
        expected = "passed" if requirements()[finding.requirement].testable else "not testable"
        assert finding.verdict == expected, finding
    assert judgement.conforms


def test_a_good_head_end_passes_all_that_can_be_tested() -> None:
    judgement = judged(good_headend(), "headend")
    for finding in judgement.findings:
        expected = "passed" if requirements()[finding.requirement].testable else "not testable"
        assert finding.verdict == expected, finding
    assert judgement.conforms


def test_a_count_that_has_seen_no_restart_has_not_shown_that_it_survives_one() -> None:
    assert verdicts(judged(ordinary()))["OA-SEQ-001"] == "not exercised"


def test_a_gateway_that_only_polls_conforms() -> None:
    judgement = judged(ordinary())
    assert set(verdicts(judgement).values()) == {"passed", "not exercised"}
    assert judgement.conforms


def test_who_was_not_seen_is_not_known_to_conform() -> None:
    judgement = judged(Stream())
    assert set(verdicts(judgement).values()) == {"not exercised"}
    assert not judgement.conforms


# --- what a good device may do ---------------------------------------------------------------------


def bare_envelopes() -> Stream:
    """Nothing that is optional: no version, no session, no number."""
    stream = Stream()
    stream.connect(protocol="3.1.1", clean=True, client_id="a-name-for-once")
    stream.poll(times=3, schemaVersion=None, sessionId=None, seq=None)
    return stream


def another_client_id_each_time() -> Stream:
    """A stateless client publishes again what had no PUBACK, as a new message of a new client."""
    stream = Stream()
    stream.connect(clean=True, client_id="once")
    payload = as_bytes(stream.envelope())
    stream.publish(f"{ROOT}/meter/{METER}/telemetry", payload, acknowledged=False)
    stream.disconnect(by_kit=True)
    stream.connect(clean=True, client_id="twice")
    stream.publish(f"{ROOT}/meter/{METER}/telemetry", payload)
    stream.poll(times=4)
    return stream


def the_same_packet_id_on_the_next_connection() -> Stream:
    """Packet ids belong to a connection: a library counts from 1 again."""
    stream = ordinary()
    topic = f"{ROOT}/meter/{METER}/telemetry"
    payload = as_bytes(stream.envelope())
    stream.publish(topic, payload, acknowledged=False, packet_id=1)
    stream.disconnect(by_kit=True)
    stream.connect()
    stream.publish(topic, payload, packet_id=1)
    stream.poll(times=3)
    return stream


def everything_twice() -> Stream:
    """Each message under its packet id and then once more with DUP, as if no PUBACK had come in time."""
    stream = ordinary()
    for each in [o for o in stream.observations if isinstance(o, Published)]:
        stream.publish(each.topic, each.payload, dup=True, packet_id=each.packet_id)
    return stream


def backlog_before_what_is_live() -> Stream:
    stream = ordinary()
    network_lost(stream)
    network_lost(stream, minutes=2, delivered=0)  # too short to show anything
    return stream


def late_original_of_what_was_lost() -> Stream:
    """The last value comes as comms_lost first, and then from the backlog as it was measured."""
    stream = ordinary()
    ts = utc_text(stream.now)
    lost = [{**register, "quality": "comms_lost"} for register in GOOD_REGISTERS]
    stream.telemetry(ts=ts, registers=lost)
    stream.telemetry(ts=ts)
    return stream


def meter_that_answers_now_and_then() -> Stream:
    stream = ordinary()
    for _ in range(4):
        last = utc_text(stream.now)
        stream.poll(METER)
        lost = [{**register, "quality": "comms_lost"} for register in GOOD_REGISTERS]
        stream.poll(METER, times=2, ts=last, registers=lost)
    return stream


def lowered_quality() -> Stream:
    stream = ordinary()
    ts = utc_text(stream.now)
    stream.telemetry(ts=ts)
    stream.telemetry(ts=ts, registers=registers_with("32.7.0", quality="suspect"))
    return stream


def clock_four_minutes_ahead() -> Stream:
    stream = ordinary()
    stream.telemetry(ts=utc_text(stream.now + timedelta(minutes=4)))
    return stream


def backlog_of_yesterday_with_low_numbers() -> Stream:
    """What was numbered long ago may come at any time; the count has not gone back."""
    stream = Stream(seq=1_000)
    stream.connect()
    stream.poll(times=10)
    stream.telemetry(seq=17, ts=utc_text(BEGAN - timedelta(days=1)))
    return stream


def two_groups_of_registers_at_one_moment() -> Stream:
    stream = ordinary()
    ts = utc_text(stream.now)
    stream.telemetry(ts=ts, registers=GOOD_REGISTERS[:1])
    stream.telemetry(ts=ts, registers=GOOD_REGISTERS[1:])
    return stream


def two_events_at_one_moment() -> Stream:
    stream = ordinary()
    body = {"state": "instant", "severity": "minor", "occurredAt": utc_text(stream.now)}
    body |= {"source": "meter"}
    ts = utc_text(stream.now)
    for number, kind in enumerate(("cover_opened", "magnet")):
        stream.event(ts=ts, event={**body, "type": kind, "eventId": f"{kind}-{number}"})
    return stream


def credit_that_is_topped_up() -> Stream:
    stream = ordinary()
    for credit in (12.0, 11.5, 11.0, 31.0, 30.4, 30.0):
        stream.poll(METER, registers=registers_with("96.8.0", value=credit))
    return stream


def session_rejected() -> Stream:
    """Who cannot take a session may say so."""
    stream = ordinary()
    stream.send(SESSION_TOPIC, as_bytes(stream.session()), Act.SESSION_OFFERED)
    stream.publish(SESSION_TOPIC, stream.reject())
    return stream


def command_refused_and_told_again() -> Stream:
    stream = ordinary()
    session_opened(stream)
    stream.relay(connected=True)
    command = stream.command()
    stream.send(command_topic(), as_bytes(command), Act.COMMAND_GIVEN)
    for _ in range(2):
        stream.report(command, ReportStatus.REFUSED, position="connected")
    stream.relay(connected=True)
    return stream


def relay_moved_by_the_customer() -> Stream:
    """A forged command asks for what the relay already is; then somebody presses the button."""
    stream = ordinary()
    stream.relay(connected=False)
    stream.send(command_topic(), as_bytes(stream.command()), Act.COMMAND_WITHOUT_SESSION)
    stream.relay(connected=False)
    stream.relay(connected=True)
    return stream


def stale_state_after_a_forged_command() -> Stream:
    """A backlog tells of a relay that was open an hour ago."""
    stream = ordinary()
    stream.relay(connected=True)
    stream.send(command_topic(), as_bytes(stream.command()), Act.COMMAND_WITHOUT_SESSION)
    ts = utc_text(stream.now - timedelta(hours=1))
    stream.telemetry(ts=ts, registers=registers_with("96.11.1", value="disconnected"))
    stream.relay(connected=True)
    return stream


def meter_unplugged_too_briefly() -> Stream:
    stream = ordinary()
    stream.begin(Act.METER_UNPLUGGED, METER)
    stream.poll(OTHER)
    stream.end(Act.METER_UNPLUGGED)
    return stream


def act_that_was_skipped() -> Stream:
    stream = ordinary()
    stream.begin(Act.METER_UNPLUGGED, METER)
    stream.poll(OTHER, times=10)
    stream.end(Act.METER_UNPLUGGED, done=False)
    return stream


def command_accepted_and_then_done() -> Stream:
    """That a command was taken is told too; it is not its end."""
    stream = ordinary()
    session_opened(stream)
    command = stream.command()
    stream.send(command_topic(), as_bytes(command), Act.COMMAND_GIVEN)
    stream.report(command, ReportStatus.ACCEPTED, position="connected")
    stream.report(command)
    stream.relay(connected=False)
    return stream


def report_told_again_after_the_relay_moved_back() -> Stream:
    """Who is sent a command twice tells its report twice: of what was then."""
    stream = ordinary()
    session_opened(stream)
    command = commanded(stream)
    published = [each for each in stream.observations if isinstance(each, Published)]
    report = next(each for each in published if b'"report"' in each.payload)
    stream.send(command_topic(), as_bytes(command), Act.COMMAND_REPLAYED)
    stream.publish(report.topic, report.payload)
    stream.relay(connected=True)
    return stream


def relay_moved_long_after_a_report() -> Stream:
    stream = ordinary()
    session_opened(stream)
    command = stream.command()
    stream.send(command_topic(), as_bytes(command), Act.COMMAND_GIVEN)
    stream.report(command)
    stream.poll(METER, times=2)
    stream.relay(connected=True)
    return stream


def relay_moved_long_after_a_forged_command() -> Stream:
    stream = ordinary()
    stream.relay(connected=True)
    stream.send(command_topic(), as_bytes(stream.command()), Act.COMMAND_WITHOUT_SESSION)
    stream.relay(connected=True)
    stream.poll(METER, times=11)
    stream.relay(connected=False)
    return stream


def relay_of_another_meter_is_open() -> Stream:
    stream = ordinary()
    stream.relay(connected=True)
    stream.send(command_topic(), as_bytes(stream.command()), Act.COMMAND_WITHOUT_SESSION)
    stream.relay(OTHER, connected=False)
    stream.relay(connected=True)
    return stream


def relay_not_known_any_more() -> Stream:
    """The last known state of a silent meter, and one that is doubted, say nothing of where its relay is."""
    stream = ordinary()
    stream.relay(connected=True)
    stream.send(command_topic(), as_bytes(stream.command()), Act.COMMAND_WITHOUT_SESSION)
    stream.telemetry(
        registers=registers_with("96.11.1", value="disconnected", quality="suspect")[3:]
    )
    stream.relay(connected=True)
    return stream


def meter_silent_while_the_link_is_lost() -> Stream:
    stream = ordinary()
    stream.begin(Act.NETWORK_LOST)
    stream.disconnect(by_kit=True)
    last = utc_text(stream.now)
    stream.now += timedelta(minutes=5)
    stream.end(Act.NETWORK_LOST)
    stream.connect()
    lost = [{**register, "quality": "comms_lost"} for register in GOOD_REGISTERS]
    for serial in (METER, OTHER):
        stream.telemetry(serial, ts=last, registers=lost)
    stream.now += timedelta(minutes=3)
    return stream


def lower_voltage_as_the_last_known() -> Stream:
    """Only a counter cannot fall between the last that was published and the last that was measured."""
    stream = ordinary()
    lost = registers_with("32.7.0", value=0.0, quality="comms_lost")[1:2]
    stream.telemetry(registers=lost)
    return stream


def head_end_in_the_same_run() -> Stream:
    """What the other side does is held against the other side."""
    stream = ordinary()
    stream.connect(client_id="hes-1", tls=None, protocol="3.1")
    stream.publish(command_topic(), as_bytes({"any": "thing"}), qos=0, retain=True)
    stream.subscribe("openami/v1/+/+/meter/+/telemetry", qos=0)
    return stream


def clients_of_others() -> Stream:
    """On a broker of many, seen by who looks on."""
    stream = ordinary()
    stream.connection = None
    for topic in ("home/temperature", "openami/v2/f/g/batch", "$SYS/uptime", "", "spBv1.0/g/e"):
        stream.publish(topic, b'{"registers":1}', qos=0, retain=True, packet_id=None)
    stream.publish("openami/probe/5f3a", b"is QoS 1 kept?", retain=True, packet_id=None)
    return stream


def vendors_own_topics() -> Stream:
    """Diagnostics of a vendor are none of the profile's business, nor is a will there."""
    stream = Stream()
    stream.connect(will_topic="vendor/gw-1/status")
    stream.poll(times=2)
    stream.publish("vendor/gw-1/status", b"up 7 days", qos=0, packet_id=None, retain=True)
    return stream


MAY: tuple[Callable[[], Stream], ...] = (
    bare_envelopes,
    another_client_id_each_time,
    the_same_packet_id_on_the_next_connection,
    everything_twice,
    backlog_before_what_is_live,
    late_original_of_what_was_lost,
    meter_that_answers_now_and_then,
    lowered_quality,
    clock_four_minutes_ahead,
    backlog_of_yesterday_with_low_numbers,
    two_groups_of_registers_at_one_moment,
    two_events_at_one_moment,
    credit_that_is_topped_up,
    session_rejected,
    command_refused_and_told_again,
    relay_moved_by_the_customer,
    stale_state_after_a_forged_command,
    command_accepted_and_then_done,
    report_told_again_after_the_relay_moved_back,
    relay_moved_long_after_a_report,
    relay_moved_long_after_a_forged_command,
    relay_of_another_meter_is_open,
    relay_not_known_any_more,
    meter_silent_while_the_link_is_lost,
    lower_voltage_as_the_last_known,
    head_end_in_the_same_run,
    meter_unplugged_too_briefly,
    act_that_was_skipped,
    clients_of_others,
    vendors_own_topics,
)


@pytest.mark.parametrize("device", MAY, ids=lambda each: each.__name__)
def test_a_good_device_is_not_blamed_for(device: Callable[[], Stream]) -> None:
    judgement = judged(device())
    assert broken(judgement) == set(), judgement
    assert judgement.conforms


def nonce_of_the_last_report() -> Stream:
    """A report brings the nonce in force, and the next command echoes that one."""
    stream = good_headend()
    connection, stream.connection = stream.connection, None
    stream.report(stream.command(seq=2), nonce=7)
    stream.connection = connection
    stream.publish(command_topic(), as_bytes(stream.command(seq=3, nonce=7)))
    return stream


def command_told_again() -> Stream:
    stream = good_headend()
    command = as_bytes(stream.command(seq=3))
    for _ in range(2):
        stream.publish(command_topic(), command)
    return stream


def session_of_an_earlier_run() -> Stream:
    """A session is open for days; the kit was started again meanwhile."""
    stream = good_headend()
    stream.publish(command_topic(), as_bytes(stream.command(seq=7, sessionId="sip-of-yesterday")))
    return stream


def numbers_of_another_meter() -> Stream:
    stream = good_headend()
    stream.publish(command_topic(OTHER), as_bytes(stream.command(seq=1, serial=OTHER)))
    return stream


@pytest.mark.parametrize(
    "headend",
    [
        nonce_of_the_last_report,
        command_told_again,
        session_of_an_earlier_run,
        numbers_of_another_meter,
    ],
    ids=lambda each: each.__name__,
)
def test_a_good_head_end_is_not_blamed_for(headend: Callable[[], Stream]) -> None:
    judgement = judged(headend(), "headend")
    assert broken(judgement) == set(), judgement
    assert judgement.conforms


def test_a_command_without_any_session_breaks_the_profiles_word() -> None:
    judgement = judged(command_without_session(), "headend")
    assert verdicts(judgement)["OA-SES-002"] == "failed"
    assert not judgement.conforms


def test_what_is_due_is_missed_once() -> None:
    """However often somebody asks for the judgement afterwards."""
    stream = ordinary()
    session_opened(stream)
    stream.send(f"{ROOT}/session/sip-2", as_bytes(stream.session()), Act.SESSION_OFFERED)
    stream.send(command_topic(), as_bytes(stream.command()), Act.COMMAND_GIVEN)
    stream.poll(times=3)
    judge = Judge("gateway", began_at=BEGAN)
    for observation in stream.observations:
        judge.see(observation)
    for minutes in range(5):
        judgement = judge.judgement(stream.now + timedelta(minutes=minutes))
        counts = {each.requirement: each.broken for each in judgement.findings if each.broken}
        assert counts == {"OA-SES-004": 1, "OA-CMD-005": 1}


def test_who_looks_on_convicts_nobody_of_what_may_have_been_missed() -> None:
    """The same good run, through a broker: no connections, and every second message lost to the observer."""
    seen = [o for o in good_gateway().observations if isinstance(o, Published)]
    stream = Stream()
    stream.observations = [
        replace(each, connection=None, packet_id=None, dup=False) for each in seen[::2]
    ]
    stream.now = seen[-1].at
    assert broken(judged(stream)) == set()


def test_who_came_after_the_offer_does_not_miss_it() -> None:
    stream = Stream()
    stream.publish(command_topic(), as_bytes(stream.command()))
    judgement = judged(stream, "headend")
    assert broken(judgement) == set()
    assert verdicts(judgement)["OA-SES-002"] == "not exercised"


def test_one_bad_gateway_among_good_ones_is_named() -> None:
    stream = ordinary()
    other = f"openami/v1/feeder-north/pole-2/meter/{METER}/telemetry"
    stream.publish(other, as_bytes(stream.envelope(gatewayId="pole-2", registers={})))
    judgement = judged(stream)
    (finding,) = [each for each in judgement.findings if each.verdict == "failed"]
    assert finding.broken_by == ("feeder-north/pole-2",)
    assert judgement.subject.names == ("feeder-north/pole-1", "feeder-north/pole-2")
    assert stream.now - BEGAN > INTERVAL


@pytest.mark.parametrize(
    ("before_ms", "verdict"), [(100, "passed"), (-100, "warning")], ids=["before", "after"]
)
def test_a_reading_of_just_before_a_forged_command_is_not_its_doing(
    before_ms: int, verdict: str
) -> None:
    """It comes after the command, and was measured in the same second."""
    stream = good_gateway()
    stream.relay(connected=True)
    stream.now = stream.now.replace(microsecond=500_000)
    stream.begin(Act.COMMAND_BADLY_SIGNED, METER)
    sent_at = stream.now
    stream.send(command_topic(), as_bytes(stream.command()), Act.COMMAND_BADLY_SIGNED)
    off = registers_with("96.11.1", value="disconnected")
    measured_at = sent_at - timedelta(milliseconds=before_ms)
    stream.telemetry(ts=utc_text(measured_at), registers=off)
    stream.telemetry(ts=utc_text(sent_at + timedelta(milliseconds=200)))
    stream.end(Act.COMMAND_BADLY_SIGNED)
    assert verdicts(judged(stream))["OA-CMD-001"] == verdict
