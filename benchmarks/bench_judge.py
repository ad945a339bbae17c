"""The judge on one core: messages a second of the core's time, and what it remembers; one JSON line a case.

    python -m benchmarks.bench_judge [MESSAGES]

500 meters of 25 gateways at 15 minutes, every message different, seen at the kit's door (connection, packet id
and acknowledgement, three observations a message) or through a broker (one). A bad village's messages each have a
fault, so that each is audited.
"""

import gc
import json
import resource
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

from openami.conformance.judge import Judge
from openami.conformance.observation import Acknowledged, Connected, Observation, Published
from openami.profile import utc_text

MESSAGES = 200_000
BATCH = 2_000
METERS = 500
METERS_OF_GATEWAY = 20
CODES = ("1.8.0", "2.8.0", "1.7.0", "32.7.0", "31.7.0")
UNITS = {"1.8.0": "kWh", "2.8.0": "kWh", "1.7.0": "kW", "32.7.0": "V", "31.7.0": "A"}
START = datetime(2026, 6, 22, tzinfo=UTC)
INTERVAL = timedelta(minutes=15)


def stream(messages: int, *, door: bool, quality: str) -> Iterator[Observation]:
    """Yield what is seen of so many messages."""
    gateways = METERS // METERS_OF_GATEWAY
    if door:
        for gateway in range(gateways):
            yield Connected(START, gateway, f"gw-{gateway}", "5", False, 60, None, "TLSv1.3", None)
    for number in range(messages):
        moment, meter = divmod(number, METERS)
        gateway = meter // METERS_OF_GATEWAY
        at = START + moment * INTERVAL + timedelta(seconds=meter)
        topic = f"openami/v1/feeder-1/pole-{gateway}/meter/DS1000-{meter}/telemetry"
        payload = json.dumps(
            {
                "schemaVersion": "0.1",
                "ts": utc_text(at),
                "feederId": "feeder-1",
                "gatewayId": f"pole-{gateway}",
                "meterSerial": f"DS1000-{meter}",
                "seq": number,
                "registers": [
                    {
                        "obis": code,
                        "value": moment + place / 10,
                        "unit": UNITS[code],
                        "quality": quality,
                    }
                    for place, code in enumerate(CODES)
                ],
            }
        ).encode()
        connection, packet_id = (gateway, number % 65_535 + 1) if door else (None, None)
        yield Published(at, topic, payload, 1, False, connection=connection, packet_id=packet_id)
        if connection is not None and packet_id is not None:
            yield Acknowledged(at, connection, packet_id)


def batched(observations: Iterator[Observation]) -> Iterator[list[Observation]]:
    """Yield the observations in batches: made before the clock runs, and few enough to be held."""
    while batch := list(islice(observations, BATCH)):
        yield batch


def measure(case: str, messages: int, *, door: bool = False, quality: str = "good") -> None:
    """Print how many messages a second were judged, and what the process came to hold."""
    judge = Judge("gateway", began_at=START)
    spent_s, worst_per_s = 0.0, float("inf")
    gc.collect()
    for batch in batched(stream(messages, door=door, quality=quality)):
        began = time.process_time()
        for observation in batch:
            judge.see(observation)
        took_s = time.process_time() - began
        spent_s += took_s
        worst_per_s = min(worst_per_s, sum(isinstance(o, Published) for o in batch) / took_s)
    began = time.process_time()
    judgement = judge.judgement(START + messages // METERS * INTERVAL)
    line = {
        "benchmark": "judge",
        "case": case,
        "messages": messages,
        "per_s": round(messages / spent_s),
        "slowest_batch_per_s": round(worst_per_s),
        "judgement_ms": round((time.process_time() - began) * 1000, 2),
        "resident_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "conforms": judgement.conforms,
    }
    print(json.dumps(line), flush=True)


def main() -> None:
    """Measure every case."""
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else MESSAGES
    measure("a quarter of them, to see whether memory grows", messages // 4, door=True)
    measure("at the kit's door", messages, door=True)
    measure("through a broker", messages)
    measure("each with a fault", messages // 10, quality="ok")


if __name__ == "__main__":
    main()
