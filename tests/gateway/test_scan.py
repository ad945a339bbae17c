"""The scan on lines in software: which meters it finds, which clashes it sees, and that it only reads."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest
from tests.drivers.dlms_bench import bench_meter
from tests.drivers.dlms_double import DlmsBus
from tests.drivers.line_double import crc
from tests.gateway.scan_line import (
    OPTICAL,
    USUAL,
    GoldenBank,
    HdlcMeters,
    OpticalMeter,
    RtuMeter,
    Said,
    SoftwareEndpoint,
    SoftwarePort,
    on_virtual_time,
)

from openami.gateway.scan import (
    Address,
    Clash,
    Finding,
    Found,
    Noise,
    PortSetting,
    Protocol,
    ScanResult,
)
from openami.gateway.scan.proposal import Device, configuration, moves
from openami.gateway.scan.scanning import run
from openami.gateway.scan.search import ONE_FOR_ALL, Wanted, network_search, serial_search

SERIAL = frozenset({Protocol.MODBUS_RTU, Protocol.DLMS_HDLC, Protocol.IEC_62056_21})


def scanned(port: SoftwarePort, *, within_s: float = 600.0, **wanted: object) -> ScanResult:
    search = serial_search(Wanted(protocols=SERIAL, **wanted))  # type: ignore[arg-type]
    return on_virtual_time(run(search, port, within_s=within_s))


def unit(number: int) -> Address:
    return Address(Protocol.MODBUS_RTU, (("unit", number),))


def test_meters_of_three_protocols_and_speeds_are_found_on_one_line() -> None:
    slow, even = PortSetting(2400), PortSetting(19200, "E")
    result = scanned(
        SoftwarePort(
            RtuMeter(1, GoldenBank("sdm630", serial=20_123_456)),
            RtuMeter(77, GoldenBank("dds238")),
            RtuMeter(2, GoldenBank("sdm120", serial=17_000_001), slow),
            RtuMeter(3, GoldenBank("iem3155", serial=9_001), even),
            HdlcMeters(DlmsBus({bytes((2, 0x21)): bench_meter("KS-001")}, hdlc=True)),
            OpticalMeter(b"/HXE5HXE110\r\n", b"C.1.0(00417702)\r\n1.8.0(001842.5*kWh)\r\n"),
        )
    )
    told = {(found.address, found.setting): found for found in result.meters}
    assert result.clashes == ()
    assert {place: found.serial for place, found in told.items()} == {
        (unit(1), PortSetting(9600)): "20123456",
        (unit(77), PortSetting(9600)): None,
        (unit(2), slow): "17000001",
        (unit(3), even): "9001",
        (
            Address(Protocol.DLMS_HDLC, (("server", 1), ("physical", 16))),
            PortSetting(9600),
        ): "KS-001",
        (Address(Protocol.IEC_62056_21), PortSetting(300, "E", 1, 7)): "00417702",
    }
    assert told[unit(77), PortSetting(9600)].maps == ("dds238",)
    assert "sdm630" in told[unit(1), PortSetting(9600)].maps


def test_the_first_meter_of_a_usual_line_is_found_in_three_seconds() -> None:
    port = SoftwarePort(RtuMeter(1, GoldenBank("sdm630", serial=20_123_456)))
    assert [found.address for found in scanned(port, within_s=3.0).meters] == [unit(1)]


def test_a_scan_ends_in_its_time_and_says_what_it_has_not_tried() -> None:
    result = scanned(SoftwarePort(), within_s=20.0)
    assert 20.0 <= result.elapsed_s < 25.0
    assert "modbus-rtu at 115200 8N1" in result.untried
    assert result.findings == ()


def test_a_silent_line_is_searched_to_its_end() -> None:
    result = scanned(SoftwarePort(), within_s=3600.0)
    assert result.untried == ()
    assert result.questions > 12 * 247


def test_two_meters_at_one_address_whose_answers_follow_one_another_are_a_clash() -> None:
    port = SoftwarePort(
        RtuMeter(1, GoldenBank("sdm630", serial=1_001)),
        RtuMeter(1, GoldenBank("sdm630", serial=1_002), thinks_s=0.12),
        RtuMeter(2, GoldenBank("sdm630", serial=1_003)),
    )
    result = scanned(port)
    assert [(clash.address, clash.certain) for clash in result.clashes] == [(unit(1), True)]
    assert [found.address for found in result.meters] == [unit(2)]


def test_two_meters_that_talk_at_once_are_a_clash_or_a_bad_line() -> None:
    port = SoftwarePort(
        RtuMeter(1, GoldenBank("sdm630", serial=1_001)),
        RtuMeter(1, GoldenBank("dds238"), thinks_s=0.0415),
    )
    result = scanned(port)
    assert [(clash.address, clash.certain) for clash in result.clashes] == [(unit(1), False)]
    assert result.meters == ()


def test_two_meters_in_step_are_told_apart_by_their_serial_numbers() -> None:
    """They garble one another only where they differ."""
    port = SoftwarePort(
        RtuMeter(1, GoldenBank("sdm630", serial=1_001)),
        RtuMeter(1, GoldenBank("sdm630", serial=1_002)),
    )
    result = scanned(port)
    assert [(clash.address, clash.certain) for clash in result.clashes] == [(unit(1), False)]


def test_a_late_answer_is_booked_to_the_meter_it_came_from() -> None:
    port = SoftwarePort(RtuMeter(3, GoldenBank("dds238"), thinks_s=0.35))
    (found,) = scanned(port).meters
    assert found.address == unit(3)
    assert "answers late" in found.remarks[0]


def test_an_adapter_that_hears_itself_is_no_meter() -> None:
    result = scanned(SoftwarePort(echo=True), within_s=60.0)
    assert result.meters == ()
    assert result.clashes == ()


def test_a_meter_behind_an_adapter_that_hears_itself_is_found() -> None:
    (found,) = scanned(SoftwarePort(RtuMeter(1, GoldenBank("dds238")), echo=True)).meters
    assert any("echo" in remark for remark in found.remarks)


def test_a_setting_the_adapter_does_not_take_is_said_and_passed_over() -> None:
    refused = PortSetting(19200, "E")
    result = scanned(SoftwarePort(RtuMeter(1, GoldenBank("dds238")), refuses=(refused,)))
    assert result.remarks == ("the line in software does not take 19200 8E1",)
    assert len(result.meters) == 1


@pytest.mark.parametrize("thinks_s", [0.35, 1.0])
def test_several_meters_that_hear_one_sign_on_are_a_clash(thinks_s: float) -> None:
    first = OpticalMeter(b"/HXE5HXE110\r\n", b"")
    second = OpticalMeter(b"/CLU3DDS26\r\n", b"", thinks_s=thinks_s)
    result = scanned(SoftwarePort(first, second), within_s=60.0)
    (clash,) = result.clashes
    assert clash.address.protocol is Protocol.IEC_62056_21


def test_a_line_that_is_never_quiet_is_noise_and_no_clash() -> None:
    told = scanned(SoftwarePort(babbles=True), within_s=30.0)
    assert told.clashes == ()
    assert told.meters == ()
    assert {type(finding) for finding in told.findings} == {Noise}


def test_nothing_is_sent_but_reads() -> None:
    """Functions 3 and 4 to one unit; the public client's GETs; a sign-on and a read-out (decision 0060)."""
    port = SoftwarePort(
        RtuMeter(1, GoldenBank("sdm630", serial=20_123_456)),
        RtuMeter(2, GoldenBank("sdm120", serial=17_000_001), PortSetting(2400)),
        HdlcMeters(DlmsBus({bytes((2, 0x21)): bench_meter("KS-001")}, hdlc=True)),
        OpticalMeter(b"/HXE5HXE110\r\n", b"C.1.0(00417702)\r\n"),
    )
    scanned(port, within_s=3600.0)
    kinds = {_kind(octets) for _, octets in port.sent}
    assert kinds == {
        "read 3",
        "read 4",
        "SNRM",
        "DISC",
        "AARQ",
        "RLRQ",
        "GET",
        "sign-on",
        "read-out",
    }


