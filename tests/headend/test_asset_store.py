"""What a store keeps of assets, asked of both engines."""

from dataclasses import replace
from decimal import Decimal

import pytest
from tests.headend.decisions import accepted
from tests.headend.test_assets import DAY, NOW, SWAP, VILLAGE
from tests.headend.test_command_store import a_command

from openami.headend.assets import Feeder, FeederAssets, Tariff
from openami.headend.assets.changes import AssetsRefused, protected, swapped
from openami.headend.audit import Entry
from openami.headend.commands import Requested, RequestFault, RequestRefused
from openami.headend.store.assets import AssetsChange, AssetsKnown
from openami.headend.store.commands import HeadEndStore
from openami.sip.actions import Action

ENTRY = Entry(who="asha", what="assets imported")


async def put(store: HeadEndStore, *after: FeederAssets, entry: Entry = ENTRY) -> None:
    def decide(known: AssetsKnown) -> AssetsChange:
        assert set(known.feeders) == {each.feeder.id for each in after}
        return AssetsChange(after, VILLAGE.tariffs, (entry,))

    await store.change_assets([each.feeder.id for each in after], decide, NOW)


async def test_what_is_put_is_told_again(store: HeadEndStore) -> None:
    assert await store.assets("f") == FeederAssets(feeder=Feeder(id="f", name="f"))
    await put(store, VILLAGE)
    assert await store.assets("f") == VILLAGE
    assert list(await store.tariffs()) == list(VILLAGE.tariffs)
    [link] = await store.audit_links()
    assert link.entry == ENTRY


async def test_only_the_difference_changes(store: HeadEndStore) -> None:
    await put(store, VILLAGE)
    elsewhere = replace(VILLAGE, feeder=replace(VILLAGE.feeder, id="g"), poles=(), meters=())
    await put(store, replace(elsewhere, customers=()))
    after = swapped(VILLAGE, SWAP, now=NOW)
    await put(store, after)
    assert await store.assets("f") == after
    await put(store, replace(after, customers=(), meters=after.meters[:1]))
    assert (await store.assets("f")).meters == after.meters[:1]
    assert (await store.assets("g")).feeder.id == "g"


async def test_a_price_is_exact_and_told_from_when(store: HeadEndStore) -> None:
    dearer = Tariff(id="home", price_per_kwh=Decimal("12.3450"), currency="INR", valid_from=NOW)
    other = replace(dearer, id="mill")
    await put(store, VILLAGE)
    await store.change_assets([], lambda _: AssetsChange((), (dearer, other)), NOW)
    assert (await store.assets("f")).tariffs == (*VILLAGE.tariffs, dearer)
    assert str((await store.assets("f")).tariffs[-1].price_per_kwh) == "12.3450"
    assert [each.id for each in await store.tariffs()] == ["home", "home", "mill"]


async def test_a_decision_that_refuses_leaves_no_trace(store: HeadEndStore) -> None:
    await put(store, VILLAGE)

    def decide(known: AssetsKnown) -> AssetsChange:
        swapped(known.feeders["f"], replace(SWAP, old="nobody"), now=NOW)
        raise AssertionError("refused before")

    with pytest.raises(AssetsRefused):
        await store.change_assets(["f"], decide, NOW)
    assert await store.assets("f") == VILLAGE
    assert len(await store.audit_links()) == 1


async def test_feeders_are_listed_whether_described_or_heard_of(store: HeadEndStore) -> None:
    await put(store, VILLAGE)
    await store.commit([accepted(), accepted(gateway="gateway-2"), accepted(feeder="f")])
    listed = await store.feeder_list()
    assert [(each.id, each.name) for each in listed] == [
        ("f", "North Paravur"),
        ("feeder-1", "feeder-1"),
    ]


async def test_a_protected_meter_is_cut_off_only_for_an_engineers_reason(
    store: HeadEndStore,
) -> None:
    feeder_id, serial = a_command().feeder_id, a_command().meter_serial
    there = replace(
        VILLAGE,
        feeder=replace(VILLAGE.feeder, id=feeder_id),
        poles=(),
        customers=(),
        meters=(replace(VILLAGE.meters[1], feeder_id=feeder_id, serial=serial),),
    )
    await put(store, protected(there, serial, now=NOW, on=True, why=""))
    for reason, engineer in (("no credit", False), (" ", True)):
        refused = await store.request_command(a_command(reason=reason), NOW, engineer=engineer)
        assert isinstance(refused, RequestRefused)
        assert refused.fault is RequestFault.PROTECTED
    safe = a_command("cmd-2", action=Action.RECONNECT, reason="")
    assert isinstance(await store.request_command(safe, NOW), Requested)
    asked = await store.request_command(a_command(reason="rewiring"), NOW, engineer=True)
    assert isinstance(asked, Requested)
    assert [link.entry.result for link in await store.audit_links()][1:3] == [
        "refused: PROTECTED"
    ] * 2


async def test_a_meter_that_was_protected_before_it_was_taken_down_is_not(
    store: HeadEndStore,
) -> None:
    feeder_id, serial = a_command().feeder_id, a_command().meter_serial
    gone = replace(
        VILLAGE.meters[1],
        feeder_id=feeder_id,
        serial=serial,
        protected=True,
        valid_from=NOW - DAY,
        valid_to=NOW,
    )
    there = FeederAssets(feeder=Feeder(id=feeder_id, name="x"), meters=(gone,))
    await put(store, there)
    assert isinstance(await store.request_command(a_command(), NOW), Requested)
