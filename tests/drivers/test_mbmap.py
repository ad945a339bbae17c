"""Maps in the mbmap-2 format made into ours: what is carried, what is not and why, and a meter read by it."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from openami.cli import main
from openami.gateway.driver import LineSettings, MeterSettings, PollGroup, RelayControl
from openami.gateway.driver import RelayPosition as Position
from openami.gateway.drivers.modbus import ModbusDriver
from openami.gateway.drivers.modbus.frames import rtu_pdu
from openami.gateway.drivers.modbus.mbmap import CannotImport, import_map
from openami.gateway.drivers.modbus.mbmap.map_text import map_text
from openami.gateway.drivers.modbus.mbmap.registers import certainty_of
from openami.gateway.drivers.modbus.readings import decode_exchange
from openami.gateway.drivers.modbus.register_map import (
    Area,
    Certainty,
    NumberType,
    Part,
    RegisterMap,
    WordOrder,
    read_map,
)
from openami.profile import MeterSerial, Obis
from openami.simulator.display import quantities
from openami.simulator.modbus_meter import ModbusMeter
from openami.simulator.modbus_server import ModbusLine, serving
from openami.simulator.plan import plan_village
from openami.simulator.village import Village
from openami.toml_text import read_toml

_FILES = Path(__file__).with_name("mbmap")
_MBMAP = (_FILES / "meter.json").read_text()
_OVERLAY = (_FILES / "overlay.toml").read_text()
_SERIAL = MeterSerial("EX-1")


@pytest.fixture(scope="module")
def imported() -> RegisterMap:
    return read_map(import_map(_MBMAP, _OVERLAY).text)


def test_where_a_register_is_and_how_it_is_spelled_is_the_files(imported: RegisterMap) -> None:
    """Addresses less the base, in our words for areas, types and word order; scale times the unit's."""
    found = {
        str(obis): (r.field.area, r.field.address, r.field.type, r.scale, r.info.unit)
        for obis, r in imported.registers.items()
    }
    assert found["32.7.0"] == (Area.INPUT, 0, NumberType.U16, Decimal("0.1"), "V")
    assert found["31.7.0"] == (Area.INPUT, 1, NumberType.I32, Decimal("0.001"), "A")
    assert found["1.7.0"] == (Area.INPUT, 3, NumberType.I16, Decimal("0.001"), "kW")
    assert found["14.7.0"] == (Area.INPUT, 4, NumberType.FLOAT32, Decimal(1), "Hz")
    assert found["13.7.0"] == (Area.INPUT, 6, NumberType.I16, Decimal("0.001"), "1")
    assert found["1.8.0"] == (Area.HOLDING, 256, NumberType.U32, Decimal("0.01"), "kWh")
    assert {r.field.word_order for r in imported.registers.values()} == {WordOrder.LITTLE}


def test_what_it_means_is_the_overlays(imported: RegisterMap) -> None:
    energy = imported.registers[Obis.parse("1.8.0")].info
    assert (energy.group, energy.monotonic, energy.rollover) == (
        PollGroup.BILLING,
        True,
        42_949_672.96,
    )
    assert imported.registers[Obis.parse("2.7.0")].part is Part.NEGATIVE
    assert imported.registers[Obis.parse("14.7.0")].decimals == 2
    assert imported.registers[Obis.parse("96.3.10")].values[2] == "ready_for_reconnection"
    assert imported.relay is not None
    assert (imported.relay.address, imported.relay.write_function) == (512, 6)
    assert imported.identify is not None
    assert (imported.identify.address, imported.identify.count) == (513, 4)
    assert imported.limits.max_gap == 4


def test_sentinels_serial_line_and_sources_are_carried(imported: RegisterMap) -> None:
    assert imported.registers[Obis.parse("1.7.0")].sentinels == {0x7FFF}
    assert imported.registers[Obis.parse("31.7.0")].sentinels == {0x80000000}
    assert (imported.serial.baudrate, imported.serial.parity, imported.serial.stopbits) == (
        *(19200, "E"),
        1,
    )
    assert imported.limits.max_read_registers == 40
    assert imported.source == ("EX-1P Modbus description, 1.4", "the meter itself")


