"""The wire contract as data, usable from any language."""

from importlib.resources import files


def load(name: str) -> bytes:
    """Return a file of the contract by its path below this package, e.g. ``requirements.toml``.

    Raises FileNotFoundError.
    """
    return files(__name__).joinpath(name).read_bytes()
