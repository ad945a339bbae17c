"""``openami doctor``: what is wrong, and what to look at."""

from collections.abc import Mapping

import click

from openami.cli.lazy_group import LazyGroup

_COMMANDS: Mapping[str, str] = {
    "capacity": "doctor_capacity:capacity",
    "meter": "doctor_meter:meter",
    "months": "doctor_months:months",
}


@click.group(cls=LazyGroup, places=_COMMANDS)
def doctor() -> None:
    """Find out what is wrong, and what to look at."""
