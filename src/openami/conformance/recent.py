"""Recent: what was noted last, of as much as may be kept."""

from collections.abc import Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """A mapping of a bounded number of entries; the one noted longest ago goes first."""

    def __init__(self, entries_max: int) -> None:
        self._entries_max = entries_max
        self._entries: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        """Return what was noted under a key, None when nothing was, or when it has gone."""
        return self._entries.get(key)

    def note(self, key: K, value: V) -> None:
        """Note a value under a key, as the newest."""
        self._entries.pop(key, None)
        self._entries[key] = value
        if len(self._entries) > self._entries_max:
            del self._entries[next(iter(self._entries))]

    def forget(self, key: K) -> V | None:
        """Take an entry out; return what it was."""
        return self._entries.pop(key, None)

    def items(self) -> Iterator[tuple[K, V]]:
        """Yield what is there now, the oldest first; it may be changed meanwhile."""
        return iter(list(self._entries.items()))

    def values(self) -> Iterator[V]:
        """Yield what is there now, the oldest first; it may be changed meanwhile."""
        return iter(list(self._entries.values()))

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)
