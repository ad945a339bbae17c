"""What anybody in the vendor's network can send to the conformance kit: MQTT packets, and messages in them.

The first byte chooses the direction and the version; of messages, the topic.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from tests.conformance import packets
from tests.fuzz.target import Target
from tests.profile.vectors import vectors

from openami.conformance.adapter_contract import REASON_CHARS_MAX, Answer, read_answer
from openami.conformance.judge import Judge
from openami.conformance.judgement import Judgement
from openami.conformance.mqtt_packets import PACKET_BYTES_MAX, PacketError, PacketReader
from openami.conformance.observation import Acknowledged, Connected, Published
from openami.conformance.scene import Scene

NOW = datetime(2026, 6, 22, 8, 0, tzinfo=UTC)
_LEVELS = (None, 4, 5)
_LEAVES = (
    "meter/M-1/telemetry",
    "meter/M-1/event",
    "meter/M-1/command",
    "session/s-1",
    "meter/M-1/telemetri",
)
_CUTS_MAX = 64


def mqtt_packets(data: bytes) -> None:
    """Whatever comes, in whatever pieces: the same packets, whole, in order; then nothing, or a PacketError."""
    if not data:
        return
    level, stream = _LEVELS[data[0] % len(_LEVELS)], data[1:]
    whole, refused = _read(level, stream)
    assert stream.startswith(b"".join(whole))
    for cut in range(min(len(stream), _CUTS_MAX)):
        assert _read(level, stream[:cut], stream[cut:]) == (whole, refused)


def _read(level: int | None, *chunks: bytes) -> tuple[list[bytes], bool]:
    reader, raw = PacketReader(level), list[bytes]()
    try:
        for chunk in chunks:
            # One by one: those before a fault count.
            for framed in reader.read(chunk):
                raw.append(framed.raw)
            assert reader.pending_bytes <= PACKET_BYTES_MAX
    except PacketError as error:
        assert str(error)
        return raw, True
    return raw, False


def judged(data: bytes) -> None:
    """Whatever a gateway or a head-end publishes, the judge has a judgement and the scene goes on."""
    if not data:
        return
    topic = f"openami/v1/f/g/{_LEAVES[data[0] % len(_LEAVES)]}"
    came = Connected(NOW, 1, "pole", "5", False, 60, None, "TLSv1.3", "f/g")
    told = Published(NOW, topic, data[1:], 1, False, connection=1, packet_id=7)
    for kind in ("gateway", "headend"):
        judge = Judge(kind, began_at=NOW)
        for each in (came, told, Acknowledged(NOW, 1, 7), told):
            judge.see(each)
        judgement = judge.judgement(NOW)
        assert isinstance(judgement, Judgement)
        for finding in judgement.findings:
            assert finding.broken <= finding.seen
            assert all(e.detail.isprintable() and e.excerpt.isprintable() for e in finding.evidence)
    scene = Scene()
    for each in (came, told, Acknowledged(NOW, 1, 7, withheld=True), told):
        scene.see(each)
    assert scene.resent == 1


def _packets() -> Sequence[bytes]:
    topic = "openami/v1/f/g/meter/M-1/telemetry"
    who = packets.text("u") + packets.text("p")
    return [
        b"\x00" + packets.connect(flags=0xC2, after=who) + packets.publish(topic, b"{}"),
        b"\x00" + packets.connect(level=5, properties=b"\x11\x00\x00\x00\x3c"),
        b"\x01" + packets.PUBACK + packets.CONNACK + packets.PINGREQ,
        b"\x02" + packets.publish(topic, b"{}", properties=b"\x23\x00\x05"),
        b"\x02" + packets.subscribe(("openami/#", 1), properties=b""),
    ]


def _messages() -> Sequence[bytes]:
    kinds = ("telemetry", "event", "command", "session")
    return [
        bytes((place,)) + vector.payload
        for place, kind in enumerate(kinds)
        for vector in [v for v in vectors(kind) if len(v.payload) < 2048][:6]
    ]


def adapter_answer(data: bytes) -> None:
    """Whatever an adapter prints, it answers the case that was asked, or none; its report is one short line."""
    said = read_answer(data, case=7)
    if isinstance(said, Answer):
        assert said.case == 7
        assert len(said.reason) <= REASON_CHARS_MAX
        assert read_answer(said.line(), case=7) == said
    else:
        assert len(said.detail) < 3 * REASON_CHARS_MAX
        assert said.detail.isprintable()


def _answers() -> Sequence[bytes]:
    return [
        Answer(7, "accept", digest="A" * 43).line(),
        Answer(7, "accept", parsed={"kind": "event", "meterSerial": "M-1"}).line(),
        Answer(7, "reject", reason="ts is a number").line(),
        Answer(8, "decline").line(),
    ]


TARGETS = (
    Target("mqtt_packets", mqtt_packets, _packets, 100),
    Target("judged", judged, _messages, 100),
    Target("adapter_answer", adapter_answer, _answers, 200),
)
