"""``openami driver``: what the author of a register map or a driver needs."""

from collections.abc import Mapping

import click

from openami.cli.lazy_group import LazyGroup

_COMMANDS: Mapping[str, str] = {
    "new": "driver_new:new",
    "probe": "driver_probe:probe",
    "test": "driver_test:test",
    "import": "driver_import:import_mbmap",
}


@click.group(cls=LazyGroup, places=_COMMANDS)
def driver() -> None:
    """Register maps and drivers: begin one, read a meter with it, put it to the test."""
