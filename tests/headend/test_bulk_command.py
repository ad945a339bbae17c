"""``openami bulk``: a look that does nothing, two people who show who they are, and what is refused."""

import asyncio
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.headend.decisions import FEEDER, NOON, RELAY, accepted, register
from tests.headend.new_store import new_store

from openami.cli import main
from openami.cli.report import Exit
from openami.headend.accounts import Role
from openami.headend.accounts.passwords import Argon2Hasher
from openami.headend.accounts.users import User
from openami.headend.audit import Entry
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.open import open_store

PASSWORD = "four words and more"
PEOPLE = (
    *(("erik", Role.ENGINEER, None), ("asha", Role.OPERATOR, None), ("vera", Role.VIEWER, None)),
    ("omar", Role.OPERATOR, frozenset({"elsewhere"})),
)
PROPOSE = ("bulk", "propose", "M-1", "M-2", "--feeder", FEEDER, "--reason", "unpaid")


@cache
def _hashed() -> str:
    return Argon2Hasher().hash(PASSWORD)


def an_account(name: str, role: Role, feeders: frozenset[str] | None = None) -> User:
    return User(
        name=name,
        role=role,
        feeders=feeders,
        password=_hashed(),
        created_at=NOON,
        created_by="test",
    )


class Desk:
    """A store, and people who sit down before it."""

    def __init__(self, directory: Path) -> None:
        self.url = new_store(directory / "store.db")
        self.password, self.wrong = directory / "password", directory / "wrong"
        self.password.write_text(PASSWORD)
        self.wrong.write_text("five words and no more")

    def run(self, *words: str, given: str | None = None) -> Result:
        return CliRunner().invoke(main, [*words, "--store", self.url], input=given)

    def told(self, *words: str, code: int = 0) -> dict[str, Any]:
        run = self.run(*words, "--json")
        assert run.exit_code == code, run.output
        [line] = run.stdout.splitlines()
        told: dict[str, Any] = json.loads(line)
        return told

    def as_(self, name: str, *, wrong: bool = False) -> tuple[str, ...]:
        return ("--as", name, "--password-file", str(self.wrong if wrong else self.password))

    def proposed(self, *more: str) -> dict[str, Any]:
        return self.told(*PROPOSE, "--houses", "2", *self.as_("erik"), *more)

    def refused(self, *words: str) -> str:
        run = self.run(*words)
        assert (run.exit_code, run.stdout) == (Exit.REFUSED, ""), run.output
        return run.stderr

    def audit(self) -> Sequence[str]:
        rows = self.run("audit", "list", "--json").stdout.splitlines()
        return [json.loads(row)["what"] for row in rows]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)

    async def fill(store: HeadEndStore) -> None:
        off = register("disconnected", RELAY, unit="enum")
        await store.commit(
            [accepted(meter="M-1"), accepted(meter="M-2"), accepted(off, meter="M-3")]
        )
        for person in PEOPLE:
            await store.add_user(an_account(*person), Entry(who="test", what="added"))

    async def run() -> None:
        async with open_store(made.url) as store:
            await fill(store)

    asyncio.run(run())
    return made


def test_a_look_says_who_and_who_not_and_does_nothing(desk: Desk) -> None:
    words = ("bulk", "preview", "M-1", "--serials", "-", "--feeder", FEEDER)
    told = desk.run(*words, "--json", given="M-3, M-9\nM-1")
    assert json.loads(told.stdout) == {
        "feederId": FEEDER,
        "meterSerials": ["M-1"],
        "leftOut": [
            {"meterSerial": "M-3", "why": "already_off"},
            {"meterSerial": "M-9", "why": "unknown"},
        ],
    }
    said = desk.run(*words, given="M-3 M-9")
    assert "left out: M-3: its relay was last read open" in said.stderr
    assert "1 would be cut off, 2 are left out" in said.stderr
    assert desk.run("bulk", "list", "--json").stdout == ""
    assert desk.run("bulk", "preview", "M-1", "--feeder", "nowhere").exit_code == Exit.FAILED
    assert desk.run("bulk", "preview", "--feeder", FEEDER).exit_code == Exit.USAGE


