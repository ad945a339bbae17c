"""What is measured with has to be what a village sends: accepted, never told twice, without a finding or a gap."""

from collections import defaultdict
from datetime import UTC, datetime

from openami.capacity.village import METERS, Village
from openami.headend.ingest import Accepted, ingest
from openami.headend.validate import LatestValues, validate
from openami.profile import shipped_catalogue

START = datetime(2026, 6, 22, tzinfo=UTC)
CATALOGUE = shipped_catalogue()


def test_every_message_is_accepted_without_a_finding() -> None:
    latest, seen = LatestValues(), set()
    numbers: dict[str, list[int | None]] = defaultdict(list)
    for message in Village(START).messages(2 * METERS, 8):
        decision = ingest(message, catalogue=CATALOGUE)
        assert isinstance(decision, Accepted)
        assert not decision.rejected_items
        assert not validate(decision, catalogue=CATALOGUE, latest=latest)
        envelope = decision.envelope
        assert len(envelope.registers) == 8
        seen.add((envelope.meter_serial, envelope.ts))
        numbers[envelope.gateway_id].append(envelope.seq)
    assert len(seen) == 2 * METERS
    assert all(seqs == list(range(1, len(seqs) + 1)) for seqs in numbers.values())
