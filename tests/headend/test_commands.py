"""What the operator reads: each command, as a person and as a program sees it."""

import asyncio
import csv
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.headend.messages import EVENT, EVENT_TOPIC, TOPIC, message, message_of, payload, register
from tests.headend.new_store import new_store

from openami.cli import main
from openami.cli.moments import parse_moment
from openami.clock import SystemClock
from openami.headend.ingest import Accepted, Message, ingest
from openami.headend.store.open import open_store
from openami.headend.validate import LatestValues, validate
from openami.profile import shipped_catalogue, utc_text

CATALOGUE = shipped_catalogue()
SERIAL = "DS1000-88421"
FEEDER = "feeder-north-paravur-01"


def filled(url: str, messages: Sequence[Message]) -> str:
    """Commit messages as the head-end would."""

    async def commit() -> None:
        latest = LatestValues()
        decisions = []
        for each in messages:
            decision = ingest(each, catalogue=CATALOGUE)
            if isinstance(decision, Accepted):
                found = validate(decision, catalogue=CATALOGUE, latest=latest)
                decision = Accepted(
                    decision.kind, decision.envelope, each, decision.rejected_items, found
                )
            decisions.append(decision)
        async with open_store(url) as store:
            await store.commit(decisions)

    asyncio.run(commit())
    return url


@pytest.fixture
def url(tmp_path: Path) -> str:
    return new_store(tmp_path / "headend.db")


def openami(url: str, *arguments: str, code: int = 0, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(main, [*arguments], env={"OPENAMI_STORE": url}, input=stdin)
    assert result.exit_code == code, (result.output, result.exception)
    return result


def rows(url: str, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
    output = openami(url, *arguments, "--json", code=code).stdout
    return [json.loads(line) for line in output.splitlines()]


# --- meter ---------------------------------------------------------------------------------------


def test_readings_as_json_have_the_profiles_words(url: str) -> None:
    filled(url, [message()])
    found = rows(url, "meter", "readings", SERIAL)
    assert {row["obis"] for row in found} == {"1.8.0", "96.8.0", "96.11.1"}
    energy = next(row for row in found if row["obis"] == "1.8.0")
    assert energy == {
        "feederId": FEEDER,
        "meterSerial": SERIAL,
        "obis": "1.8.0",
        "ts": "2026-06-22T14:30:00Z",
        "value": 1842.5,
        "unit": "kWh",
        "quality": "good",
        "receivedAt": "2026-06-22T14:30:02Z",
    }
    relay = next(row for row in found if row["obis"] == "96.11.1")
    assert relay["value"] == "connected"


def test_readings_for_a_person(url: str) -> None:
    filled(url, [message()])
    lines = openami(url, "meter", "readings", SERIAL).stdout.splitlines()
    assert lines[0].split() == ["TS", "OBIS", "VALUE", "UNIT", "QUALITY", "RECEIVEDAT"]
    assert ["2026-06-22T14:30:00Z", "1.8.0", "1842.5", "kWh", "good", "2026-06-22T14:30:02Z"] in [
        line.split() for line in lines
    ]
    assert len(lines) == 4


def test_readings_as_csv(url: str) -> None:
    tricky = register(obis="96.1.0", value='a,"b"', unit="")
    filled(url, [message(payload(registers=[tricky, register()]))])
    table = list(
        csv.DictReader(io.StringIO(openami(url, "meter", "readings", SERIAL, "--csv").stdout))
    )
    assert {row["value"] for row in table} == {'a,"b"', "1842.5"}
    assert table[0]["feederId"] == FEEDER


def test_readings_of_one_register_and_of_a_time(url: str) -> None:
    days = ["2026-06-20T00:00:00Z", "2026-06-21T00:00:00Z", "2026-06-22T00:00:00Z"]
    filled(url, [message(payload(ts=day)) for day in days])

    def times(*arguments: str) -> list[str]:
        found = rows(url, "meter", "readings", SERIAL, "--obis", "1-0:1.8.0*255", *arguments)
        assert all(row["obis"] == "1.8.0" for row in found)
        return [row["ts"] for row in found]

    assert times() == days
    assert times("--since", "2026-06-21") == days[1:], "since is included"
    assert times("--until", "2026-06-21") == days[:1], "until is not"
    assert times("--since", "2026-06-21T05:30:00+05:30") == days[1:]
    assert times("--since", "2026-06-21T00:00:00.001Z") == days[2:]


def test_a_question_without_an_answer_says_so_on_stderr(url: str) -> None:
    filled(url, [message()])
    result = openami(url, "meter", "readings", SERIAL, "--since", "1m", "--json")
    assert result.stdout == ""
    assert "no readings in this time" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--since", "yesterday"], "'yesterday' is no moment"),
        (["--obis", "1.8"], "is not an OBIS code"),
        (["--csv", "--json"], "not both"),
    ],
)
def test_a_question_that_cannot_be_asked(url: str, arguments: list[str], says: str) -> None:
    filled(url, [message()])
    assert says in openami(url, "meter", "readings", SERIAL, *arguments, code=2).stderr


