"""The tables of an asset sheet: their columns, and what a cell may say. Pure.

The same columns serve a workbook's sheets, one flat CSV file and the properties of a GeoJSON feature. An empty cell
leaves what is known as it is, a dash takes it away.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Final

from openami.headend.assets import BILLING_DAY_MAX, MeterRole
from openami.headend.assets.changes import NAME_CHARS_MAX, REGISTER_KWH_MAX, is_zone
from openami.profile.identifiers import is_id

CellValue = str | int | float | bool | datetime | date | None
"""What a file holds in a cell; a spreadsheet knows numbers and dates."""

# Poles on a line; a village has fewer than a hundred.
POLE_NUMBER_MAX: Final = 100_000
# Nothing the tables ask for is longer; a cell with a novel in it is a mistake, or an attack.
CELL_CHARS_MAX: Final = 500
# A wrong price is more likely than a dearer kilowatt-hour.
PRICE_MAX: Final = Decimal(10) ** 9
# Digits after the point: finer than any coin.
PRICE_PLACES_MAX: Final = 6

REMOVE: Final = frozenset({"-", "–"})
"""What a cell says to take away what is known."""

_YES: Final = frozenset({"yes", "y", "true", "1", "x", "oui", "ndiyo"})
_NO: Final = frozenset({"no", "n", "false", "0", "non", "hapana"})
_PHASE: Final = {"1": "A", "2": "B", "3": "C", "L1": "A", "L2": "B", "L3": "C", "3PH": "ABC"}


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its heading, what it says, and an example."""

    name: str
    meaning: str
    example: str = ""
    needed: bool = False


_FEEDER: Final = Column(
    "feeder", "the feeder's id; may be left out when the file is about one feeder"
)
_POSITION: Final = (
    Column("longitude", "degrees east, WGS 84", "76.2211"),
    Column("latitude", "degrees north, WGS 84", "10.1421"),
)
_SETTINGS: Final = (
    Column("time_zone", "IANA name; bills and days follow it", "Asia/Kolkata"),
    Column("billing_day", f"the day a bill begins on, 1 to {BILLING_DAY_MAX}", "1"),
    Column("tariff", "which tariff holds", "household"),
)

TABLES: Final[Mapping[str, tuple[Column, ...]]] = {
    "feeders": (
        Column("feeder", "the id its gateways publish under", "feeder-north-01", needed=True),
        Column("name", "as people say it", "North Paravur 1"),
        *_SETTINGS,
        Column("head_meter", "serial of the meter at its beginning", "FH-0001"),
    ),
    "tariffs": (
        Column("tariff", "the tariff's id", "household", needed=True),
        Column("price_per_kwh", "the price of one kWh, with a point", "12.50", needed=True),
        Column("currency", "by ISO 4217", "INR", needed=True),
        Column("from", "from when it holds: a date; empty for ever", "2026-01-01"),
    ),
    "poles": (
        _FEEDER,
        Column("pole", "the pole's id", "p-03", needed=True),
        Column("name", "as people say it", "Pole 3"),
        Column("order", "its place along the line, a number", "3"),
        Column("parent", "the pole before it; empty for the first", "p-02"),
        *_POSITION,
        Column("phases", "the phases that reach it", "ABC"),
        Column("sub_meter", "serial of a meter that measures the whole pole", ""),
    ),
    "customers": (
        _FEEDER,
        Column("customer", "the customer's id", "c-017", needed=True),
        Column("name", "the customer's name", "Anitha B.", needed=True),
    ),
    "meters": (
        _FEEDER,
        Column("serial", "as the meter says it", "DS1000-88421", needed=True),
        Column("role", "customer, pole or head; customer if empty", "customer"),
        Column("pole", "the pole it hangs on", "p-03"),
        Column("phase", "A, B, C or ABC", "C"),
        Column("customer", "whom it supplies", "c-017"),
        Column("protected", "yes: nobody is cut off here without an engineer's reason", "no"),
        Column("from", "when it was put up; a time without a zone is the feeder's own", ""),
        Column("to", "when it was taken down", ""),
        Column("opening_kwh", "its register when it was put up", ""),
        Column("closing_kwh", "its register when it was taken down", ""),
    ),
}
# A flat file has one row for a meter, and tells its pole, customer and feeder on the way.
ALONG_WITH_METERS: Final = (
    Column("customer_name", "the customer's name", "Anitha B."),
    Column("pole_name", "the pole's name", "Pole 3"),
    Column("pole_order", "the pole's place along the line", "3"),
    Column("pole_parent", "the pole before it", "p-02"),
    *_POSITION,
    Column("feeder_name", "the feeder's name", "North Paravur 1"),
    *_SETTINGS,
)


