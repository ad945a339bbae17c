"""The first hour from a real outbox to a record that somebody else verifies, by the commands a person types."""

import asyncio
import json
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.gateway.clock_double import ClockDouble
from tests.gateway.houses import configuration
from tests.headend.village_keys import FEEDER, GATEWAY, keyring, write_key, write_roots

from openami.cli import main
from openami.clock import SystemClock
from openami.gateway.commissioning import ledger
from openami.gateway.commissioning.evidence import hour_of, uplink_of
from openami.gateway.commissioning.hour import HOUR
from openami.gateway.driver import PollGroup
from openami.gateway.entries import Draft, Kind
from openami.gateway.outbox import OutboxLimits, open_outbox
from openami.profile import (
    Envelope,
    FeederId,
    GatewayId,
    MeterSerial,
    Obis,
    Quality,
    RegisterReading,
)
from openami.sip.commissioning import (
    Bench,
    BenchFinding,
    BenchVerdict,
    Identified,
    LoadTest,
    LoadVerdict,
    Outcome,
    Tick,
)

METERS = (("HEAD", 1, None), ("M-1", 2, None), ("M-2", 3, None))
KW = {"HEAD": 1.26, "M-1": 0.8, "M-2": 0.4}


def drafts(at: datetime, minute: int, volts: Mapping[str, float]) -> list[Draft]:
    made = []
    for serial, kw in KW.items():
        values = (
            ("1.7.0", kw, "kW"),
            ("1.8.0", round(500 + kw * minute / 60, 3), "kWh"),
            ("32.7.0", volts.get(serial, 230.0), "V"),
        )
        envelope = Envelope(
            ts=at,
            feeder_id=FeederId(FEEDER),
            gateway_id=GatewayId(GATEWAY),
            meter_serial=MeterSerial(serial),
            registers=tuple(
                RegisterReading(obis=Obis.parse(o), value=v, unit=u, quality=Quality.GOOD)
                for o, v, u in values
            ),
        )
        made.append(Draft(envelope, Kind.TELEMETRY, PollGroup.FAST))
    return made


@dataclass
class Site:
    """A gateway's files after its first hour."""

    directory: Path
    file: Path
    began_at: datetime

    @property
    def database(self) -> Path:
        return self.directory / "data" / "gateway.db"

    def note(self, *works: Callable[[sqlite3.Connection], None]) -> None:
        with closing(sqlite3.connect(self.database, isolation_level=None)) as connection:
            for work in works:
                work(connection)

    def commission(self, verb: str, *arguments: str) -> tuple[int, list[Any], str]:
        command = ["gateway", "commission", verb, "-c", str(self.file), *arguments]
        done = CliRunner().invoke(main, command)
        rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        return done.exit_code, rows, done.stderr

    def verify(self, record: Path, *more: str) -> tuple[int, Any]:
        roots = str(write_roots(self.directory / "roots" / "roots.json"))
        done = CliRunner().invoke(main, ["verify", str(record), "--roots", roots, "--json", *more])
        return done.exit_code, json.loads(done.stdout)


def a_site(
    directory: Path,
    volts: Mapping[str, float] | None = None,
    *,
    filled: bool = True,
    every_min: int = 1,
) -> Site:
    """An hour of three meters, all of it acknowledged but the last minute."""
    began_at = (SystemClock().now() - HOUR - timedelta(minutes=1)).replace(microsecond=0)
    key = write_key(directory / "keys" / "gateway.pem", GATEWAY)
    roots = write_roots(directory / "keys" / "roots.json")
    file = configuration(
        directory,
        modbus_port=1,
        meters=METERS,
        fast_s=60,
        status_port=1,
        named=(FEEDER, GATEWAY),
        commands=f'[commands]\nkey_file = "{key}"\nroots_file = "{roots}"',
    )
    site = Site(directory, file, began_at)
    site.database.parent.mkdir()
    asyncio.run(fill(site, volts or {}, range(0, 60 if filled else 1, every_min)))
    site.note(lambda c: ledger.begin_hour(c, began_at))
    return site


