"""What waits is counted, within a scope, on both engines."""

from dataclasses import replace

from tests.headend.decisions import DROPPED, NOON, rejected
from tests.headend.test_command_store import NOW, a_command
from tests.headend.test_storms import an_alarm

from openami.headend.store.commands import HeadEndStore
from openami.headend.store.waiting import WAITING_COUNTED_MAX, Waiting


async def test_rejected_messages_wait_until_somebody_has_looked(store: HeadEndStore) -> None:
    assert await store.waiting() == Waiting()
    await store.commit([rejected(f"{n}".encode()) for n in range(3)])
    assert await store.waiting() == Waiting(rejected=3)
    assert await store.drop((await store.rejects())[0].id, DROPPED, NOON)
    assert await store.waiting() == Waiting(rejected=2)
    assert await store.waiting({"f"}) == Waiting(), "a rejected message belongs to no feeder"


async def test_nobody_counts_further_than_a_page_shows(store: HeadEndStore) -> None:
    await store.commit([rejected(f"{n}".encode()) for n in range(WAITING_COUNTED_MAX + 5)])
    assert (await store.waiting()).rejected == WAITING_COUNTED_MAX


async def test_what_waits_on_a_feeder_waits_for_those_who_see_it(store: HeadEndStore) -> None:
    asked = a_command()
    await store.request_command(asked, NOW)
    alarm = an_alarm(1)
    await store.put_alarms([alarm])
    assert await store.waiting() == Waiting(commands=1, alarms=1)
    assert await store.waiting({asked.feeder_id}) == Waiting(commands=1, alarms=1)
    assert await store.waiting({"another"}) == Waiting()
    assert await store.waiting(set()) == Waiting()
    await store.put_alarms([replace(alarm, cleared_at=NOW)])
    assert (await store.waiting()).alarms == 0
