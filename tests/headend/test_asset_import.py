"""A sheet becomes assets, or a list of what is wrong in which row."""

import contextlib
import io
import json
import random
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from tests.headend.test_assets import NOW, SWAP, VILLAGE

from openami.headend.assets import Feeder, FeederAssets, MeterRole, Tariff
from openami.headend.assets.changes import swapped
from openami.headend.assets.files import read_assets
from openami.headend.assets.geojson import geojson_of
from openami.headend.assets.importing import ImportPlan, feeders_of, plan
from openami.headend.assets.spreadsheet import (
    COLUMNS_MAX,
    FILE_BYTES_MAX,
    FileRefused,
    template_csv,
    template_xlsx,
)

# A spreadsheet knows no zone.
AT_HALF_PAST_TWO = datetime.fromisoformat("2026-06-22T14:30")
FLAT = (
    "feeder,feeder_name,time_zone,pole,pole_order,pole_parent,longitude,latitude,"
    "serial,role,phase,customer,customer_name,protected\n"
    "f,North,Asia/Kolkata,p-1,1,,76.2,10.1,FH-1,head,,,,\n"
    "f,,,p-1,,,,,VM-1,,A,c-1,Anitha B.,yes\n"
    "f,,,p-2,2,p-1,76.201,10.101,VM-2,,L2,c-2,Ravi K.,\n"
)


def planned(
    data: bytes | str, *known: FeederAssets, prices: tuple[Tariff, ...] = (), **options: Any
) -> ImportPlan:
    raw = data.encode() if isinstance(data, str) else data
    feeder_id = options.pop("feeder_id", None)
    drafts, faults = read_assets(raw, "village.csv", feeder_id=feeder_id)
    there = {each.feeder.id: each for each in known}
    feeders = {
        name: there.get(name, FeederAssets(feeder=Feeder(id=name, name=name)))
        for name in feeders_of(drafts)
    }
    return plan(drafts, faults, feeders, prices, **options)


def workbook(**sheets: list[list[Any]]) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def test_a_flat_file_tells_feeder_poles_customers_and_meters() -> None:
    found = planned(FLAT)
    assert not found.faults
    [village] = found.after
    assert village.feeder == Feeder(id="f", name="North", time_zone="Asia/Kolkata")
    assert [(p.id, p.number, p.parent, p.longitude) for p in village.poles] == [
        ("p-1", 1, None, 76.2),
        ("p-2", 2, "p-1", 76.201),
    ]
    assert [(m.serial, m.role, m.phase, m.customer_id, m.protected) for m in village.meters] == [
        ("FH-1", MeterRole.HEAD, "", None, False),
        ("VM-1", MeterRole.CUSTOMER, "A", "c-1", True),
        ("VM-2", MeterRole.CUSTOMER, "B", "c-2", False),
    ]
    assert [c.name for c in village.customers] == ["Anitha B.", "Ravi K."]


def test_the_same_file_again_changes_nothing() -> None:
    [village] = planned(FLAT).after
    again = planned(FLAT, village)
    assert (again.after, again.changes, again.rows) == ((), (), 3)


def test_an_empty_cell_leaves_what_is_known_and_a_dash_takes_it_away() -> None:
    [village] = planned(FLAT).after
    found = planned("feeder,pole,name,parent\nf,p-2,Second,-\n", village)
    [change] = found.changes
    assert change.details == ("name: p-2 → Second", "parent: p-1 → –")
    [after] = found.after
    assert after.poles[1].longitude == 76.201


def test_a_workbook_tells_prices_dates_and_numbers_as_a_spreadsheet_has_them() -> None:
    data = workbook(
        feeders=[["Feeder", "Time zone", "Tariff", "head meter"], ["f", "Asia/Kolkata", "home", 7]],
        tariffs=[
            ["tariff", "Price per kWh", "currency", "from"],
            ["home", 12.5, "inr", None],
            ["home", "13.10", "INR", date(2026, 7, 1)],
        ],
        poles=[["pole", "order", "sub_meter"], ["p-1", 1.0, "SM-1"]],
        customers=[["customer", "name"], [17, "Anitha B."]],
        meters=[
            ["serial", "pole", "customer", "from", "opening_kwh"],
            [88421.0, "p-1", 17, AT_HALF_PAST_TWO, 3],
        ],
        help=[["anything"]],
    )
    found = planned(data)
    assert not found.faults
    [village] = found.after
    assert [(m.serial, str(m.role)) for m in village.meters] == [
        ("7", "head"),
        ("88421", "customer"),
        ("SM-1", "pole"),
    ]
    # Half past two in North Paravur.
    assert village.meters[1].valid_from == datetime(2026, 6, 22, 9, tzinfo=UTC)
    assert village.meters[1].customer_id == "17"
    assert [(t.price_per_kwh, t.currency) for t in found.tariffs] == [
        (Decimal("12.5"), "INR"),
        (Decimal("13.10"), "INR"),
    ]


