"""Customers under another name: the same key gives the same name, and without it none leads back. Pure."""

import hmac
from dataclasses import dataclass
from typing import Final

# A key shorter than this can be tried through.
KEY_BYTES_MIN: Final = 16
# 64 bits: no two customers of a country share a name by chance.
_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Names made of a key. Keep it: with it, next month's file has the same names."""

    key: bytes

    def of(self, feeder_id: str, customer_id: str | None) -> str | None:
        """Return a customer's name for others; None for nobody."""
        if customer_id is None:
            return None
        said = f"{feeder_id}/{customer_id}".encode()
        return hmac.new(self.key, said, "sha256").hexdigest()[:_DIGITS]
