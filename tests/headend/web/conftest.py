"""The village's store, filled once for a run of tests and copied for each."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.headend.web.village import fill

from openami.headend.store.commands import HeadEndStore
from openami.headend.store.open import open_store


@pytest.fixture(scope="session")
def village_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed store with the village's day."""
    path = tmp_path_factory.mktemp("village") / "village.db"

    async def filled() -> None:
        async with open_store(f"sqlite:///{path}") as store:
            await fill(store)

    asyncio.run(filled())
    return path


@pytest.fixture
async def village_store(village_file: Path, tmp_path: Path) -> AsyncIterator[HeadEndStore]:
    """An open store with the village's day, of which a test may do what it likes."""
    path = tmp_path / "village.db"
    shutil.copy(village_file, path)
    async with open_store(f"sqlite:///{path}") as store:
        yield store
