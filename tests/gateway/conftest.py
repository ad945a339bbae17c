"""What the gateway's tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.gateway.small_disk import mounted


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MiB; skipped where none can be mounted."""
    with mounted(tmp_path / "disk") as place:
        yield place
