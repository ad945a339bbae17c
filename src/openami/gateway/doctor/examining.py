"""Asks a meter one question a few times and keeps what the line did; where nobody answers, at other settings."""

import asyncio
from collections.abc import Sequence
from typing import Final

from openami.gateway.doctor.symptoms import Examination, Exchange
from openami.gateway.drivers.modbus.plan import Block
from openami.gateway.scan.findings import PortSetting
from openami.gateway.scan.framing import Framing, Heard
from openami.gateway.scan.ports import Port, SettingRefused
from openami.gateway.scan.search import SETTINGS

QUESTIONS: Final = 5  # enough to see "at times", and done in seconds
OVERHEAR_S: Final = 0.5  # a second master polls at least so often while it polls
WAIT_S: Final = 1.0  # the driver's own timeout, unless the line says otherwise
LATE_WAITS: Final = 3
"""So many waits more an answer is listened for, to tell a late meter from a dead one."""
_ELSEWHERE_WAIT_S: Final = 0.4  # at most; a dozen settings are asked so: five seconds
_QUIET_S: Final = 0.1  # the longest pause within an answer: a device server's
_CHUNKS_MAX = 512  # of one answer; the longest has 256 bytes


async def examine(
    port: Port,
    framing: Framing,
    unit: int,
    block: Block,
    *,
    setting: PortSetting | None,
    others: Sequence[PortSetting] = SETTINGS,
    wait_s: float = WAIT_S,
) -> Examination:
    """Listen, ask a few times, and where nobody answers, ask at the other settings.

    Raises LineDown, SettingRefused. The port is the caller's to close.
    """
    await port.prepare(setting, fresh=True)
    overheard = await port.receive(OVERHEAR_S)
    exchanges = [
        await _ask(
            port,
            framing,
            unit,
            block,
            setting,
            wait_s=wait_s,
            late_s=LATE_WAITS * wait_s if at == 0 else 0.0,
        )
        for at in range(QUESTIONS)
    ]
    elsewhere: list[PortSetting] = []
    if setting is not None and not any(exchange.heard.answers for exchange in exchanges):
        elsewhere = [
            other
            for other in others
            if other != setting
            and await _answers(port, framing, unit, block, other, min(wait_s, _ELSEWHERE_WAIT_S))
        ]
    return Examination(
        setting=setting, overheard=overheard, exchanges=exchanges, elsewhere=elsewhere
    )


async def _answers(
    port: Port, framing: Framing, unit: int, block: Block, setting: PortSetting, wait_s: float
) -> bool:
    try:
        await port.prepare(setting)
    except SettingRefused:
        return False
    exchange = await _ask(port, framing, unit, block, setting, wait_s=wait_s, late_s=0.0)
    return any(answer.unit == unit for answer in exchange.heard.answers)


async def _ask(
    port: Port,
    framing: Framing,
    unit: int,
    block: Block,
    setting: PortSetting | None,
    *,
    wait_s: float,
    late_s: float,
) -> Exchange:
    loop = asyncio.get_running_loop()
    pdu = (
        bytes((block.area.function,))
        + block.address.to_bytes(2, "big")
        + block.count.to_bytes(2, "big")
    )
    question = framing.question(unit, pdu)
    airtime_s = 0.0 if setting is None else (len(question) + 1) * setting.character_s
    await port.send(question)
    asked_at = loop.time()
    received = await port.receive(wait_s + airtime_s)
    late = False
    if not received and late_s:
        received = await port.receive(late_s)
        late = bool(received)
    first_byte_s = max(0.0, loop.time() - asked_at - airtime_s) if received else None
    heard = Heard(())
    for _ in range(_CHUNKS_MAX):
        heard = framing.heard(received, question)
        more = await port.receive(_QUIET_S) if received else b""
        if not more:
            break
        received += more
    return Exchange(unit, block, question, received, heard, first_byte_s, late)
