"""The schemas of signed documents say what their readers say, as far as a schema can."""

import json

import jsonschema_rs
import pytest
from tests.profile.vectors import Vector, vectors
from tests.sip.attacks import having, lacking
from tests.sip.village import HES, ROOT_A, ROOT_B, Village
from tools.make_signed_schemas import made, rendered

from openami import spec
from openami.sip.acts import ActType
from openami.sip.canonical import SIGNATURE

VALIDATORS = {name: jsonschema_rs.Draft202012Validator(schema) for name, schema in made().items()}

# What a schema does not see: bytes, what a base64url text holds, keys, and members that belong together.
UNSEEN = {
    "BAD_JSON", "DUPLICATE_MEMBER", "TOO_LARGE", "TOPIC_MISMATCH", "UNKNOWN_KEY", "BAD_SIGNATURE",
    "BAD_ALG", "BAD_HEADER", "BAD_TYPE", "WRONG_TYPE", "BAD_ENCODING",
}  # fmt: skip
UNSEEN_CASES = {"n_ends_before_it_begins", "n_nine_days"}


@pytest.mark.parametrize("name", made())
def test_the_file_is_the_one_that_is_made(name: str) -> None:
    """If this fails: python -m tools.make_signed_schemas"""
    assert spec.load(f"schema/{name}.json").decode() == rendered(made()[name])


def each(found: list[Vector]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("vector", [pytest.param(v, id=v.content["id"]) for v in found])


SEEN = [
    vector
    for vector in vectors("session", "command", verdict="n_")
    if vector.result["code"] not in UNSEEN and vector.name not in UNSEEN_CASES
]


@each(vectors("session", "command", verdict="y_"))
def test_a_good_document_fits(vector: Vector) -> None:
    VALIDATORS[vector.kind].validate(json.loads(vector.payload))


@each(SEEN)
def test_a_bad_one_does_not_where_a_schema_can_see_it(vector: Vector) -> None:
    assert not VALIDATORS[vector.kind].is_valid(json.loads(vector.payload))


def test_it_sees_more_than_a_few() -> None:
    assert len(SEEN) > 20


@pytest.mark.parametrize(
    ("name", "kind"), [("y_report_of_a_command", "report"), ("y_daily_statement", "statement")]
)
def test_what_a_gateway_signs_fits_and_nothing_beside_it(name: str, kind: str) -> None:
    (vector,) = [v for v in vectors("event", verdict="y_") if v.name == name]
    document = json.loads(vector.payload)
    VALIDATORS[kind].validate(document)
    for wrong in (
        having("priority", 1),
        having("registers", []),
        having("meterSerial", "+"),
        having("report/priority", 1),
        lacking("report"),
        lacking(SIGNATURE),
    ):
        assert not VALIDATORS[kind].is_valid(wrong(document))


def test_a_keyring_fits_and_a_session_is_none() -> None:
    village = Village()
    keyring = village.signed(village.keyring(), ActType.KEYRING, ROOT_A, ROOT_B)
    VALIDATORS["keyring"].validate(keyring)
    session = village.signed(village.session(), ActType.OFFER, HES)
    VALIDATORS["session"].validate(session)
    assert not VALIDATORS["keyring"].is_valid(session)
    assert not VALIDATORS["session"].is_valid(keyring)
    for wrong in (
        having("sessionId", "keyring-1"),
        having("participants/0/role", "king"),
        having("feederScope/limits", {}),
        lacking("participants/0/key"),
    ):
        assert not VALIDATORS["keyring"].is_valid(wrong(keyring))


def test_a_ticket_is_a_command_without_a_session() -> None:
    village = Village()
    ticket = village.signed(village.ticket(), ActType.COMMAND, HES)
    VALIDATORS["command"].validate(ticket)
    assert not VALIDATORS["command"].is_valid(having("sessionId", "sip-1")(ticket))
    assert not VALIDATORS["command"].is_valid(having("command/action", "relay.toggle")(ticket))
    resend = having("command/action", "readings.resend")(ticket)
    assert not VALIDATORS["command"].is_valid(resend)
    span = {"from": "2026-06-22T00:00:00Z", "to": "2026-06-22T01:00:00Z"}
    VALIDATORS["command"].validate(having("command/args", span)(resend))
