"""The life of a gap: noticed, asked for, and closed or proved lost. Pure.

    OPEN ──ask──▶ ASKED ──answer, refusal, no answer──▶ OPEN ──ask──▶ …
      │             │                                    │
      └─── filled ──┴─────────▶ CLOSED ◀──── filled ─────┤ ◀── came after all ── LOST
                                                         └─ proved ─▶ LOST

A gap closes only by what the store has received, never by what a gateway says of it. It is given up only for a
reason that proves it (decision 0031); until then it is asked for, with longer and longer pauses.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from openami.headend.seq_gaps import Hole, Numbering
from openami.profile.command import CommandState
from openami.profile.life import Life, Move, Party
from openami.sip.errors import SipCode

# A gateway drains its backlog at 20 envelopes a second and more slowly over a bad link; one that has filled nothing
# for two minutes and is heard all the same is not draining.
GRACE_S: Final = 120
# After an ask that nobody answered: ten minutes, then three times as long each time, up to half a day.
ASK_AGAIN_MIN_S: Final = 10 * 60
ASK_AGAIN_MAX_S: Final = 12 * 60 * 60
# What the gateway's broker refused is offered again after an hour, and no answer speaks of it. So the answer that
# proves a loss is a second one, two hours after the first.
SECOND_ANSWER_S: Final = 2 * 60 * 60
ANSWERS_PROVING: Final = 2
# At the pauses above they reach over two days. Each ask is a signed command and an entry in the audit log.
ASKS_MAX: Final = 8
# A gateway without numbers says nothing of what it has; what two answers did not bring, a third will not.
INTERVAL_ASKS_MAX: Final = 3
# What a gateway keeps by default after it was sent (outbox.kept_days); a gap noticed longer ago than that was
# asked for as long as it could be.
RETENTION_DAYS: Final = 7
# A broker may hold something of the old card for a moment; a day's stragglers close the gap even then.
REPLACED_AFTER_S: Final = 60 * 60
# A poll cycle's envelopes are numbered within it in any order; their measured times differ by its length.
WINDOW_MARGIN_S: Final = 120


class GapState(StrEnum):
    """Where a gap stands."""

    OPEN = "open"
    ASKED = "asked"
    CLOSED = "closed"
    LOST = "lost"


class GapReason(StrEnum):
    """Why a gap is not closed: for one that lives, what is waited for; for a lost one, what proves it."""

    IN_TRANSIT = "in_transit"
    """Young, or its gateway is still filling gaps: the backlog is on its way."""
    WITHHELD = "withheld"
    """It waits on its gateway's disk, by the gateway's monthly cap: asking would cost what the cap spares."""
    GATEWAY_SILENT = "gateway_silent"
    """Nothing is heard of its gateway: it is asked for when that is back."""
    ASKED = "asked"
    """The gateway was asked to send it again, and has not answered."""
    IN_RESEND = "in_resend"
    """The gateway says that it sends it again."""
    NO_KEYS = "no_keys"
    """It cannot be asked for: this head-end, or its gateway's keyring, has no key to command with."""
    REFUSED = "refused"
    """The gateway refused to send it again."""
    NO_ANSWER = "no_answer"
    """The gateway did not answer, or could not send."""
    ANSWERED_WITHOUT = "answered_without"
    """Lost: the gateway has sent all it had, twice, and it was not in it."""
    THINNED = "thinned"
    """Lost: the gateway has told that its outbox was full and this went (decision 0020)."""
    BEYOND_RETENTION = "beyond_retention"
    """Lost: older than what a gateway keeps."""
    CARD_REPLACED = "card_replaced"
    """Lost: the gateway's memory was replaced, and its numbers began anew."""
    TOO_MANY_GAPS = "too_many_gaps"
    """Lost: given up for newer gaps, of which a gateway may have only so many."""


class GapEvent(StrEnum):
    """What moves a gap on."""

    ASK = "ask"
    ANSWER = "answer"
    FILL = "fill"
    PROVE = "prove"


