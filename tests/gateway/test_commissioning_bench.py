"""The bench: what a scan finds, beside the configuration."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.houses import House, configuration

from openami.cli import main
from openami.gateway.commissioning import ledger
from openami.gateway.commissioning.bench import ScannedLine, compare
from openami.gateway.config import LineConfig
from openami.gateway.database import open_database
from openami.gateway.driver import LineSettings, MeterSettings
from openami.gateway.scan import Address, Clash, Found, Noise, PortSetting, Protocol, ScanResult
from openami.gateway.scan.search import UNLIKELY_UNITS, one_for_all
from openami.profile import MeterSerial
from openami.simulator.modbus_server import ModbusLine, serving
from openami.sip.commissioning import BenchFinding, BenchVerdict

FOUND, NOT_FOUND, UNKNOWN = BenchVerdict.FOUND, BenchVerdict.NOT_FOUND, BenchVerdict.UNKNOWN
WRONG_SERIAL, CLASH = BenchVerdict.WRONG_SERIAL, BenchVerdict.CLASH
SPEED, OTHER_SPEED = PortSetting(9600), PortSetting(2400)


def line(
    meters: Mapping[int, str | None], name: str = "bus1", driver: str = "modbus"
) -> LineConfig:
    """A line of meters called M-UNIT; the values are the serial numbers they are to tell."""
    settings = [
        MeterSettings(
            MeterSerial(f"M-{unit}"),
            {"unit": unit} if identity is None else {"unit": unit, "identity": identity},
        )
        for unit, identity in meters.items()
    ]
    return LineConfig(driver, LineSettings(name, settings, {"device": "/dev/ttyUSB0"}))


def at(unit: int, protocol: Protocol = Protocol.MODBUS_RTU) -> Address:
    return Address(protocol, (("unit", unit),))


def found(unit: int, serial: str | None = None, setting: PortSetting | None = SPEED) -> Found:
    return Found(at(unit), setting, serial=serial)


def clash(unit: int, *serials: str) -> Clash:
    return Clash(at(unit), SPEED, True, "two answers to one question", serials)


def compared(
    config: LineConfig, *findings: Found | Clash | Noise, untried: tuple[str, ...] = ()
) -> list[BenchFinding]:
    result = ScanResult(findings=findings, questions=1, elapsed_s=1.0, untried=untried)
    return list(compare([ScannedLine(config, result, SPEED)]))


def verdicts(findings: list[BenchFinding]) -> dict[str, BenchVerdict]:
    return {finding.about: finding.verdict for finding in findings}


def test_each_kind_of_finding_is_told_with_a_remedy() -> None:
    config = line({1: "1001", 2: "1002", 3: "1003", 4: None, 5: "1005"})
    findings = compared(
        config,
        found(1, "1001"),
        found(2, "7777"),
        found(4),
        clash(5, "1005", "1006"),
        found(9, "1003"),
        clash(11),
        Noise(SPEED, b"\xff\xff", "line idles low"),
    )
    assert verdicts(findings) == {
        "M-1": FOUND, "M-2": WRONG_SERIAL, "M-3": NOT_FOUND, "M-4": FOUND, "M-5": CLASH,
        "bus1/unit 9": UNKNOWN, "bus1/unit 11": CLASH, "bus1/line": UNKNOWN,
    }  # fmt: skip
    told = {finding.about: finding for finding in findings}
    assert told["M-2"].told == "7777"
    assert "it answers at line bus1, unit 9" in told["M-3"].remedy
    assert "that is M-3, configured at line bus1, unit 3" in told["bus1/unit 9"].remedy
    assert all(each.remedy for each in findings if each.verdict is not FOUND)


def test_two_meters_with_each_others_address_are_told_to_be_exchanged() -> None:
    findings = compared(line({1: "1001", 2: "1002"}), found(1, "1002"), found(2, "1001"))
    assert verdicts(findings) == {"M-1": WRONG_SERIAL, "M-2": WRONG_SERIAL}
    assert all("exchange the addresses" in each.remedy for each in findings)


def test_a_meter_at_another_speed_is_not_found_and_the_speed_is_told() -> None:
    (finding,) = compared(line({1: "1001"}), found(1, "1001", OTHER_SPEED))
    assert finding.verdict is NOT_FOUND
    assert "answers at 2400 8N1, the line is configured for 9600 8N1" in finding.words


def test_what_was_not_tried_is_not_said_to_be_absent() -> None:
    (finding,) = compared(line({1: "1001"}), untried=("modbus-rtu at 9600 8N1",))
    assert "not everything was tried: modbus-rtu at 9600 8N1" in finding.words


def test_another_protocols_meter_at_the_same_number_is_a_stranger() -> None:
    findings = compared(line({1: None}, driver="dlms"), found(1))
    assert verdicts(findings) == {"M-1": NOT_FOUND, "bus1/unit 1": UNKNOWN}


def test_a_network_meter_that_answers_to_every_unit_is_the_configured_one() -> None:
    everywhere = [
        Found(at(unit, Protocol.MODBUS_TCP), None, serial="1001") for unit in (1, *UNLIKELY_UNITS)
    ]
    findings = compared(line({7: "1001"}), *one_for_all(everywhere))
    assert verdicts(findings) == {"M-7": FOUND}


def test_a_dlms_meter_is_found_by_its_place_whoever_we_come_as() -> None:
    settings = MeterSettings(MeterSerial("D-1"), {"client": 1, "physical": 17})
    config = LineConfig("dlms", LineSettings("bus2", [settings], {"device": "/dev/ttyUSB1"}))
    place = Address(Protocol.DLMS_HDLC, (("server", 1), ("physical", 17)))
    assert verdicts(compared(config, Found(place, SPEED))) == {"D-1": FOUND}


_units = st.integers(1, 12)
_serials = st.sampled_from(["1001", "1002", "1003", None])


@given(
    configured=st.dictionaries(_units, _serials, max_size=6),
    meters=st.dictionaries(_units, _serials, max_size=6),
    clashes=st.sets(_units, max_size=2),
)
def test_every_meter_and_every_answer_has_one_verdict(
    configured: dict[int, str | None], meters: dict[int, str | None], clashes: set[int]
) -> None:
    meters = {unit: serial for unit, serial in meters.items() if unit not in clashes}
    findings = compared(
        line(configured),
        *(found(unit, serial) for unit, serial in meters.items()),
        *(clash(unit) for unit in clashes),
    )
    told = verdicts(findings)
    assert len(told) == len(findings)
    assert {f"M-{unit}" for unit in configured} <= told.keys()
    for unit, identity in configured.items():
        answered = meters.get(unit, identity)
        assert (told[f"M-{unit}"] is CLASH) == (unit in clashes)
        assert (told[f"M-{unit}"] is NOT_FOUND) == (unit not in clashes and unit not in meters)
        if unit in meters and None not in (identity, answered):
            assert (told[f"M-{unit}"] is FOUND) == (identity == answered)
    strangers = {f"bus1/unit {unit}" for unit in (meters.keys() | clashes) - configured.keys()}
    assert told.keys() - {f"M-{unit}" for unit in configured} == strangers


class BridgedLine(ModbusLine):
    """Behind a bridge that says of an absent unit that it does not answer (exception 11), as many do."""

    async def ask(self, unit: int, request: bytes) -> bytes | None:
        heard = await super().ask(unit, request)
        return bytes((request[0] | 0x80, 0x0B)) if heard is None else heard


async def test_a_bench_of_meters_is_scanned_and_kept(tmp_path: Path) -> None:
    houses = {1: House(1001), 2: House(7777), 5: House(1005)}
    async with serving(BridgedLine(houses)) as port:
        file = configuration(
            tmp_path,
            modbus_port=port,
            meters=[("M-1", 1, 1001), ("M-2", 2, 1002), ("M-3", 3, 1003)],
        )
        command = ["gateway", "commission", "bench", "-c", str(file), "--json"]
        done = await asyncio.to_thread(CliRunner().invoke, main, command)
    assert done.exit_code == 1, done.output
    rows = [json.loads(each) for each in done.stdout.splitlines()]
    told = {row["meter"] or row["address"]: (row["verdict"], row["told"]) for row in rows}
    assert told == {
        "M-1": ("found", "1001"),
        "M-2": ("wrong_serial", "7777"),
        "M-3": ("not_found", None),
        "unit 5": ("unknown", "1005"),
    }
    assert "1 of 4 as configured" in done.stderr
    assert all(house.orders == [] for house in houses.values())
    async with open_database(tmp_path / "data" / "gateway.db") as database:
        standing = await database.run(ledger.standing)
    assert standing.bench is not None
    assert len(standing.bench.findings) == 4


def test_a_bench_without_its_port_says_so(tmp_path: Path) -> None:
    file = configuration(tmp_path, modbus_port=1, meters=[("M-1", 1, None)])
    command = ["gateway", "commission", "bench", "-c", str(file)]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 3
    assert "then it holds the port" in done.stderr.lower()


@pytest.mark.parametrize("words", ["x" * 5000])
def test_a_long_evidence_is_cut(words: str) -> None:
    (finding,) = compared(line({1: None}), Clash(at(1), SPEED, False, words))
    assert len(finding.words) <= 600
