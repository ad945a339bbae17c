"""What leaves as a table: readings with their places, settled trades, the published columns."""

import csv
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from tests.headend.decisions import ENERGY, NOON, RELAY, accepted, register
from tests.headend.new_store import new_store
from tests.headend.test_asset_store import put
from tests.headend.test_assets import VILLAGE
from tests.headend.test_command_store import a_command

from openami.cli import main
from openami.headend.assets import Feeder
from openami.headend.assets.billing import cycle_start
from openami.headend.assets.changes import Swap, swapped
from openami.headend.exports.neutral import COLUMNS
from openami.headend.exports.payments import amount_of
from openami.headend.exports.pseudonyms import Pseudonyms
from openami.headend.store.open import open_store
from openami.profile import Obis, Quality
from openami.profile.command import CommandState
from openami.sip.actions import Action

HOUR = timedelta(hours=1)
VOLTAGE, CURRENT = Obis.parse("32.7.0"), Obis.parse("31.7.0")
SWAP = Swap(
    old="VM-1", new="VM-9", at=NOON + 90 * 60 * timedelta(seconds=1), closing_kwh=12, opening_kwh=0
)
TRADE = {
    "tradeId": "trade-1",
    "energyWh": 1500,
    "amountMinor": 1250,
    "currency": "INR",
    "seller": "a",
    "buyer": "b",
}


@pytest.fixture
async def url(tmp_path: Path) -> str:
    """A house with a swap after an hour and a half, its readings, and a trade that was settled."""
    made = new_store(tmp_path / "store.db")
    async with open_store(made) as store:
        village = swapped(VILLAGE, SWAP, now=NOON + 9 * HOUR)
        await put(store, replace(village, feeder=replace(village.feeder, billing_day=5)))
        for hour, kwh, quality in (
            (0, 10.0, Quality.GOOD),
            (1, 11.5, Quality.GOOD),
            (2, 99.0, Quality.SUSPECT),
            (3, 11.4, Quality.GOOD),
            (4, 12.0, Quality.GOOD),
        ):
            await store.commit(
                [
                    accepted(
                        register(kwh, ENERGY, quality=quality),
                        register(231.5, VOLTAGE, unit="V"),
                        register(0.5, CURRENT, unit="A"),
                        register("connected", RELAY, unit="enum"),
                        ts=NOON + hour * HOUR,
                        feeder="f",
                        meter="VM-1",
                    )
                ]
            )
        await store.commit(
            [accepted(register("=1+1", RELAY, unit="enum"), feeder="f", meter="VM-9")]
        )
        await store.request_command(
            a_command(
                action=Action.SETTLE,
                args=TRADE,
                feeder_id="f",
                meter_serial="VM-1",
                requested_at=NOON,
                ended_at=NOON + HOUR,
                state=CommandState.CONFIRMED,
            ),
            NOON,
        )
        await store.request_command(
            a_command("cmd-2", action=Action.SETTLE, args={**TRADE, "tradeId": "2"}, feeder_id="f"),
            NOON,
        )
    return made


def run(url: str, *words: str | Path) -> Result:
    result = CliRunner().invoke(main, ["export", *map(str, words)], env={"OPENAMI_STORE": url})
    assert result.exit_code == 0, result.output
    return result


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text("0123456789abcdef\n")
    return path


