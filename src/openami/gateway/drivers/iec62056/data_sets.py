"""A block's data, read: ``1.8.0(001842.50*kWh)`` (IEC 62056-21, clauses 6.3.4 and 6.4). Pure.

Data end in a line with ``!``. A line holds one data set or several; a data set has a code and one value or
more, each in parentheses, with its unit behind a star. A line that is none of this is left out whole: what a
maker writes of his own gives no value, and neither does a line in which an error has got past the check
character.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from openami.gateway.drivers.iec62056.errors import UnfitAnswer

LINE_CHARS_MAX: Final = 512  # 78 in the standard; load profiles in a read-out have some 200
DATA_SETS_MAX: Final = 2000  # thrice those of the longest read-outs: three fill a kilobyte
_CODE_CHARS_MAX: Final = 22  # 255-255:255.255.255*255
_VALUE_CHARS_MAX: Final = 128  # of a value and its unit (6.4)

_END = b"!"
# No parenthesis or control character in a value: what is taken for one is the meter's own, from end to end.
_VALUE = rb"\([ \x22-'*-~]{0,%d}\)" % _VALUE_CHARS_MAX
_DATA_SET = rb"([0-9A-Z][0-9A-Z.:*&-]{0,%d})((?:%s)+)" % (_CODE_CHARS_MAX - 1, _VALUE)
_line = re.compile(rb"(?:%s)+" % _DATA_SET).fullmatch
_data_sets = re.compile(_DATA_SET).finditer


@dataclass(frozen=True, slots=True)
class Value:
    """What stands between two parentheses."""

    text: str
    unit: str = ""


@dataclass(frozen=True, slots=True)
class DataSet:
    """A code as the meter writes it, and what stands behind it."""

    code: str
    values: tuple[Value, ...]


def read_data_sets(data: bytes) -> Sequence[DataSet]:
    """Return a block's data sets, in their order. Raises UnfitAnswer."""
    lines = data.split(b"\r\n")
    if lines[-2:] != [_END, b""]:
        raise UnfitAnswer("the data do not end in a line with '!'")
    found: list[DataSet] = []
    for line in lines[:-2]:
        if len(line) > LINE_CHARS_MAX or _line(line) is None:
            continue
        found += [_read(match) for match in _data_sets(line)]
    if len(found) > DATA_SETS_MAX:
        raise UnfitAnswer(f"more than {DATA_SETS_MAX} data sets are not read")
    return found


def _read(match: re.Match[bytes]) -> DataSet:
    code, values = match[1].decode("ascii"), match[2].decode("ascii")
    return DataSet(code, tuple(_value_of(text) for text in values[1:-1].split(")(")))


def _value_of(text: str) -> Value:
    value, _, unit = text.partition("*")
    return Value(value, unit)
