"""The published report says what the judge of this version says of the firmware's messages."""

from tools.meshems_conformance import (
    LOOKS,
    PAGE,
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
