"""What the parts of a store ask of the database it is in: rows, and transactions."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

from openami.headend.store.plan import Cell
from openami.headend.store.steps import Row, Steps

T = TypeVar("T")


class Engine(ABC):
    """One database; its methods raise StoreError."""

    @abstractmethod
    async def _rows(self, sql: str, *arguments: Cell) -> list[Row]:
        """Return the rows of a query with arguments ``?1``, ``?2`` …"""

    @abstractmethod
    async def _write(self, steps: Callable[[], Steps[T]]) -> T:
        """Carry steps out in one durable transaction."""
