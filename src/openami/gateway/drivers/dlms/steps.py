"""Steps: a dialogue as a generator, without a socket or a clock.

A dialogue yields the bytes that are to be sent now, possibly none, and is sent the bytes that have arrived
since. It returns its result, or raises a DlmsError. Who drives it owns the wire and the deadline.
"""

from collections.abc import Generator
from typing import TypeAlias, TypeVar

_T = TypeVar("_T")

Steps: TypeAlias = Generator[bytes, bytes, _T]
