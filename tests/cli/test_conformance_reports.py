"""What ``openami conformance watch`` leaves behind, beside a real broker: reports, a key, a transcript."""

import asyncio
import json
import stat
from pathlib import Path

import pytest
from tests.cli.test_conformance_watch import publish, readings, watching
from tests.conformance.report.test_commands import openami
from tests.conftest import StartMosquitto

from openami.conformance.report.document import open_report

pytestmark = pytest.mark.broker


async def test_a_watch_leaves_a_signed_report_that_follows_from_its_transcript(
    mosquitto: StartMosquitto, tmp_path: Path
) -> None:
    broker = mosquitto()
    transcript, folder = tmp_path / "transcript.jsonl", tmp_path / "reports"
    options = (
        *("--reports", str(folder), "--kit-key", str(tmp_path / "kit" / "key.pem")),
        *("--transcript", str(transcript), "--interval", "15m"),
        *("--price-per-mb", "0.04", "--currency", "EUR", "--meter-type", "prepaid"),
    )
    async with watching(broker, *options) as watch:
        await asyncio.to_thread(publish, broker, readings(times=5))
        await asyncio.sleep(0.3)  # the broker passes on the last of them
        code, out, err = await watch.end()
    assert code == 0, err
    assert stat.S_IMODE(transcript.stat().st_mode) == 0o600
    sealed = open_report((folder / "report.json").read_bytes())
    assert sealed.report.judgement.conforms
    assert sealed.kid in err
    assert sealed.digest in err
    assert "conforms" in out.lower()
    assert sealed.report.coverage is not None
    assert all("prepaid" in meter.types for meter in sealed.report.coverage.meters)
    assert sealed.report.bandwidth is not None
    assert {bill.chosen.interval_s for bill in sealed.report.bandwidth.meters if bill.chosen} == {
        900
    }
    verify = await asyncio.to_thread(
        openami,
        *("verify", folder / "report.json", "--signed-by", sealed.kid),
        *("--transcript", transcript, "--json"),
    )
    row = json.loads(verify.stdout)
    assert (verify.exit_code, row["verified"], row["differences"]) == (0, True, [])
