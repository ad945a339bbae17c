"""How long somebody who guesses has to wait. Pure.

Counted per account and address: a stranger who guesses at an operator's name from elsewhere does not keep the
operator out. An attempt is counted before it is judged, so that a hundred at once are a hundred.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

# A person mistypes, tries the other password, finds the shift lock on.
FREE_ATTEMPTS: Final = 5
# Doubled with each attempt beyond the free ones …
FIRST_WAIT_S: Final = 2
# … up to here: a hundred guesses a day and address are no attack on ten characters, and a person can wait so long.
WAIT_S_MAX: Final = 15 * 60
# Who came back the next day starts anew.
FORGOTTEN_AFTER_HOURS: Final = 24
# Rows the store keeps of this; 10,000 guessed names are a few megabytes, and the oldest go.
ATTEMPTS_KEPT_MAX: Final = 10_000
# One household has a network of so many bits of an IPv6 address, and the rest to choose from.
_IPV6_NETWORK_BITS: Final = 64


@dataclass(frozen=True, slots=True)
class Attempts:
    """The attempts at one account from one address since the last that succeeded."""

    count: int
    last_at: datetime


def waits_until(attempts: Attempts | None) -> datetime | None:
    """Return from when on the next attempt is judged; None for now."""
    if attempts is None or attempts.count < FREE_ATTEMPTS:
        return None
    doublings = min(attempts.count - FREE_ATTEMPTS, WAIT_S_MAX.bit_length())
    wait_s = min(FIRST_WAIT_S << doublings, WAIT_S_MAX)
    return attempts.last_at + timedelta(seconds=wait_s)


def counted(attempts: Attempts | None, now: datetime) -> Attempts:
    """Return the attempts with one more."""
    if attempts is None or now - attempts.last_at > timedelta(hours=FORGOTTEN_AFTER_HOURS):
        return Attempts(1, now)
    return Attempts(attempts.count + 1, now)


def is_worth_noting(attempts: Attempts) -> bool:
    """Return whether a failure stands in the audit log: the first that costs a wait, then ever fewer.

    The log is append-only; who guesses must not be able to fill a disk with it.
    """
    beyond = attempts.count - FREE_ATTEMPTS + 1
    return beyond >= 1 and beyond & (beyond - 1) == 0


def counted_address(address: str) -> str:
    """Return what an address is counted as: of IPv6, its network."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ip_network((parsed, _IPV6_NETWORK_BITS), strict=False).network_address)
    return str(parsed)
