"""A market participant signs what its own book says, and nothing else."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.headend.village_keys import (
    FEEDER,
    GATEWAY,
    METER,
    ROOTS,
    START,
    keyring,
    signer,
    write_key,
    write_roots,
)

from openami.clock import SystemClock
from openami.headend.keyrings import in_force
from openami.profile import CommandTopic, FeederId, GatewayId, MeterSerial
from openami.sip.actions import Action
from openami.sip.acts import ActType, verified_acts
from openami.sip.canonical import read_document
from openami.sip.compose import command_members, sign
from openami.sip.market import NotAgreed, Settlement, settlement_act

AGREED = Settlement(
    trade_id="t-17",
    feeder_id=FEEDER,
    meter_serial=METER,
    energy_wh=12_400,
    amount_minor=9_300,
    currency="INR",
    seller="house-7",
    buyer="house-12",
)
TERMS: dict[str, Any] = {
    "tradeId": "t-17", "energyWh": 12_400, "amountMinor": 9_300, "currency": "INR",
    "seller": "house-7", "buyer": "house-12",
}  # fmt: skip
_found = in_force([keyring()], roots=ROOTS, feeder_id=FEEDER, gateway_id=GATEWAY)
assert _found is not None
KEYRING = _found.keyring


def shown(
    *,
    terms: dict[str, Any] | None = None,
    action: Action = Action.SETTLE,
    by: tuple[str, ...] = ("hes-1",),
    at: Any = START,
) -> bytes:
    topic = CommandTopic(FeederId(FEEDER), GatewayId(GATEWAY), MeterSerial(METER))
    members = command_members(
        topic,
        action,
        session_id="sip-1",
        seq=1,
        nonce="A" * 22,
        ts=at,
        not_after=at + timedelta(minutes=5),
        args=TERMS if terms is None else terms,
    )
    for name in by:
        members = sign(members, signer(name), ActType.COMMAND, iat=int(at.timestamp()))
    return json.dumps(members).encode()


def act_over(payload: bytes, agreed: Settlement = AGREED, **options: Any) -> str:
    given = {"keyring": KEYRING, "signer": signer("market-coop"), "now": START, **options}
    return settlement_act(payload, agreed, **given)


def test_what_was_agreed_is_signed_with_one_act_that_verifies() -> None:
    payload = shown()
    act = act_over(payload)
    members = json.loads(payload)
    whole = read_document(
        json.dumps({**members, "signature": f"{members['signature']} {act}"}).encode()
    )
    kids = [each.kid for each in verified_acts(whole, KEYRING.keys)]
    assert kids == [signer("hes-1").kid, signer("market-coop").kid]


@pytest.mark.parametrize(
    ("term", "value"),
    [
        ("tradeId", "t-18"),
        ("energyWh", 12_401),
        ("amountMinor", 9_299),
        ("currency", "USD"),
        ("seller", "house-8"),
        ("buyer", "house-7"),
    ],
)
def test_any_other_term_is_not_signed(term: str, value: object) -> None:
    with pytest.raises(NotAgreed, match=term):
        act_over(shown(terms={**TERMS, term: value}))


@pytest.mark.parametrize(
    ("agreed", "named"),
    [
        (replace(AGREED, feeder_id="feeder-2"), "feederId"),
        (replace(AGREED, meter_serial="M-2"), "meterSerial"),
    ],
)
def test_the_same_terms_elsewhere_are_not_signed(agreed: Settlement, named: str) -> None:
    with pytest.raises(NotAgreed, match=named):
        act_over(shown(), agreed)


@pytest.mark.parametrize(
    ("payload", "options", "why"),
    [
        (b"{", {}, "no command"),
        (b"{}", {}, "no command"),
        (shown(terms={}, action=Action.DISCONNECT), {}, "not a settlement"),
        (shown(by=("anita",)), {}, "no head-end"),
        (shown(by=()), {}, "not signed"),
        (shown(by=("stranger",)), {}, "not signed"),
        (shown().replace(b'"seq": 1', b'"seq": 2'), {}, "not signed"),
        (shown(by=("hes-1", "market-coop")), {}, "already"),
        (shown(), {"signer": signer("anita")}, "no right"),
        (shown(), {"signer": signer("stranger")}, "no right"),
        (shown(), {"now": START + timedelta(minutes=6, seconds=1)}, "time has passed"),
    ],
)
def test_what_is_not_a_head_ends_fresh_settlement_is_not_signed(
    payload: bytes, options: dict[str, Any], why: str
) -> None:
    with pytest.raises(NotAgreed, match=why):
        act_over(payload, **options)


def test_until_its_end_and_the_clocks_slack_it_is_signed() -> None:
    assert act_over(shown(), now=START + timedelta(minutes=6))


def test_the_example_signs_what_its_book_has(tmp_path: Path) -> None:
    now = SystemClock().now()
    keys = tmp_path / "keys"
    files = {"settlement.json": shown(at=now), "keyring.json": keyring(now=now)}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    roots = write_roots(keys / "roots.json")
    key = write_key(keys / "market.pem", "market-coop")

    def run() -> subprocess.CompletedProcess[str]:
        example = Path(__file__).parents[2] / "examples" / "market_participant.py"
        arguments = [tmp_path / "settlement.json", tmp_path / "keyring.json", roots, key]
        return subprocess.run(
            [sys.executable, example, *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            env=dict(os.environ),
        )

    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("..") == 1
    (tmp_path / "settlement.json").write_bytes(shown(at=now, terms={**TERMS, "amountMinor": 1}))
    refused = run()
    assert refused.returncode == 1
    assert "amountMinor" in refused.stderr