FAULTS = [
    ("serial,customer\n,c-1\n", 2, "serial", "it is empty"),
    ("serial,customer\nVM 1,c-1\n", 2, "serial", "is no id"),
    ("serial,customer\nVM-1,c-9\n", 2, "customer", "there is no customer c-9"),
    ("serial,customer,pole\nVM-1,c-1,p-9\n", 2, "pole", "there is no pole p-9"),
    ("serial\nVM-9\n", 2, "customer", "supplies nobody"),
    ("serial,role\nVM-1,relay\n", 2, "role", "is no role"),
    ("serial,role\nVM-9,pole\n", 2, "pole", "none is named"),
    ("serial,phase\nVM-1,D\n", 2, "phase", "is no phase"),
    ("serial,protected\nVM-1,maybe\n", 2, "protected", "is neither"),
    ("serial,from\nVM-1,22.6.2026\n", 2, "from", "is no date"),
    ("serial,from,to\nVM-1,2026-06-22,2026-06-21\n", 2, "to", "before it was put up"),
    ("serial,opening_kwh\nVM-1,1;5\n", 2, "opening_kwh", "is no number"),
    ("serial;opening_kwh\nVM-1;1,5\n", 2, "opening_kwh", "is no number"),
    ("serial,opening_kwh\nVM-1,nan\n", 2, "opening_kwh", "cannot be"),
    ("serial,opening_kwh,closing_kwh\nVM-1,9,3\n", 2, "closing_kwh", "closed at 3 kWh"),
    ("pole,latitude\np-1,91\n", 2, "latitude", "cannot be"),
    ("pole,parent\np-1,p-2\n", 2, "parent", "there is no pole p-2"),
    ("pole,parent\np-1,p-3\np-3,p-1\n", 2, "parent", "never reaches its beginning"),
    ("pole,order\np-1,1.5\n", 2, "order", "is not whole"),
    ("pole,name\np-1,=1+1\n", 2, "name", "a formula"),
    ("customer,name\nc-1,A\nc-1,B\n", 3, "name", "row 2 of village.csv says A"),
    ("feeder,time_zone\nf,Mars\n", 2, "time_zone", "is no time zone"),
    ("feeder,billing_day\nf,31\n", 2, "billing_day", "cannot be"),
    ("feeder,tariff\nf,mill\n", 2, "tariff", "there is no tariff mill"),
    ("tariff,price_per_kwh,currency\nt,12.50,rupees\n", 2, "currency", "is no currency"),
    ("tariff,price_per_kwh,currency\nt,-1,INR\n", 2, "price_per_kwh", "cannot be"),
    ("tariff,price_per_kwh,currency\nt,,INR\n", 2, "price_per_kwh", "it is empty"),
    ("serial,colour\nVM-1,red\n", 1, "colour", "meters has no column colour"),
    ("serial,serial\nVM-1,VM-2\n", 1, "serial", "two columns have this heading"),
    ("customer,phone\nc-1,1\n", 1, "phone", "customers has no column phone"),
    ("customer\nc-1\n", 1, "name", "this column is missing"),
    ("colour\nred\n", 1, "", "no table's"),
    ("serial,from,customer\nVM-1,2026-06-22,c-2\n", 2, "serial", "hangs elsewhere"),
    (f"customer,name\nc-1,{'a' * 121}\n", 2, "name", "121 characters"),
    ("customer,name\nc-1,a\x07b\n", 2, "name", "cannot be shown"),
]


@pytest.mark.parametrize(("data", "row", "column", "what"), FAULTS, ids=[f[3] for f in FAULTS])
def test_a_fault_is_told_with_row_column_and_remedy(
    data: str, row: int, column: str, what: str
) -> None:
    second = replace(VILLAGE.customers[0], id="c-2", name="Ravi K.")
    known = replace(VILLAGE, customers=(*VILLAGE.customers, second))
    found = planned(data, known, prices=VILLAGE.tariffs, feeder_id="f")
    assert found.faults, "it was let in"
    fault = found.faults[0]
    assert (fault.row, fault.column) == (row, column)
    assert what in fault.what
    assert fault.remedy
    assert not found.after
    assert not found.changes


def test_without_leave_to_skip_one_bad_row_keeps_all_out() -> None:
    bad = FLAT + "f,,,p-9,,,,,VM-3,,A,c-3,Meena,\n"
    refused = planned(bad)
    assert [(fault.row, fault.column) for fault in refused.faults] == [(5, "pole")]
    assert not refused.after
    partly = planned(bad, skip_bad_rows=True)
    assert partly.after == planned(FLAT).after
    assert partly.rows == 3


def test_what_refers_to_a_skipped_row_is_skipped_too() -> None:
    bad = FLAT.replace("p-1,1,,76.2", "p-1,1,,x")
    partly = planned(bad, skip_bad_rows=True)
    # The first row falls with its longitude, the others because its pole is not there.
    assert [fault.row for fault in partly.faults] == [2, 3, 4]
    assert not partly.after


def test_since_when_a_meter_hangs_can_be_said_later() -> None:
    found = planned("serial,from,opening_kwh\nVM-1,2026-01-01,5\n", VILLAGE, feeder_id="f")
    [after] = found.after
    [meter] = [m for m in after.meters if m.serial == "VM-1"]
    assert meter.valid_from == datetime(2025, 12, 31, 18, 30, tzinfo=UTC)
    assert len(after.meters) == len(VILLAGE.meters)


