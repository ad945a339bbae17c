"""Requirements: each number used exists, says whose word it is truthfully, and how it is judged."""

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from tests.cases import in_one_test

import openami
from openami import spec
from openami.profile import Code, ProfileError, Requirement, requirement_of, requirements

SOURCE = Path(openami.__file__).parent
DECISIONS = SOURCE.parent.parent / "docs" / "decisions"
# Judged by the decoders and the rest of the code, so each has to be raised somewhere.
RAISED = ("topic", "message", "register list", "ingest", "publish")


@cache
def used_in_code() -> set[str]:
    """Return the numbers that stand in the package's code."""
    return {
        number
        for path in SOURCE.rglob("*.py")
        for number in re.findall(r"\bOA-[A-Z]{3}-[0-9]{3}\b", path.read_text())
    }


def raised_with() -> Iterator[tuple[str, str]]:
    """Yield code and number wherever the two stand side by side in a call."""
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            for first, second in zip(node.args, node.args[1:], strict=False):
                if (
                    isinstance(first, ast.Attribute)
                    and isinstance(first.value, ast.Name)
                    and first.value.id == "Code"
                    and isinstance(second, ast.Constant)
                    and isinstance(second.value, str)
                ):
                    yield first.attr, second.value


def test_every_number_in_the_code_is_a_requirement() -> None:
    assert used_in_code() <= set(requirements())


def test_every_code_is_raised_for_a_requirement_that_names_it() -> None:
    pairs = set(raised_with())
    assert len(pairs) > 15
    for code, number in pairs:
        assert code in requirements()[number].codes, (code, number)


def test_every_code_belongs_to_a_requirement() -> None:
    assert {code for each in requirements().values() for code in each.codes} == set(Code)


each_requirement = in_one_test(requirements().values(), name=lambda each: each.id)


@each_requirement
def test_a_requirement_says_whose_word_it_is(requirement: Requirement) -> None:
    if requirement.source == "profile":
        assert requirement.place is not None
        assert resolve(json.loads(spec.load("profile-v0.1.json")), requirement.place)
    else:
        assert requirement.place is None
        number = requirement.source.removeprefix("decision ")
        assert len(list(DECISIONS.glob(f"{number}-*.md"))) == 1


@each_requirement
def test_a_requirement_is_one_sentence_with_a_remedy(requirement: Requirement) -> None:
    assert requirement.text.endswith(".")
    assert requirement.remedy.endswith(".")
    assert not re.search(r"\. [A-Z]", requirement.text)


@each_requirement
def test_what_is_said_to_be_judged_is_raised_by_code(requirement: Requirement) -> None:
    if requirement.codes and requirement.judged in RAISED:
        # The event topic's is the same fault as on the telemetry topic, under the same number.
        assert requirement.id in used_in_code() or requirement.id == "OA-EVT-001"


@each_requirement
def test_a_requirement_says_in_a_sentence_how_it_is_judged(requirement: Requirement) -> None:
    for sentence in (requirement.how, requirement.exercise):
        assert not sentence or sentence.endswith(".")
        assert not re.search(r"\. [A-Z]", sentence)
    assert requirement.how
    assert set(requirement.core) <= set(requirement.of)


@each_requirement
def test_the_core_is_the_profiles_own_word(requirement: Requirement) -> None:
    """Nobody is kept from conforming by a decision of ours (decision 0045)."""
    if requirement.core:
        assert requirement.is_profile
        assert requirement.testable


def resolve(document: Any, place: str) -> bool:
    for part in place[1:].split("/"):
        if part not in document:
            return False
        document = document[part]
    return True


def test_the_facts_are_the_profiles_own() -> None:
    """The values the code relies on, beside the file that states them."""
    facts = json.loads(spec.load("profile-v0.1.json"))
    assert facts["mqtt"]["qos"] == {"telemetry": 1, "events": 1, "commands": 1}
    assert facts["envelope"]["required"] == [
        *("ts", "feederId", "gatewayId", "meterSerial", "registers")
    ]
    assert facts["envelope"]["register"]["quality"] == ["good", "suspect", "comms_lost"]


def test_an_error_leads_to_its_requirement() -> None:
    error = ProfileError(Code.BAD_OBIS, "OA-REG-002", "/registers/0/obis", "no code")
    assert requirement_of(error) is requirements()["OA-REG-002"]
    assert str(error) == "BAD_OBIS at /registers/0/obis: no code (OA-REG-002)"
