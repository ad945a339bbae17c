"""The sixth promise's checker: what is let pass, and what convicts."""

from pathlib import Path

import pytest

from openami.simulator.world.bounds import (
    ACTS_PER_HOUR_MAX,
    ATTEMPTS_PER_HOUR_MAX,
    FILE_BEYOND_OUTBOX_BYTES_MAX,
    LOG_BYTES_MAX,
    GatewayBounds,
)
from openami.simulator.world.witness import PromiseBroken

OUTBOX_BYTES_MAX = 1_000_000


def test_so_many_attempts_an_hour_and_not_one_more() -> None:
    bounds = GatewayBounds("gateway-1")
    for hour in range(3):
        for _ in range(ATTEMPTS_PER_HOUR_MAX):
            bounds.attempted(hour * 3600 + 3599.0)
    with pytest.raises(PromiseBroken, match=r"promise 6.*gateway-1: 601 attempts to connect"):
        bounds.attempted(2 * 3600 + 3599.5)


def test_attempts_and_acts_are_counted_apart() -> None:
    bounds = GatewayBounds("gateway-1")
    for _ in range(ATTEMPTS_PER_HOUR_MAX):
        bounds.attempted(0.0)
    for _ in range(ACTS_PER_HOUR_MAX):
        bounds.acted(1.0)
    with pytest.raises(PromiseBroken, match="session documents"):
        bounds.acted(2.0)
    assert bounds.worst["attempts to connect in an hour"] == ATTEMPTS_PER_HOUR_MAX


@pytest.mark.parametrize(
    ("name", "most", "what"),
    [
        ("gateway.db", OUTBOX_BYTES_MAX + FILE_BEYOND_OUTBOX_BYTES_MAX, "bytes of file"),
        ("gateway.db-wal", LOG_BYTES_MAX, "bytes of log"),
    ],
)
def test_files_have_their_most(tmp_path: Path, name: str, most: int, what: str) -> None:
    bounds, database = GatewayBounds("gateway-1"), tmp_path / "gateway.db"
    bounds.check_files(database, outbox_bytes_max=OUTBOX_BYTES_MAX)  # not made yet
    with (tmp_path / name).open("wb") as file:
        file.truncate(most)
    bounds.check_files(database, outbox_bytes_max=OUTBOX_BYTES_MAX)
    with (tmp_path / name).open("ab") as file:
        file.write(b"1")
    with pytest.raises(PromiseBroken, match=what):
        bounds.check_files(database, outbox_bytes_max=OUTBOX_BYTES_MAX)
