"""IEC 62056-21: the sign-on, and what the meter that hears it calls itself. Pure.

``/?!`` and a line's end, seven bits with even parity: every meter on the line answers, and tells the speed it can
go on with. One that answers alone is asked for its read-out at the speed it already has, for its serial number;
programming mode is never asked for (decision 0060). The eighth bit is the parity, set and checked here, so that a
port that knows only eight bits will do.
"""

import re
from typing import Final

from openami.gateway.scan.conversation import Conversation, Pace, hear
from openami.gateway.scan.findings import (
    Address,
    Clash,
    Finding,
    Found,
    Noise,
    PortSetting,
    Protocol,
)

SIGN_ON: Final = b"/?!\r\n"
READ_OUT_PAUSE_S: Final = 1.5  # IEC 62056-21: the longest reaction time of a meter
READ_OUT_BYTES_MAX: Final = 2048  # 70 s at 300 baud; the serial number stands in its first lines
_BAUDRATES: Final = {"0": 300, "1": 600, "2": 1200, "3": 2400, "4": 4800, "5": 9600, "6": 19200}
_END: Final = 0x03  # ETX; one check character follows
_SECOND_WITHIN_S = 0.6  # a second meter answers later; our choice is due within 1.5 s
_LINE_PAUSE_S = 1.0  # some meters think between two lines of their read-out
# C.1.0 or 0.0.0 or 96.1.0, with or without medium and channel.
_serial_number = re.compile(
    rb"(?:^|[\n\x02:])(?:C\.1\.0|96\.1\.0|0\.0\.0|C\.1)(?:\*\d+)?\(([^)]{1,32})\)"
).search
_identification = re.compile(rb"/([A-Z]{2}[A-Za-z])(.)((?:\\.)*)([^\r\n/!]{0,16})\r\n").findall


def look_for(pace: Pace, setting: PortSetting) -> Conversation[tuple[Finding, ...]]:
    """Say who answers the sign-on; several at once garble one another."""
    question = with_even_parity(SIGN_ON)
    received = yield from hear(question, Pace(pace.wait_s, max(pace.quiet_s, _SECOND_WITHIN_S)))
    received = received.removeprefix(question)
    if not received:
        return ()
    text, bad = without_parity(received)
    told = _identification(text)
    address = Address(Protocol.IEC_62056_21)
    if len(told) > 1:
        names = tuple(_name(one) for one in told)
        return (Clash(address, setting, True, f"{len(told)} meters answered the sign-on", names),)
    if not told:
        if text.startswith(b"/") or b"\r\n" in text:
            evidence = "the answer to the sign-on is garbled: several meters at once, or a bad line"
            return (Clash(address, setting, certain=False, evidence=evidence),)
        return (Noise(setting, received, "no identification came to the sign-on, but bytes"),)
    serial = yield from _serial(pace, setting)
    speed = _BAUDRATES.get(told[0][1].decode("latin-1"), setting.baudrate)
    remarks = [f"goes on at {speed} baud"]
    if bad:
        remarks.append(f"{bad} characters had wrong parity")
    return (Found(address, setting, serial=serial, says=_name(told[0]), remarks=tuple(remarks)),)


def read_out_at(setting: PortSetting) -> bytes:
    """Return the option select that asks for the data read-out at the speed the meter already has."""
    (speed,) = (letter for letter, baudrate in _BAUDRATES.items() if baudrate == setting.baudrate)
    return b"\x060" + speed.encode() + b"0\r\n"


def _serial(pace: Pace, setting: PortSetting) -> Conversation[str | None]:
    """Return the serial number of the read-out. It is heard to its end: until then the line is the meter's."""
    patient = Pace(READ_OUT_PAUSE_S, max(pace.quiet_s, _LINE_PAUSE_S))
    question = with_even_parity(read_out_at(setting))
    received = yield from hear(
        question,
        patient,
        whole=lambda heard: _END in heard[-2:] or len(heard) >= READ_OUT_BYTES_MAX,
    )
    text, _ = without_parity(received)
    found = _serial_number(text)
    return found[1].decode("ascii", "replace").strip() or None if found else None


def _name(identification: tuple[bytes, ...]) -> str:
    maker, _, _, rest = identification
    return f"{maker.decode('ascii')} {rest.decode('ascii', 'replace')}".strip()


def with_even_parity(text: bytes) -> bytes:
    """Return seven-bit characters with their parity as the eighth bit."""
    return bytes(octet | (octet.bit_count() & 1) << 7 for octet in text)


def without_parity(octets: bytes) -> tuple[bytes, int]:
    """Return the seven-bit characters, and how many had the wrong parity."""
    return bytes(octet & 0x7F for octet in octets), sum(o.bit_count() & 1 for o in octets)