@pytest.mark.parametrize("command", ["show", "readings"])
def test_a_meter_nobody_has_heard_of(url: str, command: str) -> None:
    filled(url, [message()])
    said = openami(url, "meter", command, "M-0", code=1).stderr
    assert "no meter 'M-0' was ever heard of" in said
    other = openami(url, "meter", command, SERIAL, "--feeder", "f-2", code=1).stderr
    assert "on feeder f-2" in other


@pytest.mark.parametrize("command", ["show", "readings"])
def test_a_serial_on_two_feeders_has_to_be_told_apart(url: str, command: str) -> None:
    topic = TOPIC.replace(FEEDER, "feeder-south")
    filled(url, [message(), message(payload(feederId="feeder-south"), topic=topic)])
    said = openami(url, "meter", command, SERIAL, code=2).stderr
    assert f"{FEEDER}, feeder-south" in said
    assert "--feeder" in said
    found = rows(url, "meter", command, SERIAL, "--feeder", "feeder-south")
    assert found[0]["feederId"] == "feeder-south"


def heard_now(serial: str, **members: Any) -> Message:
    """Return a message that has just come, so that its meter is not silent."""
    now = SystemClock().now()
    sent = message_of(serial, ts=utc_text(now.replace(microsecond=0)), **members)
    return Message(sent.topic, sent.payload, now)


def test_meters_are_listed_with_their_states(url: str) -> None:
    long_ago = SystemClock().now() - timedelta(hours=2)
    silent = TOPIC.replace("pole-ems-0042", "pole-2").replace(SERIAL, "M-4")
    gone = payload(ts=utc_text(long_ago), meterSerial="M-4", gatewayId="pole-2")
    filled(
        url,
        [
            heard_now("M-1"),
            heard_now("M-2", registers=[register(quality="suspect")]),
            heard_now("M-3", registers=[register(quality="comms_lost")]),
            Message(silent, gone, long_ago),
        ],
    )
    assert {row["meterSerial"]: row["state"] for row in rows(url, "meter", "list")} == {
        "M-1": "reporting",
        "M-2": "suspect",
        "M-3": "meter_silent",
        "M-4": "gateway_silent",
    }
    table = openami(url, "meter", "list", "--feeder", FEEDER).stdout.splitlines()
    assert table[0].split() == ["METER", "STATE", "FEEDER", "GATEWAY", "MEASURED", "RECEIVED"]
    assert len(table) == 5
    (feeder,) = rows(url, "feeder", "show", FEEDER)
    assert feeder["meterStates"] == {
        "reporting": 1,
        "suspect": 1,
        "meter_silent": 1,
        "gateway_silent": 1,
    }
    assert {g["gatewayId"]: (g["state"], g["meters"]) for g in feeder["gatewayRows"]} == {
        "pole-ems-0042": ("reporting", 3),
        "pole-2": ("gateway_silent", 1),
    }