async def fill(site: Site, volts: Mapping[str, float], minutes: range) -> None:
    clock = ClockDouble(site.began_at + timedelta(seconds=5))
    async with open_outbox(site.database, OutboxLimits(), clock) as outbox:
        for minute in minutes:
            await outbox.append(drafts(clock.now(), minute, volts))
            clock.advance(60 * minutes.step)
        await outbox.mark_sent(range(1, len(minutes) * len(KW) - 2), clock.now())


def a_tick(serial: str) -> Tick:
    at = SystemClock().now().replace(microsecond=0)
    load = LoadTest(load_w=60, before_w=1, after_w=61, verdict=LoadVerdict.ROSE, at=at)
    return Tick(
        meter=serial, outcome=Outcome.OK, at=at, by="Asha", identified=Identified.NAMEPLATE,
        load=load,
    )  # fmt: skip


def everything_done(site: Site) -> list[Any]:
    findings = tuple(
        BenchFinding(line="bus1", address="unit 1", verdict=BenchVerdict.FOUND, meter=serial)
        for serial in KW
    )
    bench = Bench(at=site.began_at, findings=findings)
    ticks = [lambda c, s=serial: ledger.note_tick(c, a_tick(s)) for serial in KW]
    return [lambda c: ledger.note_bench(c, bench), *ticks]


def give_keyring(site: Site) -> None:
    document = keyring(now=SystemClock().now())
    with closing(sqlite3.connect(site.database)) as connection, connection:
        connection.execute("INSERT INTO command_keyring VALUES (1, 1, ?, '{}')", (document,))


def test_the_outbox_tells_the_hour_and_nothing_beside_it(tmp_path: Path) -> None:
    site = a_site(tmp_path)
    hour = hour_of(site.database, site.began_at)
    assert {
        serial: each.answered(PollGroup.FAST) for serial, each in hour.items()
    } == dict.fromkeys(KW, 60)
    assert hour["M-1"].imported is not None
    assert hour["M-1"].imported.moved == pytest.approx(0.8 * 59 / 60, abs=0.001)
    later = hour_of(site.database, site.began_at + timedelta(minutes=30))
    assert later["M-1"].answered(PollGroup.FAST) == 30
    uplink = uplink_of(site.database, site.began_at)
    assert (uplink.sent, uplink.waiting, uplink.refused) == (177, 3, 0)


def test_an_accepted_feeder_is_proven_to_somebody_who_has_the_roots(tmp_path: Path) -> None:
    site = a_site(tmp_path)
    site.note(*everything_done(site))
    give_keyring(site)
    code, rows, said = site.commission("start", "--feeder-meter", "HEAD", "--json")
    assert (code, len(rows[0]["pin"])) == (0, 6), said
    assert site.commission("stop")[0] == 0
    code, rows, said = site.commission("accept", "--json")
    assert code == 0, said
    assert [row["rule"] for row in rows if row["verdict"] == "warn"] == ["certificate"]
    (balance,) = (row for row in rows if row["rule"] == "feeder_balance")
    assert "not accounted for" in balance["measured"]
    out = tmp_path / "records"
    out.mkdir()
    code, rows, said = site.commission("record", str(out), "--by", "Asha", "--json")
    assert code == 0, said
    told = rows[0]
    assert told["accepted"] is True
    record = Path(told["file"])
    assert "accepted" in Path(told["page"]).read_text()

    code, row = site.verify(record)
    assert code == 0
    assert (row["kind"], row["accepted"], row["meters"]) == ("commissioning", True, 3)
    assert row["sha256"] == told["sha256"]
    altered = tmp_path / "altered.json"
    altered.write_bytes(record.read_bytes().replace(b'"by":"Asha"', b'"by":"Asho"', 1))
    code, row = site.verify(altered)
    assert (code, row["verified"], row["fault"]) == (4, False, "GATEWAY")
    altered.write_bytes(record.read_bytes()[:-1])
    assert site.verify(altered)[0] == 1
    code, _, said = site.commission("record", str(record), "--by", "Asha")
    assert code == 1
    assert "is there already" in said


