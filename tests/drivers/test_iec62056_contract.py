"""The driver contract, kept by the IEC 62056-21 driver over each of its transports."""

from pathlib import Path

import pytest
from tests.drivers.iec62056_bench import TRANSPORTS, read_out_bench

from openami.gateway.driver_contract import CHECKS, Check


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_the_iec_62056_21_driver_keeps_the_contract(
    check: Check, transport: str, tmp_path: Path
) -> None:
    async with read_out_bench(transport, tmp_path) as bench:
        await check(bench)
