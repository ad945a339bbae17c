"""Alarms and events in the console: folded, opened, acknowledged, and never hidden."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.headend.web.pages import FEEDER, GATEWAY, METER, House, house, told

from openami.headend.accounts import Role
from openami.headend.alarm_watch import AlarmWatch
from openami.headend.broker_link import BrokerLink
from openami.headend.storms import STORM_MORE_THAN


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as opened:
        yield opened


async def look(home: House) -> None:
    """Let the head-end look for alarms as it does twice a minute."""
    link = BrokerLink(True, home.now() - timedelta(days=1))
    await AlarmWatch(home.store, home.place.clock, lambda: link).look()


async def test_an_alarm_is_shown_seen_and_over(home: House) -> None:
    asha = await home.signed_in()
    assert "Nothing stands" in told(await asha.get("/alarms"))
    await home.happen("register_rollback", detail="1842.5 kWh after 1900.0 kWh")
    await look(home)
    page = told(await asha.get("/alarms"))
    assert "Standing: 1" in page
    assert "1842.5 kWh after 1900.0 kWh" in page
    [alarm] = await home.store.active_alarms()
    one = told(await asha.get(f"/alarms/{alarm.id}"))
    assert "A counter that only grows went back" in one, "what to do is said"

    answer = await asha.post("/alarms/acknowledge", alarm_id=alarm.id, note="gone to look")
    assert answer.status_code == 303
    page = told(await asha.get("/alarms"))
    assert "seen by asha" in page
    assert "gone to look" in page
    assert "Standing: 1" in page, "seen is not over"

    home.place.clock.turn(minutes=5)
    await home.happen("register_rollback", state="cleared", severity="info")
    await look(home)
    page = told(await asha.get("/alarms"))
    assert "Nothing stands" in page
    assert "Past" in page
    assert "gone to look" in page


async def test_what_is_over_and_unseen_stays_until_somebody_has_seen_it(home: House) -> None:
    asha = await home.signed_in()
    await home.happen("certificate_expiring", GATEWAY, state="instant", detail="in 9 days")
    await look(home)
    page = told(await asha.get("/alarms"))
    assert "Over, and seen by nobody: 1" in page
    assert f'href="/gateways/{FEEDER}/{GATEWAY}"' in page
    gateway = told(await asha.get(f"/gateways/{FEEDER}/{GATEWAY}"))
    assert "in 9 days" in gateway


async def test_a_storm_is_one_alarm_that_counts_and_opens_on_all_of_them(home: House) -> None:
    serials = [f"DS1000-{n}" for n in range(STORM_MORE_THAN + 2)]
    for serial in serials:
        await home.happen("tamper.cover_open", serial)
    await home.has_assets(serials=serials)
    await look(home)
    asha = await home.signed_in()
    page = told(await asha.get("/alarms"))
    assert f"Storm of {len(serials)} alarms on {FEEDER}" in page
    assert "All hang on pole 3" in page
    assert f"{len(serials)} of them are folded" in page
    for serial in serials:
        assert f">{serial}</a>" in page, "none is left out"
    ids = [alarm.id for alarm in await home.store.active_alarms()]
    form = {"origin": f"http://{asha.client.base_url.host}"}
    answer = await asha.client.post("/alarms/acknowledge", data={"alarm_id": ids}, headers=form)
    assert answer.status_code == 303
    assert all(alarm.acknowledged_by == "asha" for alarm in await home.store.active_alarms())
    assert (await home.place.audited())[-1].endswith(f"and {len(serials) - 1} more of them")


async def test_alarms_are_acknowledged_by_operators_of_their_feeder(home: House) -> None:
    await home.happen("register_rollback")
    await look(home)
    [alarm] = await home.store.active_alarms()
    vera = await home.signed_in("vera", Role.VIEWER)
    assert "Acknowledge" not in told(await vera.get("/alarms"))
    assert (await vera.post("/alarms/acknowledge", alarm_id=alarm.id)).status_code == 403
    ben = await home.signed_in("ben", feeders=frozenset({"elsewhere"}))
    assert "Nothing stands" in told(await ben.get("/alarms"))
    assert (await ben.get(f"/alarms/{alarm.id}")).status_code == 404
    assert (await ben.post("/alarms/acknowledge", alarm_id=alarm.id)).status_code == 404
    assert METER not in told(await ben.get("/events"))


async def test_events_are_listed_filtered_and_paged(home: House) -> None:
    asha = await home.signed_in()
    assert "No event has been told yet" in told(await asha.get("/events"))
    for n in range(103):
        home.place.clock.turn(seconds=1)
        await home.happen("power_failure" if n % 2 else "clock_adjusted", severity="info")
    page = (await asha.get("/events?kind=power_failure")).text
    assert page.count("/events?kind=power_failure") >= 51
    assert "clock was set" not in page
    page = (await asha.get("/events")).text
    [after] = [
        line for line in page.split('"') if line.startswith("/events?") and "before=" in line
    ]
    rest = told(await asha.get(after.replace("&amp;", "&")))
    assert rest.count("<tr><td><time") == 3
    assert "No such event" in told(await asha.get("/events?severity=critical"))
    assert (await asha.get("/events?before=~~'x~9")).status_code == 200
