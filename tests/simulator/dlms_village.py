"""A village of one house with a DLMS meter, lived by hand, for the simulated meter's tests."""

import dataclasses
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from openami.simulator.dlms.ciphering import Keys
from openami.simulator.dlms.lines import DlmsLine, hdlc_station, wport
from openami.simulator.dlms.meter import DlmsMeter, MeterTime, new_challenge
from openami.simulator.dlms.objects import ControlMode
from openami.simulator.dlms.server import Ciphered, Password, Public
from openami.simulator.plan import epoch_ms, plan_village
from openami.simulator.village import Village

START = datetime(2026, 6, 1, 13, 29, 58, tzinfo=UTC)
SERIAL_NUMBER = "99000001"
PERIOD = timedelta(minutes=15)
UTC_OFFSET_MINUTES = 330
PASSWORD = "12345678"
ENCRYPTION_KEY = "000102030405060708090a0b0c0d0e0f"
AUTHENTICATION_KEY = "d0d1d2d3d4d5d6d7d8d9dadbdcdddedf"
CLIENTS = {"none": 16, "lls": 32, "hls": 1}


@dataclass
class House:
    """One meter, its village, and the time it is there."""

    village: Village
    meter: DlmsMeter
    now: datetime

    def live(self, until: datetime) -> None:
        self.now = until
        self.village.advance(epoch_ms(until))

    def line(self, *, hdlc: bool) -> DlmsLine:
        """Logical device 1: behind a wPort of the number, or of physical device 17 on a serial line."""
        return DlmsLine(
            {1: self.meter.device},
            (lambda address: hdlc_station(address, 17)) if hdlc else wport,
        )


def house(
    *, mode: ControlMode = ControlMode.DIRECT, error: timedelta = timedelta(), drift_ppm: float = 0
) -> House:
    """Move into a house at half past two in the afternoon."""
    plan = plan_village(meters=2, seed=4, start=START)
    customer = dataclasses.replace(plan.customers[0], credit_uj=None)
    village = Village(dataclasses.replace(plan, customers=(customer,)))
    keys = Keys(bytes.fromhex(ENCRYPTION_KEY), bytes.fromhex(AUTHENTICATION_KEY))
    found: list[House] = []
    meter = DlmsMeter(
        lambda: village.measured(customer.serial),
        lambda position: village.order_relay(customer.serial, position),
        MeterTime(lambda: found[0].now, error, drift_ppm),
        serial_number=SERIAL_NUMBER,
        clients={
            CLIENTS["none"]: Public(),
            CLIENTS["lls"]: Password(PASSWORD.encode()),
            CLIENTS["hls"]: Ciphered(keys, new_challenge),
        },
        utc_offset_minutes=UTC_OFFSET_MINUTES,
        period=PERIOD,
        control_mode=mode,
    )
    found.append(House(village, meter, START))
    serial = customer.serial
    village.watch(
        PERIOD // timedelta(milliseconds=1),
        lambda: meter.capture(
            village.measured(serial),
            datetime.fromtimestamp(village.now_ms / 1000, tz=UTC),
        ),
    )
    return found[0]
