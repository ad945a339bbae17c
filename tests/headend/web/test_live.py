"""The stream: rendered once for all, from where a page stands, without a queue for anybody, honest when it ends."""

import asyncio
import re
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.headend.web.console_bench import ASHA, Bench
from tests.headend.web.village import FEEDER, NOW, houses, reading

from openami.headend.accounts import Principal
from openami.headend.broker_link import BrokerLink
from openami.headend.store.commands import HeadEndStore
from openami.headend.web.console import live
from openami.headend.web.console.live import EventStream, Hub

HOUSES = houses()


@pytest.fixture
def bench(village_store: HeadEndStore) -> Bench:
    return Bench(village_store)


@pytest.fixture
def hub(bench: Bench) -> Hub:
    hub = Hub(bench.site, look_every_s=0.0, balance_waited_s=10)
    bench.app.state.hub = hub
    return hub


async def hears(bench: Bench, number: int) -> str:
    """Let a message of a house come, with another credit than before."""
    bench.clock.turn(seconds=10)
    house = HOUSES[number]
    house.kwh, house.credit = house.kwh + 50, house.credit + 1
    await bench.store.commit([reading(house, bench.clock.now(), lag_s=0)])
    return house.serial


class Viewer:
    """One page's end of a stream."""

    def __init__(self, hub: Hub, position: str, language: str = "en") -> None:
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.may_look = True
        self._events = hub.stream(
            FEEDER, language, hub.position(position), self.gone, may_look=self._may_look
        )

    async def _may_look(self) -> bool:
        return self.may_look

    async def hears(self) -> str:
        """Return the next event that is not a beat."""
        async for event in self._events:
            if not event.startswith(b"event: beat"):
                return event.decode()
        raise AssertionError("the stream has ended")

    async def leaves(self) -> None:
        self.gone.set_result(None)
        assert [event async for event in self._events if b"beat" not in event] == []


def meters_of(event: str) -> list[str]:
    return re.findall(r'<hx-partial id="m-([^"]+)"', event)


async def test_what_changes_is_rendered_once_and_sent_to_all(bench: Bench, hub: Hub) -> None:
    _, position = await hub.looked(FEEDER)
    viewers = [Viewer(hub, position) for _ in range(3)]
    serial = await hears(bench, 5)
    told = [await viewer.hears() for viewer in viewers]
    assert meters_of(told[0]) == [serial]
    assert told[0] == told[1] == told[2]
    assert '<hx-partial id="figures">' in told[0]
    for viewer in viewers:
        await viewer.leaves()


async def test_a_page_is_told_what_came_after_it_was_made(bench: Bench, hub: Hub) -> None:
    """Also what came before it joined, and after it was away for a while: by Last-Event-ID."""
    _, position = await hub.looked(FEEDER)
    first = await hears(bench, 5)
    viewer = Viewer(hub, position)
    event = await viewer.hears()
    assert meters_of(event) == [first]
    await viewer.leaves()
    last_id = re.match(r"id: (\S+)\n", event)
    assert last_id
    second = await hears(bench, 6)
    await hub.looked(FEEDER)
    third = await hears(bench, 7)
    back = Viewer(hub, last_id[1])
    assert [meters_of(await back.hears()), meters_of(await back.hears())] == [[second], [third]]


@pytest.mark.parametrize("position", ["", "nonsense", "00000000-1"])
async def test_who_is_from_elsewhere_is_told_everything(hub: Hub, position: str) -> None:
    """A page of another run of this program, or of nobody knows when."""
    event = await Viewer(hub, position).hears()
    assert len(meters_of(event)) == len(HOUSES) + 1
    for section in ("figures", "line", "chart"):
        assert f'<hx-partial id="{section}">' in event


async def test_who_was_away_too_long_is_told_everything_and_nothing_is_kept_for_them(
    bench: Bench, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "CHANGES_KEPT_MAX", 2)
    _, position = await hub.looked(FEEDER)
    for number in range(4):
        await hears(bench, number)
        await hub.looked(FEEDER)
    assert len(meters_of(await Viewer(hub, position).hears())) == len(HOUSES) + 1


async def test_a_meter_falls_silent_without_any_message(bench: Bench, hub: Hub) -> None:
    _, position = await hub.looked(FEEDER)
    viewer = Viewer(hub, position)
    bench.clock.turn(minutes=40)
    event = await viewer.hears()
    assert "Gateway silent" in event
    assert '<hx-partial id="line">' in event


