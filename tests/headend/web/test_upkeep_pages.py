"""Gateways, completeness, sessions, the audit log and help: what keeps a village's metering honest."""

import ast
import json
import sqlite3
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.headend.messages import TOPIC, payload
from tests.headend.test_command_store import a_command, a_session
from tests.headend.web.pages import FEEDER, GATEWAY, METER, House, house, told

import openami.headend.web
from openami.headend.accounts import Role
from openami.headend.audit import Entry, first_break, read_links
from openami.headend.completeness import DayAccount, Missing, MissingReason
from openami.headend.store.pages import Placed
from openami.headend.web.console.completeness import total_of
from openami.headend.web.console.help_problems import PROBLEMS
from openami.headend.web.console.paging import next_page, read_key, write_key
from openami.profile import utc_text
from openami.sip.session import SessionState


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as opened:
        yield opened


# --- gateways ------------------------------------------------------------------------------------


async def test_a_gateway_is_told_by_what_this_head_end_knows(home: House) -> None:
    asha = await home.signed_in()
    page = told(await asha.get("/gateways"))
    assert GATEWAY in page
    assert "nothing unusual" in page
    [traffic] = await home.store.traffic(home.now().date())
    assert (traffic.gateway_id, traffic.messages) == (GATEWAY, 1)
    assert traffic.bytes == len(TOPIC) + len(payload(ts=utc_text(home.now()), meterSerial=METER))
    assert await home.store.traffic(home.now().date() + timedelta(days=1)) == []
    home.place.clock.turn(minutes=36)
    page = told(await asha.get("/gateways"))
    assert "Gateway silent" in page
    one = told(await asha.get(f"/gateways/{FEEDER}/{GATEWAY}"))
    assert "they are not to blame" in one
    assert f'href="/meters/{FEEDER}/{METER}"' in one
    assert (await asha.get(f"/gateways/{FEEDER}/nobody")).status_code == 404
    ben = await home.signed_in("ben", feeders=frozenset({"elsewhere"}))
    assert GATEWAY not in told(await ben.get("/gateways"))
    assert (await ben.get(f"/gateways/{FEEDER}/{GATEWAY}")).status_code == 404


async def test_an_engineer_sets_what_a_gateway_may_send_in_a_month(home: House) -> None:
    asha = await home.signed_in("asha", Role.ENGINEER)
    path = f"/gateways/{FEEDER}/{GATEWAY}"
    assert "MB a" not in told(await asha.get(path))
    assert (await asha.post(f"{path}/budget", month_mb="40,5")).status_code == 303
    assert await home.store.budgets() == {(FEEDER, GATEWAY): 40_500_000}
    assert "0.0 of 40.5 MB" in told(await asha.get(path))
    assert "0.0 of 40.5 MB" in told(await asha.get("/gateways"))
    for wrong in ("much", "0.5", "-1", "1e99", "nan"):
        page = told(await asha.post(f"{path}/budget", month_mb=wrong), 422)
        assert "Not set:" in page
    assert (await asha.post(f"/gateways/{FEEDER}/nobody/budget", month_mb="1")).status_code == 404
    ben = await home.signed_in("ben")
    assert (await ben.post(f"{path}/budget", month_mb="1")).status_code == 403
    assert "Bandwidth budget" not in told(await ben.get(path))
    assert (await asha.post(f"{path}/budget", month_mb="")).status_code == 303
    assert await home.store.budgets() == {}
    said = [link.entry.what for link in await home.store.audit_links()]
    assert said[-1] == f"bandwidth budget of {GATEWAY} set"


# --- completeness --------------------------------------------------------------------------------


async def test_a_day_is_accounted_for_with_its_gaps_and_why(home: House) -> None:
    begin = home.now()
    for n in range(1, 13):
        if n in (5, 6):
            continue
        home.place.clock.at = begin + n * timedelta(minutes=15)
        await home.measure()
    home.place.clock.turn(minutes=5)
    asha = await home.signed_in()
    page = told(await asha.get(f"/completeness?gateway={GATEWAY}"))
    assert "11 of 13 intervals" in page
    assert "84.6" in page
    assert "2 · its gateway is silent" in page
    assert "09:15–09:30" in page
    assert "has not stated this day" in page
    yesterday = (begin - timedelta(days=1)).date()
    assert "0 of 0 intervals" in told(await asha.get(f"/completeness?day={yesterday}"))
    for day in ("yesterday", "1999-01-01", "2099-01-01"):
        assert (await asha.get(f"/completeness?day={day}")).status_code == 404
    ben = await home.signed_in("ben", feeders=frozenset({"elsewhere"}))
    assert GATEWAY not in told(await ben.get("/completeness"))
    assert (await ben.get(f"/completeness?feeder={FEEDER}")).status_code == 404


@given(st.lists(st.tuples(st.integers(0, 96), st.integers(0, 9), st.booleans()), max_size=6))
def test_the_sums_are_of_the_meters_whose_interval_is_known(
    days: list[tuple[int, int, bool]],
) -> None:
    def account(received: int, missing: int, known: bool) -> DayAccount:
        at = a_session().requested_at
        gaps = (Missing(at, at, missing, MissingReason.UNKNOWN),) if missing and known else ()
        return DayAccount(
            feeder_id="f", gateway_id="g", meter_serial="m", day=at.date(), interval_s=900,
            expected=received + missing if known else None, received=received, gaps=gaps,
        )  # fmt: skip

    total = total_of([account(*day) for day in days])
    assert total.expected == total.received + total.missing
    assert total.of_unknown_interval == sum(not known for *_, known in days)
    assert sum(count for _, count in total.reasons) == total.missing


# --- sessions ------------------------------------------------------------------------------------


