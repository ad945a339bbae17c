"""The judge keeps count, keeps a few pieces of evidence, forgets the rest, and takes whatever anybody sends."""

import string
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conformance.streams import (
    BEGAN,
    METER,
    ROOT,
    Stream,
    as_bytes,
    command_topic,
    good_headend,
    judged,
    ordinary,
)
from tests.profile.messages import spoilt_messages

from openami.conformance.excerpt import EXCERPT_CHARS_MAX, excerpt
from openami.conformance.judge import EVIDENCE_KEPT_MAX, NAMES_KEPT_MAX, Judge
from openami.conformance.judgement import Finding, Kind
from openami.conformance.observation import (
    Acknowledged,
    Act,
    ActBegan,
    ActEnded,
    Connected,
    Disconnected,
    Observation,
    Published,
    RelaySeen,
    Sent,
    Subscribed,
)
from openami.conformance.recent import Recent
from openami.conformance.rules import readings
from openami.conformance.summary import summary


def finding_of(stream: Stream, number: str) -> Finding:
    (finding,) = [each for each in judged(stream).findings if each.requirement == number]
    return finding


def test_every_occasion_is_counted_and_a_few_different_ones_are_kept() -> None:
    stream = ordinary()
    seen = finding_of(stream, "OA-REG-002").seen
    for meter in range(12):
        for _ in range(3):
            stream.telemetry(f"DS1000-{meter}", registers=[{"obis": "energy"}])
    finding = finding_of(stream, "OA-REG-002")
    assert (finding.seen, finding.broken) == (seen + 36, 36)
    assert len(finding.evidence) == EVIDENCE_KEPT_MAX
    assert len({evidence.topic for evidence in finding.evidence}) == EVIDENCE_KEPT_MAX


def test_evidence_shows_when_where_and_the_part_of_the_message() -> None:
    stream = ordinary()
    at = stream.now
    stream.telemetry(registers=[{"obis": "1.8.0", "value": None, "unit": "kWh", "quality": "good"}])
    (evidence,) = finding_of(stream, "OA-REG-004").evidence
    assert evidence.at == at
    assert evidence.topic == f"{ROOT}/meter/{METER}/telemetry"
    assert evidence.pointer == "/registers/0/value"
    assert evidence.excerpt == (
        '{"obis": "1.8.0", "value": null, "unit": "kWh", "quality": "good"}'
    )
    assert "value is null" in evidence.detail


def test_a_pass_shows_its_first_occasion() -> None:
    finding = finding_of(ordinary(), "OA-QOS-001")
    (evidence,) = finding.evidence
    assert (finding.verdict, finding.remedy, evidence.detail) == ("passed", "", "")
    assert evidence.topic.endswith("/telemetry")


def test_several_faults_of_one_message_are_one_occasion() -> None:
    stream = Stream()
    stream.connect()
    stream.telemetry(registers=[{"obis": "a"}, {"obis": "b"}])
    finding = finding_of(stream, "OA-REG-002")
    assert (finding.seen, finding.broken) == (1, 1)
    assert finding.evidence[0].detail.endswith("and 1 more in this message")


def test_what_is_not_there_is_not_passed() -> None:
    """A message without ts says nothing of how its times are written."""
    stream = Stream()
    stream.connect()
    stream.poll(times=3, ts=None)
    assert finding_of(stream, "OA-ENV-008").verdict == "not exercised"
    stream = Stream()
    stream.connect()
    stream.publish(f"{ROOT}/meter/{METER}/telemetry", b"not json")
    assert finding_of(stream, "OA-ENV-004").verdict == "not exercised"


def test_names_are_bounded() -> None:
    stream = ordinary()
    for number in range(2 * NAMES_KEPT_MAX):
        topic = f"openami/v1/f/pole-{number}/meter/{METER}/telemetry"
        stream.publish(topic, as_bytes({}))
    judgement = judged(stream)
    assert len(judgement.subject.names) == NAMES_KEPT_MAX
    (finding,) = [each for each in judgement.findings if each.requirement == "OA-ENV-005"]
    assert len(finding.broken_by) == NAMES_KEPT_MAX


def test_a_head_end_is_named_by_its_client_or_by_whom_it_commands() -> None:
    assert judged(good_headend(), "headend").subject.names == ("hes-1",)
    stream = Stream()
    stream.publish(command_topic(), as_bytes({}))
    judgement = judged(stream, "headend")
    assert judgement.subject.names == ("the head-end of feeder-north/pole-1",)
    (finding,) = [each for each in judgement.findings if each.requirement == "OA-CMD-007"]
    assert finding.broken_by == judgement.subject.names


def test_a_judgement_can_be_asked_for_at_any_time_and_again() -> None:
    stream = ordinary()
    judge = Judge("gateway", began_at=BEGAN, vendor="Acme", model="G1", firmware="7")
    for observation in stream.observations:
        judge.see(observation)
        judge.judgement(observation.at)
    whole = judged(stream)
    again = judge.judgement(stream.now + timedelta(minutes=10))
    assert again.findings == whole.findings
    assert (again.subject.vendor, again.subject.model, again.subject.firmware) == (
        "Acme",
        "G1",
        "7",
    )


# --- what is wrong on the way to a screen ------------------------------------------------------------


