"""What a row is on either engine: the same tuple, so the same hash; and which rows an engine cannot hold. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import Final

import msgspec

from openami.headend.store.identity import stored_as_told

# 128 bits of each row, summed: no two changes of a lifetime cancel out by chance.
_DIGEST_BYTES: Final = 16
_SUMS: Final = 1 << 8 * _DIGEST_BYTES

_encoded = msgspec.msgpack.Encoder().encode

Row = tuple[object, ...]


class MoveError(Exception):
    """A store cannot be moved; ``remedy`` says what a person can do. The source is as it was."""

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


class Kind(StrEnum):
    """What a column holds, whatever its engine calls it."""

    WHOLE = "whole number"
    REAL = "number"
    TEXT = "text"
    BYTES = "bytes"
    VALUE = "value"
    """A reading's: one column in SQLite, ``number`` and ``text`` in PostgreSQL."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column, as both engines have it."""

    name: str
    kind: Kind
    in_key: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """A table and its columns, in the order of their names: a row is their cells in this order."""

    table: str
    columns: tuple[Column, ...]

    @classmethod
    def of(cls, table: str, columns: Iterable[Column]) -> "Layout":
        return cls(table, tuple(sorted(columns, key=lambda column: column.name)))

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    def place(self, kind: Kind) -> int | None:
        """Return at which place the row has its first cell of this kind."""
        return next((n for n, column in enumerate(self.columns) if column.kind is kind), None)


@dataclass(slots=True)
class Content:
    """How many rows a table has, and the sum of their hashes: the same in whatever order they are read."""

    rows: int = 0
    total: int = 0

    def add(self, rows: Sequence[Row]) -> None:
        hashes = (blake2b(_encoded(row), digest_size=_DIGEST_BYTES).digest() for row in rows)
        self.total = (self.total + sum(int.from_bytes(each) for each in hashes)) % _SUMS
        self.rows += len(rows)

    @property
    def digest(self) -> str:
        return f"{self.total:0{2 * _DIGEST_BYTES}x}"


def as_told(layout: Layout, rows: Sequence[Row]) -> Sequence[Row]:
    """Return rows with each value in the type it was told in, and with one zero where a column knows only one.

    PostgreSQL holds 5 as 5.0, and the flags say which it was. SQLite holds no minus zero in a column of numbers,
    but does in a value's.
    """
    value = layout.place(Kind.VALUE)
    if value is not None:
        flags = layout.names.index("flags")
        return [
            (*row[:value], stored_as_told(row[value], row[flags]), *row[value + 1 :])  # type: ignore[arg-type]  # so its columns are
            for row in rows
        ]
    reals = {n for n, column in enumerate(layout.columns) if column.kind is Kind.REAL}
    if reals:
        return [
            tuple(cell or abs(cell) if n in reals and isinstance(cell, float) else cell
                  for n, cell in enumerate(row))
            for row in rows
        ]  # fmt: skip
    return rows


def refuse_for_postgres(layout: Layout, rows: Sequence[Row], bits: Mapping[str, int]) -> None:
    """Raise MoveError for the first cell PostgreSQL cannot hold. ``bits``: of whole numbers, by column."""
    for row in rows:
        for column, cell in zip(layout.columns, row, strict=True):
            match cell:
                case str() if "\0" in cell:
                    _refuse(layout, row, column, "holds U+0000, which PostgreSQL keeps in no text")
                case int() if column.kind is Kind.VALUE and float(cell) != cell:
                    _refuse(layout, row, column, f"is {cell}, which PostgreSQL would round")
                case int() if column.name in bits and not _fits(cell, bits[column.name]):
                    _refuse(
                        layout, row, column, f"is {cell}: more than {bits[column.name]} bits hold"
                    )


def _fits(number: int, bits: int) -> bool:
    return -(1 << bits - 1) <= number < 1 << bits - 1


def refuse_for_sqlite(layout: Layout, rows: Sequence[Row]) -> None:
    """Raise MoveError for the first cell SQLite cannot hold: it takes what is not a number for nothing."""
    for row in rows:
        for column, cell in zip(layout.columns, row, strict=True):
            if isinstance(cell, float) and cell != cell:
                _refuse(layout, row, column, "is NaN, which SQLite keeps in no column")


def _refuse(layout: Layout, row: Row, column: Column, why: str) -> None:
    key = ", ".join(
        f"{each.name} = {cell.hex() if isinstance(cell, bytes) else cell!r}"
        for each, cell in zip(layout.columns, row, strict=True)
        if each.in_key
    )
    raise MoveError(
        f"table {layout.table}, the row with {key or 'no key'}: {column.name} {why}",
        remedy="no head-end writes that: mend the row in the source, or stay where it is",
    )
