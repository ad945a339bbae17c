"""The walk's door: who may press, from where, how often a PIN may be tried, and what can never be reached."""

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from itertools import product
from pathlib import Path

import httpx
import msgspec
import pytest
from starlette.applications import Starlette
from tests.gateway.clock_double import ClockDouble
from tests.gateway.houses import configuration
from tests.gateway.test_commissioning_rules import NOW as JUDGED_AT
from tests.gateway.test_commissioning_rules import an_hour, judged
from tests.gateway.test_status import meter, snapshot, text

from openami.gateway.commissioning import ledger
from openami.gateway.commissioning.door import FORM_BYTES_MAX
from openami.gateway.commissioning.frame import Frame
from openami.gateway.commissioning.hour_page import POINTS_SHOWN_MAX, hour_page
from openami.gateway.commissioning.permit import PIN_TRIES_MAX, SIGN_IN_LIFE, issue
from openami.gateway.commissioning.view import View
from openami.gateway.commissioning.web import Walk
from openami.gateway.config import load_config
from openami.gateway.database import Database, open_database
from openami.gateway.driver import MeterSilent, RawReading
from openami.gateway.installed_drivers import InstalledDrivers
from openami.gateway.meter_record import MeterRecord
from openami.gateway.normalise import KnownValue, Remembered
from openami.gateway.snapshot import Snapshot
from openami.gateway.status import WALK_HEADERS
from openami.profile import MeterSerial, Obis
from openami.sip.commissioning import Limits, Outcome, Point

PIN = "482173"
HOST = "http://gateway"
FROM_US = {"origin": HOST}
POWER = Obis.parse("1.7.0")


@dataclass
class Phone:
    """A walk in memory over a real database, a client, and what a meter answers when it is asked."""

    client: httpx.AsyncClient
    clock: ClockDouble
    database: Database
    records: list[MeterRecord]
    watts: float | None = 40.0
    asked: list[str] = field(default_factory=list)

    async def get(self, path: str) -> str:
        answer = await self.client.get(path)
        assert answer.status_code == 200, answer.text
        return text_of(answer)

    async def press(self, path: str, **form: str) -> httpx.Response:
        return await self.client.post(path, data=form, headers=FROM_US)

    async def sign_in(self, pin: str = PIN, by: str = "Asha") -> httpx.Response:
        return await self.press("/walk-sign-in", pin=pin, by=by)

    async def issue(self, pin: str = PIN) -> None:
        permit = issue(pin, b"salt", self.clock.now())
        await self.database.run(
            lambda c: ledger.begin(c, permit, feeder_meter=None, limits=Limits())
        )

    async def standing(self) -> ledger.Standing:
        return await self.database.run(ledger.standing)


def text_of(answer: httpx.Response) -> str:
    """The page's words; forms are what the walk has and the status page has not."""
    plain = re.sub(r"</?(form|label|button|input|textarea|details|summary)[^>]*>", " ", answer.text)
    return text(plain)


def with_power(serial: str, kw: float, clock: ClockDouble) -> MeterRecord:
    known = Remembered(known=KnownValue(clock.now(), kw, "kW"))
    return meter(serial, memory={POWER: known}, answered_at=clock.now())


@asynccontextmanager
async def a_phone(directory: Path) -> AsyncIterator[Phone]:
    clock = ClockDouble()
    file = configuration(
        directory,
        modbus_port=1,
        meters=[("M-1", 1, None), ("M-2", 2, 1002)],
        status_port=1,
        fast_s=60,
    )
    async with open_database(directory / "gateway.db") as database:
        phone: Phone

        async def ask(serial: MeterSerial) -> Sequence[RawReading]:
            phone.asked.append(serial)
            if phone.watts is None:
                raise MeterSilent("no answer within 1 s")
            return [RawReading(POWER, Decimal(str(phone.watts)) / 1000, "kW")]

        async def shown() -> Snapshot:
            return snapshot(records=phone.records, now=clock.now())

        view = View(
            load_config(file, InstalledDrivers(), {}),
            InstalledDrivers(),
            database,
            snapshot=shown,
            clock=clock,
        )
        walk = Walk(view, ask, WALK_HEADERS)
        transport = httpx.ASGITransport(Starlette(routes=walk.routes))
        async with httpx.AsyncClient(transport=transport, base_url=HOST) as client:
            records = [with_power("M-1", 0.04, clock), with_power("M-2", 0.2, clock)]
            phone = Phone(client, clock, database, records)
            yield phone


