"""Rows into drafts: what each row says of which thing, and what of it cannot be read. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from openami.headend.assets import MeterRole
from openami.headend.assets import tables as cells
from openami.headend.assets.tables import REMOVE, CellFault, CellValue, RowFault, SheetRow

Read = Callable[[CellValue], Any]


class Thing(StrEnum):
    """What a draft is about, in the order they are looked at: later ones refer to earlier ones."""

    TARIFF = "tariff"
    FEEDER = "feeder"
    POLE = "pole"
    CUSTOMER = "customer"
    METER = "meter"


@dataclass(frozen=True, slots=True)
class Draft:
    """What a row says of one thing: only what it says. A member that is to be taken away is None."""

    thing: Thing
    feeder_id: str
    """Empty for a tariff: it belongs to no feeder."""
    id: str
    says: Mapping[str, Any]
    sheet: str
    row: int
    columns: Mapping[str, str]
    """In which column each member was said."""

    def fault(self, member: str, what: str, remedy: str) -> RowFault:
        """Return what is wrong with a member, at its place."""
        return RowFault(self.sheet, self.row, self.columns.get(member, ""), what, remedy)


# Of each table: the column, the member it tells, and how it is read.
_Members = tuple[tuple[str, str, Read], ...]
_SETTINGS: Final[_Members] = (
    ("time_zone", "time_zone", cells.zone),
    ("billing_day", "billing_day", cells.billing_day),
    ("tariff", "tariff_id", cells.identifier),
)
_POSITION: Final[_Members] = (
    ("longitude", "longitude", cells.longitude),
    ("latitude", "latitude", cells.latitude),
)
_FEEDER: Final[_Members] = (("name", "name", cells.name), *_SETTINGS)
_TARIFF: Final[_Members] = (
    ("price_per_kwh", "price_per_kwh", cells.price),
    ("currency", "currency", cells.currency),
    ("from", "valid_from", cells.moment),
)
_POLE: Final[_Members] = (
    ("name", "name", cells.name),
    ("order", "number", cells.pole_number),
    ("parent", "parent", cells.identifier),
    *_POSITION,
    ("phases", "phases", cells.phases),
)
_CUSTOMER: Final[_Members] = (("name", "name", cells.name),)
_METER: Final[_Members] = (
    ("role", "role", cells.role),
    ("pole", "pole_id", cells.identifier),
    ("phase", "phase", cells.phases),
    ("customer", "customer_id", cells.identifier),
    ("protected", "protected", cells.yes_or_no),
    ("from", "valid_from", cells.moment),
    ("to", "valid_to", cells.moment),
    ("opening_kwh", "opening_kwh", cells.register),
    ("closing_kwh", "closing_kwh", cells.register),
)
_FEEDER_ALONG: Final[_Members] = (("feeder_name", "name", cells.name), *_SETTINGS)
_POLE_ALONG: Final[_Members] = (
    ("pole_name", "name", cells.name),
    ("pole_order", "number", cells.pole_number),
    ("pole_parent", "parent", cells.identifier),
    *_POSITION,
)
_CUSTOMER_ALONG: Final[_Members] = (("customer_name", "name", cells.name),)

# What may be taken away with a dash; the rest can only be said otherwise.
_MAY_GO: Final = frozenset(
    {"tariff_id", "parent", "longitude", "latitude", "pole_id", "customer_id"}
    | {"valid_to", "opening_kwh", "closing_kwh"}
)


def drafts_of(
    rows: Sequence[SheetRow], *, feeder_id: str | None = None
) -> tuple[list[Draft], list[RowFault]]:
    """Return what rows say, and what of them is wrong; a row with a fault says nothing.

    ``feeder_id`` is the feeder of rows that name none; without it, the only one the file names.
    """
    usual = feeder_id or _only_feeder(rows)
    drafts: list[Draft] = []
    faults: list[RowFault] = []
    for row in rows:
        reading = _Reading(row, usual)
        said = list(reading.drafts())
        if reading.faults:
            faults += reading.faults
        else:
            drafts += said
    return drafts, faults


def _only_feeder(rows: Iterable[SheetRow]) -> str | None:
    named = {str(row.cells["feeder"]).strip() for row in rows if "feeder" in row.cells}
    return named.pop() if len(named) == 1 else None


class _Reading:
    """One row as it is read; the faults gather."""

    def __init__(self, row: SheetRow, usual_feeder: str | None) -> None:
        self._row = row
        self._usual_feeder = usual_feeder
        self.faults: list[RowFault] = []

    def drafts(self) -> Iterable[Draft]:
        """Yield what the row says; a pole or customer before the meter that names it."""
        match self._row.table:
            case "tariffs":
                for needed in ("price_per_kwh", "currency"):
                    self._needed(needed)
                yield self._draft(Thing.TARIFF, "", "tariff", _TARIFF)
            case "feeders":
                feeder = self._needed("feeder")
                yield self._draft(Thing.FEEDER, feeder, "feeder", _FEEDER)
                yield from self._meter_of("head_meter", feeder, {"role": MeterRole.HEAD})
            case "poles":
                feeder = self._feeder()
                yield self._draft(Thing.POLE, feeder, "pole", _POLE)
                told = {"role": MeterRole.POLE, "pole_id": self._row.cells.get("pole")}
                yield from self._meter_of("sub_meter", feeder, told)
            case "customers":
                self._needed("name")
                yield self._draft(Thing.CUSTOMER, self._feeder(), "customer", _CUSTOMER)
            case _:
                feeder = self._feeder()
                if self._tells(_FEEDER_ALONG):
                    yield self._draft(Thing.FEEDER, feeder, "feeder", _FEEDER_ALONG)
                if self._tells(_POLE_ALONG):
                    yield self._draft(Thing.POLE, feeder, "pole", _POLE_ALONG)
                if self._tells(_CUSTOMER_ALONG):
                    yield self._draft(Thing.CUSTOMER, feeder, "customer", _CUSTOMER_ALONG)
                yield self._draft(Thing.METER, feeder, "serial", _METER)

    def _draft(self, thing: Thing, feeder_id: str, column: str, members: _Members) -> Draft:
        named = feeder_id if column == "feeder" else self._needed(column)
        says: dict[str, Any] = {}
        for heading, member, read in members:
            if heading not in self._row.cells:
                continue
            if self._row.cells[heading] in REMOVE and member in _MAY_GO:
                says[member] = None
            else:
                says[member] = self._read(heading, read)
        told_in = {member: heading for heading, member, _ in members}
        return Draft(
            thing,
            feeder_id,
            named,
            says,
            self._row.sheet,
            self._row.number,
            {**told_in, "id": column},
        )

    def _meter_of(self, column: str, feeder_id: str, says: dict[str, Any]) -> Iterable[Draft]:
        if column in self._row.cells:
            serial = self._read(column, cells.identifier) or ""
            row = self._row
            yield Draft(Thing.METER, feeder_id, serial, says, row.sheet, row.number, {"id": column})

    def _tells(self, members: _Members) -> bool:
        return any(heading in self._row.cells for heading, _, _ in members)

    def _feeder(self) -> str:
        if "feeder" in self._row.cells or self._usual_feeder is None:
            return self._needed("feeder")
        return self._usual_feeder

    def _needed(self, column: str) -> str:
        if column not in self._row.cells:
            meaning = cells.columns_of(self._row.table)[column].meaning
            self._fault(column, "it is empty", meaning)
            return ""
        if column in {"price_per_kwh", "currency", "name"}:
            return ""  # read with the members
        return self._read(column, cells.identifier) or ""

    def _read(self, column: str, read: Read) -> Any:
        try:
            return read(self._row.cells[column])
        except CellFault as fault:
            self._fault(column, fault.what, fault.remedy)
            return None

    def _fault(self, column: str, what: str, remedy: str) -> None:
        found = RowFault(self._row.sheet, self._row.number, column, what, remedy)
        if found not in self.faults:
            self.faults.append(found)
