"""What the pages say, in one process: lists, filters, lower bounds, scope, languages, a lost broker."""

import re
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.headend.decisions import accepted
from tests.headend.web.console_bench import ASHA, Bench
from tests.headend.web.village import FEEDER, NOW, cover_opened, houses

from openami.headend.accounts import Role
from openami.headend.store.commands import HeadEndStore
from openami.headend.web.site import BrokerLink

OVERVIEW = f"/feeders/{FEEDER}"
SILENT = [house.serial for house in houses() if house.last < NOW]
LATELY = next(h.serial for h in houses() if timedelta() < NOW - h.last < timedelta(hours=2))


@pytest.fixture
def bench(village_store: HeadEndStore) -> Bench:
    return Bench(village_store)


def rows(html: str) -> list[str]:
    """Return the table's rows as text."""
    body = html[html.index("<tbody>") :]
    return [re.sub(r"<[^>]+>|\s+", " ", row) for row in re.findall(r"<tr.*?</tr>", body, re.DOTALL)]


def figure(html: str, name: str) -> str:
    """Return what a counter says."""
    found = re.search(rf"<p>{name}</p><p class=\"value\">(.*?)</p><p>(.*?)</p></div>", html)
    assert found, name
    return re.sub(r"<[^>]+>", "", " · ".join(found.groups())).strip()


async def test_the_overview_shows_first_who_needs_somebody(bench: Bench) -> None:
    page = (await bench.get(OVERVIEW)).text
    first = rows(page)[: len(SILENT)]
    assert {row.split()[0] for row in first} == set(SILENT)
    assert all("Meter silent" in row for row in first)
    assert "Suspect" in rows(page)[len(SILENT)]


async def test_the_counters_name_what_they_rest_on(bench: Bench) -> None:
    page = (await bench.get(OVERVIEW)).text
    assert figure(page, "Reporting").startswith("25/41")
    assert figure(page, "Silent").startswith("12 · ✕ the longest for 14 hrs")
    assert re.match(r"\d{3}\.\d kWh", figure(page, "Supplied today"))
    assert re.match(r"≥ \d{3}\.\d kWh · 24 of 40 meters known", figure(page, "Sold today"))
    lost = re.match(
        r"(\d+\.\d)–(\d+\.\d) % · a range: 3\d of 40 meters heard", figure(page, "Unaccounted")
    )
    assert lost
    assert float(lost[1]) < 5.5 < float(lost[2]), "the village loses 5.5 % of what is sold"
    assert f'href="/balance?feeder={FEEDER}&amp;days=1"' in page
    assert (await bench.get(f"/balance?feeder={FEEDER}&days=1")).status_code == 200
    assert figure(page, "Relays off") == "5 · ■ 1 for lack of credit"


async def test_a_silent_meters_day_is_a_lower_bound(bench: Bench) -> None:
    silent = rows((await bench.get(f"{OVERVIEW}?show=silent")).text)
    assert len(silent) == len(SILENT)
    assert all("≥" in row for row in silent)
    assert not any("≥" in row for row in rows((await bench.get(f"{OVERVIEW}?q=88402")).text))


@pytest.mark.parametrize(
    ("asked", "meters"),
    [("show=attention", 25), ("show=suspect", 4), ("show=off", 5), ("show=low_credit", 12)],
)
async def test_a_list_holds_what_its_chip_counts(bench: Bench, asked: str, meters: int) -> None:
    page = (await bench.get(f"{OVERVIEW}?{asked}")).text
    assert len(rows(page)) == meters
    show = asked.partition("=")[2]
    assert f'<span id="n-{show}">{meters}</span>' in page


async def test_a_search_looks_at_serial_customer_and_pole(bench: Bench) -> None:
    assert len(rows((await bench.get(f"{OVERVIEW}?q=kavya")).text)) == 4
    assert len(rows((await bench.get(f"{OVERVIEW}?q=88401+elias")).text)) == 1
    assert "No meter is in this list" in (await bench.get(f"{OVERVIEW}?q=nobody")).text
    assert len(rows((await bench.get("/meters?q=DS1000-88402")).text)) == 1


async def test_a_head_end_without_its_broker_turns_no_meter_red(bench: Bench) -> None:
    """An hour after the broker was lost, each meter is shown as it was then, and the page says why."""
    before = (await bench.get(OVERVIEW)).text
    bench.link = BrokerLink(
        heard=False, since=NOW + timedelta(minutes=1), reason="connection refused"
    )
    bench.clock.turn(minutes=60)
    page = (await bench.get(OVERVIEW)).text
    assert "This head-end has lost its broker." in page
    assert "connection refused" in page
    assert figure(page, "Silent") == figure(before, "Silent")
    assert "Meter silent" not in (await bench.get(f"/meters/{FEEDER}/DS1000-88402")).text
    assert 'class="bad"' not in (await bench.get(f"{OVERVIEW}?q=88402")).text.split("<tbody>")[1]


async def test_a_silent_gateway_is_another_fault_than_a_silent_meter(bench: Bench) -> None:
    bench.clock.turn(hours=2)
    page = (await bench.get(OVERVIEW)).text
    assert "Gateway silent" in rows(page)[0]
    assert figure(page, "Silent") == "41 · ✕ 41 behind a silent gateway"


