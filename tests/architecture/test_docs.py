"""What can go stale is tested: commands, settings, codes, decisions, links and examples of the documents."""

import re
import tomllib
from pathlib import Path

import click
import msgspec
import pytest

import openami
from openami.bridge.config import BridgeConfig, PoleTable
from openami.bridge.findings import Reason
from openami.cli import main
from openami.gateway.config import ScheduleSettings, StatusSettings
from openami.gateway.drivers.dlms import meter_map as dlms_map
from openami.gateway.drivers.dlms import options as dlms_options
from openami.gateway.drivers.modbus.options import LineOptions, MeterOptions
from openami.gateway.drivers.modbus.register_map import read_map
from openami.gateway.on_change import GroupReport
from openami.gateway.outbox import OutboxLimits
from openami.gateway.uplink import UplinkSettings
from openami.headend.accounts.proxy import ProxyAuthSettings
from openami.headend.completeness import CompletenessSettings
from openami.headend.listening import WebSettings
from openami.headend.worker_settings import WorkersSettings
from openami.mqtt.settings import BrokerSettings
from openami.profile import Code
from openami.profile.requirements import requirements

ROOT = Path(openami.__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "deploy").rglob("*.md")])


def text_of(*names: str) -> str:
    return "\n".join((ROOT / name).read_text() for name in names)


def commands(group: click.Group, *path: str) -> list[tuple[str, ...]]:
    context = click.Context(group)
    found = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found += (
            commands(command, *path, name) if isinstance(command, click.Group) else [(*path, name)]
        )
    return found


def test_every_command_is_documented() -> None:
    pages = sorted(DOCS.glob("*.md"))
    said = text_of("README.md", *(f"docs/{page.name}" for page in pages))
    all_of_them = [f"openami {' '.join(command)}" for command in commands(main)]
    assert len(all_of_them) > 50
    assert [command for command in all_of_them if command not in said] == []


def test_every_code_is_documented() -> None:
    said = text_of("docs/profile.md")
    assert [code for code in Code if f"`{code}`" not in said] == []


def test_every_reason_of_the_bridge_is_documented() -> None:
    said = text_of("docs/bridge.md")
    assert [reason for reason in Reason if f"`{reason.value}`" not in said] == []


def test_every_requirement_is_documented() -> None:
    said = text_of("docs/profile.md")
    for requirement in requirements().values():
        assert f"| {requirement.id} | {requirement.text} | {requirement.source} |" in said


def test_how_every_requirement_is_judged_is_documented() -> None:
    said = text_of("docs/conformance.md")
    for requirement in requirements().values():
        assert f" {requirement.how} |" in said, requirement.id
        assert requirement.exercise in said, requirement.id
        core = f"| {requirement.id} (core) |" in said
        assert core == bool(requirement.core), requirement.id


SETTINGS = (
    ("docs/accounts.md", WebSettings),
    ("docs/accounts.md", ProxyAuthSettings),
    ("docs/bridge.md", BridgeConfig),
    ("docs/bridge.md", PoleTable),
    ("docs/operations.md", BrokerSettings),
    ("docs/operations.md", CompletenessSettings),
    ("docs/operations.md", WorkersSettings),
    ("docs/operations.md", ScheduleSettings),
    ("docs/operations.md", GroupReport),
    ("docs/operations.md", OutboxLimits),
    ("docs/operations.md", UplinkSettings),
    ("docs/operations.md", StatusSettings),
    ("docs/drivers.md", LineOptions),
    ("docs/drivers.md", MeterOptions),
    ("docs/drivers.md", dlms_options.LineOptions),
    ("docs/drivers.md", dlms_options.MeterOptions),
)


@pytest.mark.parametrize(("page", "kind"), SETTINGS)
def test_every_setting_is_documented(page: str, kind: type[msgspec.Struct]) -> None:
    said = text_of(page)
    keys = [field.name for field in msgspec.structs.fields(kind)]
    assert keys
    assert [key for key in keys if f"`{key}`" not in said] == []


def test_every_decision_that_is_cited_exists() -> None:
    records = {path.name[:4] for path in (DOCS / "decisions").glob("[0-9]*.md")}
    cited: set[str] = set()
    for path in [*(ROOT / "src").rglob("*"), *PAGES]:
        if path.suffix in {".py", ".toml", ".sql", ".md", ".json"}:
            cited.update(re.findall(r"[Dd]ecisions? (\d{4})", path.read_text()))
    assert cited
    assert cited <= records


def test_every_decision_record_is_in_the_index() -> None:
    index = text_of("docs/decisions/README.md")
    for path in (DOCS / "decisions").glob("[0-9]*.md"):
        assert f"({path.name})" in index
        parts = re.findall(r"^## (.*)$", path.read_text(), re.MULTILINE)
        assert parts == ["Context", "Options", "Choice", "What would change it"]


def test_links_lead_somewhere() -> None:
    links = [
        (page, target)
        for page in PAGES
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
        if "://" not in target
    ]
    assert len(links) > 100
    assert [
        f"{page.relative_to(ROOT)}: {target}"
        for page, target in links
        if not (page.parent / target).exists()
    ] == []


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "page",
    ["docs/operations.md", "docs/drivers.md", "docs/accounts.md", "docs/bridge.md", "README.md"],
)
def test_examples_in_toml_are_toml(page: str) -> None:
    for example in blocks(page, "toml"):
        tomllib.loads(example)


def test_the_example_of_a_map_is_a_map() -> None:
    (example,) = [text for text in blocks("docs/drivers.md", "toml") if "[[golden]]" in text]
    assert read_map(example).golden


def test_the_example_of_a_dlms_map_is_a_map() -> None:
    (example,) = [text for text in blocks("docs/drivers.md", "toml") if "class = 112" in text]
    assert dlms_map.read_map(example).load_profile


def test_files_named_in_the_architecture_exist() -> None:
    said = text_of("docs/architecture.md")
    for name in re.findall(
        r"(?<![\w/])((?:bridge|gateway|headend|mqtt|profile|sip|cli)/[\w/]+\.py)", said
    ):
        assert (ROOT / "src/openami" / name).exists(), name
    for name in re.findall(r"`(tests/[\w/.]+)`", said):
        assert (ROOT / name).exists(), name
