"""Assets changed by a person: import, swap, protection, settings, each in one transaction with its audit entry.

The thin shell between who asks (command line, console) and the pure rules of `assets`.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from openami.headend.assets import Feeder, FeederAssets, Tariff
from openami.headend.assets.changes import AssetsRefused, Swap, described, protected, swapped
from openami.headend.assets.drafts import Draft, drafts_of
from openami.headend.assets.files import read_assets
from openami.headend.assets.importing import ImportPlan, feeders_of, plan
from openami.headend.assets.tables import RowFault, SheetRow
from openami.headend.audit import Entry
from openami.headend.store.assets import AssetsChange, AssetsKnown, AssetStore
from openami.profile.identifiers import is_id

# A sentence for the audit log.
REASON_CHARS_MAX = 500


@dataclass(frozen=True, slots=True)
class AssetFile:
    """A file of assets as it was handed over."""

    name: str
    data: bytes
    feeder_id: str | None = None
    """The feeder of rows that name none."""

    @property
    def digest(self) -> str:
        """Return what names its content in the audit log."""
        return hashlib.sha256(self.data).hexdigest()

    def drafts(self) -> tuple[list[Draft], list[RowFault]]:
        """Return what it says, and what of it is wrong. Raises FileRefused."""
        return read_assets(self.data, self.name, feeder_id=self.feeder_id)


@dataclass(frozen=True, slots=True)
class AssetRows:
    """Rows of the same tables, as a program tells them."""

    name: str
    rows: Sequence[SheetRow]
    digest: str
    feeder_id: str | None = None
    """The feeder of rows that name none."""

    def drafts(self) -> tuple[list[Draft], list[RowFault]]:
        """Return what they say, and what of it is wrong."""
        return drafts_of(self.rows, feeder_id=self.feeder_id)


async def import_assets(
    store: AssetStore,
    file: AssetFile | AssetRows,
    *,
    who: str,
    now: datetime,
    skip_bad_rows: bool = False,
    dry_run: bool = False,
    only: frozenset[str] | None = None,
) -> ImportPlan:
    """Let a file, or rows, in, or say which rows are wrong; a dry run says what it would do and writes nothing.

    ``only``: the feeders that whoever asks may change; None for all. Raises FileRefused when the file cannot be
    read at all, AssetsRefused when it is about other feeders, StoreError.
    """
    # Seconds, for the largest workbook: whoever else asks meanwhile is not to wait for it.
    drafts, faults = await asyncio.to_thread(file.drafts)
    feeder_ids = feeders_of(drafts)
    foreign = [] if only is None else sorted(set(feeder_ids) - only)
    if foreign:
        raise AssetsRefused(
            f"the file is about {', '.join(foreign)}",
            "take out the rows of feeders that are not yours",
        )
    if dry_run:
        feeders = {feeder_id: await store.assets(feeder_id) for feeder_id in feeder_ids}
        known = AssetsKnown(feeders, await store.tariffs())
        return await asyncio.to_thread(_plan, drafts, faults, known, skip_bad_rows)
    found: list[ImportPlan] = []

    def decide(known: AssetsKnown) -> AssetsChange:
        planned = _plan(drafts, faults, known, skip_bad_rows)
        found.append(planned)
        if not planned.changes:
            return AssetsChange()
        return AssetsChange(planned.after, planned.tariffs, (_imported(planned, file, who),))

    await store.change_assets(feeder_ids, decide, now)
    return found[-1]


def _plan(
    drafts: Sequence[Draft], faults: Sequence[RowFault], known: AssetsKnown, skip: bool
) -> ImportPlan:
    return plan(drafts, faults, known.feeders, known.tariffs, skip_bad_rows=skip)


def _imported(planned: ImportPlan, file: AssetFile | AssetRows, who: str) -> Entry:
    new = sum(change.is_new for change in planned.changes)
    skipped = len({(fault.sheet, fault.row) for fault in planned.faults})
    return Entry(
        who=who,
        what="assets imported",
        why=file.name,
        result=f"{new} new, {len(planned.changes) - new} changed, {skipped} rows left out",
        digest=file.digest,
    )


async def swap_meter(
    store: AssetStore, feeder_id: str, swap: Swap, *, who: str, now: datetime, why: str = ""
) -> FeederAssets:
    """Enter a swap. Raises AssetsRefused, StoreError."""
    entry = Entry(
        who=who,
        what=f"meter {swap.old} swapped for {swap.new} on {feeder_id}",
        why=why,
        result=f"closed at {swap.closing_kwh:g} kWh, opened at {swap.opening_kwh:g} kWh",
    )

    def decide(known: AssetsKnown) -> AssetsChange:
        return AssetsChange((swapped(known.feeders[feeder_id], swap, now=now),), (), (entry,))

    change = await store.change_assets([feeder_id], decide, now)
    return change.after[0]


async def protect_meter(
    store: AssetStore,
    feeder_id: str,
    serial: str,
    *,
    on: bool,
    who: str,
    now: datetime,
    why: str,
) -> FeederAssets:
    """Protect a meter, or no longer, with a reason. Raises AssetsRefused, StoreError."""
    entry = Entry(
        who=who,
        what=f"meter {serial} on {feeder_id} {'protected' if on else 'no longer protected'}",
        why=why,
    )

    def decide(known: AssetsKnown) -> AssetsChange:
        after = protected(known.feeders[feeder_id], serial, now=now, on=on, why=why)
        same = after == known.feeders[feeder_id]
        return AssetsChange() if same else AssetsChange((after,), (), (entry,))

    await store.change_assets([feeder_id], decide, now)
    return await store.assets(feeder_id)


async def describe_feeder(store: AssetStore, feeder: Feeder, *, who: str, now: datetime) -> None:
    """Set a feeder's name, zone, billing day and tariff. Raises AssetsRefused, StoreError."""
    entry = Entry(
        who=who,
        what=f"feeder {feeder.id} described",
        result=f"{feeder.name}, {feeder.time_zone}, billing day {feeder.billing_day}, "
        f"tariff {feeder.tariff_id or 'none'}",
    )

    def decide(known: AssetsKnown) -> AssetsChange:
        if feeder.tariff_id is not None and feeder.tariff_id not in {
            price.id for price in known.tariffs
        }:
            raise AssetsRefused(f"there is no tariff {feeder.tariff_id}", "give it a price first")
        return AssetsChange((described(known.feeders[feeder.id], feeder),), (), (entry,))

    await store.change_assets([feeder.id], decide, now)


