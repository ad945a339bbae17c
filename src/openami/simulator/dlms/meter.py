"""A village's meter that speaks DLMS: its objects, filled from what it measures; its clock, its logs, its button.

It is a single-phase meter of the kind companion standards describe: energy in steps of 0.1 Wh, a load profile, a
standard event log, a fraud log and a disconnector's log with the codes of IDIS.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import IntEnum
from typing import Final

from openami.gateway.driver import RelayPosition
from openami.profile import Obis
from openami.simulator.display import quantities
from openami.simulator.dlms.data import (
    double_long_unsigned,
    long_unsigned,
    octet_string,
    unsigned,
)
from openami.simulator.dlms.objects import (
    CLOCK,
    Clock,
    Column,
    ControlMode,
    Data,
    DisconnectControl,
    InterfaceObject,
    LogicalName,
    ObjectList,
    Profile,
    Register,
    Transition,
    Unit,
    logical_name,
)
from openami.simulator.dlms.server import Access, LogicalDevice
from openami.simulator.village import Measured

# A day of quarter hours, and of the events of a year in which little happens.
PROFILE_ROWS_MAX: Final = 96
LOG_ROWS_MAX: Final = 64
CHALLENGE_BYTES: Final = 16  # 8 to 64 are allowed
_FIRMWARE: Final = b"village 1"
_RELAY: Final = logical_name("0-0:96.3.10*255")
_LOAD_PROFILE: Final = logical_name("1-0:99.1.0*255")
_ENERGY: Final = "1.8.0"
_VOLTAGE: Final = "32.7.0"

# Quantity of the display (kW, kWh) → the meter's unit (W, Wh), its power of ten and its unit's code.
_REGISTERS: Final[Mapping[str, tuple[int, int, Unit]]] = {
    _ENERGY: (3, -1, Unit.WH),
    "2.8.0": (3, -1, Unit.WH),
    "3.8.0": (3, -1, Unit.VARH),
    "1.7.0": (3, 0, Unit.W),
    _VOLTAGE: (0, -1, Unit.V),
    "31.7.0": (0, -2, Unit.A),
    "13.7.0": (0, -3, Unit.COUNT),
    "14.7.0": (0, -2, Unit.HZ),
}


class Event(IntEnum):
    """Event codes as IDIS has them."""

    POWER_DOWN = 1
    POWER_UP = 2
    CLOCK_OLD_TIME = 4
    CLOCK_NEW_TIME = 5
    TERMINAL_COVER_REMOVED = 40
    TERMINAL_COVER_CLOSED = 41
    STRONG_FIELD = 42
    NO_STRONG_FIELD = 43
    METER_COVER_REMOVED = 44
    METER_COVER_CLOSED = 45
    READY_FOR_RECONNECTION = 59
    MANUAL_CONNECTION = 61
    REMOTE_DISCONNECTION = 62
    REMOTE_CONNECTION = 63


# None: it only waits for its button.
_MOVES: Final[Mapping[Transition, tuple[Event, RelayPosition | None]]] = {
    Transition.REMOTE_DISCONNECT: (Event.REMOTE_DISCONNECTION, RelayPosition.DISCONNECTED),
    Transition.REMOTE_RECONNECT: (Event.REMOTE_CONNECTION, RelayPosition.CONNECTED),
    Transition.ARMED: (Event.READY_FOR_RECONNECTION, None),
    Transition.MANUAL_RECONNECT: (Event.MANUAL_CONNECTION, RelayPosition.CONNECTED),
}


class Log(IntEnum):
    """Event logs, by group E of their names 0-0:99.98.e and of their codes' 0-0:96.11.e."""

    STANDARD = 0
    FRAUD = 1
    DISCONNECTOR = 2

    @property
    def log_name(self) -> LogicalName:
        return bytes((0, 0, 99, 98, self, 255))

    @property
    def column(self) -> Column:
        return Data.class_id, bytes((0, 0, 96, 11, self, 255)), 2


@dataclass(slots=True)
class MeterTime:
    """A meter's clock: wrong by so much, and by so much more with every second, until somebody sets it."""

    true: Callable[[], datetime]
    error: timedelta = timedelta()
    drift_ppm: float = 0.0
    _since: datetime | None = None

    def now(self) -> datetime:
        return self.at(self.true())

    def at(self, true: datetime) -> datetime:
        """Return what the clock showed, or will show, at a true time."""
        if self._since is None:
            self._since = true
        return true + self.error + (true - self._since) * (self.drift_ppm / 1e6)

    def put(self, at: datetime) -> None:
        """Set it."""
        true = self.true()
        self.error, self._since = at - true, true