@dataclass(frozen=True, slots=True)
class SheetRow:
    """A row of a table: where it stands, and its cells by column; empty ones are not there."""

    table: str
    sheet: str
    number: int
    """As the person sees it: the first row of a sheet is 1; of a GeoJSON file, the first feature."""
    cells: Mapping[str, CellValue]


@dataclass(frozen=True, slots=True)
class RowFault:
    """What is wrong, where, and what to do."""

    sheet: str
    row: int
    column: str
    what: str
    remedy: str

    def __str__(self) -> str:
        column = f", column {self.column}" if self.column else ""
        return f"{self.sheet}, row {self.row}{column}: {self.what} — {self.remedy}"


class CellFault(Exception):
    """A cell that cannot be what its column asks for."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


def columns_of(table: str) -> dict[str, Column]:
    """Return what a table may have, by heading."""
    along = ALONG_WITH_METERS if table == "meters" else ()
    return {column.name: column for column in (*TABLES[table], *along)}


def heading(text: str) -> str:
    """Return a heading as the tables write it: ``Price per kWh`` is ``price_per_kwh``."""
    return re.sub(r"[\s_-]+", "_", text.strip().lower())


def table_of(headings: Iterable[str]) -> str | None:
    """Return which table has such columns, for a file that does not say; None when none does."""
    told = set(headings)
    for table, telling in (
        ("meters", "serial"),
        ("tariffs", "price_per_kwh"),
        ("poles", "pole"),
        ("customers", "customer"),
        ("feeders", "feeder"),
    ):
        if telling in told:
            return table
    return None


# --- cells ---------------------------------------------------------------------------------------


def text(value: CellValue) -> str:
    """Return a cell's text. Raises CellFault."""
    if isinstance(value, bool | datetime | date) or value is None:
        raise CellFault(f"{value!s} is no text", "format the cell as text and write it again")
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a spreadsheet's serial 88421.0
    said = str(value).strip()
    if said.startswith("="):
        raise CellFault("a formula", "paste its value instead: a formula is not calculated here")
    if len(said) > CELL_CHARS_MAX:
        raise CellFault(f"{len(said)} characters", f"at most {CELL_CHARS_MAX}")
    if not said.isprintable():
        raise CellFault("characters that cannot be shown", "write it again on one line")
    return said


def identifier(value: CellValue) -> str:
    """Return an id. Raises CellFault."""
    said = text(value)
    if not is_id(said):
        raise CellFault(
            f"{said[:80]!r} is no id",
            "1 to 64 of A-Z a-z 0-9 . _ - beginning with a letter or digit",
        )
    return said


def name(value: CellValue) -> str:
    """Return a name for people. Raises CellFault."""
    said = text(value)
    if not said or len(said) > NAME_CHARS_MAX:
        raise CellFault(f"a name of {len(said)} characters", f"1 to {NAME_CHARS_MAX}")
    return said


def zone(value: CellValue) -> str:
    """Return the name of a time zone. Raises CellFault."""
    said = text(value)
    if not is_zone(said):
        raise CellFault(
            f"{said[:80]!r} is no time zone", "an IANA name, such as Africa/Nairobi or Asia/Kolkata"
        )
    return said


