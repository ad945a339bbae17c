"""What a record is made of: the configuration as it is on the disk, beside what commissioning has come to."""

import hashlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Final

import rfc8785

from openami import __version__
from openami.gateway.commissioning.ledger import Standing
from openami.gateway.config import GatewayConfig, LineConfig
from openami.gateway.driver import Driver, MeterSettings
from openami.sip.commissioning import NAME_CHARS_MAX, Acceptance, CommissionedMeter, Content

_MAP_SUFFIX: Final = ".toml"


def identities_of(config: GatewayConfig) -> dict[str, str | None]:
    """Return which serial number each configured meter is expected to tell; None where none is configured."""
    return {
        meter.serial: None
        if (identity := meter.options.get("identity")) is None
        else str(identity).strip()
        for line in config.lines
        for meter in line.settings.meters
    }


def content_of(
    config: GatewayConfig,
    drivers: Mapping[str, type[Driver]],
    standing: Standing,
    acceptance: Acceptance | None,
    *,
    by: str,
    now: datetime,
) -> Content:
    """Return a record's content. Raises OSError where the configuration cannot be read any more."""
    serials = set(config.serials)
    return Content(
        feeder_id=config.feeder_id,
        gateway_id=config.gateway_id,
        made_at=now.replace(microsecond=0),
        made_by=by[:NAME_CHARS_MAX],
        openami=__version__,
        configuration_sha256=_sha256(config.file.read_bytes()),
        meters=tuple(_meters(config, drivers)),
        bench=standing.bench,
        walk=tuple(tick for serial, tick in standing.ticks.items() if serial in serials),
        swapped=standing.swapped,
        acceptance=acceptance,
        deviations=standing.deviations,
    )


def _meters(
    config: GatewayConfig, drivers: Mapping[str, type[Driver]]
) -> Iterator[CommissionedMeter]:
    for line in config.lines:
        for meter in line.settings.meters:
            named = meter.options.get("map")
            yield CommissionedMeter(
                serial=meter.serial,
                line=line.settings.name,
                driver=line.driver,
                map=named if isinstance(named, str) else None,
                map_sha256=_map_sha256(line, drivers[line.driver], named),
                options_sha256=_options_sha256(meter),
            )


def _map_sha256(line: LineConfig, driver: type[Driver], named: object) -> str | None:
    """Return the SHA-256 of a map's file: beside the configuration, or among the driver's own ``maps``."""
    if not isinstance(named, str):
        return None
    if named.endswith(_MAP_SUFFIX):
        return _sha256(Path(line.settings.directory, named).read_bytes())
    package = driver.__module__.rpartition(".")[0] or driver.__module__
    try:
        file = resources.files(package).joinpath("maps", named + _MAP_SUFFIX)
        return _sha256(file.read_bytes())
    except (ModuleNotFoundError, FileNotFoundError, NotADirectoryError):
        return None  # somebody else's driver keeps its maps elsewhere


def _options_sha256(meter: MeterSettings) -> str:
    # Dates and the like, which TOML has and JSON has not, by their text.
    plain = {
        key: value if isinstance(value, str | int | float | bool) else str(value)
        for key, value in meter.options.items()
    }
    return _sha256(rfc8785.dumps(plain))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
