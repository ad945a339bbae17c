"""Modbus: who answers at an address, whether it is one meter, and which shipped map makes sense of it. Pure.

Nothing is sent but functions 3 and 4, to one unit at a time (decision 0060). Any answer proves a meter, an
exception too: "no such register" is said by somebody.

RTU answers name their unit, so a late one is booked to the meter it came from and not to the one asked.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from openami.gateway.drivers.modbus.decode import identity_of, value_of
from openami.gateway.drivers.modbus.frames import EXCEPTION_BIT, FrameError, words_of
from openami.gateway.drivers.modbus.map_files import load_map, shipped_maps
from openami.gateway.drivers.modbus.plan import Block, block_for
from openami.gateway.drivers.modbus.register_map import Area, Field, Ratio, Register, RegisterMap
from openami.gateway.scan.conversation import Ask, Conversation, Pace, hear
from openami.gateway.scan.findings import (
    Address,
    Clash,
    Finding,
    Found,
    Noise,
    PortSetting,
)
from openami.gateway.scan.framing import FUNCTIONS, Answer, Framing, Heard
from openami.profile import Obis

UNIT_MAX: Final = 247  # the serial line's last address (Modbus over serial line 1.02, 2.2)
CONFIRMATIONS: Final = 3
"""How often a meter that answered is asked again, so that two at one address show themselves."""
LATE_WAIT_FACTOR: Final = 5
"""A meter that answered late is asked again with so many times the patience."""
KNOWN_WAIT_FACTOR: Final = 3
"""A meter that is known to be there is waited for so many times longer: silence is rare, and costs a map."""
UNASKED_WAITS: Final = 3
"""So many waits the line is listened to before bent answers are called a clash."""
LATE_ANSWERS_MAX: Final = 8  # chunks of them are let go by before the meter is asked again
TWO_ANSWERS_BYTES_MAX: Final = 2 * 256  # a frame has at most 256 bytes; more is a line that babbles
_EXPLAINED = {0x0A, 0x0B}  # a network gateway's word for "no meter there"
_VOLTAGE, _FREQUENCY = Obis.parse("32.7.0"), Obis.parse("14.7.0")
# Every meter on a live line has a voltage, and 80 V is less than any of its nominal voltages.
_VOLTAGE_MIN = 80
_RATIOS: Final[Mapping[Ratio, Decimal]] = dict.fromkeys(Ratio, Decimal(1))
_SERIAL_CHARS_MAX = 40  # the longest serial number on a nameplate we know has 20


@dataclass(frozen=True, slots=True)
class Asker:
    """One unit's questions, framed as the line wants them."""

    framing: Framing
    unit: int
    pace: Pace
    setting: PortSetting | None

    @property
    def address(self) -> Address:
        return Address(self.framing.protocol, (("unit", self.unit),))

    def read(self, block: Block, *, patiently: bool = False) -> Conversation[Heard]:
        """Ask for a block; ``patiently`` listens on, for a second answer to the same question."""
        pdu = bytes((block.area.function,)) + _two(block.address) + _two(block.count)
        question = self.framing.question(self.unit, pdu)

        def answered(received: bytes) -> bool:
            return enough(received) or bool(self.framing.heard(received, question).answers)

        def enough(received: bytes) -> bool:
            return len(received) >= TWO_ANSWERS_BYTES_MAX

        if patiently:
            patient = replace(self.pace, quiet_s=self.pace.wait_s)
            received = yield from hear(question, patient, whole=enough)
        else:
            received = yield from hear(question, self.pace, whole=answered)
        return self.framing.heard(received, question)


def look_for(
    framing: Framing,
    unit: int,
    pace: Pace,
    setting: PortSetting | None,
    *,
    functions: Sequence[int] = FUNCTIONS,
) -> Conversation[tuple[Finding, ...]]:
    """Say who answers at a unit's address: nobody, a meter, two, or noise."""
    assert 1 <= unit <= 0xFF
    asker = Asker(framing, unit, pace, setting)
    noise = b""
    for function in functions:
        heard = yield from asker.read(_block(function))
        late = _late(heard.answers, unit, function)
        if late is not None:
            return (yield from _late_answering(asker, late))
        if any(_is_of(answer, unit) for answer in heard.answers) or heard.rest:
            findings = yield from _confirmed(asker, _block(function), late=False)
            if findings and not isinstance(findings[0], Noise):
                return findings
            noise = heard.rest or noise
    return (Noise(setting, noise, f"no answer from unit {unit}, but bytes"),) if noise else ()


def _late(answers: Sequence[Answer], unit: int, function: int) -> Answer | None:
    """Return the first answer that is to an older question: of another unit or another function."""
    for answer in answers:
        if not 1 <= answer.unit <= UNIT_MAX:
            continue  # 0 is everybody, and is never asked
        if answer.unit != unit or answer.pdu[0] & ~EXCEPTION_BIT != function:
            return answer
    return None


def _late_answering(asker: Asker, answer: Answer) -> Conversation[tuple[Finding, ...]]:
    patient = Pace(asker.pace.wait_s * LATE_WAIT_FACTOR, asker.pace.quiet_s)
    for _ in range(LATE_ANSWERS_MAX):
        if not (yield Ask(b"", patient.wait_s)):
            break
    patient_asker = replace(asker, unit=answer.unit, pace=patient)
    block = _block(answer.pdu[0] & ~EXCEPTION_BIT)
    return (yield from _confirmed(patient_asker, block, late=True))


def _is_of(answer: Answer, unit: int) -> bool:
    if answer.unit != unit:
        return False
    return not (answer.is_exception and answer.pdu[1] in _EXPLAINED)


