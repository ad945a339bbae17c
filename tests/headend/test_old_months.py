"""How old months stand, and what to do: the judgement, and ``openami doctor months`` on a store."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.headend.decisions import METER, accepted, register
from tests.headend.test_closing import hourly
from tests.headend.test_closing_program import APRIL, HOUR, JUNE
from tests.headend.test_commands import openami, rows

from openami.headend.old_months import Facts, Finding, State, findings
from openami.headend.store.closed import ClosedTotals, Waiting
from openami.headend.store.months import month_of
from openami.headend.store.open import open_store

NOW = datetime(2026, 11, 20, tzinfo=UTC)
DAY = timedelta(days=1)
OFF = Facts(
    now=NOW, after_days=None, totals=ClosedTotals(), waiting=Waiting(), open_due=(), open_overdue=(),
    keep_months=None, kept_since=None,
)  # fmt: skip
CLOSED = ClosedTotals(files=500, readings=9, bytes=14, due=0, through="2026-09")
ON = replace(OFF, after_days=45, totals=CLOSED, keep_months=12, kept_since=NOW - 700 * DAY)
SEPTEMBER = month_of(NOW) - 2


def standing(facts: Facts) -> dict[str, Finding]:
    return {each.name: each for each in findings(facts)}


def test_what_is_off_is_said_and_is_no_fault() -> None:
    told = standing(OFF)
    assert {name: each.state for name, each in told.items()} == {
        "closing": State.OFF,
        "closed": State.OK,
        "retention": State.OFF,
    }
    assert "[closing]" in told["closing"].remedy
    assert "all readings are kept" in told["retention"].says
    # Switched off later: what is there goes on, and somebody should know.
    later = standing(replace(OFF, totals=replace(CLOSED, due=3), kept_since=NOW))
    assert "comes late" in later["closing"].says
    assert "nobody closes them" in later["due"].says
    assert "before 2026-11-20" in later["retention"].says


def test_all_is_done() -> None:
    told = standing(ON)
    assert all(each.state is State.OK for each in told.values())
    assert told["closed"].says.startswith("up to 2026-09: 9 readings in 500 files")
    assert told["due"].says == "nothing waits to be closed"
    assert told["kept"].says == "readings since 2024-12-20"


@pytest.mark.parametrize(
    ("open_due", "open_overdue", "waiting", "now", "state"),
    [
        (["2026-10"], [], Waiting(), NOW, State.DUE),
        (["2026-09", "2026-10"], ["2026-09"], Waiting(), NOW, State.OVERDUE),
        ([], [], Waiting(late=7), NOW, State.DUE),
        # September ended 45 days before the 15th of November.
        ([], [], Waiting(first=7, first_month=SEPTEMBER), NOW - 4 * DAY, State.DUE),
        ([], [], Waiting(first=7, first_month=SEPTEMBER), NOW - 4 * DAY + HOUR, State.OVERDUE),
    ],
)
def test_what_waits_is_due_for_a_day_and_then_overdue(
    open_due: list[str], open_overdue: list[str], waiting: Waiting, now: datetime, state: State
) -> None:
    facts = replace(ON, open_due=open_due, open_overdue=open_overdue, waiting=waiting, now=now)
    told = standing(facts)
    assert told["due"].state is state
    assert ("openami headend close --after-days 45" in told["due"].remedy) is (
        state is State.OVERDUE
    )
    if waiting.first:
        assert told["closed"].says.startswith("before 2026-09")


@pytest.mark.parametrize(
    ("to_remove", "unfolded", "now", "state"),
    [
        (0, 9, NOW, State.OK),
        (5, 9, NOW, State.DUE),
        (5, 0, NOW.replace(day=2), State.DUE),
        (5, 0, NOW.replace(day=2) + HOUR, State.OVERDUE),
    ],
)
def test_what_is_kept_no_longer_goes_within_a_day(
    to_remove: int, unfolded: int, now: datetime, state: State
) -> None:
    facts = replace(ON, to_remove=to_remove, unfolded_days=unfolded, now=now)
    told = standing(replace(facts, would_keep_since=NOW - 365 * DAY))["to remove"]
    assert told.state is state
    assert ("openami headend retention -c FILE" in told.remedy) is (state is State.OVERDUE)


def test_on_the_command_line(tmp_path: Path, store_url: str) -> None:
    async def fill(late: bool) -> None:
        async with open_store(store_url) as store:
            if late:
                await store.commit([accepted(register(3.5), ts=APRIL + HOUR / 2)])
            else:
                await store.commit([*hourly(METER, APRIL, 60), *hourly(METER, JUNE, 2)])

    def config(*tables: str) -> str:
        path = tmp_path / "headend.toml"
        path.write_text("\n".join((f'store = "{store_url}"', *tables)))
        return str(path)

    def states(code: int) -> dict[str, str]:
        done = rows(store_url, "doctor", "months", "-c", config("[closing]"), code=code)
        return {each["name"]: each["state"] for each in done}

    asyncio.run(fill(late=False))
    plain = openami(store_url, "doctor", "months", "-c", config())
    assert "off: old months stay row by row" in plain.stdout
    assert states(1) == {"closing": "ok", "closed": "ok", "due": "overdue", "retention": "off"}
    openami(store_url, "headend", "close")
    assert states(0)["due"] == "ok"
    asyncio.run(fill(late=True))
    assert states(0)["due"] == "due"
    wrong = openami(
        store_url, "doctor", "months", "-c", config("[closing]\nafter_days = 9"), code=2
    )
    assert "after_days is at least 31" in wrong.stderr