def test_readings_say_where_and_for_whom_they_were_read(url: str, tmp_path: Path) -> None:
    named = ("--pseudonym-key", key(tmp_path))
    rows = rows_of(run(url, "readings", *named).stdout)
    assert list(rows[0]) == list(COLUMNS)
    assert len(rows) == 21
    house = Pseudonyms(b"0123456789abcdef").of("f", "c-1")
    told = {(r["event_time_utc"][11:13], r["pole_id"], r["customer_ref"]) for r in rows[:20]}
    # After the swap the old serial hangs nowhere.
    assert told == {
        *(("12", "p-1", house), ("13", "p-1", house)),
        *(("14", "", ""), ("15", "", ""), ("16", "", "")),
    }
    assert "Anitha" not in json.dumps(rows)
    # What a spreadsheet would calculate is a word here.
    assert rows[-1]["value_text"] == "'=1+1"
    lines = run(url, "readings", *named, "--format", "jsonl").stdout.splitlines()
    assert [json.loads(line)["record_hash"] for line in lines] == [r["record_hash"] for r in rows]
    assert json.loads(lines[-1])["value_text"] == "=1+1"
    assert len({r["record_hash"] for r in rows}) == len(rows)

    out = tmp_path / "r.parquet"
    run(url, "readings", *named, "--format", "parquet", "--out", out, "--obis", "1.8.0")
    table = pq.read_table(out)
    assert table.column_names == list(COLUMNS)
    assert table["value"].to_pylist() == [10.0, 11.5, 99.0, 11.4, 12.0]
    assert table["event_time_utc"][0].as_py() == NOON


def test_a_time_is_chosen_with_its_beginning_and_without_its_end(url: str) -> None:
    found = run(
        url, "readings", "--obis", "1.8.0", "--feeder", "f", "--meter", "VM-1",
        "--since", "2026-06-22T13:00:00Z", "--until", "2026-06-22T15:00:00Z",
    )  # fmt: skip
    assert [row["value"] for row in rows_of(found.stdout)] == ["11.5", "99.0"]
    assert not rows_of(run(url, "readings", "--feeder", "g").stdout)


def test_customers_have_new_names_unless_the_key_is_kept(url: str) -> None:
    first, second = (run(url, "readings") for _ in range(2))
    assert "--pseudonym-key" in first.stderr
    names = [rows_of(each.stdout)[0]["customer_ref"] for each in (first, second)]
    assert names[0] != names[1]


def test_published_columns_leave_empty_what_is_not_good(url: str) -> None:
    rows = rows_of(run(url, "prospect", "--manufacturer", "Acme", "--meter", "VM-1").stdout)
    assert [row["metered_at"][11:13] for row in rows] == ["12", "13", "14", "15", "16"]
    cumulative = [row["output_energy_cumulative_wh"] for row in rows]
    assert cumulative == ["10000", "11500", "", "11400", "12000"]
    # The first has nothing before it, the third is suspect, the fourth went back.
    intervals = [(r["output_energy_interval_wh"], r["interval_seconds"]) for r in rows]
    assert intervals == [("", ""), ("1500", "3600"), ("", ""), ("", ""), ("600", "3600")]
    assert [row["custom.quality"] for row in rows] == ["", "", "suspect", "", ""]
    assert {(r["manufacturer"], r["output_voltage_v"], r["output_current_a"]) for r in rows} == {
        ("Acme", "231.5", "0.5")
    }
    other = rows_of(run(url, "prospect", "--table", "meters_ts", "--meter", "VM-1").stdout)
    assert other[1]["energy_lifetime_wh"] == "11500"
    assert other[0]["phase"] == "A"
    # The fifth, at midnight of North Paravur.
    assert {row["billing_cycle_start_at"] for row in other} == {"2026-06-04T18:30:00Z"}


def test_payments_are_the_trades_that_were_settled(url: str, tmp_path: Path) -> None:
    asked = ("payments", "--since", "2026-06-22", "--until", "2026-06-23")
    found = json.loads(run(url, *asked, "--pseudonym-key", key(tmp_path)).stdout)
    assert found["errors"] == ""
    [payment] = found["payments"]
    assert payment == {
        "timestamp": "2026-06-22T13:00:00Z",
        "amount": 12.5,
        "currency": "INR",
        "transactionType": "FULL_PAYMENT",
        "transactionId": "trade-1",
        "serialNumber": "N/A",
        "meterId": "VM-1",
        "customerId": Pseudonyms(b"0123456789abcdef").of("f", "c-1"),
    }
    [named] = json.loads(run(url, *asked, "--names", "--positions").stdout)["payments"]
    assert (named["customerId"], named["customerName"]) == ("c-1", "Anitha B.")
    assert (named["latitude"], named["longitude"]) == (10.1, 76.2)
    later = run(url, "payments", "--since", "2026-06-23", "--until", "2026-06-24")
    assert json.loads(later.stdout)["payments"] == []


