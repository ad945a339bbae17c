"""Mode C off a wire: noise for characters, characters for blocks, lines for values. Anybody may be on the line."""

from collections.abc import Sequence
from importlib.resources import files

from tests.fuzz.target import Target

from openami.gateway.drivers.iec62056.block import Block, BlockReader
from openami.gateway.drivers.iec62056.characters import Parity, check_character, to_send
from openami.gateway.drivers.iec62056.data_sets import read_data_sets
from openami.gateway.drivers.iec62056.dialogue import Listen, Manner, read_out
from openami.gateway.drivers.iec62056.errors import ReadOutError, UnfitAnswer
from openami.gateway.drivers.iec62056.map_files import load_map, shipped_maps
from openami.gateway.drivers.iec62056.meter_map import read_map
from openami.gateway.drivers.iec62056.read_out import understood
from openami.gateway.drivers.iec62056.times import Zone
from openami.gateway.map_files import MapError

_MAP = load_map("generic-three-phase")
_MANNERS = (
    Manner(baudrate=300, baudrate_max=19200),
    Manner(baudrate=9600, baudrate_max=9600, parity=Parity.NONE),
)


def block(data: bytes) -> None:
    """A block stands in what came, with its check character; how the bytes were cut makes no difference."""
    whole, piecemeal = _fed([data]), _fed([data[at : at + 1] for at in range(len(data))])
    assert whole == piecemeal
    if whole is not None and whole.sound:
        covered = whole.data + b"\x03"
        assert b"\x02" + covered + bytes((check_character(covered),)) in data


def _fed(pieces: Sequence[bytes]) -> Block | None:
    reader = BlockReader()
    for piece in pieces:
        try:
            found = reader.feed(piece)
        except UnfitAnswer:
            return None
        if found is not None:
            return found
    return None


def told(data: bytes) -> None:
    """Every value stands in the data as the meter wrote it, and every register is one of the map."""
    try:
        sets = read_data_sets(data)
        read = understood(data, _MAP, Zone(330))
    except UnfitAnswer:
        return
    for data_set in sets:
        assert data_set.code.encode() in data
        for value in data_set.values:
            assert value.text.encode() in data
    assert set(read.readings) | set(read.left_out) <= set(_MAP.registers)
    assert not set(read.readings) & set(read.left_out)
    for obis, reading in read.readings.items():
        assert reading.unit == _MAP.registers[obis].info.unit


def dialogue(data: bytes) -> None:
    """A meter that answers with these, one after the other: data that stood in them, or a ReadOutError."""
    for manner in _MANNERS:
        answers = iter(data.split(b"|"))
        talk = read_out("10021", manner)
        try:
            act = next(talk)
            while True:
                act = talk.send(next(answers, b"") if isinstance(act, Listen) else b"")
        except StopIteration as done:
            assert to_send(done.value, manner.parity) in data.replace(b"|", b"")
        except ReadOutError:
            continue


def meter_map(data: bytes) -> None:
    """MapError in one line, or a map with a register."""
    try:
        read = read_map(data.decode(errors="replace"))
    except MapError as error:
        assert "\n" not in str(error), str(error)
        return
    assert read.registers


_DATA = (
    b"C.1.0(10021)\r\n0.9.1(143000)\r\n0.9.2(260622)\r\nF.F(00)\r\n1-0:1.8.0*255(001842500*Wh)\r\n"
    b"1.8.0*01(1*kWh)\r\n1.6.0(01.2*kW)(2606221430)\r\n32.7.0(230.1)31.7.0(004.2*A)\r\n!\r\n"
)
_BLOCK = b"\x02" + _DATA + b"\x03" + bytes((check_character(_DATA + b"\x03"),))


def _dialogues() -> Sequence[bytes]:
    even = to_send(_BLOCK, Parity.EVEN)
    who = to_send(b"/ISk5MT174\r\n", Parity.EVEN)
    return (who + b"|" + even, b"/ISkEMT174\r\n|" + _BLOCK, who + b"|" + even[:40] + b"||" + even)


def _maps() -> Sequence[bytes]:
    home = files("openami.gateway.drivers.iec62056").joinpath("maps")
    return [home.joinpath(f"{name}.toml").read_bytes() for name in shipped_maps()]


TARGETS = (
    Target("iec62056_block", block, lambda: (_BLOCK, b"\x80" + _BLOCK + _BLOCK), 80),
    Target("iec62056_read_out", told, lambda: (_DATA,), 100),
    Target("iec62056_dialogue", dialogue, _dialogues, 100),
    Target("iec62056_map", meter_map, _maps, 60),
)
