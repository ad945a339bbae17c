"""What the GapStore does; the engine carries the steps out."""

# Statements are put together from this program's own words; every value is bound.
# ruff: noqa: S608

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, cast

from openami.headend.gap_life import Gap, GapReason, GapState
from openami.headend.seq_gaps import Numbering
from openami.headend.store.engine import Engine
from openami.headend.store.gaps import ENDED_GAPS_KEPT_DAYS, ENDED_GAPS_KEPT_MAX
from openami.headend.store.identity import to_ms
from openami.headend.store.ledger_rows import TIME, Form, Rows
from openami.headend.store.steps import Steps, do
from openami.headend.store.writing import read_numbering

_KEY: Final = "feeder_id, gateway_id, epoch, first"
_IS: Final = "feeder_id = ?1 AND gateway_id = ?2 AND epoch = ?3 AND first = ?4"
_TIMES: Final = (
    *("measured_from", "measured_to", "noticed_at", "changed_at"),
    *("answered_at", "ask_at", "ended_at"),
)
_GAPS: Final = Rows(
    "gap",
    Gap,
    {"state": Form(str, GapState), "reason": Form(str, GapReason), **dict.fromkeys(_TIMES, TIME)},
)
_PUT: Final = _GAPS.insert(
    f"ON CONFLICT ({_KEY}) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _GAPS.columns)
)
_OVERFULL: Final = (
    "DELETE FROM gap WHERE ended_at IS NOT NULL AND ended_at < coalesce(("
    "SELECT e.ended_at FROM gap e WHERE e.feeder_id = gap.feeder_id "
    "AND e.gateway_id = gap.gateway_id AND e.ended_at IS NOT NULL "
    "ORDER BY e.ended_at DESC LIMIT 1 OFFSET ?1), 0)"
)


def put_gaps(gaps: Sequence[Gap]) -> Steps[None]:
    """Write gaps, or delete those that need no trace."""
    for gap in gaps:
        if gap.state is GapState.CLOSED and not gap.asks:
            yield from do(
                f"DELETE FROM gap WHERE {_IS}",
                *(gap.feeder_id, gap.gateway_id, gap.epoch, gap.first),
            )
        else:
            yield from do(_PUT, *_GAPS.cells(gap))


def prune_gaps(now: datetime) -> Steps[int]:
    """Delete what ended too long ago, and of one gateway what is too much."""
    oldest = to_ms(now - timedelta(days=ENDED_GAPS_KEPT_DAYS))
    gone = yield from do("DELETE FROM gap WHERE ended_at < ?1", oldest)
    return gone + (yield from do(_OVERFULL, ENDED_GAPS_KEPT_MAX - 1))


def put_intervals(intervals: Mapping[str, int]) -> Steps[None]:
    """Write the configured intervals in the place of what was."""
    yield from do("DELETE FROM expected_interval")
    for feeder_id, interval_s in sorted(intervals.items()):
        yield from do(
            "INSERT INTO expected_interval (feeder_id, interval_s) VALUES (?1, ?2)",
            *(feeder_id, interval_s),
        )


class GapLedger(Engine):
    """The GapStore on top of an engine's questions and transactions."""

    async def numberings(
        self, feeder_id: str | None = None
    ) -> Sequence[tuple[str, str, Numbering]]:
        rows = await self._rows(
            "SELECT feeder_id, gateway_id, state FROM numbering "
            "WHERE ?1 IN ('', feeder_id) ORDER BY feeder_id, gateway_id",
            feeder_id or "",
        )
        return [
            (feeder, gateway, read_numbering(state)) for feeder, gateway, state in cast(Any, rows)
        ]

    async def gaps(
        self, *, feeder_id: str | None = None, gateway_id: str | None = None, closed: bool = True
    ) -> Sequence[Gap]:
        rows = await self._rows(
            _GAPS.select(
                "WHERE ?1 IN ('', feeder_id) AND ?2 IN ('', gateway_id) AND state <> ?3 "
                f"ORDER BY {_KEY}"
            ),
            *(feeder_id or "", gateway_id or "", "" if closed else str(GapState.CLOSED)),
        )
        return [_GAPS.read(row) for row in rows]

    async def put_gaps(self, gaps: Sequence[Gap]) -> None:
        if gaps:
            await self._write(lambda: put_gaps(gaps))

    async def prune_gaps(self, now: datetime) -> int:
        return await self._write(lambda: prune_gaps(now))

    async def intervals(self) -> Mapping[str, int]:
        rows = await self._rows("SELECT feeder_id, interval_s FROM expected_interval")
        return dict(cast(Any, rows))

    async def put_intervals(self, intervals: Mapping[str, int]) -> None:
        await self._write(lambda: put_intervals(intervals))