def test_a_file_may_tell_a_swap_that_was_done_on_paper() -> None:
    data = (
        "serial,from,to,opening_kwh,closing_kwh,customer,pole,phase\n"
        "VM-1,,2026-06-21T12:00:00Z,,1842.5,,,\n"
        "VM-9,2026-06-21T12:00:00Z,,3.2,,c-1,p-1,A\n"
    )
    [after] = planned(data, VILLAGE, feeder_id="f").after
    assert after == swapped(VILLAGE, SWAP, now=NOW)


def test_a_feeder_as_geojson_reads_back_as_it_was() -> None:
    village = swapped(VILLAGE, SWAP, now=NOW)
    text = json.dumps(geojson_of(village))
    found = planned(text, prices=VILLAGE.tariffs)
    assert not found.faults
    assert [replace(each, tariffs=VILLAGE.tariffs) for each in found.after] == [village]
    assert not planned(text, village, prices=VILLAGE.tariffs).changes


@pytest.mark.parametrize(
    ("feature", "column"),
    [
        ({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": []}}, "geometry"),
        ({"type": "Feature", "properties": {"table": "houses"}}, "table"),
        ({"type": "Feature", "properties": {"pole": ["p"]}}, "pole"),
        ({"type": "Feature", "properties": {"height": 9}}, "height"),
        ({"type": "Feature", "properties": 3}, "properties"),
        (
            {
                "type": "Feature",
                "properties": {"table": "customers", "customer": "c", "name": "n"},
                "geometry": {"type": "Point", "coordinates": [1, 2]},
            },
            "geometry",
        ),
        (17, ""),
    ],
)
def test_a_feature_that_is_no_row_is_told_by_its_number(feature: object, column: str) -> None:
    good = {"type": "Feature", "properties": {"pole": "p-1"}}
    text = json.dumps({"type": "FeatureCollection", "features": [good, feature]})
    found = planned(text, feeder_id="f")
    assert [(fault.row, fault.column) for fault in found.faults] == [(2, column)]


def bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", b" " * (80 * 1024 * 1024))
    return file.getvalue()


def unreadable() -> Iterator[tuple[bytes, str]]:
    """What is no file to import, and why; made by who looks at it, for a bomb takes half a second to pack."""
    yield b"x" * (FILE_BYTES_MAX + 1), "more than 5 MB"
    yield bomb(), "unpacked it would have 80 MB"
    yield b"PK\x03\x04 and then nothing", "no workbook"
    yield template_xlsx()[:-400], "no workbook"
    yield b'{"type": "FeatureCollection"', "no JSON"
    yield b"[" * 100_000, "no JSON"
    yield b'{"type": "Topology"}', "no FeatureCollection"
    yield b"serial\nVM-\xe9\n", "line 2 holds a byte"
    yield b'serial\n"' + b"x" * 200_000 + b'"\n', "field larger"
    yield b"customer,name\n" + b"c-1,A\n" * 20_001, "more than 20,000 rows"


def test_a_file_that_is_not_read_at_all_says_why() -> None:
    for data, why in unreadable():
        with pytest.raises(FileRefused, match=why) as refused:
            read_assets(data, "village")
        assert refused.value.remedy, why


def test_every_part_of_a_damaged_workbook_is_refused_plainly() -> None:
    whole = template_xlsx()
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    for broken in parts:
        for content in (b"", b"<", parts[broken][: len(parts[broken]) // 2]):
            file = io.BytesIO()
            with zipfile.ZipFile(file, "w") as archive:
                for name, data in parts.items():
                    archive.writestr(name, content if name == broken else data)
            with contextlib.suppress(FileRefused):  # and nothing else
                read_assets(file.getvalue(), "village")


def test_a_bent_workbook_is_refused_or_read_and_nothing_else() -> None:
    whole = workbook(
        customers=[["customer", "name"], *([f"c-{n}", f"Name {n}"] for n in range(50))]
    )
    dice = random.Random(5)
    for _ in range(300):
        at, bit = dice.randrange(len(whole)), 1 << dice.randrange(8)
        bent = whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :]
        with contextlib.suppress(FileRefused):
            read_assets(bent, "village", feeder_id="f")


def test_a_formula_and_a_cell_far_out_are_not_followed() -> None:
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    sheet.append(["customer", "name"])
    sheet.append(["c-1", '=HYPERLINK("http://x","Anitha")'])
    sheet.cell(row=2, column=COLUMNS_MAX + 1, value="far")
    sheet.cell(row=900_000, column=1, value="c-2")
    file = io.BytesIO()
    book.save(file)
    found = planned(file.getvalue(), feeder_id="f")
    assert [(f.row, f.what) for f in found.faults] == [(2, "a formula")]


def test_templates_are_empty_files_that_are_let_in(tmp_path: Path) -> None:
    for data in (template_xlsx(), template_csv().encode()):
        drafts, faults = read_assets(data, "template")
        assert (drafts, faults) == ([], [])
