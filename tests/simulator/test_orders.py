"""Which house the demo cuts off, and the receipt it shows."""

import dataclasses
from datetime import UTC, datetime, timedelta

from openami.headend.commands import LedgerCommand
from openami.profile.command import CommandState
from openami.simulator.orders import RELAY_MODELS, house_to_cut_off, receipt
from openami.simulator.plan import TopUp, plan_village
from openami.sip.actions import Action

START = datetime(2026, 6, 22, 14, 30, tzinfo=UTC)
PLAN = plan_village(meters=20, seed=1, start=START)


def test_it_has_a_relay_and_nothing_else_happens_to_it() -> None:
    chosen = house_to_cut_off(PLAN)
    [customer] = [c for c in PLAN.customers if c.serial == chosen]
    assert customer.model in RELAY_MODELS
    # Were its credit to end in the story, another one would be taken.
    topped_up = tuple(
        dataclasses.replace(c, topups=(TopUp(0, 1),)) if c is customer else c
        for c in PLAN.customers
    )
    other = house_to_cut_off(dataclasses.replace(PLAN, customers=topped_up))
    assert other not in (None, chosen)


def test_a_village_may_have_none() -> None:
    """The only customer's meter is the one that dies."""
    assert house_to_cut_off(plan_village(meters=2, seed=1, start=START)) is None


def test_a_receipt_says_who_what_why_when_and_how_it_ended() -> None:
    asked = LedgerCommand(
        id="cmd-1",
        feeder_id="feeder-1",
        gateway_id="gateway-1",
        meter_serial="VM-0001",
        action=Action.DISCONNECT,
        requested_by="anita",
        reason="unpaid",
        requested_at=START,
        not_after=START + timedelta(minutes=1),
        due_at=START,
    )
    assert receipt(asked)[0] == "anita asks for relay.disconnect of VM-0001: unpaid"
    assert len(receipt(asked)) == 2
    done = dataclasses.replace(
        asked,
        state=CommandState.CONFIRMED,
        code="OK",
        session_id="sip-1",
        seq=7,
        digest="abc",
        sent_at=START,
        ended_at=START + timedelta(milliseconds=64),
        due_at=None,
    )
    assert list(receipt(done)[2:]) == [
        "  sent 14:30:00 in sip-1 as number 7, digest abc",
        "  confirmed (OK) after 64 ms, by the gateway's signed report",
    ]
