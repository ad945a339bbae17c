"""Write docs/conformance-meshems.md: the reference firmware's messages before the kit's own judge.

    .venv/bin/python -m tools.meshems_conformance

The messages are made by the firmware's documented shapes (tests/bridge/firmware_samples.py); no pole was
recorded. A test compares the page with what this writes, so it says what the judge of this version says.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from tests.bridge.bridged import Bridged
from tests.bridge.firmware_samples import POLE, ROUND_S, START, FirmwarePole

from openami.conformance.judge import Judge
from openami.conformance.judgement import Finding, Judgement
from openami.conformance.observation import Connected, Published
from openami.profile import utc_text

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "conformance-meshems.md"
ROUNDS: Final = 12
FEEDER: Final = "feeder-a"
GATEWAY: Final = "pole-7"
# A page's column; the judge's own report has it whole.
EXCERPT_CHARS_MAX: Final = 90

Sent = tuple[str, bytes, datetime]


def as_they_come() -> Iterator[Sent]:
    """Yield an hour of a pole with three meters."""
    pole = FirmwarePole()
    for number in range(ROUNDS):
        yield from pole.round(START + timedelta(seconds=ROUND_S * number))


def on_the_profiles_topics(sent: Iterable[Sent]) -> Iterator[Sent]:
    """Yield the same bytes where a meter's readings belong."""
    for topic, payload, at in sent:
        meter = topic.rpartition("/")[2]
        yield f"openami/v1/{FEEDER}/{GATEWAY}/meter/{meter}/telemetry", payload, at


# The names under which the firmware sends what the register list has, and the unit it sends it in.
_AS_SENT: Final[Mapping[str, tuple[str, str]]] = {
    "PhV": ("32.7.0", "V"),
    "PhA": ("31.7.0", "A"),
    "PhW": ("1.7.0", "W"),
    "PF": ("13.7.0", "1"),
    "Hz": ("14.7.0", "Hz"),
    "TotWhImport": ("1.8.0", "Wh"),
}


def in_the_profiles_envelope(sent: Iterable[Sent]) -> Iterator[Sent]:
    """Yield the meters' values in an envelope, as they are: their unit, their clock, and no doubt."""
    for topic, payload, at in on_the_profiles_topics(sent):
        members: dict[str, Any] = json.loads(payload)
        if members.get("model_id") != 11:
            continue
        booted = datetime(1970, 1, 1, tzinfo=START.tzinfo)
        envelope = {
            "ts": utc_text(booted + timedelta(milliseconds=members["timestamp"])),
            "feederId": FEEDER,
            "gatewayId": GATEWAY,
            "meterSerial": topic.split("/")[5],
            "registers": [
                {"obis": obis, "value": members[name], "unit": unit, "quality": "good"}
                for name, (obis, unit) in _AS_SENT.items()
            ],
        }
        yield topic, json.dumps(envelope, separators=(",", ":")).encode(), at


def through_the_bridge(sent: Iterable[Sent]) -> Iterator[Sent]:
    """Yield what the bridge makes of it."""
    bridged = Bridged()
    for topic, payload, at in sent:
        for outgoing in bridged.hear("", payload, at, topic=topic).outgoing:
            yield str(outgoing.topic), outgoing.envelope.encode(), at


def firmware_connects() -> Connected:
    """Return how the firmware connects: plain, a clean session, a keep-alive of three minutes."""
    return Connected(START, 1, POLE, "3.1.1", True, 180, None, None, None)


def bridge_connects() -> Connected:
    """Return how the bridge connects, as its test with a real broker has it."""
    return Connected(START, 1, "bridge-1", "5", True, 60, None, "TLSv1.3", "bridge-1")


def judged(sent: Iterable[Sent], connected: Connected, *, qos: int) -> Judgement:
    """Return what the judge says."""
    judge = Judge("gateway", began_at=START)
    judge.see(connected)
    at = START
    for packet_id, (topic, payload, when) in enumerate(sent, 1):
        at = when
        judge.see(
            Published(
                at,
                topic,
                payload,
                qos,
                retain=False,
                connection=1,
                packet_id=packet_id if qos else None,
                wire_bytes=len(topic) + len(payload) + 4,
            )
        )
    return judge.judgement(at)


# --- the page ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Look:
    """One judgement, and what the messages are."""

    title: str
    about: str
    judge: Callable[[], Judgement]


