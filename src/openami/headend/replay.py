"""What becomes of a kept message: judged again, with today's rules and clock, or given up.

Either is one transaction with its entry in the audit log, whoever asks and from where.
"""

from datetime import datetime

import msgspec

from openami.headend.audit import Entry
from openami.headend.ingest import Accepted, Decision, Message, beyond_retention, ingest
from openami.headend.store import Reject, Store, Tally
from openami.headend.validate import LatestValues, validate
from openami.profile import ProfileError, RegisterCatalogue


async def replay(
    store: Store, kept: Reject, *, catalogue: RegisterCatalogue, now: datetime, who: str
) -> tuple[Decision, Tally]:
    """Judge a kept message again and commit the verdict. Raises StoreError.

    The message keeps its time of receipt; its ``ts`` is judged by the current clock. That the
    broker had retained a message says how it came, not what it holds: replaying one is the operator's word
    that it counts.
    """
    message = Message(kept.topic, kept.payload, kept.received_at)
    decision = beyond_retention(
        ingest(message, catalogue=catalogue, now=now), await store.kept_since()
    )
    if isinstance(decision, Accepted):
        found = validate(decision, catalogue=catalogue, latest=LatestValues())
        decision = msgspec.structs.replace(decision, findings=found)
    faults = faults_of(decision)

    def entry(tally: Tally) -> Entry:
        return _entry(kept, who, "replayed", _result(faults[0] if faults else None, tally))

    return decision, await store.replay(kept.id, decision, entry, now)


async def drop(store: Store, kept: Reject, *, now: datetime, who: str) -> bool:
    """Give a kept message up; its bytes go with the next prune. False if it is gone. Raises StoreError."""
    return await store.drop(kept.id, _entry(kept, who, "dropped", "dropped"), now)


def faults_of(decision: Decision) -> tuple[ProfileError, ...]:
    """Return why a message, or registers of it, are rejected; empty where all of it was accepted."""
    found = decision.rejected_items if isinstance(decision, Accepted) else decision.errors
    return tuple(found)


def _result(fault: ProfileError | None, tally: Tally) -> str:
    stored = f"stored {tally.stored}, duplicates {tally.duplicates}, conflicts {tally.conflicts}"
    return stored if fault is None else f"still rejected: {fault.code}; {stored}"


def _entry(kept: Reject, who: str, done: str, result: str) -> Entry:
    # A topic may be anything a broker carries; the log is text.
    topic = kept.topic.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    return Entry(
        who=who,
        what=f"rejected message {kept.id} {done}",
        why=f"{kept.requirement} {topic}",
        result=result,
    )
