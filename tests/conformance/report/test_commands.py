"""`openami conformance verify` and `report`, and what `watch` writes, from outside."""

import json
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.conformance.report.sample import (
    BEGAN,
    ENDED,
    SIGNER,
    afternoon,
    judgement,
    sealed,
    sheets,
    traffic,
)

from openami import __version__
from openami.cli import main
from openami.conformance.judge import Judge
from openami.conformance.report.kit_key import kit_signer
from openami.conformance.report.writing import FILE_NAMES, FORMATS, write_reports
from openami.conformance.sheets import sheets_of
from openami.conformance.transcript import FORMAT, Head, TranscriptWriter
from openami.keyfiles import KeyFileError

DONE, FAILED, USAGE = 0, 1, 2


def openami(*arguments: str | Path) -> Result:
    """Run the command in our own process."""
    words = ["conformance", *map(str, arguments)]
    return CliRunner().invoke(main, words, catch_exceptions=False)


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return write_reports(judgement(), sheets(), tmp_path / "reports", SIGNER).paths["json"]


def test_every_format_is_written(tmp_path: Path) -> None:
    written = write_reports(judgement(), sheets(), tmp_path / "new" / "reports", SIGNER)
    assert set(written.paths) == set(FORMATS) == set(FILE_NAMES)
    for path in written.paths.values():
        assert path.stat().st_size > 1000
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert written.paths["json"].read_bytes() == written.sealed.data
    assert written.sealed.signed_at == ENDED


def test_every_format_names_the_signed_file(tmp_path: Path) -> None:
    written = write_reports(judgement(), sheets(), tmp_path, SIGNER)
    for name in ("text", "junit", "html"):
        assert written.sealed.digest in written.paths[name].read_text()


def test_a_key_is_made_once_and_is_nobody_elses(tmp_path: Path) -> None:
    path = tmp_path / "kit" / "kit-key.pem"
    first, made = kit_signer(path)
    again, made_again = kit_signer(path)
    assert (made, made_again) == (True, False)
    assert first.kid == again.kid
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="open to other users"):
        kit_signer(path)


# --- verify --------------------------------------------------------------------------------------


def test_verify_says_who_signed_and_what(report: Path) -> None:
    run = openami("verify", report)
    said = run.stderr
    assert run.exit_code == DONE
    assert run.stdout == ""
    for words in (
        SIGNER.kid,
        sealed().digest,
        "Does not conform",
        "1 failed, 1 warning",
        "unaltered",
    ):
        assert words in said


def test_verify_says_it_to_programs_too(report: Path) -> None:
    run = openami("verify", report, "--json", "--signed-by", SIGNER.kid)
    (line,) = run.stdout.splitlines()
    row = json.loads(line)
    assert (row["verified"], row["fault"], row["conforms"]) == (True, None, False)
    assert (row["signedBy"], row["sha256"]) == (SIGNER.kid, sealed().digest)
    assert row["counts"] == {
        "failed": 1, "warning": 1, "not exercised": 1, "passed": 1, "not testable": 1,
    }  # fmt: skip


def test_verify_tells_an_altered_report(report: Path) -> None:
    report.write_bytes(report.read_bytes().replace(b'"broken":12', b'"broken":11'))
    run = openami("verify", report)
    assert run.exit_code == FAILED
    assert "ALTERED" in run.stderr
    assert "believe nothing of it" in run.stderr
    row = json.loads(openami("verify", report, "--json").stdout)
    assert (row["verified"], row["fault"]) == (False, "ALTERED")


def test_verify_tells_another_key(report: Path) -> None:
    run = openami("verify", report, "--signed-by", "kPrK_someone_else")
    assert run.exit_code == FAILED
    assert "ANOTHER_KEY" in run.stderr


