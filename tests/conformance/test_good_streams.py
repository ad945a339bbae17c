"""A good gateway and a good head-end pass everything; a good device is not failed for what it may do."""

from tests.conformance.streams import good_gateway, good_headend, judged, ordinary, verdicts

from openami.profile.requirements import requirements


def test_a_good_gateway_passes_all_that_can_be_tested() -> None:
    judgement = judged(good_gateway())
    told = {f.requirement: (f.verdict, f.evidence) for f in judgement.findings}
    for number, (verdict, evidence) in told.items():
        expected = "passed" if requirements()[number].testable else "not testable"
        assert verdict == expected, (number, evidence)
    assert judgement.conforms


def test_a_good_head_end_passes_all_that_can_be_tested() -> None:
    judgement = judged(good_headend(), "headend")
    for number, verdict in verdicts(judgement).items():
        expected = "passed" if requirements()[number].testable else "not testable"
        assert verdict == expected, (number, judgement)
    assert judgement.conforms


def test_a_gateway_that_only_polls_conforms() -> None:
    judgement = judged(ordinary())
    assert set(verdicts(judgement).values()) == {"passed", "not exercised"}
    assert judgement.conforms
