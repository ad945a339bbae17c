"""What a driver is: all that its author imports.

A *driver* speaks one southbound protocol. It opens a *line* (a serial port, a TCP endpoint: whatever
the meters share and must take turns on) and gives one *meter* object per configured meter. A driver
knows nothing of MQTT, of outboxes or of sessions; an import contract holds it to that.

Drivers are found by the entry point group ``openami.drivers``. ``openami.gateway.driver_contract``
holds the checks every driver must pass.

Errors: a driver lets only DriverError out.

    DriverError
    ├── LineDown           the port or endpoint itself is gone: no meter on it can answer
    ├── MeterSilent        this meter did not answer in time
    ├── MeterRefused       it answered, with an exception or with something that is not an answer
    └── IdentityMismatch   it answered, and it is not the meter that is configured
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from openami.profile import MeterSerial, Obis


class DriverError(Exception):
    """The meter or its line failed; the message says which, and what to look at."""


class LineDown(DriverError):
    """The serial port or endpoint cannot be opened, or broke."""


class MeterSilent(DriverError):
    """No answer within the meter's deadline."""


class MeterRefused(DriverError):
    """An exception answer, or an answer that does not fit the question."""


class IdentityMismatch(DriverError):
    """The meter that answered tells another serial number than the configured one.

    Two meters with one address, or a meter swapped without telling us: nothing it says may be
    published under the configured serial.
    """

    def __init__(self, *, expected: str, found: str) -> None:
        super().__init__(
            f"the meter at this address says it is {found!r}, configured is {expected!r}: "
            "two meters share the address, or the meter was swapped; correct the address, the "
            "`identity` in the configuration, or the wiring"
        )
        self.expected = expected
        self.found = found


class PollGroup(StrEnum):
    """How often a register is wanted; the intervals are the gateway's configuration."""

    FAST = "fast"
    BILLING = "billing"
    DAILY = "daily"


class RelayPosition(StrEnum):
    """The contactor as it stands; the third position waits for the customer's button."""

    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    READY_FOR_RECONNECTION = "ready_for_reconnection"


@dataclass(frozen=True, slots=True)
class RawReading:
    """One register as the meter told it, scaled by the map, not yet judged.

    ``value`` is exact: a number is an int or a Decimal, never a float32 widened to look precise.
    ``meter_time`` is the meter's own time for the value where it gives one (load profiles), in UTC.
    """

    obis: Obis
    value: int | Decimal | str | bool
    unit: str
    meter_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class RegisterInfo:
    """What a meter can be asked for, and how its values are to be judged."""

    obis: Obis
    unit: str
    group: PollGroup
    decimals: int | None = None
    minimum: float | None = None
    maximum: float | None = None
    monotonic: bool = False
    """A counter that only grows: going back is a rollback, and the value is suspect."""
    rollover: float | None = None
    """Where a monotonic counter starts again at zero; a step over it is no rollback."""


@dataclass(frozen=True, slots=True)
class MeterSettings:
    """One configured meter, as its driver is given it."""

    serial: MeterSerial
    options: Mapping[str, object] = field(default_factory=dict)
    """The meter's own keys (``unit``, ``map`` …), converted strictly by the driver."""


@dataclass(frozen=True, slots=True)
class LineSettings:
    """One configured line, as its driver is given it."""

    name: str
    meters: Sequence[MeterSettings]
    options: Mapping[str, object] = field(default_factory=dict)
    """The line's own keys (``host``, ``port``, ``device`` …), converted strictly by the driver."""
    directory: Path = Path()
    """Where relative file names in the options are resolved: the configuration file's folder."""
    cycle_s: float = 60.0
    """How often its meters are asked: what a silent one may cost is a share of it (decision 0019)."""


class Meter(Protocol):
    """One meter that can be read."""

    @property
    def serial(self) -> MeterSerial: ...

    @property
    def registers(self) -> Sequence[RegisterInfo]:
        """What it can be asked for; fixed once the line is open."""
        ...

    async def read(self, wanted: Sequence[Obis]) -> Sequence[RawReading]:
        """Ask for these registers; return those it has a value for (a sentinel means it has none).

        Takes the line's turn, keeps the meter's own deadline, and verifies the meter's identity
        where the meter can tell it. Raises DriverError.
        """
        ...


