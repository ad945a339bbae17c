"""Many cases in one test, each told by its name when it fails.

A test of its own costs some 5 ms in each run, however little it does: it is collected by every process, set up,
sent, counted. For cases by the dozen or hundred, each over in less, and without fixtures.
"""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import pytest

T = TypeVar("T")


def in_one_test(
    cases: Iterable[T], *, name: Callable[[T], str] = str
) -> Callable[[Callable[[T], object]], Callable[[], None]]:
    """Decorate a check of one case: a test that checks all of them, and fails with every case that does.

    Raises ValueError when there are no cases: a test that looks at nothing must not pass.
    """
    listed = list(cases)
    if not listed:
        raise ValueError("there are no cases")

    def decorated(check: Callable[[T], object]) -> Callable[[], None]:
        @functools.wraps(check)
        def test() -> None:
            failures: list[BaseException] = []
            for case in listed:
                try:
                    check(case)
                # What a test fails with, `pytest.raises` that caught nothing among it; never a skip.
                except (Exception, pytest.fail.Exception) as failure:
                    failure.add_note(f"case: {name(case)}")
                    failures.append(failure)
            if failures:
                names = "\n  ".join(failure.__notes__[-1] for failure in failures)
                said = f"{len(failures)} of {len(listed)} cases fail\n  {names}"
                raise BaseExceptionGroup(said, failures)

        # pytest asks for a fixture for each parameter it sees, and would see those of the check.
        as_seen: Any = test
        as_seen.__signature__ = inspect.Signature()
        return test

    return decorated