def number(value: CellValue, least: float, most: float) -> float:
    """Return a number within bounds. Raises CellFault."""
    if isinstance(value, bool | datetime | date) or value is None:
        raise CellFault(f"{value!s} is no number", "write a number")
    said = value if isinstance(value, int | float) else text(value)
    try:
        found = float(said)
    except ValueError:
        remedy = "with a point and no thousands" if "," in str(said) else "a number"
        raise CellFault(f"{str(said)[:80]!r} is no number", f"write {remedy}: 1842.5") from None
    if not (math.isfinite(found) and least <= found <= most):
        raise CellFault(f"{found:g} cannot be", f"between {least:g} and {most:g}")
    return found


def whole(value: CellValue, least: int, most: int) -> int:
    """Return a whole number within bounds. Raises CellFault."""
    found = number(value, least, most)
    if not found.is_integer():
        raise CellFault(f"{found:g} is not whole", f"a whole number between {least} and {most}")
    return int(found)


def longitude(value: CellValue) -> float:
    """Return degrees east. Raises CellFault."""
    return number(value, -180, 180)


def latitude(value: CellValue) -> float:
    """Return degrees north. Raises CellFault."""
    return number(value, -90, 90)


def register(value: CellValue) -> float:
    """Return a register in kWh. Raises CellFault."""
    return number(value, 0, REGISTER_KWH_MAX)


def pole_number(value: CellValue) -> int:
    """Return a pole's place along the line. Raises CellFault."""
    return whole(value, 0, POLE_NUMBER_MAX)


def billing_day(value: CellValue) -> int:
    """Return a day every month has. Raises CellFault."""
    return whole(value, 1, BILLING_DAY_MAX)


def price(value: CellValue) -> Decimal:
    """Return a price, exactly as it was written. Raises CellFault."""
    if isinstance(value, bool | datetime | date) or value is None:
        raise CellFault(f"{value!s} is no price", "write a number with a point: 12.50")
    said = repr(value) if isinstance(value, float) else text(value)
    try:
        found = Decimal(said)
    except InvalidOperation:
        raise CellFault(
            f"{said[:80]!r} is no price", "write a number with a point: 12.50"
        ) from None
    if not found.is_finite() or not 0 <= found <= PRICE_MAX:
        raise CellFault(f"a price of {said[:80]} cannot be", f"between 0 and {PRICE_MAX:,}")
    exponent = found.as_tuple().exponent
    if isinstance(exponent, int) and -exponent > PRICE_PLACES_MAX:
        raise CellFault(f"{said[:80]} is too fine", f"{PRICE_PLACES_MAX} digits after the point")
    return found


def currency(value: CellValue) -> str:
    """Return a currency's code. Raises CellFault."""
    said = text(value).upper()
    if not re.fullmatch(r"[A-Z]{3}", said):
        raise CellFault(f"{said[:80]!r} is no currency", "three letters of ISO 4217: KES, INR, XOF")
    return said


def role(value: CellValue) -> MeterRole:
    """Return what a meter measures. Raises CellFault."""
    said = text(value).lower()
    if said not in set(MeterRole):
        raise CellFault(f"{said[:80]!r} is no role", f"one of {', '.join(MeterRole)}")
    return MeterRole(said)


def yes_or_no(value: CellValue) -> bool:
    """Return yes or no. Raises CellFault."""
    if isinstance(value, bool):
        return value
    said = text(value).lower()
    if said not in _YES | _NO:
        raise CellFault(f"{said[:80]!r} is neither", "write yes or no")
    return said in _YES


def phases(value: CellValue) -> str:
    """Return phases as A, B, C. Raises CellFault."""
    said = text(value).upper().replace(" ", "").replace("/", "").replace(",", "")
    said = _PHASE.get(said, said)
    if not re.fullmatch(r"A?B?C?", said):
        raise CellFault(f"{text(value)[:80]!r} is no phase", "A, B, C or ABC (also L1, L2, L3)")
    return said


def moment(value: CellValue) -> datetime:
    """Return a moment; one without a zone is for the feeder's own. Raises CellFault."""
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime.combine(value, time())
    said = text(value)
    try:
        found = datetime.fromisoformat(said)
    except ValueError:
        raise CellFault(f"{said[:80]!r} is no date", "2026-06-22, or 2026-06-22 14:30") from None
    return found.astimezone(UTC) if found.tzinfo else found
