"""``openami conformance``: is a gateway, or a head-end, what the contract asks for?

Each verb stands in a file of its own, and here by name.
"""

from collections.abc import Mapping

import click

from openami.cli.lazy_group import LazyGroup

# Where each verb lives: ``module:attribute`` below this package.
_VERBS: Mapping[str, str] = {
    "serve": "conformance_serve:serve",
    "watch": "conformance_watch:watch",
}


@click.group(cls=LazyGroup, places=_VERBS)
def conformance() -> None:
    """Judge a gateway or a head-end by the numbered requirements."""
