"""docs/profile.md: where the profile is silent, our reading has a test and a place in the proposal."""

import json
import re
from pathlib import Path

from tests.cases import in_one_test

import openami
from openami.profile import decode_envelope

ROOT = Path(openami.__file__).parents[2]
TEXT = (ROOT / "docs/profile.md").read_text()
ROWS = re.findall(r"^\| (\d+) \| (.*) \| (.*) \| (.*) \| (.*) \|$", TEXT, re.MULTILINE)


def test_the_places_are_numbered_and_counted() -> None:
    assert [int(row[0]) for row in ROWS] == list(range(1, len(ROWS) + 1))
    assert f"{len(ROWS)} places." in TEXT


each_row = in_one_test(ROWS, name=lambda row: f"place {row[0]}")


@each_row
def test_a_place_names_tests_that_exist(row: tuple[str, ...]) -> None:
    links = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row[3])
    assert links
    assert len(links) == row[3].count("`") // 2
    for path, name in links:
        assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE), name


@each_row
def test_a_place_leads_into_the_proposal(row: tuple[str, ...]) -> None:
    section = re.match(r"§(\d): ", row[4])
    assert section, row[4]
    assert f"**§{section[1]} " in TEXT.partition("## A proposal for v0.2")[2]


def test_a_reader_of_today_reads_the_envelope_that_is_proposed() -> None:
    proposal = TEXT.partition("## A proposal for v0.2")[2]
    (example,) = re.findall(r"^```json\n(.*?)^```", proposal, re.MULTILINE | re.DOTALL)
    envelope = decode_envelope(json.dumps(json.loads(example)).encode())
    assert (envelope.schema_version, envelope.seq, envelope.ignored) == ("0.2", 41230, ())
    assert len(envelope.registers) == 3
