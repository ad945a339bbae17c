"""What a line did with a few questions, and what to look at. Pure.

Each sign has a cause that is likely and a thing a person can do. A sign that could be two things says so.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from openami.gateway.drivers.modbus.frames import EXCEPTION_BIT
from openami.gateway.drivers.modbus.plan import Block
from openami.gateway.scan.findings import PortSetting
from openami.gateway.scan.framing import Answer, Heard

CHARACTERS_MIN: Final = 4
"""Fewer characters show no pattern: three have even parity by chance once in eight times."""
_EXCEPTIONS: Final = {
    1: "illegal function: it knows no such read; try the other area (holding, input)",
    2: "illegal address: no such register; manuals that write 30001 or 40001 count from 1: take 1 off",
    3: "illegal value: it gives fewer registers at once, or none of an odd count",
    4: "device failure: it cannot read its own measurement",
    5: "acknowledge: it is busy with something long",
    6: "busy: ask more seldom",
    10: "gateway path unavailable: the gateway has no such line behind it",
    11: "gateway target silent: the gateway got no answer from the meter; the fault is behind it",
}


class Sign(StrEnum):
    """What was seen."""

    GOOD = "good answers"
    SILENCE = "no answer"
    ECHO = "echo of the own question"
    BENT = "checksum errors"
    CUT = "cut answers"
    STRANGE = "bytes that are no Modbus"
    SEVEN_BITS = "seven bits with parity"
    EXCEPTION = "exception"
    LATE = "late answers"
    TWICE = "two answers to one question"
    ANOTHER_UNIT = "another unit answers"
    TALK = "talk nobody asked for"
    OTHER_SETTING = "answers at another setting"


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question and what came of it."""

    unit: int
    block: Block
    question: bytes
    received: bytes
    heard: Heard
    first_byte_s: float | None = None
    """How long after the question the first byte came; None without one."""
    late: bool = False
    """It came when the wait had been long enough for most meters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What was tried on a line."""

    setting: PortSetting | None
    overheard: bytes
    """What was on the line before anything was asked."""
    exchanges: Sequence[Exchange]
    elsewhere: Sequence[PortSetting] = ()
    """The settings at which the same question was answered, where it was not at the line's own."""


@dataclass(frozen=True, slots=True)
class Symptom:
    """One sign, how it showed itself, and what to look at."""

    sign: Sign
    evidence: str
    look_at: str


def symptoms(examination: Examination) -> tuple[Symptom, ...]:
    """Return what the line shows, the telling first; a healthy one shows good answers alone."""
    found = [symptom for look in _LOOKS for symptom in look(examination)]
    good = [one for one in examination.exchanges if _is_good(one)]
    if good:
        slowest = max((one.first_byte_s or 0.0 for one in good), default=0.0)
        evidence = f"{len(good)} of {len(examination.exchanges)}, the slowest after {slowest * 1000:.0f} ms"
        found.append(Symptom(Sign.GOOD, evidence, ""))
    return tuple(found)


def _is_good(exchange: Exchange) -> bool:
    return any(_fits(answer, exchange) for answer in exchange.heard.answers)


def _fits(answer: Answer, exchange: Exchange) -> bool:
    return (
        answer.unit == exchange.unit
        and answer.pdu[0] == exchange.block.area.function
        and answer.pdu[1] == 2 * exchange.block.count
    )


def _talk(examination: Examination) -> Iterator[Symptom]:
    if examination.overheard:
        sample = examination.overheard[:16].hex(" ")
        yield Symptom(
            Sign.TALK,
            f"{len(examination.overheard)} bytes before anything was asked: {sample}",
            "a second master (another gateway, a display, a solar controller): two masters cannot share a line. "
            "Single bytes of 00 or ff: an open line; look at bias and termination",
        )


def _elsewhere(examination: Examination) -> Iterator[Symptom]:
    if examination.elsewhere:
        told = " and ".join(map(str, examination.elsewhere))
        yield Symptom(
            Sign.OTHER_SETTING,
            f"the same question is answered at {told}, not at {examination.setting}",
            "set baudrate, parity and stopbits of the line to it, or the meter to the line's",
        )


def _silence(examination: Examination) -> Iterator[Symptom]:
    silent = [one for one in examination.exchanges if not one.received]
    if not silent or examination.elsewhere:
        return
    every = len(silent) == len(examination.exchanges)
    evidence = f"{len(silent)} of {len(examination.exchanges)} questions"
    if not every:
        yield Symptom(
            Sign.SILENCE,
            evidence,
            "a loose wire, a long line without termination, a meter that is slow at times",
        )
    elif examination.setting is None:
        yield Symptom(
            Sign.SILENCE,
            evidence,
            "the unit address; behind a device server its speed and parity, and whether it passes RTU frames "
            "(--rtu)",
        )
    else:
        yield Symptom(
            Sign.SILENCE,
            evidence,
            "is the meter on; exchange the wires A and B; the address (`openami scan` asks all); no other setting "
            "of the port brought an answer either",
        )


def _echo(examination: Examination) -> Iterator[Symptom]:
    echoed = [one for one in examination.exchanges if one.heard.echoed]
    if echoed:
        alone = all(one.received == one.question for one in echoed)
        yield Symptom(
            Sign.ECHO,
            f"{len(echoed)} of {len(examination.exchanges)} questions came back"
            + (", and nothing behind them" if alone else ""),
            "the adapter listens while it sends (two-wire echo): switch it off at the adapter"
            + ("; alone, it shows that the adapter works and the meter is silent" if alone else ""),
        )


