"""Files of a backlog for tests: a gateway's messages, carried by hand, and what befalls them on the way."""

import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from openami.sip.carried import Carried, Header, Scope, write_backlog
from openami.sip.keys import Signer

FEEDER, GATEWAY = "feeder-north-paravur-01", "pole-ems-0042"
MADE_AT = datetime(2026, 6, 22, 15, tzinfo=UTC)


def topic(serial: str = "DS1000-88421", kind: str = "telemetry", gateway: str = GATEWAY) -> str:
    return f"openami/v1/{FEEDER}/{gateway}/meter/{serial}/{kind}"


def telemetry(number: int, serial: str = "DS1000-88421") -> Carried:
    """The number-th message of a meter, half a second after the one before."""
    ts = datetime(2026, 6, 22, tzinfo=UTC) + timedelta(seconds=number / 2)
    body = {
        "schemaVersion": "0.1",
        "ts": ts.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "feederId": FEEDER,
        "gatewayId": GATEWAY,
        "meterSerial": serial,
        "registers": [
            {"obis": "1.8.0", "value": 1000 + number / 8, "unit": "kWh", "quality": "good"},
            {"obis": "32.7.0", "value": 231.5, "unit": "V", "quality": "good"},
        ],
        "seq": number,
    }
    return Carried(topic(serial), json.dumps(body, separators=(",", ":")).encode())


def header(messages: int, *, gateway: str = GATEWAY, made_at: datetime = MADE_AT) -> Header:
    return Header(
        feeder_id=FEEDER,
        gateway_id=gateway,
        made_at=made_at,
        scope=Scope.PENDING,
        messages=messages,
        first_seq=1,
        last_seq=messages,
    )


def file_of(
    messages: Sequence[Carried],
    signer: Signer | None,
    *,
    gateway: str = GATEWAY,
    made_at: datetime = MADE_AT,
) -> bytes:
    """Return a whole file's bytes."""
    out = io.BytesIO()
    write_backlog(out, header(len(messages), gateway=gateway, made_at=made_at), messages, signer)
    return out.getvalue()
