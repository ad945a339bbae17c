"""A feeder of several makes through the whole path: the mixed demo, with its real programs, broker and TLS.

The demo compares each stored value with the village's own; here it is looked at from the operator's side as well,
by what the store has afterwards.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from openami.headend.store import Access, Reading, StoredEvent
from openami.headend.store.open import open_store
from openami.profile import MeterSerial, Quality
from openami.simulator.mixed_plan import CAPTURE_PERIOD, LineName, MixedVillage, mixed_village
from openami.simulator.scenario import village_tonight

SEED = 1
# One demo for all of them, and not one in each process.
pytestmark = pytest.mark.xdist_group("mixed")

METERS = 20
# Alone on a machine it is over within 40 s; in the whole suite, on two cores, it waits for its turn.
END_S = 180.0
MEASURED = ("1.8.0", "1.7.0", "32.7.0")


@dataclass(frozen=True)
class Played:
    """A demo that is over: what it said, and what the operator's store has."""

    code: int
    said: str
    document: Mapping[str, Any]
    mixed: MixedVillage
    began: datetime
    readings: Mapping[str, Sequence[Reading]]
    """By meter, of the demo itself and not of the days before it."""
    events: Sequence[StoredEvent]

    def told(self, kind: str, state: str | None = None) -> set[str]:
        return {
            event.meter_serial
            for event in self.events
            if event.type == kind and state in (None, event.state)
        }

    def measured(self, serial: MeterSerial) -> list[Reading]:
        return [r for r in self.readings[serial] if str(r.obis) in MEASURED]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    store = f"sqlite:///{tmp_path_factory.mktemp('mixed') / 'kept.db'}"
    began = datetime.now(UTC)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "openami", "demo", "--mixed", "--json", "--for", "5s"),
            *("--meters", str(METERS), "--seed", str(SEED), "--store", store),
        ],
        capture_output=True,
        text=True,
        timeout=END_S,
    )
    assert done.stdout, done.stderr
    mixed = mixed_village(village_tonight(meters=METERS, seed=SEED, now=began))
    readings, events = asyncio.run(_stored(store, mixed, began))
    return Played(
        done.returncode,
        done.stderr,
        json.loads(done.stdout.splitlines()[-1]),
        mixed,
        began,
        readings,
        events,
    )


async def _stored(
    url: str, mixed: MixedVillage, began: datetime
) -> tuple[Mapping[str, Sequence[Reading]], Sequence[StoredEvent]]:
    async with open_store(url, Access.READ) as store:
        [feeder] = await store.feeders()
        readings: dict[str, Sequence[Reading]] = {
            serial: [each async for each in store.readings(feeder.feeder_id, serial, since=began)]
            for serials in mixed.lines.values()
            for serial in serials
        }
        return readings, await store.events(feeder_id=feeder.feeder_id, at_most=1000)


def test_everything_is_seen_and_nothing_is_lost(played: Played) -> None:
    assert played.code == 0, played.said
    assert "NOT" not in played.said
    assert "mosquitto on mqtts://" in played.said
    waits = set(played.document["waits"])
    assert {name for name, seen in played.document["acts"].items() if not seen} == waits
    assert waits <= {"clock_set"}
    assert played.document["published"] == played.document["stored"] > 1000
    assert (played.document["lost"], played.document["rejected"]) == (0, 0)


def test_the_values_of_every_protocol_are_the_village_s_own(played: Played) -> None:
    assert played.document["wrong"] == 0
    assert set(played.document["compared"]) == set(LineName)
    # Each meter that answers has been read some ten times, in three registers the village knows.
    silent = {played.mixed.roles.dead, played.mixed.roles.readdressed, played.mixed.roles.neighbour}
    for line, serials in played.mixed.lines.items():
        answering = [serial for serial in serials if serial not in silent]
        assert played.document["compared"][line] >= 15 * len(answering), line
        for serial in answering:
            good = [r for r in played.measured(serial) if r.quality is Quality.GOOD]
            assert {str(r.obis) for r in good} == set(MEASURED), serial


def test_what_never_answered_is_told_and_never_made_up(played: Played) -> None:
    roles = played.mixed.roles
    assert roles.dead in played.told("comms_lost", "raised")
    assert roles.dead not in played.told("comms_restored")
    for serial in (roles.dead, roles.readdressed, roles.neighbour):
        assert played.measured(serial) == []
    assert played.told("address_clash") == {roles.neighbour}


def test_events_are_told_by_the_meters_they_happened_to(played: Played) -> None:
    roles, plan = played.mixed.roles, played.mixed.plan
    assert played.told("meter_cover_open") == {roles.opened}
    [cover] = [event for event in played.events if event.type == "meter_cover_open"]
    told = json.loads(cover.payload)["event"]
    assert (told["source"], told["code"], told["codeSystem"]) == ("meter", 44, "idis")
    assert played.told("clock_invalid", "raised") == {roles.slow_clock}
    assert played.told("clock_adjusted") <= {roles.slow_clock}
    phase = next(c.phase for c in plan.customers if c.serial == roles.relay)
    on_it = {c.serial for c in plan.customers if c.phase == phase} | {plan.head_serial}
    sagged = played.told("under_voltage", "raised")
    assert sagged <= on_it
    assert played.told("under_voltage", "cleared") >= sagged - {roles.opened}
    assert len(sagged) >= 4
    assert roles.dead in played.told("power_fail")


def test_relays_are_reported_as_they_stand(played: Played) -> None:
    roles = played.mixed.roles
    assert played.said.count("done, and read back as ordered") == 3
    positions = [r.value for r in played.readings[roles.button] if str(r.obis) == "96.3.10"]
    assert "disconnected" in positions or "ready_for_reconnection" in positions
    assert positions[-1] == "connected"
    assert played.told("ready_for_reconnection") == {roles.button}
    moved = [str(r.value) for r in played.readings[roles.relay] if str(r.obis) == "96.11.1"]
    assert moved[-1] == "connected"


def test_the_gap_of_the_cut_line_is_closed_with_original_times(played: Played) -> None:
    roles, gap = played.mixed.roles, played.document["gap"]
    cut_at, mended_at = (datetime.fromisoformat(gap[end]) for end in ("from", "to"))
    assert set(gap["closed"]) == set(roles.cut)
    for serial in roles.cut:
        assert serial in played.told("comms_lost", "raised")
        assert serial in played.told("comms_restored", "cleared")
        inside = [
            r
            for r in played.readings[serial]
            if str(r.obis) == "1.8.0"
            and cut_at + CAPTURE_PERIOD <= r.ts <= mended_at - CAPTURE_PERIOD
        ]
        assert inside, "nothing of the time when nobody could ask"
        for reading in inside:
            assert reading.ts.timestamp() % CAPTURE_PERIOD.total_seconds() == 0
            assert reading.received_at > mended_at
            assert reading.quality is Quality.GOOD
        values = [float(str(r.value)) for r in inside]
        assert values == sorted(values)
    assert played.told("intervals_lost") <= {roles.slow_clock}
    assert timedelta(seconds=10) < mended_at - cut_at < timedelta(seconds=60)
