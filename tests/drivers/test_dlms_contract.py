"""The driver contract, kept by the DLMS driver over each of its transports."""

from pathlib import Path

import pytest
from tests.drivers.dlms_bench import TRANSPORTS, dlms_bench
from tests.drivers.dlms_profile import dlms_profile_bench

from openami.gateway.driver_contract import CHECKS, RELAY_CHECKS, Check, RelayCheck
from openami.gateway.profile_contract import (
    CLOCK_CHECKS,
    PROFILE_CHECKS,
    ClockCheck,
    ProfileCheck,
)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_the_dlms_driver_keeps_the_contract(
    check: Check, transport: str, tmp_path: Path
) -> None:
    async with dlms_bench(transport, tmp_path) as bench:
        await check(bench)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("check", RELAY_CHECKS, ids=lambda check: check.__name__)
async def test_the_dlms_driver_keeps_the_contract_of_relays(
    check: RelayCheck, transport: str, tmp_path: Path
) -> None:
    async with dlms_bench(transport, tmp_path) as bench:
        await check(bench)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("check", PROFILE_CHECKS, ids=lambda check: check.__name__)
async def test_the_dlms_driver_keeps_the_contract_of_load_profiles(
    check: ProfileCheck, transport: str, tmp_path: Path
) -> None:
    async with dlms_profile_bench(transport, tmp_path) as bench:
        await check(bench)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("check", CLOCK_CHECKS, ids=lambda check: check.__name__)
async def test_the_dlms_driver_keeps_the_contract_of_clocks(
    check: ClockCheck, transport: str, tmp_path: Path
) -> None:
    async with dlms_profile_bench(transport, tmp_path) as bench:
        await check(bench)
