"""Identifiers: what a feeder, gateway, meter or session may be called.

An id is a topic level, a certificate name and a key in a store, so the set of characters is the
intersection of what all three carry safely; ``/ + #`` are impossible by construction (decision 0002).
"""

import re
from functools import lru_cache
from typing import NewType

from openami.profile.errors import Code, ProfileError

FeederId = NewType("FeederId", str)
GatewayId = NewType("GatewayId", str)
MeterSerial = NewType("MeterSerial", str)
SessionId = NewType("SessionId", str)

ID_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
ID_CHARS_MAX = 64  # as the pattern says; a topic level and a certificate's name hold it

# A certificate's common name, at most 64 characters, holds both with a slash between them.
FEEDER_AND_GATEWAY_CHARS_MAX = 63

_is_id = re.compile(ID_PATTERN, re.ASCII).fullmatch

# A village has hundreds of ids and each is checked thousands of times an hour; a flood of foreign
# ones only pushes the cache over, it does not grow it.
_CACHED_IDS_MAX = 16_384


@lru_cache(maxsize=_CACHED_IDS_MAX)
def is_short_id(text: str) -> bool:
    """Return whether a text of at most ID_CHARS_MAX characters may be an id."""
    return _is_id(text) is not None


def is_id(text: str) -> bool:
    """Return whether the text may be an id."""
    # Length first: a long text is no id and must not be held by the cache.
    return len(text) <= ID_CHARS_MAX and is_short_id(text)


@lru_cache(maxsize=_CACHED_IDS_MAX)
def name_a_meter(feeder_id: str, gateway_id: str, meter_serial: str) -> bool:
    """Return whether the three may stand in one header; none may be longer than ID_CHARS_MAX.

    The decoder asks this for every envelope, so the three are one key of one cache. It bounds their
    length before it asks: a long text must not be held by the cache.
    """
    return (
        len(feeder_id) + len(gateway_id) <= FEEDER_AND_GATEWAY_CHARS_MAX
        and is_short_id(feeder_id)
        and is_short_id(gateway_id)
        and is_short_id(meter_serial)
    )


def check_id(text: str, path: str, requirement: str = "OA-TOP-003") -> None:
    """Raise ProfileError BAD_ID unless the text may be an id."""
    if not is_id(text):
        raise ProfileError(
            Code.BAD_ID,
            requirement,
            path,
            f"{text[:80]!r} is not an id: 1 to 64 of A-Z a-z 0-9 . _ - beginning with a letter "
            "or digit",
        )


def check_gateway_name(feeder_id: str, gateway_id: str, path: str) -> None:
    """Raise ProfileError BAD_ID when the two together do not fit a certificate's name."""
    if len(feeder_id) + len(gateway_id) > FEEDER_AND_GATEWAY_CHARS_MAX:
        raise ProfileError(
            Code.BAD_ID,
            "OA-TOP-004",
            path,
            f"feederId and gatewayId together have {len(feeder_id) + len(gateway_id)} characters, "
            f"at most {FEEDER_AND_GATEWAY_CHARS_MAX} fit a certificate's name",
        )
