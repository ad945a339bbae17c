"""Sessions and commands at the gateway: what moves, what does not, what is told, and what a crash leaves."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from tests.gateway.clock_double import ClockDouble
from tests.gateway.outbox_samples import telemetry
from tests.gateway.sip_world import HES, MARKET, POLE, SERIALS, STRANGER, Pole, Running
from tests.gateway.switched_meter import At

from openami.gateway.commanding import (
    EARLY_COMMAND_WAIT_S,
    EARLY_COMMANDS_MAX,
    SILENT_REPORT_INTERVAL_S,
    SPREAD_ABOVE,
    SPREAD_S_MAX,
)
from openami.gateway.driver import RelayPosition
from openami.profile import decode_envelope
from openami.simulator.disk import Disk
from openami.sip.actions import Action
from openami.sip.acts import ActType, verified_acts
from openami.sip.canonical import read_document
from openami.sip.errors import SipCode
from openami.sip.keys import KeySigner
from openami.sip.reports import Report, ReportStatus


@pytest.fixture
def pole(tmp_path: Path) -> Pole:
    return Pole(tmp_path, ClockDouble(synchronised=False))


async def test_an_honest_command_moves_the_relay_once_and_is_reported(pole: Pole) -> None:
    async with pole.running() as gateway:
        await gateway.ready()
        order = pole.parties.command(Action.DISCONNECT, pole.nonces["s-1"], seq=1)
        await gateway.command(order)
        assert pole.meters["M-1"].moves == [RelayPosition.DISCONNECTED]
        (report,) = await gateway.reports()
        assert (report.status, report.code, report.seq) == (ReportStatus.DONE, "OK", 1)
        assert report.registers[0]["value"] == "disconnected"
        assert report.nonce == pole.nonces["s-1"]
        assert gateway.decided == 1


async def refused(gateway: Running, code: SipCode) -> Report:
    """Return the last report, which is a signed refusal."""
    report = (await gateway.reports())[-1]
    assert (report.status, report.code) == (ReportStatus.REFUSED, code)
    return report


def moves(pole: Pole) -> int:
    return sum(len(meter.moves) for meter in pole.meters.values())


# --- the same again -------------------------------------------------------------------------------


async def test_the_same_command_again_has_its_report_again_and_moves_nothing(pole: Pole) -> None:
    async with pole.running() as gateway:
        await gateway.ready()
        order = pole.parties.command(Action.DISCONNECT, pole.nonces["s-1"], seq=1)
        await gateway.command(order)
        (entry,) = await gateway.outbox.pending(10)
        pole.announced.clear()
        await gateway.command(order)
        assert moves(pole) == 1
        assert pole.announced == [(entry.topic, entry.payload)], "word for word"
    async with pole.running() as gateway:
        await gateway.connect()
        pole.announced.clear()
        await gateway.command(order)
        assert pole.announced == [(entry.topic, entry.payload)], "after a restart too"
        assert moves(pole) == 1


async def test_a_number_used_twice_or_gone_by_is_refused(pole: Pole) -> None:
    async with pole.running() as gateway:
        await gateway.ready()
        nonce = pole.nonces["s-1"]
        await gateway.command(pole.parties.command(Action.DISCONNECT, nonce, seq=5))
        pole.clock.advance(400)
        await gateway.command(pole.parties.command(Action.RECONNECT, nonce, seq=5, life_s=3_000))
        await refused(gateway, SipCode.SEQ_REUSED)
        await gateway.command(pole.parties.command(Action.RECONNECT, nonce, seq=4, life_s=3_000))
        await refused(gateway, SipCode.SEQ_REPLAY)
        assert moves(pole) == 1
        await gateway.command(pole.parties.command(Action.RECONNECT, nonce, seq=6, life_s=3_000))
        assert moves(pole) == 2


async def test_a_refusal_that_was_told_stands(pole: Pole) -> None:
    """Whoever was told no holds the command for ended; delivered again when the reason is gone, it stays no."""
    async with pole.running() as gateway:
        await gateway.ready()
        nonce = pole.nonces["s-1"]
        await gateway.command(pole.parties.command(Action.DISCONNECT, nonce, seq=1))
        early = pole.parties.command(Action.RECONNECT, nonce, seq=2, life_s=3_000)
        await gateway.command(early)
        told = await refused(gateway, SipCode.DWELL)
        pole.clock.advance(600)
        pole.announced.clear()
        await gateway.command(early)
        assert moves(pole) == 1
        assert len(pole.announced) == 1
        assert (await gateway.reports())[-1] == told
        await gateway.command(pole.parties.command(Action.RECONNECT, nonce, seq=2, life_s=3_000))
        assert moves(pole) == 2, "signed anew, under the number that was not used"


# --- freshness ------------------------------------------------------------------------------------


@pytest.mark.parametrize("wiped", [False, True], ids=["reboot", "new card"])
async def test_what_was_signed_before_a_restart_does_not_act_after_it(
    pole: Pole, wiped: bool
) -> None:
    async with pole.running() as gateway:
        await gateway.connect()
        keyring, offer = pole.parties.keyring(), pole.parties.offer()
        await gateway.session(keyring)
        await gateway.session(offer)
        withheld = pole.parties.command(Action.DISCONNECT, pole.nonces["s-1"], seq=1)
    if wiped:
        pole.wipe()
    async with pole.running() as gateway:
        await gateway.connect()
        if wiped:
            await gateway.session(keyring)
            await gateway.session(offer)
        await gateway.command(withheld)
        await refused(gateway, SipCode.STALE_NONCE)
        assert moves(pole) == 0
        await gateway.command(pole.parties.command(Action.DISCONNECT, pole.nonces["s-1"], seq=1))
        assert moves(pole) == 1


async def test_a_reconnection_renews_the_nonce_with_a_minutes_grace(pole: Pole) -> None:
    async with pole.running() as gateway:
        await gateway.ready()
        old = pole.nonces["s-1"]
        in_flight = pole.parties.command(Action.DISCONNECT, old, seq=1)
        too_late = pole.parties.command(Action.DISCONNECT, old, seq=1, serial="M-2", life_s=3_000)
        gateway.commanding.disconnected()
        await gateway.connect()
        assert pole.nonces["s-1"] != old
        pole.clock.advance(60)
        await gateway.command(in_flight)
        assert moves(pole) == 1
        pole.clock.advance(1)
        await gateway.command(too_late)
        await refused(gateway, SipCode.STALE_NONCE)
        assert moves(pole) == 1


async def test_a_nonce_is_renewed_when_its_life_is_over_and_not_before(pole: Pole) -> None:
    async with pole.running() as gateway:
        await gateway.connect()
        await gateway.session(pole.parties.keyring(limits={"nonceLife": 600}))
        await gateway.session(pole.parties.offer())
        first = pole.nonces["s-1"]
        pole.clock.advance(599)
        await gateway.commanding.tick()
        gateway.hear()
        assert pole.nonces["s-1"] == first
        pole.clock.advance(1)
        await gateway.commanding.tick()
        gateway.hear()
        assert pole.nonces["s-1"] != first


async def test_a_nonce_too_old_for_short_commands_is_renewed_and_not_at_will(pole: Pole) -> None:
    async with pole.running() as gateway:
        await gateway.ready()
        first = pole.nonces["s-1"]
        pole.clock.advance(29)
        for seq in (1, 2):
            await gateway.command(pole.parties.command(Action.DISCONNECT, "A" * 22, seq=seq))
        await gateway.command(pole.parties.command(Action.DISCONNECT, first, seq=3, life_s=20))
        await refused(gateway, SipCode.STALE_NONCE)
        assert pole.nonces["s-1"] == first, "it was told a minute ago"
        pole.clock.advance(1)
        await gateway.command(pole.parties.command(Action.DISCONNECT, first, seq=4, life_s=20))
        assert pole.nonces["s-1"] != first
        assert (await refused(gateway, SipCode.STALE_NONCE)).nonce == pole.nonces["s-1"]
        await gateway.command(
            pole.parties.command(Action.DISCONNECT, pole.nonces["s-1"], seq=4, life_s=20)
        )
        assert moves(pole) == 1


@pytest.mark.parametrize("days", [-20_000, -40, 400], ids=["1970", "behind", "ahead"])
async def test_a_wrong_clock_hinders_no_fresh_command(pole: Pole, days: int) -> None:
    async with pole.running() as gateway:
        await gateway.ready()
        order = pole.parties.command(Action.DISCONNECT, pole.nonces["s-1"], seq=1)
        pole.clock.set(pole.clock.wall + timedelta(days=days), synchronised=days > 0)
        await gateway.command(order)
        assert moves(pole) == 1


async def test_a_clock_that_is_set_back_revives_nothing(pole: Pole) -> None:
    async with pole.running() as gateway:
        await gateway.ready()
        order = pole.parties.command(Action.DISCONNECT, pole.nonces["s-1"], seq=1, life_s=300)
        pole.clock.advance(1_800)
        pole.clock.set(pole.clock.wall - timedelta(hours=2), synchronised=True)
        await gateway.command(order)
        await refused(gateway, SipCode.STALE_NONCE)
        assert moves(pole) == 0


# --- sessions -------------------------------------------------------------------------------------


async def test_a_command_that_overtakes_its_session_waits_for_it(pole: Pole) -> None:
    async with pole.running() as gateway:
        await gateway.ready()
        offer = pole.parties.offer("s-2")
        order = pole.parties.command(Action.DISCONNECT, "A" * 22, seq=1, session_id="s-2")
        await gateway.command(order)
        assert gateway.decided == 0, "and the broker keeps it meanwhile"
        await gateway.session(offer)
        await gateway.settled()
        assert gateway.decided == 1
        await refused(gateway, SipCode.STALE_NONCE)


async def test_a_command_whose_session_does_not_come_is_refused_in_time(pole: Pole) -> None:
    async with pole.running() as gateway:
        await gateway.ready()
        order = pole.parties.command(Action.DISCONNECT, "A" * 22, seq=1, session_id="s-2")
        await gateway.command(order)
        pole.clock.advance(EARLY_COMMAND_WAIT_S - 0.1)
        await gateway.commanding.tick()
        assert await gateway.reports() == []
        pole.clock.advance(0.1)
        await gateway.commanding.tick()
        assert gateway.decided == 1
        await refused(gateway, SipCode.NO_SESSION)


async def test_no_more_commands_wait_for_sessions_than_the_bound(pole: Pole) -> None:
    async with pole.running() as gateway:
        await gateway.ready()
        for seq in range(1, EARLY_COMMANDS_MAX + 2):
            await gateway.command(
                pole.parties.command(Action.DISCONNECT, "A" * 22, seq=seq, session_id="s-2")
            )
        assert gateway.decided == 1
        await refused(gateway, SipCode.NO_SESSION)


async def test_a_closed_session_stays_closed_over_a_restart(pole: Pole) -> None:
    async with pole.running() as gateway:
        await gateway.ready()
        session = pole.parties.session("s-2")
        offer = pole.parties.act(session, ActType.OFFER)
        await gateway.session(pole.parties.act(session, ActType.CLOSE, reason="DONE"))
        assert await gateway.session(offer) == [], "closed before it was offered"
    async with pole.running() as gateway:
        await gateway.connect()
        assert await gateway.session(offer) == []
        order = pole.parties.command(Action.DISCONNECT, "A" * 22, seq=1, session_id="s-2")
        await gateway.command(order)
        await refused(gateway, SipCode.SESSION_CLOSED)


async def test_a_revoked_head_end_commands_no_more_in_a_live_session(pole: Pole) -> None:
    async with pole.running() as gateway:
        await gateway.ready()
        await gateway.session(pole.parties.keyring(without=[HES.kid]))
        await gateway.command(pole.parties.command(Action.DISCONNECT, pole.nonces["s-1"], seq=1))
        assert moves(pole) == 0
        assert await gateway.reports() == [], "in silence: its key is nobody's now"


async def test_lower_limits_of_a_new_keyring_bind_a_live_session(pole: Pole) -> None:
    async with pole.running() as gateway:
        await gateway.ready()
        await gateway.session(pole.parties.keyring(limits={"disconnectsPerHour": 0}))
        await gateway.command(pole.parties.command(Action.DISCONNECT, pole.nonces["s-1"], seq=1))
        await refused(gateway, SipCode.RATE_LIMIT)
    async with pole.running() as gateway:
        assert gateway.commanding.state.sessions["s-1"].limits.disconnects_per_hour == 0


async def test_the_keyring_in_force_survives_a_restart_and_older_ones_are_refused(
    pole: Pole,
) -> None:
    async with pole.running() as gateway:
        first = pole.parties.keyring()
        await gateway.session(first)
        await gateway.session(pole.parties.keyring())
    async with pole.running() as gateway:
        await gateway.session(first)
        keyring = gateway.commanding.state.keyring
        assert keyring is not None
        assert keyring.version == 2


# --- interlocks -----------------------------------------------------------------------------------


async def test_the_budget_of_disconnects_outlives_a_restart(pole: Pole) -> None:
    async with pole.running() as gateway:
        await gateway.connect()
        await gateway.session(pole.parties.keyring(limits={"disconnectsPerHour": 2}))
        await gateway.session(pole.parties.offer(hours=100))
        for serial in ("M-1", "M-2"):
            order = pole.parties.command(
                Action.DISCONNECT, pole.nonces["s-1"], seq=1, serial=serial
            )
            await gateway.command(order)
        assert moves(pole) == 2
    pole.clock.reboot(pole.clock.wall + timedelta(days=3))
    async with pole.running() as gateway:
        await gateway.connect()
        for wait_s, expected in ((0, 2), (1_799, 2), (1, 3)):
            pole.clock.advance(wait_s)
            await gateway.connect()
            await gateway.command(
                pole.parties.command(
                    Action.DISCONNECT, pole.nonces["s-1"], seq=expected + wait_s, serial="M-3"
                )
            )
            assert moves(pole) == expected


async def test_the_lock_out_beats_everything_even_what_already_waits(pole: Pole) -> None:
    async with pole.running() as gateway:
        await gateway.ready()
        pole.lock_out.touch()
        await gateway.command(pole.parties.command(Action.RECONNECT, pole.nonces["s-1"], seq=1))
        await refused(gateway, SipCode.LOCKOUT)
        pole.lock_out.unlink()
        await gateway.command(pole.parties.command(Action.RECONNECT, pole.nonces["s-1"], seq=2))
        assert moves(pole) == 1


async def test_many_reconnections_are_spread_and_told_as_accepted(pole: Pole) -> None:
    pole.spread = 0.5
    async with pole.running() as gateway:
        await gateway.ready()
        for number in range(SPREAD_ABOVE + 1):
            serial = SERIALS[number % len(SERIALS)]
            order = pole.parties.command(
                Action.RECONNECT, pole.nonces["s-1"], seq=number + 1, serial=serial
            )
            await gateway.command(order)
            # Dwell would refuse the second of a meter; the window is longer than two of them.
            pole.clock.advance(21)
        assert SPREAD_S_MAX / 2 in pole.slept_s
        statuses = [report.status for report in await gateway.reports()]
        assert statuses == [ReportStatus.DONE] * SPREAD_ABOVE + [
            ReportStatus.ACCEPTED,
            ReportStatus.DONE,
        ]


async def test_a_spread_reconnection_does_not_outlive_its_command(pole: Pole) -> None:
    pole.spread = 1.0
    async with pole.running() as gateway:
        await gateway.ready()
        for number in range(SPREAD_ABOVE + 1):
            serial = SERIALS[number % len(SERIALS)]
            await gateway.command(
                pole.parties.command(
                    *(Action.RECONNECT, pole.nonces["s-1"]),
                    seq=number + 1,
                    serial=serial,
                    life_s=150,
                )
            )
            pole.clock.advance(21)
        age_s = 21 * SPREAD_ABOVE
        assert pole.slept_s == [150 - age_s]


# --- the meter ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "status", "moved"),
    [
        pytest.param({"silent": True}, ReportStatus.FAILED, 0, id="silent before the order"),
        pytest.param({"stuck": True}, ReportStatus.FAILED, 1, id="a stuck contactor"),
        pytest.param({"lost_answer": At.AFTER}, ReportStatus.DONE, 1, id="moved, answer lost"),
        pytest.param({"lost_answer": At.BEFORE}, ReportStatus.FAILED, 0, id="order lost"),
    ],
)
async def test_what_the_meter_does_is_what_is_told(
    pole: Pole, spoil: dict[str, object], status: ReportStatus, moved: int
) -> None:
    async with pole.running() as gateway:
        await gateway.ready()
        for name, value in spoil.items():
            setattr(pole.meters["M-1"], name, value)
        await gateway.command(pole.parties.command(Action.DISCONNECT, pole.nonces["s-1"], seq=1))
        (report,) = await gateway.reports()
        assert report.status is status
        assert moves(pole) == moved, "an order is never repeated"
        if not pole.meters["M-1"].silent:
            assert report.registers[0]["value"] == pole.meters["M-1"].position


async def test_a_token_is_passed_to_the_meter_which_alone_judges_it(pole: Pole) -> None:
    async with pole.running() as gateway:
        await gateway.ready()
        for seq, token in ((1, "12345678901234567890"), (2, "not digits")):
            await gateway.command(
                pole.parties.command(
                    Action.CREDIT_TOKEN, pole.nonces["s-1"], seq=seq, args={"token": token}
                )
            )
        assert pole.meters["M-1"].tokens == ["12345678901234567890", "not digits"]
        statuses = [report.status for report in await gateway.reports()]
        assert statuses == [ReportStatus.DONE, ReportStatus.FAILED]


async def test_a_token_that_the_meter_does_not_answer_is_unknown_and_never_entered_again(
    pole: Pole,
) -> None:
    async with pole.running() as gateway:
        await gateway.ready()
        pole.meters["M-1"].lost_answer = At.AFTER
        order = pole.parties.command(
            Action.CREDIT_TOKEN, pole.nonces["s-1"], seq=1, args={"token": "12345678901234567890"}
        )
        await gateway.command(order)
        await gateway.command(order)
        assert pole.meters["M-1"].tokens == ["12345678901234567890"]
        (report,) = await gateway.reports()
        assert (report.status, report.code) == (ReportStatus.UNKNOWN, "METER_ERROR")


async def test_readings_are_sent_again(pole: Pole) -> None:
    pole.clock.is_synchronised = True
    async with pole.running() as gateway:
        await gateway.ready()
        result = await gateway.outbox.append([telemetry(ts=pole.clock.now())])
        await gateway.outbox.mark_sent(result.seqs, pole.clock.now())
        span = {"from": "2026-07-01T00:00:00Z", "to": "2026-07-02T00:00:00Z"}
        await gateway.command(
            pole.parties.command(Action.RESEND, pole.nonces["s-1"], seq=1, args=span)
        )
        assert [entry.seq for entry in await gateway.outbox.pending(10)][-1] == result.seqs[0]
        assert (await gateway.reports())[-1].status is ReportStatus.DONE


async def test_where_readings_wait_by_the_cap_none_is_sent_again_and_relays_move(
    pole: Pole,
) -> None:
    pole.clock.is_synchronised = True
    pole.readings_wait = True
    async with pole.running() as gateway:
        await gateway.ready()
        result = await gateway.outbox.append([telemetry(ts=pole.clock.now())])
        await gateway.outbox.mark_sent(result.seqs, pole.clock.now())
        span = {"from": "2026-07-01T00:00:00Z", "to": "2026-07-02T00:00:00Z"}
        await gateway.command(
            pole.parties.command(Action.RESEND, pole.nonces["s-1"], seq=1, args=span)
        )
        last = (await gateway.reports())[-1]
        assert (last.status, last.code) == (ReportStatus.FAILED, SipCode.RATE_LIMIT)
        assert result.seqs[0] not in {entry.seq for entry in await gateway.outbox.pending(10)}
        await gateway.command(pole.parties.command(Action.DISCONNECT, pole.nonces["s-1"], seq=2))
        assert (await gateway.reports())[-1].status is ReportStatus.DONE


async def test_a_trade_is_settled_once_by_two_parties(pole: Pole) -> None:
    async with pole.running() as gateway:
        await gateway.ready()

        async def settle(seq: int, trade: str, signers: Sequence[KeySigner]) -> Report:
            args = {"tradeId": trade, "energyWh": 500, "amountMinor": 120, "currency": "INR"}
            args |= {"seller": "M-1", "buyer": "M-2"}
            await gateway.command(
                pole.parties.command(
                    Action.SETTLE, pole.nonces["s-1"], seq=seq, args=args, signers=signers
                )
            )
            return (await gateway.reports())[-1]

        assert (await settle(1, "t-1", [HES])).code == SipCode.QUORUM
        assert (await settle(2, "t-1", [HES, MARKET])).status is ReportStatus.DONE
        assert (await settle(3, "t-1", [HES, MARKET])).code == SipCode.TRADE_DONE


# --- silence --------------------------------------------------------------------------------------


async def test_who_has_no_key_gets_no_answer_and_the_operator_one_signed_event(pole: Pole) -> None:
    async with pole.running() as gateway:
        await gateway.ready()
        nonce = pole.nonces["s-1"]
        topic, payload = pole.parties.command(Action.DISCONNECT, nonce, seq=1)
        await gateway.command((topic, payload), retain=True)
        await gateway.command((topic, payload.replace(b"M-1", b"M-2")))
        for _ in range(3):
            await gateway.command(
                pole.parties.command(Action.DISCONNECT, nonce, seq=1, signers=[STRANGER])
            )
        assert gateway.decided == 5
        assert moves(pole) == 0
        assert await gateway.outbox.pending(10) == []
        pole.clock.advance(SILENT_REPORT_INTERVAL_S)
        await gateway.commanding.tick()
        await gateway.commanding.tick()
        (entry,) = await gateway.outbox.pending(10)
        envelope = decode_envelope(entry.payload)
        assert envelope.event is not None
        assert envelope.seq == entry.seq
        assert envelope.event.detail is not None
        assert envelope.event.detail.endswith("RETAINED 1, TOPIC_MISMATCH 1, UNKNOWN_KEY 3")
        (act,) = verified_acts(read_document(entry.payload), {POLE.kid: POLE.public})
        assert act.type is ActType.REPORT


# --- tickets --------------------------------------------------------------------------------------


async def test_a_ticket_reconnects_once_without_a_session(pole: Pole) -> None:
    async with pole.running() as gateway:
        await gateway.session(pole.parties.keyring())
        ticket = pole.parties.ticket()
        report = await gateway.commanding.take_ticket(*ticket)
        assert moves(pole) == 1
        assert await gateway.commanding.take_ticket(*ticket) == report, "the same report again"
        assert moves(pole) == 1
    async with pole.running() as gateway:
        assert await gateway.commanding.take_ticket(*ticket) == report
        reused = pole.parties.ticket(ticket="t-0", days=8)
        await gateway.commanding.take_ticket(*reused)
        await refused(gateway, SipCode.TICKET_USED)
        await gateway.commanding.take_ticket(*pole.parties.ticket(Action.DISCONNECT))
        await refused(gateway, SipCode.NOT_ALLOWED)
        await gateway.commanding.take_ticket(*pole.parties.ticket(signer=HES))
        await refused(gateway, SipCode.NOT_ALLOWED)
        forged = pole.parties.ticket(signer=STRANGER)
        assert await gateway.commanding.take_ticket(*forged) is None
        assert moves(pole) == 1


# --- the disk -------------------------------------------------------------------------------------


async def test_where_nothing_can_be_written_nothing_moves(pole: Pole) -> None:
    async with pole.running() as gateway:
        await gateway.ready()
        with closing(sqlite3.connect(pole.database, isolation_level=None)) as other:
            await gateway.outbox.database.run(
                lambda c: c.execute("PRAGMA busy_timeout = 10").fetchall()
            )
            other.execute("BEGIN IMMEDIATE")
            pole.announced.clear()
            order = pole.parties.command(Action.DISCONNECT, pole.nonces["s-1"], seq=1)
            await gateway.command(order)
            assert moves(pole) == 0
            ((_, payload),) = pole.announced
            assert read_document(payload).members["report"]["code"] == SipCode.STORAGE
            other.execute("ROLLBACK")
        await gateway.command(order)
        assert moves(pole) == 0, "it was told that it is refused"
        await gateway.command(
            pole.parties.command(Action.DISCONNECT, pole.nonces["s-1"], seq=1, life_s=200)
        )
        assert moves(pole) == 1


async def test_a_command_that_ran_is_not_refused_when_it_comes_again_and_nothing_can_be_written(
    pole: Pole,
) -> None:
    async with pole.running() as gateway:
        await gateway.ready()
        order = pole.parties.command(Action.DISCONNECT, pole.nonces["s-1"], seq=1)
        await gateway.command(order)
        (report,) = await gateway.reports()
        with closing(sqlite3.connect(pole.database, isolation_level=None)) as other:
            await gateway.outbox.database.run(
                lambda c: c.execute("PRAGMA busy_timeout = 10").fetchall()
            )
            other.execute("BEGIN IMMEDIATE")
            pole.announced.clear()
            await gateway.command(order)
            ((_, payload),) = pole.announced
            assert read_document(payload).members["report"]["status"] == report.status
            other.execute("ROLLBACK")
        assert moves(pole) == 1


async def test_where_nothing_can_be_read_no_command_is_told_to_be_refused() -> None:
    with Disk() as disk:
        pole = Pole(disk.directory, ClockDouble(synchronised=False))
        async with pole.running() as gateway:
            await gateway.ready()
            order = pole.parties.command(Action.DISCONNECT, pole.nonces["s-1"], seq=1)
            await gateway.command(order)
            disk.cut_after_writes = 1
            await gateway.command(pole.parties.command(Action.RECONNECT, pole.nonces["s-1"], seq=2))
            assert disk.dead
            pole.announced.clear()
            await gateway.command(order)
            assert pole.announced == []
            assert moves(pole) == 1
            disk.process_killed()


@pytest.mark.parametrize("when", list(At))
async def test_a_power_cut_in_the_middle_of_an_order_never_repeats_it(pole: Pole, when: At) -> None:
    meter = pole.meters["M-1"]
    async with pole.running() as gateway:
        await gateway.ready()
        meter.power_cut = when
        order = pole.parties.command(Action.DISCONNECT, pole.nonces["s-1"], seq=1)
        await gateway.command(order)
        with pytest.raises(BaseExceptionGroup, match="unhandled errors"):
            await gateway.task
    meter.power_cut = None
    moved = list(meter.moves)
    assert len(moved) == (when is At.AFTER)
    async with pole.running() as gateway:
        await gateway.settled()
        await gateway.connect()
        await gateway.command(order)
        assert meter.moves == moved
        (report,) = await gateway.reports()
        assert report.status is (ReportStatus.DONE if when is At.AFTER else ReportStatus.UNKNOWN)
        assert report.registers[0]["value"] == meter.position


async def test_the_floor_of_time_that_a_command_has_raised_outlives_a_restart(pole: Pole) -> None:
    async with pole.running() as gateway:
        await gateway.ready()
        pole.clock.advance(1_000)
        await gateway.command(
            pole.parties.command(Action.RECONNECT, pole.nonces["s-1"], seq=1, life_s=3_000)
        )
    signed_at = pole.clock.wall
    pole.clock.reboot(signed_at - timedelta(seconds=500))
    pole.clock.is_synchronised = True
    async with pole.running() as gateway:
        assert gateway.commanding.time_known.lo >= signed_at - timedelta(seconds=1)
        assert gateway.commanding.time_known.trusted_now is None, "a source that lies"
