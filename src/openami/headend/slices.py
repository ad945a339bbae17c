"""Slices: how the feeders of one broker are shared between several head-ends (decision 0073). Pure.

A feeder belongs to one slice, by its name and for ever. Beside them is the rest, slice 0: it hears every feeder, so
that one nobody has heard of before falls to somebody, and stores what no other slice has been proved to hear.
"""

from hashlib import blake2b
from typing import Final

REST: Final = 0
"""The slice that hears everything; its holder also does what is done once for the whole village."""
# A slice is a session with the broker and a connection to the database, and no fewer than the workers are of use.
SLICES_MAX: Final = 64
# Two for each worker and some more: then a worker that dies leaves a little to each of the others.
SLICES_DEFAULT: Final = 8


def slice_of(feeder_id: str, slices: int) -> int:
    """Return which slice, 1 to ``slices``, stores a feeder's messages."""
    digest = blake2b(feeder_id.encode(), digest_size=8).digest()
    return 1 + int.from_bytes(digest) % slices


def session_name(client_id: str, number: int) -> str:
    """Return under which client id a slice's session is kept at the broker, whoever holds the slice.

    The rest has the name a single head-end had, and with it all that waited for that one.
    """
    return client_id if number == REST else f"{client_id}-slice-{number}"
