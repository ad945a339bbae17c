"""What each resource tells, from a real store: contract tests, a few for each."""

import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.headend.decisions import accepted, register
from tests.headend.web.api.village import (
    FEEDER,
    GATEWAY,
    METER,
    NEVER_HEARD,
    NOW,
    OTHER_FEEDER,
    QUARTER,
    SILENT_METER,
    Village,
)

from openami.headend.asset_changes import swap_meter
from openami.headend.assets.changes import Swap
from openami.headend.audit import first_break, read_links
from openami.headend.store import Reading
from openami.headend.web.api.forms import LIMIT_DEFAULT
from openami.headend.web.api.reading_files import (
    PART_ROWS_MAX,
    ROW_GROUP_ROWS_MAX,
    as_csv,
    as_json_lines,
    as_parquet,
)
from openami.profile import Obis, Quality, utc_text

BILLING = Obis.parse("1.8.0")

LISTS = (
    *(
        "/poles",
        "/customers",
        "/feeders",
        "/gateways",
        "/meters",
        "/readings",
        "/events",
        "/findings",
        "/gaps",
    ),
    *("/completeness", "/sessions", "/commands", "/rejected", "/audit"),
)


@pytest.mark.parametrize("path", LISTS)
async def test_a_list_is_the_same_however_it_is_cut(village: Village, path: str) -> None:
    whole = await village.items(path, "engineer")
    if path != "/completeness":  # its page is a feeder's day
        for limit in (1, 2, 1_000):
            assert await village.items(path, "engineer", limit=limit) == whole
        refused = await village.get(path, params={"limit": 1_001})
        assert refused.status_code == 422
        assert LIMIT_DEFAULT <= 1_000


@pytest.mark.parametrize("path", [path for path in LISTS if path != "/audit"])
async def test_what_is_out_of_scope_is_not_there(village: Village, path: str) -> None:
    """Its feeder is a 404 and its rows are absent; a feeder that never was is answered alike."""
    for item in await village.items(path, "south"):
        assert item.get("feederId", OTHER_FEEDER) == OTHER_FEEDER
        assert OTHER_FEEDER in item.get("topic", OTHER_FEEDER)
    if path == "/feeders":
        return
    own = await village.get(path, "south", params={"feeder": OTHER_FEEDER})
    assert own.status_code == 200
    hidden = await village.get(path, "south", params={"feeder": FEEDER})
    absent = await village.get(path, "south", params={"feeder": "nowhere"})
    assert (hidden.status_code, absent.status_code) == (404, 404)
    assert hidden.text.replace(FEEDER, "nowhere") == absent.text