def test_a_meter_is_shown_with_what_to_look_at(url: str) -> None:
    filled(
        url,
        [
            message(),
            message(payload(registers=[register(value=1)])),
            message(payload(registers=[register(obis="32.7.0", value=1001, unit="V")])),
            message(payload(event=EVENT), topic=EVENT_TOPIC),
        ],
    )
    (shown,) = rows(url, "meter", "show", SERIAL)
    assert {row["obis"] for row in shown["latest"]} == {"1.8.0", "96.8.0", "96.11.1", "32.7.0"}
    assert {row["code"] for row in shown["findings"]} >= {"OUT_OF_RANGE"}
    assert shown["events"][0]["type"] == "tamper.cover_open"
    (conflict,) = shown["conflicts"]
    assert (conflict["kept"]["value"], conflict["other"]["value"]) == (1842.5, 1)
    text = openami(url, "meter", "show", SERIAL).stdout
    for expected in (SERIAL, "1842.5", "OUT_OF_RANGE", "tamper.cover_open", "conflict at"):
        assert expected in text


def test_a_text_from_outside_cannot_steer_the_terminal(url: str) -> None:
    evil = register(obis="96.1.0", value="\x1b[2J\x07", unit="")
    filled(url, [message(payload(registers=[evil])), message(b"\x1b]0;gone\x07")])
    for arguments in (
        ["meter", "readings", SERIAL],
        ["meter", "show", SERIAL],
        ["reject", "show", "1"],
    ):
        output = openami(url, *arguments).stdout
        assert "\x1b" not in output
        assert "\\x1b" in output


# --- feeder --------------------------------------------------------------------------------------


def test_feeders_are_listed(url: str) -> None:
    filled(url, [message(), message_of("M-2")])
    (row,) = rows(url, "feeder", "list")
    assert (row["feederId"], row["gateways"], row["meters"]) == (FEEDER, 1, 2)
    assert FEEDER in openami(url, "feeder", "list").stdout
    assert "gateways 1 · meters 2" in openami(url, "feeder", "show", FEEDER).stdout


def test_a_feeder_nobody_has_heard_of(url: str) -> None:
    filled(url, [message()])
    assert "no feeder 'f-2'" in openami(url, "feeder", "show", "f-2", code=1).stderr


# --- reject --------------------------------------------------------------------------------------

AHEAD = "2026-06-22T14:35:02.001Z"


def test_a_rejected_message_is_listed_and_shown(url: str) -> None:
    filled(url, [message(b"{}"), message(b"{}"), message(b"\xff\xfe")])
    found = {row["code"]: row for row in rows(url, "reject", "list")}
    assert found["MISSING_MEMBER"]["count"] == 2
    assert found["BAD_UTF8"]["bytes"] == 2
    (shown,) = rows(url, "reject", "show", str(found["MISSING_MEMBER"]["id"]))
    assert (shown["payload"], shown["path"], shown["requirement"]) == ("{}", "/ts", "OA-ENV-005")
    (binary,) = rows(url, "reject", "show", str(found["BAD_UTF8"]["id"]))
    assert binary["payloadBase64"] == "//4="
    assert "\\xff\\xfe" in openami(url, "reject", "show", str(binary["id"])).stdout


def test_what_was_ahead_of_the_clock_is_stored_when_it_is_replayed(url: str) -> None:
    filled(url, [message(payload(ts=AHEAD))])
    (kept,) = rows(url, "reject", "list")
    assert kept["code"] == "TIME_IN_FUTURE"
    (verdict,) = rows(url, "reject", "replay", str(kept["id"]))
    assert (verdict["stored"], verdict["stillRejected"]) == (3, [])
    reading = rows(url, "meter", "readings", SERIAL)[0]
    assert reading["ts"].startswith("2026-06-22T14:35:02.001")
    assert reading["receivedAt"] == "2026-06-22T14:30:02Z", "when it came, not when it was replayed"
    assert rows(url, "reject", "list") == []
    (replayed,) = rows(url, "reject", "list", "--status", "replayed")
    assert replayed["id"] == kept["id"]


