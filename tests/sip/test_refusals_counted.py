"""``make mutants`` takes every refusal out in turn; what it passes over is still there to be passed over."""

from tools.mutants import COVERED, TARGETS, mutants


def test_every_refusal_is_found() -> None:
    found = list(mutants())
    assert len(found) > 120
    assert len({mutant.text for mutant in found}) == len(found)
    assert {path.stem for path in TARGETS} >= {mutant.path.stem for mutant in found}


def test_what_is_covered_by_a_second_check_exists_once() -> None:
    names = [mutant.name for mutant in mutants()]
    assert {name: names.count(name) for name in COVERED} == dict.fromkeys(COVERED, 1)