def test_one_proposes_another_approves_and_anybody_stops_it(desk: Desk) -> None:
    new = desk.proposed("--idempotency-key", "june")
    assert (new["state"], new["requestedBy"]) == ("proposed", "erik")
    assert desk.proposed("--idempotency-key", "june")["id"] == new["id"]
    other = (*PROPOSE[:-1], "another", "--houses", "2", "--idempotency-key", "june")
    assert "idempotency-key-reused" in desk.refused(*other, *desk.as_("erik"))
    assert "(same-person)" in desk.refused("bulk", "approve", new["id"], "--yes", *desk.as_("erik"))
    running = desk.told("bulk", "approve", new["id"], "--yes", *desk.as_("asha"))
    assert (running["state"], running["approvedBy"]) == ("running", "asha")
    assert "(approved-already)" in desk.refused(
        "bulk", "approve", new["id"], "--yes", *desk.as_("asha")
    )
    [listed] = desk.run("bulk", "list", "--open", "--json").stdout.splitlines()
    assert json.loads(listed)["id"] == new["id"]
    desk.told("bulk", "show", new["id"], code=Exit.OUTCOME_UNKNOWN)
    assert desk.told("bulk", "withdraw", new["id"])["state"] == "withdrawn"
    assert "(ended-already)" in desk.refused("bulk", "withdraw", new["id"])
    assert "2 not asked for" in desk.run("bulk", "show", new["id"]).stdout
    desk.told("bulk", "show", new["id"], code=Exit.FAILED)
    assert [
        what.removeprefix(f"bulk disconnection {new['id']} ") for what in desk.audit()[-3:]
    ] == [
        f"proposed: 2 houses on {FEEDER}",
        "approved",
        "withdrawn",
    ]


def test_who_is_not_believed_or_may_not_changes_nothing(desk: Desk) -> None:
    new = desk.proposed()
    before = desk.audit()
    approve = ("bulk", "approve", new["id"], "--yes")
    assert "wrong" in desk.refused(*approve, *desk.as_("asha", wrong=True))
    assert "wrong" in desk.refused(*approve, *desk.as_("nobody"))
    assert "viewer" in desk.refused(*approve, *desk.as_("vera"))
    assert "none of the feeders" in desk.refused(*approve, *desk.as_("omar"))
    assert "operator" in desk.refused(*PROPOSE, "--houses", "2", *desk.as_("asha"))
    assert "(count)" in desk.refused(*PROPOSE, "--houses", "3", *desk.as_("erik"))
    off = ("bulk", "propose", "M-3", "--feeder", FEEDER, "--reason", "unpaid", "--houses", "1")
    assert "(nobody)" in desk.refused(*off, *desk.as_("erik"))
    assert desk.audit() == before
    assert desk.told("bulk", "show", new["id"], code=Exit.OUTCOME_UNKNOWN) == new


def test_guessing_is_slowed_as_at_the_console_and_stdout_stays_clean(desk: Desk) -> None:
    approve = ("bulk", "approve", desk.proposed()["id"], "--yes")
    said = [desk.refused(*approve, *desk.as_("asha", wrong=True)) for _ in range(6)]
    assert "too many attempts" in said[-1]
    assert "too many attempts" in desk.refused(*approve, *desk.as_("asha"))


@pytest.mark.parametrize(
    "words",
    [
        (*PROPOSE, "--houses", "2", "--as", "erik"),  # nobody there to type a password
        (*PROPOSE, "--as", "erik", "--password-file", "password"),  # nor to count
        ("bulk", "approve", "bulk-none", "--as", "asha"),
    ],
    ids=["password", "count", "unknown"],
)
def test_without_a_terminal_everything_is_said_by_options(
    desk: Desk, words: tuple[str, ...]
) -> None:
    run = desk.run(*words)
    assert run.exit_code == (Exit.FAILED if "bulk-none" in words else Exit.USAGE), run.output
    assert run.stdout == ""
