"""Drafts beside what is known: what changes, or which rows are wrong. Pure.

All or nothing, unless rows with faults may be left out; then what refers to a row that was left out is left out,
too. The same file again changes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from enum import Enum
from itertools import pairwise
from typing import Any, Final, cast

from openami.headend.assets import (
    SINCE_EVER,
    Customer,
    Feeder,
    FeederAssets,
    Meter,
    MeterRole,
    Pole,
    Tariff,
)
from openami.headend.assets.changes import in_order
from openami.headend.assets.drafts import Draft, Thing
from openami.headend.assets.tables import RowFault

Asset = Feeder | Pole | Customer | Meter | Tariff
_Key = tuple[object, ...]

_ORDER: Final = tuple(Thing)
_KINDS: Final[Mapping[Thing, type[Asset]]] = {
    Thing.TARIFF: Tariff,
    Thing.FEEDER: Feeder,
    Thing.POLE: Pole,
    Thing.CUSTOMER: Customer,
    Thing.METER: Meter,
}
_TIMES: Final = frozenset({"valid_from", "valid_to"})


@dataclass(frozen=True, slots=True)
class Changed:
    """One thing that is new, or other than it was."""

    thing: Thing
    feeder_id: str
    id: str
    is_new: bool
    details: tuple[str, ...]
    """Each member that changes: ``name: Pole 3 → Pole 3a``; of a new thing, what is said of it."""


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What an import does. With faults and no leave to skip rows, it does nothing."""

    after: tuple[FeederAssets, ...]
    tariffs: tuple[Tariff, ...]
    changes: tuple[Changed, ...]
    faults: tuple[RowFault, ...]
    rows: int
    """Rows that were read and are not left out."""


def feeders_of(drafts: Iterable[Draft]) -> list[str]:
    """Return which feeders drafts are about."""
    return list(dict.fromkeys(draft.feeder_id for draft in drafts if draft.feeder_id))


def plan(
    drafts: Sequence[Draft],
    faults: Sequence[RowFault],
    feeders: Mapping[str, FeederAssets],
    tariffs: Sequence[Tariff],
    *,
    skip_bad_rows: bool = False,
) -> ImportPlan:
    """Return what the drafts change. ``faults`` are those of rows that could not be read at all."""
    found = list(faults)
    bad = {(fault.sheet, fault.row) for fault in faults}
    while True:
        good = [draft for draft in drafts if (draft.sheet, draft.row) not in bad]
        book = _Book(feeders, tariffs)
        book.write(good)
        if not book.faults:
            break
        found += book.faults
        bad |= {(fault.sheet, fault.row) for fault in book.faults}
    found.sort(key=lambda fault: (fault.sheet, fault.row))
    rows = len({(draft.sheet, draft.row) for draft in good})
    if found and not skip_bad_rows:
        return ImportPlan((), (), (), tuple(found), rows)
    return ImportPlan(
        tuple(book.after()), tuple(book.prices()), tuple(book.changes()), tuple(found), rows
    )


