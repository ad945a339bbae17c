"""``openami doctor capacity``, run for real: it measures, says so, and leaves nothing behind."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.small_disk import fill, mounted
from tests.postgres import Postgres

COMMAND = (sys.executable, "-m", "openami", "doctor", "capacity")
TIMEOUT_S = 120  # a second's measuring, and a disk that others are flooding


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
        cwd=cwd,
    )


def assert_sound(found: dict[str, Any]) -> None:
    for latency in (found["sync"], found["commit"], found["outbox"]):
        assert 0 < latency["p50_s"] <= latency["p99_s"]
    for registers in ("3", "8"):
        # Judging is a part of the intake, and one core does no more than a second's work a second.
        intake = found["intake"][registers]
        assert intake["cpu_us"] * 1e-6 > 1 / found["judge_per_s"][registers] / 2
        assert intake["per_s"] > 10
    assert found["outbox"]["readings_per_s"] > 10
    assert [(one["interval_s"], one["registers"]) for one in found["reach"]] == [
        (900, 3), (900, 8), (60, 3), (60, 8)
    ]  # fmt: skip
    for one in found["reach"]:
        assert one["meters"] == one["by"][one["first_limit"]] == min(one["by"].values())


def test_into_sqlite(tmp_path: Path) -> None:
    done = run("--store", f"sqlite:///{tmp_path}/headend.db", "--seconds", "1", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["engine"] == "sqlite"
    assert found["directory"] == str(tmp_path)
    assert_sound(found)
    assert 20 < found["bytes_per_reading"] < 60
    assert all(one["by"]["room"] > 0 for one in found["reach"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.postgres
def test_into_postgres(postgres: Postgres, tmp_path: Path) -> None:
    """A database of its own on the server; the one that is named is not touched."""
    url = f"postgresql://postgres@127.0.0.1:{postgres.port}/postgres"
    before = postgres.sql("SELECT datname FROM pg_database ORDER BY 1")
    done = run("--store", url, "--seconds", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("PostgreSQL; measured in")
    assert "15 min  8" in done.stdout
    assert "The server's disk cannot be seen from here" in done.stdout
    assert postgres.sql("SELECT datname FROM pg_database ORDER BY 1") == before
    assert postgres.sql("SELECT to_regnamespace('openami') IS NULL") == "t"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.postgres
def test_who_may_make_no_database_is_told_so(postgres: Postgres, tmp_path: Path) -> None:
    postgres.sql("CREATE ROLE only_reads LOGIN")
    try:
        url = f"postgresql://only_reads@127.0.0.1:{postgres.port}/postgres"
        done = run("--store", url, "--directory", str(tmp_path))
    finally:
        postgres.sql("DROP ROLE only_reads")
    assert done.returncode == 2
    assert "ALTER ROLE user CREATEDB" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_ended_from_outside_it_leaves_nothing_behind(tmp_path: Path, how: signal.Signals) -> None:
    running = subprocess.Popen(
        [*COMMAND, "--directory", str(tmp_path), "--seconds", "100"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stderr is not None
    assert "measuring" in running.stderr.readline()
    assert "the disk's syncs" in running.stderr.readline()
    assert list(tmp_path.iterdir())
    running.send_signal(how)
    _, said = running.communicate(timeout=TIMEOUT_S)
    assert running.returncode == 130
    assert "nothing is left behind" in said
    assert list(tmp_path.iterdir()) == []


def test_a_disk_with_no_room_is_named(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk") as disk:
        fill(disk)
        done = run("--directory", str(disk))
        assert [path.name for path in disk.iterdir()] == ["somebody-elses.log"]
    assert done.returncode == 2
    assert str(disk) in done.stderr
    assert "free some space" in done.stderr


def test_a_directory_that_may_only_be_read_is_named(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk") as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        done = run("--directory", str(disk))
    assert done.returncode == 2
    assert "Read-only file system" in done.stderr
    assert "--directory" in done.stderr


def test_a_store_of_no_known_kind_is_named(tmp_path: Path) -> None:
    done = run("--store", "mysql://db/openami", "--directory", str(tmp_path))
    assert done.returncode == 2
    assert "'mysql' is no kind of store" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = run("--store", f"sqlite:///{tmp_path}/away/headend.db")
    assert done.returncode == 2
    assert "No such file or directory" in done.stderr