@pytest.fixture
async def phone(tmp_path: Path) -> AsyncIterator[Phone]:
    async with a_phone(tmp_path) as made:
        yield made


PRESSED = (
    "/walk-sign-out",
    "/walk-ask",
    "/walk-load-before",
    "/walk-load-on",
    "/walk-tick",
    "/walk-hour-begin",
    "/walk-deviation",
)
FORM = {"meter": "M-1", "outcome": "ok", "load_w": "60", "note": "x", "nameplate": "yes",
        "rule": "bench", "about": "", "reason": "x"}  # fmt: skip


# --- who may press -------------------------------------------------------------------------------


async def test_a_stranger_on_the_lan_presses_nothing(phone: Phone) -> None:
    await phone.issue()
    before = await phone.standing()
    for path, secret in product(PRESSED, (None, "", "x" * 43)):
        phone.client.cookies = httpx.Cookies({} if secret is None else {"openami-walk": secret})
        answer = await phone.client.post(path, data=FORM, headers=FROM_US)
        assert (answer.status_code, answer.headers["location"]) == (303, "walk-sign-in")
    assert await phone.standing() == before
    assert phone.asked == []


ELSEWHERE: Sequence[dict[str, str]] = (
    {},
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://[gateway"},
    {"origin": HOST, "sec-fetch-site": "cross-site"},
    {"origin": HOST, "sec-fetch-site": "same-site"},
)


async def test_another_sites_form_presses_nothing(phone: Phone) -> None:
    await phone.issue()
    await phone.sign_in()
    before = await phone.standing()
    form = {**FORM, "pin": PIN, "by": "E"}
    for path, headers in product((*PRESSED, "/walk-sign-in"), ELSEWHERE):
        answer = await phone.client.post(path, data=form, headers=headers)
        assert answer.status_code == 403, (path, headers)
    assert await phone.standing() == before
    assert phone.asked == []


async def test_a_link_presses_nothing(phone: Phone) -> None:
    await phone.issue()
    await phone.sign_in()
    for path in PRESSED:
        assert (await phone.client.get(path)).status_code == 405


async def test_the_cookie_is_for_this_browser_and_this_site_alone(phone: Phone) -> None:
    await phone.issue()
    cookie = (await phone.sign_in()).headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    for header, expected in WALK_HEADERS.items():
        assert (await phone.client.get("/walk")).headers[header] == expected


async def test_a_guesser_has_five_tries_however_many_he_sends_at_once(phone: Phone) -> None:
    await phone.issue()
    wrong = [f"{number:06}" for number in range(60)]
    answers = await asyncio.gather(*(phone.sign_in(pin) for pin in wrong))
    told = [text_of(answer) for answer in answers]
    assert sum("That is not the PIN." in each for each in told) == PIN_TRIES_MAX - 1
    assert sum("Too many wrong PINs" in each for each in told) == 60 - PIN_TRIES_MAX + 1
    right = await phone.sign_in()
    assert "Too many wrong PINs" in text_of(right)
    assert "set-cookie" not in right.headers
    await phone.issue("555555")
    assert (await phone.sign_in("555555")).status_code == 303, "another one is printed"


async def test_tries_are_counted_across_a_restart(phone: Phone) -> None:
    await phone.issue()
    for number in range(PIN_TRIES_MAX):
        await phone.sign_in(f"{number:06}")
    with closing(sqlite3.connect(phone.database.path)) as another_process:
        (tries,) = another_process.execute("SELECT pin_tries FROM commissioning").fetchone()
    assert tries == PIN_TRIES_MAX


async def test_a_pin_is_for_one_phone_and_a_new_one_ends_it(phone: Phone) -> None:
    await phone.issue()
    assert (await phone.sign_in()).status_code == 303
    assert "That PIN was used already" in text_of(await phone.sign_in())
    assert "Asha Sign out" in await phone.get("/walk")
    await phone.issue("111111")
    assert "Sign in to tick" in await phone.get("/walk")


async def test_a_sign_in_ends_by_itself_and_by_signing_out(phone: Phone) -> None:
    await phone.issue()
    await phone.sign_in()
    phone.clock.advance(SIGN_IN_LIFE.total_seconds() - 1)
    assert "Asha Sign out" in await phone.get("/walk")
    phone.clock.advance(1)
    assert "Sign in to tick" in await phone.get("/walk")
    await phone.issue()
    await phone.sign_in()
    await phone.press("/walk-sign-out")
    assert "Sign in to tick" in await phone.get("/walk")
    assert "No PIN was issued" in text_of(await phone.sign_in())


