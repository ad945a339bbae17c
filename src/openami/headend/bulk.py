"""Many houses cut off by one decision of two people: who is in it, who may let it run, and how fast. Pure.

    proposed ──approve (another person)──▶ running ──all have ended──▶ done
        │                                     │
        ├──withdraw──▶ withdrawn ◀──withdraw──┘   (those not asked for yet are never asked for)
        └──too old──▶ lapsed

Each meter has a command of its own, in the ledger as any other, with its own end; one that fails stops no other.
They are asked for one by one, never more within an hour than the head-end may sign, so that what was begun by a
slip can be stopped while most houses are still lit (decision 0050).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from openami.headend.audit import Entry
from openami.headend.sessions import HEAD_END
from openami.profile.life import Life, Move, Party

# A feeder has 50 to 500 customers; more than one feeder's are never one decision.
BULK_METERS_MAX: Final = 500
# What was right yesterday may be paid today: then it is proposed anew.
PROPOSAL_HOURS: Final = 24
# What is left for orders that cannot wait: a fire, a line that came down.
BULK_SHARE: Final = 0.8
# A sentence for the audit log and for each command.
REASON_CHARS_MAX: Final = 200


class BulkState(Enum):
    """Where a bulk disconnection stands."""

    PROPOSED = "proposed"
    RUNNING = "running"
    DONE = "done"
    WITHDRAWN = "withdrawn"
    LAPSED = "lapsed"


class BulkEvent(Enum):
    """What moves it on. People act through the head-end."""

    APPROVE = "approve"
    WITHDRAW = "withdraw"
    LAPSE = "lapse"
    FINISH = "finish"


BULK_LIFE: Final[Life[BulkState, BulkEvent]] = Life(
    BulkState.PROPOSED,
    {
        BulkState.PROPOSED: {
            BulkEvent.APPROVE: Move(BulkState.RUNNING, Party.HEAD_END),
            BulkEvent.WITHDRAW: Move(BulkState.WITHDRAWN, Party.HEAD_END),
            BulkEvent.LAPSE: Move(BulkState.LAPSED, Party.TIME),
        },
        BulkState.RUNNING: {
            BulkEvent.WITHDRAW: Move(BulkState.WITHDRAWN, Party.HEAD_END),
            BulkEvent.FINISH: Move(BulkState.DONE, Party.HEAD_END),
        },
        BulkState.DONE: {},
        BulkState.WITHDRAWN: {},
        BulkState.LAPSED: {},
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bulk:
    """A bulk disconnection as the store has it."""

    id: str
    idempotency_key: str | None = None
    feeder_id: str
    reason: str
    state: BulkState = BulkState.PROPOSED
    requested_by: str
    first_person: str
    """Who answers for the request: of a token's, whoever made the token."""
    requested_at: datetime
    approved_by: str | None = None
    approved_at: datetime | None = None
    withdrawn_by: str | None = None
    ended_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether it may still move."""
        return not BULK_LIFE.is_terminal(self.state)

    @property
    def lapses_at(self) -> datetime:
        """Until when it can be approved."""
        return self.requested_at + timedelta(hours=PROPOSAL_HOURS)


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkMeter:
    """One house of it."""

    bulk_id: str
    position: int
    meter_serial: str
    gateway_id: str
    command_id: str | None = None
    """The command that asks for it; None while none does."""
    refused_as: str | None = None
    """Why no command was taken for it (`RequestFault`)."""

    @property
    def is_settled(self) -> bool:
        """Whether it was asked for, or will not be."""
        return self.command_id is not None or self.refused_as is not None


@dataclass(frozen=True, slots=True)
class BulkChange:
    """A bulk disconnection after a decision, and what is told of it."""

    bulk: Bulk
    entry: Entry


class BulkRefused(ValueError):
    """What is asked cannot be done; ``code`` is for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


# --- two people ----------------------------------------------------------------------------------


