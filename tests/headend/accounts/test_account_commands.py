"""``openami user``, ``openami token`` and ``openami headend first-link``, as an operator types them."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.headend.web.browser import PASSWORD

from openami.cli import main
from openami.cli.report import Exit
from openami.headend.store.open import open_store


@pytest.fixture
async def store(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/headend.db"
    async with open_store(url):
        return url


@pytest.fixture
def password_file(tmp_path: Path) -> str:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    return str(file)


def run(store: str, *arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [*arguments, "--store", store])
    assert result.exit_code == code, (result.exit_code, result.output, result.exception)
    return result


def rows(store: str, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(store, *arguments, "--json").stdout.splitlines()]


def audited(store: str) -> list[str]:
    return [row["what"] for row in rows(store, "audit", "list")]


def test_a_user_s_life(store: str, password_file: str) -> None:
    run(store, "user", "add", "Ada", "--role", "engineer", "--password-file", password_file)
    run(store, "user", "add", "ada", "--role", "viewer", "--link", code=Exit.REFUSED)
    [bob] = rows(store, "user", "add", "bob", "--role", "operator", "--feeder", "north", "--link")
    assert bob["link"].startswith("/first/")
    assert bob["signsIn"] == "has no password yet"
    found = {row["name"]: row for row in rows(store, "user", "list")}
    assert found["ada"]["feeders"] is None
    assert found["bob"]["feeders"] == ["north"]
    assert PASSWORD not in str(found)
    run(store, "user", "passwd", "bob", "--password-file", password_file)
    run(store, "user", "disable", "bob")
    assert "last engineer" in run(store, "user", "disable", "ada", code=Exit.REFUSED).stderr
    run(store, "user", "disable", "nobody", code=Exit.FAILED)
    run(store, "user", "passwd", "nobody", "--password-file", password_file, code=Exit.FAILED)
    [bob] = [row for row in rows(store, "user", "list") if row["name"] == "bob"]
    assert bob["signsIn"] == "disabled"
    run(store, "user", "passwd", "bob", "--link", "--without-second-factor")
    assert "BOB" not in run(store, "user", "list").stdout
    assert audited(store) == [
        "user ada added",
        "user bob added",
        "one-time link made for bob",
        "password of bob changed",
        "user bob disabled",
        "user bob enabled",
        "one-time link made for bob",
    ]


def test_a_bad_password_or_name_is_said(store: str, tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.write_text("short\n")
    add = ("user", "add", "ada", "--role", "viewer")
    result = run(store, *add, "--password-file", str(short), code=Exit.USAGE)
    assert "has 5 characters" in result.stderr
    short.write_bytes(b"\xff" * 20)
    run(store, *add, "--password-file", str(short), code=Exit.USAGE)
    run(store, *add, "--password-file", str(tmp_path / "missing"), code=Exit.USAGE)
    result = run(store, *add, code=Exit.USAGE)
    assert "typed at a terminal" in result.stderr
    run(store, "user", "add", "no name", "--role", "viewer", "--link", code=Exit.USAGE)
    run(store, *add, "--feeder", "a/b", "--link", code=Exit.USAGE)
    run(store, *add, "--link", "--password-file", str(short), code=Exit.USAGE)
    assert rows(store, "user", "list") == []


def test_a_token_s_life(store: str) -> None:
    [made] = rows(store, "token", "create", "billing", "--role", "viewer", "--for", "30d")
    text = made.pop("token")
    assert text.startswith("oami_")
    [listed] = rows(store, "token", "list")
    assert (listed["id"], listed["label"], listed["usedAt"]) == (made["id"], "billing", None)
    assert text not in run(store, "token", "list").stdout
    run(store, "token", "revoke", made["id"])
    run(store, "token", "revoke", made["id"], code=Exit.FAILED)
    assert rows(store, "token", "list")[0]["revokedAt"] is not None
    run(store, "token", "create", "x", "--role", "viewer", "--for", "367d", code=Exit.USAGE)
    assert audited(store) == [f"{made['id']} made for billing", f"{made['id']} revoked"]


def test_a_first_link_is_printed_while_there_is_no_account(
    store: str, password_file: str, tmp_path: Path
) -> None:
    link = run(store, "headend", "first-link", "--url", "https://ami.example/").stdout
    assert link.startswith("https://ami.example/first/")
    config = tmp_path / "headend.toml"
    config.write_text('[web]\nlisten = "127.0.0.1:8099"\n')
    [told] = rows(store, "headend", "first-link", "-c", str(config))
    assert told["link"].startswith("http://127.0.0.1:8099/first/")
    run(store, "user", "add", "ada", "--role", "engineer", "--password-file", password_file)
    run(store, "headend", "first-link", code=Exit.REFUSED)
