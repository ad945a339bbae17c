"""A serial line in software: meters with their own speed and parity, who talk at once where they share an address.

A pty knows no speed, so the line is a port of its own. Bytes take their time; two answers at once garble one
another as two drivers on a pair of wires do: where they overlap, a 0 of either wins. Meters are filled from the
golden frames of the shipped maps and speak by the simulator's Modbus; their DLMS is the double of the driver's
tests.
"""

import asyncio
import heapq
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

from tests.drivers.dlms_double import DlmsBus
from tests.drivers.line_double import crc

from openami.gateway.drivers.modbus.frames import block_of, rtu_pdu, words_of
from openami.gateway.drivers.modbus.map_files import load_map
from openami.gateway.scan.findings import PortSetting
from openami.gateway.scan.ports import SettingRefused
from openami.simulator.modbus_server import Area, RegisterBank, Write, WriteRefused, answer
from openami.simulator.virtual_time import VirtualTimeLoop

USUAL = PortSetting(9600)
OPTICAL = PortSetting(300, "E", 1, 7)

_BABBLE_S = 0.03

Said = tuple[float, bytes]
"""How long after the question, and what."""


class GoldenBank:
    """A meter of a shipped map's type: it holds what the map's golden frames show."""

    def __init__(self, map_name: str, *, serial: int | str | None = None) -> None:
        register_map = load_map(map_name)
        self._words: dict[Area, dict[int, int]] = {area: {} for area in Area}
        self.writes = 0
        # What shows a sentinel comes last: a value of another frame goes before "none".
        for golden in sorted(register_map.golden, key=lambda one: "" in one.expect.values()):
            block = block_of(rtu_pdu(bytes.fromhex(golden.request))[1])
            words = words_of(rtu_pdu(bytes.fromhex(golden.response))[1], block)
            bank = self._words[Area(block.area.function)]
            for at, word in enumerate(words):
                bank.setdefault(block.address + at, word)
        if register_map.identify is not None and serial is not None:
            identify = register_map.identify
            raw = (
                serial.to_bytes(2 * identify.count, "big")
                if isinstance(serial, int)
                else serial.encode().ljust(2 * identify.count, b"\0")
            )
            for at in range(identify.count):
                word = int.from_bytes(raw[2 * at : 2 * at + 2], "big")
                self._words[Area(identify.area.function)][identify.address + at] = word

    def registers(self, area: Area) -> Mapping[int, int]:
        return self._words[area]

    def write(self, how: Write, address: int, word: int) -> None:
        self.writes += 1
        raise WriteRefused


@dataclass
class RtuMeter:
    """One Modbus meter: heard only by who speaks at its speed and parity."""

    unit: int
    bank: RegisterBank
    setting: PortSetting = USUAL
    thinks_s: float = 0.04
    asked: list[bytes] = field(default_factory=list)

    def hear(self, octets: bytes, setting: PortSetting) -> Iterable[Said]:
        if setting != self.setting or crc(octets[:-2]) != octets[-2:]:
            return
        self.asked.append(octets)
        if octets[0] == self.unit:
            body = octets[:1] + answer(octets[1:-2], self.bank)
            yield self.thinks_s, body + crc(body)


@dataclass
class OpticalMeter:
    """A meter of IEC 62056-21: signs on, and reads itself out when it is told to."""

    identification: bytes
    read_out: bytes
    setting: PortSetting = OPTICAL
    thinks_s: float = 0.3
    asked: list[bytes] = field(default_factory=list)

    def hear(self, octets: bytes, setting: PortSetting) -> Iterable[Said]:
        text = bytes(octet & 0x7F for octet in octets)
        if setting != self.setting or any(octet.bit_count() & 1 for octet in octets):
            return
        self.asked.append(text)
        if text == b"/?!\r\n":
            yield self.thinks_s, _seven_even(self.identification)
        elif text[:1] == b"\x06":
            assert text == b"\x06000\r\n"
            yield self.thinks_s, _seven_even(b"\x02" + self.read_out + b"!\r\n\x03\x55")


def _seven_even(text: bytes) -> bytes:
    return bytes(octet | (octet.bit_count() & 1) << 7 for octet in text)


