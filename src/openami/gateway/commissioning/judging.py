"""The first hour judged from the disk: the same for the gateway's page and for a command beside it."""

from datetime import datetime
from pathlib import Path

from openami.gateway.certificate import valid_until
from openami.gateway.commissioning.acceptance import GatewayFacts, judge, remaining
from openami.gateway.commissioning.evidence import hour_of, room_days, uplink_of
from openami.gateway.commissioning.hour import MeterHour
from openami.gateway.commissioning.ledger import Standing
from openami.gateway.config import GatewayConfig
from openami.gateway.driver import PollGroup
from openami.sip.commissioning import Acceptance


def judged(
    config: GatewayConfig, database: Path, standing: Standing, now: datetime
) -> Acceptance | None:
    """Judge the hour; None while it has not begun or is not over. Takes its time. Raises DatabaseError."""
    began_at = standing.hour_began_at
    if began_at is None or remaining(began_at, now):
        return None
    hours = hour_of(database, began_at)
    schedule, on_change = config.schedule, config.reports.get(PollGroup.FAST)
    # Of what is told on change only the heartbeats are sure to be on the disk.
    fast_s = schedule.fast_s if on_change is None else on_change.heartbeat_s
    return judge(
        hours,
        meters=list(config.serials),
        schedule={PollGroup.FAST: fast_s, PollGroup.BILLING: schedule.billing_s},
        gateway=GatewayFacts(
            uplink=uplink_of(database, began_at),
            clock=hours.get(config.gateway_id, MeterHour()),
            certificate_until=_certificate_until(config.mqtt.cert_file),
            room_days=room_days(database, config.outbox),
        ),
        feeder_meter=standing.feeder_meter,
        limits=standing.limits,
        began_at=began_at,
        now=now.replace(microsecond=0),
    )


def _certificate_until(cert_file: str | None) -> datetime | None:
    if cert_file is None:
        return None
    try:
        return valid_until(Path(cert_file).read_text("ascii", "replace"))
    except OSError:
        return None  # it was there when the configuration was read; as good as none
