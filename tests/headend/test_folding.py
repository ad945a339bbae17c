"""Folding beside the stream: it ends when nothing is left, and a store that fails does not end it."""

import asyncio
from datetime import timedelta

from tests.headend.decisions import NOON, accepted, register

from openami.headend.folding import Folding
from openami.headend.store import StoreError
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.energy import FOLDS_AT_ONCE_MAX


async def test_all_that_is_due_is_folded(store: HeadEndStore) -> None:
    days = 10
    await store.commit(
        [accepted(register(float(n)), ts=NOON + timedelta(days=n)) for n in range(days)]
    )
    folding = Folding(store)
    while await folding.fold():
        pass
    assert await store.fold_energy() == 0


async def test_more_at_a_time_while_it_is_quick(store: HeadEndStore) -> None:
    asked: list[int] = []

    class Noting:
        async def fold_energy(self, at_most: int) -> int:
            asked.append(at_most)
            return at_most

    folding = Folding(Noting())  # type: ignore[arg-type]
    for _ in range(9):
        assert await folding.fold() > 0
    assert asked == [1, 2, 4, 8, 16, 32, 64, 64, 64]
    assert asked[-1] == FOLDS_AT_ONCE_MAX


async def test_a_store_that_fails_is_asked_again(store: HeadEndStore) -> None:
    asked = asyncio.Event()

    class Failing:
        calls = 0

        async def fold_energy(self, at_most: int) -> int:
            self.calls += 1
            if self.calls == 1:
                raise StoreError("gone")
            asked.set()
            return 0

    task = asyncio.create_task(Folding(Failing(), look_interval_s=0.0).run())  # type: ignore[arg-type]
    await asyncio.wait_for(asked.wait(), 5)
    task.cancel()
