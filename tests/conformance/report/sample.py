"""A small judgement of a made-up gateway, its traffic of an afternoon, and the report of both."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from openami.conformance.judgement import Evidence, Finding, Judgement, Subject
from openami.conformance.observation import Connected, Observation, Published
from openami.conformance.report.document import Sealed, seal
from openami.conformance.sheets import SheetOptions, Sheets, sheets_of
from openami.conformance.traffic import Traffic
from openami.sip.keys import KeySigner

BEGAN = datetime(2026, 6, 22, 12, 0, tzinfo=UTC)
ENDED = datetime(2026, 6, 22, 15, 30, tzinfo=UTC)
FEEDER, GATEWAY = "feeder-north-paravur-01", "pole-ems-0042"
NAME = f"{FEEDER}/{GATEWAY}"

# The key of RFC 8032 §7.1 TEST 1, so that a report made here is the same on every machine.
SIGNER = KeySigner(
    Ed25519PrivateKey.from_private_bytes(
        bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    )
)


def topic(meter: str, leaf: str = "telemetry") -> str:
    return f"openami/v1/{FEEDER}/{GATEWAY}/meter/{meter}/{leaf}"


def telemetry(
    meter: str,
    ts: datetime,
    registers: Sequence[tuple[str, object, str, str]],
    *,
    at: datetime | None = None,
    seq: int | None = None,
    **published: Any,
) -> Published:
    """A message of a meter as it was seen."""
    members: dict[str, object] = {
        "schemaVersion": "0.1",
        "ts": ts.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "feederId": FEEDER,
        "gatewayId": GATEWAY,
        "meterSerial": meter,
        "registers": [
            {"obis": obis, "value": value, "unit": unit, "quality": quality}
            for obis, value, unit, quality in registers
        ],
    }
    if seq is not None:
        members["seq"] = seq
    payload = json.dumps(members, separators=(",", ":")).encode()
    seen = {"qos": 1, "retain": False, **published}
    return Published(at=at or ts, topic=topic(meter), payload=payload, **seen)


PLAIN = [
    ("1.8.0", 1842.5, "kWh", "good"),
    ("1.7.0", 0.42, "kW", "good"),
    ("32.7.0", 231.0, "V", "good"),
    ("31.7.0", 1.9, "A", "good"),
    ("1.0.0", "2026-06-22T14:30:00Z", "ISO 8601", "good"),
    ("96.1.0", "DS1000-88421", "", "good"),
]
PREPAID = [*PLAIN, ("96.8.0", 12.4, "kWh", "good"), ("96.11.1", "connected", "enum", "good")]
# No voltage, current in mA, a credit of the older code, a code of its own.
LACKING = [
    ("1.8.0", 77.0, "kWh", "suspect"),
    ("1.7.0", 0.1, "kW", "good"),
    ("31.7.0", 1900, "mA", "good"),
    ("1.0.0", "2026-06-22T14:30:00Z", "ISO 8601", "good"),
    ("96.1.0", "DS1000-88422", "", "good"),
    ("19.10.0", 5.0, "kWh", "good"),
    ("96.99.8", 1, "", "good"),
]


def afternoon() -> Iterator[Observation]:
    """Three hours and a half of three meters every 15 minutes; one is silent for an hour, two numbers are lost."""
    yield Connected(BEGAN, 1, NAME, "5", False, 60, None, "TLSv1.3", NAME)
    seq = 0
    for minute in range(0, 210, 15):
        at = BEGAN + timedelta(minutes=minute)
        for meter, registers in (
            ("DS1000-88421", PREPAID),
            ("DS1000-88422", LACKING),
            ("DS1000-88423", PLAIN),
        ):
            seq += 1
            if seq in (7, 8):
                continue
            if meter == "DS1000-88423" and 60 <= minute < 120:
                lost = [(obis, value, unit, "comms_lost") for obis, value, unit, _ in registers]
                yield telemetry(meter, BEGAN + timedelta(minutes=45), lost, at=at, seq=seq)
                continue
            yield telemetry(meter, at, registers, seq=seq, connection=1, wire_bytes=0)


def finding(number: str, **members: Any) -> Finding:
    whole: dict[str, Any] = {
        "text": "Telemetry is published with QoS 1.",
        "source": "profile",
        "how": "By the QoS of every message on a telemetry topic.",
        "verdict": "passed",
        "seen": 40,
        "broken": 0,
        "evidence": (),
        "remedy": "Set the QoS of telemetry to 1: 0 loses readings, 2 is not asked for.",
        "exercise": "Let a meter be read once.",
    }
    return Finding(requirement=number, **{**whole, **members})


FINDINGS = (
    finding(
        "OA-QOS-001",
        verdict="failed",
        broken=12,
        evidence=(
            Evidence(
                BEGAN + timedelta(minutes=15),
                "published with QoS 0",
                topic("DS1000-88422"),
                "",
                '{"schemaVersion":"0.1","ts":"2026-06-22T12:15:00Z","feederId":"feeder-north-paravur-01",…',
            ),
        ),
        broken_by=(NAME,),
    ),
    finding(
        "OA-REG-007",
        text="The unit of a register is the list's.",
        source="decision 0015",
        how="By comparing each register with the list.",
        verdict="warning",
        seen=14,
        broken=14,
        remedy="Convert in the gateway, and publish A.",
        evidence=(
            Evidence(
                BEGAN, "31.7.0 came in mA, the list says A", topic("DS1000-88422"),
                "/registers/2/unit", '"unit": "mA"',
            ),
        ),
    ),
    finding(
        "OA-SES-002",
        text="No relay moves without a session that covers the command.",
        how="By sending commands without a session, and looking at the relay.",
        verdict="not exercised",
        seen=0,
        exercise="Connect a meter with a relay and let the kit send its commands.",
    ),
    finding(
        "OA-TOP-001",
        text="A message travels on one of the profile's four topics.",
        how="By the topic of every message.",
        evidence=(Evidence(BEGAN, "telemetry of DS1000-88421", topic("DS1000-88421")),),
    ),
    finding(
        "OA-SIP-009",
        text="Settlement actions need a session.",
        how="Profile 0.1 names no settlement action.",
        verdict="not testable",
        seen=0,
        exercise="",
        remedy="",
    ),
)  # fmt: skip


def judgement(findings: tuple[Finding, ...] = FINDINGS, **members: Any) -> Judgement:
    whole: dict[str, Any] = {
        "profile_version": "0.1",
        "kit_version": "0.1.0",
        "began_at": BEGAN,
        "ended_at": ENDED,
        "subject": Subject("gateway", (NAME,), "Polemakers", "EMS-3", "2.1.7"),
        "conforms": False,
    }
    return Judgement(findings=findings, **{**whole, **members})


def traffic(observations: Iterator[Observation] | None = None) -> Traffic:
    profile = Traffic()
    for each in afternoon() if observations is None else observations:
        profile.see(each)
    return profile


OPTIONS = SheetOptions(interval_s=300, price_per_mb=Decimal("0.04"), currency="EUR")


def sheets(of: Judgement | None = None) -> Sheets:
    return sheets_of(of or judgement(), traffic(), OPTIONS)


def sealed(of: Judgement | None = None) -> Sealed:
    said = of or judgement()
    return seal(said, sheets(said), SIGNER, now=ENDED)
