"""Decode and validate on one core, ids included: envelopes a second of the core's time, one JSON line a case.

The fixed example is the figure to compare with; the stream is the honest one: 500 meters, each message with
its own time and values, in the order they would come, so that no cache sees a message twice.

    python -m benchmarks.bench_decode [REPEATS]
"""

import gc
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from openami import spec
from openami.profile import ProfileError, audit_envelope, decode_envelope, utc_text

REPEATS = 9
METERS = 500
MOMENTS = 60
AUDITED = 2_000
CODES = ("1.8.0", "2.8.0", "1.7.0", "32.7.0", "31.7.0", "14.7.0", "13.7.0", "96.7.21", "96.8.0")
TWELVE = (*CODES, "3.8.0", "9.8.0", "91.7.0")


def example() -> dict[str, Any]:
    """Return the profile's example."""
    document: dict[str, Any] = json.loads(spec.load("profile-v0.1.json"))["envelope"]["example"]
    return document


def stream(registers: int, *, code: Callable[[str], str] = str, **members: Any) -> list[bytes]:
    """Return METERS x MOMENTS messages as a village would send them, every one different."""
    chance = random.Random(registers)
    start = datetime(2026, 6, 22, tzinfo=UTC)
    messages: list[bytes] = []
    for moment in range(MOMENTS):
        for meter in chance.sample(range(METERS), METERS):
            ts = start + timedelta(minutes=15 * moment, seconds=chance.randrange(900))
            messages.append(
                compact(
                    example()
                    | {
                        "ts": utc_text(ts),
                        "feederId": f"feeder-north-paravur-{meter // 100:02}",
                        "gatewayId": f"pole-ems-{meter // 20:04}",
                        "meterSerial": f"DS1000-{88000 + meter}",
                        "sessionId": f"sip-{meter // 20:04}{moment // 10:04}",
                        "registers": [
                            {
                                "obis": code(each),
                                "value": round(chance.uniform(0, 10_000), 3),
                                "unit": "kWh",
                                "quality": "good",
                            }
                            for each in TWELVE[:registers]
                        ],
                    }
                    | {name: value(len(messages)) for name, value in members.items()}
                )
            )
    return messages


def compact(document: dict[str, Any]) -> bytes:
    """Return a message as a gateway writes it."""
    return json.dumps(document, separators=(",", ":")).encode()


def decoded(messages: Sequence[bytes]) -> None:
    """Decode every message."""
    for message in messages:
        decode_envelope(message)


def audited(messages: Sequence[bytes]) -> None:
    """Audit every message."""
    for message in messages:
        audit_envelope(message)


def rejected(messages: Sequence[bytes]) -> None:
    """Decode messages that are all refused."""
    for message in messages:
        try:
            decode_envelope(message)
        except ProfileError:
            continue
        raise AssertionError("a message that should be refused is accepted")


def measure(
    case: str, work: Callable[[Sequence[bytes]], None], messages: Sequence[bytes], repeats: int
) -> None:
    """Print how many messages a second, over some repeats."""
    work(messages[:1000])
    rates = []
    for _ in range(repeats):
        gc.collect()
        began = time.process_time()
        work(messages)
        rates.append(len(messages) / (time.process_time() - began))
    line = {
        "benchmark": "decode",
        "case": case,
        "messages": len(messages),
        "bytes": round(statistics.mean(map(len, messages))),
        "repeats": repeats,
        "median_per_s": round(statistics.median(rates)),
        "min_per_s": round(min(rates)),
        "max_per_s": round(max(rates)),
    }
    print(json.dumps(line), flush=True)


def main() -> None:
    """Measure every case."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else REPEATS
    fixed = compact(example())
    three = stream(3)
    measure("the profile's example", decoded, [fixed] * len(three), repeats)
    measure("stream, 3 registers", decoded, three, repeats)
    measure("stream, 3 registers, seq", decoded, stream(3, seq=lambda n: n), repeats)
    measure("stream, 12 registers", decoded, stream(12), repeats)
    full = stream(3, code=lambda each: f"1-0:{each}*255")
    measure("stream, 3 registers, full codes", decoded, full, repeats)
    unknown = stream(3, firmware=lambda _: {"version": "1.2"})
    measure("stream, 3 registers, an unknown member: read twice", decoded, unknown, repeats)
    measure("audit of the stream, 3 registers", audited, three[:AUDITED], repeats)
    broken = [message.replace(b'"good"', b'"bad"', 1) for message in three[:AUDITED]]
    measure("rejected: a quality that is none", rejected, broken, repeats)
    cut = [message[:-10] for message in three[:AUDITED]]
    measure("rejected: cut off", rejected, cut, repeats)
    deep = [b"[" * 60_000] * 200
    measure("rejected: 60,000 deep", rejected, deep, repeats)
    flat = [b"{" + b'"a":[],' * 9_000 + b'"a":[]}'] * 20
    measure("rejected: 64 KB of members that stand twice", rejected, flat, repeats)


if __name__ == "__main__":
    main()