async def test_a_form_larger_than_ours_is_not_read(phone: Phone) -> None:
    await phone.issue()
    await phone.sign_in()
    for path in (*PRESSED, "/walk-sign-in"):
        body = b"note=" + b"x" * FORM_BYTES_MAX
        assert (await phone.client.post(path, content=body, headers=FROM_US)).status_code == 413
    many = "&".join(f"a{n}=1" for n in range(100)).encode()
    assert (await phone.client.post("/walk-tick", content=many, headers=FROM_US)).status_code == 413


async def test_a_form_of_any_bytes_harms_nothing(phone: Phone) -> None:
    await phone.issue()
    await phone.sign_in()
    bodies = (b"%", b"\xff\xfe", b"meter=%00&outcome=ok", b"outcome=%C3", b"")
    for path, body in product(PRESSED[1:], bodies):
        answer = await phone.client.post(path, content=body, headers=FROM_US)
        assert answer.status_code == 303
    assert (await phone.standing()).ticks == {}


# --- what a press does ---------------------------------------------------------------------------


async def test_a_tick_says_who_when_and_how_it_was_known(phone: Phone) -> None:
    await phone.issue()
    await phone.sign_in(by="  Asha   of Solar Works ")
    await phone.press("/walk-load-before", meter="M-2", load_w="60")
    phone.watts = 101.0
    phone.clock.advance(30)
    await phone.press("/walk-load-on", meter="M-2")
    assert "its power rose : 40 W before, 101 W with the load of 60 W" in await phone.get(
        "/walk-meter?meter=M-2"
    )
    await phone.press("/walk-tick", meter="M-2", outcome="ok")
    tick = (await phone.standing()).ticks["M-2"]
    assert (tick.by, tick.outcome, tick.identified.value) == (
        "Asha of Solar Works",
        Outcome.OK,
        "told",
    )
    assert tick.told == "1002"
    assert tick.load is not None
    assert tick.load.verdict.value == "rose"
    assert tick.at == phone.clock.now().replace(microsecond=0)


NOT_SEEN: Sequence[tuple[dict[str, str], str]] = (
    ({"meter": "M-1"}, "compare the plate and mark the box"),
    ({"meter": "M-1", "nameplate": "yes"}, "No load was seen at this meter"),
    ({"meter": "M-2"}, "No load was seen at this meter"),
    ({"meter": "M-2", "outcome": "problem"}, "Say in the note what the problem is"),
    ({"meter": "M-2", "note": "é" * 501}, "501 characters; 500 fit"),
)


async def test_what_was_not_seen_is_not_ticked(phone: Phone) -> None:
    await phone.issue()
    await phone.sign_in()
    for form, told in NOT_SEEN:
        await phone.press("/walk-tick", **{"outcome": "ok", **form})
        assert told in await phone.get(f"/walk-meter?meter={form['meter']}")
    assert (await phone.standing()).ticks == {}


async def test_a_silent_meter_is_left_as_a_problem_only(phone: Phone) -> None:
    await phone.issue()
    await phone.sign_in()
    phone.records[1] = msgspec.structs.replace(phone.records[1], fault="no answer")
    await phone.press("/walk-tick", meter="M-2", outcome="ok", note="it is fine")
    assert "It does not answer now" in await phone.get("/walk-meter?meter=M-2")
    await phone.press("/walk-tick", meter="M-2", outcome="problem", note="no wire yet")
    assert (await phone.standing()).ticks["M-2"].outcome is Outcome.PROBLEM


async def test_a_load_is_a_number_of_watts(phone: Phone) -> None:
    await phone.issue()
    await phone.sign_in()
    for load in ("", "x", "9", "20001", "-60", "6e1", "60.5", "1" * 400):
        await phone.press("/walk-load-before", meter="M-1", load_w=load)
        assert "The load is a number of watts" in await phone.get("/walk-meter?meter=M-1")
    assert (await phone.standing()).loads_begun == {}


async def test_a_phones_own_digits_are_digits(phone: Phone) -> None:
    await phone.issue()
    assert (await phone.sign_in("٤٨٢ ١٧٣")).status_code == 303
    await phone.press("/walk-load-before", meter="M-1", load_w="६०")
    assert (await phone.standing()).loads_begun["M-1"].load_w == 60


