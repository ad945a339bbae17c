"""Times: one strict form in, one form out, and the short way never more lenient than the pattern."""

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.profile.messages import moments

from openami.profile import read_time, utc_text
from openami.profile.times import TIME_PATTERN

digits = st.text("0123456789", min_size=2, max_size=2)
nearly = st.builds(
    lambda y, mo, d, t, h, mi, s, z: f"20{y}-{mo}-{d}{t}{h}:{mi}:{s}{z}",
    *(digits, digits, digits),
    st.sampled_from(["T", "T", "T", " ", "t", "-", "W"]),
    *(digits, digits, digits),
    st.sampled_from(["Z", "Z", "z", "+05:30", ".5Z", "", "+0530", ".0000001Z", "-00:00"]),
)


@given(nearly | st.text(st.sampled_from("0123456789-:TZ.+W "), min_size=18, max_size=28))
@example("2026-W26-1T14:30:00Z")
@example("20260622T143000.123Z")
@example("2026-06-22T24:00:00Z")
@example("2026-06-22T14:30:00Z")
@example("2026-06-22T14:30:0\u0660Z")
@example("2026-06-22T14:30:00Z\n")
def test_a_time_is_read_just_where_the_pattern_and_the_calendar_agree(text: str) -> None:
    moment = read_time(text)
    if re.fullmatch(TIME_PATTERN, text) is None:
        assert moment is None
        return
    try:
        expected = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        assert moment is None
    else:
        assert moment == expected
        assert moment.tzinfo is UTC


@given(moments)
def test_read_undoes_print(moment: datetime) -> None:
    text = utc_text(moment)
    assert text.endswith("Z")
    assert read_time(text) == moment


def test_a_moment_without_a_zone_is_not_guessed_at() -> None:
    with pytest.raises(ValueError, match="has no zone"):
        utc_text(datetime(2026, 6, 22, 14, 30))  # noqa: DTZ001  the fault under test


def test_a_moment_beyond_utcs_calendar_is_not_printed() -> None:
    east = timezone(timedelta(hours=14))
    with pytest.raises(OverflowError):
        utc_text(datetime.min.replace(tzinfo=east))
    assert utc_text(datetime.max.replace(tzinfo=UTC)) == "9999-12-31T23:59:59.999999Z"
