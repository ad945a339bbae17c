"""ProfileError: the other side broke the contract.

Every rejection carries a stable ``code``, the ``requirement`` it breaks (a number in
``spec/requirements.toml``, marked there as the profile's word or as our decision) and the ``path``, a
JSON pointer (RFC 6901) to the offending place in the message; empty for the message as a whole.
"""

from enum import StrEnum


class Code(StrEnum):
    """The stable codes of a rejection; listed with their remedy in docs/profile.md."""

    TOO_LARGE = "TOO_LARGE"
    TOO_DEEP = "TOO_DEEP"
    BAD_UTF8 = "BAD_UTF8"
    BAD_JSON = "BAD_JSON"
    DUPLICATE_MEMBER = "DUPLICATE_MEMBER"
    NOT_AN_OBJECT = "NOT_AN_OBJECT"
    MISSING_MEMBER = "MISSING_MEMBER"
    WRONG_TYPE = "WRONG_TYPE"
    BAD_STRING = "BAD_STRING"
    BAD_NUMBER = "BAD_NUMBER"
    BAD_TIME = "BAD_TIME"
    BAD_ID = "BAD_ID"
    BAD_OBIS = "BAD_OBIS"
    BAD_QUALITY = "BAD_QUALITY"
    EMPTY_REGISTERS = "EMPTY_REGISTERS"
    UNKNOWN_VERSION = "UNKNOWN_VERSION"
    BAD_TOPIC = "BAD_TOPIC"
    UNEXPECTED_TOPIC = "UNEXPECTED_TOPIC"
    TOPIC_MISMATCH = "TOPIC_MISMATCH"
    RETAINED = "RETAINED"
    TIME_IN_FUTURE = "TIME_IN_FUTURE"
    TIME_TOO_OLD = "TIME_TOO_OLD"
    WRONG_UNIT = "WRONG_UNIT"
    WRONG_VALUE_TYPE = "WRONG_VALUE_TYPE"
    UNSTORABLE = "UNSTORABLE"
    BEYOND_RETENTION = "BEYOND_RETENTION"


class ProfileError(ValueError):
    """A message or topic that is not what the profile, or one of our decisions, asks for."""

    def __init__(self, code: Code, requirement: str, path: str, detail: str) -> None:
        super().__init__(code, requirement, path, detail)
        self.code = code
        self.requirement = requirement
        self.path = path
        self.detail = detail

    def __str__(self) -> str:
        place = f" at {self.path}" if self.path else ""
        return f"{self.code}{place}: {self.detail} ({self.requirement})"


def one_line(text: str) -> str:
    """Return a text as one line: what does not print, line ends and escapes of a terminal, as Python writes it.

    For what comes from outside and goes into an error: a sender must not write lines of our log.
    """
    return (
        text
        if text.isprintable()
        else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    )


def pointer(*parts: str | int) -> str:
    """Return the JSON pointer to a place in a message: ``pointer("registers", 0, "obis")``."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts)
