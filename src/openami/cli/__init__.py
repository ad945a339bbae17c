"""The ``openami`` command.

Data goes to stdout, talk to stderr; ``--json`` prints one object a line. Groups are loaded when asked
for, so that ``openami check`` needs neither a gateway's nor a head-end's libraries.

Exit codes (stable): 0 done · 1 failed or not conformant · 2 usage or configuration · 3 cannot connect
· 4 refused · 5 outcome unknown · 130 interrupted.
"""

from collections.abc import Mapping

import click

from openami import __version__
from openami.cli.lazy_group import LazyGroup

# Where each command lives: ``module:attribute`` below this package.
_COMMANDS: Mapping[str, str] = {
    "audit": "audit:audit",
    "bridge": "bridge:bridge",
    "broker-config": "broker_config:broker_config",
    "bulk": "bulk:bulk",
    "check": "check:check",
    "command": "command:command",
    "conformance": "conformance:conformance",
    "demo": "demo:demo",
    "doctor": "doctor:doctor",
    "driver": "driver:driver",
    "export": "export:export",
    "feeder": "feeder:feeder",
    "gateway": "gateway:gateway",
    "headend": "headend:headend",
    "import": "export:import_archive",
    "keyring": "keyring:keyring",
    "meter": "meter:meter",
    "reject": "reject:reject",
    "scan": "scan:scan",
    "session": "session:session",
    "simulate": "simulate:simulate",
    "spec": "spec:spec",
    "token": "token:token",
    "user": "user:user",
    "verify": "verify:verify",
    "watch": "watch:watch",
}


@click.group(
    cls=LazyGroup, places=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="openami")
def main() -> None:
    """Open metering for villages: meter, gateway, head-end."""