async def price_tariff(store: AssetStore, price: Tariff, *, who: str, now: datetime) -> None:
    """Set a tariff's price from a moment on. Raises AssetsRefused, StoreError."""
    if not is_id(price.id):
        raise AssetsRefused(f"{price.id[:80]!r} is no id", "letters, digits, point, dash")
    entry = Entry(
        who=who,
        what=f"tariff {price.id} priced",
        result=f"{price.price_per_kwh} {price.currency} per kWh from {price.valid_from:%Y-%m-%d}",
    )

    def decide(known: AssetsKnown) -> AssetsChange:
        currencies = {each.currency for each in known.tariffs if each.id == price.id}
        if currencies - {price.currency}:
            raise AssetsRefused(
                f"tariff {price.id} is in {', '.join(sorted(currencies))}",
                "another currency is another tariff: give it another name",
            )
        return AssetsChange((), (price,), (entry,))

    await store.change_assets([], decide, now)


async def one_feeder(store: AssetStore, serial: str, *, now: datetime) -> str:
    """Return the feeder a serial hangs on. Raises AssetsRefused when none does, or more than one."""
    found = [
        feeder.id
        for feeder in await store.feeder_list()
        if (await store.assets(feeder.id)).meter(serial, now) is not None
    ]
    if not found:
        raise AssetsRefused(
            f"no feeder is known to have a meter {serial}",
            "import it first: `openami feeder import`",
        )
    if len(found) > 1:
        raise AssetsRefused(f"{serial} hangs on {', '.join(found)}", "say which with --feeder")
    return found[0]