@pytest.mark.parametrize(
    "path",
    [
        f"/feeders/{FEEDER}",
        f"/gateways/{FEEDER}/{GATEWAY}",
        f"/poles/{FEEDER}/pole-1",
        f"/customers/{FEEDER}/house-1",
        f"/balance/{FEEDER}",
        f"/meters/{FEEDER}/{METER}",
        f"/sessions/sip-{FEEDER}",
        "/rejected/1",
        "/rejected/3",
    ],
)
async def test_one_thing_has_an_etag_and_a_scope(village: Village, path: str) -> None:
    found = await village.get(path)
    assert found.status_code == 200, found.text
    tag = found.headers["etag"]
    again = await village.get(path, headers={"If-None-Match": f'"other", W/{tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert (await village.get(path, headers={"If-None-Match": '"other"'})).status_code == 200
    assert (await village.get(path, "south")).status_code == 404


async def test_a_feeder_tells_how_its_meters_are(village: Village) -> None:
    feeder = (await village.get(f"/feeders/{FEEDER}")).json()
    assert feeder["meterStates"] == {"reporting": 1, "meter_silent": 1}
    village.clock.at = NOW + timedelta(hours=1)
    feeder = (await village.get(f"/feeders/{FEEDER}")).json()
    assert feeder["meterStates"] == {"gateway_silent": 2}


async def test_a_meter_tells_its_registers(village: Village) -> None:
    meter = (await village.get(f"/meters/{FEEDER}/{METER}")).json()
    assert {row["obis"]: row["value"] for row in meter["registers"]} == {
        "1.8.0": 103, "96.11.1": "=1+1",
    }  # fmt: skip
    [silent] = await village.items("/meters", feeder=FEEDER, meter=SILENT_METER)
    assert (silent["state"], silent["latestGoodTs"]) == ("meter_silent", None)


async def test_a_meter_tells_where_it_hangs_and_one_never_heard_is_there(village: Village) -> None:
    meter = (await village.get(f"/meters/{FEEDER}/{METER}")).json()
    assert (meter["role"], meter["poleId"], meter["customerId"]) == (
        "customer",
        "pole-2",
        "house-1",
    )
    assert meter["protected"] is False
    [unheard] = await village.items("/meters", state="never_seen", feeder=FEEDER)
    assert (unheard["meterSerial"], unheard["gatewayId"], unheard["lastSeen"]) == (
        NEVER_HEARD, None, None,
    )  # fmt: skip
    alone = (await village.get(f"/meters/{FEEDER}/{NEVER_HEARD}")).json()
    assert (alone["state"], alone["registers"], alone["protected"]) == ("never_seen", [], True)
    feeder = (await village.get(f"/feeders/{FEEDER}")).json()
    assert (feeder["name"], feeder["timeZone"]) == ("The feeder-north", "Africa/Nairobi")


async def test_poles_and_customers_tell_their_meters(village: Village) -> None:
    poles = await village.items("/poles", feeder=FEEDER)
    assert [(pole["poleId"], pole["parent"], pole["meters"]) for pole in poles] == [
        ("pole-1", None, []),
        ("pole-2", "pole-1", [METER, NEVER_HEARD]),
    ]
    [customer] = await village.items("/customers", feeder=FEEDER)
    [placement] = customer["placements"]
    assert (customer["name"], placement["meterSerial"]) == ("=Amina", METER)
    assert (placement["validFrom"], placement["validTo"]) == ("1970-01-01T00:00:00Z", None)
    for path in (f"/poles/{FEEDER}/none", f"/customers/{FEEDER}/none", f"/meters/{FEEDER}/none"):
        assert (await village.get(path)).status_code == 404


# --- readings ------------------------------------------------------------------------------------

_OF_METER = {"feeder": FEEDER, "meter": METER, "obis": "1-0:1.8.0*255"}


async def test_readings_by_register_and_time(village: Village) -> None:
    since, until = utc_text(NOW - 2 * QUARTER), utc_text(NOW)
    rows = await village.items("/readings", **_OF_METER, since=since, until=until, limit=1)
    assert [(row["ts"], row["value"]) for row in rows] == [
        (since, 102.5),
        (utc_text(NOW - QUARTER), 102.75),
    ]
    assert {row["obis"] for row in rows} == {"1.8.0"}
    east = (NOW - QUARTER).astimezone().isoformat()
    assert len(await village.items("/readings", **_OF_METER, since=east)) == 2


async def test_readings_as_files_hold_what_the_pages_hold(village: Village) -> None:
    pages = await village.items("/readings", "engineer")
    lines = await village.get("/readings", params={"format": "jsonl"})
    assert [json.loads(line) for line in lines.text.splitlines()] == pages

    table = await village.get("/readings", headers={"Accept": "text/html;q=0.1, text/csv"})
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(table.text, newline="")))
    assert [row["ts"] for row in rows] == [page["ts"] for page in pages]
    assert {row["value"] for row in rows if row["obis"] == "96.11.1"} == {"connected", "'=1+1"}
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())

    parquet = await village.get("/readings", params={"format": "parquet"})
    columns = pq.read_table(io.BytesIO(parquet.content)).to_pydict()
    assert [utc_text(ts) for ts in columns["ts"]] == [page["ts"] for page in pages]
    told = zip(columns["value"], columns["text"], strict=True)
    assert [n if t is None else t for n, t in told] == [page["value"] for page in pages]


@pytest.mark.parametrize("form", [as_csv, as_json_lines, as_parquet])
async def test_a_file_is_made_in_parts_and_no_more_is_held(form: Any) -> None:
    """What has been read and not yet been handed on is one part, however much there is to come."""
    read = 0

    async def many(count: int) -> AsyncIterator[Reading]:
        nonlocal read
        for n in range(count):
            read += 1
            yield Reading(
                FEEDER, METER, BILLING, NOW + n * QUARTER, n / 4, "kWh", Quality.GOOD, NOW
            )

    part = ROW_GROUP_ROWS_MAX if form is as_parquet else PART_ROWS_MAX
    handed = b""
    before = 0
    async for content in form(many(2 * part + 1)):
        assert read - before <= part + 1
        before = read
        handed += content
    if form is as_parquet:
        table = pq.ParquetFile(io.BytesIO(handed))
        assert (table.num_row_groups, table.metadata.num_rows) == (3, 2 * part + 1)
    else:
        assert handed.count(b"\n") == 2 * part + 1 + (form is as_csv)


