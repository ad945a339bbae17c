"""What the move asks of a store on either engine."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, Protocol

from openami.headend.moving.rows import Layout, MoveError, Row
from openami.headend.store.marks import Mark
from openami.headend.store.steps import Steps

# Read, hashed and written at a time. The widest rows are rejected messages, at most 128 KiB each, and closed
# months, mostly 40 to 90 KiB: 128 MiB at the very worst, and some hundred KiB of live readings.
BATCH_ROWS: Final = 1_000
# How an engine's own schema came about is its own story, and a mark is about one store.
NOT_MOVED: Final = frozenset({"migration", *Mark})


class Side(Protocol):
    """A store held open in one transaction, to its end. Methods raise StoreError and MoveError."""

    place: str
    """What it is called, without a password."""
    moved_to: str | None
    """The place it was moved to before, if it was."""

    async def layouts(self) -> list[Layout]:
        """Return every table that moves, in the order of their names."""
        ...

    def batches(self, layout: Layout) -> AsyncIterator[Sequence[Row]]:
        """Yield a table's rows, each as both engines tell it, in any order."""
        ...

    async def clear(self, layout: Layout) -> None:
        """Delete what the schema itself put into a table."""
        ...

    async def put(self, layout: Layout, rows: Sequence[Row]) -> None:
        """Write rows exactly as they are, or raise MoveError naming the first that this engine cannot hold."""
        ...

    async def count_on(self) -> None:
        """Let numbers that the database gives go on after the highest that is there."""
        ...

    async def carry_out(self, steps: Callable[[], Steps[None]]) -> None:
        """Carry out steps of the store's."""
        ...

    async def mark_moved(self, place: str, moved_at: str) -> None:
        """Mark the store as moved, and commit."""
        ...

    async def commit(self) -> None:
        """Make everything durable."""
        ...


def not_begun(place: str) -> MoveError:
    """Return the error for a target that is not the unfinished one a marked source was on its way to."""
    return MoveError(
        f"the source was moved to {place} before, and what is there now is not that move, unfinished",
        remedy="if it was finished, use the store there; if it is lost, `openami headend settle` on the source",
    )
