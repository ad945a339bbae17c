"""What completeness asks of a closed file is kept beside it: the same answer, without the file."""

import zlib
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.headend.decisions import FEEDER, GATEWAY, METER, accepted, register
from tests.headend.test_closing import APRIL, DAY, HOUR, JUNE, NOW, close_all, hourly, spoil

from openami.headend.closing import Closing
from openami.headend.consumption import DAY_MS
from openami.headend.store import StoreError
from openami.headend.store.closed import ClosedDamaged
from openami.headend.store.closed_arrivals import lag_minutes_of, packed, says_the_same, unpacked
from openami.headend.store.closed_file import ClosedReading
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.identity import ms_at, place, rank_of
from openami.headend.store.steps import Steps, do

YEAR_9999_MS = 253_402_300_799_999


class At:
    """A clock that stands."""

    def now(self) -> Any:
        return NOW


def reading(obis: str, at: int, lag_ms: int, flags: int) -> ClosedReading:
    return ClosedReading(obis, *place(at), 1.0, flags, lag_ms, "kWh")


def told_by(rows: Sequence[ClosedReading], begin: int, end: int) -> list[tuple[str, int, int, int]]:
    within = [row for row in rows if begin <= ms_at(row.bucket, row.ms) < end]
    return sorted(
        (row.obis, ms_at(row.bucket, row.ms), lag_minutes_of(row.lag_ms), rank_of(row.flags))
        for row in within
    )


ROWS = st.lists(
    st.builds(
        reading,
        st.sampled_from(["1.8.0", "1.7.0", "32.7.0"]),
        st.integers(0, 3 * DAY_MS) | st.sampled_from([-1, DAY_MS - 1, DAY_MS, YEAR_9999_MS]),
        st.integers(-90_000, 90_000) | st.sampled_from([-YEAR_9999_MS, YEAR_9999_MS]),
        st.integers(0, 2),
    ),
    unique_by=lambda row: (row.obis, row.bucket, row.ms),
    max_size=30,
)


@given(rows=ROWS, begin=st.integers(-DAY_MS, 4 * DAY_MS), long=st.integers(1, 2 * DAY_MS))
def test_what_is_packed_is_told_again(rows: list[ClosedReading], begin: int, long: int) -> None:
    content = packed(sorted(rows))
    for span in ((begin, begin + long), (-DAY_MS, YEAR_9999_MS + 1)):
        told = [
            (obis, *each)
            for told in unpacked(content, *span)
            for obis in told.registers
            for each in zip(told.ms, told.lag_minutes, told.ranks, strict=True)
        ]
        assert sorted(told) == told_by(rows, *span)
        assert all(each.ms for each in unpacked(content, *span))


def test_later_than_so_many_minutes_stays_so_to_the_millisecond() -> None:
    assert [lag_minutes_of(ms) for ms in (-60_000, 0, 1, 60_000, 60_001)] == [-1, 0, 1, 1, 2]


def test_registers_of_one_message_are_kept_once() -> None:
    one = [reading("1.8.0", n * 900_123, 2_000, 0) for n in range(96)]
    three = [row._replace(obis=obis) for obis in ("1.7.0", "1.8.0", "2.8.0") for row in one]
    assert len(packed(three)) < len(packed(one)) + 20


def test_what_is_cut_short_is_no_answer() -> None:
    content = packed([reading("1.8.0", n * 900_123, 2_000, 0) for n in range(9)])
    for end in range(len(content)):
        with pytest.raises(ValueError, match=r"."):
            list(unpacked(content[:end], 0, DAY_MS))


async def told(store: HeadEndStore) -> list[Any]:
    """What is told of April's days, of which the last lies in two files."""
    return [
        await store.arrivals(FEEDER, GATEWAY, APRIL + n * DAY, APRIL + (n + 1) * DAY)
        for n in range(30)
    ]


def forget(meter: str) -> Steps[int]:
    return (yield from do("DELETE FROM closed_arrivals WHERE meter_serial = ?1", meter))


def garble(meter: str, content: bytes = b"no zlib") -> Steps[int]:
    return (
        yield from do(
            "UPDATE closed_arrivals SET content = ?2 WHERE meter_serial = ?1", meter, content
        )
    )


async def two_meters(store: HeadEndStore) -> list[Any]:
    for meter in (METER, "M-2"):
        await store.commit([*hourly(meter, APRIL, 24 * 40), *hourly(meter, JUNE, 2)])
    before = await told(store)
    await close_all(store)
    return before


async def test_a_closed_day_is_told_without_its_file(store: HeadEndStore) -> None:
    before = await two_meters(store)
    await store._write(lambda: spoil(METER))  # type: ignore[attr-defined]
    assert await told(store) == before


async def test_a_file_closed_by_an_earlier_program_is_opened_until_the_next_pass(
    store: HeadEndStore,
) -> None:
    before = await two_meters(store)
    await store._write(lambda: forget(METER))  # type: ignore[attr-defined]
    assert [file.meter_serial for file in await store.without_arrivals()] == [METER, METER]
    assert await told(store) == before
    seen = await Closing(store, At()).pass_over()  # type: ignore[arg-type]  # it asks for the time alone
    assert (seen.damaged, await store.without_arrivals()) == ((), [])
    assert await told(store) == before


async def test_what_comes_late_is_told_and_kept_anew(store: HeadEndStore) -> None:
    await two_meters(store)
    late = APRIL + 5 * DAY + HOUR / 2
    await store.commit([accepted(register(100.05), ts=late, received_at=late + 40 * DAY)])
    said = await told(store)
    assert (len(said[5][METER]), len(said[5]["M-2"])) == (25, 24)
    [stale, *_] = await store.closed_files(meter_serial=METER)
    await close_all(store)
    assert await told(store) == said
    # Of the file that was nothing can be kept any more.
    with pytest.raises(StoreError, match="written anew"):
        await store.keep_arrivals(stale)
    for file in await store.closed_files():
        await store.prove_arrivals(file)


async def test_what_is_garbled_beside_a_file_is_said(store: HeadEndStore) -> None:
    await two_meters(store)
    await store._write(lambda: garble(METER))  # type: ignore[attr-defined]
    with pytest.raises(ClosedDamaged, match=f"beside the closed readings of {FEEDER} {METER} from"):
        await told(store)
    [first, *_] = await store.closed_files(meter_serial=METER)
    with pytest.raises(ClosedDamaged) as error:
        await store.prove_arrivals(first)
    await store._write(lambda: garble(METER, packed([])))  # type: ignore[attr-defined]
    with pytest.raises(ClosedDamaged, match="not what the file says"):
        await store.prove_arrivals(first)
    tighter_or_not = zlib.compress(zlib.decompress(packed([])), 0)
    assert says_the_same(tighter_or_not, packed([]))
    assert "closed_arrivals" in error.value.remedy
