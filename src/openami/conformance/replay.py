"""Replay: do a report's findings and sheets follow from its transcript?

The same judge is shown the same observations. What it says then has to be what was signed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from openami.conformance.bandwidth import BandwidthSheet, bandwidth_sheet
from openami.conformance.judge import Judge
from openami.conformance.judgement import Finding, Judgement
from openami.conformance.missing import missing_sheet
from openami.conformance.report.document import Report
from openami.conformance.traffic import Traffic
from openami.conformance.transcript import TranscriptReader
from openami.profile import RegisterCatalogue


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a transcript leads to, and the hash of the file it was read from."""

    judgement: Judgement
    traffic: Traffic
    sha256: str
    observations: int


def replay(
    transcript: TranscriptReader, now: datetime, catalogue: RegisterCatalogue | None = None
) -> Replayed:
    """Judge a transcript again; ``now`` is when the judgement ended. Raises TranscriptError.

    ``catalogue`` is the register list it was judged by, ours if it is None.
    """
    head = transcript.head
    judge = Judge(
        head.kind,
        began_at=head.began_at,
        catalogue=catalogue,
        vendor=head.vendor,
        model=head.model,
        firmware=head.firmware,
    )
    traffic = Traffic()
    observations = 0
    for observation in transcript.observations():
        judge.see(observation)
        traffic.see(observation)
        observations += 1
    return Replayed(judge.judgement(now), traffic, transcript.sha256, observations)


def differences(report: Report, replayed: Replayed) -> Iterator[str]:
    """Yield, a sentence each, what of a report does not follow from a transcript; nothing when all of it does."""
    signed, judgement = report.judgement, replayed.judgement
    transcript = report.transcript
    if transcript is None:
        yield "the report names no transcript, so this may be that of another run"
    elif transcript.sha256 != replayed.sha256:
        yield "it is not the transcript that the report names: its SHA-256 is another"
    if signed.kit_version != judgement.kit_version:
        yield f"the report is by kit {signed.kit_version}, this one is {judgement.kit_version}"
    if signed.subject != judgement.subject:
        yield "another subject was judged, or it is described otherwise"
    if signed.began_at != judgement.began_at:
        yield "the judgement began at another time"
    again = {finding.requirement: finding for finding in judgement.findings}
    for finding in signed.findings:
        other = again.pop(finding.requirement, None)
        if other is None:
            yield f"{finding.requirement}: the report judges it, the replay does not"
        elif _essence(finding) != _essence(other):
            yield (
                f"{finding.requirement}: the report says {_said(finding)}, "
                f"the transcript leads to {_said(other)}"
            )
    for requirement in again:
        yield f"{requirement}: the replay judges it, the report does not"
    if signed.conforms != judgement.conforms:
        yield "whether it conforms"
    if report.missing is not None and report.missing != missing_sheet(replayed.traffic):
        yield "the sheet of missing readings"
    if report.bandwidth is not None and report.bandwidth != _bill(
        report.bandwidth, replayed.traffic
    ):
        yield "the bandwidth bill"


def _essence(finding: Finding) -> tuple[Any, ...]:
    """Return what has to be the same again. When the judge looked for what did not come is not in it."""
    return (
        finding.text,
        finding.source,
        finding.verdict,
        finding.seen,
        finding.broken,
        finding.broken_by,
        tuple((e.detail, e.topic, e.pointer, e.excerpt) for e in finding.evidence),
    )


def _said(finding: Finding) -> str:
    return f"{finding.verdict} ({finding.broken} of {finding.seen} broken)"


def _bill(signed: BandwidthSheet, traffic: Traffic) -> BandwidthSheet:
    return bandwidth_sheet(
        traffic,
        interval_s=signed.interval_s,
        price_per_mb=None if signed.price_per_mb is None else Decimal(signed.price_per_mb),
        currency=signed.currency,
        assumptions=signed.assumptions,
    )
