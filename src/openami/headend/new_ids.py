"""Ids of what the head-end makes: commands, sessions."""

import secrets
from typing import Final

# An id nobody has, and nobody guesses: 96 bits.
NEW_ID_BYTES: Final = 12


def new_id(prefix: str) -> str:
    """Return an id that is nobody's yet: ``cmd-…``, ``sip-…``."""
    return f"{prefix}-{secrets.token_hex(NEW_ID_BYTES)}"
