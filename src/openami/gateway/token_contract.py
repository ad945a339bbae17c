"""What a driver must keep whose meters take prepayment tokens: more checks beside `driver_contract`'s.

A driver's author makes his bench a `TokenBench` and runs `TOKEN_CHECKS` over it, as he does the others. A token
entered twice is money lost or an attempt spent, so it is entered once or not at all, and never again after silence.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from openami.gateway.driver import Line, MeterSilent, TokenEntry
from openami.gateway.driver_contract import Bench
from openami.profile import MeterSerial


class TokenBench(Bench, Protocol):
    """A bench whose meters take tokens."""

    @property
    def good_token(self) -> str:
        """A token that the meters take."""
        ...

    @property
    def bad_token(self) -> str:
        """A token that they refuse."""
        ...

    def tokens(self, serial: MeterSerial) -> Sequence[str]:
        """What has reached the meter at this place, in order, whatever it made of it."""
        ...

    async def mute_tokens(self, serial: MeterSerial) -> None:
        """From now on the meter takes a token, and does not say so."""
        ...


TokenCheck = Callable[[TokenBench], Awaitable[None]]


async def hands_over_the_token_as_it_is(bench: TokenBench) -> None:
    """The token reaches the meter it is for, unchanged and once; the neighbour hears nothing of it."""
    serial, other = (meter.serial for meter in bench.settings.meters)
    async with bench.driver.open(bench.settings) as line:
        assert await _enter(bench, line, serial, bench.good_token) is True
    assert list(bench.tokens(serial)) == [bench.good_token]
    assert not bench.tokens(other), "the neighbour got the token"


async def says_that_the_meter_refused(bench: TokenBench) -> None:
    """A token that the meter refuses is False: an answer, not an error; and it is not tried again."""
    serial, _ = (meter.serial for meter in bench.settings.meters)
    async with bench.driver.open(bench.settings) as line:
        assert await _enter(bench, line, serial, bench.bad_token) is False
    assert list(bench.tokens(serial)) == [bench.bad_token]


async def enters_once_though_nobody_answers(bench: TokenBench) -> None:
    """A token without an answer is MeterSilent, and was entered once."""
    serial, _ = (meter.serial for meter in bench.settings.meters)
    async with bench.driver.open(bench.settings) as line:
        await bench.mute_tokens(serial)
        await _expect_silence(bench, line, serial)
    assert list(bench.tokens(serial)) == [bench.good_token], "a token was repeated"


async def enters_nothing_at_a_silent_meter(bench: TokenBench) -> None:
    """A meter that does not answer is MeterSilent within the deadline, and gets nothing later either."""
    serial, other = (meter.serial for meter in bench.settings.meters)
    async with bench.driver.open(bench.settings) as line:
        await bench.silence(serial)
        await _expect_silence(bench, line, serial)
        await bench.restore(serial)
        # The neighbour's turn comes after whatever was still waiting for the line.
        assert await _enter(bench, line, other, bench.good_token) is True
    assert not bench.tokens(serial)


TOKEN_CHECKS: Final[tuple[TokenCheck, ...]] = (
    hands_over_the_token_as_it_is,
    says_that_the_meter_refused,
    enters_once_though_nobody_answers,
    enters_nothing_at_a_silent_meter,
)


async def _enter(bench: Bench, line: Line, serial: MeterSerial, token: str) -> bool:
    meter = line.meters[serial]
    assert isinstance(meter, TokenEntry), f"{serial} takes tokens and has no TokenEntry"
    async with asyncio.timeout(bench.deadline_s):
        return await meter.enter_token(token)


async def _expect_silence(bench: TokenBench, line: Line, serial: MeterSerial) -> None:
    try:
        taken = await _enter(bench, line, serial, bench.good_token)
    except MeterSilent:
        return
    except TimeoutError:
        raise AssertionError(f"no MeterSilent within {bench.deadline_s} s") from None
    raise AssertionError(f"MeterSilent was due, not {taken}")