def test_verify_tells_a_file_that_is_no_report(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("hello")
    assert openami("verify", tmp_path / "x").exit_code == FAILED
    assert openami("verify", tmp_path / "nowhere").exit_code == USAGE
    assert openami("verify").exit_code == USAGE
    assert openami("verify", tmp_path).exit_code == USAGE


@pytest.fixture
def run_with_transcript(tmp_path: Path) -> tuple[Path, Path]:
    """A judgement as the kit makes it, and the transcript it was made from."""
    transcript = tmp_path / "transcript.jsonl"
    judge = Judge("gateway", began_at=BEGAN)
    with transcript.open("wb", buffering=0) as file:
        writer = TranscriptWriter(file, Head(FORMAT, __version__, "gateway", BEGAN))
        for each in afternoon():
            judge.see(each)
            writer.see(each)
    said = judge.judgement(ENDED)
    made = sheets_of(said, traffic())
    written = write_reports(said, made, tmp_path, SIGNER, transcript=writer.digest())
    return written.paths["json"], transcript


def test_verify_judges_a_transcript_again(run_with_transcript: tuple[Path, Path]) -> None:
    report, transcript = run_with_transcript
    run = openami("verify", report, "--transcript", transcript)
    assert run.exit_code == DONE, run.stderr
    assert "every finding follows" in run.stderr


def test_verify_tells_a_transcript_that_leads_elsewhere(
    run_with_transcript: tuple[Path, Path],
) -> None:
    report, transcript = run_with_transcript
    lines = transcript.read_bytes().splitlines(keepends=True)
    transcript.write_bytes(b"".join(lines[:10] + lines[11:]))
    run = openami("verify", report, "--transcript", transcript)
    assert run.exit_code == FAILED
    assert "does not follow" in run.stderr
    row = json.loads(openami("verify", report, "--transcript", transcript, "--json").stdout)
    assert (row["verified"], row["fault"]) == (False, "NOT_FROM_TRANSCRIPT")
    assert len(row["differences"]) > 5


def test_verify_tells_a_damaged_transcript(run_with_transcript: tuple[Path, Path]) -> None:
    report, transcript = run_with_transcript
    transcript.write_bytes(transcript.read_bytes()[:-5])
    run = openami("verify", report, "--transcript", transcript)
    assert run.exit_code == FAILED
    assert "cut off" in run.stderr


@pytest.mark.parametrize("format_", FORMATS)
def test_verify_makes_a_format_again_and_compares(report: Path, format_: str) -> None:
    """A PDF may show any digest: only who makes it again knows that it is what was signed."""
    made = report.parent / FILE_NAMES[format_]
    run = openami("verify", report, "--made", made)
    assert run.exit_code == DONE, run.stderr
    assert f"{made} is made from it" in run.stderr
    copy = report.parent / "copy"
    copy.write_bytes(made.read_bytes().replace(b"failed", b"passed").replace(b"e", b"i", 1))
    run = openami("verify", report, "--made", made, "--made", copy)
    assert run.exit_code == FAILED
    assert "openami conformance report" in run.stderr
    row = json.loads(openami("verify", report, "--made", copy, "--json").stdout)
    assert (row["verified"], row["fault"]) == (False, "NOT_MADE_FROM_IT")
    assert row["notMadeFromIt"] == [str(copy)]


# --- report --------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["html", "pdf", "junit", "text"])
def test_report_makes_what_was_written_with_it(report: Path, tmp_path: Path, format_: str) -> None:
    """Later, elsewhere, from the signed file alone: the same bytes."""
    output = tmp_path / "made"
    assert openami("report", report, "--format", format_, "-o", output).exit_code == DONE
    assert output.read_bytes() == (report.parent / FILE_NAMES[format_]).read_bytes()


def test_report_prints_text_if_nothing_is_said(report: Path) -> None:
    run = openami("report", report)
    assert run.stdout_bytes == (report.parent / "report.txt").read_bytes()


def test_report_makes_nothing_of_what_is_not_to_be_believed(report: Path, tmp_path: Path) -> None:
    report.write_bytes(report.read_bytes()[:-1])
    output = tmp_path / "made"
    assert openami("report", report, "-o", output).exit_code == FAILED
    assert not output.exists()


def test_report_says_where_it_cannot_write(report: Path, tmp_path: Path) -> None:
    run = openami("report", report, "-o", tmp_path / "nowhere" / "made")
    assert run.exit_code == USAGE
    assert "cannot be written" in run.stderr


# --- the options of serve and watch --------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--price-per-mb", "cheap"), "is no price"),
        (("--price-per-mb", "-1"), "is no price"),
        (("--price-per-mb", "NaN"), "is no price"),
        (("--price-per-mb", "0.04"), "--currency"),
        (("--meter-type", "M-1=solar"), "is no type of meter"),
        (("--interval", "often"), "is no duration"),
    ],
)
def test_options_that_make_no_sense_are_told_before_anything_is_watched(
    options: tuple[str, str], said: str
) -> None:
    run = openami("watch", "--for", "1s", *options)
    assert run.exit_code == USAGE
    assert said in run.stderr


def test_a_place_that_cannot_be_written_is_told_before_anything_is_watched(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for options in (
        ("--reports", tmp_path / "file" / "x"),
        ("--transcript", tmp_path / "no" / "x"),
    ):
        run = openami("watch", "--for", "1s", "--kit-key", tmp_path / "kit" / "key.pem", *options)
        assert run.exit_code == USAGE, run.stderr
