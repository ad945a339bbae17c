"""Where the meter maps of IEC 62056-21 meters are."""

from pathlib import Path

from openami.gateway import map_files
from openami.gateway.drivers.iec62056.meter_map import MeterMap, read_map


def shipped_maps() -> tuple[str, ...]:
    """Return the names of the maps that ship with the product."""
    return map_files.shipped(__package__)


def load_map(name: str, directory: Path = Path()) -> MeterMap:
    """Return a map; see `openami.gateway.map_files.load`. Raises MapError."""
    return map_files.load(__package__, name, directory, read_map)
