"""A store moved from one place to another: which steps, in which order (decision 0068).

Nobody writes the source meanwhile. Everything is copied, read back and compared within one transaction of the
target; then the source is marked as moved, and only then the target commits without its mark. Whenever the power
fails, at most one of the two acts.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from types import ModuleType
from typing import Final

from openami.headend.audit import Entry
from openami.headend.moving.rows import Content, Layout, MoveError
from openami.headend.moving.side import Side
from openami.headend.store.chain import append, in_turn
from openami.headend.store.marks import Mark
from openami.headend.store.open import engine_of
from openami.headend.store.steps import Steps, do
from openami.profile import utc_text

# Some seconds apart: a person sees that it goes on.
_TOLD_EVERY_ROWS: Final = 500_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What was moved, and proved to be in the target as it was in the source."""

    source: str
    target: str
    tables: dict[str, Content]

    @property
    def rows(self) -> int:
        return sum(content.rows for content in self.tables.values())


async def move(
    source_url: str, target_url: str, *, who: str, now: datetime, tell: Callable[[str], None]
) -> Moved:
    """Move a store, or leave both places as they were. Raises MoveError, BackupError and StoreError.

    ``tell`` is told how far it is.
    """
    at = utc_text(now)
    source_engine, target_engine = _engine(source_url), _engine(target_url)
    target_place = target_engine.place(target_url)
    held: AbstractAsyncContextManager[Side] = source_engine.held_source(source_url)
    async with held as source:
        _refuse_moved_elsewhere(source, target_place)
        begun: AbstractAsyncContextManager[Side] = target_engine.begun_target(
            target_url, begun_at=at, only_again=source.moved_to is not None
        )
        async with begun as target:
            moved = await _proved(source, target, tell)
            await target.count_on()
            await target.carry_out(lambda: _arrived(moved, who=who, now=now))
            if source.moved_to is None:
                await source.mark_moved(target.place, at)
            tell(f"{source.place} is marked as moved")
            await target.commit()
    return moved


def _engine(url: str) -> ModuleType:
    if engine_of(url) == "sqlite":
        from openami.headend.moving import sqlite_side

        return sqlite_side
    from openami.headend.moving import postgres_side

    return postgres_side


def _refuse_moved_elsewhere(source: Side, target_place: str) -> None:
    if source.moved_to not in (None, target_place):
        raise MoveError(
            f"{source.place} was moved to {source.moved_to} already, where its state goes on",
            remedy="move that one",
        )


async def _proved(source: Side, target: Side, tell: Callable[[str], None]) -> Moved:
    """Copy every table and compare what came. Raises MoveError."""
    layouts = await source.layouts()
    if layouts != await target.layouts():
        raise MoveError(
            "the two engines' tables differ, so this program must not move them",
            remedy="nothing was moved; please report this",
        )
    sent = {layout.table: await _copied(source, target, layout, tell) for layout in layouts}
    tell("comparing")
    found = {layout.table: await _content(target, layout, tell) for layout in layouts}
    if wrong := [table for table in sent if sent[table] != found[table]]:
        raise MoveError(
            f"what came to {target.place} is not what was in {source.place}: {', '.join(wrong)} differ",
            remedy="nothing was moved; please report this",
        )
    return Moved(source=source.place, target=target.place, tables=sent)


async def _copied(
    source: Side, target: Side, layout: Layout, tell: Callable[[str], None]
) -> Content:
    await target.clear(layout)
    content = Content()
    async for rows in source.batches(layout):
        await target.put(layout, rows)
        content.add(rows)
        _tell_progress(tell, layout, content, "copied")
    tell(f"{layout.table}: {content.rows} rows copied")
    return content


async def _content(side: Side, layout: Layout, tell: Callable[[str], None]) -> Content:
    content = Content()
    async for rows in side.batches(layout):
        content.add(rows)
        _tell_progress(tell, layout, content, "compared")
    return content


def _tell_progress(
    tell: Callable[[str], None], layout: Layout, content: Content, done: str
) -> None:
    if content.rows % _TOLD_EVERY_ROWS == 0:
        tell(f"{layout.table}: {content.rows} rows {done} so far")


def _arrived(moved: Moved, *, who: str, now: datetime) -> Steps[None]:
    """Write into the target's own log where its rows come from, and take its mark away."""
    yield from in_turn()
    why = f"from {moved.source} to {moved.target}: {moved.rows} rows, all compared"
    yield from append([Entry(who=who, what="store moved", why=why)], now)
    yield from do(f"DROP TABLE {Mark.UNFINISHED}")
