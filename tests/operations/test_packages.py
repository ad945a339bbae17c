"""Package, image and compose file: what can be held without building them (`make package` builds and tries one)."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tools.wheelhouse import EXTRAS, GLIBC_MINORS, PROCESSORS, PYTHON, platforms

from openami import __version__
from openami.headend.config import read_config
from openami.toml_text import read_toml

PACKAGING = Path(__file__).parents[2] / "packaging"
SCRIPTS = [
    *(PACKAGING / "debian" / name for name in ("build", "try")),
    *sorted((PACKAGING / "debian/scripts").iterdir()),
]
CONTAINERFILE = (PACKAGING / "oci/Containerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((PACKAGING / "oci/compose.yaml").read_text())


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_one_and_stops_at_the_first_fault(script: Path) -> None:
    subprocess.run(["sh", "-n", script], check=True)
    assert re.search(r"^set -eu?$", script.read_text(), re.MULTILINE)
    assert script.stat().st_mode & 0o111


def test_no_script_deletes_data() -> None:
    for script in (PACKAGING / "debian/scripts").iterdir():
        for line in script.read_text().splitlines():
            assert not ("/var/lib" in line and re.search(r"\b(rm|rmdir|find|userdel)\b", line))


def test_package_wheels_and_units_are_for_the_same_system() -> None:
    control = (PACKAGING / "debian/control").read_text()
    minor = int(PYTHON.split(".")[1])
    assert f"python3 (>= 3.{minor}), python3 (<< 3.{minor + 1}), libc6 (>= 2.34)" in control
    assert max(GLIBC_MINORS) == 36  # Debian 12's
    build = (PACKAGING / "debian/build").read_text()
    assert " ".join(map(str, GLIBC_MINORS)) in build
    for processor in PROCESSORS:
        assert f"processor={processor}" in build
        assert f"manylinux_2_17_{processor}" in platforms(processor)
    assert f"python:{PYTHON}-slim-bookworm" in CONTAINERFILE
    assert f"[{EXTRAS}]" in CONTAINERFILE
    for unit in (PACKAGING / "systemd").glob("*.service"):
        [user] = re.findall(r"^User=(.*)$", unit.read_text(), re.MULTILINE)
        assert f"u {user} " in (PACKAGING / "systemd/openami.sysusers").read_text()


def test_the_configurations_that_are_shipped_can_be_read() -> None:
    for file in (PACKAGING / "config/headend.toml", PACKAGING / "oci/headend.toml"):
        assert read_config(file).listening() is not None
    gateway = read_toml((PACKAGING / "config/gateway.toml").read_text())
    assert gateway["data_dir"] == "/var/lib/openami-gateway"


def test_the_image_is_nobodys_in_particular_and_tells_how_it_is() -> None:
    [base] = re.findall(r"^ARG BASE=(.*)$", CONTAINERFILE, re.MULTILINE)
    assert re.fullmatch(r"docker\.io/library/python:3\.11-slim-bookworm", base)
    [user] = re.findall(r"^USER (.*)$", CONTAINERFILE, re.MULTILINE)
    assert int(user) >= 10_000
    assert "HEALTHCHECK" in CONTAINERFILE
    assert "PYTHONOPTIMIZE" not in CONTAINERFILE
    for source in re.findall(r"^COPY ((?!--from).*) \./", CONTAINERFILE, re.MULTILINE):
        for name in source.split():
            assert (PACKAGING.parent / name).exists(), name


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_service_is_bounded_and_watched(name: str) -> None:
    service = COMPOSE["services"][name]
    assert {"mem_limit", "pids_limit", "healthcheck", "stop_grace_period"} <= service.keys()
    options = service["logging"]["options"]
    assert {"max-size", "max-file"} <= options.keys()
    assert service["restart"] == "unless-stopped"
    assert "no-new-privileges:true" in service["security_opt"]
    assert not {"privileged", "cap_add", "network_mode", "pid"} & service.keys()
    assert re.search(r":\d", service["image"])  # a version, not whatever is newest
    for volume in service["volumes"]:
        source = volume.split(":")[0]
        if source.startswith(".") and not source.startswith("./operator"):
            assert (PACKAGING / "oci" / source).exists(), source
        elif not source.startswith("."):
            assert source in COMPOSE["volumes"]
    for secret in service.get("secrets", ()):
        assert secret in COMPOSE["secrets"]


def test_only_the_broker_is_open_to_the_network() -> None:
    services = COMPOSE["services"]
    assert services["broker"]["ports"] == ["8883:8883"]
    assert all(port.startswith("127.0.0.1:") for port in services["headend"]["ports"])
    assert "ports" not in services["database"]
    assert services["headend"]["read_only"] is True
    assert services["headend"]["cap_drop"] == ["ALL"]
    assert services["headend"]["image"] == f"openami:{__version__}"
    mounted = " ".join(services["headend"]["volumes"])
    assert "authority:" not in mounted
    assert "roots:" not in mounted
    broker = (PACKAGING.parent / "deploy/mosquitto/mosquitto.conf").read_text()
    for line in ("max_queued_messages 1000000", "persistence true", "require_certificate true"):
        assert line in broker.splitlines()
    assert "log_dest syslog" in broker.splitlines()  # what the command replaces
