"""What is asked in which order. Pure.

A serial line has thousands of combinations of speed, parity and address, and the person waits beside it. So the
likely ones come first: at each setting a few addresses of each protocol, and where a meter answers, all addresses
of that setting. Only what stays silent is searched to the end, as long as there is time.

A search is a generator: it yields trials and is sent what each one found.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

from openami.gateway.scan import dlms, iec, modbus
from openami.gateway.scan.conversation import Conversation, Pace
from openami.gateway.scan.findings import (
    Address,
    Clash,
    Finding,
    Found,
    PortSetting,
    Protocol,
)
from openami.gateway.scan.framing import FUNCTIONS, Framing, MbapFraming, RtuFraming

SETTINGS: Final = (
    # By how often meters leave the factory so; the shipped maps name the first four.
    PortSetting(9600),
    PortSetting(2400),
    PortSetting(19200, "E"),
    PortSetting(9600, "N", 2),
    PortSetting(9600, "E"),
    PortSetting(4800),
    PortSetting(19200),
    PortSetting(1200),
    PortSetting(2400, "E"),
    PortSetting(38400),
    PortSetting(9600, "O"),
    PortSetting(115200),
)
SIGN_ON_SETTINGS: Final = (
    PortSetting(300, "E", 1, 7),  # where every sign-on begins
    PortSetting(9600, "E", 1, 7),  # what meters with RS-485 are often fixed to
    PortSetting(2400, "E", 1, 7),
)
FIRST_UNITS: Final[tuple[int, ...]] = (1, 2, 3, 4, 5)
"""The addresses asked at every setting: a new meter has 1, a bench counts on from there."""
UNLIKELY_UNITS: Final[tuple[int, ...]] = (203, 231)
"""Addresses nobody gives: a network meter that answers there too answers to every address."""
DEVICE_UNIT: Final = 255
"""How a meter with a network port and no line behind it is addressed (implementation guide 1.0b)."""
WRAPPER_SERVERS: Final = (1, 2, 16)
HDLC_PLACES: Final = ((1, None, 1), (1, 16, 2), (1, 17, 2), (1, 16, 4), (1, 17, 4))
"""Logical device, physical device, bytes of the address: 16 is the first that IEC 62056-46 leaves free."""

MODBUS_WAIT_S: Final = 0.2  # most meters think 20 to 100 ms; a later answer still names its meter
DLMS_WAIT_S: Final = 0.5  # a UA takes longer than a register
SIGN_ON_WAIT_S: Final = 1.6  # IEC 62056-21 lets a meter think 1.5 s
_QUIET_S: Final = 0.06  # USB adapters and device servers hand over what came every 16 to 50 ms
_QUIET_CHARACTERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be looked for."""

    protocols: frozenset[Protocol]
    settings: tuple[PortSetting, ...] = SETTINGS
    sign_on_settings: tuple[PortSetting, ...] = SIGN_ON_SETTINGS
    units: tuple[int, ...] = tuple(range(1, modbus.UNIT_MAX + 1))
    physical: tuple[int, ...] = ()
    """HDLC physical devices to try besides the usual ones: often the serial number's last digits."""
    patience: float = 1.0
    """What the waits are multiplied by."""

    def pace(self, wait_s: float, setting: PortSetting | None) -> Pace:
        """Return a protocol's pace at a setting."""
        quiet_s = _QUIET_S
        if setting is not None:
            quiet_s = max(quiet_s, _QUIET_CHARACTERS * setting.character_s)
        return Pace(wait_s * self.patience, quiet_s * max(1.0, self.patience))


@dataclass(frozen=True, slots=True)
class Trial:
    """One address asked in one way."""

    protocol: Protocol
    setting: PortSetting | None
    place: str
    begin: Callable[[], Conversation[tuple[Finding, ...]]]

    @property
    def stage(self) -> str:
        """What it is a part of, for the person who waits: protocol and setting."""
        return f"{self.protocol}" + (f" at {self.setting}" if self.setting else "")


