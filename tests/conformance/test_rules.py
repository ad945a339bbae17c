"""Every requirement has a rule and somebody who breaks it, and is convicted exactly there."""

from datetime import timedelta

import pytest
from tests.conformance.mutants import GATEWAYS, HEADENDS, MORE_GATEWAYS, MORE_HEADENDS, Mutant
from tests.conformance.streams import BEGAN, broken, judged

from openami.conformance.judge import Judge
from openami.conformance.judgement import Kind
from openami.conformance.rules.groups import groups
from openami.profile import shipped_catalogue
from openami.profile.requirements import requirements

CASES: list[tuple[str, str, Kind, Mutant]] = [
    *((number, number, "gateway", mutant) for number, mutant in GATEWAYS.items()),
    *((what, number, "gateway", mutant) for what, (number, mutant) in MORE_GATEWAYS.items()),
    *((f"{number} of a head-end", number, "headend", m) for number, m in HEADENDS.items()),
    *((what, number, "headend", mutant) for what, (number, mutant) in MORE_HEADENDS.items()),
]


@pytest.mark.parametrize("kind", ["gateway", "headend"])
def test_every_requirement_has_a_rule_and_one_who_breaks_it(kind: Kind) -> None:
    testable = {r.id for r in requirements().values() if r.testable and kind in r.of}
    ruled = {number for group in groups(kind, shipped_catalogue()) for number in group.requirements}
    assert testable <= ruled
    assert testable == set(GATEWAYS if kind == "gateway" else HEADENDS)


def test_what_cannot_be_tested_has_no_rule() -> None:
    ruled = {
        number
        for kind in ("gateway", "headend")
        for group in groups(kind, shipped_catalogue())
        for number in group.requirements
    }
    assert not ruled & {r.id for r in requirements().values() if not r.testable}


@pytest.mark.parametrize(("what", "number", "kind", "mutant"), CASES, ids=[c[0] for c in CASES])
def test_a_breach_is_convicted_exactly_there(
    what: str, number: str, kind: Kind, mutant: Mutant
) -> None:
    judgement = judged(mutant(), kind)
    assert broken(judgement) == {number}
    (finding,) = [each for each in judgement.findings if each.requirement == number]
    is_profile = requirements()[number].is_profile
    assert finding.verdict == ("failed" if is_profile else "warning")
    assert judgement.conforms == (not is_profile)
    assert finding.remedy
    assert finding.broken_by
    assert all(evidence.detail for evidence in finding.evidence)


@pytest.mark.parametrize(
    "number", ["OA-DEL-001", "OA-DEL-003", "OA-SES-004", "OA-CMD-005", "OA-SIL-001", "OA-TLS-001"]
)
def test_when_it_was_asked_for_changes_no_judgement(number: str) -> None:
    """What did not come in time is missed at the same moment by who looks every second and who looks at the end."""
    stream = GATEWAYS[number]()
    judge = Judge("gateway", began_at=BEGAN)
    until = [each.at for each in stream.observations[1:]] + [stream.now + timedelta(minutes=10)]
    for observation, next_at in zip(stream.observations, until, strict=True):
        judge.see(observation)
        now = observation.at
        while now < next_at:
            judge.judgement(now)
            now += timedelta(seconds=10)
    assert judge.judgement(stream.now + timedelta(minutes=10)) == judged(stream)
