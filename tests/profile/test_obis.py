"""OBIS codes: one identity in every spelling, by table and not by arithmetic (decision 0003)."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.profile.messages import codes, groups

from openami.profile import Obis, ProfileError, shipped_catalogue

letters = st.sampled_from(["C", "F", "L", "P"])
NUMBERS = {"C": 96, "F": 97, "L": 98, "P": 99}


@given(codes)
def test_print_and_parse_are_inverses_on_codes(text: str) -> None:
    code = Obis.parse(text)
    assert Obis.parse(str(code)) == code
    assert Obis.parse(code.full) == code
    assert str(Obis.parse(str(code))) == str(code)
    assert hash(Obis.parse(str(code))) == hash(code)


@given(st.text(st.sampled_from("0123456789CFLP.-:*&"), max_size=25) | st.text(max_size=30))
def test_any_text_is_a_code_or_a_profile_error(text: str) -> None:
    match outcome_of(text):
        case ProfileError() as error:
            assert (error.code, error.requirement) == ("BAD_OBIS", "OA-REG-002")
        case code:
            assert Obis.parse(str(code)) == code


def outcome_of(text: str) -> Obis | ProfileError:
    try:
        return Obis.parse(text)
    except ProfileError as error:
        return error


@pytest.mark.parametrize("text", ["1" * 65_536, "1." * 32_768, "\ud800.1.1", "1.8.0\0"])
def test_hostile_text_is_refused_with_a_short_error(text: str) -> None:
    with pytest.raises(ProfileError) as caught:
        Obis.parse(text)
    assert len(str(caught.value).encode()) < 1_000


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("1.8.0", "1.8.0"),
        ("1-0:1.8.0*255", "1.8.0"),
        ("1-0:1.8.0", "1.8.0"),
        ("01.08.00", "1.8.0"),
        ("C.1.0", "96.1.0"),
        ("0-0:96.1.0*255", "96.1.0"),
        ("F.F", "97.97.0"),
        ("F.F.1", "97.97.1"),
        ("1.C.0", "1.96.0"),
        ("1.8.0*1", "1-0:1.8.0*1"),
        ("1.8.0&01", "1-0:1.8.0*1"),
        ("1-1:1.8.0*255", "1-1:1.8.0*255"),
        ("1.99.7", "1.99.7"),
        ("1.99.7*3", "1.99.7*3"),
        ("1-0:1.0.0*255", "1-0:1.0.0*255"),
        ("0-0:1.0.0*255", "1.0.0"),
        ("255-255:255.255.255*254", "255-255:255.255.255*254"),
    ],
)
def test_a_code_prints_in_its_canonical_form(text: str, canonical: str) -> None:
    assert str(Obis.parse(text)) == canonical


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "1", "1.8", "1.8.", ".8.0", "1..0", "1.8.0.", "1.8.0.1", "1.0.1.8.0.255"),
        *("256.1.1", "1.256.1", "1.1.256", "256-0:1.8.0", "1-256:1.8.0", "1.8.0*256", "0001.8.0"),
        *("1:1.8.0", "1-:1.8.0", "-0:1.8.0", "1-0;1.8.0", "1-0.1.8.0", "1-0:1.8.0*", "1.8.0*1*1"),
        *("c.1.0", "X.1.0", "1.8.C", "C", "C.", "CC.1.0", "+1.8.0", "-1.8.0", "1.8.0\n", " 1.8.0"),
        *("1,8,0", "1x8x0", "１.8.0", "1.8.0*C"),
    ],
)
def test_what_is_no_code_is_refused(text: str) -> None:
    with pytest.raises(ProfileError, match="BAD_OBIS"):
        Obis.parse(text)


@given(letters, letters | groups.map(str), groups)
def test_letters_are_numbers(c: str, d: str, e: int) -> None:
    numbers = f"{NUMBERS[c]}.{NUMBERS.get(d, d)}"
    assert Obis.parse(f"{c}.{d}.{e}") == Obis.parse(f"{numbers}.{e}")
    assert Obis.parse(f"{c}.{d}") == Obis.parse(f"{numbers}.0")


def test_every_code_of_the_register_list_is_one_register_in_both_spellings() -> None:
    for register in shipped_catalogue():
        assert register.full is not None
        code = Obis.parse(register.full)
        assert code == Obis.parse(register.obis)
        assert str(code) == register.obis
        assert code.full == register.full
        assert code.in_list


@given(groups, groups, groups, groups, groups, groups)
def test_a_code_is_its_groups(a: int, b: int, c: int, d: int, e: int, f: int) -> None:
    code = Obis((a, b, c, d, e, f))
    assert Obis.parse(f"{a}-{b}:{c}.{d}.{e}*{f}") == code
    assert code.groups == (a, b, c, d, e, f)


def test_groups_of_a_listed_reduced_code_are_completed() -> None:
    assert Obis((None, None, 1, 8, 0, 255)) == Obis.parse("1.8.0")
    assert Obis((None, None, 1, 99, 0, 255)).groups[:2] == (None, None)


@pytest.mark.parametrize(
    "wrong",
    [(1, 0, 256, 8, 0, 255), (1, 0, -1, 8, 0, 255), (1, None, 1, 8, 0, 255), (None, 0, 1, 8, 0, 9)],
)
def test_groups_that_are_none_are_refused(
    wrong: tuple[int | None, int | None, int, int, int, int],
) -> None:
    with pytest.raises(ProfileError, match="BAD_OBIS"):
        Obis(wrong)


def test_a_code_does_not_change_and_travels() -> None:
    code = Obis.parse("1-0:1.8.0*12")
    with pytest.raises(AttributeError):
        code.groups = (None, None, 1, 1, 1, 255)
    assert copy.deepcopy(code) == code
    assert copy.copy(code) == code
    assert repr(code) == "Obis('1-0:1.8.0*12')"


def test_codes_are_ordered_by_quantity_and_differ_from_their_text() -> None:
    texts = ["2.8.0", "1.8.1", "1-1:1.8.0", "1.8.0*1", "1.8.0"]
    ordered = [str(code) for code in sorted(map(Obis.parse, texts))]
    assert ordered == ["1-0:1.8.0*1", "1.8.0", "1-1:1.8.0*255", "1.8.1", "2.8.0"]
    assert Obis.parse("1.8.0") <= Obis.parse("1-0:1.8.0")
    assert Obis.parse("1.8.0") != "1.8.0"
