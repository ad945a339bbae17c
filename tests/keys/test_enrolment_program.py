"""The enrolment server and the gateway's command as programs of their own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.keys.villages import new_village, wall

from openami.gateway.config import ConfigError, load_config
from openami.gateway.drivers.modbus import ModbusDriver
from openami.gateway.enrolment import GatewayKeys
from openami.headend.village import Village

OPENAMI = (sys.executable, "-m", "openami")
_START_S_MAX = 30


@pytest.fixture
def village(tmp_path: Path) -> Village:
    return new_village(tmp_path / "operator", now=wall())


@contextmanager
def enrolment_server(village: Village, *words: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run ``openami headend enroll-serve``; yield its address."""
    process = subprocess.Popen(
        [*OPENAMI, "headend", "enroll-serve", "--dir", village.directory, *words],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        ready = process.stderr.readline()
        assert ready.startswith("ready: "), ready
        yield ready.removeprefix("ready: ").strip(), process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def typed(*words: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*OPENAMI, *(str(word) for word in words)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=_START_S_MAX,
        check=False,
    )


def test_a_token_from_one_shell_to_the_other(village: Village, tmp_path: Path) -> None:
    """Made, served, read from stdin, used once; the server ends in good order when it is told to."""
    keys = tmp_path / "gateway"
    made = typed("headend", "enroll-token", "--gateway", "feeder-1/g-1", "--dir", village.directory)
    words = (
        "gateway",
        "enroll",
        "--feeder",
        "feeder-1",
        "--gateway",
        "g-1",
        "--json",
        "--token",
        "-",
    )
    with enrolment_server(village, "--listen", "127.0.0.1:0") as (url, process):
        done = typed(*words, "--dir", keys, "--url", url, stdin=made.stdout)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert (told["gateway"], told["village"]) == ("feeder-1/g-1", village.fingerprint())
        again = typed(*words, "--dir", tmp_path / "thief", "--url", url, stdin=made.stdout)
        assert again.returncode == 4
        assert "BAD_TOKEN" in again.stderr
        process.send_signal(signal.SIGTERM)
        assert process.wait(_START_S_MAX) == 0
    away = typed(*words, "--dir", tmp_path / "late", "--url", url, stdin=made.stdout)
    assert away.returncode == 3
    assert GatewayKeys(keys).enrolled
    assert oct((keys / "sip.key").stat().st_mode)[-3:] == "600"


def test_what_the_server_cannot_do_it_says(village: Village, tmp_path: Path) -> None:
    for words, code, said in (
        (("--dir", tmp_path / "nowhere"), 1, "openami headend init"),
        (("--dir", village.directory, "--listen", "here"), 2, "HOST:PORT"),
        (("--dir", village.directory, "--listen", "192.0.2.1:8443"), 1, "cannot listen"),
        (("--dir", village.directory, "--name", "no name"), 2, "neither a host name"),
    ):
        done = typed("headend", "enroll-serve", *words)
        assert (done.returncode, said in done.stderr) == (code, True), done.stderr


def test_the_gateways_configuration_names_server_and_directory(tmp_path: Path) -> None:
    """Both or neither; the directory counts from the file's folder."""
    file = tmp_path / "gateway.toml"
    head = 'feeder_id = "f"\ngateway_id = "g"\ndata_dir = "data"\n'
    meters = (
        '[[line]]\ndriver = "modbus"\nname = "l"\ntransport = "tcp"\nhost = "h"\n'
        '[[line.meter]]\nserial = "m1"\nunit = 1\nmap = "dds238"\n'
    )

    def loaded(table: str) -> Path | None:
        file.write_text(f"{head}{table}\n{meters}")
        return load_config(file, {"modbus": ModbusDriver}, environ={}).keys_directory

    assert loaded("") is None
    both = '[enrolment]\nurl = "https://h:8443"\ndirectory = "keys"'
    assert loaded(both) == tmp_path.resolve() / "keys"
    for table, said in (
        ('[enrolment]\nurl = "https://h:8443"', "directory is missing"),
        ('[enrolment]\ndirectory = "keys"', "url is missing"),
        ('[enrolment]\nurl = "http://h"\ndirectory = "keys"', "https://"),
        ('[enrolment]\nurls = "https://h"', "urls"),
    ):
        with pytest.raises(ConfigError, match=said):
            loaded(table)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_cannot_use_the_operators_directory(village: Village) -> None:
    """The refusal names the owner, not a traceback."""
    os.chown(village.directory, 65534, -1)
    done = typed("headend", "enroll-token", "--gateway", "feeder-1/g", "--dir", village.directory)
    assert done.returncode == 1
    assert "belongs to user 65534" in done.stderr
    assert "Traceback" not in done.stderr
