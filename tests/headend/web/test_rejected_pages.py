"""Rejected messages in the console: the fault is marked, the remedy named, and nothing is lost by waiting."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.headend.messages import TOPIC, payload, register
from tests.headend.web.pages import FEEDER, GATEWAY, METER, House, house, told

from openami.headend.accounts import Role
from openami.headend.store import RejectStatus
from openami.headend.web.console.rejected_view import by_rule, fold, marked
from openami.profile import utc_text


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as opened:
        yield opened


async def without_quality(home: House, serial: str = METER) -> None:
    """Let a message come whose one register says nothing of its quality."""
    home.place.clock.turn(seconds=1)
    body = payload(ts=utc_text(home.now()), meterSerial=serial, registers=[register(quality=None)])
    await home.tell(body, TOPIC.replace(METER, serial))


async def test_the_same_fault_is_one_line_with_its_rule_and_remedy(home: House) -> None:
    asha = await home.signed_in()
    assert "everything that came was stored" in told(await asha.get("/rejected"))
    for serial in ("DS1000-1", "DS1000-1", "DS1000-2"):
        await without_quality(home, serial)
    await home.tell(b"\xff not json", "somewhere/else")
    page = told(await asha.get("/rejected"))
    newest = (await home.store.rejects())[1]
    assert page.count(f'href="/rejected/{newest.id}"') == 1
    assert "2 meters" in page
    assert f"{newest.requirement} <b>3</b>" in page
    assert "unreadable topic" in page
    assert "unreadable topic" not in told(await asha.get(f"/rejected?rule={newest.requirement}"))

    one = told(await asha.get(f"/rejected/{newest.id}"))
    assert "What the vendor should change" in one
    assert "<mark>" in one
    assert newest.path in one
    raw = told(await asha.get(f"/rejected/{(await home.store.rejects())[0].id}"))
    assert "shown as it was sent" in raw
    assert "<mark>" not in raw


async def test_a_vendor_is_sent_everything_that_is_needed(home: House) -> None:
    await without_quality(home)
    await home.tell(b"\xff", "somewhere/else")
    asha = await home.signed_in()
    exported = json.loads((await asha.get("/rejected/export.json")).content)
    binary, text = exported["messages"]
    assert text["remedy"]
    assert text["topic"] == TOPIC
    assert json.loads(text["payload"])["meterSerial"] == METER
    assert binary["payloadBase64"] == "/w=="
    only = json.loads((await asha.get(f"/rejected/export.json?gateway={GATEWAY}")).content)
    assert len(only["messages"]) == 1


async def test_a_message_is_replayed_once_its_cause_is_mended(home: House) -> None:
    """It came from a clock an hour ahead, and is right an hour later."""
    ahead = home.now() + timedelta(hours=1)
    await home.measure("DS1000-7", at=ahead)
    [kept] = await home.store.rejects(status=RejectStatus.OPEN)
    asha = await home.signed_in()
    page = told(await asha.post(f"/rejected/{kept.id}/replay"), 409)
    assert "Still rejected." in page
    home.place.clock.turn(hours=1, minutes=5)
    assert (await asha.post(f"/rejected/{kept.id}/replay")).status_code == 303
    assert "Replayed" in told(await asha.get(f"/rejected/{kept.id}"))
    [reading, *_] = await home.store.latest(FEEDER, "DS1000-7")
    assert reading.ts == ahead
    assert reading.received_at == kept.received_at, "it keeps the time it was received"
    said = await home.place.audited()
    assert said[-1] == f"asha: rejected message {kept.id} replayed"


async def test_a_message_is_dropped_by_an_operator_alone(home: House) -> None:
    await without_quality(home)
    [kept] = await home.store.rejects()
    vera = await home.signed_in("vera", Role.VIEWER)
    assert "Replay" not in told(await vera.get(f"/rejected/{kept.id}")).replace("Replayed", "")
    for act in ("drop", "replay"):
        assert (await vera.post(f"/rejected/{kept.id}/{act}")).status_code == 403
    asha = await home.signed_in()
    assert (await asha.post(f"/rejected/{kept.id}/drop")).status_code == 303
    assert (await home.store.reject(kept.id)).status is RejectStatus.DROPPED
    assert (await asha.get("/rejected/99999999999999999999")).status_code == 404


async def test_a_message_of_another_feeder_is_not_there(home: House) -> None:
    await without_quality(home)
    await home.tell(b"{}", "somewhere/else")
    ben = await home.signed_in(feeders=frozenset({"elsewhere"}))
    assert "everything that came was stored" in told(await ben.get("/rejected"))
    for each in await home.store.rejects():
        assert (await ben.get(f"/rejected/{each.id}")).status_code == 404
    fay = await home.signed_in("fay", feeders=frozenset({FEEDER}))
    assert len(by_rule(await home.store.rejects())) == 2
    assert "unreadable topic" not in told(await fay.get("/rejected"))


# --- the rules -----------------------------------------------------------------------------------

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(JSON, st.data())
def test_a_message_is_shown_whole_and_exactly_its_fault_marked(
    document: Any, data: st.DataObject
) -> None:
    path, value = "", document
    while isinstance(value, dict | list) and value and data.draw(st.booleans()):
        at = data.draw(
            st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value)))
        )
        path += "/" + str(at).replace("~", "~0").replace("/", "~1")
        value = value[at]
    shown = marked(json.dumps(document).encode(), path)
    assert json.loads("".join(line.text for line in shown.lines)) == document
    text = "".join(line.text for line in shown.lines if line.marked).strip().removesuffix(",")
    name = f"{json.dumps(path_end(path), ensure_ascii=False)}: "
    assert json.loads(text.removeprefix(name)) == value


def path_end(path: str) -> str:
    """Return the last name in a JSON pointer."""
    return path.rpartition("/")[2].replace("~1", "/").replace("~0", "~")


@given(st.binary(max_size=60), st.text(max_size=20))
def test_whatever_was_sent_can_be_shown(sent: bytes, path: str) -> None:
    assert marked(sent, path).lines


async def test_folding_counts_every_message(home: House) -> None:
    for _ in range(3):
        await without_quality(home)
    rejects = await home.store.rejects()
    assert sum(each.messages for each in fold(rejects)) == sum(each.count for each in rejects) == 3
