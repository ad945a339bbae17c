"""The table of acts: each serves requirements that exist, each is begun only while one of them is open."""

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from openami.conformance.acts import (
    ACTS,
    ActRow,
    ActState,
    next_act,
    relay_meter,
    spared,
)
from openami.conformance.observation import (
    Act,
    Connected,
    Disconnected,
    Observation,
    Published,
    RelaySeen,
    Subscribed,
)
from openami.conformance.scene import Scene
from openami.profile import requirements

NOW = datetime(2026, 6, 22, 8, 0, tzinfo=UTC)
GATEWAY_ACTS = [row for row in ACTS if row.kind == "gateway"]
ALL = frozenset(requirement for row in ACTS for requirement in row.serves)


def waiting() -> dict[Act, ActState]:
    return {row.act: ActState.WAITING for row in GATEWAY_ACTS}


def scene_of(*seen: Observation) -> Scene:
    scene = Scene()
    for each in seen:
        scene.see(each)
    return scene


CAME = Connected(NOW, 1, "pole", "5", False, 60, None, "TLSv1.3", "f/g")
HEARS = Subscribed(NOW, 1, (("openami/v1/f/g/meter/+/command", 1), ("openami/v1/f/g/session/+", 1)))
READING = Published(NOW, "openami/v1/f/g/meter/M-1/telemetry", b"{}", 1, False)


@pytest.mark.parametrize("row", ACTS, ids=lambda row: f"{row.kind}:{row.act}")
def test_an_act_serves_requirements_of_the_one_that_is_judged(row: ActRow) -> None:
    assert row.serves
    for number in row.serves:
        assert row.kind in requirements()[number].of, number


@pytest.mark.parametrize("row", ACTS, ids=lambda row: f"{row.kind}:{row.act}")
def test_what_hands_take_away_hands_bring_back_and_a_hook_can_do_both(row: ActRow) -> None:
    assert (row.asks is None) == (row.hook is None)
    assert (row.undo_asks is None) == (row.undo_hook is None)
    assert row.undo_asks is None or row.asks is not None
    assert row.of_meter == ("{meter}" in (row.asks or "{meter}")) or row.asks is None


def test_nothing_is_begun_before_there_is_something_to_act_upon() -> None:
    assert next_act(GATEWAY_ACTS, waiting(), ALL, Scene()) is None
    assert next_act(GATEWAY_ACTS, waiting(), ALL, scene_of(CAME)) is None
    assert (
        next_act(
            GATEWAY_ACTS, waiting(), ALL, scene_of(CAME, READING, Disconnected(NOW, 1, True, False))
        )
        is None
    )


def test_the_first_act_needs_nobody_and_the_next_waits_for_more() -> None:
    states, scene = waiting(), scene_of(CAME, READING)
    row = next_act(GATEWAY_ACTS, states, ALL, scene)
    assert row is not None
    assert row.act is Act.ACKNOWLEDGEMENT_WITHHELD
    states[row.act] = ActState.DONE
    row = next_act(GATEWAY_ACTS, states, ALL, scene)
    assert row is not None
    assert row.act is Act.GATEWAY_RESTARTED, "one reading does not tell an interval, nor a relay"


@pytest.mark.parametrize(
    ("open_", "wanted"),
    [
        ({"OA-DEL-001"}, Act.ACKNOWLEDGEMENT_WITHHELD),
        ({"OA-DEL-003"}, Act.NETWORK_LOST),
        ({"OA-SES-002"}, Act.COMMAND_WITHOUT_SESSION),
        ({"OA-CMD-003"}, Act.SESSION_OFFERED),
        ({"OA-SIL-001"}, Act.METER_UNPLUGGED),
        ({"OA-SEQ-001"}, Act.GATEWAY_RESTARTED),
        (set[str](), None),
    ],
)
def test_an_act_is_begun_only_for_what_is_not_exercised(
    open_: set[str], wanted: Act | None
) -> None:
    again = Published(NOW.replace(second=10), READING.topic, b"{}", 1, False)
    scene = scene_of(CAME, HEARS, READING, again, RelaySeen(NOW, "M-1", True))
    row = next_act(GATEWAY_ACTS, waiting(), open_, scene)
    assert (None if row is None else row.act) is wanted
    left_out = {row.act for row in spared(GATEWAY_ACTS, waiting(), open_)}
    assert (wanted in left_out) is False
    assert left_out == {row.act for row in GATEWAY_ACTS if not open_ & set(row.serves)}


def test_what_has_begun_or_ended_is_neither_begun_nor_spared() -> None:
    for state in ActState:
        if state is not ActState.WAITING:
            states: Mapping[Act, ActState] = {row.act: state for row in GATEWAY_ACTS}
            assert next_act(GATEWAY_ACTS, states, ALL, scene_of(CAME, READING)) is None
            assert spared(GATEWAY_ACTS, states, ()) == []


def test_the_relay_aimed_at_is_one_that_is_known() -> None:
    other = Published(NOW, "openami/v1/f/g/meter/M-2/telemetry", b"{}", 1, False)
    scene = scene_of(CAME, READING, other)
    assert relay_meter(scene) is None
    scene.see(RelaySeen(NOW, "M-2", False))
    aimed = relay_meter(scene)
    assert aimed is not None
    assert (aimed.serial, aimed.relay) == ("M-2", "disconnected")
