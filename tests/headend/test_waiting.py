"""What waits is counted, within a scope, on both engines."""

from tests.headend.decisions import rejected

from openami.headend.store.commands import HeadEndStore
from openami.headend.store.waiting import WAITING_COUNTED_MAX, Waiting


async def test_rejected_messages_wait_until_somebody_has_looked(store: HeadEndStore) -> None:
    assert await store.waiting() == Waiting(0, 0)
    await store.commit([rejected(f"{n}".encode()) for n in range(3)])
    assert await store.waiting() == Waiting(0, 3)
    assert await store.drop((await store.rejects())[0].id)
    assert await store.waiting() == Waiting(0, 2)
    assert await store.waiting({"f"}) == Waiting(0, 0), "a rejected message belongs to no feeder"


async def test_nobody_counts_further_than_a_page_shows(store: HeadEndStore) -> None:
    await store.commit([rejected(f"{n}".encode()) for n in range(WAITING_COUNTED_MAX + 5)])
    assert (await store.waiting()).rejected == WAITING_COUNTED_MAX
