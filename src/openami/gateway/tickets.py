"""Emergency tickets: reconnecting with no network, by a document an operator signed and somebody carried here.

The running gateway owns the meters, so a ticket is dropped into a folder of its data directory, by
``openami gateway ticket`` or from a stick; the answer is put beside it under the ticket's name with ``.report``.
What a ticket may do, and that it does it once, is decided like any command.
"""

import asyncio
import os
from pathlib import Path
from typing import Final

import structlog

from openami.gateway.commanding import Commanding
from openami.profile import CommandTopic, FeederId, GatewayId, MeterSerial, ProfileError
from openami.sip.canonical import DOCUMENT_BYTES_MAX, read_document
from openami.sip.errors import SipError

TICKET_LOOK_S: Final = 1.0  # somebody stands before the pole and waits
TICKETS_PER_LOOK_MAX: Final = 20  # a stick with a whole village's; the rest at the next look
TICKET_SUFFIX: Final = ".ticket"
REPORT_SUFFIX: Final = ".report"
NO_TICKET: Final = b"not a ticket this gateway believes; its log says why\n"

_log = structlog.get_logger(__name__)


async def watch(commanding: Commanding, folder: Path, *, look_s: float = TICKET_LOOK_S) -> None:
    """Take the tickets that are dropped into the folder, for ever."""
    while True:
        for file in waiting(folder):
            await _take(commanding, file)
        await asyncio.sleep(look_s)


def waiting(folder: Path) -> list[Path]:
    """Return the tickets in the folder, in the order of their names."""
    return sorted(folder.glob(f"*{TICKET_SUFFIX}"))[:TICKETS_PER_LOOK_MAX]


def drop(folder: Path, name: str, payload: bytes) -> Path:
    """Put a ticket into the folder as a whole; return where its report will be. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(folder / f"{name}{TICKET_SUFFIX}", payload)
    return folder / f"{name}{REPORT_SUFFIX}"


async def _take(commanding: Commanding, file: Path) -> None:
    report = await _report(commanding, file)
    try:
        _answer(file, report)
    except OSError as error:
        _log.error("ticket not answered", file=str(file), reason=str(error))


async def _report(commanding: Commanding, file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            payload = opened.read(DOCUMENT_BYTES_MAX + 1)
        topic = _topic_of(payload)
    except (OSError, SipError, ProfileError) as error:
        _log.warning("not a ticket", file=str(file), reason=str(error))
        return NO_TICKET
    return await commanding.take_ticket(topic, payload) or NO_TICKET


def _topic_of(payload: bytes) -> CommandTopic:
    """Return the topic a ticket would have come on: what it says itself is checked against who we are."""
    members = read_document(payload).members
    ids = [str(members.get(name)) for name in ("feederId", "gatewayId", "meterSerial")]
    return CommandTopic(FeederId(ids[0]), GatewayId(ids[1]), MeterSerial(ids[2]))


def _answer(file: Path, report: bytes) -> None:
    _write(file.with_suffix(REPORT_SUFFIX), report)
    file.unlink()


def _write(file: Path, content: bytes) -> None:
    """Let the file appear whole or not at all: the other side looks at any time."""
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    unfinished.write_bytes(content)
    unfinished.replace(file)
