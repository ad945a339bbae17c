"""The published report says what the judge of this version says of the firmware's messages."""

from collections.abc import Iterator
from datetime import timedelta

from tests.bridge.bridged import Bridged
from tools.meshems_conformance import (
    LOOKS,
    PAGE,
    Sent,
    as_they_come,
    bridge_connects,
    judged,
    page,
    through_the_bridge,
)

from openami.profile import decode_envelope


def test_the_page_is_what_the_judge_says() -> None:
    assert PAGE.read_text() == page(), "write it anew: python -m tools.meshems_conformance"


def test_the_firmware_fails_and_the_bridge_passes() -> None:
    conforms = [look.judge().conforms for look in LOOKS]
    assert conforms == [False, False, False, True]


def test_nothing_of_the_bridges_is_even_warned_of() -> None:
    judgement = judged(through_the_bridge(as_they_come()), bridge_connects(), qos=1)
    assert {f.verdict for f in judgement.findings} <= {"passed", "not exercised"}


def test_the_judge_would_see_a_bridge_that_passes_values_on_in_the_wrong_unit() -> None:
    """The report can fail: one unit that is forgotten is found."""

    def spoilt() -> list[tuple[str, bytes, object]]:
        sent = list(through_the_bridge(as_they_come()))
        topic, payload, at = sent[-1]
        assert decode_envelope(payload)
        return [*sent, (topic, payload.replace(b'"kWh"', b'"Wh"'), at)]

    judgement = judged(spoilt(), bridge_connects(), qos=1)  # type: ignore[arg-type]
    assert "OA-REG-008" in {f.requirement for f in judgement.findings if f.broken}


def a_bad_day() -> Iterator[Sent]:
    """Yield what the bridge publishes while polls fail, a pole boots anew, a meter is reset, and nothing comes."""
    bridged = Bridged()

    def rounds(count: int) -> Iterator[Sent]:
        for _ in range(count):
            for told in bridged.round():
                for outgoing in told.outgoing:
                    yield str(outgoing.topic), outgoing.envelope.encode(), told.at

    yield from rounds(6)
    bridged.pole.answering = False
    yield from rounds(20)
    bridged.pole.answering = True
    yield from rounds(3)
    bridged.pole.booted_at = bridged.now
    bridged.pole.houses[0].import_wh = 0.0
    bridged.now += timedelta(seconds=60)
    yield from rounds(8)
    bridged.now += timedelta(hours=2)
    for told in bridged.poles.silences(bridged.now):
        for outgoing in told.outgoing:
            yield str(outgoing.topic), outgoing.envelope.encode(), bridged.now
    yield from rounds(3)


def test_a_bad_day_of_the_bridge_is_passed_too() -> None:
    judgement = judged(a_bad_day(), bridge_connects(), qos=1)
    assert not [f for f in judgement.findings if f.broken]
    passed = {f.requirement for f in judgement.findings if f.verdict == "passed"}
    assert {"OA-REG-012", "OA-SIL-001", "OA-EVT-001", "OA-EVT-002", "OA-QOS-002"} <= passed
