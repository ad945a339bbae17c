"""docs/sip.md says what the code does, and the decision records are all of one form."""

import re
from pathlib import Path

import pytest
from tests.cases import in_one_test
from tests.sip.test_known_answers import (
    ACCEPT,
    COMMAND,
    COMMAND_ACT,
    COMMAND_DIGEST,
    CORE,
    CORE_DIGEST,
    OFFER,
)

from openami.profile.command import COMMAND_LIFE
from openami.sip.actions import ACTIONS, RELAY_STATE_OBIS, Action, Direction, quorum_of
from openami.sip.acts import ActType
from openami.sip.errors import SipCode
from openami.sip.session import SESSION_LIFE

DOCS = Path(__file__).parents[2] / "docs"
SIP = (DOCS / "sip.md").read_text()
RECORDS = sorted((DOCS / "decisions").glob("[0-9]*.md"))


def rows(heading: str) -> dict[str, list[str]]:
    """Return a table by the text of its first column."""
    table = SIP[SIP.index(f"\n| {heading} |") :].split("\n\n")[0].strip().split("\n")[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return {first.strip("`"): rest for first, *rest in cells}


def test_the_diagrams_are_drawn_from_the_tables() -> None:
    assert re.findall(r"```mermaid\n(.*?)```", SIP, re.DOTALL) == [
        SESSION_LIFE.mermaid(),
        COMMAND_LIFE.mermaid(),
    ]


def test_every_code_is_told_and_no_other() -> None:
    told = set(re.findall(r"`([A-Z][A-Z]+(?:_[A-Z]+)*)`", SIP)) - {"OK"}
    assert told == {code.value for code in SipCode}


def test_every_type_of_act_is_told() -> None:
    assert set(rows("act")) == {type_.value for type_ in ActType}


def test_the_table_of_actions_is_the_codes() -> None:
    table = rows("action")
    assert set(table) == {action.value for action in Action}
    for action, rule in ACTIONS.items():
        direction, signed_by, registers, args = table[action.value]
        assert direction == rule.direction.value
        assert set(re.findall(r"hes|market", signed_by)) == set(quorum_of(action, protected=False))
        assert ("operator" in signed_by) == (rule.direction is Direction.UNSAFE)
        if rule.relay_state is not None:
            assert registers == f"{RELAY_STATE_OBIS} = {rule.relay_state}"
        assert set(re.findall(r"`(\w+)`", args)) == rule.required_args


@pytest.mark.parametrize(
    "answer", [CORE, CORE_DIGEST, OFFER, ACCEPT, COMMAND, COMMAND_DIGEST, COMMAND_ACT]
)
def test_the_known_answers_are_the_tested_ones(answer: str) -> None:
    assert answer in SIP


def test_the_checks_are_in_the_order_of_the_code() -> None:
    numbers = [int(number) for number in rows("#") if number.isdigit()]
    assert numbers == list(range(1, 13))


@in_one_test(RECORDS, name=lambda record: record.stem)
def test_a_decision_record_has_its_four_parts(record: Path) -> None:
    text = record.read_text()
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
        "Context",
        "Options",
        "Choice",
        "What would change it",
    ]
    number, title = record.stem[:4], text.split("\n", 1)[0]
    assert title.startswith(f"# {number} ")
    index = (DOCS / "decisions" / "README.md").read_text()
    assert f"]({record.name})" in index


def test_decisions_are_numbered_without_gaps() -> None:
    assert [int(record.stem[:4]) for record in RECORDS] == list(range(1, len(RECORDS) + 1))


@pytest.mark.parametrize("name", ["sip.md", "threat-model.md"])
def test_what_is_linked_is_there(name: str) -> None:
    text = (DOCS / name).read_text()
    for target in re.findall(r"\]\(([^)#]*)(?:#[^)]*)?\)", text):
        assert not target or (DOCS / target).exists(), target
    for path in re.findall(r"`(tests/[\w/.]+\.py|src/[\w/.-]+)`", text):
        assert (DOCS.parent / path).exists(), path
