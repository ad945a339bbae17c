"""Carrying out one permitted command at its meter, and reading back what came of it.

The caller has committed the intent. Nothing is ordered twice here, whatever goes wrong: an order that got no answer
may have moved the contactor all the same, so the answer is to look, not to repeat. What cannot be seen is
``unknown``, and the head-end finds out from telemetry.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

import structlog

from openami.gateway.driver import (
    DriverError,
    Meter,
    RelayControl,
    RelayPosition,
    TokenEntry,
)
from openami.gateway.outbox import Outbox, OutboxError
from openami.gateway.reporting import Outcome
from openami.sip.actions import ACTIONS, Action
from openami.sip.command import Command
from openami.sip.errors import SipCode
from openami.sip.reports import ReportStatus

# A driver keeps its own deadlines (half a minute for a meter's turn); this one is for a driver that does not.
METER_TIMEOUT_S: Final = 60.0
# Between one look at a contactor and the next. It moves in tens of milliseconds, and its meter shows it at its next
# measurement, within a second or two; before an order, so many answers in a row are not lost to noise.
LOOK_PAUSES_S: Final = (0.5, 1.0, 1.5)
# A range of weeks is taken in passes; more than this is an archive, not a gap.
RESEND_PASSES_MAX: Final = 20

Sleep = Callable[[float], Awaitable[None]]

_log = structlog.get_logger(__name__)

_FAILED = Outcome(ReportStatus.FAILED, SipCode.METER_ERROR.value)
_UNKNOWN = Outcome(ReportStatus.UNKNOWN, SipCode.METER_ERROR.value)
_DONE = Outcome(ReportStatus.DONE)


async def carry_out(command: Command, meter: Meter | None, outbox: Outbox, sleep: Sleep) -> Outcome:
    """Do what a command asks, once."""
    match command.action:
        case Action.DISCONNECT | Action.RECONNECT | Action.ARM:
            return await move_relay(meter, wanted_position(command.action), sleep)
        case Action.CREDIT_TOKEN:
            return await _enter_token(meter, str(command.args["token"]))
        case Action.RESEND:
            return await _resend(outbox, command)
        case Action.SETTLE:
            return _DONE  # its trade id is in the journal: that is the act


def wanted_position(action: Action) -> RelayPosition:
    """Return the position a relay's command asks for."""
    state = ACTIONS[action].relay_state
    assert state is not None
    return RelayPosition(state)


async def move_relay(meter: Meter | None, wanted: RelayPosition, sleep: Sleep) -> Outcome:
    """Order a position and read it back."""
    if not isinstance(meter, RelayControl):
        return _FAILED
    try:
        position = await _look_before(meter, meter.serial, sleep)
    except (DriverError, TimeoutError) as error:
        _log.warning("relay not ordered", meter=meter.serial, reason=str(error))
        return _FAILED  # nothing was ordered, so nothing has moved
    if wanted is RelayPosition.READY_FOR_RECONNECTION and position is RelayPosition.CONNECTED:
        # Arming opens a closed contactor: a disconnect without its budget, its hours and its persons.
        return Outcome(ReportStatus.FAILED, SipCode.METER_ERROR.value, position)
    try:
        async with asyncio.timeout(METER_TIMEOUT_S):
            await meter.set_relay(wanted)
    except (DriverError, TimeoutError) as error:
        _log.warning("relay's order not answered", meter=meter.serial, reason=str(error))
    return await read_back(meter, wanted, sleep)


async def _look_before(meter: RelayControl, serial: str, sleep: Sleep) -> RelayPosition:
    """Return where the contactor stands before an order. Raises DriverError, TimeoutError.

    Looking moves nothing, so answers lost to noise on the line are asked for again.
    """
    async with asyncio.timeout(METER_TIMEOUT_S):
        for pause_s in LOOK_PAUSES_S:
            try:
                return await meter.relay_position()
            except DriverError as error:
                _log.info("relay looked at again", meter=serial, reason=str(error))
            await sleep(pause_s)
        return await meter.relay_position()


async def read_back(meter: Meter | None, wanted: RelayPosition, sleep: Sleep) -> Outcome:
    """Tell where the contactor stands after an order: done, failed, or unknown when it cannot be seen."""
    if not isinstance(meter, RelayControl):
        return _UNKNOWN
    position: RelayPosition | None = None
    for pause_s in (0.0, *LOOK_PAUSES_S):
        if pause_s:
            await sleep(pause_s)
        try:
            async with asyncio.timeout(METER_TIMEOUT_S):
                position = await meter.relay_position()
        except (DriverError, TimeoutError) as error:
            _log.warning("relay not read back", meter=meter.serial, reason=str(error))
        if position is wanted:
            return Outcome(ReportStatus.DONE, position=position)
    if position is None:
        return _UNKNOWN
    return Outcome(ReportStatus.FAILED, SipCode.METER_ERROR.value, position)


async def after_restart(action: Action, meter: Meter | None, sleep: Sleep) -> Outcome:
    """Tell what can be told of a command that was running when the program ended. Never does it again."""
    if action is Action.SETTLE:
        return _DONE
    if not ACTIONS[action].moves_relay:
        return Outcome(ReportStatus.UNKNOWN, SipCode.METER_ERROR.value)
    outcome = await read_back(meter, wanted_position(action), sleep)
    if outcome.status is ReportStatus.FAILED:
        # It may not have been ordered, or it was and somebody moved it since.
        return Outcome(ReportStatus.UNKNOWN, outcome.code, outcome.position)
    return outcome


async def _enter_token(meter: Meter | None, token: str) -> Outcome:
    if not isinstance(meter, TokenEntry):
        return _FAILED
    try:
        async with asyncio.timeout(METER_TIMEOUT_S):
            taken = await meter.enter_token(token)
    except (DriverError, TimeoutError) as error:
        _log.warning("token not answered", meter=meter.serial, reason=str(error))
        return _UNKNOWN
    return _DONE if taken else _FAILED


async def _resend(outbox: Outbox, command: Command) -> Outcome:
    since, until = _moment(command.args["from"]), _moment(command.args["to"])
    try:
        for _ in range(RESEND_PASSES_MAX):
            if (await outbox.resend(since, until)).complete:
                return _DONE
    except OutboxError as error:
        _log.warning("readings not sent again", reason=str(error), remedy=error.remedy)
    return Outcome(ReportStatus.FAILED, SipCode.STORAGE.value)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