async def test_a_file_may_begin_where_a_page_ended(village: Village) -> None:
    first = await village.get("/readings", params={**_OF_METER, "limit": 5})
    rest = await village.client.get(
        first.json()["next"] + "&format=csv", headers={"Authorization": "Bearer viewer"}
    )
    assert len(rest.text.splitlines()) == 1 + 12 - 5


async def test_no_readings_are_an_answer_in_every_form(village: Village) -> None:
    nothing = {"feeder": FEEDER, "meter": "M-99"}
    assert await village.items("/readings", **nothing) == []
    table = await village.get("/readings", params={**nothing, "format": "csv"})
    assert len(table.text.splitlines()) == 1
    assert (await village.get("/readings", params={**nothing, "format": "jsonl"})).content == b""
    parquet = await village.get("/readings", params={**nothing, "format": "parquet"})
    assert pq.read_table(io.BytesIO(parquet.content)).num_rows == 0


async def test_energy_by_period_of_the_feeder_s_own_time(village: Village) -> None:
    asked = {"feeder": FEEDER, "meter": METER, "step": "1h"}
    asked["since"], asked["until"] = utc_text(NOW - 10 * QUARTER), utc_text(NOW)
    [energy] = await village.items("/energy", **asked)
    told = [(period["since"], period["wh"], period["known"]) for period in energy["periods"]]
    assert told == [
        ("2026-06-22T12:00:00Z", 1000, "measured"),
        ("2026-06-22T13:00:00Z", 1000, "measured"),
        ("2026-06-22T14:00:00Z", 500, "at_least"),  # it is not over
    ]
    assert energy["totalWh"] == 2500
    days = await village.items("/energy", feeder=FEEDER, limit=1)
    assert [each["meterSerial"] for each in days] == [METER, SILENT_METER]
    assert days[0]["periods"][-1]["until"] == "2026-06-22T21:00:00Z"  # midnight in Nairobi
    for since, until, step in (
        ("2026-06-22T00:00:00Z", "2026-06-21T00:00:00Z", "1d"),
        ("2024-06-22T00:00:00Z", "2026-06-22T00:00:00Z", "1d"),
        ("2026-01-22T00:00:00Z", "2026-06-22T00:00:00Z", "15m"),
    ):
        wrong = {"feeder": FEEDER, "since": since, "until": until, "step": step}
        assert (await village.get("/energy", params=wrong)).status_code == 422
    assert (await village.get("/energy", "south", params={"feeder": FEEDER})).status_code == 404
    assert (await village.get("/energy")).status_code == 422


async def test_energy_of_a_swapped_meter_is_found_by_either_serial(village: Village) -> None:
    swap = Swap(old=METER, new="M-9", closing_kwh=104.0, opening_kwh=20.0, at=NOW)
    await swap_meter(village.store, FEEDER, swap, who="erik", now=NOW)
    later = NOW + QUARTER
    await village.store.commit(
        [accepted(register(20.5), ts=later, feeder=FEEDER, gateway=GATEWAY, meter="M-9")]
    )
    asked = {"feeder": FEEDER, "step": "15m", "since": utc_text(NOW - QUARTER)}
    for serial in (METER, "M-9"):
        [energy] = await village.items("/energy", **asked, until=utc_text(later), meter=serial)
        assert (energy["meterSerial"], energy["meters"]) == ("M-9", [METER, "M-9"])
        assert energy["totalWh"] == 250 + 1000 + 500


