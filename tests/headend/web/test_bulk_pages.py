"""Bulk disconnection in the console: looked at, proposed, approved by somebody else, followed, stopped."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.headend.test_bulk import Clock, work
from tests.headend.web.browser import Browser
from tests.headend.web.pages import CLINIC, FEEDER, METER, House, house, stepped_up, told

from openami.headend.accounts import Role
from openami.headend.bulk import BulkState

OTHER = "DS1000-90001"
PREVIEW = {"feeder": FEEDER, "pasted": f"{METER}, {OTHER}\n{CLINIC} nobody"}


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as opened:
        await opened.has_keyring()
        await opened.measure(OTHER)
        await opened.measure(CLINIC)
        yield opened


async def propose(erik: Browser, **more: str) -> str:
    """Propose both houses, and return where it is followed."""
    form = {"feeder": FEEDER, "reason": "unpaid since April", "count": "2", "key": "k-1", **more}
    answer = await erik.client.post(
        "/bulk",
        data={**form, "serials": [METER, OTHER]},
        headers={"origin": str(erik.client.base_url).rstrip("/")},
    )
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


async def test_who_would_be_cut_off_is_looked_at_first_and_nothing_is_done(home: House) -> None:
    erik = await home.signed_in("erik", Role.ENGINEER)
    page = told(await erik.get(f"/bulk/new?feeder={FEEDER}&show=all"))
    assert f'value="{METER}"' in page
    page = told(await erik.post("/bulk/preview", **PREVIEW))
    assert "2 houses would be cut off" in page
    assert "each such command needs a signature of its own" in page
    assert "no such meter was ever heard of" in page
    assert "At most 40 houses an hour" in page
    assert await home.store.bulks() == []
    assert await home.store.commands() == []


async def test_it_takes_an_engineer_the_password_a_reason_and_the_number(home: House) -> None:
    erik = await home.signed_in("erik", Role.ENGINEER)
    form = {"feeder": FEEDER, "serials": METER, "reason": "unpaid", "count": "1"}
    page = told(await erik.post("/bulk", **{**form, "count": "2"}), 422)
    assert "The number is not that of the houses below" in page
    page = told(await erik.post("/bulk", **{**form, "reason": " "}), 422)
    assert "Say why" in page
    home.place.clock.turn(minutes=6)
    assert (await erik.post("/bulk", **form)).headers["location"].startswith("/step-up")
    asha = await home.signed_in("asha")
    assert (await asha.post("/bulk", **form)).status_code == 403
    assert await home.store.bulks() == []


async def test_a_second_person_approves_and_each_house_has_its_own_end(home: House) -> None:
    erik = await home.signed_in("erik", Role.ENGINEER)
    path = await propose(erik)
    assert await propose(erik) == path, "the same form sent twice is one proposal"
    page = told(await erik.get(path))
    assert "Waits for a second person" in page
    waiting = told(await erik.get("/commands"))
    assert "Bulk disconnections: 1" in waiting
    assert (await home.store.waiting()).commands == 1
    assert (await home.store.waiting({"elsewhere"})).commands == 0
    assert (await home.store.waiting({FEEDER})).commands == 1
    assert "Approve as the second person" not in page
    answer = told(await erik.post(f"{path}/approve"), 409)
    assert "a second person has to" in answer

    asha = await home.signed_in("asha")
    home.place.clock.turn(minutes=6)
    assert (await asha.get(f"{path}/approve")).headers["location"].startswith("/step-up")
    await stepped_up(asha)
    page = told(await asha.get(f"{path}/approve"))
    assert "Cut off 2 houses?" in page
    assert "unpaid since April" in page
    assert (await asha.post(f"{path}/approve")).status_code == 303

    await work(home.store, Clock(home.now())).look()
    page = told(await asha.get(f"{path}/progress"))
    assert page.count("Waits for a session") == 3, "each house, and the sum"
    assert "Bulk disconnections:" not in told(await asha.get("/commands"))
    assert "hx-trigger" in page
    assert len(await home.store.commands()) == 2
    assert "unpaid since April" in told(await asha.get("/bulk"))
    assert (await asha.post(f"{path}/withdraw")).status_code == 303
    page = told(await asha.get(path))
    assert "Withdrawn by" in page
    assert "hx-trigger" not in page
    assert told(await asha.post(f"{path}/withdraw"), 409)
    [bulk] = await home.store.bulks()
    assert (bulk.state, bulk.approved_by) == (BulkState.WITHDRAWN, "asha")


async def test_of_another_feeder_there_is_nothing(home: House) -> None:
    path = await propose(await home.signed_in("erik", Role.ENGINEER))
    ben = await home.signed_in("ben", Role.ENGINEER, feeders=frozenset({"elsewhere"}))
    for page in (path, f"{path}/progress", f"{path}/approve", f"/bulk/new?feeder={FEEDER}"):
        assert (await ben.get(page)).status_code == 404
    assert (await ben.post(f"{path}/approve")).status_code == 404
    assert (await ben.post("/bulk/preview", **PREVIEW)).status_code == 404
    assert "unpaid" not in told(await ben.get("/bulk"))