async def test_a_session_is_shown_and_closed(home: House) -> None:
    document = {"participants": [{"id": "hes-1", "role": "hes", "can": ["relay.disconnect"]}]}
    session = a_session(
        state=SessionState.ACTIVE, document=json.dumps(document).encode(), feeder_id=FEEDER
    )
    await home.store.add_session(session, Entry(who="x", what="session requested"), home.now())
    asha = await home.signed_in()
    assert session.id in told(await asha.get("/sessions"))
    page = told(await asha.get(f"/sessions/{session.id}"))
    assert "hes-1" in page
    assert "Disconnect" in page
    assert (await asha.post(f"/sessions/{session.id}/close", note="shift over")).status_code == 303
    kept = await home.store.session(session.id)
    assert (kept.close_reason, kept.due_at) == ("CLOSED", home.now())
    page = told(await asha.get(f"/sessions/{session.id}"))
    assert "its end was asked for" in page
    assert "shift over" in page
    ben = await home.signed_in("ben", feeders=frozenset({"elsewhere"}))
    assert session.id not in told(await ben.get("/sessions"))
    assert (await ben.get(f"/sessions/{session.id}")).status_code == 404
    assert (await ben.post(f"/sessions/{session.id}/close")).status_code == 404


# --- the audit log -------------------------------------------------------------------------------


async def test_the_log_is_read_filtered_verified_and_exported(home: House) -> None:
    await home.store.request_command(a_command("cmd-1"), home.now())
    for n in range(101):
        await home.store.note(Entry(who="robot", what=f"thing {n}", why="because"), home.now())
    ed = await home.signed_in("ed", Role.ENGINEER)
    page = (await ed.get("/audit")).text
    assert "thing 100" in page
    assert "relay.disconnect requested" not in page
    [after] = [part for part in page.split('"') if part.startswith("/audit?") and "before=" in part]
    assert "relay.disconnect requested" in (await ed.get(after.replace("&amp;", "&"))).text
    assert told(await ed.get("/audit?command=cmd-1")).count("<tr><td") == 1
    found = told(await ed.get("/audit?who=ROBOT&what=thing+7"))
    assert found.count("<tr><td") == 11
    assert "all 104 entries continue one another" in told(await ed.get("/audit/verify"))
    exported = (await ed.get("/audit/export.jsonl")).text
    links = list(read_links(exported.splitlines()))
    assert (len(links), first_break(links)) == (104, None)


async def test_a_changed_entry_is_found(home: House, tmp_path: Path) -> None:
    await home.store.note(Entry(who="eve", what="relay opened"), home.now())
    ed = await home.signed_in("ed", Role.ENGINEER)
    with sqlite3.connect(tmp_path / "headend.db") as database:
        database.execute("DROP TRIGGER audit_is_not_changed")
        database.execute("UPDATE audit SET who = 'adam' WHERE who = 'eve'")
    database.close()
    assert "from entry 1 on it is not to be believed" in told(await ed.get("/audit/verify"))


async def test_the_log_is_for_those_who_see_all_feeders(home: House) -> None:
    ben = await home.signed_in("ben", feeders=frozenset({FEEDER}))
    vera = await home.signed_in("vera", Role.VIEWER)
    for path in ("/audit", "/audit/verify"):
        assert "about all feeders" in told(await ben.get(path), 403)
        assert (await vera.get(path)).status_code == 403
    asha = await home.signed_in()
    assert (await asha.get("/audit/export.jsonl")).status_code == 403


# --- help, and from page to page -----------------------------------------------------------------


async def test_help_is_there_without_a_network(home: House) -> None:
    asha = await home.signed_in()
    for path in ("/help", "/help/states", "/help/at-night"):
        page = (await asha.get(path)).text
        assert "http://" not in page.replace("http://www.w3.org", "")
        assert "https://" not in page
    problems = (await home.place.browser().get("/help/problems")).text
    for code in PROBLEMS:
        assert f'id="{code}"' in problems


def problem_codes() -> set[str]:
    """Return every code of a Problem that the web's source can raise."""
    codes = set()
    for file in Path(openami.headend.web.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id in ("Problem", "cls") and len(node.args) >= 3:
                status, code = node.args[:2]
                if (
                    isinstance(code, ast.Constant)
                    and isinstance(code.value, str)
                    and "HTTPStatus" in ast.unparse(status)
                ):
                    codes.add(code.value)
    return codes


def test_every_problem_is_explained() -> None:
    """A problem's type leads to /help/problems#code: nothing may be missing there."""
    assert {"not-found", "step-up-needed"} <= problem_codes()
    assert problem_codes() <= set(PROBLEMS)


@given(
    st.lists(
        st.integers(-(2**63) + 1, 2**63 - 1) | st.text("abc~'é", max_size=5), min_size=1, max_size=4
    )
)
def test_a_key_survives_its_way_through_an_address(key: list[int | str]) -> None:
    kinds = [type(each) for each in key]
    read = read_key(write_key(tuple(key)), *kinds)
    assert read == tuple(key) or any("~" in each for each in key if isinstance(each, str))
    assert read_key(write_key((*key, 1)), *kinds) is None or any("~" in str(each) for each in key)


@given(st.text(max_size=40))
def test_a_key_that_nobody_was_given_is_none(text: str) -> None:
    key = read_key(text, int, str)
    assert key is None or (type(key[0]), type(key[1]), len(key)) == (int, str, 2)


def test_there_is_a_next_page_while_pages_are_full() -> None:
    rows = [Placed((n, "x"), n) for n in range(3)]
    assert next_page("/x", {"show": "all"}, rows, 3) == "/x?show=all&before=2~%27x"
    assert next_page("/x", {}, rows, 4) is None