async def test_a_feeder_s_balance_is_a_range(village: Village) -> None:
    asked = {"since": utc_text(NOW - 10 * QUARTER)}
    balance = (await village.get(f"/balance/{FEEDER}", params=asked)).json()
    assert (balance["begin"], balance["end"]) == ("2026-06-22T12:00:00Z", "2026-06-22T14:00:00Z")
    assert (balance["suppliedWh"], balance["headHours"], balance["refusal"]) == (0, 0, "no_head")
    assert balance["sold"]["low"] <= balance["sold"]["high"]
    assert balance["meters"] == 3
    assert len(balance["hours"]) == 2
    for since in (utc_text(NOW), "2026-01-01T00:00:00Z"):
        wrong = await village.get(f"/balance/{FEEDER}", params={"since": since})
        assert wrong.status_code == 422, since


# --- the rest ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "wanted", "count"),
    [
        ("/events", {"feeder": FEEDER}, 3),
        ("/events", {"type": "power.lost"}, 2),
        ("/events", {"severity": "minor"}, 0),
        ("/events", {"state": "raised", "meter": METER, "gateway": GATEWAY}, 6),
        ("/events", {"since": utc_text(NOW - QUARTER), "until": utc_text(NOW)}, 2),
        ("/findings", {"code": "FELL", "obis": "1.8.0"}, 4),
        ("/findings", {"feeder": FEEDER, "meter": SILENT_METER}, 0),
        ("/gaps", {"gateway": GATEWAY, "feeder": FEEDER, "closed": "true"}, 2),
        ("/sessions", {"state": "offered", "gateway": GATEWAY, "open": "true"}, 2),
        ("/sessions", {"state": "active"}, 0),
        ("/rejected", {"status": "open"}, 3),
        ("/rejected", {"status": "dropped"}, 0),
        ("/rejected", {"code": "TIME_IN_FUTURE"}, 1),
        ("/gateways", {"feeder": OTHER_FEEDER}, 1),
        ("/meters", {"gateway": "pole-2"}, 0),
    ],
)
async def test_filters(village: Village, path: str, wanted: dict[str, Any], count: int) -> None:
    if path == "/findings" and count == 4:
        count = 2  # one a meter and day
    assert len(await village.items(path, **wanted)) == count


async def test_completeness_by_feeder_and_day(village: Village) -> None:
    village.clock.at = NOW + timedelta(hours=1)
    today = await village.items("/completeness", feeder=FEEDER, meter=METER)
    assert [(row["day"], row["received"], row["missing"]) for row in today] == [
        ("2026-06-22", 12, 3)
    ]
    [gap] = today[0]["gaps"]
    assert (gap["from"], gap["intervals"]) == ("2026-06-22T14:45:00Z", 3)
    two_days = await village.items("/completeness", since="2026-06-21", until="2026-06-22")
    assert [(row["day"], row["feederId"]) for row in two_days][:1] == [("2026-06-21", FEEDER)]
    assert len({(row["day"], row["feederId"]) for row in two_days}) == 4
    for since, until in (("2026-06-22", "2026-06-21"), ("2026-01-01", "2026-06-22")):
        asked = {"since": since, "until": until}
        assert (await village.get("/completeness", params=asked)).status_code == 422


async def test_the_audit_log_can_be_verified_from_what_is_told(village: Village) -> None:
    await village.post("/rejected/1/drop")
    entries = await village.items("/audit", limit=1)
    assert entries[-1]["what"] == "rejected message 1 dropped"
    assert entries[-1]["who"] == "rita"
    names = {"sessionId": "session_id", "commandId": "command_id"}
    lines = [
        json.dumps({names.get(key, key): value for key, value in entry.items()})
        for entry in entries
    ]
    assert first_break(read_links(lines)) is None
    end = (await village.get("/audit/end")).json()
    assert end == {"number": 3, "hash": entries[-1]["hash"]}


async def test_the_audit_log_is_for_who_sees_the_whole_site(village: Village) -> None:
    assert (await village.get("/audit", "south")).json()["code"] == "scope-too-narrow"
    own = await village.items("/audit", "south", session=f"sip-{OTHER_FEEDER}")
    assert [entry["sessionId"] for entry in own] == [f"sip-{OTHER_FEEDER}"]
    hidden = await village.get("/audit", "south", params={"session": f"sip-{FEEDER}"})
    assert hidden.status_code == 404


# --- rejected ------------------------------------------------------------------------------------