def test_how_sure_a_register_is_follows_from_x_status_or_the_overlay(imported: RegisterMap) -> None:
    marks = {str(obis): r.certainty for obis, r in imported.registers.items()}
    assert imported.certainty is Certainty.UNVERIFIED
    assert marks["32.7.0"] is Certainty.UNVERIFIED  # the file's own
    assert marks["1.7.0"] is Certainty.FIELD  # the register's own
    assert marks["2.8.0"] is Certainty.MANUAL  # the overlay's
    sure = import_map(_MBMAP, 'certainty = "field"\n' + _OVERLAY)
    assert read_map(sure.text).certainty is Certainty.FIELD


@pytest.mark.parametrize(
    ("status", "mark"),
    [
        ("converted automatically, not verified", Certainty.UNVERIFIED),
        ("Unverified", Certainty.UNVERIFIED),
        ("untested draft", Certainty.UNVERIFIED),
        ("Verified on firmware 1.4", Certainty.FIELD),
        ("tested", Certainty.FIELD),
        ("from the manual", Certainty.MANUAL),
        ("", Certainty.UNVERIFIED),
        ("beautiful", Certainty.UNVERIFIED),
    ],
)
def test_a_status_is_a_mark_of_certainty(status: str, mark: Certainty) -> None:
    assert certainty_of(status) is mark


def test_golden_frames_of_the_overlay_decode(imported: RegisterMap) -> None:
    (golden,) = imported.golden
    request, response = (rtu_pdu(bytes.fromhex(t))[1] for t in (golden.request, golden.response))
    told = {str(r.obis): str(r.value) for r in decode_exchange(imported, request, response)}
    assert told == golden.expect


async def test_a_meter_is_read_and_switched_with_what_was_imported(tmp_path: Path) -> None:
    """A simulated meter of this type, through the command's file and the driver."""
    result = _run("-o", tmp_path / "ex-1p.toml")
    assert result.exit_code == 0, result.stderr
    plan = plan_village(meters=4, seed=2, start=datetime(2026, 6, 22, 13, 30, tzinfo=UTC))
    village = Village(plan)
    village.advance(village.now_ms + 3_600_000)
    customer = next(c for c in plan.customers if c.prepaid)
    ordered: list[Position] = []
    meter = ModbusMeter(
        read_map((tmp_path / "ex-1p.toml").read_text()),
        lambda: village.measured(customer.serial),
        maker_number=99_000_1,
        order_relay=ordered.append,
    )
    options = {"unit": 1, "map": "ex-1p.toml", "identity": "990001"}
    async with serving(ModbusLine({1: meter})) as port:
        settings = LineSettings(
            "imported",
            [MeterSettings(_SERIAL, options)],
            {"transport": "tcp", "host": "127.0.0.1", "port": port},
            tmp_path,
        )
        async with ModbusDriver.open(settings) as line:
            read = line.meters[_SERIAL]
            assert isinstance(read, RelayControl)
            readings = await read.read([info.obis for info in read.registers])
            await read.set_relay(Position.DISCONNECTED)
    assert ordered == [Position.DISCONNECTED]
    shown = quantities(village.measured(customer.serial))
    assert {str(r.obis) for r in readings} == {
        *("32.7.0", "31.7.0", "1.7.0", "2.7.0", "16.7.0", "14.7.0", "13.7.0"),
        *("1.8.0", "2.8.0", "96.3.10"),
    }
    for reading in readings:
        meant = shown[reading.obis]
        if isinstance(meant, str):
            assert reading.value == meant
        else:
            assert isinstance(reading.value, int | Decimal)
            assert abs(reading.value - meant) <= Decimal("0.05"), reading


# --- what cannot be carried ----------------------------------------------------------------------


def _mbmap(change: Callable[[dict[str, Any]], object]) -> str:
    document = json.loads(_MBMAP)
    change(document)
    return json.dumps(document)