@dataclass
class HdlcMeters:
    """The DLMS double behind the line; what it says comes at once, and the line gives it its time."""

    bus: DlmsBus
    setting: PortSetting = USUAL

    def hear(self, octets: bytes, setting: PortSetting) -> Iterable[Said]:
        if setting == self.setting and octets[:1] == b"\x7e":
            yield from ((0.08, said) for said in self.bus.told_at_once(octets))


Meter = RtuMeter | OpticalMeter | HdlcMeters


class SoftwarePort:
    """Obeys the scan's port: set, send, receive; close and open as often as one likes."""

    place = "the line in software"

    def __init__(
        self,
        *meters: Meter,
        echo: bool = False,
        refuses: Sequence[PortSetting] = (),
        babbles: bool = False,
    ) -> None:
        self.meters = meters
        self.sent: list[tuple[PortSetting, bytes]] = []
        self._echo = echo
        self._refuses = refuses
        self._babbles = babbles
        self._setting = PortSetting(9600)
        self._order = count()
        self._coming: list[tuple[float, int, int]] = []
        """When, order, octet."""

    async def prepare(self, setting: PortSetting | None, *, fresh: bool = False) -> None:
        assert setting is not None
        if setting in self._refuses:
            raise SettingRefused(f"{self.place} does not take {setting}")
        self._setting = setting
        now = asyncio.get_running_loop().time()
        self._coming = [one for one in self._coming if one[0] > now]

    async def send(self, octets: bytes) -> None:
        self.sent.append((self._setting, octets))
        character_s = self._setting.character_s
        sent_at = asyncio.get_running_loop().time() + len(octets) * character_s
        said = [
            (sent_at + delay_s, told)
            for meter in self.meters
            for delay_s, told in meter.hear(octets, self._setting)
        ]
        if self._echo:
            said.append((sent_at, octets))
        spread = sorted(
            (start + at * character_s, octet)
            for start, told in said
            for at, octet in enumerate(told, 1)
        )
        for at_s, octet in _collided(spread, character_s):
            heapq.heappush(self._coming, (at_s, next(self._order), octet))

    async def receive(self, wait_s: float) -> bytes:
        loop = asyncio.get_running_loop()
        if self._babbles and wait_s > _BABBLE_S:
            await asyncio.sleep(_BABBLE_S)
            return b"\x00\xf8\xff"
        if not self._coming or self._coming[0][0] > loop.time() + wait_s:
            await asyncio.sleep(wait_s)
            return b""
        await asyncio.sleep(max(0.0, self._coming[0][0] - loop.time()))
        return bytes((heapq.heappop(self._coming)[2],))

    def close(self) -> None:
        self._coming.clear()


def _collided(spread: Sequence[tuple[float, int]], character_s: float) -> list[tuple[float, int]]:
    """Let octets that overlap in time become one."""
    heard: list[tuple[float, int]] = []
    for at_s, octet in spread:
        if heard and at_s - heard[-1][0] < 0.999 * character_s:
            heard[-1] = (heard[-1][0], heard[-1][1] & octet)
        else:
            heard.append((at_s, octet))
    return heard


class SoftwareEndpoint:
    """A Modbus TCP endpoint: a meter behind each unit, answering at once; nobody behind the others."""

    place = "the endpoint in software"

    def __init__(self, banks: Mapping[int, RegisterBank]) -> None:
        self._banks = banks
        self._said = b""

    async def prepare(self, setting: PortSetting | None, *, fresh: bool = False) -> None:
        self._said = b""

    async def send(self, octets: bytes) -> None:
        bank = self._banks.get(octets[6])
        if bank is not None:
            pdu = answer(octets[7:], bank)
            self._said += octets[:4] + (len(pdu) + 1).to_bytes(2, "big") + octets[6:7] + pdu

    async def receive(self, wait_s: float) -> bytes:
        said, self._said = self._said, b""
        if not said:
            await asyncio.sleep(wait_s)
        return said

    def close(self) -> None:
        self._said = b""


T = TypeVar("T")


def on_virtual_time(coroutine: Coroutine[object, object, T]) -> T:
    """Run it on a loop where waiting takes no time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(coroutine)
