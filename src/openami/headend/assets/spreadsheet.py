"""CSV and XLSX as rows, and a template to fill in. Pure: bytes in, rows out; bounded before it is unpacked.

openpyxl is imported by who reads or makes a workbook: 180 modules that no start of a head-end waits for.
"""

import csv
import io
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from typing import Final

from openami.headend.assets.tables import (
    ALONG_WITH_METERS,
    TABLES,
    CellValue,
    Column,
    RowFault,
    SheetRow,
    columns_of,
    heading,
    table_of,
)

# A village of 500 meters is 100 kB; this is fifty of them.
FILE_BYTES_MAX: Final = 5 * 1024 * 1024
# An XLSX file is a zip: a sheet of ten times the file's size is usual, a thousand times is a bomb.
UNPACKED_BYTES_MAX: Final = 64 * 1024 * 1024
# Parts of a workbook; an ordinary one has fifteen.
PARTS_MAX: Final = 500
# Rows of all tables: a utility's forty feeders at once.
ROWS_MAX: Final = 20_000
# The widest table has twenty-two; a sheet that says it has 16,384 has one cell far out.
COLUMNS_MAX: Final = 64
# After so many empty rows a sheet is at its end, whatever it claims.
EMPTY_ROWS_MAX: Final = 200

# Sheets that explain, in a template and elsewhere.
_EXPLAINING: Final = frozenset({"readme", "help", "notes"})
_EXAMPLES_ROW: Final = 2

# What reading raises of bytes that are no workbook: from the zip, its compression, its XML, or openpyxl itself.
_BROKEN: Final = (
    *(zipfile.BadZipFile, zlib.error, EOFError, struct.error, SyntaxError),
    *(KeyError, IndexError, ValueError, TypeError, AttributeError, OverflowError),
    *(NotImplementedError, RuntimeError),
)


class FileRefused(Exception):
    """A file that is not read at all; the message says why, ``remedy`` what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


def check_size(data: bytes) -> None:
    """Raise FileRefused when a file is larger than any village."""
    if len(data) > FILE_BYTES_MAX:
        raise FileRefused(
            f"the file has more than {FILE_BYTES_MAX // 1024 // 1024} MB",
            "split it by feeder; pictures and colours do not belong in it",
        )


def read_csv(data: bytes, name: str) -> tuple[list[SheetRow], list[RowFault]]:
    """Return the rows of one table. Raises FileRefused."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FileRefused(
            f"line {line} holds a byte that is not UTF-8",
            "save it as CSV UTF-8, or as a workbook (.xlsx)",
        ) from None
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    lines = csv.reader(io.StringIO(text), delimiter=delimiter)
    try:
        return _table(name, None, ([*line] for line in lines))
    except csv.Error as error:
        raise FileRefused(
            f"line {lines.line_num}: {error}", "save it anew from a spreadsheet"
        ) from None


def read_xlsx(data: bytes) -> tuple[list[SheetRow], list[RowFault]]:
    """Return the rows of every table in a workbook. Raises FileRefused."""
    import openpyxl
    from openpyxl.utils.exceptions import InvalidFileException

    _refuse_bomb(data)
    try:
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=False)
    except (InvalidFileException, *_BROKEN) as error:
        raise FileRefused(
            "it is no workbook that can be read", "save it anew as .xlsx, without a password"
        ) from error
    rows: list[SheetRow] = []
    faults: list[RowFault] = []
    for sheet in book.worksheets:
        called = heading(sheet.title)
        if called in _EXPLAINING:
            continue
        sheet.reset_dimensions()  # what a file claims of its size is not believed
        try:
            found, wrong = _table(
                sheet.title,
                called if called in TABLES else None,
                (
                    [_plain(cell) for cell in line]
                    for line in sheet.iter_rows(values_only=True, max_col=COLUMNS_MAX)
                ),
            )
        except _BROKEN as error:
            raise FileRefused(
                f"the sheet {sheet.title!r} is damaged", "open it and save it anew"
            ) from error
        rows += found
        faults += wrong
        if len(rows) > ROWS_MAX:
            raise FileRefused(f"more than {ROWS_MAX:,} rows", "split it by feeder")
    return rows, faults


