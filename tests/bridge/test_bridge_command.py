"""``openami bridge meshems``: what it checks before it touches a wire, and how it ends."""

import json
import socket
from pathlib import Path

from click.testing import CliRunner
from tests.bridge.test_config import WHOLE, written

from openami.cli import main


def test_a_configuration_is_checked_without_touching_a_wire(tmp_path: Path) -> None:
    file = written(tmp_path, WHOLE)
    run = CliRunner().invoke(main, ["bridge", "meshems", "-c", str(file), "--check"])
    assert run.exit_code == 0
    assert run.stdout == ""
    assert (
        "ok: 2 meters on 1 poles, mqtt://127.0.0.1:1884 → mqtts://broker.example:8883" in run.stderr
    )
    assert not (tmp_path / "data").exists()


def test_the_check_for_a_program(tmp_path: Path) -> None:
    file = written(tmp_path, WHOLE)
    run = CliRunner().invoke(main, ["bridge", "meshems", "-c", str(file), "--check", "--json"])
    assert json.loads(run.stdout) == {
        "poles": 1,
        "meters": 2,
        "south": "mqtt://127.0.0.1:1884",
        "north": "mqtts://broker.example:8883",
    }


def test_a_fault_in_the_configuration_is_a_line_and_exit_code_2(tmp_path: Path) -> None:
    file = written(tmp_path, WHOLE.replace("meter_1", "meter-1"))
    run = CliRunner().invoke(main, ["bridge", "meshems", "-c", str(file)])
    assert run.exit_code == 2
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1
    assert "pole[0].meters.meter-1" in run.stderr


def test_a_directory_that_cannot_be_made_is_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    file = written(tmp_path, WHOLE)
    run = CliRunner().invoke(main, ["bridge", "meshems", "-c", str(file)])
    assert run.exit_code == 2
    assert "data_dir" in run.stderr


def test_a_port_in_use_is_exit_code_2(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        text = WHOLE.replace(
            'data_dir = "data"', f'data_dir = "data"\nmetrics = "127.0.0.1:{port}"'
        )
        run = CliRunner().invoke(main, ["bridge", "meshems", "-c", str(written(tmp_path, text))])
    assert run.exit_code == 2
    assert "metrics" in run.stderr
    assert "in use" in run.stderr
