"""The line: turns, faults, and the way back from them.

A read takes the line's turn. In its turn a unit is asked block by block. After a question that was not
answered the line is drained until it is silent, and the unit is out of step: before its next value it
must answer a *sync read*, the smallest read no late answer can be mistaken for. Shapes that went
unanswered are kept off until their answers can no longer come. So a late answer meets no question it
could be taken for, and no wrong value is ever given out (decision 0014).

Where the meter can tell its serial number and one is configured, it is compared when the unit comes into
step, after every silence, and again after a while.

A SunSpec meter's map is found out with its first read, in its turn and by the same questions, and kept until the
meter shows that it is another's (decision 0055).
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from openami.gateway.driver import (
    DriverError,
    IdentityMismatch,
    Inspected,
    LineDown,
    MeterRefused,
    MeterSilent,
    RawReading,
    RelayPosition,
)
from openami.gateway.drivers.modbus.decode import (
    NO_SCALE_FACTOR,
    bits_of,
    exponent_of,
    identity_of,
)
from openami.gateway.drivers.modbus.options import LinePlan, Transport
from openami.gateway.drivers.modbus.plan import Block, block_for, plan, sync_block
from openami.gateway.drivers.modbus.readings import Words, inspected_of, readings_of
from openami.gateway.drivers.modbus.register_map import Field, Register, RegisterMap, Relay, wanted
from openami.gateway.drivers.modbus.sunspec.chain import Chain, ChainError, Question, walk
from openami.gateway.drivers.modbus.sunspec.layout import layout
from openami.gateway.drivers.modbus.unit import Unit
from openami.gateway.drivers.modbus.wire import Refusal, Unanswered, Wire
from openami.gateway.reopening import Reopening
from openami.profile import MeterSerial, Obis

TURN_S_MAX: Final = 30.0
"""How long one meter may hold the line: forty reads at 2400 Bd with every retry."""
IDENTITY_AGE_S_MAX: Final = 300.0
"""How long a meter's serial number is believed; a swap takes an electrician longer than that."""
UNANSWERED_BEFORE_RECONNECT: Final = 3
"""A TCP connection whose far end vanished looks like meters falling silent one after the other."""

# A gateway's word for "my meter did not answer": its answer may still come, to it and then to us.
_GATEWAY_SILENCE = (0x0A, 0x0B)
_NOT_THERE = (1, 2, 3)  # illegal function, address, value: asking again will not help
_NO_SUCH_PLACE = (*_NOT_THERE, 4)  # some meters say "device failure" of an address they do not have

# Function 16 for one register: its frame and its echo are as long as such a read.
_REGISTERS_OF_ORDER = 4

_log = logging.getLogger(__name__)


