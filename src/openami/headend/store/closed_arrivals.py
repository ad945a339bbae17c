"""What completeness asks of a closed file, packed beside it: when its readings came, day by day. Pure.

Whoever asks for a day of a village would have to open five hundred files for it, which takes a second and more.
What is packed says nothing that its file does not say, and belongs to that file by its hash: of a file that was
written anew, the old one counts no longer. Where there is none, the file itself is asked.

Registers that were told alike, as those of one message are, stand there once. Lateness is in whole minutes, for it
is judged by minutes; so a message takes nothing where its gateway keeps the second, and two bytes where it does
not.
"""

import struct
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, groupby, pairwise
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from openami.headend.consumption import DAY_MS
from openami.headend.store.identity import ms_at, rank_of

if TYPE_CHECKING:
    from openami.headend.store.closed_file import ClosedReading

_MINUTE_MS: Final = 60_000
# Read some hundred at a time, written once; 9 takes a millisecond a file.
_LEVEL: Final = 9


class Told(NamedTuple):
    """Readings of registers that were told alike, in the order of time."""

    registers: tuple[str, ...]
    ms: Sequence[int]
    """When they were measured, in milliseconds since 1970."""
    lag_minutes: Sequence[int]
    ranks: Sequence[int]
    """How bad the quality is (`identity.rank_of`)."""


# As it is packed: days, each with bytes of its own, so that only those of the day asked for are looked into.
_Days = list[tuple[int, bytes]]
# Registers; the minutes in which they were measured, each after the one before, the first after midnight; the
# milliseconds within them, two bytes each, for these do not repeat; by how many minutes they were late; ranks.
_Day = list[tuple[tuple[str, ...], list[int], bytes, list[int], list[int]]]
_days: Final = msgspec.msgpack.Decoder(_Days)
_day: Final = msgspec.msgpack.Decoder(_Day)


def lag_minutes_of(lag_ms: int) -> int:
    """Return a lag in whole minutes, rounded up: what is later than so many minutes stays so."""
    return -(-lag_ms // _MINUTE_MS)


def packed(rows: Iterable["ClosedReading"]) -> bytes:
    """Return what came when of a file's readings; they are in order of time within each register."""
    by_day: dict[int, dict[str, list[tuple[int, int, int]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for row in rows:
        day, ms = divmod(ms_at(row.bucket, row.ms), DAY_MS)
        by_day[day][row.obis].append((ms, lag_minutes_of(row.lag_ms), rank_of(row.flags)))
    days = [(day, msgspec.msgpack.encode(_alike(by_day[day]))) for day in sorted(by_day)]
    return zlib.compress(msgspec.msgpack.encode(days), _LEVEL)


def told_in(rows: Iterable["ClosedReading"]) -> Iterator[Told]:
    """Yield the same of readings as they are, register by register."""
    for obis, its_rows in groupby(rows, attrgetter("obis")):
        told = list(its_rows)
        yield Told(
            (obis,),
            [ms_at(row.bucket, row.ms) for row in told],
            [lag_minutes_of(row.lag_ms) for row in told],
            [rank_of(row.flags) for row in told],
        )


def _alike(by_register: dict[str, list[tuple[int, int, int]]]) -> _Day:
    alike: dict[tuple[tuple[int, int, int], ...], list[str]] = defaultdict(list)
    for obis, told in by_register.items():
        alike[tuple(told)].append(obis)
    found: _Day = []
    for those, registers in alike.items():
        ms, lags, ranks = zip(*those, strict=True)
        minutes = [each // _MINUTE_MS for each in ms]
        steps = [minutes[0], *(after - before for before, after in pairwise(minutes))]
        within = struct.pack(f"<{len(ms)}H", *(each % _MINUTE_MS for each in ms))
        found.append((tuple(registers), steps, within, list(lags), list(ranks)))
    return found


def unpacked(content: bytes, begin_ms: int, end_ms: int) -> Iterator[Told]:
    """Yield what was measured from one moment on and before another. Raises ValueError if that cannot be."""
    try:
        # The checksum within is proved by this.
        days = _days.decode(zlib.decompress(content))
        for day, told in days:
            midnight = day * DAY_MS
            if begin_ms < midnight + DAY_MS and midnight < end_ms:
                for registers, steps, within, lags, ranks in _day.decode(told):
                    beyond = struct.unpack(f"<{len(steps)}H", within)
                    ms = [
                        midnight + minute * _MINUTE_MS + rest
                        for minute, rest in zip(accumulate(steps), beyond, strict=True)
                    ]
                    found = _within(Told(registers, ms, lags, ranks), begin_ms, end_ms)
                    if found.ms:
                        yield found
    except (zlib.error, msgspec.MsgspecError, struct.error) as error:
        raise ValueError(str(error)) from None


def says_the_same(one: bytes, other: bytes) -> bool:
    """Return whether two packed ones are of the same readings; another zlib may have packed them tighter."""
    try:
        return zlib.decompress(one) == zlib.decompress(other)
    except zlib.error:
        return False


def _within(told: Told, begin_ms: int, end_ms: int) -> Told:
    if begin_ms <= told.ms[0] and told.ms[-1] < end_ms:
        return told
    chosen = [n for n, ms in enumerate(told.ms) if begin_ms <= ms < end_ms]
    columns = ([column[n] for n in chosen] for column in told[1:])
    return Told(told.registers, *columns)
