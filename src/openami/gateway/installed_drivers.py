"""The drivers that are installed, ours and others', by name (decision 0013)."""

from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Final

from openami.gateway.driver import Driver

DRIVERS_GROUP: Final = "openami.drivers"


class InstalledDrivers(Mapping[str, type[Driver]]):
    """One is loaded when it is asked for, so that a driver nobody uses cannot keep the gateway from starting."""

    def __init__(self) -> None:
        self._entries = {entry.name: entry for entry in entry_points(group=DRIVERS_GROUP)}

    def __getitem__(self, name: str) -> type[Driver]:
        driver: type[Driver] = self._entries[name].load()
        return driver

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries
