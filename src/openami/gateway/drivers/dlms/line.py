"""The line: turns, deadlines, faults, and the way back from them.

A read takes the line's turn. In its turn a meter is associated with, where it is not yet, and asked attribute by
attribute. After anything but a good answer its association is given up, and opened again before it is asked
anything else; a TCP connection is closed with it, a serial line is drained until it is silent. Opening is what
keeps a late answer from being taken for another (decision 0053): on a new TCP connection there is none, and
on HDLC a meter that has answered SNRM has answered all that came before it.

Where a serial number is configured, it is compared when an association has been opened, and again after a
while.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from itertools import cycle
from typing import Final, TypeVar

from openami.gateway.breaker import Breaker
from openami.gateway.driver import (
    DriverError,
    IdentityMismatch,
    LineDown,
    LoggedEvent,
    MeterRefused,
    MeterSilent,
    RawReading,
    RelayPosition,
)
from openami.gateway.drivers.dlms.apdu import INVOKE_IDS
from openami.gateway.drivers.dlms.association import (
    Association,
    Credentials,
    Security,
    ServerCounter,
)
from openami.gateway.drivers.dlms.errors import (
    AssociationRefused,
    CipherError,
    DlmsError,
    LinkLost,
    ServiceRefused,
    WrongType,
)
from openami.gateway.drivers.dlms.invocation import InvocationCounter
from openami.gateway.drivers.dlms.key_file import KeySet, Password
from openami.gateway.drivers.dlms.link import HdlcLink, Link, WrapperLink
from openami.gateway.drivers.dlms.meter_map import wanted
from openami.gateway.drivers.dlms.options import LinePlan, MeterPlan, Transport
from openami.gateway.drivers.dlms.profile_generic import logged_events
from openami.gateway.drivers.dlms.reading import (
    Known,
    order_position,
    read_identity,
    read_intervals,
    read_offset,
    read_position,
    read_registers,
    rows_between,
    write_clock,
)
from openami.gateway.drivers.dlms.steps import Steps
from openami.gateway.reopening import Reopening
from openami.gateway.wire import Wire, silence
from openami.profile import MeterSerial, Obis

TURN_S_MAX: Final = 60.0
"""How long one meter may hold the line: forty attributes at 2400 Bd with every retry."""
IDENTITY_AGE_S_MAX: Final = 300.0
"""How long a meter's serial number is believed; a swap takes an electrician longer than that."""
KNOWN_AGE_S_MAX: Final = 3600.0
"""How long scalers, and what a meter does not have, are believed: it may be configured anew meanwhile."""
GOODBYE_S_MAX: Final = 1.0
"""How long a closing line waits for meters to release their associations; they forget us by themselves."""
_CHALLENGE_BYTES: Final = 16  # a block of the cipher; 8 to 64 are allowed

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class _Excepted(MeterRefused):
    """An exception and nothing else: a meter that does not do it, or that has forgotten our association."""


class _Forgotten(MeterSilent):
    """The meter has closed the link, as meters do that nobody has asked for a while."""


class Unit:
    """What the line knows of one meter."""

    def __init__(self, meter: MeterPlan, line: LinePlan, now: float) -> None:
        self.meter = meter
        self.association: Association | None = None
        self.identified_at: float | None = None
        self.known = Known()
        self.known_since = now
        self.reported: set[Obis] = set()
        self.refused = ""
        """Why the meter does not let us in, since it last refused to."""
        # Run on over all associations, so that an answer from an older one has another id.
        self.invoke_ids: Iterator[int] = cycle(range(INVOKE_IDS))
        self.server_counter = ServerCounter()
        access = meter.access
        self.counter = (
            InvocationCounter(access.counter_file) if isinstance(access, KeySet) else None
        )
        self.breaker = Breaker.closed(
            share=line.options.silent_share,
            cycle_s=line.cycle_s,
            question_s=line.options.timeout_s + line.airtime_s(0) + line.options.silence_s,
            now=now,
        )

    def __str__(self) -> str:
        return f"meter {self.meter.serial} (server {self.meter.server})"


