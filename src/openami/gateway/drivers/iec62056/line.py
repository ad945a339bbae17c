"""The line: turns, deadlines, faults, and the way back from them.

A read takes the line's turn, and in it a meter's whole read-out: mode C knows no smaller question. After
anything but a good one the line is drained until it has been silent for longer than a meter may wait; a TCP
connection is closed before that, and opened anew. Then the meter is signed on to again. An identification that
comes late is followed by the one that was due, which stands where data should, and so is noticed (decision
0054).

Where a serial number is configured it is compared in every read-out, which tells it anyway. Another one has to
be told twice before it is believed, because the first may have been a late neighbour's. So has a value in a
form the meter has not had before.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, assert_never

from openami.gateway.breaker import Breaker
from openami.gateway.driver import (
    IdentityMismatch,
    LineDown,
    MeterRefused,
    MeterSilent,
    RawReading,
)
from openami.gateway.drivers.iec62056.dialogue import (
    Act,
    Dialogue,
    Listen,
    Pause,
    Send,
    SetSpeed,
    read_out,
)
from openami.gateway.drivers.iec62056.errors import NoAnswer, NotSpoken, UnfitAnswer
from openami.gateway.drivers.iec62056.forms import Forms
from openami.gateway.drivers.iec62056.options import LinePlan, MeterPlan, Transport
from openami.gateway.drivers.iec62056.read_out import ReadOut, understood
from openami.gateway.reopening import Reopening
from openami.gateway.wire import SpeedWire, Wire, silence
from openami.profile import MeterSerial, Obis

TURN_S_MAX: Final = 120.0
"""How long one meter may hold the line: 3,600 characters at 300 Bd, which meters with more to say go beyond."""
DRAIN_S_MAX: Final = 60.0
"""How long a line may go on: a meter that was not acknowledged says all it has at 300 Bd, as one of mode A."""
LISTEN_FIRST_S: Final = 0.02
"""How long a line is listened to before a sign-on: what a late meter has said meanwhile lies in the port."""
MISMATCHES_TO_BELIEVE: Final = 2  # one may be a late neighbour's
DOUBTS_MAX: Final = 3
"""How often a read-out in a new form is asked for again: once to confirm it, and twice on a bad day."""
_BITS_PER_CHARACTER: Final = 10  # 7E1, or 8N1

_log = logging.getLogger(__name__)


class Unit:
    """What the line knows of one meter."""

    def __init__(self, meter: MeterPlan, line: LinePlan, now: float) -> None:
        self.meter = meter
        self.forms = Forms()
        self.reported: set[Obis] = set()
        self.refused = ""
        """Why the meter cannot be read on this line, since that was last found out."""
        self.breaker = Breaker.closed(
            share=line.options.silent_share,
            cycle_s=line.cycle_s,
            question_s=line.options.timeout_s + line.options.silence_s,
            now=now,
        )

    def __str__(self) -> str:
        address = f"address {self.meter.address}" if self.meter.address else "no address"
        return f"meter {self.meter.serial} ({address})"


class ReadOutLine:
    """An open line; opened at the first read, so that a missing adapter stops nobody else."""

    def __init__(self, line: LinePlan, wire: Wire) -> None:
        self._plan = line
        self._wire = wire
        self._turn = asyncio.Lock()
        self._units: Mapping[MeterSerial, Unit] = {
            meter.serial: Unit(meter, line, self._now()) for meter in line.meters
        }
        self._unsettled = True
        """Whether bytes may still be on their way to us."""
        self._baudrate = line.manner.baudrate
        self._sent_at = 0.0
        """When all that was sent has left."""
        self._reopening = Reopening(line.place)

    def close(self) -> None:
        self._wire.close()

    async def read(self, serial: MeterSerial, codes: Sequence[Obis]) -> Sequence[RawReading]:
        """Read a meter out in the line's turn, and return these registers. Raises DriverError."""
        unit = self._units[serial]
        asked = [obis for obis in dict.fromkeys(codes) if obis in unit.meter.map.registers]
        if not asked:
            return ()
        async with self._turn_of(unit):
            told = await self._insisted(unit)
        readings = [told.readings[obis] for obis in asked if obis in told.readings]
        missing = {obis: told.left_out[obis] for obis in asked if obis in told.left_out}
        self._report_left_out(unit, missing)
        if missing and not readings:
            raise MeterRefused(f"{unit} on {self._plan.place}: {next(iter(missing.values()))}")
        return readings

    # --- a turn ----------------------------------------------------------------------------------

    @asynccontextmanager
    async def _turn_of(self, unit: Unit) -> AsyncIterator[None]:
        """Have the line for one unit. Raises DriverError, MeterSilent when it takes too long."""
        unit.breaker.check(unit, self._plan.place, self._now(), refused=unit.refused)
        async with self._turn:
            # Another reader may have found out meanwhile.
            unit.breaker.check(unit, self._plan.place, self._now(), refused=unit.refused)
            try:
                async with asyncio.timeout(TURN_S_MAX):
                    yield
            except TimeoutError:
                unit.breaker = unit.breaker.failed(TURN_S_MAX, self._now())
                raise MeterSilent(
                    f"{unit} on {self._plan.place} was not done within {TURN_S_MAX:.0f} s"
                ) from None

    async def _insisted(self, unit: Unit) -> ReadOut:
        """Read out until it is believed, as often as the options and the bounds say. Raises DriverError."""
        failures = mismatches = doubts = breaks = 0
        while True:
            try:
                told = self._proved(unit, await self._read_out(unit))
                if unit.forms.believed(told.forms):
                    return told
                doubts += 1
                if doubts > DOUBTS_MAX:
                    raise MeterRefused(
                        f"{unit} on {self._plan.place} writes its registers in another form each time: "
                        "characters are lost; check the adapter and the line"
                    )
                # Who has changed its speed listens at the new one for a while: we may want its data again.
                self._unsettled = self._baudrate != self._plan.manner.baudrate
            except MeterSilent:
                failures += 1
                if failures > self._plan.options.retries or self._waits_s(unit) > 0:
                    raise
            except IdentityMismatch:
                mismatches += 1
                if mismatches == MISMATCHES_TO_BELIEVE:
                    raise
                self._unsettled = True
            except LineDown:
                # Device servers close a connection they hold to be idle, at times under our question.
                breaks += 1
                if breaks > 1 or self._plan.options.transport is Transport.SERIAL:
                    raise

    def _proved(self, unit: Unit, told: ReadOut) -> ReadOut:
        """Return what the meter that is meant has told. Raises IdentityMismatch, MeterRefused."""
        expected = unit.meter.identity
        if expected is None:
            return told
        if told.identity is None:
            raise MeterRefused(
                f"{unit} on {self._plan.place} does not tell its serial number in "
                f"{' or '.join(map(str, unit.meter.map.identify))}, or tells two: "
                f"is the map {unit.meter.map.id!r} the right one for it?"
            )
        if told.identity != expected:
            raise IdentityMismatch(expected=expected, found=told.identity)
        return told

    async def _read_out(self, unit: Unit) -> ReadOut:
        """Have one read-out, whatever it tells. Raises DriverError."""
        if self._unsettled or not self._wire.connected or await self._heard_within(LISTEN_FIRST_S):
            await self._settle()
        began_at, self._unsettled = self._now(), True
        self._set_speed(self._plan.manner.baudrate)
        what = f"{unit} on {self._plan.place}"
        try:
            data = await self._run(read_out(unit.meter.address, self._plan.manner))
        except (NoAnswer, UnfitAnswer, TimeoutError) as error:
            # An answer that is none is as good as silence, and healed the same way.
            await self._book_silence(unit, began_at)
            raise MeterSilent(f"{what}: {error or 'the port takes no bytes'}") from None
        except NotSpoken as error:
            unit.refused = f"{what}: {error}"
            await self._book_silence(unit, began_at)
            raise MeterRefused(unit.refused) from None
        self._unsettled, unit.refused = False, ""
        unit.breaker = unit.breaker.answered()
        try:
            return understood(data, unit.meter.map, unit.meter.zone)
        except UnfitAnswer as error:
            raise MeterRefused(f"{what}: {error}") from None

    # --- the wire --------------------------------------------------------------------------------

    async def _run(self, dialogue: Dialogue[bytes]) -> bytes:
        """Do what a dialogue wants done. Raises TimeoutError, LineDown, ReadOutError."""
        try:
            act = next(dialogue)
            while True:
                act = dialogue.send(await self._done(act))
        except StopIteration as done:
            data: bytes = done.value
            return data

    async def _done(self, act: Act) -> bytes:
        match act:
            case Pause(seconds):
                return await self._heard_within(seconds)
            case Send(octets):
                async with asyncio.timeout(self._plan.options.timeout_s):
                    await self._wire.send(octets)
                self._sent_at = self._now() + len(octets) * _BITS_PER_CHARACTER / self._baudrate
                return b""
            case SetSpeed(baudrate):
                await asyncio.sleep(self._sent_at - self._now())
                self._set_speed(baudrate)
                return b""
            case Listen():
                leaves_s = max(0.0, self._sent_at - self._now())
                return await self._heard_within(leaves_s + self._plan.options.timeout_s)
            case _:
                assert_never(act)

    async def _heard_within(self, seconds: float) -> bytes:
        try:
            async with asyncio.timeout(seconds):
                return await self._wire.receive()
        except TimeoutError:
            return b""

    def _set_speed(self, baudrate: int) -> None:
        if baudrate != self._baudrate:
            assert isinstance(self._wire, SpeedWire), "the options allow no other speed elsewhere"
            self._wire.set_baudrate(baudrate)
            self._baudrate = baudrate

    async def _settle(self) -> None:
        """Be connected, and sure that nothing older is on its way to us. Raises LineDown."""
        if self._plan.options.transport is Transport.TCP:
            self._wire.close()
        if not self._wire.connected:
            await self._connect()
        options = self._plan.options
        await silence(self._wire, options.silence_s, self._plan.place, drain_s_max=DRAIN_S_MAX)
        self._unsettled = False

    async def _connect(self) -> None:
        await self._reopening.open(self._wire.open)
        self._baudrate = self._plan.manner.baudrate

    # --- silence and refusals --------------------------------------------------------------------

    async def _book_silence(self, unit: Unit, began_at: float) -> None:
        """Have the unit pay for its silence, the drain of the line included. Raises LineDown."""
        try:
            await self._settle()
        finally:
            now = self._now()
            unit.breaker = unit.breaker.failed(now - began_at, now)

    def _waits_s(self, unit: Unit) -> float:
        now = self._now()
        return unit.breaker.asks_at(now) - now

    def _report_left_out(self, unit: Unit, left_out: Mapping[Obis, str]) -> None:
        for obis, why in left_out.items():
            if obis not in unit.reported:
                unit.reported.add(obis)
                _log.warning(
                    "meter does not give a register of its map",
                    extra={"meter": str(unit), "reason": why},
                )

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
