"""Storms: many alarms of one kind at once are shown as one, and none is lost or shown twice."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from openami.headend.alarms import Alarm, Origin
from openami.headend.storms import STORM_MORE_THAN, STORM_WITHIN, Cause, Storm, fold
from openami.profile import Severity

NOW = datetime(2026, 6, 22, 14, 30, tzinfo=UTC)


def an_alarm(number: int, at_s: int = 0, *, gateway: str = "g", meter: str = "") -> Alarm:
    at = NOW + timedelta(seconds=at_s)
    return Alarm(
        id=f"{number:04}",
        feeder_id="f",
        gateway_id=gateway,
        meter_serial=meter or f"m-{number}",
        kind="meter_silent",
        origin=Origin.STATE,
        severity=Severity.MAJOR,
        detail="",
        raised_at=at,
        last_at=at,
    )


def test_one_more_than_chance_is_a_storm() -> None:
    some = [an_alarm(n, n * 60) for n in range(STORM_MORE_THAN)]
    assert len(fold(some)) == STORM_MORE_THAN
    [storm] = fold([*some, an_alarm(99, int(STORM_WITHIN.total_seconds()))])
    assert isinstance(storm, Storm)
    assert (storm.count, storm.cause, storm.where) == (STORM_MORE_THAN + 1, Cause.GATEWAY, "g")


def test_the_narrowest_thing_in_common_is_named() -> None:
    on_one_pole = [an_alarm(n) for n in range(6)]
    poles = {("f", f"m-{n}"): "pole-3" for n in range(6)}
    assert _cause(on_one_pole, poles) == (Cause.POLE, "pole-3")
    assert _cause(on_one_pole, {**poles, ("f", "m-5"): "pole-4"}) == (Cause.GATEWAY, "g")
    assert _cause([an_alarm(n, gateway=f"g-{n % 2}") for n in range(6)]) == (Cause.FEEDER, "f")
    assert _cause([an_alarm(n, n, meter="m-1") for n in range(6)]) == (Cause.METER, "m-1")


def _cause(
    alarms: list[Alarm], poles: dict[tuple[str, str], str] | None = None
) -> tuple[Cause, str]:
    [storm] = fold(alarms, poles=poles)
    assert isinstance(storm, Storm)
    return storm.cause, storm.where


@given(st.lists(st.integers(0, 7200), max_size=60), st.integers(1, 6), st.integers(1, 1800))
def test_every_alarm_is_in_exactly_one_place_and_no_crowd_is_left(
    moments: list[int], more_than: int, within_s: int
) -> None:
    alarms = [an_alarm(n, at) for n, at in enumerate(moments)]
    within = timedelta(seconds=within_s)
    folded = fold(alarms, more_than=more_than, within=within)
    storms = [each for each in folded if isinstance(each, Storm)]
    alone = [each for each in folded if isinstance(each, Alarm)]
    shown = [a.id for storm in storms for a in storm.alarms] + [a.id for a in alone]
    assert sorted(shown) == sorted(a.id for a in alarms)
    assert all(storm.count > more_than for storm in storms)
    for each in alone:
        for begin in (a.raised_at for a in alarms):
            if begin <= each.raised_at <= begin + within:
                crowd = sum(begin <= a.raised_at <= begin + within for a in alarms)
                assert crowd <= more_than, "an alarm in a crowd was not folded"
    assert fold(reversed(alarms), more_than=more_than, within=within) == folded