LOOKS: Final = (
    Look(
        "As they come",
        "The firmware's topics, JSON, QoS and connection.",
        lambda: judged(as_they_come(), firmware_connects(), qos=0),
    ),
    Look(
        "The same bytes on the profile's topics",
        "What would be left to do if only the topics were changed.",
        lambda: judged(on_the_profiles_topics(as_they_come()), firmware_connects(), qos=0),
    ),
    Look(
        "The meters' values in the profile's envelope",
        "What would be left after that: values, units and stamps as the firmware has them, and the "
        "quality `good`, for it doubts nothing it sends.",
        lambda: judged(in_the_profiles_envelope(as_they_come()), firmware_connects(), qos=0),
    ),
    Look(
        "Through the bridge",
        "What [`openami bridge meshems`](bridge.md) makes of the same hour; QoS and TLS as its tests with real "
        "brokers see them.",
        lambda: judged(through_the_bridge(as_they_come()), bridge_connects(), qos=1),
    ),
)

_HEAD: Final = """\
# The reference firmware's messages before the conformance kit

What `meshems-openami-metering` (read at commits f5f3e84 and 73d6bdf) publishes, judged as any gateway is.
**The messages are samples made by the shapes its source documents; no pole was recorded.** An hour of a pole
with three meters, {messages} messages in {rounds} rounds. This page is written by
`python -m tools.meshems_conformance` and compared with it by a test.

| | passed | failed | warned | not exercised | conforms |
|---|---|---|---|---|---|
"""

_TAIL: Final = """\
## What no message shows

The judge sees messages and connections. What follows is in the firmware's source, and an operator should know:

- Commands on `…/cmd` are obeyed without identity, session, number, end or answer; OA-SES-002, the profile's
  word, cannot be kept that way. A web page of the pole switches relays by a GET.
- A failed poll is stamped as fresh and the last values are repeated for ever, without a quality to say so
  (OA-REG-012).
- Nothing is stored: what is measured while there is no link is gone. A message of 1,024 bytes or more is
  dropped, and the panel's reaches that once its harmonics are more than zeros.
- Stamps are milliseconds since boot, in some messages seconds of a clock that begins at 1970.
- Leakage and harmonics are zeros without a sensor. One family of meters has a power factor of 0.99 and a power
  of V·I, both made up.
- A DDS238's export power is read as unsigned. A DDSU666's floats are read as scaled integers: 230.5 V are told
  as 1,725.4 V.
- Model 11 is "Ethernet Link Layer" in SunSpec's list, and 213 has other points and another length.

What the bridge does about each of them, and what nobody can: [bridge.md](bridge.md).
"""


def page() -> str:
    """Return the page."""
    judgements = [look.judge() for look in LOOKS]
    parts = [_HEAD.format(messages=len(list(as_they_come())), rounds=ROUNDS)]
    for look, judgement in zip(LOOKS, judgements, strict=True):
        parts.append(f"| {look.title} {_counts(judgement)}\n")
    for look, judgement in zip(LOOKS, judgements, strict=True):
        parts += ["\n", f"## {look.title}\n\n", f"{look.about}\n\n", *_section(judgement)]
    return "".join([*parts, "\n", _TAIL])


def _counts(judgement: Judgement) -> str:
    counted = [
        sum(finding.verdict == verdict for finding in judgement.findings)
        for verdict in ("passed", "failed", "warning", "not exercised")
    ]
    return f"| {' | '.join(map(str, counted))} | {'yes' if judgement.conforms else 'no'} |"


def _section(judgement: Judgement) -> Iterator[str]:
    broken = [f for f in judgement.findings if f.verdict in ("failed", "warning")]
    if not any(finding.seen for finding in judgement.findings):
        yield (
            "Not one message is on a topic of the profile, or an envelope: to the judge they are somebody "
            "else's, and no requirement was exercised.\n"
        )
        return
    if broken:
        yield "| requirement | source | verdict | broken | for instance | remedy |\n|---|---|---|---|---|---|\n"
        yield from map(_row, broken)
        yield "\n"
    else:
        yield "Nothing is broken.\n\n"
    yield f"Passed: {_numbers(judgement, 'passed')}.\n"
    if judgement.conforms:
        yield f"\nNot exercised, and not part of the core: {_numbers(judgement, 'not exercised')}.\n"


def _row(finding: Finding) -> str:
    evidence = finding.evidence[0]
    place = f" at `{evidence.pointer}`" if evidence.pointer else ""
    said = f"{evidence.detail}{place}"
    if evidence.excerpt:
        said += f": `{evidence.excerpt[:EXCERPT_CHARS_MAX]}…`"
    cells = (
        f"{finding.requirement}: {finding.text}",
        finding.source,
        finding.verdict,
        f"{finding.broken} of {finding.seen}",
        said,
        finding.remedy,
    )
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |\n"


def _numbers(judgement: Judgement, verdict: str) -> str:
    return ", ".join(f.requirement for f in judgement.findings if f.verdict == verdict) or "none"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
