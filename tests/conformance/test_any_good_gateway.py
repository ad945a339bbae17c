"""Whatever link and meters do, a gateway that keeps what has no PUBACK and says what is silent breaks nothing."""

import random
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from tests.conformance.streams import (
    INTERVAL,
    ROOT,
    Stream,
    as_bytes,
    broken,
    judged,
    verdicts,
)

from openami.conformance.observation import Act
from openami.profile import utc_text

METERS = ("DS1000-1", "DS1000-2", "DS1000-3")
ROUNDS = 25
Queued = tuple[str, bytes]


@dataclass
class AnyGateway:
    """A good gateway whose every free choice is drawn: order, repeats, packet ids, sessions, what it adds."""

    chance: random.Random
    stream: Stream = field(default_factory=Stream)
    outbox: list[Queued] = field(default_factory=list)
    under_way: list[tuple[Queued, int]] = field(default_factory=list)
    last: dict[str, dict[str, Any]] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    energy: float = 1000.0
    resumes: bool = True
    numbers: bool = True

    def live(self) -> None:
        """Live for some rounds: measure, lose the link, get it back, send what is there."""
        self.resumes, self.numbers = self.chance.random() < 0.5, self.chance.random() < 0.7
        self._connect()
        for _ in range(ROUNDS):
            self._meters_change()
            for serial in METERS:
                self._poll(serial)
            self.stream.now += INTERVAL
            match self.chance.randrange(6):
                case 0:
                    self._lose_the_link()
                case 1:
                    self._restart()
                case _:
                    self._send()
        self._send()

    # --- measuring ---

    def _meters_change(self) -> None:
        serial = self.chance.choice(METERS)
        if self.chance.random() < 0.2:
            self.silent.symmetric_difference_update({serial})
            self._queue(serial, "event", self._event(serial))

    def _poll(self, serial: str) -> None:
        if serial in self.silent:
            last = self.last.get(serial)
            if last is not None:
                lost = [{**each, "quality": "comms_lost"} for each in last["registers"]]
                repeated = self._envelope(serial, ts=last["ts"], registers=lost)
                self._queue(serial, "telemetry", repeated)
            return
        self.energy += self.chance.random()
        quality = self.chance.choice(["good"] * 5 + ["suspect"])
        volts = self.chance.uniform(0, 300)
        registers = [
            {"obis": "1.8.0", "value": self.energy, "unit": "kWh", "quality": "good"},
            {"obis": "32.7.0", "value": volts, "unit": "V", "quality": quality},
            {"obis": "96.11.1", "value": "connected", "unit": "enum", "quality": "good"},
        ]
        envelope = self._envelope(serial, registers=registers)
        self.last[serial] = envelope
        self._queue(serial, "telemetry", envelope)

    def _envelope(self, serial: str, **changes: Any) -> dict[str, Any]:
        optional = {} if self.numbers else {"seq": None}
        return self.stream.envelope(serial, **(optional | changes))

    def _event(self, serial: str) -> dict[str, Any]:
        now = utc_text(self.stream.now)
        body = {"eventId": f"{serial}-{now}", "type": "comms", "state": "instant"}
        body |= {"severity": "major", "occurredAt": now, "source": "gateway"}
        about = [{"obis": "96.1.0", "value": serial, "unit": "", "quality": "good"}]
        return self._envelope(serial, registers=about, event=body)

    def _queue(self, serial: str, leaf: str, envelope: dict[str, Any]) -> None:
        self.outbox.append((f"{ROOT}/meter/{serial}/{leaf}", as_bytes(envelope)))

    # --- sending ---

    def _connect(self) -> None:
        self.stream.connect(clean=not self.resumes)
        again, self.under_way = self.under_way, []
        for (topic, payload), packet_id in again:
            if self.resumes:
                self._publish((topic, payload), dup=True, packet_id=packet_id)
            else:
                self._publish((topic, payload))

    def _send(self) -> None:
        """Send all there is, in whatever order."""
        match self.chance.randrange(3):
            case 0:
                self.outbox.reverse()
            case 1:
                self.chance.shuffle(self.outbox)
            case _:
                pass
        queued, self.outbox = self.outbox, []
        for each in queued:
            self._publish(each)

    def _publish(self, message: Queued, **how: Any) -> None:
        topic, payload = message
        is_acknowledged = self.chance.random() < 0.9
        published = self.stream.publish(topic, payload, acknowledged=is_acknowledged, **how)
        if not is_acknowledged:
            assert published.packet_id is not None
            self.under_way.append((message, published.packet_id))

    def _lose_the_link(self) -> None:
        by_kit = self.chance.random() < 0.5
        if by_kit:
            self.stream.begin(Act.NETWORK_LOST)
        self.stream.disconnect(by_kit=by_kit)
        for _ in range(self.chance.randrange(6)):
            for serial in METERS:
                self._poll(serial)
            self.stream.now += INTERVAL
        if by_kit:
            self.stream.end(Act.NETWORK_LOST)
        self.stream.now += timedelta(seconds=self.chance.randrange(30))
        self._connect()
        self._send()

    def _restart(self) -> None:
        self.stream.begin(Act.GATEWAY_RESTARTED)
        self.stream.disconnect()
        self.stream.now += timedelta(seconds=30)
        self._connect()
        self.stream.end(Act.GATEWAY_RESTARTED)
        self._send()


@pytest.mark.parametrize("seed", range(40))
def test_any_good_gateway_breaks_nothing(seed: int) -> None:
    gateway = AnyGateway(random.Random(seed))
    gateway.live()
    judgement = judged(gateway.stream)
    assert broken(judgement) == set(), [each for each in judgement.findings if each.broken]
    assert judgement.conforms


def test_what_they_go_through_is_seen() -> None:
    """Otherwise that nothing is broken would say nothing."""
    passed: set[str] = set()
    for seed in range(10):
        gateway = AnyGateway(random.Random(seed))
        gateway.live()
        passed |= {
            each
            for each, verdict in verdicts(judged(gateway.stream)).items()
            if verdict == "passed"
        }
    assert passed >= {
        *("OA-DEL-001", "OA-DEL-002", "OA-DEL-003", "OA-SIL-001", "OA-SEQ-001"),
        *("OA-REG-012", "OA-REG-013", "OA-REG-015", "OA-EVT-003"),
    }
