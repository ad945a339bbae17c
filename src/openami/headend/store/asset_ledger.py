"""What the AssetStore does; the engine carries the steps out."""

# Statements are put together from this program's own words; every value is bound.
# ruff: noqa: S608

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final, TypeVar

from openami.headend.assets import Customer, Feeder, FeederAssets, Meter, MeterRole, Pole, Tariff
from openami.headend.store import ROWS_MAX
from openami.headend.store.assets import (
    PLACEMENTS_MAX,
    TARIFF_ROWS_MAX,
    AssetsChange,
    AssetsKnown,
    DecideAssets,
)
from openami.headend.store.chain import append, in_turn
from openami.headend.store.engine import Engine
from openami.headend.store.ledger_rows import TIME, Form, Rows
from openami.headend.store.plan import Cell
from openami.headend.store.steps import Row, Steps, ask, do

T = TypeVar("T")

_FEEDERS: Final = Rows("asset_feeder", Feeder, {})
_POLES: Final = Rows("asset_pole", Pole, {})
_CUSTOMERS: Final = Rows("asset_customer", Customer, {})
_METERS: Final = Rows(
    "asset_meter",
    Meter,
    {
        "role": Form(str, MeterRole),
        "protected": Form(int, bool),
        **dict.fromkeys(("valid_from", "valid_to"), TIME),
    },
)
_TARIFFS: Final = Rows(
    "asset_tariff", Tariff, {"price_per_kwh": Form(str, Decimal), "valid_from": TIME}
)

_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "asset_feeder": ("id",),
    "asset_pole": ("feeder_id", "id"),
    "asset_meter": ("feeder_id", "serial", "valid_from"),
    "asset_customer": ("feeder_id", "id"),
    "asset_tariff": ("id", "valid_from"),
}

_ALL_FEEDERS: Final = (
    _FEEDERS.select("").strip() + " UNION ALL "
    "SELECT DISTINCT feeder_id, feeder_id, 'UTC', 1, CAST(NULL AS text) FROM gateway "
    "WHERE feeder_id NOT IN (SELECT id FROM asset_feeder) ORDER BY 1 LIMIT ?1"
)
# What is read of one feeder, each with the most there can be of it.
_PARTS: Final = (
    (_FEEDERS.select("WHERE id = ?1 LIMIT ?2"), 1),
    (_POLES.select("WHERE feeder_id = ?1 ORDER BY number, id LIMIT ?2"), ROWS_MAX),
    (
        _METERS.select("WHERE feeder_id = ?1 ORDER BY serial, valid_from LIMIT ?2"),
        PLACEMENTS_MAX,
    ),
    (_CUSTOMERS.select("WHERE feeder_id = ?1 ORDER BY id LIMIT ?2"), ROWS_MAX),
    (
        _TARIFFS.select(
            "WHERE id = (SELECT tariff_id FROM asset_feeder WHERE id = ?1) "
            "ORDER BY valid_from LIMIT ?2"
        ),
        TARIFF_ROWS_MAX,
    ),
)
_TARIFF_LIST: Final = "ORDER BY id, valid_from LIMIT ?1"


def change_assets(
    feeder_ids: Sequence[str], decide: DecideAssets, now: datetime
) -> Steps[AssetsChange]:
    """Let a decision change feeders."""
    yield from in_turn()
    before = {}
    for feeder_id in dict.fromkeys(feeder_ids):
        parts = []
        for select, at_most in _PARTS:
            parts.append((yield from ask(select, feeder_id, at_most)))
        before[feeder_id] = _assets_of(feeder_id, parts)
    prices = yield from ask(_TARIFFS.select(_TARIFF_LIST), TARIFF_ROWS_MAX)
    change = decide(AssetsKnown(before, [_TARIFFS.read(row) for row in prices]))
    for after in change.after:
        yield from _write_feeder(before[after.feeder.id], after)
    yield from _put(_TARIFFS, change.tariffs)
    yield from append(change.entries, now)
    return change


def _write_feeder(before: FeederAssets, after: FeederAssets) -> Steps[None]:
    # Also where nothing differs from what an undescribed feeder is told as: from now on it is described.
    yield from _put(_FEEDERS, (after.feeder,))
    yield from _difference(_POLES, before.poles, after.poles)
    yield from _difference(_METERS, before.meters, after.meters)
    yield from _difference(_CUSTOMERS, before.customers, after.customers)


def _difference(rows: Rows[T], before: Iterable[T], after: Iterable[T]) -> Steps[None]:
    """Delete what is no more, write what is new or other than it was."""
    key = _KEYS[rows.table]
    were = {_key(rows, each): each for each in before}
    are = {_key(rows, each): each for each in after}
    where = " AND ".join(f"{name} = ?{n}" for n, name in enumerate(key, 1))
    for gone in were.keys() - are.keys():
        yield from do(f"DELETE FROM {rows.table} WHERE {where}", *gone)
    yield from _put(rows, [each for name, each in are.items() if were.get(name) != each])


def _put(rows: Rows[T], things: Sequence[T]) -> Steps[None]:
    settings = ", ".join(
        f"{name} = excluded.{name}" for name in rows.columns if name not in _KEYS[rows.table]
    )
    put = rows.insert(f"ON CONFLICT ({', '.join(_KEYS[rows.table])}) DO UPDATE SET {settings}")
    for each in things:
        yield from do(put, *rows.cells(each))


def _key(rows: Rows[T], thing: T) -> tuple[Cell, ...]:
    cells = dict(zip(rows.columns, rows.cells(thing), strict=True))
    return tuple(cells[name] for name in _KEYS[rows.table])


def _assets_of(feeder_id: str, parts: Sequence[Sequence[Row]]) -> FeederAssets:
    feeders, poles, meters, customers, tariffs = parts
    return FeederAssets(
        feeder=_FEEDERS.read(feeders[0]) if feeders else Feeder(id=feeder_id, name=feeder_id),
        poles=tuple(_POLES.read(row) for row in poles),
        meters=tuple(_METERS.read(row) for row in meters),
        customers=tuple(_CUSTOMERS.read(row) for row in customers),
        tariffs=tuple(_TARIFFS.read(row) for row in tariffs),
    )


class AssetLedger(Engine):
    """The AssetStore on top of an engine's questions and transactions."""

    async def feeder_list(self) -> Sequence[Feeder]:
        return [_FEEDERS.read(row) for row in await self._rows(_ALL_FEEDERS, ROWS_MAX)]

    async def assets(self, feeder_id: str) -> FeederAssets:
        parts = [await self._rows(select, feeder_id, at_most) for select, at_most in _PARTS]
        return _assets_of(feeder_id, parts)

    async def tariffs(self) -> Sequence[Tariff]:
        rows = await self._rows(_TARIFFS.select(_TARIFF_LIST), TARIFF_ROWS_MAX)
        return [_TARIFFS.read(row) for row in rows]

    async def change_assets(
        self, feeder_ids: Sequence[str], decide: DecideAssets, now: datetime
    ) -> AssetsChange:
        return await self._write(lambda: change_assets(feeder_ids, decide, now))