class _Book:
    """Everything by its key, as it was and as the drafts make it."""

    def __init__(self, feeders: Mapping[str, FeederAssets], tariffs: Sequence[Tariff]) -> None:
        self.faults: list[RowFault] = []
        self._feeders = feeders
        self._before: dict[_Key, Asset] = {}
        for assets in feeders.values():
            things: list[Asset] = [assets.feeder, *assets.poles, *assets.customers]
            things += assets.meters
            self._before.update((_key(thing), thing) for thing in things)
        self._before.update((_key(tariff), tariff) for tariff in tariffs)
        self._now = dict(self._before)
        self._said: dict[_Key, list[Draft]] = {}
        # By serial, so that a village of hundreds is not searched for each of its meters.
        self._placed: dict[tuple[str, str], set[_Key]] = {}
        for thing in self._now.values():
            if isinstance(thing, Meter):
                self._placed.setdefault((thing.feeder_id, thing.serial), set()).add(_key(thing))

    def write(self, drafts: Sequence[Draft]) -> None:
        for thing in _ORDER:
            for draft in drafts:
                if draft.thing is thing:
                    self._write(draft)
        self._check_references()
        self._check_placements()

    # -- writing --

    def _write(self, draft: Draft) -> None:
        says = self._localised(draft)
        key = self._key_of(draft, says)
        contradiction = self._contradiction(key, draft, says)
        if contradiction is not None:
            self.faults.append(contradiction)
            return
        self._said.setdefault(key, []).append(replace(draft, says=says))
        old = self._now.get(key)
        new = _new(draft, says) if old is None else replace(cast(Any, old), **says)
        self._now.pop(key, None)
        self._now[_key(new)] = new
        if _key(new) != key:
            self._said[_key(new)] = self._said.pop(key)
        if isinstance(new, Meter):
            placed = self._placed.setdefault((new.feeder_id, new.serial), set())
            placed.discard(key)
            placed.add(_key(new))

    def _localised(self, draft: Draft) -> dict[str, Any]:
        """Return what a draft says, with moments that name no zone read in the feeder's own."""
        feeder = self._now.get(("feeder", draft.feeder_id))
        zone = feeder.zone if isinstance(feeder, Feeder) else UTC
        return {
            member: value.replace(tzinfo=zone).astimezone(UTC)
            if isinstance(value, datetime) and value.tzinfo is None
            else value
            for member, value in draft.says.items()
        }

    def _key_of(self, draft: Draft, says: Mapping[str, Any]) -> _Key:
        match draft.thing:
            case Thing.FEEDER:
                return ("feeder", draft.feeder_id)
            case Thing.TARIFF:
                return ("tariff", draft.id, says.get("valid_from", SINCE_EVER))
            case Thing.METER:
                return self._placement(draft, says)
            case thing:
                return (str(thing), draft.feeder_id, draft.id)

    def _placement(self, draft: Draft, says: Mapping[str, Any]) -> _Key:
        """Return which placement of a serial a row is about: the one that began then, or the one in force.

        Where nobody knew since when a meter hangs at a place and the row says so, it is that placement.
        """
        begun = says.get("valid_from")
        placed = self._placed.get((draft.feeder_id, draft.id), set())
        placements = [meter for key in placed if isinstance(meter := self._now[key], Meter)]
        open_ones = [meter for meter in placements if meter.valid_to is None]
        for meter in placements if begun is not None else open_ones:
            if begun is None or meter.valid_from == begun:
                return _key(meter)
        for meter in open_ones:
            if meter.valid_from == SINCE_EVER and all(
                says.get(member) in (None, getattr(meter, member))
                for member in ("role", "pole_id", "customer_id")
            ):
                return _key(meter)
        return ("meter", draft.feeder_id, draft.id, begun or SINCE_EVER)

    def _contradiction(self, key: _Key, draft: Draft, says: Mapping[str, Any]) -> RowFault | None:
        for earlier in self._said.get(key, ()):
            for member, value in says.items():
                if member in earlier.says and earlier.says[member] != value:
                    return draft.fault(
                        member,
                        f"{draft.thing} {draft.id}: {_shown(value)}, and row {earlier.row} of "
                        f"{earlier.sheet} says {_shown(earlier.says[member])}",
                        "make both rows say the same, or remove one",
                    )
        return None

    # -- checking --

    def _check_references(self) -> None:
        prices = {thing.id for thing in self._now.values() if isinstance(thing, Tariff)}
        for key, drafts in self._said.items():
            thing, draft = self._now[key], drafts[-1]
            match thing:
                case Feeder(tariff_id=str(tariff)) if tariff not in prices:
                    self._unknown(draft, "tariff_id", "tariff", tariff)
                case Pole(feeder_id=feeder, parent=str(parent)):
                    if ("pole", feeder, parent) not in self._now:
                        self._unknown(draft, "parent", "pole", parent)
                    elif self._goes_in_circles(thing):
                        remedy = "name the pole before it, towards the transformer"
                        what = f"the line from {thing.id} never reaches its beginning"
                        self.faults.append(draft.fault("parent", what, remedy))
                case Meter():
                    self._check_meter(thing, draft)
                case _:
                    pass

    def _check_meter(self, meter: Meter, draft: Draft) -> None:
        if meter.pole_id is not None and ("pole", meter.feeder_id, meter.pole_id) not in self._now:
            self._unknown(draft, "pole_id", "pole", meter.pole_id)
        customer = ("customer", meter.feeder_id, meter.customer_id)
        if meter.customer_id is not None and customer not in self._now:
            self._unknown(draft, "customer_id", "customer", meter.customer_id)
        if meter.role is MeterRole.CUSTOMER and meter.customer_id is None:
            what = f"{meter.serial} supplies nobody"
            self.faults.append(
                draft.fault("customer_id", what, "name its customer, or say role head or pole")
            )
        if meter.role is MeterRole.POLE and meter.pole_id is None:
            what = f"{meter.serial} measures a pole, and none is named"
            self.faults.append(draft.fault("pole_id", what, "name the pole"))
        if meter.valid_to is not None and meter.valid_to <= meter.valid_from:
            what = f"{meter.serial} was taken down before it was put up"
            self.faults.append(draft.fault("valid_to", what, "check from and to"))
        registers = (meter.opening_kwh, meter.closing_kwh)
        if None not in registers and cast(Any, registers[1]) < cast(Any, registers[0]):
            what = f"it closed at {registers[1]:g} kWh and had begun with {registers[0]:g}"
            self.faults.append(draft.fault("closing_kwh", what, "are the two exchanged?"))

    def _unknown(self, draft: Draft, member: str, what: str, name: str) -> None:
        remedy = f"add a row for it, or correct the name: {what} ids are compared letter by letter"
        self.faults.append(draft.fault(member, f"there is no {what} {name}", remedy))

    def _goes_in_circles(self, pole: Pole) -> bool:
        seen = {pole.id}
        while pole.parent is not None:
            if pole.parent in seen:
                return True
            seen.add(pole.parent)
            before = self._now.get(("pole", pole.feeder_id, pole.parent))
            if not isinstance(before, Pole):
                return False
            pole = before
        return False

    def _check_placements(self) -> None:
        """A serial is in one place at a time."""
        for keys in self._placed.values():
            meters = [meter for key in keys if isinstance(meter := self._now[key], Meter)]
            meters.sort(key=lambda each: each.valid_from)
            for earlier, later in pairwise(meters):
                if earlier.valid_to is None or earlier.valid_to > later.valid_from:
                    said = self._said.get(_key(later)) or self._said.get(_key(earlier))
                    assert said is not None, "what was known already is sound"
                    self.faults.append(
                        said[-1].fault(
                            "id",
                            f"{later.serial} hangs elsewhere since {_shown(earlier.valid_from)}",
                            "end that placement first: a row with its from, to and closing_kwh",
                        )
                    )

    # -- what came of it --

    def after(self) -> Iterable[FeederAssets]:
        told = {key[1] for key in self._changed() if key[0] != "tariff"}
        for feeder_id, known in self._feeders.items():
            if feeder_id not in told:
                continue
            feeder = self._now[("feeder", feeder_id)]
            assert isinstance(feeder, Feeder)
            mine = [t for t in self._now.values() if getattr(t, "feeder_id", None) == feeder_id]
            poles = [thing for thing in mine if isinstance(thing, Pole)]
            customers = [thing for thing in mine if isinstance(thing, Customer)]
            yield replace(
                known,
                feeder=feeder,
                poles=tuple(sorted(poles, key=lambda pole: (pole.number, pole.id))),
                customers=tuple(sorted(customers, key=lambda each: each.id)),
                meters=in_order([thing for thing in mine if isinstance(thing, Meter)]),
            )

    def prices(self) -> Iterable[Tariff]:
        for key in self._changed():
            thing = self._now[key]
            if isinstance(thing, Tariff):
                yield thing

    def changes(self) -> Iterable[Changed]:
        for key in self._changed():
            thing, draft = self._now[key], self._said[key][-1]
            old = self._before.get(key) or self._before.get(_ever(key))
            yield Changed(
                draft.thing, draft.feeder_id, draft.id, old is None, _difference(old, thing)
            )

    def _changed(self) -> list[_Key]:
        return [key for key in self._said if self._before.get(key) != self._now[key]]