def proposed(
    houses: Sequence[tuple[str, str]],
    *,
    bulk_id: str,
    feeder_id: str,
    reason: str,
    who: str,
    first_person: str,
    now: datetime,
    idempotency_key: str | None = None,
) -> tuple[Bulk, tuple[BulkMeter, ...], Entry]:
    """Return what somebody proposes, its meters and the entry; ``houses`` are serials and their gateways.

    Raises BulkRefused.
    """
    reason = reason.strip()
    if not reason or len(reason) > REASON_CHARS_MAX:
        raise BulkRefused("reason", f"say why, in {REASON_CHARS_MAX} characters at most")
    if not houses:
        raise BulkRefused("nobody", "nobody is left to be cut off: look why each was left out")
    if len(houses) > BULK_METERS_MAX:
        raise BulkRefused("too-many", f"at most {BULK_METERS_MAX} houses are cut off at once")
    bulk = Bulk(
        id=bulk_id,
        idempotency_key=idempotency_key,
        feeder_id=feeder_id,
        reason=reason,
        requested_by=who,
        first_person=first_person,
        requested_at=now,
    )
    meters = tuple(
        BulkMeter(
            bulk_id=bulk_id,
            position=position,
            meter_serial=serial,
            gateway_id=gateway,
        )
        for position, (serial, gateway) in enumerate(houses)
    )
    entry = _entry(bulk, who, f"proposed: {len(meters)} houses on {feeder_id}", reason)
    return bulk, meters, entry


def approved(bulk: Bulk, *, who: str, now: datetime) -> BulkChange:
    """Let it run, by the word of somebody else than who proposed it. Raises BulkRefused."""
    _refuse_ended(bulk)
    if bulk.state is not BulkState.PROPOSED:
        raise BulkRefused("approved-already", f"{bulk.approved_by} has approved it already")
    if now >= bulk.lapses_at:
        raise BulkRefused("ended-already", "it is too old: look again who is to be cut off")
    if who in (bulk.requested_by, bulk.first_person):
        raise BulkRefused("same-person", f"{who} has proposed it: a second person has to approve")
    after = replace(_moved(bulk, BulkEvent.APPROVE), approved_by=who, approved_at=now)
    return BulkChange(after, _entry(after, who, "approved", bulk.reason))


def withdrawn(bulk: Bulk, *, who: str, now: datetime) -> BulkChange:
    """Stop it: who was not asked for yet stays connected. Raises BulkRefused."""
    _refuse_ended(bulk)
    after = replace(_moved(bulk, BulkEvent.WITHDRAW), withdrawn_by=who, ended_at=now)
    return BulkChange(after, _entry(after, who, "withdrawn"))


def lapsed(bulk: Bulk, now: datetime) -> BulkChange | None:
    """Return a proposal nobody has approved in time as over; None for any other."""
    if bulk.state is not BulkState.PROPOSED or now < bulk.lapses_at:
        return None
    after = replace(_moved(bulk, BulkEvent.LAPSE, by=Party.TIME), ended_at=now)
    return BulkChange(after, _entry(after, HEAD_END, "lapsed"))


def finished(bulk: Bulk, now: datetime) -> BulkChange | None:
    """Return one whose meters have all ended as done; None for one that does not run."""
    if bulk.state is not BulkState.RUNNING:
        return None
    after = replace(_moved(bulk, BulkEvent.FINISH), ended_at=now)
    return BulkChange(after, _entry(after, HEAD_END, "done"))


def _refuse_ended(bulk: Bulk) -> None:
    if not bulk.is_open:
        raise BulkRefused("ended-already", f"it has ended: {bulk.state.value}")


def _moved(bulk: Bulk, event: BulkEvent, *, by: Party = Party.HEAD_END) -> Bulk:
    return replace(bulk, state=BULK_LIFE.after(bulk.state, event, by=by))


def _entry(bulk: Bulk, who: str, what: str, why: str = "") -> Entry:
    return Entry(
        who=who, what=f"bulk disconnection {bulk.id} {what}", why=why, result=bulk.state.value
    )


# --- how fast ------------------------------------------------------------------------------------


def bulk_room(per_hour: int, used: int) -> int:
    """Return how many more may be asked for now; ``used`` were cut off within the hour, or are about to be."""
    share = max(1, int(per_hour * BULK_SHARE)) if per_hour else 0
    return max(0, share - used)