def _bent(examination: Examination) -> Iterator[Symptom]:
    bent = [one for one in examination.exchanges if _looks_bent(one)]
    if bent:
        yield Symptom(
            Sign.BENT,
            f"{len(bent)} of {len(examination.exchanges)}: an answer's head and a wrong checksum, "
            f"e.g. {bent[0].received.hex(' ')}",
            "two meters at one address; termination at both ends; a cable beside a motor's; a wrong number of stop "
            "bits or parity shows so as well",
        )
    cut = [one for one in examination.exchanges if _looks_cut(one)]
    if cut:
        yield Symptom(
            Sign.CUT,
            f"{len(cut)} of {len(examination.exchanges)}: it began right and ended early, e.g. "
            f"{cut[0].received.hex(' ')}",
            "an adapter that hands its bytes over in pieces with pauses: a longer timeout; a weak power supply of "
            "the meter's port",
        )


def _body(exchange: Exchange) -> bytes:
    return (
        exchange.received[len(exchange.question) :] if exchange.heard.echoed else exchange.received
    )


def _has_head(exchange: Exchange) -> bool:
    body = _body(exchange)
    head = bytes((exchange.unit, exchange.block.area.function, 2 * exchange.block.count))
    return not exchange.heard.answers and body[:3] == head


def _looks_bent(exchange: Exchange) -> bool:
    return _has_head(exchange) and len(_body(exchange)) >= 2 * exchange.block.count + 5


def _looks_cut(exchange: Exchange) -> bool:
    return _has_head(exchange) and len(_body(exchange)) < 2 * exchange.block.count + 5


def _strange(examination: Examination) -> Iterator[Symptom]:
    strange = [
        one
        for one in examination.exchanges
        if one.heard.rest and not one.heard.answers and not _has_head(one)
    ]
    if not strange:
        return
    sample = _body(strange[0])
    evidence = f"{len(strange)} of {len(examination.exchanges)}, e.g. {sample[:16].hex(' ')}"
    if _is_seven_even(sample):
        yield Symptom(
            Sign.SEVEN_BITS,
            f"{evidence}: every character has an even number of ones, and without its eighth bit it is text",
            "this line speaks seven bits with even parity: IEC 62056-21, not Modbus",
        )
    elif examination.setting is not None:
        yield Symptom(
            Sign.STRANGE,
            evidence,
            "a wrong speed (all 00, ff, 80, f8 …) or parity; another protocol: `openami scan` tries them",
        )
    else:
        yield Symptom(
            Sign.STRANGE,
            evidence,
            "another protocol than was asked: with RTU frames behind a device server say --rtu",
        )


def _is_seven_even(octets: bytes) -> bool:
    if len(octets) < CHARACTERS_MIN:
        return False
    text = bytes(octet & 0x7F for octet in octets)
    printable = all(0x20 <= octet < 0x7F or octet in b"\r\n\x02\x03\x06" for octet in text)
    even = all(octet.bit_count() % 2 == 0 for octet in octets)
    return printable and even and text != octets


def _exceptions(examination: Examination) -> Iterator[Symptom]:
    codes: dict[int, int] = {}
    for one in examination.exchanges:
        for answer in one.heard.answers:
            if answer.unit == one.unit and answer.pdu[0] & EXCEPTION_BIT:
                codes[answer.pdu[1]] = codes.get(answer.pdu[1], 0) + 1
    for code, count in codes.items():
        yield Symptom(
            Sign.EXCEPTION,
            f"{count} of {len(examination.exchanges)}: code {code}",
            _EXCEPTIONS.get(code, "a code of the maker's own: look into the manual"),
        )


def _timing(examination: Examination) -> Iterator[Symptom]:
    late = [one for one in examination.exchanges if one.late]
    if late:
        slowest = max(one.first_byte_s or 0.0 for one in late)
        yield Symptom(
            Sign.LATE,
            f"{len(late)} of {len(examination.exchanges)}, the slowest after {slowest:.1f} s",
            f"set timeout_s of the line to {max(1.0, 2 * slowest):.1f}; a gateway or radio link between is slow",
        )
    twice = [one for one in examination.exchanges if _answers_of(one) > 1]
    if twice:
        yield Symptom(
            Sign.TWICE,
            f"{len(twice)} of {len(examination.exchanges)}",
            "two meters have this address: take one off the line, change the other's",
        )
    others = {
        a.unit for one in examination.exchanges for a in one.heard.answers if a.unit != one.unit
    }
    if others:
        yield Symptom(
            Sign.ANOTHER_UNIT,
            f"unit {', '.join(map(str, sorted(others)))} answered",
            "an answer to somebody else's question: a second master, or a meter that is very slow",
        )


def _answers_of(exchange: Exchange) -> int:
    return sum(answer.unit == exchange.unit for answer in exchange.heard.answers)


_LOOKS: Final[Sequence[Callable[[Examination], Iterator[Symptom]]]] = (
    _talk,
    _elsewhere,
    _silence,
    _echo,
    _bent,
    _strange,
    _exceptions,
    _timing,
)