def _confirmed(asker: Asker, block: Block, *, late: bool) -> Conversation[tuple[Finding, ...]]:
    """Ask again and listen on: one meter answers each time once and whole."""
    whole, bent, twice, echoed = 0, 0, False, False
    for _ in range(CONFIRMATIONS):
        heard = yield from asker.read(block, patiently=True)
        ours = [answer for answer in heard.answers if _is_of(answer, asker.unit)]
        echoed |= heard.echoed
        whole += len(ours) == 1 and not heard.rest
        twice |= len(ours) > 1
        bent += bool(heard.rest)
    if twice:
        clash = "two answers came to one question"
        return (Clash(asker.address, asker.setting, certain=True, evidence=clash),)
    if bent:
        unasked = yield Ask(b"", asker.pace.wait_s * UNASKED_WAITS)
        if unasked:
            return (Noise(asker.setting, unasked, "the line talks though nobody asks"),)
    if bent and whole + bent >= 2:
        clash = f"{bent} of {CONFIRMATIONS} answers were no whole frames: two meters talking at once, or a bad line"
        return (Clash(asker.address, asker.setting, certain=False, evidence=clash),)
    if not whole:
        return (Noise(asker.setting, b"", "an answer came once and not again"),) if bent else ()
    remarks = []
    if late:
        remarks.append("answers late: it needs more time than others")
    if whole < CONFIRMATIONS:
        remarks.append(f"answered {whole} of {CONFIRMATIONS} questions")
    if echoed:
        remarks.append("the adapter hears its own questions (echo)")
    return (yield from _identified(asker, tuple(remarks)))


# --- who it is -----------------------------------------------------------------------------------


def _identified(asker: Asker, remarks: tuple[str, ...]) -> Conversation[tuple[Finding, ...]]:
    pace = Pace(asker.pace.wait_s * KNOWN_WAIT_FACTOR, asker.pace.quiet_s * KNOWN_WAIT_FACTOR)
    inquiry = _Inquiry(replace(asker, pace=pace))
    fitting = []
    for register_map in _shipped():
        fits = yield from _fits(inquiry, register_map)
        if fits:
            fitting.append(register_map)
    serials: list[str] = []
    for register_map in fitting:
        if register_map.identify is not None and not serials:
            serials = yield from _serials(inquiry, register_map.identify)
    told = tuple(dict.fromkeys(serials))
    if len(told) > 1:
        evidence = f"it says it is {' and then '.join(map(repr, told))}"
        return (Clash(asker.address, asker.setting, True, evidence, told),)
    if inquiry.bent > 1:
        clash = (
            f"{inquiry.bent} of its answers were no whole frames where meters differ: two of them in step, "
            "or a bad line"
        )
        return (Clash(asker.address, asker.setting, certain=False, evidence=clash),)
    return (
        Found(
            asker.address,
            asker.setting,
            serial=told[0] if told else None,
            maps=tuple(register_map.id for register_map in fitting),
            remarks=remarks,
        ),
    )


class _Inquiry:
    """One unit's registers, each block asked for once, and how many answers came bent."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._answers: dict[Block, tuple[int, ...] | None] = {}
        self.bent = 0

    def words(self, block: Block) -> Conversation[tuple[int, ...] | None]:
        """Return a block's registers; None where the unit has none to give."""
        if block not in self._answers:
            self._answers[block] = yield from self.words_now(block)
        return self._answers[block]

    def words_now(self, block: Block) -> Conversation[tuple[int, ...] | None]:
        """Ask again though it was asked before."""
        heard = yield from self._asker.read(block)
        for answer in heard.answers:
            if answer.unit == self._asker.unit:
                try:
                    return words_of(answer.pdu, block)
                except FrameError:
                    return None
        self.bent += bool(heard.rest)
        return None


def _shipped() -> Iterator[RegisterMap]:
    return (load_map(name) for name in shipped_maps())


def _fits(inquiry: _Inquiry, register_map: RegisterMap) -> Conversation[bool]:
    """Whether voltage and frequency, as this map reads them, are ones a live line has."""
    known = [
        register_map.registers[code]
        for code in (_VOLTAGE, _FREQUENCY)
        if code in register_map.registers
    ]
    for register in known:
        words = yield from inquiry.words(block_for(register.field))
        if words is None or not _plausible(register, words):
            return False
    return bool(known)


def _plausible(register: Register, words: Sequence[int]) -> bool:
    value = value_of(register, words, _RATIOS)
    if value is None:  # "not available": some meters know no frequency, all know a voltage
        return register.info.obis != _VOLTAGE
    if isinstance(value, str):
        return False
    low = register.info.minimum or 0
    if register.info.obis == _VOLTAGE:
        low = max(low, _VOLTAGE_MIN)
    return low <= value and (register.info.maximum is None or value <= register.info.maximum)


def _serials(inquiry: _Inquiry, field: Field) -> Conversation[list[str]]:
    """Return the serial number as it is told each time it is asked for."""
    told = []
    for _ in range(CONFIRMATIONS):
        words = yield from inquiry.words_now(block_for(field))
        serial = "" if words is None else identity_of(field, words)
        if not serial.strip("0") or len(serial) > _SERIAL_CHARS_MAX:
            continue
        told.append(serial)
    return told


_AREA_OF: Final = {area.function: area for area in Area}


def _block(function: int) -> Block:
    return Block(_AREA_OF[function], 0, 1)


def _two(number: int) -> bytes:
    return number.to_bytes(2, "big")
