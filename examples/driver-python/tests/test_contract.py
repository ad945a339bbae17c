"""The driver keeps the contract every driver keeps."""

import asyncio
from pathlib import Path

import pytest
from openami_pulse_counter.bench import open_bench

from openami.gateway.driver_contract import CHECKS, Check


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_driver_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    async def kept() -> None:
        async with open_bench(tmp_path) as bench:
            await check(bench)

    asyncio.run(kept())