class DlmsMeter:
    """One meter: a logical device, and what a person or the weather can do to it."""

    def __init__(
        self,
        measure: Callable[[], Measured],
        order_relay: Callable[[RelayPosition], None],
        time: MeterTime,
        *,
        serial_number: str,
        clients: Mapping[int, Access],
        utc_offset_minutes: int,
        period: timedelta,
        control_mode: ControlMode = ControlMode.DIRECT,
    ) -> None:
        self._measure = measure
        self._order_relay = order_relay
        self._failures = 0
        self.time = time
        self.period = period
        self._profile = Profile(
            [(Register.class_id, _register_name(code), 2) for code in (_ENERGY, _VOLTAGE)],
            period_s=round(period.total_seconds()),
            rows_max=PROFILE_ROWS_MAX,
            utc_offset_minutes=utc_offset_minutes,
        )
        self._logs = {
            log: Profile([log.column], 0, LOG_ROWS_MAX, utc_offset_minutes) for log in Log
        }
        self._control = DisconnectControl(
            lambda: measure().relay is RelayPosition.CONNECTED, self._order, control_mode
        )
        self.device = LogicalDevice(
            ObjectList(self._objects(serial_number.encode("ascii"), utc_offset_minutes)),
            clients,
            title=b"SIM" + int(serial_number).to_bytes(5, "big"),
        )

    def _objects(
        self, serial_number: bytes, utc_offset_minutes: int
    ) -> dict[LogicalName, InterfaceObject]:
        objects: dict[LogicalName, InterfaceObject] = {
            logical_name("0-0:42.0.0*255"): Data(lambda: octet_string(self.device.title)),
            logical_name("0-0:96.1.0*255"): Data(lambda: octet_string(serial_number)),
            logical_name("1-0:0.2.0*255"): Data(lambda: octet_string(_FIRMWARE)),
            logical_name("0-0:96.7.21*255"): Data(lambda: long_unsigned(self._failures)),
            CLOCK: Clock(self.time.now, self._set_clock, utc_offset_minutes),
            _RELAY: self._control,
            _LOAD_PROFILE: self._profile,
        }
        for code, (_, exponent, unit) in _REGISTERS.items():
            objects[_register_name(code)] = Register(self._number_of(code), exponent, unit)
        for log, profile in self._logs.items():
            objects[log.log_name] = profile
        return objects

    def _number_of(self, code: str) -> Callable[[], int]:
        return lambda: number_shown(self._measure(), code)

    # --- what happens to it ----------------------------------------------------------------------

    def capture(self, measured: Measured, at: datetime) -> None:
        """Add a row to the load profile: what was measured at this true time, under the meter's own."""
        self._profile.capture(
            self.time.at(at),
            *(double_long_unsigned(number_shown(measured, code)) for code in (_ENERGY, _VOLTAGE)),
        )

    def open_cover(self) -> None:
        """Somebody takes the meter's cover off."""
        self._note(Log.FRAUD, Event.METER_COVER_REMOVED)

    def lose_power(self) -> None:
        """The supply fails; the meter keeps its clock and its counters."""
        self._failures += 1
        self._note(Log.STANDARD, Event.POWER_DOWN)

    def regain_power(self) -> None:
        self._note(Log.STANDARD, Event.POWER_UP)

    def press_button(self) -> bool:
        """Press the customer's button; return whether that closed an armed contactor."""
        return self._control.press()

    @property
    def ready_for_reconnection(self) -> bool:
        """Whether it waits for the button."""
        return self._control.state == 2

    def _order(self, why: Transition) -> None:
        event, position = _MOVES[why]
        if position is not None:
            self._order_relay(position)
        self._note(Log.DISCONNECTOR, event)

    def _set_clock(self, at: datetime) -> None:
        self._note(Log.STANDARD, Event.CLOCK_OLD_TIME)
        self.time.put(at)
        self._note(Log.STANDARD, Event.CLOCK_NEW_TIME)

    def _note(self, log: Log, event: Event) -> None:
        self._logs[log].capture(self.time.now(), unsigned(event))


def number_shown(measured: Measured, code: str) -> int:
    """Return a quantity as the whole number its register holds: in W or Wh, by the register's power of ten."""
    shown = quantities(measured)[Obis.parse(code)]
    assert isinstance(shown, Decimal)
    power, exponent, _ = _REGISTERS[code]
    return int(shown.scaleb(power - exponent))


def _register_name(code: str) -> LogicalName:
    return logical_name(f"1-0:{code}*255")


def new_challenge() -> bytes:
    """Return what a client by keys is challenged with."""
    return secrets.token_bytes(CHALLENGE_BYTES)
