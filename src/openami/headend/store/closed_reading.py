"""Closed readings beside live ones, for whoever asks without a transaction.

Live readings are asked for first: what is closed between the two questions is then told twice, and not left out.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from openami.headend.store.closed import Span
from openami.headend.store.closed_content import OF_METER, SPANS, opened
from openami.headend.store.steps import Ask, Row, Steps

if TYPE_CHECKING:
    from openami.headend.store.closed_file import ClosedReading

T = TypeVar("T")

Rows = Callable[..., Awaitable[list[Row]]]
"""A store's question: SQL and arguments."""


async def asked(rows: Rows, steps: Steps[T]) -> T:
    """Carry out steps that only ask, outside a transaction."""
    try:
        step = next(steps)
        while True:
            assert isinstance(step, Ask)
            step = steps.send(await rows(step.sql, *step.arguments))
    except StopIteration as end:
        done: T = end.value
        return done


async def closed_spans(
    rows: Rows, feeder_id: str, meter_serial: str, first: int, last: int
) -> Sequence[Span]:
    """Return the times within buckets of which a meter has files, in order."""
    found = await rows(SPANS, feeder_id, meter_serial, first, last)
    return [(begin, end) for begin, end in cast(Any, found)]


async def closed_readings(
    rows: Rows, feeder_id: str, meter_serial: str, first: int, last: int, **chosen: Any
) -> Sequence["ClosedReading"]:
    """Return what is chosen of a meter's files that reach into buckets. Raises ClosedDamaged."""
    files = await rows(OF_METER, feeder_id, meter_serial, first, last)
    if not files:
        return []
    return await asyncio.to_thread(
        lambda: [row for file in files for row in opened(file, **chosen)]
    )