async def test_a_stream_ends_so_that_its_page_is_admitted_anew(bench: Bench, hub: Hub) -> None:
    _, position = await hub.looked(FEEDER)
    viewer = Viewer(hub, position)
    await hears(bench, 5)
    await viewer.hears()
    bench.clock.turn(seconds=live.STREAM_LASTS_S + 1)
    with pytest.raises(AssertionError, match="has ended"):
        await viewer.hears()


async def test_who_may_not_look_any_more_is_let_go_within_a_stated_time(
    bench: Bench, hub: Hub
) -> None:
    _, position = await hub.looked(FEEDER)
    viewer, other = Viewer(hub, position), Viewer(hub, position)
    await hears(bench, 5)
    await viewer.hears()
    await other.hears()
    viewer.may_look = False
    bench.clock.turn(seconds=live.ADMITTED_AGAIN_S + 1)
    await hears(bench, 6)
    with pytest.raises(AssertionError, match="has ended"):
        await viewer.hears()
    await other.hears()


@pytest.mark.parametrize(
    "became",
    [None, replace(ASHA, feeders=frozenset({"another-feeder"}))],
    ids=["disabled", "of another feeder"],
)
async def test_a_stream_asks_the_door_again(bench: Bench, became: Principal | None) -> None:
    """The answer is complete, so the stream has ended: by itself, long before STREAM_LASTS_S."""
    bench.app.state.hub = Hub(bench.site, look_every_s=0.01, balance_waited_s=10)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        streaming = group.create_task(bench.get(f"/live/feeders/{FEEDER}"))
        while not bench.app.state.hub.viewers:
            await asyncio.sleep(0.01)
        bench.who = became
        bench.clock.turn(seconds=live.ADMITTED_AGAIN_S)
    assert streaming.result().status_code == 200
    assert bench.app.state.hub.viewers == 0


async def told(response: EventStream, *, taking: Callable[[], Awaitable[None]]) -> list[Any]:
    """Run a response against a client that stays until the answer ends."""
    sent: list[Any] = []
    stays: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def receive() -> dict[str, str]:
        await stays
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if message["type"] == "http.response.body":
            await taking()

    await response({"type": "http"}, receive, send)
    stays.cancel()
    return sent


async def three(gone: "asyncio.Future[None]") -> AsyncIterator[bytes]:
    for _ in range(3):
        yield b"event: beat\ndata:\n\n"


async def test_each_event_can_be_read_as_soon_as_it_comes_and_costs_few_bytes(hub: Hub) -> None:
    async def takes() -> None: ...

    sent = await told(EventStream(hub, three, compressed=True), taking=takes)
    assert dict(sent[0]["headers"])[b"content-encoding"] == b"gzip"
    unpacked = zlib.decompressobj(31)
    for message in sent[1:4]:
        assert unpacked.decompress(message["body"]) == b"event: beat\ndata:\n\n"
    assert len(sent[3]["body"]) < 16
    assert hub.viewers == 0


async def test_who_takes_nothing_is_let_go(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SEND_S_MAX", 0.01)

    async def never() -> None:
        await asyncio.get_running_loop().create_future()

    sent = await told(EventStream(hub, three, compressed=False), taking=never)
    assert len(sent) == 2
    assert hub.viewers == 0


async def test_strangers_and_those_for_whom_there_is_no_room_are_told_so(
    bench: Bench, hub: Hub
) -> None:
    path = f"/live/feeders/{FEEDER}"
    hub.viewers = live.VIEWERS_MAX
    assert (await bench.get(path)).status_code == 503
    hub.viewers = 0
    assert (await bench.get(path, cookie="data_saver=on")).status_code == 204
    bench.who = None
    assert (await bench.get(path)).status_code == 401, "a redirect would be followed twice a second"


def test_the_village_has_a_day() -> None:
    assert HOUSES[5].last == NOW


async def test_a_page_that_is_open_hears_that_the_broker_is_lost_and_found(
    bench: Bench, hub: Hub
) -> None:
    _, position = await hub.looked(FEEDER)
    viewer = Viewer(hub, position)
    bench.clock.turn(minutes=1)
    bench.link = BrokerLink(heard=False, since=bench.clock.now())
    bench.clock.turn(minutes=61)
    event = await viewer.hears()
    assert "This head-end has lost its broker." in event
    assert "Gateway silent" not in event, (
        "an hour without a word, and none of it is a meter's fault"
    )
    bench.link = BrokerLink(heard=True, since=bench.clock.now())
    bench.clock.turn(minutes=2)
    assert '<hx-partial id="broker"></hx-partial>' in (await viewer.hears()).replace("\ndata: ", "")
