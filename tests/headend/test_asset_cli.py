"""Assets from the command line: imported, swapped, protected; and what a script is told."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.headend.decisions import accepted
from tests.headend.test_asset_import import FLAT

from openami.cli import main
from openami.headend.store.open import open_store


@pytest.fixture
async def url(tmp_path: Path) -> str:
    made = f"sqlite:///{tmp_path / 'store.db'}"
    async with open_store(made) as store:
        await store.commit([accepted(feeder="f", meter="VM-1")])
    return made


def run(url: str, *words: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, words)], env={"OPENAMI_STORE": url})


def audit(url: str) -> Sequence[str]:
    return [
        json.loads(line)["what"] for line in run(url, "audit", "list", "--json").stdout.splitlines()
    ]


def test_a_village_is_told_swapped_and_protected(url: str, tmp_path: Path) -> None:
    sheet = tmp_path / "village.csv"
    sheet.write_text(FLAT)
    tried = run(url, "feeder", "import", sheet, "--dry-run")
    assert tried.exit_code == 0, tried.output
    assert "would be new" in tried.stderr
    assert run(url, "meter", "protect", "VM-2").exit_code == 4  # nothing was written
    told = run(url, "feeder", "import", sheet, "--json")
    assert {json.loads(line)["thing"] for line in told.stdout.splitlines()} == {
        *("feeder", "pole", "customer", "meter")
    }
    again = run(url, "feeder", "import", sheet)
    assert (again.stdout, again.stderr) == ("", "0 new, 0 changed\n")

    swapped = run(
        url,
        "meter",
        "swap",
        "VM-2",
        "VM-9",
        "--closing",
        "12.5",
        "--opening",
        "0",
        "--reason",
        "burnt",
    )
    assert swapped.exit_code == 0, swapped.output
    assert run(url, "meter", "protect", "VM-9", "--reason", "school").exit_code == 0
    assert run(url, "meter", "unprotect", "VM-9").exit_code == 2
    assert run(url, "meter", "unprotect", "VM-9", "--reason", "holidays").exit_code == 0
    assert audit(url) == [
        "assets imported",
        "meter VM-2 swapped for VM-9 on f",
        "meter VM-9 on f protected",
        "meter VM-9 on f no longer protected",
    ]
    gone = run(url, "meter", "swap", "VM-2", "VM-8", "--closing", "1", "--opening", "0")
    assert gone.exit_code == 4
    assert "—" in gone.stderr


def test_a_protected_house_is_cut_off_only_on_purpose_and_with_a_reason(
    url: str, tmp_path: Path
) -> None:
    (tmp_path / "village.csv").write_text(FLAT)
    run(url, "feeder", "import", tmp_path / "village.csv")
    send = ("command", "send", "relay-disconnect", "VM-1")
    assert run(url, *send, "--reason", "unpaid").exit_code == 4
    assert run(url, *send, "--protected").exit_code == 4
    assert run(url, "command", "send", "relay-reconnect", "VM-1").exit_code == 0
    assert run(url, *send, "--protected", "--reason", "rewiring").exit_code == 0


def test_faults_are_told_by_row_and_nothing_is_let_in(url: str, tmp_path: Path) -> None:
    sheet = tmp_path / "village.csv"
    sheet.write_text(FLAT + "f,,,p-9,,,,,VM-3,,A,c-3,Meena,\n")
    refused = run(url, "feeder", "import", sheet)
    assert refused.exit_code == 1
    assert "village.csv, row 5, column pole: there is no pole p-9 — add a row" in refused.stderr
    assert not audit(url)
    partly = run(url, "feeder", "import", sheet, "--skip-bad-rows", "--json")
    assert partly.exit_code == 1
    assert json.loads(partly.stdout.splitlines()[-1])["row"] == "fault"
    assert audit(url) == ["assets imported"]
    sheet.write_bytes(b"PK\x03\x04")
    assert run(url, "feeder", "import", sheet).exit_code == 1


def test_a_template_is_written_once(url: str, tmp_path: Path) -> None:
    out = tmp_path / "village.xlsx"
    assert run(url, "feeder", "template", "--out", out).exit_code == 0
    assert run(url, "feeder", "template", "--out", out).exit_code == 2
    assert run(url, "feeder", "import", out).exit_code == 0
    assert run(url, "feeder", "template").stdout.startswith("feeder,serial")
