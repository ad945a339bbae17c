"""JSON Schema: the files are what the types say, and say what the decoder says, as far as they can."""

import json
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from tests.cases import in_one_test
from tests.profile.messages import (
    EXAMPLE,
    codes,
    envelopes,
    events,
    ids,
    spoil_tokens,
    texts,
    tokens,
    values,
)
from tests.profile.vectors import vectors

from openami import spec
from openami.profile import Code, Envelope, ProfileError, audit_envelope, decode_envelope, utc_text
from openami.profile.reader import NumberBeyondDouble, read_document
from openami.profile.schema import BEYOND_SCHEMA, schemas

VALIDATORS = {
    name: jsonschema_rs.Draft202012Validator(json.loads(content))
    for name, content in schemas().items()
}


@pytest.mark.parametrize("name", schemas())
def test_the_file_is_what_the_types_say(name: str) -> None:
    """`openami spec schema NAME > src/openami/spec/schema/NAME.json` makes it so."""
    assert spec.load(f"schema/{name}.json") == schemas()[name]


@pytest.mark.parametrize("name", schemas())
def test_a_schema_is_one_and_has_its_own_stable_name(name: str) -> None:
    schema = json.loads(schemas()[name])
    assert jsonschema_rs.meta.is_valid(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"urn:openami:village-northbound:0.1:{name}"


# What no schema sees of a document that is JSON (`BEYOND_SCHEMA` in words).
UNSEEN = {
    Code.DUPLICATE_MEMBER,
    Code.TOO_LARGE,
    Code.TOO_DEEP,
    Code.BAD_UTF8,
    Code.BAD_JSON,
    Code.BAD_NUMBER,
}


def agree(payload: bytes) -> str:
    """Check that schema and decoder have one verdict on a message, where the schema can have one."""
    try:
        document = json.loads(payload)
        strict = read_document(payload)
    except (ValueError, RecursionError):
        return "not JSON"
    valid = VALIDATORS["envelope"].is_valid(document)
    errors = audit_envelope(payload).errors
    seen = [error for error in errors if error.code not in UNSEEN and not beyond(error)]
    if strict.has_duplicates or NumberBeyondDouble in types_in(strict.root):
        return "not comparable"
    assert valid == (not seen), (payload, errors)
    return "valid" if valid else "invalid"


def beyond(error: ProfileError) -> bool:
    """Whether a schema cannot see the fault: a day that is not in the calendar, a length of two."""
    if error.code == Code.BAD_TIME:
        text = error.detail.split("'")[1]
        return bool(VALIDATORS["envelope"].is_valid(EXAMPLE | {"ts": text}))
    return error.requirement == "OA-TOP-004"


def types_in(place: object) -> set[type]:
    children = (
        list(place.values())
        if isinstance(place, dict)
        else place
        if isinstance(place, list)
        else []
    )
    return {type(place)}.union(*(types_in(child) for child in children))


member = st.one_of(values, st.none(), st.just([]), st.just({}), texts, ids, codes)
versions = st.sampled_from(["0.1", "0.2", "1.0", "0.0", "0.10000", "v0.1", 0.1])
qualities = st.sampled_from(["good", "suspect", "comms_lost", "Good", "bad", ""])
registers = st.builds(
    lambda sound, spoilt: sound | spoilt,
    st.fixed_dictionaries(
        {"obis": codes, "value": values, "unit": texts, "quality": st.sampled_from(["good"])}
    ),
    st.just({})
    | st.fixed_dictionaries(
        {},
        optional={
            "obis": member,
            "value": member,
            "unit": member,
            "quality": qualities | member,
            "x": member,
        },
    ),
)
spoilt = st.fixed_dictionaries(
    {},
    optional={
        "ts": st.sampled_from(["2026-06-22 14:30:00Z", "2026-06-22T14:30:00+05:30"]) | member,
        "schemaVersion": versions | member,
    },
) | st.dictionaries(
    st.sampled_from(["feederId", "meterSerial", "sessionId", "registers", "seq", "event", "x"]),
    member,
    max_size=1,
)
documents = st.builds(
    lambda ids_, listed, changes, gone: {
        name: value
        for name, value in (EXAMPLE | ids_ | {"registers": listed} | changes).items()
        if name != gone
    },
    st.fixed_dictionaries({"feederId": ids, "gatewayId": ids, "meterSerial": ids}),
    st.lists(registers, max_size=3),
    st.just({}) | spoilt,
    st.sampled_from([*[None] * 10, *EXAMPLE]),
)


@settings(max_examples=300)
@given(documents)
def test_schema_and_decoder_have_one_verdict_on_documents(document: dict[str, Any]) -> None:
    event(agree(json.dumps(document).encode()))


@settings(max_examples=300)
@given(envelopes.map(Envelope.encode), tokens, st.randoms(use_true_random=False))
def test_schema_and_decoder_have_one_verdict_on_spoilt_messages(
    payload: bytes, token: str, chance: Any
) -> None:
    event(agree(spoil_tokens(payload, token, chance)))


@in_one_test(vectors("telemetry", "event"), name=lambda v: f"{v.kind}/{v.name}")
def test_schema_and_decoder_have_one_verdict_on_the_vectors(vector: Any) -> None:
    agree(vector.payload)


@given(envelopes, events)
def test_every_event_we_send_fits_the_schema_of_events(envelope: Envelope, happened: Any) -> None:
    document = json.loads(envelope.encode())
    document["event"] = json.loads(as_event(envelope, happened).encode())["event"]
    assert VALIDATORS["event"].is_valid(document)


def as_event(envelope: Envelope, happened: Any) -> Envelope:
    replaced = msgspec.structs.replace(envelope, event=happened)
    assert isinstance(replaced, Envelope)
    return replaced


@pytest.mark.parametrize(
    "vector",
    [
        pytest.param(v, id=v.name)
        for v in vectors("event", verdict="y_")
        if "event" in v.content["payload"]
    ],
)
def test_the_schema_of_events_holds_where_the_event_is_read(vector: Any) -> None:
    envelope = decode_envelope(vector.payload)
    document = json.loads(vector.payload)
    if vector.name in ("y_event_nul_in_detail", "y_event_id_line_feed", "y_event_code_1e400"):
        assert envelope.event is None
    assert VALIDATORS["event"].is_valid(document) == (envelope.event is not None), vector.name


def test_our_register_list_fits_its_schema() -> None:
    assert VALIDATORS["registers"].is_valid(json.loads(spec.load("vmrs-registers.json")))


def test_what_a_schema_cannot_say_is_listed() -> None:
    assert len(BEYOND_SCHEMA) == 7
    well_formed = EXAMPLE | {"ts": "2026-04-31T00:00:00Z"}
    assert VALIDATORS["envelope"].is_valid(well_formed)
    with pytest.raises(ProfileError, match="BAD_TIME"):
        decode_envelope(json.dumps(well_formed).encode())
    assert utc_text(decode_envelope(json.dumps(EXAMPLE).encode()).ts) == EXAMPLE["ts"]