async def test_nobody_sees_a_feeder_out_of_their_scope(bench: Bench) -> None:
    bench.who = replace(ASHA, feeders=frozenset({"another"}))
    for path in (
        OVERVIEW,
        f"/live{OVERVIEW}",
        *(
            f"/meters/{FEEDER}/{SILENT[0]}{part}"
            for part in ("", "/readings", "/explore", "/series?obis=1.8.0")
        ),
    ):
        answer = await bench.get(path)
        assert answer.status_code == 404, path
        assert SILENT[0] not in answer.text.replace(path, "")
    assert FEEDER not in (await bench.get("/feeders")).text
    assert SILENT[0] not in (await bench.get("/meters")).text
    assert FEEDER not in (await bench.get("/")).text


async def test_the_first_page_is_the_only_feeder_or_the_list(bench: Bench) -> None:
    answer = await bench.get("/")
    assert (answer.status_code, answer.headers["location"]) == (303, OVERVIEW)
    await bench.store.commit([accepted(feeder="feeder-2", gateway="g", meter="M-1", ts=NOW)])
    page = (await bench.get("/")).text
    assert [row.split()[0] for row in rows(page)] == ["North", "feeder-2"]


async def test_a_feeder_nobody_described_is_drawn_by_gateway(bench: Bench) -> None:
    await bench.store.commit(
        [accepted(feeder="feeder-2", gateway="gw-7", meter=f"M-{n}", ts=NOW) for n in range(60)]
    )
    page = (await bench.get("/feeders/feeder-2")).text
    assert "Nobody has described this feeder yet" in page
    assert ">gw-7</text>" in page
    assert figure(page, "Supplied today") == "– · no head meter is described"
    assert len(rows(page)) == 60


async def test_a_meters_page_says_what_is_known(bench: Bench) -> None:
    await bench.store.commit([cover_opened(LATELY)])
    page = (await bench.get(f"/meters/{FEEDER}/{LATELY}?span=today")).text
    assert "Active energy import, total" in page
    assert "Cover opened" in page
    assert 'class="told good"' in page
    assert 'class="told nothing"' in page
    table = rows((await bench.get(f"/meters/{FEEDER}/{LATELY}?span=today&table=true")).text)

    assert "measured" in " ".join(table)
    assert "nothing known" in " ".join(table)


async def test_readings_are_shown_by_the_feeders_day(bench: Bench) -> None:
    here = f"/meters/{FEEDER}/DS1000-88402/readings"
    today = rows((await bench.get(f"{here}?obis=1.8.0")).text)
    assert today[0].split()[0] == "00:00"
    assert len(today) == 60
    before = rows((await bench.get(f"{here}?day=2026-06-21&obis=1.8.0")).text)
    assert [row.split()[0] for row in before] == ["23:45"]
    assert "Nothing was measured" in (await bench.get(f"{here}?day=2026-06-01")).text
    assert (await bench.get(f"{here}?obis=nonsense")).status_code == 404
    assert (await bench.get(f"{here}?day=9999-12-31")).status_code == 404


async def test_what_is_not_there_is_said(bench: Bench) -> None:
    for path in ("/feeders/nowhere", f"/meters/{FEEDER}/nobody", "/live/feeders/nowhere"):
        assert (await bench.get(path)).status_code == 404


async def test_the_language_is_the_accounts_or_else_the_browsers(bench: Bench) -> None:
    page = (await bench.get(OVERVIEW, accept_language="xx, en-US;q=0.5, en-IN;q=0.9")).text
    assert '<html lang="en-IN"' in page
    assert "22 Jun 2026, 14:45" in page
    assert "Jun 22, 2026" in (await bench.get(OVERVIEW, accept_language="en-US")).text
    bench.who = replace(ASHA, language="en")
    assert '<html lang="en"' in (await bench.get(OVERVIEW, accept_language="en-US")).text


async def test_http_from_elsewhere_is_warned_of(bench: Bench) -> None:
    assert "without HTTPS" in (await bench.get(OVERVIEW, host="hes.lan")).text
    assert "without HTTPS" not in (await bench.get(OVERVIEW)).text


async def test_files_are_kept_for_a_year_under_the_name_of_their_content(bench: Bench) -> None:
    page = await bench.get(OVERVIEW)
    assert page.headers["content-encoding"] == "gzip"
    assert page.headers["cache-control"] == "no-store"
    for kind in ("css", "js"):
        found = re.search(rf"/static/console\.[0-9a-f]+\.{kind}", page.text)
        assert found
        bench.who = None
        answer = await bench.get(found[0])
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-encoding"] == "gzip"
        plain = await bench.get(found[0], accept_encoding="identity")
        assert plain.text == answer.text
        assert "content-encoding" not in plain.headers
    assert (await bench.get("/static/console.css")).status_code == 404


async def test_the_bar_counts_what_waits_within_the_scope(bench: Bench) -> None:
    bench.who = replace(ASHA, role=Role.VIEWER)
    assert 'class="count"' not in (await bench.get(OVERVIEW)).text