def _kind(octets: bytes) -> str:
    text = bytes(octet & 0x7F for octet in octets)
    if text == b"/?!\r\n":
        return "sign-on"
    if text == b"\x06000\r\n":
        return "read-out"
    if octets[-1] == 0x7E and octets[1] >> 4 == 0xA:
        return _hdlc_kind(octets)
    assert len(octets) == 8
    assert crc(octets[:-2]) == octets[-2:]
    assert 1 <= octets[0] <= 247
    return f"read {octets[1]}"


def _hdlc_kind(frame: bytes) -> str:
    at = 3
    for _ in range(2):
        while not frame[at] & 1:
            at += 1
        at += 1
    assert frame[at - 1] == 16 << 1 | 1, "not the public client"
    if frame[at] in (0x93, 0x53):
        return {0x93: "SNRM", 0x53: "DISC"}[frame[at]]
    message = frame[at + 3 : -3]
    assert message[:3] == b"\xe6\xe6\x00"
    assert b"\x8b" not in message[3:6], "an authentication"
    return {0x60: "AARQ", 0x62: "RLRQ", 0xC0: "GET"}[message[3]]


def test_a_meter_that_hears_two_stop_bits_as_well_is_one_meter() -> None:
    class Tolerant(RtuMeter):
        def hear(self, octets: bytes, setting: PortSetting) -> Iterable[Said]:
            return super().hear(octets, PortSetting(setting.baudrate, setting.parity))

    (found,) = scanned(SoftwarePort(Tolerant(1, GoldenBank("dds238")))).meters
    assert found.setting == PortSetting(9600)


# --- what a person does next -----------------------------------------------------------------------


def result(*findings: Finding) -> ScanResult:
    return ScanResult(findings=findings, questions=1, elapsed_s=1.0)


