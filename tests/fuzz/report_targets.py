"""What anybody can hand to whoever reads conformance reports, and what a vendor's messages make of the sheets."""

from collections.abc import Sequence
from functools import cache
from io import BytesIO

import msgspec
import rfc8785
from tests.conformance.report.sample import (
    BEGAN,
    ENDED,
    SIGNER,
    afternoon,
    judgement,
    sealed,
    topic,
)
from tests.fuzz.target import Target
from tests.profile.vectors import vectors

from openami.conformance.observation import Published
from openami.conformance.replay import replay
from openami.conformance.report.document import (
    REPORT_BYTES_MAX,
    ReportError,
    open_report,
    seal,
)
from openami.conformance.report.text import text_report
from openami.conformance.sheets import sheets_of
from openami.conformance.traffic import Traffic
from openami.conformance.transcript import (
    FORMAT,
    Head,
    TranscriptError,
    TranscriptReader,
    TranscriptWriter,
)
from openami.sip.acts import ActType, make_act, signed
from openami.sip.canonical import read_document
from openami.sip.errors import SipError

_LINES_SEEDED = 3


def report(data: bytes) -> None:
    """Nothing is believed but the bytes that were signed; a refusal says what to do."""
    try:
        read = open_report(data)
    except ReportError as error:
        assert str(error)
        assert error.remedy
        return
    assert data == sealed().data
    assert read.kid == SIGNER.kid


def report_resigned(data: bytes) -> None:
    """Anybody has a key: what he signs is refused, or can be read, whatever he put into it."""
    try:
        members = read_document(data, REPORT_BYTES_MAX).members
        members.pop("signature", None)
        document = read_document(rfc8785.dumps(members), REPORT_BYTES_MAX)
        act = make_act(SIGNER, document, ActType.CONFORMANCE, iat=int(ENDED.timestamp()))
        read = open_report(rfc8785.dumps(signed(document.members, [act])))
    except (SipError, ReportError):
        return
    text = text_report(read)
    assert all(line.isprintable() for line in text.splitlines())


def transcript(data: bytes) -> None:
    """A transcript is judged again, or its fault is told with its line."""
    try:
        replayed = replay(TranscriptReader(BytesIO(data)), ENDED)
    except TranscriptError as error:
        assert str(error)
        return
    assert replayed.observations <= data.count(b"\n")


def sheets(data: bytes) -> None:
    """Whatever a gateway publishes, there are sheets of it, and a report that can be read."""
    traffic = Traffic()
    for leaf in ("telemetry", "event"):
        traffic.see(Published(BEGAN, topic("M-1", leaf), data, 1, False))
    made = seal(judgement(), sheets_of(judgement(), traffic), SIGNER, now=ENDED)
    assert all(line.isprintable() for line in text_report(made).splitlines())
    msgspec.json.decode(made.data)


@cache
def _transcripts() -> Sequence[bytes]:
    file = BytesIO()
    writer = TranscriptWriter(file, Head(FORMAT, "0.1.0", "gateway", BEGAN))
    for each, _ in zip(afternoon(), range(_LINES_SEEDED), strict=False):
        writer.see(each)
    return [file.getvalue()]


def _reports() -> Sequence[bytes]:
    return [sealed().data]


def _messages() -> Sequence[bytes]:
    return [vector.payload for vector in vectors("telemetry") if len(vector.payload) < 2048][:20]


TARGETS = (
    Target("report", report, _reports, 100),
    Target("report_resigned", report_resigned, _reports, 50),
    Target("transcript", transcript, _transcripts, 50),
    Target("sheets", sheets, _messages, 50),
)