@runtime_checkable
class RelayControl(Protocol):
    """A meter whose contactor can be asked and moved. Only the gateway's downlink moves it.

    A meter that has no relay does not have these methods: the gateway asks for them by ``isinstance``.
    """

    async def relay_position(self) -> RelayPosition:
        """Read the contactor's position. Raises DriverError."""
        ...

    async def set_relay(self, position: RelayPosition) -> None:
        """Order a position, at most once: never asked again after silence. The caller reads it back.

        Verifies the meter's identity first, where it can tell it. Raises DriverError; after MeterSilent or
        LineDown the contactor may have moved all the same.
        """
        ...


@runtime_checkable
class TokenEntry(Protocol):
    """A prepayment meter that takes tokens over its line; it alone knows what they are worth."""

    async def enter_token(self, token: str) -> bool:
        """Enter a token, at most once; return whether the meter took it.

        Raises DriverError: then it may have been taken.
        """
        ...


@runtime_checkable
class LoadProfile(Protocol):
    """A meter that keeps its own history: what it measured while nobody asked can still be had."""

    async def read_profile(self, first: datetime, last: datetime) -> Sequence[RawReading]:
        """Return what was captured from ``first`` to ``last``, both included, each value with its own time.

        The gateway asks for one bounded stretch at a time. Takes the line's turn. Raises DriverError.
        """
        ...


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """One entry of a meter's own event log, in the meter's own words.

    The same number means different things in different logs and standards, so a code is never told without
    them.
    """

    at: datetime
    """The meter's time for it, in UTC."""
    at_believed: bool
    """False where the meter itself says that its clock is not to be trusted."""
    log: str
    """Which of the meter's logs, as the driver names it: ``0-0:99.98.1``."""
    code: int
    code_system: str
    """Whose numbering: ``dsmr``, ``idis``, ``is15959``, or the vendor's own name."""


@runtime_checkable
class EventLog(Protocol):
    """A meter that keeps event logs."""

    async def read_events(self, first: datetime, last: datetime) -> Sequence[LoggedEvent]:
        """Return what the logs hold from ``first`` to ``last``, both included. Raises DriverError."""
        ...


@runtime_checkable
class MeterClock(Protocol):
    """A meter with a clock of its own that can be set; it is read as the register 1.0.0."""

    async def set_clock(self, now: datetime) -> None:
        """Set the clock, once; ``now`` is the time at the call, and what passes until the meter has it is added.

        Verifies the meter's identity first, where it can tell it. Raises DriverError; after MeterSilent or
        LineDown it may have been set all the same.
        """
        ...


@dataclass(frozen=True, slots=True)
class Inspected:
    """One register as it was read: what stood on the line, where, and what was made of it."""

    obis: Obis
    where: str
    """As the meter's manual would name it: ``holding 0x000A x2``."""
    raw: bytes
    reading: RawReading | None
    """None where the meter says that it has no value."""


@runtime_checkable
class Inspection(Protocol):
    """A meter that can show the bytes behind its values, for who sets it up."""

    async def inspect(self, wanted: Sequence[Obis]) -> Sequence[Inspected]:
        """Read as `Meter.read` does, and show the bytes too; what was not read is left out.

        Raises DriverError.
        """
        ...


class Line(Protocol):
    """An open line and the meters on it."""

    @property
    def meters(self) -> Mapping[MeterSerial, Meter]: ...


KeyPath = tuple[str | int, ...]
"""Where a key stands below a table: ``("meter", 2, "map")``."""


class OptionsError(ValueError):
    """A driver option is unknown or wrong.

    ``path`` names it below the line's table, e.g. ``("meter", 2, "map")``; ``known`` lists the keys
    that would have been understood, for the "did you mean".
    """

    def __init__(self, message: str, *, path: KeyPath, known: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.path = path
        self.known = tuple(known)


class Driver(Protocol):
    """The entry point's object: opens lines."""

    name: ClassVar[str]

    @classmethod
    def open(cls, settings: LineSettings) -> AbstractAsyncContextManager[Line]:
        """Check the options at once (OptionsError), touch the wire only on entering."""
        ...