Search: TypeAlias = Generator[Trial, Sequence[Finding], None]
_Guesses: TypeAlias = Generator[Trial, Sequence[Finding], bool]


def serial_search(wanted: Wanted) -> Search:
    """Search a serial port: the likely first, then where somebody answered, then the rest."""
    met: list[PortSetting] = []
    asked = _Asked()
    for at, setting in enumerate(wanted.settings):
        answered = yield from _guesses(wanted, setting, asked)
        if answered:
            met.append(setting)
            yield from _sweep(wanted, setting, asked)
        yield from _hdlc(wanted, setting)
        if at < len(wanted.sign_on_settings):
            yield from _sign_on(wanted, wanted.sign_on_settings[at])
    for setting in wanted.sign_on_settings[len(wanted.settings) :]:
        yield from _sign_on(wanted, setting)
    # A meter that knows only one of the two functions may be silent to the other.
    for setting in met:
        yield from _sweep(wanted, setting, _Asked(asked.met), functions=(4,))
    if not met:
        for setting in wanted.settings:
            yield from _sweep(wanted, setting, asked)


def network_search(wanted: Wanted, port: int) -> Search:
    """Search a TCP endpoint: what its port is known for first, then what a device server passes through."""
    steps: list[tuple[Protocol, Callable[[], Search]]] = [
        (Protocol.MODBUS_TCP, partial(_modbus_tcp, wanted)),
        (Protocol.DLMS_TCP, partial(_wrapper, wanted)),
        (Protocol.MODBUS_RTU, partial(_rtu_over_tcp, wanted)),
        (Protocol.DLMS_HDLC, partial(_hdlc, wanted, None)),
    ]
    if port == _WRAPPER_PORT:
        steps[0], steps[1] = steps[1], steps[0]
    elif port != _MODBUS_PORT:
        steps = [steps[2], steps[0], steps[1], steps[3]]
    for protocol, step in steps:
        if protocol in wanted.protocols:
            yield from step()


_MODBUS_PORT, _WRAPPER_PORT = 502, 4059


# --- serial --------------------------------------------------------------------------------------


class _Asked:
    """Which units were asked at which setting, and which of them have been met at which speed."""

    def __init__(self, met: AbstractSet[tuple[int, int]] = frozenset()) -> None:
        self._asked: set[tuple[PortSetting, int]] = set()
        self.met = set(met)

    def add(self, setting: PortSetting, unit: int) -> bool:
        """Note the question; False where it is not worth asking.

        A meter met at a speed is not looked for there with another parity: one with 8N1 hears 8N2 as well.
        """
        if (setting, unit) in self._asked or (setting.baudrate, unit) in self.met:
            return False
        self._asked.add((setting, unit))
        return True

    def note(self, findings: Sequence[Finding]) -> None:
        """Note who was met."""
        for finding in findings:
            if isinstance(finding, Found | Clash) and finding.setting is not None:
                self.met.add((finding.setting.baudrate, finding.address["unit"]))


def _guesses(wanted: Wanted, setting: PortSetting, asked: _Asked) -> _Guesses:
    if Protocol.MODBUS_RTU not in wanted.protocols:
        return False
    answered = False
    for unit in (unit for unit in FIRST_UNITS if unit in wanted.units):
        if asked.add(setting, unit):
            findings = yield _unit(wanted, RtuFraming(), unit, setting)
            asked.note(findings)
            answered |= _is_somebody(findings)
    return answered


def _sweep(
    wanted: Wanted,
    setting: PortSetting,
    asked: _Asked,
    functions: Sequence[int] = (3,),
) -> Search:
    if Protocol.MODBUS_RTU not in wanted.protocols:
        return
    for unit in wanted.units:
        if asked.add(setting, unit):
            findings = yield _unit(wanted, RtuFraming(), unit, setting, functions)
            asked.note(findings)