def test_what_is_still_wrong_stays_rejected(url: str) -> None:
    filled(url, [message(b"{}"), message(payload(ts=AHEAD))])
    verdicts = rows(url, "reject", "replay", "--all", code=1)
    assert sorted(bool(v["stillRejected"]) for v in verdicts) == [False, True]
    (left,) = rows(url, "reject", "list")
    assert left["code"] == "MISSING_MEMBER"
    text = openami(url, "reject", "replay", str(left["id"]), code=1).stdout
    assert "still rejected: MISSING_MEMBER at /ts" in text


def test_a_register_list_that_allows_it_lets_the_rest_of_a_message_in(
    url: str, tmp_path: Path
) -> None:
    filled(url, [message(payload(registers=[register(), register(obis="1.7.0", unit="W")]))])
    (kept,) = rows(url, "reject", "list")
    assert kept["partial"] is True
    own = tmp_path / "own.json"
    own.write_text('{"registers":[{"obis":"1.7.0","name":"n","unit":"W","certainty":"A"}]}')
    (verdict,) = rows(url, "reject", "replay", str(kept["id"]), "--registers", str(own))
    assert (verdict["stored"], verdict["duplicates"]) == (1, 1)
    assert len(rows(url, "meter", "readings", SERIAL)) == 2


@pytest.mark.parametrize("arguments", [[], ["1", "--all"]])
def test_what_to_replay_has_to_be_said(url: str, arguments: list[str]) -> None:
    filled(url, [message(b"{}")])
    assert "--all" in openami(url, "reject", "replay", *arguments, code=2).stderr


def test_dropping_has_to_be_meant(url: str) -> None:
    filled(url, [message(b"{}")])
    (kept,) = rows(url, "reject", "list")
    assert "--yes" in openami(url, "reject", "drop", str(kept["id"]), code=2).stderr
    assert len(rows(url, "reject", "list")) == 1
    (dropped,) = rows(url, "reject", "drop", str(kept["id"]), "--yes")
    assert dropped == {"id": kept["id"], "status": "dropped"}
    assert rows(url, "reject", "list") == []


@pytest.mark.parametrize("command", [["show"], ["replay"], ["drop", "--yes"]])
def test_a_kept_message_that_is_not_there(url: str, command: list[str]) -> None:
    filled(url, [message()])
    said = openami(url, "reject", *command, "77", code=1).stderr
    assert "there is no kept message 77" in said


# --- all of them ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ["meter", "list"],
        ["meter", "show", "M"],
        ["meter", "readings", "M"],
        ["feeder", "list"],
        ["feeder", "show", "F"],
        ["feeder", "completeness", "F"],
        ["reject", "list"],
        ["reject", "replay", "1"],
    ],
)
def test_a_store_that_is_not_there_is_one_sentence_and_is_not_made(
    tmp_path: Path, command: list[str]
) -> None:
    result = openami(f"sqlite:///{tmp_path}/none.db", *command, code=2)
    assert result.stderr.startswith("openami: ")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "none.db").exists()


NOW = datetime(2026, 6, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90m", NOW - timedelta(minutes=90)),
        ("12h", NOW - timedelta(hours=12)),
        ("7d", NOW - timedelta(days=7)),
        ("4w", NOW - timedelta(weeks=4)),
        ("2026-06-01", datetime(2026, 6, 1, tzinfo=UTC)),
        ("2026-06-01T05:30", datetime(2026, 6, 1, 5, 30, tzinfo=UTC)),
        ("2026-06-01T05:30:00+05:30", datetime(2026, 6, 1, tzinfo=UTC)),
    ],
)
def test_a_moment_is_how_long_ago_or_when(text: str, moment: datetime) -> None:
    assert parse_moment(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "7", "d", "-7d", "7y", "999999w", "2026-13-01", "now"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(ValueError, match="is no moment"):
        parse_moment(text, NOW)
