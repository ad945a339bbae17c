"""A transcript holds what was seen, to the bit, and a report follows from it or does not."""

import errno
import hashlib
from dataclasses import replace
from datetime import timedelta
from io import BytesIO, RawIOBase

import msgspec
import pytest
from tests.conformance.mutants import GATEWAYS, HEADENDS, Mutant
from tests.conformance.report.sample import (
    BEGAN,
    ENDED,
    NAME,
    OPTIONS,
    SIGNER,
    afternoon,
    telemetry,
    traffic,
)
from tests.conformance.streams import BEGAN as STREAMS_BEGAN
from tests.conformance.streams import judged as judged_stream

from openami import __version__
from openami.conformance.judge import Judge
from openami.conformance.judgement import Kind
from openami.conformance.observation import (
    Acknowledged,
    ActBegan,
    ActEnded,
    Connected,
    Disconnected,
    Observation,
    Published,
    RelaySeen,
    Sent,
    Subscribed,
)
from openami.conformance.replay import differences, replay
from openami.conformance.report.document import Report, seal
from openami.conformance.sheets import sheets_of
from openami.conformance.transcript import (
    FORMAT,
    LINE_BYTES_MAX,
    Head,
    TranscriptError,
    TranscriptReader,
    TranscriptWriter,
)

HEAD = Head(FORMAT, __version__, "gateway", BEGAN, "Polemakers", "EMS-3", "2.1.7")

EVERYTHING: tuple[Observation, ...] = (
    Connected(BEGAN, 1, NAME, "5", False, 60, "a/b", "TLSv1.3", NAME),
    Connected(BEGAN, 2, "", "3.1.1", True, 0, None, None, None),
    Subscribed(BEGAN, 1, (("a/+/b", 1), ("#", 0))),
    Published(BEGAN, "t\x00\u20ac", bytes(range(256)), 1, True, True, 1, 65_535, 300),
    Published(BEGAN, "", b"", 0, False),
    Acknowledged(BEGAN, 1, 7, withheld=True),
    Sent(BEGAN, "a", b"\xff\n\xfe", "forged command"),
    ActBegan(BEGAN, "unplug", "M-1"),
    ActEnded(BEGAN + timedelta(microseconds=1), "unplug", False, "skipped"),
    RelaySeen(BEGAN, "M-1", True),
    Disconnected(BEGAN, 1, False, True),
)


def written(
    observations: tuple[Observation, ...], bytes_max: int = 10**9
) -> tuple[bytes, TranscriptWriter]:
    file = BytesIO()
    writer = TranscriptWriter(file, HEAD, bytes_max)
    for each in observations:
        writer.see(each)
    return file.getvalue(), writer


def read(data: bytes) -> tuple[TranscriptReader, list[Observation]]:
    reader = TranscriptReader(BytesIO(data))
    return reader, list(reader.observations())


def test_every_kind_of_observation_comes_back_as_it_was() -> None:
    data, writer = written(EVERYTHING)
    reader, observations = read(data)
    assert reader.head == HEAD
    assert tuple(observations) == EVERYTHING
    assert {type(each) for each in EVERYTHING} == set(Observation.__args__)
    assert writer.digest().sha256 == reader.sha256 == hashlib.sha256(data).hexdigest()
    assert (writer.digest().observations, writer.digest().whole) == (len(EVERYTHING), True)


def test_a_transcript_ends_at_its_bound_and_says_so() -> None:
    whole, _ = written(EVERYTHING)
    data, writer = written(EVERYTHING, len(whole) - 1)
    assert writer.ended_by
    assert not writer.digest().whole
    assert whole.startswith(data)
    assert read(data)[1] == list(EVERYTHING[:-1])


def test_an_observation_that_is_larger_than_a_line_ends_it() -> None:
    data, writer = written(
        (replace(telemetry("M-1", BEGAN, []), payload=b"x" * LINE_BYTES_MAX), *EVERYTHING)
    )
    assert writer.digest() == msgspec.structs.replace(
        writer.digest(), observations=0, whole=False, sha256=hashlib.sha256(data).hexdigest()
    )


class FullDisk(RawIOBase):
    """A file on a disk that has room for so many bytes; what does not fit is taken in part, then refused."""

    def __init__(self, room: int) -> None:
        self.room, self.data = room, b""

    def write(self, data: bytes) -> int:  # type: ignore[override]
        if len(self.data) >= self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = bytes(data)[: self.room - len(self.data)]
        self.data += taken
        return len(taken)

    def truncate(self, size: int | None = None) -> int:
        self.data = self.data[:size]
        return len(self.data)


def test_a_full_disk_ends_the_transcript_and_not_the_judgement() -> None:
    whole, _ = written(EVERYTHING)
    for room in range(len(whole) // 2, len(whole)):
        disk = FullDisk(room)
        writer = TranscriptWriter(disk, HEAD)  # type: ignore[arg-type]
        for each in EVERYTHING:
            writer.see(each)
        assert writer.ended_by
        reader, observations = read(disk.data)
        assert len(observations) == writer.digest().observations
        assert reader.sha256 == writer.digest().sha256


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda _: b"", "empty"),
        (lambda data: data[:10], "line 1 is cut off"),
        (lambda _: b"{}\n", "line 1 is not the head"),
        (lambda data: data.replace(b"transcript/1", b"transcript/9"), "openami-transcript/1"),
        (lambda data: data[:-10], "is cut off"),
        (lambda data: data.replace(b"Published", b"Pondered"), "something unknown"),
        (lambda data: data.replace(b'"qos":1', b'"qos":"1"'), "line 5"),
        (lambda data: data.replace(b"12:00:00Z", b"12:00:00"), "zone"),
        (lambda data: data + b"[" * 100_000 + b"\n", f"line {len(EVERYTHING) + 2}"),
        (lambda data: data + b" " * (LINE_BYTES_MAX + 2), "longer than any"),
    ],
)
def test_a_damaged_transcript_is_told_with_its_line(damage: object, said: str) -> None:
    assert callable(damage)
    with pytest.raises(TranscriptError, match=said):
        read(damage(written(EVERYTHING)[0]))


