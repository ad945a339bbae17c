"""``openami conformance``: is a gateway, a head-end or a reader what the profile asks for?"""

import click

from openami.cli.conformance_vectors import vectors


@click.group()
def conformance() -> None:
    """Judge somebody's gateway, head-end or reader by the contract alone."""


conformance.add_command(vectors)
