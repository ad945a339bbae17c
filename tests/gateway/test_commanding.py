"""Sessions and commands at the gateway: what moves, what does not, what is told, and what a crash leaves."""

from pathlib import Path

import pytest
from tests.gateway.clock_double import ClockDouble
from tests.gateway.sip_world import Pole

from openami.gateway.driver import RelayPosition
from openami.sip.actions import Action
from openami.sip.reports import ReportStatus


@pytest.fixture
def pole(tmp_path: Path) -> Pole:
    return Pole(tmp_path, ClockDouble(synchronised=False))


async def test_an_honest_command_moves_the_relay_once_and_is_reported(pole: Pole) -> None:
    async with pole.running() as gateway:
        await gateway.ready()
        order = pole.parties.command(Action.DISCONNECT, pole.nonces["s-1"], seq=1)
        await gateway.command(order)
        assert pole.meters["M-1"].moves == [RelayPosition.DISCONNECTED]
        (report,) = await gateway.reports()
        assert (report.status, report.code, report.seq) == (ReportStatus.DONE, "OK", 1)
        assert report.registers[0]["value"] == "disconnected"
        assert report.nonce == pole.nonces["s-1"]
        assert gateway.decided == 1
