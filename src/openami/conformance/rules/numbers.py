"""The number of an envelope, where a gateway sends one: one counter that never goes back."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import ClassVar, Final

from openami.conformance.message import Message
from openami.conformance.observation import Act, ActBegan
from openami.conformance.occasion import Occasion
from openami.conformance.recent import Recent
from openami.conformance.rules.group import Seen
from openami.profile import Envelope, pointer, utc_text
from openami.profile.judgement import AHEAD_OF_CLOCK_MAX

# Gateways whose numbers are followed; a village has a few.
GATEWAYS_KEPT_MAX: Final = 256
# Numbers of a gateway whose envelope is remembered: an hour of fifty meters at a minute, 400 kB.
NUMBERS_KEPT_MAX: Final = 3_000
# Moments at which a gateway's highest number is remembered, ten seconds apart: five hours, then by the oldest.
MARKS_KEPT_MAX: Final = 1_800
_MARK_EVERY = timedelta(seconds=10)


class _Count:
    """One gateway's numbers: which envelope each was, and how high they had come by when."""

    def __init__(self) -> None:
        self.envelopes: Recent[int, int] = Recent(NUMBERS_KEPT_MAX)
        self.marks: list[tuple[int, datetime]] = []  # bound: MARKS_KEPT_MAX; both rise

    def mark(self, seq: int, at: datetime) -> None:
        if self.marks and (seq <= self.marks[-1][0] or at < self.marks[-1][1] + _MARK_EVERY):
            return
        self.marks.append((seq, at))
        if len(self.marks) > MARKS_KEPT_MAX:
            del self.marks[: MARKS_KEPT_MAX // 2]

    def heard_at(self, seq: int) -> datetime | None:
        """Return when a number as high as this had been heard at the latest; None when none had."""
        index = bisect_left(self.marks, (seq,))
        return self.marks[index][1] if index < len(self.marks) else None


class Numbers:
    """Judges seq."""

    requirements: ClassVar = frozenset(("OA-SEQ-001",))

    def __init__(self) -> None:
        self._counts: Recent[str, _Count] = Recent(GATEWAYS_KEPT_MAX)
        self._restarted = False

    def see(self, seen: Seen) -> Iterable[Occasion]:
        if isinstance(seen, ActBegan) and seen.act == Act.GATEWAY_RESTARTED:
            self._restarted = True
        if not isinstance(seen, Message) or seen.envelope is None or seen.envelope.seq is None:
            return ()
        if seen.published.stored:
            return ()
        return self._judge(seen, seen.envelope, seen.envelope.seq)

    def _judge(self, message: Message, envelope: Envelope, seq: int) -> Iterator[Occasion]:
        name = f"{envelope.feeder_id}/{envelope.gateway_id}"
        count = self._counts.get(name) or _Count()
        self._counts.note(name, count)
        at = message.published.at
        said = hash((message.published.topic, envelope.ts, envelope.registers, envelope.event))
        told = count.envelopes.get(seq)
        fault = None
        if told is not None and told != said:
            fault = f"number {seq} stood for another envelope before: the count began anew"
        elif told is None:
            fault = _measured_too_late(seq, envelope.ts, at, count.heard_at(seq))
            count.envelopes.note(seq, said)
        count.mark(seq, at)
        if fault is not None:
            yield Occasion("OA-SEQ-001", fault, pointer("seq"))
        elif self._restarted:  # before that, nobody can have shown that the count survives it
            yield Occasion("OA-SEQ-001")


def _measured_too_late(
    seq: int, ts: datetime, at: datetime, heard_at: datetime | None
) -> str | None:
    """Return why a number cannot be one of the count that was heard (decision 0030)."""
    if heard_at is None or ts <= heard_at + AHEAD_OF_CLOCK_MAX or ts > at + AHEAD_OF_CLOCK_MAX:
        return None  # in the future by any clock: that is OA-ENV-011
    return (
        f"number {seq} is of a measurement at {utc_text(ts)}, and one as high was heard at "
        f"{utc_text(heard_at)}: the count went back"
    )
