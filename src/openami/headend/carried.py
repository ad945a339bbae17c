"""A backlog carried here by hand: proven first, then let in by the same door as the broker's (decision 0033).

Two passes over the file. The first reads all of it and believes nothing: the digest and the signature stand at the
end. The second judges and commits in batches, as the uplink does. A second import of the same file finds
everything stored; one that was interrupted is finished by importing again.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Final

from openami.clock import Clock
from openami.headend.ingest import Accepted, Message
from openami.headend.intake import Intake
from openami.headend.keyrings import InForce, in_force
from openami.headend.reports import Reports, is_report
from openami.headend.statistics import Statistics
from openami.headend.store import StoreError, Tally
from openami.headend.store.commands import HeadEndStore
from openami.profile import EventTopic, ProfileError, RegisterCatalogue, parse_topic
from openami.sip.canonical import SIGNATURE, Document, read_document
from openami.sip.carried import BacklogReader, Carried, CarriedError, Fault, Header
from openami.sip.errors import SipError
from openami.sip.keyring import Roots
from openami.sip.statements import is_statement

# As the uplink's: a commit's sync of the disk is nothing for each of them, and a running head-end waits for one
# batch and no longer. At 64 kB at most each, and some 500 bytes as a rule.
BATCH_MESSAGES_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class Proven:
    """A file that was read to its end."""

    header: Header
    seal: Document

    @property
    def signed(self) -> bool:
        """Whether its seal bears a signature; ``check_signer`` says whose."""
        return SIGNATURE in self.seal.members


@dataclass(frozen=True, slots=True)
class Ledger:
    """What became of a file's messages."""

    read: int = 0
    tally: Tally = field(default_factory=Tally)
    reports: int = 0
    """Reports of commands, the ledger's now, or known to it already."""
    refused_reports: int = 0
    """Reports that did not prove themselves; they are stored as events and change no command."""


def prove(path: Path) -> Proven:
    """Read a file to its end. Raises CarriedError and OSError."""
    with path.open("rb", buffering=0) as file:
        reader = BacklogReader(file)
        for _ in reader.messages():
            pass
    assert reader.seal is not None, "messages() ends with it"
    return Proven(reader.header, reader.seal)


async def keyring_for(store: HeadEndStore, header: Header, roots: Roots) -> InForce | None:
    """Return the keyring to judge a file by. Raises StoreError."""
    stored = await store.keyrings(header.feeder_id, header.gateway_id)
    return in_force(
        [each.document for each in stored],
        roots=roots,
        feeder_id=header.feeder_id,
        gateway_id=header.gateway_id,
    )


async def let_in(
    path: Path,
    proven: Proven,
    store: HeadEndStore,
    *,
    found: InForce | None,
    catalogue: RegisterCatalogue,
    clock: Clock,
    dry_run: bool = False,
    on_batch: Callable[[int], None] = lambda _: None,
) -> Ledger:
    """Judge and commit a proven file's messages; ``on_batch`` is told how many are done.

    A dry run commits nothing, so its tally knows no duplicates and nothing stored. Raises StoreError; what
    was committed before stays, and is a duplicate the next time. Raises CarriedError if the file is another
    than it was when it was proven.
    """
    statistics = Statistics()
    intake = Intake(store, catalogue=catalogue, statistics=statistics)
    await intake.recall()

    async def keyring(_feeder_id: str, _gateway_id: str) -> InForce | None:
        return found

    reports = Reports(store, keyring, clock)
    ledger = Ledger()
    with path.open("rb", buffering=0) as file:
        reader = BacklogReader(file)
        messages = reader.messages()
        while batch := list(islice(messages, BATCH_MESSAGES_MAX)):
            now = clock.now()
            decisions = await intake.judge(
                Message(carried.topic, carried.payload, now) for carried in batch
            )
            if dry_run:
                tally = Tally(
                    messages=len(decisions),
                    rejected_messages=sum(not isinstance(d, Accepted) for d in decisions),
                    rejected_items=sum(
                        len(d.rejected_items) for d in decisions if isinstance(d, Accepted)
                    ),
                )
            else:
                tally = await intake.commit(decisions)
                ledger = await _take_reports(reports, batch, ledger)
            ledger = replace(ledger, read=ledger.read + len(batch), tally=ledger.tally + tally)
            on_batch(ledger.read)
    if reader.seal is None or reader.seal.digest != proven.seal.digest:
        raise CarriedError(Fault.ALTERED, "it was exchanged while it was read")
    return ledger


async def _take_reports(reports: Reports, batch: Sequence[Carried], ledger: Ledger) -> Ledger:
    taken = refused = 0
    for topic, document, payload in _reports_of(batch):
        try:
            await reports.take(topic, document, payload, carried=True)
            taken += 1
        except SipError:
            refused += 1
        except StoreError as error:
            if not error.permanent:
                raise
            refused += 1
    return replace(
        ledger,
        reports=ledger.reports + taken,
        refused_reports=ledger.refused_reports + refused,
    )


def _reports_of(batch: Sequence[Carried]) -> Iterator[tuple[EventTopic, Document, bytes]]:
    for carried in batch:
        if not is_report(carried.topic, carried.payload):
            continue
        try:
            topic, document = parse_topic(carried.topic), read_document(carried.payload)
        except (ProfileError, SipError):
            continue  # rejected or stored as it is; it is no report
        if isinstance(topic, EventTopic) and not is_statement(document.members):
            yield topic, document, carried.payload
