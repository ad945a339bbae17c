"""Cases in one test: no failure is lost among those that pass."""

import pytest
from tests.cases import in_one_test


def test_every_case_that_fails_is_named_with_its_failure() -> None:
    seen: list[float] = []

    @in_one_test(range(5), name=lambda number: f"number {number}")
    def check(number: int) -> None:
        seen.append(number)
        assert number != 1
        if number == 3:
            with pytest.raises(ValueError):
                int("3")

    with pytest.raises(BaseExceptionGroup) as caught:
        check()
    assert seen == list(range(5))
    assert str(caught.value).startswith("2 of 5 cases fail\n  case: number 1\n  case: number 3")
    assert [type(each) for each in caught.value.exceptions] == [
        AssertionError,
        pytest.fail.Exception,
    ]


def test_cases_of_one_name_are_all_checked() -> None:
    seen: list[float] = []
    in_one_test([1, 1.0], name=lambda _: "one")(seen.append)()
    assert [type(each) for each in seen] == [int, float]


def test_no_cases_is_no_test() -> None:
    with pytest.raises(ValueError, match="no cases"):
        in_one_test([])