def _hdlc(wanted: Wanted, setting: PortSetting | None) -> Search:
    if Protocol.DLMS_HDLC not in wanted.protocols:
        return
    pace = wanted.pace(DLMS_WAIT_S, setting)
    for server, physical, size in (*HDLC_PLACES, *_own_places(wanted.physical)):
        place = f"server {server}" + ("" if physical is None else f", physical {physical}")
        yield Trial(
            Protocol.DLMS_HDLC,
            setting,
            place,
            partial(dlms.look_for_hdlc, server, physical, pace, setting, size=size),
        )


def _own_places(physical: Iterable[int]) -> Iterator[tuple[int, int, int]]:
    for number in physical:
        if number < 0x80:
            yield 1, number, 2
        yield 1, number, 4


def _sign_on(wanted: Wanted, setting: PortSetting) -> Search:
    if Protocol.IEC_62056_21 in wanted.protocols:
        pace = wanted.pace(SIGN_ON_WAIT_S, setting)
        yield Trial(
            Protocol.IEC_62056_21, setting, "whoever hears", partial(iec.look_for, pace, setting)
        )


# --- network -------------------------------------------------------------------------------------


def _modbus_tcp(wanted: Wanted) -> Search:
    framing = MbapFraming()
    first = [unit for unit in FIRST_UNITS if unit in wanted.units]
    answered: list[Found] = []
    for unit in (*first, DEVICE_UNIT, *UNLIKELY_UNITS):
        findings = yield _unit(wanted, framing, unit, None)
        answered += [finding for finding in findings if isinstance(finding, Found)]
    everywhere = {found.address["unit"] for found in answered} >= set(UNLIKELY_UNITS)
    if everywhere and len({(found.serial, found.maps) for found in answered}) == 1:
        return  # one meter that does not look at the address
    for unit in wanted.units:
        if unit not in first and unit not in UNLIKELY_UNITS:
            yield _unit(wanted, framing, unit, None)


def _rtu_over_tcp(wanted: Wanted) -> Search:
    framing = RtuFraming()
    answered = False
    for unit in (unit for unit in FIRST_UNITS if unit in wanted.units):
        findings = yield _unit(wanted, framing, unit, None)
        answered |= _is_somebody(findings)
    if answered:
        for unit in wanted.units:
            if unit not in FIRST_UNITS:
                yield _unit(wanted, framing, unit, None, (3,))


def _wrapper(wanted: Wanted) -> Search:
    pace = wanted.pace(DLMS_WAIT_S, None)
    for server in WRAPPER_SERVERS:
        yield Trial(
            Protocol.DLMS_TCP,
            None,
            f"server {server}",
            partial(dlms.look_for_wrapper, server, pace),
        )


def _unit(
    wanted: Wanted,
    framing: Framing,
    unit: int,
    setting: PortSetting | None,
    functions: Sequence[int] = FUNCTIONS,
) -> Trial:
    pace = wanted.pace(MODBUS_WAIT_S, setting)
    begin = partial(modbus.look_for, framing, unit, pace, setting, functions=functions)
    return Trial(framing.protocol, setting, f"unit {unit}", begin)


def _is_somebody(findings: Sequence[Finding]) -> bool:
    return any(isinstance(finding, Found | Clash) for finding in findings)


ONE_FOR_ALL: Final = "it answers to every unit: one meter with a network port of its own"


def one_for_all(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Fold what answers to every unit of an endpoint to the one meter it is."""
    meters = [
        f for f in findings if isinstance(f, Found) and f.address.protocol is Protocol.MODBUS_TCP
    ]
    units = {found.address["unit"] for found in meters}
    if not units >= set(UNLIKELY_UNITS) or len({(f.serial, f.maps) for f in meters}) > 1:
        return tuple(findings)
    first = min(meters, key=lambda found: found.address)
    folded = Found(
        Address(Protocol.MODBUS_TCP, first.address.options),
        None,
        serial=first.serial,
        says=first.says,
        maps=first.maps,
        remarks=(*first.remarks, ONE_FOR_ALL),
    )
    return (folded, *(finding for finding in findings if finding not in meters))