def _key(thing: Asset) -> _Key:
    match thing:
        case Feeder():
            return ("feeder", thing.id)
        case Tariff():
            return ("tariff", thing.id, thing.valid_from)
        case Meter():
            return ("meter", thing.feeder_id, thing.serial, thing.valid_from)
        case Pole():
            return ("pole", thing.feeder_id, thing.id)
        case Customer():
            return ("customer", thing.feeder_id, thing.id)


def _ever(key: _Key) -> _Key:
    """Return the key of the same placement while nobody knew since when."""
    return (*key[:-1], SINCE_EVER) if key[0] == "meter" else key


def _new(draft: Draft, says: Mapping[str, Any]) -> Asset:
    """Return a thing of which only this is known."""
    told: dict[str, Any] = {"feeder_id": draft.feeder_id, "id": draft.id, "name": draft.id, **says}
    if draft.thing is Thing.METER:
        told["serial"] = draft.id
    elif draft.thing is Thing.FEEDER:
        told["id"], told["name"] = draft.feeder_id, says.get("name", draft.feeder_id)
    kind = _KINDS[draft.thing]
    members = {field.name for field in fields(kind)}
    known = {name: value for name, value in told.items() if name in members}
    return cast(Asset, cast(Any, kind)(**known))


def _difference(old: Asset | None, new: Asset) -> tuple[str, ...]:
    hidden = {"id", "feeder_id", "serial"}
    details = []
    for field in fields(new):
        value = getattr(new, field.name)
        if field.name in hidden:
            continue
        if old is None:
            if value not in (None, "", SINCE_EVER, False):
                details.append(f"{field.name}: {_shown(value)}")
        elif getattr(old, field.name) != value:
            details.append(f"{field.name}: {_shown(getattr(old, field.name))} → {_shown(value)}")
    return tuple(details)


def _shown(value: object) -> str:
    match value:
        case None:
            return "–"
        case datetime():
            return "ever" if value == SINCE_EVER else f"{value:%Y-%m-%d %H:%M} UTC"
        case bool():
            return "yes" if value else "no"
        case Enum():
            return str(value)
        case float():
            return f"{value:g}"
        case _:
            return str(value)
