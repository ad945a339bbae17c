"""Topics: parse and print are inverses, ids are checked both ways, filters cannot be widened."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.profile.messages import ids

from openami.profile import (
    Code,
    CommandTopic,
    EventTopic,
    FeederId,
    GatewayId,
    MeterSerial,
    ProfileError,
    SessionId,
    SessionTopic,
    TelemetryTopic,
    Topic,
    is_id,
    parse_topic,
)

F, G, M, S = FeederId("f"), GatewayId("g"), MeterSerial("m"), SessionId("s")
METER_TOPICS = [TelemetryTopic, EventTopic, CommandTopic]

topics: st.SearchStrategy[Topic] = st.one_of(
    st.builds(lambda kind, f, g, m: kind(f, g, m), st.sampled_from(METER_TOPICS), ids, ids, ids),
    st.builds(lambda f, g, s: SessionTopic(f, g, s), ids, ids, ids),
)
levels = st.one_of(
    st.sampled_from(["openami", "v1", "meter", "session", "telemetry", "event", *"+#.fgÿ"]),
    st.text(max_size=70),
    ids,
)


@given(topics)
def test_parse_undoes_print(topic: Topic) -> None:
    assert parse_topic(str(topic)) == topic


@given(
    st.one_of(
        st.text(max_size=200),
        st.lists(levels, max_size=9).map("/".join),
        st.lists(levels, max_size=7).map(lambda rest: "/".join(["openami", "v1", *rest])),
        st.tuples(levels, levels, levels).map(
            lambda three: "openami/v1/{}/{}/meter/{}/telemetry".format(*three)
        ),
    )
)
def test_print_undoes_parse_and_nothing_else_is_raised(text: str) -> None:
    match outcome_of(text):
        case ProfileError() as error:
            assert error.code in (Code.BAD_TOPIC, Code.BAD_ID)
            assert error.path == ""
            assert str(error).encode(), "it can be written to a log"
        case topic:
            assert str(topic) == text


def outcome_of(text: str) -> Topic | ProfileError:
    try:
        return parse_topic(text)
    except ProfileError as error:
        return error


@pytest.mark.parametrize(
    "text",
    ["/" * 65_536, "a" * 65_536, "openami/v1/" + "f" * 65_536, "openami/v1/\ud800/g/meter/m/event"],
    ids=["slashes", "one level", "a long id", "a lone surrogate"],
)
def test_a_hostile_topic_is_refused_and_its_error_is_short(text: str) -> None:
    with pytest.raises(ProfileError) as caught:
        parse_topic(text)
    assert len(str(caught.value).encode()) < 2_000


@pytest.mark.parametrize("kind", METER_TOPICS)
def test_a_topic_cannot_be_made_with_what_is_no_id(
    kind: type[TelemetryTopic] | type[EventTopic] | type[CommandTopic],
) -> None:
    assert str(kind(F, G, M)) == f"openami/v1/f/g/meter/m/{kind.leaf}"
    for wrong in ("", "a/b", "+", "#", "a b"):
        with pytest.raises(ProfileError, match="BAD_ID"):
            kind(F, G, MeterSerial(wrong))
        with pytest.raises(ProfileError, match="BAD_ID"):
            SessionTopic(F, G, SessionId(wrong))


def test_topics_of_different_kinds_differ() -> None:
    assert len({TelemetryTopic(F, G, M), EventTopic(F, G, M), TelemetryTopic(F, G, M)}) == 2


def test_a_filter_names_what_is_wanted_and_matches_any_of_the_rest() -> None:
    assert TelemetryTopic.filter() == "openami/v1/+/+/meter/+/telemetry"
    assert EventTopic.filter(feeder_id="f") == "openami/v1/f/+/meter/+/event"
    assert CommandTopic.filter("f", "g") == "openami/v1/f/g/meter/+/command"
    assert SessionTopic.filter("f", "g") == "openami/v1/f/g/session/+"


@given(st.text(max_size=80))
def test_a_filter_cannot_be_widened_by_a_name(name: str) -> None:
    assume(name != "+" and not is_id(name))
    with pytest.raises(ProfileError, match="BAD_ID"):
        TelemetryTopic.filter(meter_serial=name)
    with pytest.raises(ProfileError, match="BAD_ID"):
        SessionTopic.filter(session_id=name)


@given(topics)
def test_a_topic_is_matched_by_its_filter(topic: Topic) -> None:
    wanted = topic.filter(feeder_id=topic.feeder_id).split("/")
    found = str(topic).split("/")
    assert len(wanted) == len(found)
    assert all(w in ("+", f) for w, f in zip(wanted, found, strict=True))
