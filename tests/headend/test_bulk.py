"""Bulk disconnections: two people, protected meters left out, a pace that is kept, and every house for itself."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest
from tests.headend.decisions import FEEDER, GATEWAY, NOON, RELAY, accepted, register
from tests.headend.test_command_store import a_command

from openami.headend.assets import Feeder, FeederAssets, Meter, MeterRole, Pole
from openami.headend.audit import Entry
from openami.headend.bulk import (
    BULK_METERS_MAX,
    PROPOSAL_HOURS,
    Bulk,
    BulkMeter,
    BulkRefused,
    BulkState,
    approved,
    bulk_room,
    finished,
    lapsed,
    proposed,
    withdrawn,
)
from openami.headend.bulk_preview import LeftOut, preview
from openami.headend.bulk_work import BulkWork, feeder_facts, stop
from openami.headend.commands import BUDGET_WINDOW, Change, LedgerCommand, ended
from openami.headend.store.assets import AssetsChange
from openami.headend.store.commands import Around, HeadEndStore, StoredKeyring
from openami.profile.command import CommandEvent
from openami.profile.life import Party
from openami.sip.actions import Action

A_MINUTE, AN_HOUR = timedelta(minutes=1), timedelta(hours=1)
BULK = Bulk(
    id="bulk-1",
    feeder_id=FEEDER,
    reason="unpaid",
    requested_by="erik",
    first_person="erik",
    requested_at=NOON,
)
MADE = Entry(who="erik", what="proposed")


@dataclass
class Clock:
    at: datetime = NOON
    ids: Iterator[int] = field(default_factory=lambda: iter(range(1, 10_000)))

    def now(self) -> datetime:
        return self.at

    def boottime(self) -> float:
        return self.at.timestamp()

    def synchronised(self) -> bool:
        return True

    def new_id(self, prefix: str) -> str:
        return f"{prefix}-{next(self.ids):04d}"


def houses(count: int, *, gateway: str = GATEWAY) -> list[BulkMeter]:
    return [
        BulkMeter(bulk_id=BULK.id, position=n, meter_serial=f"M-{n:03d}", gateway_id=gateway)
        for n in range(count)
    ]


async def running(store: HeadEndStore, count: int) -> Bulk:
    """Keep a bulk disconnection that somebody else has approved."""
    await store.add_bulk(BULK, houses(count), MADE)
    after = await store.change_bulk(BULK.id, lambda b: approved(b, who="vera", now=NOON), NOON)
    assert after is not None
    return after


def work(store: HeadEndStore, clock: Clock, per_hour: int = 50) -> BulkWork:
    return BulkWork(store, clock, new_id=clock.new_id, disconnects_per_hour_max=per_hour)


async def ends(
    store: HeadEndStore, command_id: str, event: CommandEvent, now: datetime, by: Party
) -> None:
    def decide(found: LedgerCommand, _: Around) -> Change:
        return ended(found, event, by=by, code="METER_ERROR", now=now)

    await store.change_command(command_id, decide, now)


async def states(store: HeadEndStore) -> list[str]:
    return [
        "-" if command is None else command.state.name.lower()
        for _, command in await store.bulk_meters(BULK.id)
    ]


# --- two people ----------------------------------------------------------------------------------


def test_who_proposes_does_not_approve() -> None:
    with pytest.raises(BulkRefused) as refused:
        approved(BULK, who="erik", now=NOON)
    assert refused.value.code == "same-person"
    by_token = replace(BULK, requested_by="token billing", first_person="vera")
    with pytest.raises(BulkRefused) as refused:
        approved(by_token, who="vera", now=NOON)
    assert refused.value.code == "same-person", "who made the token is the first person"
    change = approved(BULK, who="vera", now=NOON)
    assert (change.bulk.state, change.bulk.approved_by) == (BulkState.RUNNING, "vera")
    with pytest.raises(BulkRefused, match="already"):
        approved(change.bulk, who="omar", now=NOON)


def test_a_proposal_lapses_and_is_not_approved_after_that() -> None:
    end = NOON + timedelta(hours=PROPOSAL_HOURS)
    assert lapsed(BULK, end - A_MINUTE) is None
    change = lapsed(BULK, end)
    assert change is not None
    assert change.bulk.state is BulkState.LAPSED
    for late in (BULK, change.bulk):
        with pytest.raises(BulkRefused) as refused:
            approved(late, who="vera", now=end)
        assert refused.value.code == "ended-already"
    assert approved(BULK, who="vera", now=end - A_MINUTE).bulk.state is BulkState.RUNNING


def test_what_has_ended_is_neither_stopped_nor_finished_again() -> None:
    gone = withdrawn(BULK, who="omar", now=NOON).bulk
    assert (gone.state, gone.withdrawn_by) == (BulkState.WITHDRAWN, "omar")
    with pytest.raises(BulkRefused):
        withdrawn(gone, who="omar", now=NOON)
    assert finished(gone, NOON) is None
    assert finished(BULK, NOON) is None, "nobody has approved it"


def test_a_reason_is_given_and_somebody_is_left() -> None:
    with pytest.raises(BulkRefused) as refused:
        proposed(
            (),
            bulk_id="b",
            feeder_id=FEEDER,
            reason="unpaid",
            who="erik",
            first_person="erik",
            now=NOON,
        )
    assert refused.value.code == "nobody"
    for reason in ("", "  ", "x" * 201):
        with pytest.raises(BulkRefused) as refused:
            proposed(
                (),
                bulk_id="b",
                feeder_id=FEEDER,
                reason=reason,
                who="erik",
                first_person="erik",
                now=NOON,
            )
        assert refused.value.code == "reason"


# --- who is in it --------------------------------------------------------------------------------


async def test_a_preview_leaves_out_who_may_not_or_need_not_be_cut_off(store: HeadEndStore) -> None:
    def placed(serial: str, **members: object) -> Meter:
        return Meter(feeder_id=FEEDER, serial=serial, pole_id="p", **members)  # type: ignore[arg-type]

    assets = FeederAssets(
        feeder=Feeder(id=FEEDER, name="North"),
        poles=(Pole(feeder_id=FEEDER, id="p", name="1"),),
        meters=(
            placed("CLINIC", protected=True),
            placed("HEAD", role=MeterRole.HEAD),
            placed("HOUSE"),
        ),
    )
    await store.change_assets([FEEDER], lambda _: AssetsChange(after=[assets]), NOON)
    off = register("disconnected", RELAY, unit="enum")
    await store.commit(
        [
            *(accepted(meter=serial) for serial in ("CLINIC", "HEAD", "HOUSE", "KEPT", "ASKED")),
            accepted(meter=GATEWAY),
            accepted(off, meter="DARK"),
            accepted(meter="STRANGER", feeder="feeder-2"),
        ]
    )
    document = b'{"feederScope":{"protected":["KEPT"],"limits":{"disconnectsPerHour":5}}}'
    kept = StoredKeyring(FEEDER, GATEWAY, 1, document, NOON, "root")
    await store.add_keyring(kept, Entry(who="root", what="keyring added"))
    asked = a_command(feeder_id=FEEDER, gateway_id=GATEWAY, meter_serial="ASKED")
    await store.request_command(replace(asked, action=Action.DISCONNECT), NOON)
    facts = await feeder_facts(store, FEEDER, Clock())
    named = ["HOUSE", "CLINIC", "HEAD", "KEPT", "ASKED", "DARK", GATEWAY, "STRANGER", "HOUSE"]
    found = preview(named, facts, NOON)
    assert [each.meter.meter_serial for each in found.chosen] == ["HOUSE"]
    assert dict(found.left_out) == {
        "CLINIC": LeftOut.PROTECTED,
        "HEAD": LeftOut.NO_CUSTOMER,
        "KEPT": LeftOut.SECOND_SIGNATURE,
        "ASKED": LeftOut.ALREADY_ASKED,
        "DARK": LeftOut.ALREADY_OFF,
        GATEWAY: LeftOut.NO_CUSTOMER,
        "STRANGER": LeftOut.UNKNOWN,
    }


def test_the_largest_feeder_is_the_most() -> None:
    assert BULK_METERS_MAX == 500


# --- how fast ------------------------------------------------------------------------------------


def test_a_fifth_of_the_hour_is_left_for_what_cannot_wait() -> None:
    assert [bulk_room(n, 0) for n in (0, 1, 2, 5, 50)] == [0, 1, 1, 4, 40]
    assert bulk_room(50, 39) == 1
    assert bulk_room(50, 40) == bulk_room(50, 90) == 0


async def test_never_more_than_the_hour_allows_and_the_rest_follows(store: HeadEndStore) -> None:
    clock = Clock()
    await running(store, 9)
    at_work = work(store, clock, per_hour=5)
    for _ in range(3):
        await at_work.look()
        clock.at += A_MINUTE
    assert await states(store) == ["issued"] * 4 + ["-"] * 5
    # Signed, they count for the hour after that; not signed, for as long as they are open.
    for n, (_, command) in enumerate(await store.bulk_meters(BULK.id)):
        if command is not None:
            await signs(store, command, n, clock.at)
            await ends(store, command.id, CommandEvent.REFUSE, clock.at, Party.GATEWAY)
    await at_work.look()
    assert await states(store) == ["refused"] * 4 + ["-"] * 5
    clock.at += BUDGET_WINDOW
    await at_work.look()
    assert await states(store) == ["refused"] * 4 + ["-"] * 5, "the hour is not over yet"
    clock.at += timedelta(milliseconds=1)
    await at_work.look()
    assert await states(store) == ["refused"] * 4 + ["issued"] * 4 + ["-"]


async def signs(store: HeadEndStore, command: LedgerCommand, seq: int, now: datetime) -> None:
    def decide(found: LedgerCommand, _: Around) -> Change:
        return Change(
            replace(
                found,
                session_id="sip-1",
                seq=seq,
                digest=f"digest-{found.id}",
                document=b"{}",
                signed_at=now,
                sent_at=now,
                signings=1,
            )
        )

    await store.change_command(command.id, decide, now)


async def test_single_orders_and_a_bulk_disconnection_share_the_hour(store: HeadEndStore) -> None:
    for n in range(3):
        single = a_command(id=f"cmd-single-{n}", meter_serial=f"S-{n}", idempotency_key=None)
        await store.request_command(replace(single, action=Action.DISCONNECT), NOON)
    await running(store, 4)
    await work(store, Clock(), per_hour=5).look()
    assert await states(store) == ["issued", "-", "-", "-"]


async def test_a_gateway_is_not_asked_for_more_than_its_keyring_lets_it(
    store: HeadEndStore,
) -> None:
    document = b'{"feederScope":{"limits":{"disconnectsPerHour":2}}}'
    kept = StoredKeyring(FEEDER, GATEWAY, 1, document, NOON, "root")
    await store.add_keyring(kept, Entry(who="root", what="keyring added"))
    elsewhere = [
        BulkMeter(bulk_id=BULK.id, position=n, meter_serial=f"O-{n}", gateway_id="other")
        for n in (4, 5)
    ]
    await store.add_bulk(BULK, [*houses(4), *elsewhere], MADE)
    await store.change_bulk(BULK.id, lambda b: approved(b, who="vera", now=NOON), NOON)
    at_work = work(store, Clock())
    await at_work.look()
    await at_work.look()
    assert await states(store) == ["issued", "issued", "-", "-", "issued", "issued"]


# --- every house for itself ----------------------------------------------------------------------


async def test_each_meter_has_its_own_end_and_one_that_fails_stops_no_other(
    store: HeadEndStore,
) -> None:
    clock = Clock()
    await running(store, 3)
    at_work = work(store, clock)
    await at_work.look()
    first, second, third = [c for _, c in await store.bulk_meters(BULK.id) if c is not None]
    assert (first.requested_by, first.reason) == ("erik", "unpaid (bulk-1)")
    await ends(store, first.id, CommandEvent.REFUSE, clock.at, Party.GATEWAY)
    await ends(store, second.id, CommandEvent.NOT_AFTER_PASSED, clock.at, Party.TIME)
    await at_work.look()
    found = await store.bulk(BULK.id)
    assert found is not None
    assert (found.state, await states(store)) == (
        BulkState.RUNNING,
        ["refused", "expired", "issued"],
    )
    await ends(store, third.id, CommandEvent.REFUSE, clock.at, Party.GATEWAY)
    await at_work.look()
    found = await store.bulk(BULK.id)
    assert found is not None
    assert (found.state, found.ended_at) == (BulkState.DONE, clock.at)
    said = [link.entry.what for link in await store.audit_links() if "bulk" in link.entry.what]
    assert said == ["bulk disconnection bulk-1 approved", "bulk disconnection bulk-1 done"]


async def test_who_became_protected_meanwhile_is_not_cut_off(store: HeadEndStore) -> None:
    await running(store, 2)
    clinic = Meter(feeder_id=FEEDER, serial="M-000", protected=True)
    assets = FeederAssets(feeder=Feeder(id=FEEDER, name="North"), meters=(clinic,))
    await store.change_assets([FEEDER], lambda _: AssetsChange(after=[assets]), NOON)
    await work(store, Clock()).look()
    [(clinics, none), (other, command)] = await store.bulk_meters(BULK.id)
    assert (clinics.refused_as, none) == ("PROTECTED", None)
    assert command is not None
    assert command.meter_serial == other.meter_serial


async def test_nothing_happens_before_it_is_approved_or_after_it_was_stopped(
    store: HeadEndStore,
) -> None:
    clock = Clock()
    at_work = work(store, clock, per_hour=2)
    await store.add_bulk(BULK, houses(3), MADE)
    await at_work.look()
    assert await states(store) == ["-"] * 3
    await store.change_bulk(BULK.id, lambda b: approved(b, who="vera", now=NOON), NOON)
    await at_work.look()
    assert await states(store) == ["issued", "-", "-"]
    after = await stop(store, BULK.id, who="omar", clock=clock)
    assert after is not None
    assert after.state is BulkState.WITHDRAWN
    clock.at += 2 * AN_HOUR
    await at_work.look()
    assert await states(store) == ["refused", "-", "-"], "what was not sent is called back"
    [(meter, _), *_] = await store.bulk_meters(BULK.id)
    new = a_command(id="cmd-late", idempotency_key=None)
    assert not await store.ask_for_meter(meter, new, clock.at, per_hour=50)


async def test_a_proposal_is_kept_once_under_its_key_and_lapses_by_itself(
    store: HeadEndStore,
) -> None:
    keyed = replace(BULK, idempotency_key="k")
    assert await store.add_bulk(keyed, houses(1), MADE) == keyed
    again = replace(keyed, id="bulk-2")
    assert (await store.add_bulk(again, houses(1), MADE)).id == BULK.id
    assert [each.id for each in await store.bulks()] == [BULK.id]
    assert await store.bulks(frozenset()) == []
    assert [each.id for each in await store.bulks({FEEDER, "x"}, only_open=True)] == [BULK.id]
    assert await store.bulks({"feeder-2"}) == []
    clock = Clock(NOON + timedelta(hours=PROPOSAL_HOURS))
    await work(store, clock).look()
    found = await store.bulk(BULK.id)
    assert found is not None
    assert found.state is BulkState.LAPSED
    assert await store.bulks(only_open=True) == []


async def test_two_at_work_ask_for_each_house_once(store: HeadEndStore) -> None:
    """As after a crash between two looks, or with a second head-end: the store says what is asked for."""
    await running(store, 3)
    [(meter, _), *_] = await store.bulk_meters(BULK.id)
    for n in range(2):
        new = a_command(id=f"cmd-{n}", idempotency_key=None, meter_serial=meter.meter_serial)
        taken = await store.ask_for_meter(meter, new, NOON, per_hour=50)
        assert taken is (n == 0)
    assert len(await store.commands()) == 1
