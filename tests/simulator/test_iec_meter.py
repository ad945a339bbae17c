"""The simulated mode C meter: what it writes is what the village measured, and it fails as a real one fails.

Spoken to in bytes written out by hand, and read by the gateway's driver.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import reduce
from operator import xor
from pathlib import Path

import pytest

from openami.gateway.driver import LineSettings, MeterSettings, MeterSilent
from openami.gateway.drivers.iec62056 import Iec62056Driver
from openami.gateway.drivers.iec62056.map_files import load_map
from openami.profile import MeterSerial, Obis
from openami.simulator.display import quantities
from openami.simulator.faults import Readdressed, Silent, Slow
from openami.simulator.iec_line import HEARING_S, Conversation, IecLine
from openami.simulator.iec_meter import IecMeter
from openami.simulator.iec_server import serving, serving_pty
from openami.simulator.plan import plan_village
from openami.simulator.village import Village

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
VILLAGE = Village(plan_village(meters=3, seed=5, start=NOON))
ADDRESSES = {"10021": VILLAGE.plan.customers[0].serial, "10022": VILLAGE.plan.customers[1].serial}


def meter(address: str, *, clock_slow_s: int = 0) -> IecMeter:
    return IecMeter(
        load_map("generic-single-phase"),
        lambda: VILLAGE.measured(ADDRESSES[address]),
        maker_number=99_000_000 + int(address),
        utc_offset_minutes=330,
        clock_slow_s=clock_slow_s,
    )


def a_line(baudrate: int = 300) -> IecLine:
    return IecLine({address: meter(address) for address in ADDRESSES}, baudrate=baudrate)


def even(text: str) -> bytes:
    """Seven bits and even parity, digit by digit."""
    octets = bytearray()
    for character in text.encode("ascii"):
        ones = sum(character >> bit & 1 for bit in range(7))
        octets.append(character | (0x80 if ones % 2 else 0))
    return bytes(octets)


SIGN_ON = even("/?10021!\r\n")
ORDER = even("\x06050\r\n")


def test_a_meter_answers_as_the_standard_has_it() -> None:
    talk = Conversation(a_line())
    [said] = talk.heard(SIGN_ON, 300, 0.0)
    assert said.octets == even("/SIm5OpenAMI-1\r\n")
    assert said.baudrate == 300
    assert said.after_s == pytest.approx(10 * 10 / 300 + 0.02)
    [block] = talk.heard(ORDER, 300, 1.0)
    assert block.baudrate == 9600
    characters = bytes(octet & 0x7F for octet in block.octets)
    assert even(characters.decode("ascii")) == block.octets
    assert (characters[:1], characters[-5:-1]) == (b"\x02", b"!\r\n\x03")
    assert characters[-1] == reduce(xor, characters[1:-1])


def test_a_block_is_had_again_and_nothing_is_done_twice() -> None:
    talk = Conversation(a_line())
    talk.heard(SIGN_ON, 300, 0.0)
    [block] = talk.heard(ORDER, 300, 1.0)
    assert talk.heard(ORDER, 9600, 1.5) == []
    [again] = talk.heard(b"\x95", 9600, 2.0)
    assert again.octets == block.octets
    assert talk.heard(b"\x95", 9600, 2.5 + HEARING_S + 1) == []


@pytest.mark.parametrize(
    ("octets", "baudrate"),
    [
        (SIGN_ON, 9600),
        (even("/?10023!\r\n"), 300),
        (even("/?!\r\n"), 300),
        (b"/?10021!\r\n", 300),
        (ORDER, 300),
        (b"\x95", 300),
    ],
    ids=["another speed", "nobody's address", "which of two", "no parity", "not asked", "no block"],
)
def test_nobody_answers_what_is_not_for_him(octets: bytes, baudrate: int) -> None:
    assert Conversation(a_line()).heard(octets, baudrate, 0.0) == []


def test_an_order_that_comes_too_late_or_at_another_speed_is_not_heard() -> None:
    for order, baudrate, at_s in (
        (ORDER, 300, 5.0),
        (ORDER, 9600, 1.0),
        (even("\x06051\r\n"), 300, 1.0),
    ):
        talk = Conversation(a_line())
        talk.heard(SIGN_ON, 300, 0.0)
        assert talk.heard(order, baudrate, at_s) == []


def test_a_meter_alone_on_its_line_needs_no_address() -> None:
    talk = Conversation(IecLine({"10021": meter("10021")}))
    assert talk.heard(even("/?!\r\n"), 300, 0.0)
    assert talk.heard(even("/?00010021!\r\n"), 300, 0.0)


def test_what_goes_wrong_with_a_meter_goes_wrong_on_its_line() -> None:
    line = a_line()
    line.set_fault("10021", Silent())
    assert Conversation(line).heard(SIGN_ON, 300, 0.0) == []
    line.set_fault("10021", Slow(0.7))
    [late] = Conversation(line).heard(SIGN_ON, 300, 0.0)
    line.set_fault("10021", None)
    [well] = Conversation(line).heard(SIGN_ON, 300, 0.0)
    assert late.after_s == pytest.approx(well.after_s + 0.7)
    line.set_fault("10021", Readdressed(77))
    assert Conversation(line).heard(SIGN_ON, 300, 0.0) == []
    assert Conversation(line).heard(even("/?77!\r\n"), 300, 0.0)


# --- read by the gateway -------------------------------------------------------------------------


def settings(addresses: Sequence[str], **options: object) -> LineSettings:
    meters = [
        MeterSettings(
            ADDRESSES[address],
            {
                "map": "generic-single-phase",
                "address": address,
                "identity": 99_000_000 + int(address),
                "utc_offset_minutes": 330,
            },
        )
        for address in addresses
    ]
    return LineSettings("line", meters, {"silence_s": 0.05, "timeout_s": 0.3, **options})


async def read(line: LineSettings, serial: MeterSerial) -> dict[str, object]:
    async with Iec62056Driver.open(line) as opened:
        told = opened.meters[serial]
        readings = await told.read([info.obis for info in told.registers])
    return {str(reading.obis): reading.value for reading in readings}


def shown(address: str, code: str, decimals: int) -> Decimal:
    value = quantities(VILLAGE.measured(ADDRESSES[address]))[Obis.parse(code)]
    assert isinstance(value, Decimal)
    return round(value, decimals)


async def test_the_gateway_reads_what_the_village_measured_and_the_speed_is_changed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "tty"
    async with serving_pty(a_line(), path):
        line = settings(list(ADDRESSES), transport="serial", device=str(path))
        told = await read(line, ADDRESSES["10022"])
    assert told["96.1.0"] == str(99_000_000 + 10022)
    assert told["32.7.0"] == shown("10022", "32.7.0", 1)
    assert told["1.7.0"] == shown("10022", "1.7.0", 3)
    kwh = told["1.8.0"]
    assert isinstance(kwh, Decimal)
    assert 0 <= shown("10022", "1.8.0", 9) - kwh < Decimal("0.001")
    assert told["1.0.0"] == NOON.isoformat()
    assert not path.is_symlink()


async def test_what_comes_at_the_wrong_speed_is_noise(tmp_path: Path) -> None:
    """The gateway is held to 300 Bd: the meter is told to stay there, and is understood."""
    path = tmp_path / "tty"
    async with serving_pty(a_line(), path):
        serial = ADDRESSES["10021"]
        slow = settings(["10021"], transport="serial", device=str(path), baudrate_max=300)
        assert await read(slow, serial)
        other = settings(["10021"], transport="serial", device=str(path), baudrate=2400)
        with pytest.raises(MeterSilent):
            await read(other, serial)


async def test_a_device_server_has_one_speed_and_a_dead_meter_none() -> None:
    line = IecLine(
        {address: meter(address, clock_slow_s=900) for address in ADDRESSES}, baudrate=9600
    )
    async with serving(line) as port:
        reached = settings(list(ADDRESSES), transport="tcp", host="127.0.0.1", port=port)
        first, second = ADDRESSES.values()
        assert (await read(reached, first))["1.0.0"] == (NOON - timedelta(seconds=900)).isoformat()
        line.set_fault("10021", Silent())
        with pytest.raises(MeterSilent):
            await read(reached, first)
        assert await read(reached, second)