async def test_a_lamp_switched_on_much_later_proves_nothing(phone: Phone) -> None:
    await phone.issue()
    await phone.sign_in()
    await phone.press("/walk-load-before", meter="M-1", load_w="60")
    phone.clock.advance(1801)
    phone.watts = 100.0
    await phone.press("/walk-load-on", meter="M-1")
    assert "Too long ago" in await phone.get("/walk-meter?meter=M-1")


async def test_a_meter_that_does_not_answer_says_so(phone: Phone) -> None:
    await phone.issue()
    await phone.sign_in()
    phone.watts = None
    for path in ("/walk-ask", "/walk-load-before"):
        await phone.press(path, meter="M-1", load_w="60")
        assert "It does not answer now: no answer within 1 s" in await phone.get(
            "/walk-meter?meter=M-1"
        )


async def test_only_configured_meters_are_asked_and_shown(phone: Phone) -> None:
    await phone.issue()
    await phone.sign_in()
    for serial in ("M-9", "../M-1", "<b>"):
        for path in ("/walk-ask", "/walk-load-before", "/walk-load-on", "/walk-tick"):
            await phone.press(path, **{**FORM, "meter": serial})
        assert (await phone.client.get("/walk-meter", params={"meter": serial})).status_code == 404
    assert phone.asked == []
    assert (await phone.standing()).ticks == {}


async def test_what_a_person_or_a_meter_says_is_text_and_not_markup(phone: Phone) -> None:
    evil = '<script>alert("1")</script>&amp;'
    await phone.issue()
    await phone.sign_in(by=evil)
    phone.records[0] = msgspec.structs.replace(phone.records[0], fault=evil, line=evil)
    await phone.press("/walk-tick", meter="M-1", outcome="problem", note=evil)
    for path in ("/walk", "/walk-meter?meter=M-1", "/walk-hour"):
        answer = await phone.client.get(path)
        assert "<script" not in answer.text
        assert evil in text_of(answer)


async def test_only_what_is_open_can_be_answered_for(phone: Phone) -> None:
    await phone.issue()
    await phone.sign_in()
    await phone.press("/walk-deviation", rule="voltage", about="M-1", reason="long line")
    assert "something that is open" in await phone.get("/walk-hour")
    await phone.press("/walk-deviation", rule="walk", about="M-1", reason="   ")
    assert (await phone.standing()).deviations == ()
    await phone.press("/walk-deviation", rule="walk", about="M-1", reason="no key to the house")
    (deviation,) = (await phone.standing()).deviations
    assert (deviation.about, deviation.by) == ("M-1", "Asha")
    assert "walk M-1" not in await phone.get("/walk-hour")


async def test_the_hour_begins_when_it_is_pressed_and_says_how_long_still(phone: Phone) -> None:
    await phone.issue()
    await phone.sign_in()
    await phone.press("/walk-hour-begin")
    phone.clock.advance(timedelta(minutes=10).total_seconds())
    assert "50 min still" in await phone.get("/walk-hour")


def test_a_judged_hour_names_what_fails_first_and_leaves_out_what_passed() -> None:
    acceptance = judged(*an_hour(volts=180.0), room_days=5.0)
    points = [Point("voltage", "M-1", "180 V")] * (POINTS_SHOWN_MAX + 3)
    frame = Frame(gateway_id="pole-1", now=JUDGED_AT, by="Asha")
    page = hour_page(frame, began_at=acceptance.began_at, acceptance=acceptance, still_open=points)
    told = text_of(httpx.Response(200, text=page))
    assert "14:00 to 15:00 UTC: 1 fails, 2 warning, 7 pass" in told
    assert told.index("fails voltage M-1") < told.index("warning disk")
    assert "neutral and terminals at the meter" in told
    assert "and 3 more" in told
    assert "pass read" not in told


async def test_the_walk_can_read_a_meter_and_has_no_way_to_a_relay() -> None:
    """Decision 0062: what the pages are given is a function that reads, and nothing of theirs names a relay."""
    source = Path(ledger.__file__).parent
    for path in source.glob("*.py"):
        if path.name in ("__init__.py", "bench_scan.py"):
            continue
        code = path.read_text()
        assert "RelayControl" not in code, path
        assert "set_relay" not in code, path
        assert "commanding" not in code, path