class _Refused(MeterRefused):
    """A MeterRefused that tells the exception's code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class ModbusLine:
    """An open line; opened at the first read, so that a missing adapter stops nobody else."""

    def __init__(self, line: LinePlan) -> None:
        self._plan = line
        self._wire = Wire(line)
        self._turn = asyncio.Lock()
        self._units: Mapping[MeterSerial, Unit] = {
            meter.serial: Unit(meter, line, self._now()) for meter in line.meters
        }
        self._unsettled = True
        """Whether bytes may still be on their way to us."""
        self._unanswered_in_a_row = 0
        self._reopening = Reopening(line.place)

    def close(self) -> None:
        self._wire.close()

    async def read(self, serial: MeterSerial, codes: Sequence[Obis]) -> Sequence[RawReading]:
        """Read a meter's registers in the line's turn. Raises DriverError."""
        unit = self._units[serial]
        registers, words = await self._answers(unit, codes)
        return readings_of(registers, words, unit.meter.ratios)

    async def inspect(self, serial: MeterSerial, codes: Sequence[Obis]) -> Sequence[Inspected]:
        """Read as `read` does, and tell the registers behind each value. Raises DriverError."""
        unit = self._units[serial]
        registers, words = await self._answers(unit, codes)
        return inspected_of(registers, words, unit.meter.ratios)

    async def _answers(self, unit: Unit, codes: Sequence[Obis]) -> tuple[Sequence[Register], Words]:
        """Return the map's registers for these codes, and the words of those that were answered."""
        if not unit.codes.intersection(codes):
            return (), {}
        async with self._turn_of(unit):
            if unit.undiscovered is not None:
                await self._until_done(unit, partial(self._discover, unit))
            registers = wanted(unit.map, codes)
            words = await self._words(unit, {register.field for register in registers})
        self._report_scale_factors(unit, registers, words)
        return registers, words

    async def relay_position(self, serial: MeterSerial) -> RelayPosition:
        """Read where a meter's contactor stands. Raises DriverError."""
        unit = self._units[serial]
        async with self._turn_of(unit):
            return await self._relay_position(unit)

    async def set_relay(self, serial: MeterSerial, position: RelayPosition) -> None:
        """Order a position once, of the meter that is meant. Raises DriverError.

        The order is never repeated: what a silent meter has done is found out by reading, and its late answer is
        drained like any other.
        """
        unit = self._units[serial]
        relay = _relay_of(unit)
        code = relay.codes.get(position)
        if code is None:
            raise MeterRefused(f"{unit} knows no position {position.value!r}")
        async with self._turn_of(unit):
            # Known to be connected, in step, and the meter that is meant: a swap may be minutes old.
            unit.identified_at = None
            await self._relay_position(unit)
            await self._order(unit, relay, code)

    async def _relay_position(self, unit: Unit) -> RelayPosition:
        relay = _relay_of(unit)
        (word,) = (await self._words(unit, {relay.field}))[relay.field]
        for position, code in relay.codes.items():
            if word == code:
                return position
        raise MeterRefused(
            f"{unit} tells {word} as its relay's position, which its map does not know"
        )

    async def _order(self, unit: Unit, relay: Relay, code: int) -> None:
        began_at = self._now()
        unit.in_step, self._unsettled = False, True
        timeout_s = self._plan.options.timeout_s + self._plan.airtime_s(_REGISTERS_OF_ORDER)
        try:
            await self._wire.order(
                unit.meter.unit,
                relay.address,
                code,
                function=relay.write_function,
                timeout_s=timeout_s,
            )
        except Unanswered as silence:
            await self._book_silence(unit, began_at)
            raise MeterSilent(self._why_silent(unit, timeout_s, silence.received)) from None
        except Refusal as answer:
            if answer.code in _GATEWAY_SILENCE:
                await self._book_silence(unit, began_at)
                raise MeterSilent(self._why_no_answer(unit, answer.code)) from None
            self._heard(unit)
            await self._drain()
            raise MeterRefused(
                f"{unit} on {self._plan.place} refuses the relay's order with exception {answer.code}"
            ) from None
        self._heard(unit)
        unit.in_step, self._unsettled = True, False

    @asynccontextmanager
    async def _turn_of(self, unit: Unit) -> AsyncIterator[None]:
        """Have the line, settled, for one unit. Raises DriverError, MeterSilent when it takes too long."""
        unit.breaker.check(unit, self._plan.place, self._now())
        async with self._turn:
            unit.breaker.check(
                unit, self._plan.place, self._now()
            )  # another reader may have found out meanwhile
            try:
                async with asyncio.timeout(TURN_S_MAX):
                    await self._settled()
                    yield
            except TimeoutError:
                raise MeterSilent(
                    f"{unit} on {self._plan.place} was not done within {TURN_S_MAX:.0f} s"
                ) from None

    # --- the wire ----------------------------------------------------------------------------

    async def _settled(self) -> None:
        """Be connected, and sure that nothing is on its way to us."""
        if not self._wire.connected:
            await self._connect()
        if self._unsettled:
            await self._wire.silence(self._plan.silence_s)
            self._unsettled = False

    async def _connect(self) -> None:
        self._unsettled = True
        for unit in self._units.values():
            unit.in_step, unit.identified_at = False, None
        await self._reopening.open(self._wire.open)
        self._unanswered_in_a_row = 0

    # --- a unit's turn -----------------------------------------------------------------------

    async def _words(self, unit: Unit, fields: set[Field]) -> Words:
        """Ask for the fields until each is read or refused, within what the unit may cost."""
        got: dict[Field, tuple[int, ...]] = {}
        refusals: list[_Refused] = []
        witnesses = unit.map.witnesses
        missing = {*fields, *witnesses}
        await self._until_done(unit, partial(self._read_blocks, unit, missing, got, refusals))
        self._check_witnesses(unit, witnesses, got, refusals)
        if refusals and not got:
            raise refusals[0]
        return got

    async def _until_done(self, unit: Unit, step: Callable[[], Awaitable[bool]]) -> None:
        """Take a step of questions until it says that all is done, within what the unit may cost."""
        failures = 0
        reconnected = False
        done = False
        while not done:
            try:
                await self._in_step(unit)
                done = await step()
            except MeterSilent:
                unit.fell_silent()
                failures += 1
                if failures > self._plan.options.retries or self._waits_s(unit) > 0:
                    raise
                await self._settled()  # the fault may have cost us the connection
            except LineDown:
                # Meters close a TCP connection they hold to be idle, at times under our question.
                if reconnected or self._plan.options.transport is Transport.RTU:
                    raise
                reconnected = True
                await self._settled()

    async def _read_blocks(
        self,
        unit: Unit,
        missing: set[Field],
        got: dict[Field, tuple[int, ...]],
        refusals: list[_Refused],
    ) -> bool:
        """Read what is missing; return early when the unit falls out of step. Return whether all is done."""
        for block in self._blocks(unit, missing):
            assert unit.in_step
            inside = {field for field in missing if block.covers(field)}
            try:
                words = await self._exchange(unit, block)
            except _Refused as refusal:
                self._report(unit, block, refusal)
                if refusal.code in _NOT_THERE and not inside <= unit.singly:
                    unit.singly |= inside
                    inside = set()  # still missing; the next plan asks for them one by one
                else:
                    refusals.append(refusal)
            else:
                got.update({field: block.cut(field, words) for field in inside})
            missing -= inside
            if not unit.in_step:
                break  # what is left is planned anew, off the shapes now in doubt
        return not missing

    def _blocks(self, unit: Unit, missing: set[Field]) -> tuple[Block, ...]:
        avoid = unit.doubt.shapes(self._now())
        together = plan(
            frozenset(missing - unit.singly),
            known=_known(unit.map, missing),
            limits=unit.map.limits,
            avoid=avoid,
        )
        singly = tuple(block_for(field) for field in sorted(missing & unit.singly))
        if together is None or any(block.shape in avoid for block in singly):
            raise self._in_doubt(unit)
        return (*together, *singly)

    def _in_doubt(self, unit: Unit) -> DriverError:
        wait_s = unit.doubt.lasts_s(self._now())
        # Not a MeterSilent: to ask once more at once cannot help.
        return MeterRefused(
            f"{unit} on {self._plan.place}: late answers could be mistaken for new ones; "
            f"asked again in {wait_s:.0f} s at the latest"
        )

    async def _in_step(self, unit: Unit) -> None:
        """Be sure that the unit's next answer is to our next question, and that it is the meter meant."""
        if not unit.in_step:
            unit.identified_at = None
            await self._synchronised(unit)
        await self._identified(unit)

    async def _synchronised(self, unit: Unit) -> None:
        """Have an answer that can be no late one; a SunSpec meter is tried at each of its bases."""
        places = max(1, len(unit.bases))
        while True:
            block = sync_block(
                unit.map.fields,
                limits=unit.map.limits,
                avoid=unit.doubt.shapes(self._now()),
            )
            if block is None:
                raise self._in_doubt(unit)
            try:
                await self._exchange(unit, block)
                return
            except _Refused:
                if unit.in_step:  # it was an answer as well, and to this question
                    return
                places -= 1
                if places == 0:
                    raise
                unit.look_elsewhere()
            except MeterSilent:
                if unit.undiscovered is not None:
                    # Some meters do not answer for an address they do not have.
                    unit.look_elsewhere()
                raise

    async def _identified(self, unit: Unit) -> None:
        field, expected = unit.map.identify, unit.identity
        if field is None or expected is None:
            return
        now = self._now()
        if unit.identified_at is not None and now - unit.identified_at < IDENTITY_AGE_S_MAX:
            return
        unit.identified_at = None
        block = block_for(field)
        doubtful = block.shape in unit.doubt.shapes(now)
        try:
            found = identity_of(field, await self._exchange(unit, block, doubtful=doubtful))
        except _Refused as refusal:
            if refusal.code in _NO_SUCH_PLACE:
                unit.forget_map()
            raise
        if found == expected:
            unit.identified_at = now
        elif doubtful:
            raise self._in_doubt(unit)  # it may be the late answer to another question
        else:
            unit.forget_map()  # where another meter's chain begins is its own affair
            raise IdentityMismatch(expected=expected, found=found)

    # --- a SunSpec meter ---------------------------------------------------------------------

    async def _discover(self, unit: Unit) -> bool:
        """Walk along the meter's chain of models and keep the map it makes. Raises DriverError."""
        discovery = unit.undiscovered
        assert discovery is not None
        if self._now() < unit.walks_at:
            raise self._in_doubt(unit)
        try:
            chain = await self._walked(unit)
            found = layout(chain, discovery)
        except ChainError as error:
            raise MeterRefused(f"{unit} on {self._plan.place}: {error}") from None
        if unit.identity is not None and found.identify is None:
            raise MeterRefused(
                f"{unit} on {self._plan.place} has a common model of {chain.links[0].length} registers, too "
                "short for a serial number: leave `identity` out"
            )
        unit.found(found, chain.base)
        unit.identity = unit.identity or chain.serial or None
        _log.info(
            "sunspec meter found",
            extra={
                "meter": str(unit.meter.serial),
                "maker": chain.maker,
                "model": chain.model,
                "models": [link.id for link in chain.links],
                "base": chain.base,
            },
        )
        await self._identified(unit)
        return True

    async def _walked(self, unit: Unit) -> Chain:
        """Drive the walk. Raises ChainError, DriverError."""
        steps = walk(unit.bases)
        try:
            question = next(steps)
            while True:
                question = steps.send(await self._answer(unit, question))
        except StopIteration as end:
            chain: Chain = end.value
            return chain

    async def _answer(self, unit: Unit, question: Question) -> tuple[int, ...] | None:
        """Return the words a walk wants; None where the meter has no such registers."""
        block = question.block(unit.doubt.shapes(self._now()))
        if block is None:
            raise self._in_doubt(unit)
        try:
            words = await self._exchange(unit, block)
        except _Refused as refusal:
            if not unit.in_step:
                # It may be the answer to another question. Asking again would only leave more in doubt.
                now = self._now()
                unit.walks_at = now + unit.doubt.lasts_s(now)
                raise self._in_doubt(unit) from None
            if refusal.code not in _NO_SUCH_PLACE:
                raise
            return None
        return question.cut(block, words)

    def _check_witnesses(
        self,
        unit: Unit,
        witnesses: Mapping[Field, int],
        words: Words,
        refusals: Sequence[_Refused],
    ) -> None:
        """Be sure that the map is still this meter's. Raises MeterRefused."""
        for field, value in witnesses.items():
            if field in words and bits_of(words[field], field.word_order) == value:
                continue
            if field not in words and not any(r.code in _NO_SUCH_PLACE for r in refusals):
                raise refusals[0]  # busy, perhaps, and no other meter
            unit.forget_map()
            raise MeterRefused(
                f"{unit} on {self._plan.place} no longer has its models where they were: it was set up "
                "anew or swapped; they are looked for with the next read"
            )

    # --- one question ------------------------------------------------------------------------

    async def _exchange(
        self, unit: Unit, block: Block, *, doubtful: bool = False
    ) -> tuple[int, ...]:
        """Ask once. Raises MeterSilent (the line drained, its cost booked), MeterRefused, LineDown.

        ``doubtful``: the answer's shape does not prove it; the caller proves it by its content.
        """
        began_at = self._now()
        others_in_doubt = unit.doubt.in_area(block.area, began_at)
        # Noted before the bytes leave: whoever cancels us leaves the truth behind.
        unit.doubt.asked(block.shape, began_at)
        unit.in_step, self._unsettled = False, True
        timeout_s = self._plan.options.timeout_s + self._plan.airtime_s(block.count)
        try:
            words = await self._wire.ask(unit.meter.unit, block, timeout_s)
        except Unanswered as silence:
            await self._book_silence(unit, began_at)
            raise MeterSilent(self._why_silent(unit, timeout_s, silence.received)) from None
        except Refusal as answer:
            if answer.code in _GATEWAY_SILENCE:
                await self._book_silence(unit, began_at)
                raise MeterSilent(self._why_no_answer(unit, answer.code)) from None
            await self._settle_refusal(unit, block, ambiguous=others_in_doubt)
            raise _Refused(self._why_refused(unit, block, answer.code), answer.code) from None
        self._heard(unit)
        if not doubtful:
            unit.doubt.answered(block.shape)
        unit.in_step, self._unsettled = True, False
        return words

    def _heard(self, unit: Unit) -> None:
        self._unanswered_in_a_row = 0
        unit.breaker = unit.breaker.answered()

    async def _settle_refusal(self, unit: Unit, block: Block, *, ambiguous: bool) -> None:
        """An exception has no shape: with other questions open it may be the answer to any of them."""
        self._heard(unit)
        if ambiguous:
            await self._drain()
        else:
            unit.doubt.answered(block.shape)
            unit.in_step, self._unsettled = True, False

    async def _book_silence(self, unit: Unit, began_at: float) -> None:
        try:
            await self._drain()
        finally:
            now = self._now()
            unit.breaker = unit.breaker.failed(now - began_at, now)
        self._unanswered_in_a_row += 1
        if (
            self._plan.options.transport is not Transport.RTU
            and self._unanswered_in_a_row >= UNANSWERED_BEFORE_RECONNECT
        ):
            self._wire.close()

    async def _drain(self) -> None:
        await self._wire.silence(self._plan.silence_s)
        self._unsettled = False

    # --- messages ----------------------------------------------------------------------------

    def _waits_s(self, unit: Unit) -> float:
        now = self._now()
        return unit.breaker.asks_at(now) - now

    def _why_silent(self, unit: Unit, timeout_s: float, received: int) -> str:
        text = f"{unit} on {self._plan.place} did not answer within {timeout_s:.2f} s"
        if received:
            text += (
                f"; {received} bytes came that are no answer: check termination, parity and "
                "baudrate, and that no other meter has this address"
            )
        return text

    def _why_no_answer(self, unit: Unit, code: int) -> str:
        return f"{unit} on {self._plan.place}: the gateway got no answer from it (exception {code})"

    def _why_refused(self, unit: Unit, block: Block, code: int) -> str:
        text = (
            f"{unit} on {self._plan.place} refuses {block.area} registers {block.address} to "
            f"{block.address + block.count - 1} with exception {code}"
        )
        if code in _NOT_THERE:
            text += f": is the map {unit.map.id!r} the right one for it?"
        return text

    def _report(self, unit: Unit, block: Block, refusal: MeterRefused) -> None:
        if block not in unit.reported:
            unit.reported.add(block)
            _log.warning("meter refuses registers", extra={"reason": str(refusal)})

    def _report_scale_factors(
        self, unit: Unit, registers: Sequence[Register], words: Words
    ) -> None:
        for register in registers:
            if register.scale_factor_last and register.field in words:
                told = words[register.field][-1]
                wrong = told != NO_SCALE_FACTOR and exponent_of(told) is None
                if wrong and register.field not in unit.reported:
                    unit.reported.add(register.field)
                    _log.warning(
                        "meter tells an impossible scale factor",
                        extra={"reason": f"{unit}: {told:#06x} for {register.info.obis}"},
                    )

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _relay_of(unit: Unit) -> Relay:
    relay = unit.map.relay
    assert relay is not None, "only a meter with a relay is given the methods for it"
    return relay


def _known(register_map: RegisterMap, missing: set[Field]) -> tuple[Field, ...]:
    """Return the fields a plan may use; the relay's only when it is asked for: not every model has it."""
    return tuple(sorted({*register_map.fields, *missing}))
