"""What a line nobody has described says to a scan, and to the doctor. The first byte chooses the protocol."""

import tomllib
from collections.abc import Callable, Iterator, Sequence

from tests.drivers.line_double import crc
from tests.fuzz.target import Target

from openami.cli.scan import sentence
from openami.gateway.doctor.spellings import Expected, plausible, spellings
from openami.gateway.doctor.symptoms import Examination, Exchange, Sign, symptoms
from openami.gateway.drivers.modbus.plan import Block
from openami.gateway.drivers.modbus.register_map import Area
from openami.gateway.scan import dlms, framing, iec, modbus
from openami.gateway.scan.conversation import Conversation, Pace
from openami.gateway.scan.findings import Clash, Finding, Found, PortSetting, ScanResult
from openami.gateway.scan.proposal import Device, Endpoint, configuration, moves

_ASKS_MAX = 8192  # of one conversation; each may wait for one octet at a time
_CHUNK_BYTES_MAX = 64
_PACE = Pace(0.2, 0.05)
_AT = PortSetting(9600)
_OPTICAL = PortSetting(300, "E", 1, 7)
_BLOCK = Block(Area.HOLDING, 0x000C, 2)

_PORT = Device("/dev/ttyUSB0")
_NETWORK = Endpoint("192.0.2.1", 502)
_Begin = Callable[[], Conversation[tuple[Finding, ...]]]

_BEGINNINGS: Sequence[tuple[Device | Endpoint, _Begin]] = (
    (_PORT, lambda: modbus.look_for(framing.RtuFraming(), 1, _PACE, _AT)),
    (_NETWORK, lambda: modbus.look_for(framing.MbapFraming(), 1, _PACE, None)),
    (_PORT, lambda: dlms.look_for_hdlc(1, 16, _PACE, _AT)),
    (_NETWORK, lambda: dlms.look_for_wrapper(1, _PACE)),
    (_PORT, lambda: iec.look_for(_PACE, _OPTICAL)),
)


def _chunks(data: bytes) -> Iterator[bytes]:
    """Yield what arrives: each chunk after its length; nothing for ever when there is no more."""
    at = 0
    while at < len(data):
        size = data[at] % (_CHUNK_BYTES_MAX + 1)
        yield data[at + 1 : at + 1 + size]
        at += 1 + size
    while True:
        yield b""


def scan(data: bytes) -> None:
    """A scan comes to an end, and what it says is printable; its configuration is TOML."""
    if not data:
        return
    place, begin = _BEGINNINGS[data[0] % len(_BEGINNINGS)]
    findings = _held(begin(), _chunks(data[1:]))
    for finding in findings:
        assert sentence(finding).isprintable()
        assert isinstance(finding, Found | Clash) or finding.remark
    result = ScanResult(findings=findings, questions=1, elapsed_s=0.0)
    tables = tomllib.loads(configuration(result, place))
    assert sum(len(line["meter"]) for line in tables.get("line", ())) == len(result.meters)
    assert all(str(move) for move in moves(result))


def _held(
    conversation: Conversation[tuple[Finding, ...]], arriving: Iterator[bytes]
) -> tuple[Finding, ...]:
    try:
        next(conversation)
        for _ in range(_ASKS_MAX):
            conversation.send(next(arriving))
    except StopIteration as end:
        found: tuple[Finding, ...] = end.value
        return found
    raise AssertionError(f"no end after {_ASKS_MAX} questions")


def doctor(data: bytes) -> None:
    """Every sign says what to look at, and answers that are good are told; bytes have spellings in every order."""
    rtu = framing.RtuFraming()
    question = rtu.question(1, b"\x03\x00\x0c\x00\x02")
    arriving = _chunks(data)
    exchanges = [
        Exchange(1, _BLOCK, question, received, rtu.heard(received, question), 0.05)
        for received in (next(arriving) for _ in range(5))
    ]
    found = symptoms(Examination(setting=_AT, overheard=next(arriving), exchanges=exchanges))
    assert found
    for one in found:
        assert one.look_at or one.sign is Sign.GOOD
        assert one.evidence.isprintable()
    raw = data[:4].ljust(4, b"\0")
    for good in plausible(spellings(raw), Expected("x", "V", shown=None)):
        assert good.reason


def _chunked(*chunks: bytes) -> bytes:
    return b"".join(bytes((len(chunk),)) + chunk for chunk in chunks)


def _rtu(text: str) -> bytes:
    body = bytes.fromhex(text)
    return body + crc(body)


_ANSWER = _rtu("01 03 02 09 00")
_UA = bytes.fromhex("7ea01f2102 2173 56f4 8180120501800601800704000000010804000000 01 533b 7e")
_SCANS = (
    b"\0" + _chunked(*[_ANSWER] * 4, _rtu("01 83 02")),
    b"\0" + _chunked(_ANSWER + _ANSWER, _ANSWER + _ANSWER, _ANSWER, b"\xff\x00"),
    b"\1" + _chunked(bytes.fromhex("0001 0000 0005 01 03 02 0900")),
    b"\2" + _chunked(_UA),
    b"\3" + _chunked(bytes.fromhex("0001 0001 0010 0003 d80101")),
    b"\4"
    + _chunked(iec.with_even_parity(b"/HXE5HXE110\r\n"), b"", iec.with_even_parity(b"C.1.0(7)")),
)
_LINES = (
    _chunked(*[_rtu("01 03 04 43 66 80 00")] * 5),
    _chunked(_rtu("01 83 02"), b"", _rtu("01 03 04 43 66 80 00")[:-1], b"\x80\xf8", b""),
    _chunked(iec.with_even_parity(b"/HXE5HXE110\r\n")),
)

TARGETS = (
    Target("scan", scan, lambda: _SCANS, 100),
    Target("doctor", doctor, lambda: _LINES, 100),
)
