"""The configuration that the commands of a gateway are about."""

from pathlib import Path
from typing import TYPE_CHECKING

from openami.cli.files import config_option
from openami.cli.report import Exit, fail

if TYPE_CHECKING:
    from openami.gateway.config import GatewayConfig

gateway_config_option = config_option(
    "The gateway's TOML file; OPENAMI_GATEWAY__SECTION__KEY overrules it.",
    name="file",
    required=True,
)


def loaded(file: Path) -> "GatewayConfig":
    """Return the configuration; one that cannot be used ends the command."""
    from openami.gateway.config import ConfigError, load_config
    from openami.gateway.installed_drivers import InstalledDrivers

    try:
        return load_config(file, InstalledDrivers())
    except ConfigError as error:
        fail(str(error), Exit.USAGE)
