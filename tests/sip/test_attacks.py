"""Every attack is refused with its code, and its honest twin is not refused at all."""

from tests.cases import in_one_test
from tests.sip.attacks import ATTACKS, Attack
from tests.sip.village import MOVED, Village

each_attack = in_one_test(ATTACKS, name=lambda attack: f"{attack.row} {attack.what}")


@each_attack
def test_the_attack_comes_to_nothing(attack: Attack) -> None:
    village = Village(ready=attack.ready)
    before = len(village.pole.movements)
    assert attack.play(village, True) == attack.outcome
    if attack.outcome.isupper():
        digests = [digest for _, digest in village.pole.movements]
        assert len(digests) == len(set(digests)) >= before


@each_attack
def test_its_honest_twin_is_not_refused(attack: Attack) -> None:
    assert attack.play(Village(ready=attack.ready), False) == attack.twin


def test_no_row_of_the_table_is_missing() -> None:
    numbers = {int("".join(c for c in a.row.split(" ")[0] if c.isdigit())) for a in ATTACKS}
    assert numbers >= set(range(1, 114))


def test_a_twin_is_honest() -> None:
    """An attack that is to work is its own proof; any other ends otherwise than its twin."""
    for attack in ATTACKS:
        works = "(must work)" in attack.what or attack.row == "69d"
        assert (attack.outcome == attack.twin) == works, attack.row
        assert attack.twin == MOVED or not attack.twin.isupper()