def _refuse_bomb(data: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = archive.infolist()
    except _BROKEN:
        raise FileRefused(
            "it is no workbook that can be read", "save it anew as .xlsx, without a password"
        ) from None
    unpacked = sum(part.file_size for part in parts)
    if len(parts) > PARTS_MAX or unpacked > UNPACKED_BYTES_MAX:
        raise FileRefused(
            f"unpacked it would have {unpacked // 1024 // 1024} MB in {len(parts)} parts",
            "copy the rows into an empty workbook, without pictures and formats",
        )


def _table(
    sheet: str, table: str | None, lines: Iterable[Sequence[CellValue]]
) -> tuple[list[SheetRow], list[RowFault]]:
    """Return the rows under the headings, which are the first row that is not empty."""
    rows: list[SheetRow] = []
    headings: list[str] | None = None
    for number, cells in _not_empty(lines):
        if headings is None:
            headings = [heading(str(cell)) if cell is not None else "" for cell in cells]
            table = table or table_of(headings)
            faults = _heading_faults(sheet, number, table, headings)
            if faults or table is None:
                return [], faults
            continue
        if len(rows) == ROWS_MAX:
            raise FileRefused(f"more than {ROWS_MAX:,} rows", "split it by feeder")
        assert table is not None
        told = {
            column: cell
            for column, cell in zip(headings, cells, strict=False)
            if column and cell is not None and str(cell).strip()
        }
        if told:
            rows.append(SheetRow(table, sheet, number, told))
    return rows, []


def _not_empty(
    lines: Iterable[Sequence[CellValue]],
) -> Iterator[tuple[int, Sequence[CellValue]]]:
    empty = 0
    for number, cells in enumerate(lines, 1):
        if any(cell is not None and str(cell).strip() for cell in cells[:COLUMNS_MAX]):
            empty = 0
            yield number, cells[:COLUMNS_MAX]
        else:
            empty += 1
            if empty == EMPTY_ROWS_MAX:
                return


def _plain(cell: object) -> CellValue:
    """Return a cell as one of the values a table knows; a duration or a formula object as its text."""
    if cell is None or isinstance(cell, str | int | float | bool | datetime | date):
        return cell
    return f"={cell}" if type(cell).__name__.endswith("Formula") else str(cell)


def _heading_faults(
    sheet: str, number: int, table: str | None, headings: Sequence[str]
) -> list[RowFault]:
    if table is None:
        return [
            RowFault(
                sheet,
                number,
                "",
                "these headings are no table's",
                f"name the sheet {', '.join(TABLES)}, or take the template",
            )
        ]
    known = columns_of(table)
    faults = [
        RowFault(
            sheet, number, column, f"{table} has no column {column}", f"one of {', '.join(known)}"
        )
        for column in headings
        if column and column not in known
    ]
    faults += [
        RowFault(sheet, number, column, "two columns have this heading", "remove one")
        for column in sorted({each for each in headings if each and headings.count(each) > 1})
    ]
    return faults + [
        RowFault(sheet, number, column.name, "this column is missing", column.meaning)
        for column in TABLES[table]
        if column.needed and column.name not in headings
    ]


# --- a template ----------------------------------------------------------------------------------


def template_xlsx() -> bytes:
    """Return an empty workbook to fill in, with a sheet that says what each column means."""
    import openpyxl
    from openpyxl.styles import Font
    from openpyxl.utils import get_column_letter

    book = openpyxl.Workbook()
    help_sheet = book.worksheets[0]
    help_sheet.title = "help"
    help_sheet.append(["sheet", "column", "needed", "what it says", "example"])
    for table, columns in TABLES.items():
        sheet = book.create_sheet(table)
        sheet.append([column.name for column in columns])
        for cell in next(sheet.iter_rows(max_row=1)):
            cell.font = Font(bold=True)
        sheet.freeze_panes = "A2"
        for at, column in enumerate(columns, 1):
            letter = get_column_letter(at)
            sheet.column_dimensions[letter].width = max(14, len(column.name) + 2)
            # As text, a serial keeps its zeros.
            sheet.column_dimensions[letter].number_format = "@"
        for column in columns:
            help_sheet.append(_explained(table, column))
    for letter, width in zip("ABCDE", (12, 16, 8, 70, 20), strict=True):
        help_sheet.column_dimensions[letter].width = width
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def _explained(table: str, column: Column) -> list[str]:
    return [table, column.name, "yes" if column.needed else "", column.meaning, column.example]


def template_csv() -> str:
    """Return the headings of a flat file: a row for each meter, its pole and customer along with it."""
    headings = [column.name for column in (*TABLES["meters"], *ALONG_WITH_METERS)]
    return ",".join(headings) + "\n"
