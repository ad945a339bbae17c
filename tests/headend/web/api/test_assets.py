"""What stands in the village, changed through the API: the rules of the import, fault by fault."""

from typing import Any

import pytest
from tests.headend.web.api.village import (
    FEEDER,
    METER,
    NEVER_HEARD,
    NOW,
    OTHER_FEEDER,
    QUARTER,
    SILENT_METER,
    Village,
)

from openami.headend.web.api.assets import ROWS_BODY_BYTES_MAX
from openami.profile import utc_text

HOUSE = {
    "feederId": FEEDER,
    "poles": [{"pole": "pole-3", "name": "Third", "order": 3, "parent": "pole-2"}],
    "customers": [{"customer": "house-2", "name": "Bala"}],
    "meters": [{"serial": SILENT_METER, "pole": "pole-3", "phase": "B", "customer": "house-2"}],
}


async def change(
    village: Village, asked: dict[str, Any], who: str = "engineer", **params: Any
) -> Any:
    return await village.post("/assets", who, json=asked, params=params)


async def test_a_house_is_described_once(village: Village) -> None:
    told = (await change(village, HOUSE, dryRun="true")).json()
    assert (told["changed"], len(told["changes"])) == (False, 3)
    assert (await village.get(f"/meters/{FEEDER}/{SILENT_METER}")).json()["poleId"] is None
    told = (await change(village, HOUSE)).json()
    assert (told["changed"], told["rows"], told["faults"]) == (True, 3, [])
    meter = (await village.get(f"/meters/{FEEDER}/{SILENT_METER}")).json()
    assert (meter["poleId"], meter["customerId"], meter["phase"]) == ("pole-3", "house-2", "B")
    again = (await change(village, HOUSE)).json()
    assert (again["changed"], again["changes"]) == (False, [])
    entry = (await village.store.audit_links())[-1].entry
    assert (entry.who, entry.what, entry.why) == ("erik", "assets imported", "api")
    assert len(entry.digest) == 64


async def test_nothing_is_let_in_while_a_row_has_a_fault(village: Village) -> None:
    wrong = {
        **HOUSE,
        "meters": [*HOUSE["meters"], {"serial": "M-7", "pole": "pole-9", "customer": "house-2"}],
    }
    refused = await change(village, wrong)
    assert refused.status_code == 422
    [error] = refused.json()["errors"]
    assert error["in"] == "body: meters/1/pole"
    assert "there is no pole pole-9" in error["detail"]
    assert (await village.get(f"/poles/{FEEDER}/pole-3")).status_code == 404
    told = (await change(village, wrong, skipBadRows="true")).json()
    assert [fault["at"] for fault in told["faults"]] == ["meters/1/pole"]
    assert (await village.get(f"/poles/{FEEDER}/pole-3")).status_code == 200


@pytest.mark.parametrize(
    ("row", "at"),
    [
        ({"serial": SILENT_METER, "colour": "red"}, "meters/0/colour"),
        ({"serial": SILENT_METER, "customer": "house-1", "phase": "Q"}, "meters/0/phase"),
        ({"serial": "no serial", "customer": "house-1"}, "meters/0/serial"),
        (
            {"serial": SILENT_METER, "customer": "house-1", "opening_kwh": -1},
            "meters/0/opening_kwh",
        ),
        ({"customer": "house-1"}, "meters/0"),
    ],
)
async def test_each_fault_is_named_by_its_row_and_column(
    village: Village, row: dict[str, Any], at: str
) -> None:
    refused = await change(village, {"feederId": FEEDER, "meters": [row]})
    assert refused.status_code == 422, refused.text
    assert any(error["in"].startswith(f"body: {at}") for error in refused.json()["errors"])


async def test_who_may_and_on_which_feeder(village: Village) -> None:
    assert (await change(village, HOUSE, "operator")).json()["code"] == "role-missing"
    assert (await change(village, HOUSE, "south")).status_code == 404
    elsewhere = {"poles": [{"feeder": FEEDER, "pole": "p"}]}
    assert (await change(village, elsewhere, "south")).status_code == 404
    own = {"poles": [{"feeder": OTHER_FEEDER, "pole": "p", "name": "P"}]}
    assert (await change(village, own, "south")).json()["changed"] is True


async def test_a_feeder_of_five_hundred_fits_and_a_flood_does_not(village: Village) -> None:
    many = {
        "feederId": FEEDER,
        "customers": [{"customer": f"c-{n}", "name": f"Customer number {n}"} for n in range(500)],
        "meters": [
            {"serial": f"N-{n:05d}", "pole": "pole-2", "phase": "A", "customer": f"c-{n}"}
            for n in range(500)
        ],
    }
    assert (await change(village, many, dryRun="true")).json()["rows"] == 1_000
    flood = {**many, "feederId": "x" * ROWS_BODY_BYTES_MAX}
    assert (await change(village, flood)).status_code == 413
    small = {"x": "y" * 70_000}
    assert (await village.post("/commands", json=small)).status_code == 413, "others keep theirs"


async def test_a_swap_is_entered_and_a_wrong_one_refused(village: Village) -> None:
    swap = {"newSerial": "M-9", "closingKwh": 104.0, "openingKwh": 0.3, "reason": "burnt"}
    path = f"/meters/{FEEDER}/{METER}/swap"
    told = await village.post(path, "engineer", json={**swap, "at": utc_text(NOW - QUARTER)})
    assert (told.status_code, told.json()["meterSerial"]) == (200, "M-9")
    assert told.json()["customerId"] == "house-1"
    [old, new] = (await village.get(f"/customers/{FEEDER}/house-1")).json()["placements"]
    assert (old["closingKwh"], new["openingKwh"], new["meterSerial"]) == (104.0, 0.3, "M-9")
    again = await village.post(path, "engineer", json=swap)
    assert (again.status_code, again.json()["code"]) == (409, "assets-refused")
    assert again.json()["remedy"]
    for wrong in ({**swap, "closingKwh": -1}, {**swap, "openingKwh": "much"}):
        assert (await village.post(path, "engineer", json=wrong)).status_code == 422
    assert (await village.post(path, "south", json=swap)).status_code == 404


async def test_a_meter_is_protected_with_a_reason(village: Village) -> None:
    path = f"/meters/{FEEDER}/{METER}/protection"
    told = await village.put(path, json={"protected": True, "reason": "clinic"})
    assert told.json()["protected"] is True
    entry = (await village.store.audit_links())[-1].entry
    assert (entry.what, entry.why) == (f"meter {METER} on {FEEDER} protected", "clinic")
    assert (await village.put(path, json={"protected": False, "reason": ""})).status_code == 422
    unknown = f"/meters/{FEEDER}/{SILENT_METER}/protection"
    refused = await village.put(unknown, json={"protected": True, "reason": "clinic"})
    assert refused.json()["code"] == "assets-refused"
    assert (await village.get(f"/meters/{FEEDER}/{NEVER_HEARD}")).json()["protected"] is True
