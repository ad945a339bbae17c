"""The checklist: what needs a person stands first, a screen is never overrun, and each change is told once."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from openami.conformance.acts import ACTS, ActState
from openami.conformance.bench import Standing
from openami.conformance.checklist import (
    Checklist,
    as_lines,
    changes,
    checklist,
    conclusion,
    sentence,
)
from openami.conformance.judge import Judge
from openami.conformance.judgement import Judgement
from openami.conformance.observation import Connected, Published
from openami.conformance.page import middle, page

NOW = datetime(2026, 6, 22, 8, 0, tzinfo=UTC)
GOOD = (
    b'{"schemaVersion":"0.1","ts":"2026-06-22T08:00:00Z","feederId":"f","gatewayId":"g",'
    b'"meterSerial":"M-1","registers":[{"obis":"1.8.0","value":1.5,"unit":"kWh","quality":"good"}]}'
)


def judged(*payloads: bytes, qos: int = 1) -> Judgement:
    judge = Judge("gateway", began_at=NOW)
    judge.see(Connected(NOW, 1, "pole", "5", False, 60, None, "TLSv1.3", "f/g"))
    for payload in payloads:
        judge.see(
            Published(NOW, "openami/v1/f/g/meter/M-1/telemetry", payload, qos, False, connection=1)
        )
    return judge.judgement(NOW + timedelta(seconds=75))


def shown(
    judgement: Judgement,
    *,
    standings: list[Standing] | None = None,
    news: Mapping[str, int] | None = None,
) -> Checklist:
    made = standings or [Standing(row=row) for row in ACTS if row.kind == "gateway"]
    return checklist(judgement, made, news or {}, ["pole"])


def test_nothing_has_come_yet_and_it_says_so() -> None:
    judge = Judge("gateway", began_at=NOW)
    nothing = checklist(judge.judgement(NOW), [], {}, [])
    assert nothing.waits_for == "waiting for the gateway to connect"
    assert conclusion(nothing.judgement) == "not all of the core was seen yet"
    here = replace(nothing, connected=("pole",))
    assert here.waits_for == "connected: pole; waiting for its first message"
    assert shown(judged(GOOD)).waits_for is None


def test_what_is_broken_stands_first_with_its_remedy() -> None:
    lines = as_lines(shown(judged(GOOD, qos=0)), width=200, height=50)
    assert lines[0].startswith("gateway f/g   01:15")
    assert lines[1].startswith("DOES NOT CONFORM   ✕ failed 1 ·")
    assert lines[3].startswith("✕ OA-QOS-001 Telemetry is published with QoS 1. (1 of 1)")
    assert lines[5] == "    → Set the QoS of telemetry to 1: 0 loses readings, 2 is not asked for."


def test_a_good_gateway_conforms_in_as_many_words() -> None:
    lines = as_lines(shown(judged(GOOD)), width=200, height=50)
    assert lines[1].startswith("CONFORMS   ✕ failed 0 · ▲ warning 0 ·")


@pytest.mark.parametrize("height", [4, 8, 16])
@pytest.mark.parametrize("width", [20, 80])
def test_a_small_screen_is_not_overrun(width: int, height: int) -> None:
    bad = shown(judged(b"{}", b"[]", b"x", qos=0), news={"somebody came without TLS": 3})
    lines = as_lines(bad, width=width, height=height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert lines[-1].startswith("… and ")


def test_a_prompt_says_what_to_press() -> None:
    [row] = [row for row in ACTS if row.act == "meter-unplugged"]
    asked = Standing(row=row, state=ActState.ASKED, prompt="Unplug meter M-1.")
    lines = as_lines(shown(judged(GOOD), standings=[asked]), width=100, height=30)
    assert lines[3:5] == ["☛ Unplug meter M-1.", "  [Enter] it is done   [s, Enter] leave it out"]


def test_a_question_is_answered_with_yes_or_no() -> None:
    [row] = [row for row in ACTS if row.act == "command-without-session"]
    asked = Standing(row=row, state=ActState.UNDERWAY, prompt="Power?", asks_where=True)
    lines = as_lines(shown(judged(GOOD), standings=[asked]), width=100, height=30)
    assert lines[3:5] == ["☛ Power?", "  [y, Enter] yes   [n, Enter] no   [s, Enter] leave it out"]


def test_each_change_is_told_once() -> None:
    first, second = shown(judged(GOOD)), shown(judged(GOOD, b"{}"))
    told = changes(None, first)
    passed = [event for event in told if event.get("verdict") == "passed"]
    assert {"OA-QOS-001", "OA-ENV-005"} <= {event["requirement"] for event in passed}
    assert changes(first, first) == []
    [failed] = [e for e in changes(first, second) if e.get("requirement") == "OA-ENV-005"]
    assert (failed["verdict"], failed["topic"]) == (
        "failed",
        "openami/v1/f/g/meter/M-1/telemetry",
    )
    assert failed["remedy"]
    assert sentence(failed).startswith("✕ failed: OA-ENV-005 ts, feederId")


def test_acts_prompts_and_strangers_are_told_too() -> None:
    rows = [row for row in ACTS if row.kind == "gateway"]
    before = shown(judged(GOOD), standings=[Standing(row=rows[0])])
    after = shown(
        judged(GOOD),
        standings=[Standing(row=rows[0], state=ActState.ASKED, prompt="Do it.", detail="now")],
        news={"old-pole came without TLS": 1},
    )
    told = changes(before, after)
    assert [event["event"] for event in told] == ["act", "asked", "client"]
    assert [sentence(event) for event in told] == [
        f"asked for: {rows[0].title} (now)",
        "☛ Do it.",
        "! old-pole came without TLS",
    ]
    assert all(msgspec.json.encode(event) for event in told)


def test_the_page_escapes_what_a_stranger_says() -> None:
    evil = GOOD.replace(b'"good"', b'"<script>alert(1)</script>"')
    made = page(shown(judged(evil), news={"<b>pole</b> came without TLS": 1}))
    assert "<script>alert" not in made
    assert "&lt;b&gt;pole&lt;/b&gt;" in made
    assert made.count("<script") == 1
    assert "http://" not in made
    assert "https://" not in made


def test_the_middle_of_the_page_is_small_enough_to_be_sent_at_each_change() -> None:
    assert len(middle(shown(judged(GOOD, b"{}", qos=0))).encode()) < 40 * 1024