async def test_a_rejected_message_is_shown_replayed_and_dropped(village: Village) -> None:
    shown = await village.get("/rejected/1")
    assert json.loads(shown.json()["payload"])["schemaVersion"] == "0.1"
    replayed = await village.post("/rejected/1/replay", "operator")
    assert replayed.json() == {
        "id": 1, "stored": 3, "duplicates": 0, "conflicts": 0, "stillRejected": [],
    }  # fmt: skip
    assert (await village.get("/rejected/1")).json()["status"] == "replayed"
    again = await village.post("/rejected/1/replay", "operator")
    assert (again.json()["stored"], again.json()["duplicates"]) == (0, 3)

    still = (await village.post("/rejected/3/replay", "operator")).json()
    assert still["stillRejected"][0]["code"] == "BAD_TOPIC"
    changed = await village.post("/rejected/1/drop", headers={"If-Match": shown.headers["etag"]})
    assert (changed.status_code, changed.json()["code"]) == (412, "changed-meanwhile")
    dropped = await village.post("/rejected/2/drop")
    assert (dropped.json()["status"], dropped.json()["payloadBase64"]) == ("dropped", "/wA=")
    assert (await village.post("/rejected/2/replay")).status_code == 409
    assert (await village.post("/rejected/2/drop", "viewer")).json()["code"] == "role-missing"
    said = [entry["what"] for entry in await village.items("/audit")]
    assert said[2:] == [
        f"rejected message {n}" for n in ("1 replayed", "1 replayed", "3 replayed", "2 dropped")
    ]


# --- sessions ------------------------------------------------------------------------------------


async def test_a_session_is_opened_and_closed(village: Village) -> None:
    asked = {"feederId": FEEDER, "gatewayId": GATEWAY, "meters": [METER], "reason": "rota"}
    opened = await village.post("/sessions", "operator", json=asked)
    assert opened.status_code == 201, opened.text
    place = opened.headers["location"].removeprefix("/api/v1")
    shown = await village.get(place)
    assert shown.headers["etag"] == opened.headers["etag"]
    assert (shown.json()["state"], shown.json()["meters"]) == ("offered", [METER])
    assert shown.json()["requestedBy"] == "omar"

    stale = await village.post(f"{place}/close", headers={"If-Match": '"other"'})
    assert stale.status_code == 412
    closed = await village.post(f"{place}/close", headers={"If-Match": shown.headers["etag"]})
    assert closed.json()["closeAsked"] is True
    assert (await village.post(f"{place}/close")).json() == closed.json()
    found = await village.items("/audit", session=shown.json()["id"])
    assert [entry["what"] for entry in found] == ["session requested", "session close requested"]

    for wrong, status in (
        ({**asked, "feederId": "nowhere"}, 404),
        ({**asked, "gatewayId": "nowhere"}, 404),
        ({**asked, "days": 9}, 422),
        ({**asked, "meters": ["#"]}, 422),
        ({**asked, "more": 1}, 422),
    ):
        assert (await village.post("/sessions", json=wrong)).status_code == status
    assert (await village.post("/sessions", "south", json=asked)).status_code == 404
    assert (await village.post("/sessions", "viewer", json=asked)).status_code == 403


async def test_a_gateway_has_a_budget_of_bytes(village: Village) -> None:
    path = f"/gateways/{FEEDER}/{GATEWAY}"
    before = await village.get(path)
    assert before.json()["monthBudgetBytes"] is None
    assert before.json()["bytesThisMonth"] >= before.json()["bytesToday"] > 0
    seen = {"If-Match": before.headers["etag"]}
    after = await village.put(f"{path}/budget", json={"monthBytes": 40_000_000}, headers=seen)
    assert (after.status_code, after.json()["monthBudgetBytes"]) == (200, 40_000_000)
    stale = await village.put(f"{path}/budget", json={"monthBytes": 50_000_000}, headers=seen)
    assert stale.status_code == 412
    for wrong in (0, 999_999, "many", 1.5, 10**14):
        refused = await village.put(f"{path}/budget", json={"monthBytes": wrong})
        assert refused.status_code == 422, wrong
    refused = await village.put(f"{path}/budget", "operator", json={"monthBytes": None})
    assert refused.json()["code"] == "role-missing"
    hidden = await village.put(f"{path}/budget", "south", json={"monthBytes": None})
    assert hidden.status_code == 404
    none = await village.put(f"{path}/budget", json={"monthBytes": None})
    assert none.json()["monthBudgetBytes"] is None
