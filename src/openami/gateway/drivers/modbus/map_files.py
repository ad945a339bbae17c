"""Where the register maps of Modbus meters are."""

from pathlib import Path

from openami.gateway import map_files
from openami.gateway.drivers.modbus.register_map import RegisterMap, read_map


def shipped_maps() -> tuple[str, ...]:
    """Return the names of the maps that ship with the product."""
    return map_files.shipped(__package__)


def load_map(name: str, directory: Path = Path()) -> RegisterMap:
    """Return a map; see `openami.gateway.map_files.load`. Raises MapError."""
    return map_files.load(__package__, name, directory, read_map)