class DlmsLine:
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
        self._reopening = Reopening(line.place)

    async def close(self) -> None:
        """Release what is open, for a moment at most, and close the port."""
        with suppress(TimeoutError, DriverError, DlmsError):
            async with asyncio.timeout(GOODBYE_S_MAX):
                for unit in self._units.values():
                    if unit.association is not None and not self._turn.locked():
                        await self._run(unit.association.close())
        self._wire.close()

    async def read(self, serial: MeterSerial, codes: Sequence[Obis]) -> Sequence[RawReading]:
        """Read a meter's registers in the line's turn. Raises DriverError."""
        unit = self._units[serial]
        registers = wanted(unit.meter.map, codes)
        if not registers:
            return ()
        zone = unit.meter.zone
        async with self._turn_of(unit):
            readings = await self._insisted(
                unit, lambda association: read_registers(association, registers, zone, unit.known)
            )
        self._report_left_out(unit)
        return readings

    async def relay_position(self, serial: MeterSerial) -> RelayPosition:
        """Read where a meter's contactor stands. Raises DriverError."""
        unit = self._units[serial]
        async with self._turn_of(unit):
            return await self._relay_position(unit)

    async def set_relay(self, serial: MeterSerial, position: RelayPosition) -> None:
        """Order a position once, of the meter that is meant. Raises DriverError.

        The order is never repeated: what a meter has done that did not answer is found out by reading.
        """
        unit = self._units[serial]
        if position is RelayPosition.READY_FOR_RECONNECTION:
            raise MeterRefused(f"{unit}: only the meter itself waits for its button")
        async with self._turn_of(unit):
            # Known to be there, associated, and the meter that is meant: a swap may be minutes old.
            unit.identified_at = None
            await self._relay_position(unit)
            association = await self._ready(unit)
            await self._asked(unit, order_position(association, _relay_of(unit), position))

    async def _relay_position(self, unit: Unit) -> RelayPosition:
        relay = _relay_of(unit)
        return await self._insisted(unit, lambda association: read_position(association, relay))

    # --- what a meter has kept -------------------------------------------------------------------

    async def read_profile(
        self, serial: MeterSerial, first: datetime, last: datetime
    ) -> Sequence[RawReading]:
        """Read the load profile from ``first`` to ``last``, each value with its own time. Raises DriverError."""
        unit = self._units[serial]
        meter_map, zone = unit.meter.map, unit.meter.zone
        profile = meter_map.load_profile
        if profile is None:
            raise MeterRefused(f"{unit}: the map {meter_map.id!r} names no load profile")
        registers = tuple(meter_map.registers.values())
        async with self._turn_of(unit):
            return await self._insisted(
                unit,
                lambda association: read_intervals(
                    association, profile, registers, (first, last), zone, unit.known
                ),
            )

    async def read_events(
        self, serial: MeterSerial, first: datetime, last: datetime
    ) -> Sequence[LoggedEvent]:
        """Read the event logs the meter has, from ``first`` to ``last``. Raises DriverError."""
        unit = self._units[serial]
        zone = unit.meter.zone
        events: list[LoggedEvent] = []
        refusals: list[MeterRefused] = []
        logs = unit.meter.map.event_logs
        async with self._turn_of(unit):
            for log in logs:
                reading = partial(
                    rows_between,
                    profile=log.object,
                    first=first,
                    last=last,
                    zone=zone,
                    offset_minutes=zone.utc_offset_minutes or 0,
                )
                try:
                    rows = await self._insisted(unit, reading)
                    events += logged_events(rows, log.name, log.code_system)
                except MeterRefused as refusal:  # few meters have them all
                    refusals.append(refusal)
        if logs and len(refusals) == len(logs):
            raise refusals[0]
        return events

    async def set_clock(self, serial: MeterSerial, now: datetime) -> None:
        """Set the clock of the meter that is meant; ``now`` is the time at the call. Raises DriverError."""
        unit = self._units[serial]
        zone, called_at = unit.meter.zone, self._now()
        async with self._turn_of(unit):
            # Known to be there, associated, and the meter that is meant: a swap may be minutes old.
            unit.identified_at = None
            offset = await self._insisted(unit, lambda association: read_offset(association, zone))
            association = await self._ready(unit)
            passed = timedelta(seconds=self._now() - called_at)
            await self._asked(unit, write_clock(association, now + passed, zone, offset))

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
                raise MeterSilent(
                    f"{unit} on {self._plan.place} was not done within {TURN_S_MAX:.0f} s"
                ) from None

    async def _insisted(self, unit: Unit, asking: Callable[[Association], Steps[_T]]) -> _T:
        """Ask, and again after a fault, as often as the options say. Raises DriverError."""
        failures = forgotten = 0
        while True:
            try:
                return await self._asked(unit, asking(await self._ready(unit)))
            except (_Excepted, _Forgotten):
                forgotten += 1
                if forgotten > 1:
                    raise
            except MeterSilent:
                failures += 1
                if failures > self._plan.options.retries or self._waits_s(unit) > 0:
                    raise
            except LineDown:
                # Meters close a TCP connection they hold to be idle, at times under our question.
                failures += 1
                if failures > 1 or self._plan.options.transport is Transport.HDLC:
                    raise

    async def _ready(self, unit: Unit) -> Association:
        """Return an association with the meter that is meant. Raises DriverError."""
        await self._settled()
        if unit.association is None:
            await self._associate(unit)
        await self._identify(unit)
        if self._now() - unit.known_since > KNOWN_AGE_S_MAX:
            self._forget(unit)
        assert unit.association is not None
        return unit.association

    async def _associate(self, unit: Unit) -> None:
        self._forget(unit)
        unit.identified_at = None
        association = Association(
            self._link(unit.meter),
            _credentials(unit),
            server_counter=unit.server_counter,
            invoke_ids=unit.invoke_ids,
        )
        try:
            await self._asked(unit, association.open())
        except MeterRefused as refusal:
            # Meters lock out who knocks too often with a wrong password: ever more seldom.
            unit.breaker = unit.breaker.failed(0.0, self._now())
            unit.refused = str(refusal)
            raise
        unit.association = association
        unit.refused = ""

    def _link(self, meter: MeterPlan) -> Link:
        if self._plan.options.transport is Transport.TCP:
            return WrapperLink(meter.client, meter.server)
        return HdlcLink(meter.client_address, meter.server_address)

    async def _identify(self, unit: Unit) -> None:
        expected, identify = unit.meter.identity, unit.meter.map.identify
        if expected is None or identify is None:
            return
        now = self._now()
        if unit.identified_at is not None and now - unit.identified_at <= IDENTITY_AGE_S_MAX:
            return
        assert unit.association is not None
        found = await self._asked(unit, read_identity(unit.association, identify))
        if found != expected:
            unit.identified_at = None
            self._forget(unit)
            raise IdentityMismatch(expected=expected, found=found)
        unit.identified_at = now

    def _forget(self, unit: Unit) -> None:
        unit.known, unit.known_since = Known(), self._now()

    # --- the wire --------------------------------------------------------------------------------

    async def _settled(self) -> None:
        """Be connected, and sure that nothing older is on its way to us."""
        if self._unsettled and self._plan.options.transport is not Transport.HDLC:
            self._wire.close()
        if not self._wire.connected:
            await self._connect()
        elif self._unsettled:
            await silence(self._wire, self._plan.options.silence_s, self._plan.place)
        self._unsettled = False

    async def _connect(self) -> None:
        for unit in self._units.values():
            unit.association = None
        await self._reopening.open(self._wire.open)
        if self._plan.options.transport is not Transport.TCP:
            await silence(self._wire, self._plan.options.silence_s, self._plan.place)

    async def _asked(self, unit: Unit, steps: Steps[_T]) -> _T:
        """Run a dialogue with a meter; whatever goes wrong, its association does not survive it.

        Raises DriverError.
        """
        association, unit.association, self._unsettled = unit.association, None, True
        began_at = self._now()
        if unit.counter is not None and unit.counter.low:
            await self._reserve(unit, unit.counter)
        try:
            result = await self._run(steps)
        except TimeoutError:
            await self._book_silence(unit, began_at)
            raise MeterSilent(f"{unit} on {self._plan.place} did not answer in time") from None
        except (ServiceRefused, WrongType) as refusal:
            unit.breaker = unit.breaker.answered()
            what = f"{unit} on {self._plan.place}: {refusal}"
            if isinstance(refusal, ServiceRefused) and refusal.exception:
                raise _Excepted(what) from None
            unit.association, self._unsettled = association, False
            raise MeterRefused(what) from None
        except DlmsError as error:
            what = f"{unit} on {self._plan.place}: {error}"
            if isinstance(error, AssociationRefused) or (
                association is None and isinstance(error, CipherError)
            ):
                raise MeterRefused(what) from None
            if isinstance(error, LinkLost):
                self._unsettled = False  # its word is the last of all that it had to say
                raise _Forgotten(what) from None
            # An answer that is none is as good as silence, and healed the same way.
            await self._book_silence(unit, began_at)
            raise MeterSilent(what) from None
        unit.association, self._unsettled = association, False
        unit.breaker = unit.breaker.answered()
        return result

    async def _reserve(self, unit: Unit, counter: InvocationCounter) -> None:
        try:
            await asyncio.to_thread(counter.reserve)
        except CipherError as error:
            raise MeterRefused(f"{unit}: {error}") from None

    async def _run(self, steps: Steps[_T]) -> _T:
        """Drive a dialogue: what it yields is sent, what arrives is given to it, in time.

        Raises TimeoutError, LineDown, DlmsError.
        """
        try:
            to_send = next(steps)
            while True:
                timeout_s = self._plan.options.timeout_s + self._plan.airtime_s(len(to_send))
                async with asyncio.timeout(timeout_s):
                    await self._wire.send(to_send)
                    while not (to_send := steps.send(await self._wire.receive())):
                        pass
        except StopIteration as done:
            result: _T = done.value
            return result

    # --- silence and refusals --------------------------------------------------------------------

    async def _book_silence(self, unit: Unit, began_at: float) -> None:
        """Have the unit pay for its silence, the drain of the line included."""
        unit.refused = ""
        try:
            if self._plan.options.transport is Transport.HDLC:
                await silence(self._wire, self._plan.options.silence_s, self._plan.place)
                self._unsettled = False
        finally:
            now = self._now()
            unit.breaker = unit.breaker.failed(now - began_at, now)

    def _waits_s(self, unit: Unit) -> float:
        now = self._now()
        return unit.breaker.asks_at(now) - now

    def _report_left_out(self, unit: Unit) -> None:
        for obis, why in unit.known.left_out.items():
            if obis not in unit.reported:
                unit.reported.add(obis)
                _log.warning(
                    "meter does not give a register of its map",
                    extra={"meter": str(unit), "reason": why},
                )

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _credentials(unit: Unit) -> Credentials:
    match unit.meter.access:
        case Password(octets):
            return Credentials(password=octets)
        case KeySet() as access:
            assert unit.counter is not None
            challenge = secrets.token_bytes(_CHALLENGE_BYTES)
            return Credentials(
                security=Security(access.keys, access.title, unit.counter.next, challenge)
            )
    return Credentials()


def _relay_of(unit: Unit) -> bytes:
    relay = unit.meter.map.relay
    assert relay is not None, "only a meter with a relay is given the methods for it"
    return relay
