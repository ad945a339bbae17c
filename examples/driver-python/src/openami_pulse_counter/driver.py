"""The driver: options, turns, deadlines, and which error is whose."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

import msgspec
from msgspec import Meta

from openami.gateway.driver import (
    IdentityMismatch,
    Line,
    LineDown,
    LineSettings,
    Meter,
    MeterSilent,
    PollGroup,
    RawReading,
    RegisterInfo,
)
from openami.gateway.line_options import converted
from openami.profile import MeterSerial, Obis
from openami_pulse_counter.protocol import (
    LINE_BYTES_MAX,
    NUMBERS,
    Answer,
    NoAnswer,
    energy_kwh,
    question,
    read_answer,
)

CONNECT_S_MAX: Final = 5.0
"""How long the box may take to accept a connection."""
_ENERGY, _SERIAL = Obis.parse("1.8.0"), Obis.parse("96.1.0")


class LineOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of a line's table; what is unknown or wrong is an OptionsError with its place."""

    host: Annotated[str, Meta(min_length=1)]
    port: Annotated[int, Meta(ge=1, le=65535)] = 4196
    timeout_s: Annotated[float, Meta(ge=0.01, le=30)] = 1.0
    """How long the box may think."""


class MeterOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of a meter's table."""

    channel: Annotated[int, Meta(ge=0, le=99)]
    pulses_per_kwh: Annotated[int, Meta(ge=1, le=100_000)]
    """As it stands on the meter: "1000 imp/kWh"."""
    identity: str | None = None
    """The label the box should tell; compared before any value is given out."""


class PulseCounterDriver:
    """Boxes that count pulses, over TCP."""

    name: ClassVar[str] = "pulse-counter"

    @classmethod
    def open(cls, settings: LineSettings) -> AbstractAsyncContextManager[Line]:
        """Check the options at once (OptionsError). The box is connected to at the first read."""
        options = converted(settings.options, LineOptions)
        meters = {
            meter.serial: converted(meter.options, MeterOptions, ("meter", at))
            for at, meter in enumerate(settings.meters)
        }
        return _opened(settings.name, options, meters)


@asynccontextmanager
async def _opened(
    name: str, options: LineOptions, meters: Mapping[MeterSerial, MeterOptions]
) -> AsyncIterator[Line]:
    box = _Box(name, options)
    try:
        yield _OpenLine({serial: _Meter(serial, each, box) for serial, each in meters.items()})
    finally:
        box.close()


@dataclass(frozen=True, slots=True)
class _OpenLine:
    meters: Mapping[MeterSerial, Meter]


@dataclass(frozen=True, slots=True)
class _Meter:
    """One channel of a box."""

    serial: MeterSerial
    options: MeterOptions
    box: "_Box"

    @property
    def registers(self) -> Sequence[RegisterInfo]:
        """What it can be asked for; fixed."""
        return (
            RegisterInfo(_ENERGY, "kWh", PollGroup.BILLING, decimals=4, minimum=0, monotonic=True),
            RegisterInfo(_SERIAL, "", PollGroup.DAILY),
        )

    async def read(self, wanted: Sequence[Obis]) -> Sequence[RawReading]:
        """Ask the channel once; return what is wanted of what it tells."""
        codes = [code for code in dict.fromkeys(wanted) if code in (_ENERGY, _SERIAL)]
        if not codes:
            return ()
        answer = await self.box.ask(self.options.channel)
        expected = self.options.identity
        if expected is not None and answer.label != expected:
            raise IdentityMismatch(expected=expected, found=answer.label)
        told = {
            _ENERGY: RawReading(
                _ENERGY, energy_kwh(answer.pulses, self.options.pulses_per_kwh), "kWh"
            ),
            _SERIAL: RawReading(_SERIAL, answer.label, ""),
        }
        return [told[code] for code in codes]


class _Box:
    """The connection to a box; one question at a time."""

    def __init__(self, name: str, options: LineOptions) -> None:
        self._place = f"line {name!r} ({options.host}:{options.port})"
        self._options = options
        self._turn = asyncio.Lock()
        self._number = 0
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, channel: int) -> Answer:
        """Ask a channel in the line's turn. Raises LineDown, MeterSilent."""
        async with self._turn:
            for connected_anew in (self._writer is None, True):
                try:
                    return await self._ask_once(channel)
                except _Broken as broken:
                    self.close()
                    # A connection that was idle may be gone without a word: one new one.
                    if connected_anew:
                        raise LineDown(f"{self._place}: {broken}") from None
            raise AssertionError("the second time raises or returns")

    def close(self) -> None:
        """Close the connection; what is closed already stays so."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def _ask_once(self, channel: int) -> Answer:
        reader, writer = await self._connected()
        self._number = (self._number + 1) % NUMBERS
        try:
            async with asyncio.timeout(self._options.timeout_s):
                writer.write(question(self._number, channel))
                await writer.drain()
                while True:
                    answer = _understood(await reader.readline())
                    # Another number's or channel's answer is late, and nobody's any more.
                    if answer and (answer.number, answer.channel) == (self._number, channel):
                        return answer
        except TimeoutError:
            raise MeterSilent(
                f"channel {channel} on {self._place} does not answer within "
                f"{self._options.timeout_s:g} s: is a meter connected to it?"
            ) from None
        except (OSError, ValueError) as error:  # ValueError: a line longer than LINE_BYTES_MAX
            raise _Broken(str(error)) from None

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is None or self._writer is None:
            try:
                async with asyncio.timeout(CONNECT_S_MAX):
                    self._reader, self._writer = await asyncio.open_connection(
                        self._options.host, self._options.port, limit=LINE_BYTES_MAX
                    )
            except OSError as error:  # TimeoutError is one
                raise _Broken(f"cannot be connected to: {error}; check cable and power") from None
        return self._reader, self._writer


class _Broken(Exception):
    """The connection is of no more use."""


def _understood(line: bytes) -> Answer | None:
    if not line:
        raise _Broken("closed by the box")
    try:
        return read_answer(line)
    except NoAnswer:
        return None