# --- replay --------------------------------------------------------------------------------------


CASES: list[tuple[str, Kind, Mutant]] = [
    *((number, "gateway", mutant) for number, mutant in GATEWAYS.items()),
    *((f"{number} of a head-end", "headend", mutant) for number, mutant in HEADENDS.items()),
]


def judged(observations: tuple[Observation, ...], *, named: bool = True) -> tuple[Report, bytes]:
    """Judge and keep a transcript, as the kit does."""
    judge = Judge("gateway", began_at=BEGAN, vendor="Polemakers", model="EMS-3", firmware="2.1.7")
    data, writer = written(observations)
    for each in observations:
        judge.see(each)
    judgement = judge.judgement(ENDED)
    sheets = sheets_of(judgement, traffic(iter(observations)), OPTIONS)
    digest = writer.digest() if named else None
    return seal(judgement, sheets, SIGNER, now=ENDED, transcript=digest).report, data


def replayed(report: Report, data: bytes) -> list[str]:
    return list(differences(report, replay(TranscriptReader(BytesIO(data)), ENDED)))


AFTERNOON = tuple(afternoon())


def test_a_report_follows_from_its_transcript() -> None:
    assert replayed(*judged(AFTERNOON)) == []


def test_a_transcript_that_lacks_a_message_leads_to_another_report() -> None:
    report, _ = judged(AFTERNOON)
    said = replayed(report, written(AFTERNOON[:20] + AFTERNOON[21:])[0])
    assert said[0].startswith("it is not the transcript that the report names")
    assert any(
        each.startswith("OA-QOS-001: the report says passed (0 of 40 broken)") for each in said
    )
    assert "the sheet of missing readings" in said


def test_a_verdict_that_does_not_follow_is_told() -> None:
    """Signed by the kit's own key, and still not what was seen."""
    report, data = judged(AFTERNOON)
    better = tuple(
        msgspec.structs.replace(each, verdict="passed", broken=0, evidence=())
        if each.requirement == "OA-REG-008"
        else each
        for each in report.judgement.findings
    )
    praised = msgspec.structs.replace(
        report, judgement=msgspec.structs.replace(report.judgement, findings=better)
    )
    assert replayed(praised, data) == [
        "OA-REG-008: the report says passed (0 of 40 broken), the transcript leads to warning (13 of 40 broken)"
    ]


def test_findings_that_were_left_out_or_put_in_are_told() -> None:
    report, data = judged(AFTERNOON)
    first, *rest = report.judgement.findings
    invented = msgspec.structs.replace(first, requirement="OA-NEW-001")
    changed = msgspec.structs.replace(
        report, judgement=msgspec.structs.replace(report.judgement, findings=(invented, *rest))
    )
    assert replayed(changed, data) == [
        "OA-NEW-001: the report judges it, the replay does not",
        f"{first.requirement}: the replay judges it, the report does not",
    ]


def test_a_bill_that_does_not_follow_is_told() -> None:
    report, data = judged(AFTERNOON)
    assert report.bandwidth is not None
    cheap = msgspec.structs.replace(report.bandwidth, meters=report.bandwidth.meters[:1])
    assert replayed(msgspec.structs.replace(report, bandwidth=cheap), data) == [
        "the bandwidth bill"
    ]


def test_another_subject_or_beginning_is_told() -> None:
    report, data = judged(AFTERNOON)
    subject = msgspec.structs.replace(report.judgement.subject, firmware="9.9")
    judgement = msgspec.structs.replace(
        report.judgement, subject=subject, began_at=BEGAN - timedelta(1), kit_version="0.0.1"
    )
    said = replayed(msgspec.structs.replace(report, judgement=judgement), data)
    assert len(said) == 3


def test_a_report_that_names_no_transcript_cannot_be_held_against_one() -> None:
    assert replayed(*judged(AFTERNOON, named=False)) == [
        "the report names no transcript, so this may be that of another run"
    ]


@pytest.mark.parametrize(("what", "kind", "mutant"), CASES, ids=[case[0] for case in CASES])
def test_whatever_the_rules_look_at_is_in_the_transcript(
    what: str, kind: Kind, mutant: Mutant
) -> None:
    """Each stream that breaks a requirement is convicted of the same again, from the file alone."""
    stream = mutant()
    file = BytesIO()
    writer = TranscriptWriter(file, Head(FORMAT, __version__, kind, STREAMS_BEGAN))
    for each in stream.observations:
        writer.see(each)
    first = judged_stream(stream, kind)
    file.seek(0)
    again = replay(TranscriptReader(file), first.ended_at)
    assert again.judgement == first
