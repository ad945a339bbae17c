"""Replay: judge a kept message again, with today's rules and clock, and commit the new verdict."""

from datetime import datetime

import msgspec

from openami.headend.ingest import Accepted, Decision, Message, ingest
from openami.headend.store import Reject, Store, Tally
from openami.headend.validate import LatestValues, validate
from openami.profile import RegisterCatalogue


async def replay(
    store: Store, kept: Reject, *, catalogue: RegisterCatalogue, now: datetime
) -> tuple[Decision, Tally]:
    """Judge a kept message again and commit the verdict. Raises StoreError.

    The message keeps its time of receipt; its ``ts`` is judged by the current clock. That the
    broker had retained a message says how it came, not what it holds: replaying one is the operator's word
    that it counts.
    """
    message = Message(kept.topic, kept.payload, kept.received_at)
    decision = ingest(message, catalogue=catalogue, now=now)
    if isinstance(decision, Accepted):
        found = validate(decision, catalogue=catalogue, latest=LatestValues())
        decision = msgspec.structs.replace(decision, findings=found)
    return decision, await store.replay(kept.id, decision)
