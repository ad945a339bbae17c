"""An operator's TOML: what tomllib lets out is one error, and what it reads is read."""

import sys
from decimal import Decimal

import pytest

from openami.profile import one_line
from openami.toml_text import TomlError, read_toml

_DIGITS_MAX = sys.get_int_max_str_digits()


def test_a_sound_text_is_read() -> None:
    assert read_toml("a.b = [1, {c = 'x'}]") == {"a": {"b": [1, {"c": "x"}]}}
    assert read_toml("a = 0.1", parse_float=Decimal) == {"a": Decimal("0.1")}
    assert read_toml(r'a = "\\u0000"') == {"a": r"\u0000"}, "a backslash, and no NUL"


@pytest.mark.parametrize(
    ("sound", "spoilt", "says"),
    [
        ("x = 1", "x = ", "is not TOML"),
        (f"x = {'9' * _DIGITS_MAX}", f"x = {'9' * (_DIGITS_MAX + 1)}", "digits"),
        ("x = " + "[" * 16 + "]" * 16, "x = " + "[" * 1000 + "]" * 1000, "recursion"),
        (r'x = "\u0001"', r'x = "\u0000"', "x: holds a NUL character"),
        (r'a = [{x = "\u0001"}]', r'a = [{x = "\u0000"}]', "x: holds a NUL character"),
        (r'"x\u0001" = 1', r'"x\u0000" = 1', r"x\x00: holds a NUL character"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(sound: str, spoilt: str, says: str) -> None:
    assert read_toml(sound)
    with pytest.raises(TomlError) as caught:
        read_toml(spoilt)
    assert says in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("മീറ്റർ 'x' ⚡", "മീറ്റർ 'x' ⚡"),
        ("a\nready: b", r"a\nready: b"),
        ("\x1b[2J\u2028\ud800", r"\x1b[2J\u2028\ud800"),
    ],
)
def test_one_line_shows_what_does_not_print(text: str, line: str) -> None:
    assert one_line(text) == line
