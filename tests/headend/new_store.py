"""A store nobody has used, as a copy of one that was made once: making its tables syncs the disk a dozen times."""

import asyncio
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from openami.headend.store.open import open_store


def new_store(path: Path) -> str:
    """Put an empty store at a path, and return its URL."""
    path.write_bytes(_empty())
    return f"sqlite:///{path}"


@cache
def _empty() -> bytes:
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as apart:
        path = Path(folder) / "store.db"

        async def made() -> None:
            async with open_store(f"sqlite:///{path}"):
                pass

        apart.submit(lambda: asyncio.run(made())).result()  # a test's own loop may be running here
        return path.read_bytes()
