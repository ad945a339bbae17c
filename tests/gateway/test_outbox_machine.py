"""Any history of appending, sending, refusing, resending, thinning and restarting keeps the books.

The model is a dictionary. What thinning took, the model learns by looking; but what may be taken, in which
numbers, and what must be left is the model's to say.
"""

import asyncio
import shutil
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.gateway.clock_double import START, ClockDouble
from tests.gateway.outbox_samples import event, rows, telemetry
from tests.in_memory import directory_in_memory

from openami.gateway.driver import PollGroup
from openami.gateway.outbox import Kind, Outbox, OutboxFull, OutboxLimits, OutboxState, open_outbox
from openami.gateway.thinning import EVENT_TYPE
from openami.profile import decode_envelope

LIMITS = OutboxLimits(bytes_max=24 * 1024, kept_days=400.0)
ALL = 1_000_000
BEAT_S = 0.2  # ten times what an append takes


@dataclass
class Known:
    """What the model knows of an entry."""

    kind: Kind
    state: str
    ts_offset_s: int


class OutboxMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = directory_in_memory("outbox")
        self.path = self.directory / "gateway.db"
        self.runner = asyncio.Runner()
        self.clock = ClockDouble()
        self.model: dict[int, Known] = {}
        self.last_seq = 0
        self.gone = 0
        self._beat()
        self.open()

    def _beat(self) -> None:
        """Wake the loop now and then. The programs always have a timer set; this test has none but its work.

        Twice, and only in runs of the whole suite, the loop slept through the end of its thread's work.
        """
        self.runner.get_loop().call_later(BEAT_S, self._beat)

    def open(self) -> None:
        async def opened() -> tuple[AsyncExitStack, Outbox]:
            stack = AsyncExitStack()
            return stack, await stack.enter_async_context(
                open_outbox(self.path, LIMITS, self.clock)
            )

        self.stack, self.outbox = self.runner.run(opened())

    def teardown(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.close()
        shutil.rmtree(self.directory)

    # --- what may happen

    @rule(
        kinds=st.lists(st.sampled_from(["event", *PollGroup]), min_size=1, max_size=8),
        wait_s=st.integers(0, 2_000),
    )
    def append(self, kinds: list[str], wait_s: int) -> None:
        self.clock.advance(wait_s)
        now = self.clock.now()
        drafts = [
            event(now, n) if kind == "event" else telemetry(now, n % 3, PollGroup(kind))
            for n, kind in enumerate(kinds)
        ]
        try:
            result = self.runner.run(self.outbox.append(drafts))
            stored = drafts
        except OutboxFull as full:
            result = full.result
            stored = [draft for draft in drafts if draft.kind is Kind.EVENT][: len(result.seqs)]
        first = self.last_seq + 1
        assert result.seqs == tuple(range(first, first + len(stored)))
        offset_s = int((now - START).total_seconds())
        for seq, draft in zip(result.seqs, stored, strict=True):
            self.model[seq] = Known(draft.kind, "pending", offset_s)
        self.last_seq += len(stored)
        if result.seqs and result.last_seq > self.last_seq:  # its own report
            self.last_seq += 1
            self.model[self.last_seq] = Known(Kind.EVENT, "pending", offset_s)

    @rule(share=st.floats(0, 1))
    def send(self, share: float) -> None:
        seqs = [entry.seq for entry in self.runner.run(self.outbox.pending(ALL))]
        sent = seqs[: round(share * len(seqs))]
        self.runner.run(self.outbox.mark_sent(sent, self.clock.now()))
        for seq in sent:
            self.model[seq].state = "sent"

    @rule(at=st.floats(0, 1))
    def refuse_one(self, at: float) -> None:
        seqs = [entry.seq for entry in self.runner.run(self.outbox.pending(ALL))]
        if seqs:
            seq = seqs[round(at * (len(seqs) - 1))]
            self.runner.run(self.outbox.set_aside([seq], self.clock.now(), "no"))
            self.model[seq].state = "refused"

    @rule()
    def readmit(self) -> None:
        self.runner.run(self.outbox.readmit(self.clock.now(), self.clock.now()))
        for known in self.model.values():
            if known.state == "refused":
                known.state = "pending"

    @rule(since_s=st.integers(0, 50_000), length_s=st.integers(0, 50_000))
    def resend(self, since_s: int, length_s: int) -> None:
        since = START + timedelta(seconds=since_s)
        resent = self.runner.run(self.outbox.resend(since, since + timedelta(seconds=length_s)))
        found = [
            known
            for known in self.model.values()
            if known.state == "sent" and since_s <= known.ts_offset_s < since_s + length_s
        ]
        assert (resent.entries, resent.complete) == (len(found), True)
        for known in found:
            known.state = "pending"

    @rule()
    def restart(self) -> None:
        self.runner.run(self.stack.aclose())
        self.open()
        assert self.outbox.last_seq == self.last_seq

    # --- what always holds

    @invariant()
    def the_books_agree(self) -> None:
        self.the_rows_are_the_models()  # first: the model learns what thinning took
        self.what_went_was_counted()
        self.the_bound_holds_and_the_totals_are_sums()
        self.pending_is_in_order_and_says_its_own_number()

    def the_rows_are_the_models(self) -> None:
        states = rows(self.path, "SELECT seq, state FROM outbox_entry")
        found = {int(str(seq)): state for seq, state in states}
        taken = self.model.keys() - found.keys()
        for seq in taken:
            known = self.model.pop(seq)
            assert known.kind is Kind.TELEMETRY or known.state == "sent", "an unsent event is gone"
        self.gone += len(taken)
        assert found == {seq: known.state for seq, known in self.model.items()}

    def what_went_was_counted(self) -> None:
        state = self.state()
        assert sum(thinned.entries for thinned in state.thinned.values()) == self.gone
        assert state.last_seq == self.last_seq == len(self.model) + self.gone

    def the_bound_holds_and_the_totals_are_sums(self) -> None:
        assert self.state().bytes_used <= LIMITS.bytes_max
        assert rows(self.path, _TOTALS) == rows(self.path, _SUMS)
        assert rows(self.path, _ORPHANS) == [(0,)]

    def pending_is_in_order_and_says_its_own_number(self) -> None:
        entries = self.runner.run(self.outbox.pending(ALL))
        order = [(entry.kind is Kind.TELEMETRY, -entry.seq) for entry in entries]
        assert order == sorted(order)
        assert {entry.seq for entry in entries} == {
            seq for seq, known in self.model.items() if known.state == "pending"
        }
        for entry in entries:
            envelope = decode_envelope(entry.payload)
            assert envelope.seq == entry.seq
            if envelope.event is not None and envelope.event.type == EVENT_TYPE:
                assert str(envelope.meter_serial) == envelope.gateway_id

    def state(self) -> OutboxState:
        return self.runner.run(self.outbox.state())


_TOTALS = "SELECT state, kind, entries, bytes FROM outbox_total WHERE entries ORDER BY 1, 2"
_SUMS = "SELECT state, kind, count(*), sum(bytes) FROM outbox_entry GROUP BY 1, 2 ORDER BY 1, 2"
_ORPHANS = "SELECT count(*) FROM outbox_payload WHERE seq NOT IN (SELECT seq FROM outbox_entry)"

OutboxMachine.TestCase.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, derandomize=True
)
TestOutboxMachine = OutboxMachine.TestCase