GAP_LIFE: Final[Life[GapState, GapEvent]] = Life(
    GapState.OPEN,
    {
        GapState.OPEN: {
            GapEvent.ASK: Move(GapState.ASKED, Party.HEAD_END),
            GapEvent.FILL: Move(GapState.CLOSED, Party.GATEWAY),
            GapEvent.PROVE: Move(GapState.LOST, Party.TIME),
        },
        GapState.ASKED: {
            GapEvent.ANSWER: Move(GapState.OPEN, Party.GATEWAY),
            GapEvent.FILL: Move(GapState.CLOSED, Party.GATEWAY),
            GapEvent.PROVE: Move(GapState.LOST, Party.TIME),
        },
        GapState.LOST: {GapEvent.FILL: Move(GapState.CLOSED, Party.GATEWAY)},
        GapState.CLOSED: {},
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Something that should have come and has not.

    Known by numbers (``epoch`` from 1): ``first`` and ``last`` are numbers. Known by the expected interval
    (``epoch`` 0): they are measured times in milliseconds since 1970. ``missing`` is how many numbers or intervals
    of it have not come.
    """

    feeder_id: str
    gateway_id: str
    epoch: int
    first: int
    last: int
    missing: int
    measured_from: datetime | None
    measured_to: datetime | None
    """Between which measured times it lies; None where nothing around it tells."""
    state: GapState = GapState.OPEN
    reason: GapReason = GapReason.IN_TRANSIT
    noticed_at: datetime
    changed_at: datetime
    """When something of it last came."""
    asks: int = 0
    answers: int = 0
    """How often the gateway said that it has sent everything it had."""
    command_id: str | None = None
    """The command that asks for it now."""
    answered_at: datetime | None = None
    ask_at: datetime | None = None
    """Not to be asked for before."""
    ended_at: datetime | None = None

    @property
    def lives(self) -> bool:
        """Whether it is still waited for."""
        return self.state in (GapState.OPEN, GapState.ASKED)

    @property
    def name(self) -> str:
        """What it is called where people read: its numbers, or its times."""
        if self.epoch:
            return f"numbers {self.first} to {self.last}"
        return f"what was measured from {self.measured_from} to {self.measured_to}"

    @property
    def gateway(self) -> tuple[str, str]:
        """Whose gap it is."""
        return self.feeder_id, self.gateway_id


@dataclass(frozen=True, slots=True)
class Span:
    """A span of measured time, both ends in it."""

    begin: datetime
    end: datetime

    def touches(self, begin: datetime, end: datetime) -> bool:
        """Whether it has a moment in common with another span."""
        return self.begin <= end and begin <= self.end


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited before a gateway is asked, and between asks."""

    grace: timedelta = timedelta(seconds=GRACE_S)
    ask_again: timedelta = timedelta(seconds=ASK_AGAIN_MIN_S)
    second_answer: timedelta = timedelta(seconds=SECOND_ANSWER_S)

    def after_ask(self, asks: int) -> timedelta:
        """Return the pause after the n-th ask, from 1."""
        ceiling = max(self.ask_again, timedelta(seconds=ASK_AGAIN_MAX_S))
        times: int = 3 ** min(asks - 1, ASKS_MAX)
        return min(self.ask_again * times, ceiling)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a decision on a gap looks at besides the gap."""

    gateway_speaks: bool
    """Whether its gateway has been heard of lately."""
    filled_at: datetime
    """When any gap of its gateway was last filled a little; or when the head-end began to look."""
    epoch: int | None
    """The count its gateway numbers by now; None for one without numbers."""
    can_command: bool
    another_is_asked: bool
    """Whether another gap of its gateway is being asked for: one at a time."""
    thinned: Sequence[Span]
    """Spans of measured time in which its gateway has told that it thinned something."""
    withholds: bool = False
    """Whether its gateway tells that readings wait by its monthly cap."""


@dataclass(frozen=True, slots=True)
class Ask:
    """The gateway is to be asked for a gap."""

    gap: Gap


# --- what is missing -----------------------------------------------------------------------------


def noticed(
    known: Sequence[Gap], numbering: Numbering, gateway: tuple[str, str], now: datetime
) -> list[Gap]:
    """Return a gateway's gaps by number that are new or have changed, as they are with these numbers.

    A gap keeps its extent from when it was noticed; what comes within it makes ``missing`` less.
    """
    holes: dict[int, list[Hole]] = {}
    for hole in numbering.holes():
        holes.setdefault(hole.epoch, []).append(hole)
    changed = [
        after for gap in known if gap.epoch and (after := _filled(gap, holes, numbering, now))
    ]
    noted = {hole for gap in known for hole in _within(gap, holes)}
    new = (hole for of_count in holes.values() for hole in of_count if hole not in noted)
    changed.extend(
        Gap(
            feeder_id=gateway[0],
            gateway_id=gateway[1],
            epoch=hole.epoch,
            first=hole.first,
            last=hole.last,
            missing=hole.missing,
            measured_from=_moment(hole.from_ms),
            measured_to=_moment(hole.to_ms),
            noticed_at=now,
            changed_at=now,
        )
        for hole in new
    )
    return changed


def _filled(
    gap: Gap, holes: Mapping[int, Sequence[Hole]], numbering: Numbering, now: datetime
) -> Gap | None:
    """Return a gap after what came, of it or around it; None if that changes nothing."""
    if gap.state is GapState.CLOSED:
        return None
    counts = {epoch.number for epoch in (numbering.current, numbering.previous) if epoch}
    if gap.epoch not in counts:
        return None  # forgotten with its count, not filled
    within = _within(gap, holes)
    missing = sum(_overlap(gap, hole) for hole in within)
    times = [_moment(hole.from_ms) for hole in within], [_moment(hole.to_ms) for hole in within]
    begins, ends = ([each for each in side if each is not None] for side in times)
    begin, end = min(begins, default=None), max(ends, default=None)
    if missing == gap.missing:
        return _dated(gap, begin, end)
    if not missing and gap.last <= _forgotten_until(numbering, gap.epoch):
        if gap.state is GapState.LOST:
            return None  # forgotten after it was proved lost for another reason
        return ended(gap, GapEvent.PROVE, GapReason.TOO_MANY_GAPS, now)
    if not missing:
        return ended(gap, GapEvent.FILL, gap.reason, now)
    return replace(gap, missing=missing, changed_at=now, measured_from=begin, measured_to=end)


def _dated(gap: Gap, begin: datetime | None, end: datetime | None) -> Gap | None:
    """Return a gap with an edge that was not known when it was noticed; None if there is none.

    What came just above it may have repeated old values, which date nothing; what comes later does. Without both
    edges it would never be asked for.
    """
    begin, end = gap.measured_from or begin, gap.measured_to or end
    if (begin, end) == (gap.measured_from, gap.measured_to):
        return None
    return replace(gap, measured_from=begin, measured_to=end)


def _within(gap: Gap, holes: Mapping[int, Sequence[Hole]]) -> Sequence[Hole]:
    """Return the holes of the gap's count that lie in it, or partly. Holes are in order and never touch."""
    of_count = holes.get(gap.epoch, ())
    begin = bisect_left(of_count, gap.first, key=lambda hole: hole.last)
    return of_count[begin : bisect_right(of_count, gap.last, key=lambda hole: hole.first)]


def _overlap(gap: Gap, hole: Hole) -> int:
    return max(0, min(gap.last, hole.last) - max(gap.first, hole.first) + 1)


def _forgotten_until(numbering: Numbering, number: int) -> int:
    epochs = (numbering.current, numbering.previous)
    return max(e.forgotten_until for e in epochs if e is not None and e.number == number)


# --- what follows --------------------------------------------------------------------------------


def next_step(gap: Gap, around: Surroundings, patience: Patience, now: datetime) -> Gap | Ask:
    """Return a living gap as it is now, or that it is to be asked for."""
    if gap.state is GapState.OPEN and around.withholds and not _is_of_an_older_card(gap, around):
        return replace(gap, reason=GapReason.WITHHELD)
    if gap.reason is GapReason.WITHHELD:
        # What waited is on its way now: patience begins here, and so does the age that proves a loss.
        gap = replace(gap, reason=GapReason.IN_TRANSIT, noticed_at=now)
    proof = _proof(gap, around, now)
    settling = now < max(gap.changed_at, around.filled_at, gap.answered_at or gap.noticed_at) + (
        patience.grace
    )
    if proof is not None and not settling:
        return ended(gap, GapEvent.PROVE, proof, now)
    if gap.state is GapState.ASKED or _is_of_an_older_card(gap, around):
        return gap
    reason = _what_hinders(gap, around, settling=settling)
    if reason is not None:
        return replace(gap, reason=reason)
    asks_max = ASKS_MAX if gap.epoch else INTERVAL_ASKS_MAX
    if gap.asks >= asks_max or (gap.ask_at is not None and now < gap.ask_at):
        return gap
    if around.another_is_asked or gap.measured_from is None or gap.measured_to is None:
        return gap
    return Ask(
        replace(
            gap,
            state=GAP_LIFE.after(gap.state, GapEvent.ASK, by=Party.HEAD_END),
            reason=GapReason.ASKED,
            asks=gap.asks + 1,
            ask_at=now + patience.after_ask(gap.asks + 1),
        )
    )


def _what_hinders(gap: Gap, around: Surroundings, *, settling: bool) -> GapReason | None:
    if not around.gateway_speaks:
        return GapReason.GATEWAY_SILENT
    if settling and gap.answers:
        return GapReason.IN_RESEND
    if settling:
        return gap.reason if gap.asks else GapReason.IN_TRANSIT
    return None if around.can_command else GapReason.NO_KEYS


def _proof(gap: Gap, around: Surroundings, now: datetime) -> GapReason | None:
    """Return what proves that it will never come."""
    if _is_of_an_older_card(gap, around):
        replaced_at = gap.changed_at + timedelta(seconds=REPLACED_AFTER_S)
        return GapReason.CARD_REPLACED if now >= replaced_at else None
    retention = timedelta(days=RETENTION_DAYS)
    if gap.answers and _is_thinned(gap, around.thinned):
        return GapReason.THINNED
    if gap.answers >= ANSWERS_PROVING:
        too_old = gap.measured_to is not None and gap.measured_to < gap.noticed_at - retention
        return GapReason.BEYOND_RETENTION if too_old else GapReason.ANSWERED_WITHOUT
    if now < gap.noticed_at + retention or not around.gateway_speaks:
        return None
    return GapReason.BEYOND_RETENTION


def _is_of_an_older_card(gap: Gap, around: Surroundings) -> bool:
    """Whether nobody has it any more; a broker may."""
    return gap.epoch > 0 and around.epoch is not None and gap.epoch < around.epoch


def _is_thinned(gap: Gap, spans: Sequence[Span]) -> bool:
    if gap.measured_from is None or gap.measured_to is None:
        return False
    return any(span.touches(gap.measured_from, gap.measured_to) for span in spans)


def answered(
    gap: Gap, state: CommandState, code: str | None, patience: Patience, now: datetime
) -> Gap:
    """Return an asked gap after its command has ended."""
    after = replace(
        gap,
        state=GAP_LIFE.after(gap.state, GapEvent.ANSWER, by=Party.GATEWAY),
        command_id=None,
    )
    match state:
        case CommandState.CONFIRMED:
            return replace(
                after,
                reason=GapReason.IN_RESEND,
                answers=gap.answers + 1,
                answered_at=now,
                ask_at=now + patience.second_answer,
            )
        case CommandState.REFUSED if code in _NO_KEYS:
            return replace(after, reason=GapReason.NO_KEYS)
        case CommandState.REFUSED:
            return replace(after, reason=GapReason.REFUSED)
        case _:
            return replace(after, reason=GapReason.NO_ANSWER)


_NO_KEYS: Final = frozenset({SipCode.NO_KEYRING, SipCode.UNKNOWN_KEY, SipCode.NOT_ALLOWED})


def ended(gap: Gap, event: GapEvent, reason: GapReason, now: datetime) -> Gap:
    """Return a gap that is filled or proved lost. Raises IllegalMove."""
    by = Party.TIME if event is GapEvent.PROVE else Party.GATEWAY
    return replace(
        gap,
        state=GAP_LIFE.after(gap.state, event, by=by),
        reason=reason,
        missing=0 if event is GapEvent.FILL else gap.missing,
        changed_at=now if event is GapEvent.FILL else gap.changed_at,
        command_id=None,
        ask_at=None,
        ended_at=now,
    )


def window(gap: Gap) -> tuple[datetime, datetime]:
    """Return the measured times to ask for, in whole seconds: the gap's own with a margin."""
    assert gap.measured_from is not None
    assert gap.measured_to is not None
    # A clock that was set back, or a card's first numbers, may leave the edges crossed.
    begin, end = sorted((gap.measured_from, gap.measured_to))
    margin = timedelta(seconds=WINDOW_MARGIN_S)
    return (begin - margin).replace(microsecond=0), (end + margin).replace(microsecond=0)


def _moment(ms: int | None) -> datetime | None:
    return None if ms is None else _EPOCH + timedelta(milliseconds=ms)


_EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
