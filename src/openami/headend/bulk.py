"""Many houses cut off by one decision of two people: who is in it, who may let it run, and how fast. Pure.

    proposed ──approve (another person)──▶ running ──all have ended──▶ done
        │                                     │
        ├──withdraw──▶ withdrawn ◀──withdraw──┘   (those not asked for yet are never asked for)
        └──too old──▶ lapsed

Each meter has a command of its own, in the ledger as any other, with its own end; one that fails stops no other.
They are asked for one by one, never more within an hour than the head-end may sign, so that what was begun by a
slip can be stopped while most houses are still lit (decision 0050).
"""

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, StrEnum
from typing import Final

from openami.headend.assets import FeederAssets, MeterRole
from openami.headend.audit import Entry
from openami.headend.sessions import HEAD_END
from openami.headend.store import MeterRow, Reading
from openami.profile import Quality
from openami.profile.life import Life, Move, Party
from openami.sip.actions import ACTIONS, Action

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


# --- who is in it --------------------------------------------------------------------------------


class LeftOut(StrEnum):
    """Why a meter that was named is not cut off."""

    UNKNOWN = "unknown"
    """No such meter was ever heard of on the feeder."""
    NO_CUSTOMER = "no_customer"
    """It measures the feeder or a pole, or is the gateway itself."""
    PROTECTED = "protected"
    """A critical customer's, by the assets."""
    SECOND_SIGNATURE = "second_signature"
    """The keyring protects it: each such command needs a signature of its own."""
    ALREADY_ASKED = "already_asked"
    """A command already asks for it."""
    ALREADY_OFF = "already_off"
    """Its relay was last read open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A house that would be cut off, as a person knows it."""

    meter: MeterRow
    customer: str
    pole: str
    relay: Reading | None


@dataclass(frozen=True, slots=True)
class Preview:
    """What would happen."""

    chosen: tuple[Chosen, ...]
    left_out: tuple[tuple[str, LeftOut], ...]

    def hours(self, per_hour: int) -> float | None:
        """Return how long it takes at least; None where nobody may be cut off at all."""
        room = bulk_room(per_hour, 0)
        return None if room == 0 else max(0, len(self.chosen) - room) / room


@dataclass(frozen=True, slots=True, kw_only=True)
class FeederFacts:
    """What a preview looks at."""

    meters: Mapping[str, MeterRow]
    assets: FeederAssets
    relays: Mapping[str, Reading]
    protected: Mapping[str, AbstractSet[str]]
    """By the keyrings: the protected meters, by gateway."""
    asked: Collection[str]
    """The meters for which a command to cut them off is open."""


def preview(serials: Sequence[str], facts: FeederFacts, now: datetime) -> Preview:
    """Return who would be cut off and who not, each once and in the order they were named."""
    chosen: list[Chosen] = []
    left_out: list[tuple[str, LeftOut]] = []
    for serial in dict.fromkeys(serials):
        why = _left_out(serial, facts, now)
        if why is not None:
            left_out.append((serial, why))
            continue
        placed = facts.assets.meter(serial, now)
        customer = facts.assets.customer_of(serial, now)
        pole = facts.assets.pole(None if placed is None else placed.pole_id)
        chosen.append(
            Chosen(
                meter=facts.meters[serial],
                customer="" if customer is None else customer.name,
                pole="" if pole is None else pole.name,
                relay=facts.relays.get(serial),
            )
        )
    return Preview(tuple(chosen), tuple(left_out))


def _left_out(serial: str, facts: FeederFacts, now: datetime) -> LeftOut | None:
    meter = facts.meters.get(serial)
    if meter is None:
        return LeftOut.UNKNOWN
    placed = facts.assets.meter(serial, now)
    is_customers = placed is None or placed.role is MeterRole.CUSTOMER
    if serial == meter.gateway_id or not is_customers:
        return LeftOut.NO_CUSTOMER
    if placed is not None and placed.protected:
        return LeftOut.PROTECTED
    if serial in facts.protected.get(meter.gateway_id, ()):
        return LeftOut.SECOND_SIGNATURE
    if serial in facts.asked:
        return LeftOut.ALREADY_ASKED
    relay = facts.relays.get(serial)
    off = ACTIONS[Action.DISCONNECT].relay_state
    if relay is not None and relay.value == off and relay.quality is Quality.GOOD:
        return LeftOut.ALREADY_OFF
    return None


# --- two people ----------------------------------------------------------------------------------


def proposed(
    found: Preview,
    *,
    bulk_id: str,
    feeder_id: str,
    reason: str,
    who: str,
    now: datetime,
    idempotency_key: str | None = None,
) -> tuple[Bulk, tuple[BulkMeter, ...], Entry]:
    """Return what somebody proposes, its meters and the entry. Raises BulkRefused."""
    reason = reason.strip()
    if not reason or len(reason) > REASON_CHARS_MAX:
        raise BulkRefused("reason", f"say why, in {REASON_CHARS_MAX} characters at most")
    if not found.chosen:
        raise BulkRefused("nobody", "nobody is left to be cut off: look why each was left out")
    if len(found.chosen) > BULK_METERS_MAX:
        raise BulkRefused("too-many", f"at most {BULK_METERS_MAX} houses are cut off at once")
    bulk = Bulk(
        id=bulk_id,
        idempotency_key=idempotency_key,
        feeder_id=feeder_id,
        reason=reason,
        requested_by=who,
        requested_at=now,
    )
    meters = tuple(
        BulkMeter(
            bulk_id=bulk_id,
            position=position,
            meter_serial=each.meter.meter_serial,
            gateway_id=each.meter.gateway_id,
        )
        for position, each in enumerate(found.chosen)
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
    if who == bulk.requested_by:
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
