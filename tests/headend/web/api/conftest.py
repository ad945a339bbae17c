"""The API over a real store with a village's afternoon in it."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.headend.web.api.village import Village, fill, village_over

from openami.headend.store.open import open_store

STORE_NAME = "store.db"


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store's file, filled once; each test has a copy of its own."""
    path = tmp_path_factory.mktemp("village") / STORE_NAME

    async def make() -> None:
        async with open_store(f"sqlite:///{path}") as store:
            await fill(store)

    asyncio.run(make())
    return path


@pytest.fixture
async def village(filled: Path, tmp_path: Path) -> AsyncIterator[Village]:
    """A village, its store a file."""
    shutil.copy(filled, tmp_path / STORE_NAME)
    async with (
        open_store(f"sqlite:///{tmp_path / STORE_NAME}") as store,
        village_over(store) as opened,
    ):
        yield opened