def _in_register(called: str, /, **changes: object) -> Callable[[dict[str, Any]], object]:
    def change(document: dict[str, Any]) -> None:
        register = next(r for r in document["registers"] if r["name"] == called)
        for key, value in changes.items():
            register.pop(key, None) if value is None else register.update({key: value})

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            _in_register("Voltage", type="bitfield16"),
            "register 'Voltage': type 'bitfield16' cannot",
        ),
        (
            _in_register("Voltage", type="f64"),
            "'f64' cannot be read: whole numbers of 16, 32 or 64",
        ),
        (_in_register("Voltage", access="w"), "access is 'w': it cannot be read"),
        (_in_register("Voltage", access="x"), "access is 'x': it cannot be read"),
        (_in_register("Voltage", area="coil"), "its area is 'coil': input and holding"),
        (_in_register("Voltage", area=None), "its area is not told"),
        (_in_register("Voltage", address=0), "address 0 less the base 1 is no address"),
        (_in_register("Voltage", address=65537), "address 65537 less the base 1"),
        (_in_register("Voltage", unit="furlong"), "its unit is 'furlong' and 32.7.0 is in 'V'"),
        (_in_register("Voltage", unit=None), "its unit is '' and 32.7.0 is in 'V'"),
        (_in_register("Voltage", scale=0), "its scale is not a number other than 0"),
        (_in_register("Voltage", scale=1e-12), "at most 9 decimals"),
        (_in_register("Voltage", scale=1e300), "its scale has more than 20 digits"),
        (_in_register("Voltage", offset=5), "unknown key 'offset'"),
        (_in_register("Voltage", name="Volts"), "register 'Voltage': the map has no register of"),
        (_in_register("Current", name="Voltage"), "2 registers have this name: write group/name"),
        (
            _in_register("Relay", access="r"),
            "relay 'Relay': its access is 'r': it cannot be written",
        ),
        (_in_register("Relay", type="u32"), "a relay is one holding register"),
        (_in_register("Serial number", type="float32"), "a serial number is a whole number or a"),
        (lambda d: d.update(mbmap=1), "it is not an mbmap file of version 2"),
        (
            lambda d: d.update(endian="big"),
            r"unknown key 'endian'.*ignore = \[.endian.\] in the overlay",
        ),
        (lambda d: d.update(byte_order="little"), "byte order 'little' cannot be read"),
        (lambda d: d.update(word_order="middle"), "word order 'middle' is neither big nor little"),
        (lambda d: d.update(protocol="m-bus"), "protocol 'm-bus' is not Modbus"),
        (lambda d: d.update(databits=7), "7 data bits: RTU has 8"),
        (lambda d: d.update(parity="mark"), "parity 'mark' is none of none, even and odd"),
        (lambda d: d.update(baudrate=9601), r"serial\.baudrate: Invalid enum value 9601"),
        (lambda d: d.update(sources=[], source=""), "it names no source"),
        (lambda d: d.update(sources=7), "source: a text is expected"),
        (lambda d: d["sentinels"].update(overflow=1), "carried by type, and 'overflow' is none"),
        (lambda d: d["sentinels"].update(u16=70_000), "the sentinel 70000 does not fit u16"),
        (lambda d: d["sentinels"].update(u16="many"), "a sentinel of u16 is no whole number"),
        (lambda d: d.pop("vendor"), "'vendor' is missing"),
        (lambda d: d.update(vendor="\ud800"), "half a character"),
    ],
)
def test_what_cannot_be_carried_is_told_with_its_place(
    change: Callable[[dict[str, Any]], object], message: str
) -> None:
    with pytest.raises(CannotImport, match=message):
        import_map(_mbmap(change), _OVERLAY)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("decimals = 2", "", "register 'Frequency': a float32 needs its decimals"),
        (
            "words = 4",
            "",
            "identify 'Serial number': how many registers the text takes is not told",
        ),
        ('obis = "32.7.0"', 'obis = "32.7"', "'32.7' is not an OBIS code"),
        ('obis = "32.7.0"', 'obis = "128.9.9"', "128.9.9 is not in the register list"),
        ('obis = "32.7.0"', 'obis = "31.7.0"', "its unit is 'V' and 31.7.0 is in 'A'"),
        (
            'obis = "2.8.0"',
            'obis = "1.8.0"',
            r"register map they make: register\[6\]: 1.8.0 stands",
        ),
        ('obis = "32.7.0"', 'obis = "32.7.0"\nwords = 2', "words goes with a text"),
        (
            'obis = "32.7.0"',
            'obis = "32.7.0"\npool = "fast"',
            "unknown key 'pool'; did you mean 'poll'",
        ),
        ("[identify]", "[identity]", "overlay: identity: unknown key .* did you mean 'identify'"),
        ('id = "ex-1p"', "", "overlay: the file: 'id' is missing"),
        ('id = "ex-1p"', "id =", "overlay: the file: the file is not TOML|is not TOML"),
    ],
)
def test_a_mistake_in_an_overlay_is_told_with_its_place(
    before: str, after: str, message: str
) -> None:
    assert before in _OVERLAY
    with pytest.raises(CannotImport, match=message):
        import_map(_MBMAP, _OVERLAY.replace(before, after, 1))


