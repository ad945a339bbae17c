"""The soak in small: hours of silence written into an outbox, drained by the real programs, compared one by one."""

from pathlib import Path

import pytest
from benchmarks.soak import is_sound, silence_until, soak
from tests.tools import require_tool

from openami.clock import SystemClock


@pytest.mark.broker
@pytest.mark.slow
async def test_two_hours_of_twenty_meters_arrive_once_and_unchanged(tmp_path: Path) -> None:
    require_tool("mosquitto")
    silence = silence_until(SystemClock().now(), meters=20, hours=2, interval_s=30)
    figures = await soak(tmp_path, silence)
    assert figures["envelopes"] == 20 * 2 * 120
    assert figures["readings"] == 3 * 20 * 2 * 120
    assert is_sound(figures), figures
    # One reading short, and it is no longer sound.
    assert not is_sound(figures | {"lost": 1})
