"""``python -m openami``: the same command."""

from openami.cli import main

main()
