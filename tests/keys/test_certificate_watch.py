"""The gateway's watch over its certificate: warned at 30, 7 and 1 days, renewed at two thirds."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.keys.test_enrolment import real_village, serving
from tests.keys.villages import GATEWAY, NOW, enrolled, new_village

from openami.gateway.certificate import valid_until
from openami.gateway.certificate_watch import CertificateWatch
from openami.gateway.enrolment import GatewayKeys, enrol_by_token
from openami.gateway.entries import Draft
from openami.gateway.normalise import Source
from openami.gateway.snapshot import UplinkView
from openami.headend.certificate_watch import look
from openami.pki.certificates import LIFE
from openami.pki.expiry import Warned, warning
from openami.profile import FeederId, GatewayId


class SetClock:
    """A clock that shows what it is set to."""

    def __init__(self, now: datetime) -> None:
        self.at = now

    def now(self) -> datetime:
        return self.at

    def boottime(self) -> float:
        return 1.0

    def synchronised(self) -> bool:
        return True


class Pole:
    """A watch, and what it told."""

    def __init__(
        self, keys: GatewayKeys, clock: SetClock, *, url: str = "", trusted: bool = True
    ) -> None:
        self.told: list[Draft] = []
        self.view = UplinkView("broker")
        self.clock = clock
        self.watch = CertificateWatch(
            keys.transport_file,
            keys=keys if url else None,
            url=url,
            source=Source(FeederId("feeder-1"), GatewayId("gateway-1")),
            clock=clock,
            clock_trusted=lambda: trusted,
            view=self.view,
            append=self._append,
        )

    async def _append(self, drafts: Sequence[Draft]) -> None:
        self.told += drafts

    async def at(self, now: datetime) -> list[str]:
        """Look at this time; return the new events' details."""
        self.clock.at = now
        before = len(self.told)
        await self.watch.look()
        return [str(d.envelope.event and d.envelope.event.detail) for d in self.told[before:]]


@pytest.mark.parametrize("days", [30, 7, 1, 0])
def test_a_warning_at_each_step_once(days: int) -> None:
    """To the second; and not again until the next step."""
    until, step = NOW + timedelta(days=100), timedelta(days=days)
    previous = Warned(until, timedelta(days=days + 1))
    assert warning(until, until - step - timedelta(seconds=1), previous) in (None, previous)
    due = warning(until, until - step, previous)
    assert due == Warned(until, step)
    assert warning(until, until - step, due) is None
    assert warning(until + LIFE, until - step, due) is None


def test_a_gateway_that_was_off_is_told_the_latest_step_only() -> None:
    until = NOW + timedelta(days=5)
    assert warning(until, NOW, None) == Warned(until, timedelta(days=7))
    assert warning(until, until + timedelta(days=1), None) == Warned(until, timedelta(0))


async def test_it_warns_by_event_and_shows_the_end(tmp_path: Path) -> None:
    village = new_village(tmp_path / "operator")
    keys = enrolled(village, tmp_path / "gateway", now=NOW)
    pole = Pole(keys, SetClock(NOW))
    until = NOW + LIFE
    assert await pole.at(until - timedelta(days=31)) == []
    assert pole.view.certificate_until == until
    (detail,) = await pole.at(until - timedelta(days=30))
    assert "in 30 days" in detail
    assert await pole.at(until - timedelta(days=29)) == []
    (detail,) = await pole.at(until + timedelta(hours=1))
    assert "expired on" in detail
    event = pole.told[0].envelope.event
    assert event is not None
    assert (event.type, event.severity) == ("certificate_expiring", "major")


async def test_an_untrusted_clock_warns_of_nothing(tmp_path: Path) -> None:
    """In 1970 nothing expires, and in 2099 everything has."""
    keys = enrolled(new_village(tmp_path / "operator"), tmp_path / "gateway", now=NOW)
    pole = Pole(keys, SetClock(NOW), trusted=False)
    assert await pole.at(NOW + LIFE * 2) == []
    assert pole.view.certificate_until == NOW + LIFE


def test_the_head_end_says_it_too(tmp_path: Path) -> None:
    """In its log, once for each step; a file that is gone is said, and ends nothing."""
    file = new_village(tmp_path / "operator").transport_file("hes-1")
    until = NOW + LIFE
    assert look(file, SetClock(until - timedelta(days=31)), None) is None
    said = look(file, SetClock(until - timedelta(days=30)), None)
    assert said == Warned(until, timedelta(days=30))
    assert look(file, SetClock(until - timedelta(days=8)), said) is None
    assert look(file, SetClock(until - timedelta(days=7)), said) == Warned(until, timedelta(days=7))
    assert look(tmp_path / "gone.pem", SetClock(until), said) is None


async def test_it_renews_when_two_thirds_are_over(tmp_path: Path) -> None:
    """Over real HTTPS, without a token or a person; a server that is away is asked again."""
    _, desk, moved = real_village(tmp_path / "operator")
    start = moved.now
    keys = GatewayKeys(tmp_path / "gateway")
    with serving(desk) as (url, said):
        token = desk.new_token(GATEWAY)
        await asyncio.to_thread(
            lambda: enrol_by_token(keys, GATEWAY, url=url, token=token, now=start)
        )
        pole = Pole(keys, SetClock(start), url=url)
        assert await pole.at(start + LIFE * 0.6) == []
        assert len(said) == 1
        away = Pole(keys, SetClock(start), url="https://127.0.0.1:1")
        assert await away.at(start + LIFE * 0.7) == []
        assert away.view.certificate_until == valid_until(keys.transport_file.read_text())
        before = away.view.certificate_until
        moved.now = start + LIFE * 0.7
        assert await pole.at(moved.now) == []
    assert before is not None
    assert pole.view.certificate_until is not None
    assert pole.view.certificate_until - before == pytest.approx(
        LIFE * 0.7, abs=timedelta(seconds=1)
    )
