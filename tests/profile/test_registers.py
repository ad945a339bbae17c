"""The register list: ours is sound, another one takes its place, a wrong one is refused with the place."""

import json
from typing import Any

import pytest
from tests.profile.messages import register

from openami import spec
from openami.profile import (
    CatalogueError,
    Obis,
    ProfileError,
    Register,
    RegisterCatalogue,
    RegisterReading,
    decode_envelope,
    implausible,
    json_type,
    judge_register,
    judge_topic,
    parse_topic,
    shipped_catalogue,
)
from openami.profile.registers import CATALOGUE_BYTES_MAX
from openami.profile.topics import EventTopic, TelemetryTopic

OURS = shipped_catalogue()
OFFICIAL_SHAPE = {
    "obis": "1.8.0",
    "name": "Active energy import",
    "unit": "kWh",
    "certainty": "A",
    "required": True,
    "interval": "billing",
    "sources": [],
    "notes": "",
    "somethingNew": 1,
}


def catalogue(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"registers": entries}).encode()


def test_the_official_shape_without_our_members_is_read() -> None:
    other = RegisterCatalogue.decode(catalogue(OFFICIAL_SHAPE))
    assert len(other) == 1
    (entry,) = other
    assert other.get(Obis.parse("1-0:1.8.0*255")) is entry
    assert other.get(Obis.parse("2.8.0")) is None
    assert (entry.type, entry.range, entry.monotonic) == (None, None, False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a register list"),
        (b"\xff", "not a register list"),
        (b'{"registers":[{"obis":"\xff"}]}', "not a register list"),
        (b'{"registers":' + b"[" * 5000, "not a register list"),
        (b"[]", "not a register list"),
        (b'{"registers":[]}', "the list is empty"),
        (catalogue({"obis": "1.8.0"}), "not a register list"),
        (catalogue(OFFICIAL_SHAPE | {"certainty": "D"}), "not a register list"),
        (catalogue(OFFICIAL_SHAPE | {"obis": "1.8"}), "/registers/0/obis"),
        (catalogue(OFFICIAL_SHAPE, OFFICIAL_SHAPE), "/registers/1/obis: 1.8.0 stands twice"),
        (
            catalogue(OFFICIAL_SHAPE, OFFICIAL_SHAPE | {"obis": "1-0:1.8.0*255"}),
            "/registers/1/obis",
        ),
        (catalogue(OFFICIAL_SHAPE | {"range": [2, 1]}), "/registers/0/range"),
        (b" " * (CATALOGUE_BYTES_MAX + 1), "at most 1048576 are read"),
    ],
)
def test_a_wrong_file_is_refused_with_what_is_wrong(content: bytes, message: str) -> None:
    with pytest.raises(CatalogueError, match=message):
        RegisterCatalogue.decode(content)


def test_the_largest_file_is_read() -> None:
    content = catalogue(OFFICIAL_SHAPE)
    assert RegisterCatalogue.decode(content + b" " * (CATALOGUE_BYTES_MAX - len(content)))


def test_a_range_of_one_value_is_a_range() -> None:
    assert RegisterCatalogue.decode(catalogue(OFFICIAL_SHAPE | {"range": [1, 1]}))


def test_ours_has_what_the_profiles_example_uses() -> None:
    for code, unit, certainty in (
        ("1.8.0", "kWh", "A"),
        ("96.8.0", "kWh", "C"),
        ("96.11.1", "enum", "C"),
    ):
        entry = OURS.get(Obis.parse(code))
        assert entry is not None
        assert (entry.unit, entry.certainty) == (unit, certainty)


def test_ours_says_of_every_register_what_it_may_be() -> None:
    assert len(OURS) >= 60
    legend = json.loads(spec.load("vmrs-registers.json"))["legend"]
    for entry in OURS:
        assert entry.type is not None, entry.obis
        assert entry.name
        assert entry.sources
        assert entry.required in legend["required"]
        if entry.monotonic:
            assert entry.range is not None
            assert entry.range[0] == 0


def test_no_two_units_of_the_list_differ_in_case_alone() -> None:
    """So comparing them without case cannot take one for another: no mW beside a MW."""
    units = {entry.unit for entry in OURS}
    assert len({unit.casefold() for unit in units}) == len(units)


# --- the judgement -------------------------------------------------------------------------------


def reading(**members: object) -> RegisterReading:
    return decode_envelope(register(**members)).registers[0]


def entry(**members: object) -> Register:
    (found,) = RegisterCatalogue.decode(catalogue(OFFICIAL_SHAPE | members))
    return found


@pytest.mark.parametrize("unit", ["kWh", "KWH", "kwh"])
def test_the_unit_of_the_list_is_right_in_any_case(unit: str) -> None:
    assert judge_register(reading(unit=unit), entry()) is None


@pytest.mark.parametrize("unit", ["Wh", "kW", "", "kWh ", "kVAh"])
def test_another_unit_is_wrong(unit: str) -> None:
    error = judge_register(reading(unit=unit), entry(), path="/registers/3")
    assert error is not None
    assert (error.code, error.path) == ("WRONG_UNIT", "/registers/3/unit")


def test_an_entry_without_unit_or_type_accepts_any() -> None:
    assert judge_register(reading(unit="furlong", value="x"), entry(unit="")) is None


@pytest.mark.parametrize(
    ("value", "kind"), [(1, "number"), (1.5, "number"), ("1", "string"), (True, "boolean")]
)
def test_the_type_is_the_lists(value: object, kind: str) -> None:
    read = reading(value=value)
    assert json_type(read.value) == kind
    for listed in ("number", "string", "boolean"):
        error = judge_register(read, entry(type=listed), path="/registers/0")
        if listed == kind:
            assert error is None
        else:
            assert error is not None
            assert (error.code, error.path) == ("WRONG_VALUE_TYPE", "/registers/0/value")


@pytest.mark.parametrize(
    ("value", "doubted"),
    [(0, False), (10, False), (-0.001, True), (10.001, True), (5, False), (1e300, True)],
)
def test_a_range_includes_its_bounds(value: float, doubted: bool) -> None:
    doubt = implausible(reading(value=value), entry(range=[0, 10]))
    assert (doubt is not None) == doubted
    assert doubt is None or "plausible is 0 to 10 kWh" in doubt


def test_words_are_those_of_the_list() -> None:
    listed = entry(values=["connected", "disconnected"])
    assert implausible(reading(value="connected"), listed) is None
    doubt = implausible(reading(value="ajar"), listed)
    assert doubt == "1.8.0 is 'ajar', known are connected, disconnected"


def test_without_range_and_words_nothing_is_doubted() -> None:
    assert implausible(reading(value=-1e300), entry()) is None
    assert implausible(reading(value="any"), entry(range=[0, 1])) is None


def test_a_message_and_its_topic_name_the_same_things() -> None:
    envelope = decode_envelope(register())
    own = TelemetryTopic(envelope.feeder_id, envelope.gateway_id, envelope.meter_serial)
    assert judge_topic(envelope, own) == ()
    other = parse_topic("openami/v1/a/b/meter/c/event")
    assert isinstance(other, EventTopic)
    errors = judge_topic(envelope, other)
    assert [error.path for error in errors] == ["/feederId", "/gatewayId", "/meterSerial"]
    assert {str(error.code) for error in errors} == {"TOPIC_MISMATCH"}


def test_a_profile_error_is_a_value_error_that_names_code_and_requirement() -> None:
    error = judge_register(reading(unit="Wh"), entry())
    assert isinstance(error, ProfileError)
    assert isinstance(error, ValueError)
    assert str(error).startswith("WRONG_UNIT at /unit: ")
