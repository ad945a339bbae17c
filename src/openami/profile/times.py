"""Times as the wire writes them: RFC 3339 with a zone, in one strict form (decision 0005)."""

import re
from datetime import UTC, datetime
from typing import Final

TIME_PATTERN: Final = (
    r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
    r"(\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
)
_is_time = re.compile(TIME_PATTERN).fullmatch

_CHARS_OF_PLAIN_FORM = len("2026-06-22T14:30:00Z")


def read_time(text: str) -> datetime | None:
    """Return the moment a text names, in UTC; None when it is not of the strict form.

    The strict form is RFC 3339 with capital T and Z, at most six decimals and no leap second. A text of
    that form may still name no moment: 31 April; year 9999 with an offset that leads beyond it.
    """
    # The form nearly every message has is told by its punctuation, which stands at every third place;
    # what is left to fromisoformat are digits, of which it is as strict as we are, but for hour 24 in
    # later Pythons.
    if (
        len(text) == _CHARS_OF_PLAIN_FORM
        and text[4::3] == "--T::Z"
        and (text[11] < "2" or text[12] < "4")
    ):
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            return None
    if _is_time(text) is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def utc_text(moment: datetime) -> str:
    """Print a moment as the profile writes it: RFC 3339, UTC, ``Z``, no needless fraction.

    Raises ValueError for a moment without a zone: whose noon it was cannot be guessed. Raises
    OverflowError for one that UTC's calendar does not hold.

    >>> utc_text(datetime(2026, 6, 22, 14, 30, tzinfo=UTC))
    '2026-06-22T14:30:00Z'
    >>> utc_text(datetime(2026, 6, 22, 14, 30, 0, 250_000, tzinfo=UTC))
    '2026-06-22T14:30:00.250Z'
    """
    if moment.utcoffset() is None:
        raise ValueError(f"{moment} has no zone: make it aware, e.g. with tzinfo=UTC")
    whole_ms = moment.microsecond and moment.microsecond % 1000 == 0
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds" if whole_ms else "auto")
    return text.removesuffix("+00:00") + "Z"
