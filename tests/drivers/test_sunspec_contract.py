"""The driver contract, kept for SunSpec meters over TCP and over a serial line."""

from pathlib import Path

import pytest
from tests.drivers.sunspec_bench import sunspec_bench

from openami.gateway.driver_contract import CHECKS, Check


@pytest.mark.parametrize("transport", ["tcp", "rtu"])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_a_sunspec_meter_keeps_the_contract(
    check: Check, transport: str, tmp_path: Path
) -> None:
    async with sunspec_bench(transport, tmp_path) as bench:
        await check(bench)
