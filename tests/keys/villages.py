"""Villages for the tests: an operator's directory, and gateways with their directories of keys."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from openami.clock import SystemClock
from openami.gateway.enrolment import GatewayKeys
from openami.headend.enrolment import EnrolmentDesk
from openami.headend.village import Village, VillagePlan, add_gateway, make_village
from openami.keyfiles import load_signer
from openami.pki.certificates import (
    issue_client,
    new_serial,
    new_transport_key,
    print_certificate,
    print_key,
)
from openami.pki.enrolment import read_request
from openami.pki.names import CommonName, GatewayName

FEEDER = "feeder-1"
GATEWAY = GatewayName.parse("feeder-1/gateway-1")
OTHER = GatewayName.parse("feeder-1/gateway-2")
NOW = datetime(2026, 6, 22, 14, 30, tzinfo=UTC)


@dataclass(slots=True)
class Watch:
    """A clock that stands still until it is moved."""

    now: datetime = field(default_factory=lambda: NOW)

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, time: timedelta) -> None:
        self.now += time


def new_village(
    directory: Path,
    *,
    now: datetime = NOW,
    roots: int = 1,
    threshold: int = 1,
    feeders: tuple[str, ...] = (FEEDER,),
) -> Village:
    """Make a village whose broker is called localhost."""
    plan = VillagePlan(
        feeders=feeders,
        broker_names=("localhost", "127.0.0.1"),
        port=8883,
        roots=roots,
        threshold=threshold,
        disconnects_per_hour=2,
    )
    return make_village(directory, plan, now=now)


def enrolled(
    village: Village, directory: Path, name: GatewayName = GATEWAY, *, now: datetime
) -> GatewayKeys:
    """Return a gateway that was enrolled by a stick, and is in the keyring."""
    keys = GatewayKeys(directory)
    payload = keys.request(name, now=now)
    add_gateway(village, read_request(payload), [load_signer(village.root_key_file(1))], now=now)
    keys.install(EnrolmentDesk(village, lambda: now).enrol_by_hand(payload), village=None)
    return keys


def client_file(village: Village, directory: Path, name: str, *, now: datetime) -> Path:
    """Return a file with a certificate of the village's authority for any name at all, and its key."""
    key = new_transport_key()
    certificate = issue_client(
        village.authority(), key.public_key(), CommonName(name), now=now, serial=new_serial()
    )
    file = directory / f"{name.replace('/', '_')}-{certificate.serial_number}.pem"
    file.write_bytes(print_certificate(certificate) + print_key(key))
    return file


def wall() -> datetime:
    """Return the real time, for what TLS judges."""
    return SystemClock().now()