def test_a_register_nobody_wants_may_be_anything() -> None:
    import_map(_mbmap(_in_register("Firmware flags", type="?", address="x")), _OVERLAY)


def test_what_the_overlay_ignores_is_passed_over() -> None:
    text = _mbmap(lambda document: document.update(endian="big"))
    imported = import_map(text, 'ignore = ["endian"]\n' + _OVERLAY)
    assert "'endian' is ignored, as the overlay says" in imported.remarks


def test_the_files_own_meanings_are_carried_where_the_overlay_has_none() -> None:
    values = 'values = { 0 = "disconnected", 1 = "connected", 2 = "ready_for_reconnection" }'
    bare = _OVERLAY.replace(values, "")
    registers = read_map(import_map(_MBMAP, bare).text).registers
    assert registers[Obis.parse("96.3.10")].values == {0: "off", 1: "on", 2: "button"}
    for spoilt, message in (
        ({"a lot": "x"}, "the code 'a lot', which is no whole number"),
        (None, "the map has no enum 'relay'"),
    ):
        changed = json.dumps({**json.loads(_MBMAP), "enums": {"relay": spoilt}})
        with pytest.raises(CannotImport, match=message):
            import_map(changed, bare)


def test_all_faults_are_told_at_once() -> None:
    def change(document: dict[str, Any]) -> None:
        document["parity"] = "mark"
        for register in document["registers"]:
            register["type"] = "?"

    with pytest.raises(CannotImport) as refused:
        import_map(_mbmap(change), _OVERLAY)
    assert len(refused.value.faults) == 1 + 2 + 8  # parity; identify and relay; the registers


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"mbmap": 2, "mbmap": 2}'])
def test_what_is_no_mbmap_file_is_refused(text: str) -> None:
    with pytest.raises(CannotImport):
        import_map(text, _OVERLAY)


_TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=12)


@given(
    st.dictionaries(
        st.sampled_from(["a", "b-c", "d_e"]),
        _TEXT | st.integers() | st.booleans() | st.lists(_TEXT, max_size=3),
    )
)
def test_what_is_written_as_toml_is_read_as_it_was(table: dict[str, Any]) -> None:
    told = read_toml(map_text({}, [("[t]", table)], ["a comment"])).get("t", {})
    assert told == {key: value for key, value in table.items() if value != []}


# --- the command ---------------------------------------------------------------------------------


def _run(*options: str | Path, mbmap: Path = _FILES / "meter.json") -> Any:
    overlay = _FILES / "overlay.toml"
    arguments = ["driver", "import", mbmap, "--overlay", overlay, *options]
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_command_prints_the_map_and_says_what_it_leaves_out() -> None:
    result = _run()
    assert result.exit_code == 0
    assert read_map(result.stdout).id == "ex-1p"
    assert "unit_id 1 is left out" in result.stderr


def test_the_command_writes_over_nothing(tmp_path: Path) -> None:
    taken = tmp_path / "map.toml"
    taken.write_text("mine")
    result = _run("-o", taken)
    assert result.exit_code == 2
    assert "is there already" in result.stderr
    assert taken.read_text() == "mine"


def test_the_command_tells_every_fault_and_writes_nothing(tmp_path: Path) -> None:
    spoilt = tmp_path / "meter.json"
    spoilt.write_text(_mbmap(_in_register("Voltage", type="?", access="w")))
    result = _run("-o", tmp_path / "map.toml", mbmap=spoilt)
    assert result.exit_code == 1
    assert "register 'Voltage': type '?' cannot be read" in result.stderr
    assert not (tmp_path / "map.toml").exists()
    spoilt.write_bytes(b"\xff\xfe")
    assert _run(mbmap=spoilt).exit_code == 2