def test_an_excerpt_is_short_and_harmless() -> None:
    assert excerpt(b"\x1b]0;owned\x07\xff", "") == r"\x1b]0;owned\x07\xff"
    assert len(excerpt(b"x" * 70_000, "")) == EXCERPT_CHARS_MAX
    assert excerpt(b'{"ts":"today","a":1}', "/ts") == '{"ts": "today"}'
    assert excerpt(b'{"registers":[]}', "/registers/7") == '{"registers":[]}'
    assert excerpt(b"[1", "/ts") == "[1"


def test_a_summary_obeys_nobody() -> None:
    stream = ordinary()
    stream.publish("openami/v1/\x1b[31m/a/meter/b/telemetry", b"\x1b[31m")
    lines = list(summary(judged(stream)))
    assert all(line.isprintable() for line in lines)


# --- whatever comes ----------------------------------------------------------------------------------

_topics = st.one_of(
    st.sampled_from(
        [
            *(f"{ROOT}/meter/{METER}/{leaf}" for leaf in ("telemetry", "event", "command")),
            *(f"{ROOT}/session/s-1", "openami/v1", "/openami/v1/a/b/meter/c/telemetry", "other"),
        ]
    ),
    st.text(string.printable, max_size=40),
)
_payloads = st.one_of(
    spoilt_messages,
    st.binary(max_size=60),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["report", "command", "signature", "registers", "sessionId", "x"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    ).map(as_bytes),
)
_connections = st.none() | st.integers(1, 3)
_at = st.integers(0, 10_000).map(lambda seconds: BEGAN + timedelta(seconds=seconds))
_serials = st.sampled_from([METER, "other", ""])
_observations: st.SearchStrategy[Observation] = st.one_of(
    st.builds(
        Published,
        _at,
        _topics,
        _payloads,
        st.integers(0, 2),
        st.booleans(),
        dup=st.booleans(),
        connection=_connections,
        packet_id=st.none() | st.integers(1, 3),
    ),
    st.builds(Sent, _at, _topics, _payloads, st.sampled_from(Act)),
    st.builds(
        Connected,
        _at,
        st.integers(1, 3),
        st.text(max_size=4),
        st.text(max_size=4),
        st.booleans(),
        st.integers(0, 9),
        st.none() | _topics,
        st.none() | st.text(max_size=4),
        st.none(),
    ),
    st.builds(Disconnected, _at, st.integers(1, 3), st.booleans(), st.booleans()),
    st.builds(
        Subscribed,
        _at,
        st.integers(1, 3),
        st.lists(st.tuples(_topics, st.integers(0, 2)), max_size=3).map(tuple),
    ),
    st.builds(Acknowledged, _at, st.integers(1, 3), st.integers(1, 3), st.booleans()),
    st.builds(ActBegan, _at, st.sampled_from(Act), st.none() | _serials),
    st.builds(ActEnded, _at, st.sampled_from(Act), st.booleans()),
    st.builds(RelaySeen, _at, _serials, st.booleans()),
)


@pytest.mark.parametrize("kind", ["gateway", "headend"])
@given(observations=st.lists(_observations, max_size=30))
def test_the_judge_takes_whatever_anybody_sends(
    kind: Kind, observations: list[Observation]
) -> None:
    judge = Judge(kind, began_at=BEGAN)
    for observation in sorted(observations, key=lambda each: each.at):
        judge.see(observation)
    judgement = judge.judgement(BEGAN + timedelta(days=1))
    for finding in judgement.findings:
        assert 0 <= finding.broken <= finding.seen
        assert (finding.verdict == "not exercised") == (not finding.seen) or (
            finding.verdict == "not testable"
        )
    assert all(line.isprintable() for line in summary(judgement))


@pytest.mark.parametrize("kind", ["gateway", "headend"])
@given(observations=st.lists(_observations, max_size=30), waits=st.lists(st.integers(0, 600)))
def test_a_replay_comes_to_the_same_judgement_however_often_it_was_asked_for(
    kind: Kind, observations: list[Observation], waits: list[int]
) -> None:
    """A report is checked by judging its transcript again, where nobody looks at a checklist meanwhile."""
    looked_at, replayed = Judge(kind, began_at=BEGAN), Judge(kind, began_at=BEGAN)
    ordered = sorted(observations, key=lambda each: each.at)
    for number, observation in enumerate(ordered):
        looked_at.see(observation)
        replayed.see(observation)
        until = ordered[number + 1].at if number + 1 < len(ordered) else BEGAN + timedelta(days=1)
        for wait_s in waits:
            looked_at.judgement(min(until, observation.at + timedelta(seconds=wait_s)))
    end = BEGAN + timedelta(days=1)
    assert looked_at.judgement(end) == replayed.judgement(end)


# --- bounds -------------------------------------------------------------------------------------------


def test_what_was_noted_longest_ago_goes_first() -> None:
    recent: Recent[int, str] = Recent(2)
    for number in (1, 2, 1, 3):
        recent.note(number, "")
    assert (1 in recent, 2 in recent, 3 in recent, len(recent)) == (True, False, True, 2)
    assert recent.forget(1) == ""
    assert recent.forget(1) is None


def test_moments_are_remembered_up_to_the_bound() -> None:
    stream = ordinary()
    judge = Judge("gateway", began_at=BEGAN)
    for _ in range(readings.MOMENTS_KEPT_MAX + 5):
        stream.telemetry()
    for observation in stream.observations:
        judge.see(observation)
    kept: list[Any] = [group for group in judge._groups if isinstance(group, readings.Readings)]
    assert len(kept[0]._moments) == readings.MOMENTS_KEPT_MAX
