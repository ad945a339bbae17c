"""What a scan can say of a line. Pure.

A finding is a meter, a clash of two, or noise. What a scan cannot know is part of its result: two meters that
answer with the same bytes in the same moment look like one, and an address nobody tried may be somebody's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias

Parity: TypeAlias = Literal["N", "E", "O"]


class Protocol(StrEnum):
    """What a meter speaks, its framing included."""

    MODBUS_RTU = "modbus-rtu"
    MODBUS_TCP = "modbus-tcp"
    DLMS_HDLC = "dlms-hdlc"
    DLMS_TCP = "dlms-tcp"
    """The wrapper."""
    IEC_62056_21 = "iec62056-21"


@dataclass(frozen=True, slots=True, order=True)
class PortSetting:
    """How a serial port is set; printed as ``9600 8N1``."""

    baudrate: int
    parity: Parity = "N"
    stopbits: int = 1
    databits: int = 8

    def __str__(self) -> str:
        return f"{self.baudrate} {self.databits}{self.parity}{self.stopbits}"

    @property
    def character_s(self) -> float:
        """How long one character takes, start bit to stop bit."""
        return (1 + self.databits + (self.parity != "N") + self.stopbits) / self.baudrate


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """How a meter is told from its neighbours: the keys of its ``[[line.meter]]`` and their values."""

    protocol: Protocol
    options: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        return ", ".join(f"{key} {value}" for key, value in self.options) or "whoever hears"

    def __getitem__(self, key: str) -> int:
        """Return one of its options. Raises KeyError."""
        return dict(self.options)[key]

    @property
    def is_modbus(self) -> bool:
        return self.protocol in (Protocol.MODBUS_RTU, Protocol.MODBUS_TCP)


@dataclass(frozen=True, slots=True)
class Found:
    """A meter that answered as itself."""

    address: Address
    setting: PortSetting | None
    """How the port was set when it answered; None on a network endpoint."""
    serial: str | None = None
    """What it tells as its serial number, where it tells one to whoever asks."""
    says: str = ""
    """What it tells of its make, as it tells it."""
    maps: tuple[str, ...] = ()
    """The shipped maps whose registers hold plausible values there; several may fit alike."""
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Clash:
    """Two meters at one address, or what looks like it."""

    address: Address
    setting: PortSetting | None
    certain: bool
    """False: a bad line would look the same."""
    evidence: str
    serials: tuple[str, ...] = ()
    """What the meters told as their serial numbers, where more than one could be made out."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Bytes that are nobody's answer."""

    setting: PortSetting | None
    sample: bytes
    remark: str


Finding: TypeAlias = Found | Clash | Noise


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanResult:
    """What a scan has found, and what it has not tried."""

    findings: Sequence[Finding]
    questions: int
    elapsed_s: float
    untried: tuple[str, ...] = ()
    """What the time did not suffice for; empty when everything planned was asked."""
    remarks: tuple[str, ...] = ()
    """Of the port itself: settings it does not take, an echo."""

    @property
    def meters(self) -> tuple[Found, ...]:
        """The meters that answered as themselves."""
        return tuple(finding for finding in self.findings if isinstance(finding, Found))

    @property
    def clashes(self) -> tuple[Clash, ...]:
        """The addresses at which more than one meter answers."""
        return tuple(finding for finding in self.findings if isinstance(finding, Clash))