def test_a_clash_gets_the_lowest_address_that_is_nobodys() -> None:
    found = [Found(unit(number), USUAL) for number in (2, 4)]
    clashes = [Clash(unit(1), USUAL, True, "two answers"), Clash(unit(7), USUAL, False, "bent")]
    proposed = moves(result(*found, *clashes), taken=[3, 6])
    assert [(move.clash.address["unit"], move.unit) for move in proposed] == [(1, 5), (7, 8)]


def test_a_full_line_gets_no_proposal() -> None:
    found = [Found(unit(number), USUAL) for number in range(2, 248)]
    assert moves(result(*found, Clash(unit(1), USUAL, True, "two answers"))) == ()


def test_whatever_a_meter_calls_itself_the_configuration_is_toml() -> None:
    serial = 'a"b\\c\n]'
    text = configuration(
        result(Found(unit(1), USUAL, serial=serial, maps=("sdm120",))), Device("/dev/ttyUSB0")
    )
    (line,) = tomllib.loads(text)["line"]
    (meter,) = line["meter"]
    assert meter["identity"] == 'a"b\\c]'
    assert meter["serial"] == "ttyUSB0-1"  # what it says is no name a message may have


def test_an_optical_meter_is_configured_as_its_driver_wants_it() -> None:
    found = Found(Address(Protocol.IEC_62056_21), OPTICAL, serial="00417702")
    (line,) = tomllib.loads(configuration(result(found), Device("/dev/ttyUSB0")))["line"]
    assert line.pop("meter") == [
        {"serial": "00417702", "map": "generic-single-phase", "identity": "00417702"}
    ]
    assert line == {
        "driver": "iec62056-21",
        "name": "ttyUSB0",
        "transport": "serial",
        "device": "/dev/ttyUSB0",
        "baudrate": 300,
    }


def test_meters_at_two_settings_are_two_lines_and_one_has_to_move() -> None:
    found = (
        Found(unit(1), USUAL, maps=("dds238",)),
        Found(unit(2), PortSetting(2400), maps=("sdm120",)),
    )
    text = configuration(result(*found), Device("/dev/ttyUSB0"))
    assert [line["baudrate"] for line in tomllib.loads(text)["line"]] == [9600, 2400]
    assert "A port has one setting" in text


# --- DLMS ------------------------------------------------------------------------------------------


def test_a_meter_that_opens_a_link_and_refuses_the_public_client_is_found() -> None:
    locked = replace(bench_meter("KS-001"), password=b"secret")
    (found,) = scanned(
        SoftwarePort(HdlcMeters(DlmsBus({bytes((2, 0x21)): locked}, hdlc=True)))
    ).meters
    assert found.serial is None
    assert "does not let the public client in" in found.remarks[0]


def test_a_meter_that_hears_two_forms_of_its_address_is_one_meter() -> None:
    meter = bench_meter("KS-001")
    forms = {bytes((2, 0x21)): meter, bytes((0, 2, 0, 0x21)): meter}
    (found,) = scanned(SoftwarePort(HdlcMeters(DlmsBus(forms, hdlc=True)))).meters
    assert found.address.options == (("server", 1), ("physical", 16))


def test_a_physical_address_the_person_knows_is_tried() -> None:
    meter = HdlcMeters(
        DlmsBus(
            {bytes((0, 2, 1234 >> 7 << 1, (1234 & 0x7F) << 1 | 1)): bench_meter("KS-002")},
            hdlc=True,
        )
    )
    (found,) = scanned(SoftwarePort(meter), physical=(1234,)).meters
    assert found.address.options == (("server", 1), ("physical", 1234), ("address_bytes", 4))


def test_an_answer_under_the_address_of_everybody_is_nobodys_and_unit_0_is_never_asked() -> None:
    class Everybody(RtuMeter):
        def hear(self, octets: bytes, setting: PortSetting) -> Iterable[Said]:
            for delay_s, told in super().hear(octets, setting):
                body = b"\x00" + told[1:-2]
                yield delay_s, body + crc(body)

    port = SoftwarePort(Everybody(1, GoldenBank("dds238")))
    assert scanned(port).meters == ()
    assert all(octets[0] for _, octets in port.sent)


# --- network ---------------------------------------------------------------------------------------


def scanned_network(banks: Mapping[int, GoldenBank]) -> ScanResult:
    search = network_search(Wanted(protocols=frozenset({Protocol.MODBUS_TCP})), 502)
    return on_virtual_time(run(search, SoftwareEndpoint(banks), within_s=600.0))


def test_a_meter_that_answers_to_every_unit_is_one_meter() -> None:
    bank = GoldenBank("sdm630", serial=20_123_456)
    told = scanned_network(dict.fromkeys(range(256), bank))
    assert [found.address["unit"] for found in told.meters] == [1]
    assert told.remarks == (ONE_FOR_ALL,)


def test_two_meters_behind_a_bridge_stay_two_though_one_has_an_unlikely_address() -> None:
    banks = {unit: GoldenBank("sdm630", serial=unit) for unit in (100, 203, 255)}
    told = scanned_network(banks)
    assert {found.address["unit"]: found.serial for found in told.meters} == {
        100: "100",
        203: "203",
        255: "255",
    }
    assert told.remarks == ()
