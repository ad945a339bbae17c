"""Where in a TOML file a key stands."""

import tomllib

import pytest

from openami.gateway.driver import KeyPath
from openami.gateway.toml_lines import KeyLines

TEXT = '''\
# a comment = not a key
feeder_id = "f"  # "quotes" in a comment
"quoted key" = 1
list = [
  "a = 1", # ]
  [1, 2],
]
long = """
[not.a.table]
x = 1 \\""" still inside
"""
raw = \'\'\'
y = 2\'\'\'

[mqtt] # trailing
url = "mqtt://h" # = #
tls.ca_file = "ca.pem"
inline = { a = 1, b = [
  2 ] }

[[line]]
name = "one"
[[line.meter]]
serial = "A"
[[line.meter]]
serial = "B"

[line.serial]
baud = 9600

[[line]]
name = "two"
  [[line.meter]]
  serial = "C"
[ a . "b.c" ]
'd' = 1
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("feeder_id",), 2),
        (("quoted key",), 3),
        (("list",), 4),
        (("long",), 8),
        (("raw",), 12),
        (("mqtt",), 15),
        (("mqtt", "url"), 16),
        (("mqtt", "tls", "ca_file"), 17),
        (("mqtt", "inline", "b", 0), 18),
        (("mqtt", "not there"), 15),
        (("line", 0), 21),
        (("line", 0, "name"), 22),
        (("line", 0, "meter", 0, "serial"), 24),
        (("line", 0, "meter", 1), 25),
        (("line", 0, "meter", 1, "serial"), 26),
        (("line", 0, "serial", "baud"), 29),
        (("line", 1, "name"), 32),
        (("line", 1, "meter", 0, "serial"), 34),
        (("line", 1, "meter", 0, "missing"), 33),
        (("a", "b.c", "d"), 36),
        (("x",), 1),
    ],
)
def test_each_key_has_its_line(path: KeyPath, line: int) -> None:
    assert tomllib.loads(TEXT)
    assert KeyLines(TEXT)[path] == line


@pytest.mark.parametrize("ending", ["\r\n", "\n"])
def test_lines_end_as_they_do_on_any_machine(ending: str) -> None:
    assert KeyLines(ending.join(["a = 1", "", "b = 2"]))[("b",)] == 3
