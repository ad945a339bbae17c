"""A day's certificate from the completeness page and through the API: the one `openami verify` takes."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from tests.headend.new_store import new_store
from tests.headend.test_day_certificates import (
    BEGIN,
    DAY,
    METERS,
    Messages,
    receive,
    told,
)
from tests.headend.village_keys import FEEDER, GATEWAY, ROOTS, keyring, signer
from tests.headend.web.browser import Hand
from tests.headend.web.console_bench import ASHA, Bench

from openami.headend.audit import Entry
from openami.headend.day_certificates import verified
from openami.headend.store.commands import StoredKeyring
from openami.headend.store.open import open_store
from openami.sip.certificate import verify_certificate

__all__ = ["told"]
PAGE = f"/completeness?feeder={FEEDER}&gateway={GATEWAY}&day={DAY}"
FILE = f"/completeness/certificate?feeder={FEEDER}&gateway={GATEWAY}&day={DAY}"


@pytest.fixture
async def bench(tmp_path: Path, told: Messages) -> AsyncIterator[Bench]:
    async with open_store(new_store(tmp_path / "headend.db")) as store:
        stored = StoredKeyring(FEEDER, GATEWAY, 1, keyring(now=BEGIN), BEGIN, "anita")
        await store.add_keyring(stored, Entry(who="anita", what="keyring added"))
        await receive(store, told)
        made = Bench(store, clock=Hand(BEGIN + timedelta(days=2)))

        async def certify(feeder_id: str, gateway_id: str, day: date) -> bytes:
            return await verified(
                store,
                feeder_id=feeder_id,
                gateway_id=gateway_id,
                day=day,
                signer=signer("hes-1"),
                roots=ROOTS,
                now=made.clock.now(),
            )

        made.app.state.site = replace(made.site, certificate=certify)
        yield made


async def test_the_page_hands_out_what_anybody_can_verify(bench: Bench) -> None:
    page = await bench.get(PAGE)
    assert "Download the certificate" in page.text
    answer = await bench.get(FILE)
    assert answer.headers["content-disposition"] == (f'attachment; filename="{GATEWAY}-{DAY}.json"')
    found = verify_certificate(answer.content, ROOTS)
    assert found.complete
    assert (found.day, found.meters) == (DAY, METERS)
    again = await bench.get(f"/api/v1/certificates/{FEEDER}/{GATEWAY}/{DAY}")
    assert verify_certificate(again.content, ROOTS).complete


async def test_what_cannot_be_certified_says_why(bench: Bench) -> None:
    another = DAY - timedelta(days=1)
    for path in (
        FILE.replace(str(DAY), str(another)),
        f"/api/v1/certificates/{FEEDER}/{GATEWAY}/{another}",
        f"/api/v1/certificates/{FEEDER}/nobody/{DAY}",
    ):
        assert (await bench.get(path, accept="application/json")).status_code == 404
    bench.app.state.site = bench.site
    assert "openami feeder certificate" in (await bench.get(PAGE)).text, "who has the key makes it"
    refused = await bench.get(f"/api/v1/certificates/{FEEDER}/{GATEWAY}/{DAY}")
    assert (refused.status_code, refused.json()["code"]) == (409, "no-key")


async def test_of_a_feeder_out_of_scope_there_is_none(bench: Bench) -> None:
    bench.who = replace(ASHA, feeders=frozenset({"elsewhere"}))
    assert (await bench.get(FILE)).status_code == 404
    assert (await bench.get(f"/api/v1/certificates/{FEEDER}/{GATEWAY}/{DAY}")).status_code == 404
