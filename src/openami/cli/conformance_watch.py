"""``openami conformance watch``: judge a live system through its broker, without touching it."""

import click


@click.command()
def watch() -> None:
    """Judge what passes through a broker."""
