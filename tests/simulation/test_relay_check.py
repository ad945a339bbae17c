"""Contactors against the head-end's ledger: what convicts, and what it must let pass."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from openami.gateway.driver import RelayPosition
from openami.headend.commands import LedgerCommand
from openami.headend.store.open import open_store
from openami.profile import MeterSerial
from openami.simulator.driver import Movement, SimulatedMeter
from openami.simulator.world.relays import (
    ENDED_AFTER_MS_MAX,
    ORDERED_AFTER_END_MS_MAX,
    EndsSeen,
    check_relays,
)
from openami.simulator.world.witness import PromiseBroken
from openami.sip.actions import Action

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
END = NOW + timedelta(minutes=10)
END_MS = int(END.timestamp() * 1000)


async def a_ledger(
    path: Path, *states: str, sent: bool = True, after: timedelta = timedelta()
) -> Path:
    """Return a store with a disconnect of M-1 in each state, each ``after`` the one before was over."""
    file = path / "headend.db"
    for number, state in enumerate(states):
        at = NOW + number * (END - NOW + after)
        new = LedgerCommand(
            id=f"cmd-{number}",
            feeder_id="f-1",
            gateway_id="g-1",
            meter_serial="M-1",
            action=Action.DISCONNECT,
            requested_by="test",
            reason="test",
            requested_at=at,
            not_after=at + (END - NOW),
        )
        async with open_store(f"sqlite:///{file}") as store:
            await store.request_command(new, at)
        ended = state not in ("ISSUED", "ACCEPTED", "EXECUTING")
        at_ms, end_ms = (int(each.timestamp() * 1000) for each in (at, new.not_after))
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute(
                "UPDATE command SET state = ?, sent_at = ?, ended_at = ?, code = ? WHERE id = ?",
                (
                    state,
                    at_ms if sent else None,
                    end_ms if ended else None,
                    "OK" if ended else None,
                    new.id,
                ),
            )
    return file


def moved(*at_ms: int) -> dict[str, SimulatedMeter]:
    """Return the meter M-1 with orders to disconnect at these moments."""
    meter = SimulatedMeter(MeterSerial("M-1"), lambda: NOW_MS, load_mw=0)
    meter.movements = [Movement(each, RelayPosition.DISCONNECTED) for each in at_ms]
    return {"M-1": meter}


async def test_one_order_for_one_command_is_right(tmp_path: Path) -> None:
    file = await a_ledger(tmp_path, "CONFIRMED")
    last_ms = END_MS + ORDERED_AFTER_END_MS_MAX
    for at_ms in (NOW_MS, last_ms):
        assert check_relays(file, moved(at_ms), now_ms=END_MS) == (1, 1)


@pytest.mark.parametrize("at_ms", [NOW_MS - 1, END_MS + ORDERED_AFTER_END_MS_MAX + 1])
async def test_an_order_outside_its_command_breaks_the_first_promise(
    tmp_path: Path, at_ms: int
) -> None:
    file = await a_ledger(tmp_path, "UNKNOWN")
    with pytest.raises(PromiseBroken, match="promise 1"):
        check_relays(file, moved(at_ms), now_ms=END_MS)


async def test_an_order_without_a_command_that_was_sent_breaks_the_first_promise(
    tmp_path: Path,
) -> None:
    file = await a_ledger(tmp_path, "EXPIRED", sent=False)
    with pytest.raises(PromiseBroken, match="promise 1"):
        check_relays(file, moved(NOW_MS), now_ms=END_MS)


async def test_two_orders_for_one_command_break_the_fourth_promise(tmp_path: Path) -> None:
    file = await a_ledger(tmp_path, "CONFIRMED")
    with pytest.raises(PromiseBroken, match="promise 4"):
        check_relays(file, moved(NOW_MS, NOW_MS + 1), now_ms=END_MS)


@pytest.mark.parametrize("state", ["REFUSED", "EXPIRED"])
async def test_an_order_of_a_command_said_not_to_have_acted_breaks_the_fifth_promise(
    tmp_path: Path, state: str
) -> None:
    file = await a_ledger(tmp_path, state)
    with pytest.raises(PromiseBroken, match="promise 5"):
        check_relays(file, moved(NOW_MS), now_ms=END_MS)


async def test_confirmed_and_never_ordered_breaks_the_fifth_promise(tmp_path: Path) -> None:
    file = await a_ledger(tmp_path, "CONFIRMED")
    with pytest.raises(PromiseBroken, match="promise 5"):
        check_relays(file, moved(), now_ms=END_MS)


async def test_an_order_that_two_commands_cover_is_the_one_s_that_needs_it(tmp_path: Path) -> None:
    # The first failed and ordered nothing; a relay may wait for its turn, so the order lies in its time too.
    file = await a_ledger(tmp_path, "FAILED", "CONFIRMED", after=timedelta(minutes=1))
    second_ms = END_MS + 60_000
    assert second_ms + 1 < END_MS + ORDERED_AFTER_END_MS_MAX
    assert check_relays(file, moved(second_ms + 1), now_ms=END_MS) == (2, 1)
    assert check_relays(file, moved(NOW_MS, second_ms + 1), now_ms=END_MS) == (2, 2)
    with pytest.raises(PromiseBroken, match=r"promise 5.*cmd-1 is CONFIRMED"):
        check_relays(file, moved(), now_ms=END_MS)


async def test_confirmed_without_an_order_is_right_where_the_contactor_stood_so(
    tmp_path: Path,
) -> None:
    file = await a_ledger(tmp_path, "CONFIRMED", "CONFIRMED", after=timedelta(minutes=10))
    assert check_relays(file, moved(NOW_MS), now_ms=END_MS) == (2, 1)  # nobody moved it back
    with pytest.raises(PromiseBroken, match=r"promise 5.*cmd-0 is CONFIRMED"):
        check_relays(file, moved(), now_ms=END_MS)


async def test_a_command_that_is_over_and_never_ends_breaks_the_fifth_promise(
    tmp_path: Path,
) -> None:
    file = await a_ledger(tmp_path, "ISSUED")
    assert check_relays(file, moved(), now_ms=END_MS) == (1, 0)
    with pytest.raises(PromiseBroken, match="promise 5"):
        check_relays(file, moved(), now_ms=END_MS + 24 * 3_600_000)


async def test_an_end_that_was_seen_stays(tmp_path: Path) -> None:
    file, seen = await a_ledger(tmp_path, "CONFIRMED"), EndsSeen()
    for _ in range(2):
        seen.look(file, END_MS, well_since_ms=0)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE command SET state = 'FAILED', code = 'METER_ERROR'")
    with pytest.raises(
        PromiseBroken, match=r"promise 5.*had ended CONFIRMED \(OK\), and now is FAILED"
    ):
        seen.look(file, END_MS, well_since_ms=0)


async def test_what_is_over_has_to_end_while_the_head_end_is_well(tmp_path: Path) -> None:
    file, seen = await a_ledger(tmp_path, "EXECUTING"), EndsSeen()
    late_ms = END_MS + ENDED_AFTER_MS_MAX + 1
    seen.look(file, late_ms, well_since_ms=END_MS + 1)  # it was away, and has its time from then on
    with pytest.raises(PromiseBroken, match=r"promise 5.*is over and stands as EXECUTING"):
        seen.look(file, late_ms, well_since_ms=0)
