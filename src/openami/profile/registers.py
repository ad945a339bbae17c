"""RegisterCatalogue: what a register means and what its value may be.

The catalogue is data in the shape of the official VMRS file, so that the official file can take its
place. Members the official file does not have (``type``, ``range``, ``full``, ``monotonic``, ``values``)
are optional: without them the judgement they allow is simply not made.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import cache
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from openami import spec
from openami.profile.errors import ProfileError
from openami.profile.obis import OBIS_PATTERN, Obis

CATALOGUE_BYTES_MAX = 1024 * 1024  # the official draft is a few kB; a megabyte is another file


class Certainty(StrEnum):
    """How sure the code is: A standard, B common practice, C a proposal."""

    A = "A"
    B = "B"
    C = "C"


class Register(msgspec.Struct, frozen=True):
    """One entry of the register list."""

    obis: Annotated[str, Meta(extra_json_schema={"pattern": f"^{OBIS_PATTERN}$"})]
    name: str
    unit: str
    certainty: Certainty
    interval: str = ""
    required: str | bool = "no"
    sources: tuple[str, ...] = ()
    notes: str = ""
    type: Literal["number", "string", "boolean"] | None = None
    full: str | None = None
    monotonic: bool = False
    range: tuple[float, float] | None = None
    values: tuple[str, ...] | None = None

    @property
    def code(self) -> Obis:
        """The register's OBIS code."""
        return Obis.parse(self.obis)


class RegisterFile(msgspec.Struct):
    """A register list as a file; other members of it are not read."""

    registers: tuple[Register, ...]


class CatalogueError(ValueError):
    """A register file cannot be used; the message says what is wrong in it and where."""


class RegisterCatalogue:
    """The registers by code; immutable."""

    def __init__(self, registers: tuple[Register, ...]) -> None:
        self._by_code: Mapping[Obis, Register] = {entry.code: entry for entry in registers}

    @classmethod
    def decode(cls, content: bytes) -> "RegisterCatalogue":
        """Read a register file. Raises CatalogueError."""
        if len(content) > CATALOGUE_BYTES_MAX:
            raise CatalogueError(
                f"the register file has {len(content)} bytes, at most {CATALOGUE_BYTES_MAX} are "
                "read: is it the right file?"
            )
        try:
            registers = msgspec.json.decode(content, type=RegisterFile).registers
        except (ValueError, RecursionError) as error:
            raise CatalogueError(f"the register file is not a register list: {error}") from None
        if not registers:
            raise CatalogueError("/registers: the list is empty")
        seen: set[Obis] = set()
        for index, entry in enumerate(registers):
            try:
                code = entry.code
            except ProfileError as error:
                raise CatalogueError(f"/registers/{index}/obis: {error.detail}") from None
            if code in seen:
                raise CatalogueError(f"/registers/{index}/obis: {entry.obis} stands twice")
            if entry.range is not None and entry.range[0] > entry.range[1]:
                raise CatalogueError(f"/registers/{index}/range: the lower bound stands first")
            seen.add(code)
        return cls(registers)

    def get(self, obis: Obis) -> Register | None:
        """Return the entry for a code, or None when the list does not have it."""
        return self._by_code.get(obis)

    def __iter__(self) -> Iterator[Register]:
        return iter(self._by_code.values())

    def __len__(self) -> int:
        return len(self._by_code)


@cache
def shipped_catalogue() -> RegisterCatalogue:
    """Return the register list that ships with the product."""
    return RegisterCatalogue.decode(spec.load("vmrs-registers.json"))
