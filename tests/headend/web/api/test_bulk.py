"""Bulk disconnection through the API: a program proposes, a person approves, everybody follows."""

from datetime import timedelta
from typing import Any

import pytest
from tests.headend.test_bulk import Clock, work
from tests.headend.web.api.village import (
    FEEDER,
    METER,
    NEVER_HEARD,
    NOW,
    PEOPLE,
    SILENT_METER,
    Village,
)

from openami.headend.bulk import PROPOSAL_HOURS

PATH = "/bulk-disconnections"
ASKED = {"feederId": FEEDER, "meterSerials": [METER, SILENT_METER], "reason": "unpaid"}
KEY = {"Idempotency-Key": "unpaid-june"}


async def proposed(village: Village, **more: Any) -> dict[str, Any]:
    answer = await village.post(PATH, "engineer", json={**ASKED, **more}, headers=KEY)
    assert answer.status_code == 201, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def test_a_preview_says_who_and_who_not_and_does_nothing(village: Village) -> None:
    asked = {"feederId": FEEDER, "meterSerials": [METER, NEVER_HEARD, "M-99", METER]}
    told = (await village.post(f"{PATH}/preview", "engineer", json=asked)).json()
    assert told == {
        "feederId": FEEDER,
        "meterSerials": [METER],
        "leftOut": [
            {"meterSerial": NEVER_HEARD, "why": "unknown"},
            {"meterSerial": "M-99", "why": "unknown"},
        ],
        "perHour": 40,
    }
    assert await village.items(PATH) == []
    assert (await village.post(f"{PATH}/preview", json=asked)).json()["code"] == "role-missing"


async def test_it_is_proposed_once_under_its_key(village: Village) -> None:
    told = await proposed(village)
    assert (told["state"], told["requestedBy"]) == ("proposed", "erik")
    assert [house["meterSerial"] for house in told["houses"]] == [METER, SILENT_METER]
    assert await village.store.commands() == [], "nobody has approved it"
    again = await village.post(PATH, "engineer", json=ASKED, headers=KEY)
    assert (again.status_code, again.json()["id"]) == (200, told["id"])
    other = {**ASKED, "reason": "another"}
    reused = await village.post(PATH, "engineer", json=other, headers=KEY)
    assert reused.json()["code"] == "idempotency-key-reused"
    [listed] = await village.items(PATH)
    assert listed["id"] == told["id"]
    assert (await village.get(f"{PATH}/{told['id']}", "south")).status_code == 404
    assert await village.items(PATH, "south") == []


@pytest.mark.parametrize(
    ("who", "asked", "status", "code"),
    [
        ("operator", ASKED, 403, "role-missing"),
        ("south", ASKED, 404, "not-found"),
        ("engineer", {**ASKED, "reason": ""}, 422, "invalid"),
        ("engineer", {**ASKED, "meterSerials": []}, 422, "invalid"),
        ("engineer", {**ASKED, "meterSerials": ["M-1"] * 501}, 422, "invalid"),
        ("engineer", {**ASKED, "meterSerials": [NEVER_HEARD]}, 409, "nobody"),
    ],
)
async def test_what_is_not_taken(
    village: Village, who: str, asked: dict[str, Any], status: int, code: str
) -> None:
    answer = await village.post(PATH, who, json=asked, headers=KEY)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_no_token_approves_and_a_person_does(village: Village) -> None:
    path = f"{PATH}/{(await proposed(village))['id']}"
    for token in ("relays", "engineer"):
        refused = await village.post(f"{path}/approve", token)
        assert (refused.status_code, refused.json()["code"]) == (403, "step-up-needed")
    seen = (await village.get(path)).headers["etag"]
    told = await village.post(f"{path}/approve", "colleague", headers={"If-Match": seen})
    assert (told.json()["state"], told.json()["approvedBy"]) == ("running", "carla")
    twice = await village.post(f"{path}/approve", "colleague")
    assert twice.json()["code"] == "approved-already"
    stale = await village.post(f"{path}/withdraw", headers={"If-Match": seen})
    assert stale.status_code == 412

    await work(village.store, Clock(NOW)).look()
    houses = (await village.get(path)).json()["houses"]
    assert [house["commandState"] for house in houses] == ["issued", "issued"]
    stopped = (await village.post(f"{path}/withdraw", "operator")).json()
    assert (stopped["state"], stopped["withdrawnBy"]) == ("withdrawn", "omar")
    assert {house["commandState"] for house in stopped["houses"]} == {"refused"}
    ended = await village.post(f"{path}/withdraw")
    assert (ended.status_code, ended.json()["code"]) == (409, "ended-already")


async def test_whose_token_proposed_it_is_no_second_person(village: Village) -> None:
    answer = await village.post(PATH, "carlas", json=ASKED, headers=KEY)
    assert answer.status_code == 201, answer.text
    refused = await village.post(f"{PATH}/{answer.json()['id']}/approve", "colleague")
    assert refused.json()["code"] == "same-person"


async def test_who_proposed_it_is_no_second_person_and_too_late_is_too_late(
    village: Village,
) -> None:
    path = f"{PATH}/{(await proposed(village))['id']}"
    assert PEOPLE["engineer"].name == PEOPLE["himself"].name
    refused = await village.post(f"{path}/approve", "himself")
    assert refused.json()["code"] == "same-person"
    village.clock.at += timedelta(hours=PROPOSAL_HOURS)
    late = await village.post(f"{path}/approve", "late")
    assert late.json()["code"] == "ended-already"
