"""Whatever comes from the firmware's broker, which asks nobody who he is: bounded, and conformant or nothing."""

import json
import math
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.bridge.bridged import Bridged, envelopes
from tests.bridge.firmware_samples import POLE, cabinet, leakage, meter, nameplate, panel

from openami.bridge.firmware import FILTERS, parse_topic
from openami.headend.ingest import Accepted, Message, ingest
from openami.profile import Quality, shipped_catalogue

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)
numbers = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.integers(-(2**40), 2**40),
    st.sampled_from([0, -0.0, 230.1, 0.99, 65535, 64585, 1725.4, 16777216, 1e-45, 3.4e38]),
)
stamps = st.one_of(st.integers(-(2**31), 2**31 - 1), anything)
shapes = {
    "meter_0": meter(1000),
    "subpanel_3Ph": panel(1000),
    "subpanel_ENV": cabinet(1000),
    "subpanel_MFR": nameplate(1000),
    "subpanel_RCMleaks": leakage(1000),
}


@st.composite
def spoilt(draw: st.DrawFn) -> tuple[str, bytes]:
    """A message of the firmware's shape of which some members are something else."""
    name = draw(st.sampled_from(sorted(shapes)))
    members: dict[str, Any] = dict(shapes[name])
    for changed in draw(st.lists(st.sampled_from(sorted(members)), max_size=6)):
        members[changed] = draw(numbers | anything)
    members["timestamp"] = draw(stamps)
    return name, json.dumps(members).encode()


@settings(max_examples=120)
@given(st.lists(st.tuples(spoilt(), st.floats(0, 4000)), min_size=1, max_size=12))
def test_what_is_published_is_taken_whole_by_a_head_end(
    messages: list[tuple[tuple[str, bytes], float]],
) -> None:
    bridged = Bridged().settled()
    for (name, payload), pause_s in messages:
        bridged.now += timedelta(seconds=pause_s)
        for outgoing in bridged.hear(name, payload).outgoing:
            topic, raw = str(outgoing.topic), outgoing.envelope.encode()
            decision = ingest(Message(topic, raw, bridged.now), catalogue=shipped_catalogue())
            assert isinstance(decision, Accepted), decision
            assert not decision.rejected_items
            assert outgoing.envelope.ts <= bridged.now
            for register in outgoing.envelope.registers:
                assert not isinstance(register.value, float) or math.isfinite(register.value)


@settings(max_examples=100)
@given(st.binary(max_size=300), st.sampled_from([*sorted(shapes), "//door", "cmd"]))
def test_bytes_of_anybody_raise_nothing(payload: bytes, name: str) -> None:
    Bridged().hear("", payload, topic=f"openami/{POLE}/{name}")


@settings(max_examples=100)
@given(st.text(max_size=60))
def test_a_topic_of_anybody_raises_nothing(tail: str) -> None:
    Bridged().hear("", meter(1000), topic=f"openami/{tail}")
    topic = parse_topic(f"openami/{tail}")
    assert topic is None or len(topic.pole) <= 32


@settings(max_examples=80)
@given(st.lists(st.tuples(spoilt(), st.floats(0, 400)), min_size=1, max_size=10))
def test_nothing_is_vouched_for_without_a_trusted_clock(
    messages: list[tuple[tuple[str, bytes], float]],
) -> None:
    bridged = Bridged(clock_trusted=False)
    for (name, payload), pause_s in messages:
        bridged.now += timedelta(seconds=pause_s)
        for envelope in envelopes(bridged.hear(name, payload)):
            assert all(r.quality is not Quality.GOOD for r in envelope.registers)


def test_the_bridge_asks_for_no_topic_of_the_profile() -> None:
    assert all("#" not in filter_ and "v1" not in filter_ for filter_ in FILTERS)