def test_an_amount_has_its_currencys_decimals() -> None:
    assert [str(amount_of(1250, code)) for code in ("INR", "UGX", "KES")] == [
        "12.50",
        "1250",
        "12.50",
    ]


def test_a_connections_use_is_one_row_and_a_lower_bound(url: str) -> None:
    [row] = rows_of(run(url, "verification").stdout)
    assert (row["meter_serial"], row["days_with_data"]) == ("VM-1", "1")
    assert (row["kwh"], row["kwh_per_day"]) == ("2.1", "12.6")
    assert row["first_read_utc"] == "2026-06-22T12:00:00Z"


def test_everything_goes_out_and_comes_in_by_command(url: str, tmp_path: Path) -> None:
    archive = tmp_path / "village.zip"
    run(url, "everything", archive)
    env = {"OPENAMI_STORE": f"sqlite:///{tmp_path / 'new.db'}"}
    checked = CliRunner().invoke(main, ["import", str(archive), "--check"], env=env)
    assert "is whole" in checked.stderr
    told = CliRunner().invoke(main, ["import", str(archive)], env=env)
    assert json.loads(told.stdout) == {
        "stored": 21,
        "duplicates": 0,
        "conflicts": 0,
        "events": 0,
        "eventsUnreadable": 0,
        "assetsChanged": 7,
        "budgetsSet": 0,
    }
    archive.write_bytes(archive.read_bytes()[:-5])
    damaged = CliRunner().invoke(main, ["import", str(archive)], env=env)
    assert damaged.exit_code == 1
    assert "no whole archive" in damaged.stderr


def test_a_file_that_is_there_is_not_overwritten(url: str, tmp_path: Path) -> None:
    out = tmp_path / "readings.csv"
    run(url, "readings", "--out", out)
    before = out.read_text()
    for words in (
        ["readings", "--out", str(out)],
        ["readings", "--format", "parquet", "--out", str(out)],
        ["everything", str(out)],
        ["readings", "--format", "parquet"],
        ["readings", "--obis", "x"],
    ):
        again = CliRunner().invoke(main, ["export", *words], env={"OPENAMI_STORE": url})
        assert again.exit_code == 2, again.output
    assert out.read_text() == before
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    ("day", "at", "begins"),
    [
        (1, "2026-06-22T00:00:00Z", "2026-05-31T21:00:00Z"),
        (5, "2026-06-04T20:59:59Z", "2026-05-04T21:00:00Z"),
        (5, "2026-06-04T21:00:00Z", "2026-06-04T21:00:00Z"),
        (28, "2026-01-02T00:00:00Z", "2025-12-27T21:00:00Z"),
        (15, "2026-12-20T00:00:00Z", "2026-12-14T21:00:00Z"),
    ],
)
def test_a_bill_begins_at_the_feeders_own_midnight(day: int, at: str, begins: str) -> None:
    feeder = Feeder(id="f", name="f", time_zone="Africa/Nairobi", billing_day=day)
    moment = datetime.fromisoformat(at)
    assert cycle_start(feeder, moment) == datetime.fromisoformat(begins)


def test_a_billing_day_on_which_the_clocks_change() -> None:
    feeder = Feeder(id="f", name="f", time_zone="Europe/Paris", billing_day=25)
    # In October the 25th begins in summer time.
    moment = datetime(2026, 10, 25, 12, tzinfo=UTC)
    assert cycle_start(feeder, moment) == datetime(2026, 10, 24, 22, tzinfo=UTC)
