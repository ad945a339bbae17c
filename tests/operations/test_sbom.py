"""What runs with us is known, and none of it is under a licence that ours is not free to be distributed with."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cyclonedx
import jsonschema_rs
import pytest
from tools.sbom import FORBIDDEN, as_json, bill, needed, vendored

PACKAGES = needed()
# A file of a wheel that matches and does not bind the code that runs: which, and why.
EXPLAINED = {
    (
        "reportlab",
        "DarkGarden-copying-gpl.txt",
    ): "of one ornamental font, which nothing of ours uses",
    ("reportlab", "DarkGarden-copying.txt"): "of the same font",
}
WITHOUT_A_FILE = {"pyserial"}  # its wheel of 2020 has none; its sources have BSD-3-Clause


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_no_licence_forbids_what_we_do(name: str) -> None:
    package = PACKAGES[name]
    files = list(package.licence_files())
    assert bool(files) == (name not in WITHOUT_A_FILE)
    found = {
        (name, Path(file).name): kind
        for file, text in files
        for kind, pattern in FORBIDDEN.items()
        if pattern.search(text)
    }
    assert found.keys() == {key for key in EXPLAINED if key[0] == name}
    alternatives = package.licence().split(" OR ")
    assert any(not any(word in each for word in ("GPL", "BUSL", "SSPL")) for each in alternatives)


@pytest.mark.parametrize(
    "text",
    [
        "                    GNU GENERAL PUBLIC LICENSE\n                       Version 3, 29 June 2007",
        "  GNU LESSER GENERAL PUBLIC LICENSE\n  Version 2.1",
        "you can redistribute it and/or modify it under the terms of the GNU General Public License",
        "Business Source License 1.1\n\nParameters",
    ],
)
def test_what_is_looked_for_is_found(text: str) -> None:
    assert any(pattern.search(text) for pattern in FORBIDDEN.values())


def test_tools_of_development_are_not_in_it() -> None:
    assert {"cryptography", "asyncpg", "pyarrow", "opentelemetry-sdk", "iotcore"} <= PACKAGES.keys()
    assert not {"pytest", "mypy", "gurux-dlms", "cyclonedx-python-lib"} & PACKAGES.keys()


def test_the_bill_is_whole_and_in_the_standards_form() -> None:
    told = as_json(bill())
    document: dict[str, Any] = json.loads(told)
    schemas = Path(cyclonedx.__file__).parent / "schema/_res"
    registry = jsonschema_rs.Registry(
        [
            (f"http://cyclonedx.org/schema/{name}.SNAPSHOT.schema.json", json.loads(text))
            for name in ("spdx", "jsf-0.82")
            for text in [(schemas / f"{name}.SNAPSHOT.schema.json").read_text()]
        ]
    )
    schema = json.loads((schemas / "bom-1.6.SNAPSHOT.schema.json").read_text())
    jsonschema_rs.validator_for(schema, registry=registry).validate(document)
    assert document["metadata"]["component"]["version"] == version("openami")
    names = {each["name"] for each in document["components"]}
    assert names == (PACKAGES.keys() - {"openami"}) | {each["name"] for each in vendored()}
    assert all(each["licenses"] and each["version"] for each in document["components"])
    assert json.loads(as_json(bill()))["serialNumber"] == document["serialNumber"]
