"""The part of a message that shows what is wrong: short, on one line, harmless to a terminal."""

import json
from typing import Any, Final

from openami.profile import ProfileError, one_line
from openami.profile.reader import read_document

# Enough to see a register whole; a report of sixty findings stays a report.
EXCERPT_CHARS_MAX: Final = 240


def excerpt(payload: bytes, pointer: str) -> str:
    """Return the object that holds the place, or the beginning of a message without one, or not JSON."""
    text = _object_around(payload, pointer) if pointer else None
    if text is None:
        text = payload[:EXCERPT_CHARS_MAX].decode(errors="backslashreplace")
    text = one_line(text)
    return text if len(text) <= EXCERPT_CHARS_MAX else text[: EXCERPT_CHARS_MAX - 1] + "…"


def _object_around(payload: bytes, pointer: str) -> str | None:
    """Return the register that a pointer leads into, or the one member of the envelope that it names."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer[1:].split("/")]
    try:
        members: Any = read_document(payload).root
    except ProfileError:
        return None
    if parts[0] == "registers" and len(parts) > 1:
        items = members.get("registers") if isinstance(members, dict) else None
        if isinstance(items, list) and parts[1].isdecimal() and int(parts[1]) < len(items):
            return json.dumps(items[int(parts[1])], ensure_ascii=False, default=str)
        return None
    if isinstance(members, dict) and parts[0] in members:
        return json.dumps({parts[0]: members[parts[0]]}, ensure_ascii=False, default=str)
    return None