def test_what_fails_is_named_until_somebody_answers_for_it(tmp_path: Path) -> None:
    site = a_site(tmp_path, {"M-2": 190.0})
    site.note(*everything_done(site))
    code, rows, said = site.commission("accept", "--json")
    assert code == 1
    (failed,) = (row for row in rows if row["verdict"] == "fail")
    assert (failed["rule"], failed["meter"]) == ("voltage", "M-2")
    assert failed["remedy"]
    first = tmp_path / "first.json"
    code, rows, said = site.commission("record", str(first), "--by", "Asha", "--json")
    assert (code, rows[0]["accepted"]) == (1, False)
    assert rows[0]["open"] == [
        {"rule": "voltage", "about": "M-2", "what": "190.0 to 190.0 V, nominal 230 V"}
    ]
    assert "has no keyring yet" in said

    assert site.verify(first)[0] == 4, "nobody vouches for its signer"
    ring = tmp_path / "keyring.json"
    ring.write_bytes(keyring(now=SystemClock().now()))
    code, row = site.verify(first, "--keyring", str(ring))
    assert (code, row["verified"], row["accepted"]) == (1, True, False)

    reason = ("--reason", "end of the line; a new cable comes in March", "--by", "Anita")
    assert site.commission("deviate", "voltage", "M-1", *reason)[0] == 1, "it is not open"
    assert site.commission("deviate", "voltage", "M-2", *reason)[0] == 0
    second = tmp_path / "second.json"
    code, rows, _ = site.commission("record", str(second), "--by", "Asha", "--json")
    assert (code, rows[0]["accepted"]) == (0, True)
    code, row = site.verify(second, "--keyring", str(ring))
    assert (code, row["accepted"], row["deviations"]) == (0, True, 1)
    page = second.with_suffix(".html").read_text()
    assert "a new cable comes in March" in page
    assert site.commission("deviate", "voltage", "M-2", "--withdraw", "--by", "Anita")[0] == 0
    assert site.commission("deviate", "voltage", "M-2", "--withdraw", "--by", "Anita")[0] == 1


@pytest.mark.parametrize(
    ("report", "verdict"), [("", "fail"), ("[report.fast]\nheartbeat_s = 900\n", "pass")]
)
def test_an_hour_told_on_change_is_counted_by_its_heartbeats(
    tmp_path: Path, report: str, verdict: str
) -> None:
    site = a_site(tmp_path, every_min=15)
    site.file.write_text(site.file.read_text().replace("[[line]]", f"{report}[[line]]", 1))
    _, rows, _ = site.commission("accept", "--json")
    assert [row["verdict"] for row in rows if row.get("rule") == "read"] == [verdict] * len(KW)


def test_a_pin_needs_a_page_and_a_feeders_meter_is_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = a_site(tmp_path, filled=False)
    assert site.commission("start", "--feeder-meter", "M-9")[0] == 2
    monkeypatch.setenv("OPENAMI_GATEWAY__STATUS__LISTEN", "")
    code, _, said = site.commission("start")
    assert (code, "status.listen is empty" in said) == (2, True)


def test_an_hour_that_has_not_begun_or_is_not_over_is_not_judged(tmp_path: Path) -> None:
    site = a_site(tmp_path, filled=False)
    code, rows, said = site.commission("accept", "--begin", "--json")
    assert (code, rows) == (5, [])
    assert "60 min still" in said
    site.note(ledger.forget)
    code, _, said = site.commission("accept")
    assert (code, "no hour has begun" in said) == (5, True)


def test_a_record_needs_a_key_and_a_name(tmp_path: Path) -> None:
    site = a_site(tmp_path, filled=False)
    assert site.commission("record", str(tmp_path / "r"), "--by", "  ")[0] == 2
    shutil.rmtree(tmp_path / "keys")
    code, _, said = site.commission("record", str(tmp_path / "r"), "--by", "Asha")
    assert code == 2
    assert "cannot be read" in said
