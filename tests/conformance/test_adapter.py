"""An adapter may crash, hang or babble at any case: it is told of that case, and the run goes on."""

import asyncio
import sys
from pathlib import Path

import pytest

from openami.conformance.adapter import HANGS_MAX, AdapterError, AdapterProcess
from openami.conformance.adapter_contract import (
    ANSWER_BYTES_MAX,
    Answer,
    Question,
    Silence,
    read_answer,
    read_question,
)
from openami.conformance.our_reader import answer
from openami.conformance.vectors import shipped_vectors

# Answers every case but the third, where it does what a test wants to see.
ADAPTER = """
import json, os, signal, sys, time
for line in sys.stdin:
    case = json.loads(line)["case"]
    said = json.dumps({"case": case, "verdict": "accept"})
    if case == 3:
        %s
    print(said, flush=True)
"""


def adapter(at_the_third: str) -> list[str]:
    return [sys.executable, "-c", ADAPTER % at_the_third]


def question(case: int) -> Question:
    return Question(case, "topic", "openami/v1/f/g/meter/m/telemetry", "2026-06-22T14:31:00Z")


async def asked(
    command: list[str], cases: range, *, answer_wait_s: float = 5
) -> dict[int, Answer | Silence]:
    async with AdapterProcess(command, answer_wait_s=answer_wait_s) as process:
        return {case: await process.ask(question(case)) for case in cases}


def how(said: Answer | Silence) -> str:
    return said.how if isinstance(said, Silence) else said.verdict


@pytest.mark.parametrize(
    ("at_the_third", "expected", "detail"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "crashed", "ended by SIGSEGV"),
        ("sys.exit('no such register')", "crashed", "code 1; it said: no such register"),
        ("raise ValueError('a bad byte')", "crashed", "it said: ValueError: a bad byte"),
        ("sys.exit()", "ended", "without an answer"),
        ("sys.stdout.write('{'); sys.exit()", "crashed", "in the middle of a line"),
        ("os.close(1); time.sleep(60)", "crashed", "closed its output"),
        ("said = 'ok'", "garbage", "'ok' is not an answer"),
        ("said = ''", "garbage", "is not an answer"),
        ('said = \'{"case":3,"verdict":"maybe"}\'', "garbage", "Invalid enum value"),
        ("said = '[' * 5000", "garbage", "is not an answer"),
        ("sys.stdout.buffer.write(bytes([255])); said = ''", "garbage", "is not an answer"),
        ("said = json.dumps({'case': 2, 'verdict': 'accept'})", "garbage", "answered case 2"),
        (f"said = 'x' * {ANSWER_BYTES_MAX + 1}", "too much output", f"{ANSWER_BYTES_MAX} bytes"),
        ("\n        while True: sys.stdout.write('x' * 65536)", "too much output", "bytes"),
    ],
)
async def test_a_fall_is_told_of_its_case_and_the_others_are_answered(
    at_the_third: str, expected: str, detail: str
) -> None:
    found = await asked(adapter(at_the_third), range(1, 6))
    assert {case: how(said) for case, said in found.items()} == {
        1: "accept", 2: "accept", 3: expected, 4: "accept", 5: "accept",
    }  # fmt: skip
    third = found[3]
    assert isinstance(third, Silence)
    assert detail in third.detail


async def test_a_hang_costs_its_time_out_and_no_more() -> None:
    clock = asyncio.get_running_loop().time
    began = clock()
    found = await asked(adapter("time.sleep(600)"), range(1, 6), answer_wait_s=3)
    assert [how(said) for said in found.values()] == [
        "accept", "accept", "hung", "accept", "accept",
    ]  # fmt: skip
    assert 3 <= clock() - began < 30


async def test_who_does_not_read_its_input_hangs_and_does_not_hold_the_kit() -> None:
    deaf = [sys.executable, "-c", "import time; time.sleep(600)"]
    long = Question(1, "telemetry", "t", "2026-06-22T14:31:00Z", payload_hex="00" * 1_000_000)
    async with AdapterProcess(deaf, answer_wait_s=0.3) as process:
        assert how(await process.ask(long)) == "hung"


async def test_who_hangs_at_every_case_is_not_asked_for_ever() -> None:
    deaf = [sys.executable, "-c", "import time; time.sleep(600)"]
    found = await asked(deaf, range(1, HANGS_MAX + 3), answer_wait_s=0.05)
    assert [how(said) for said in found.values()] == [*["hung"] * HANGS_MAX, *["not asked"] * 2]


async def test_an_answer_too_many_is_not_taken_for_the_next_ones() -> None:
    twice = adapter("print(said, flush=True)")
    found = await asked(twice, range(1, 7))
    assert [how(said) for said in found.values()] == [*["accept"] * 3, "garbage", *["accept"] * 2]


async def test_one_process_a_case_will_do() -> None:
    one_shot = (
        "import json; case = json.loads(input())['case'];"
        "print(json.dumps({'case': case, 'verdict': 'reject', 'reason': 'r' * 1000}))"
    )
    found = await asked([sys.executable, "-c", one_shot], range(1, 5))
    assert [how(said) for said in found.values()] == ["reject"] * 4
    assert all(isinstance(said, Answer) and len(said.reason) == 300 for said in found.values())


async def test_what_an_adapter_started_goes_with_it() -> None:
    nested = [
        "sh",
        "-c",
        f"exec 3>&1; ({sys.executable} -c 'import time; time.sleep(600)' & echo $! >&2; wait)",
    ]
    async with AdapterProcess(nested, answer_wait_s=2) as process:
        said = await process.ask(question(1))
    assert isinstance(said, Silence)
    child = int(said.detail.rpartition(" ")[2])
    for _ in range(100):
        if not is_alive(child):
            break
        await asyncio.sleep(0.02)
    assert not is_alive(child)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_much_talk_on_stderr_is_read_and_forgotten() -> None:
    found = await asked(adapter("print('x' * 3_000_000, file=sys.stderr)"), range(1, 5))
    assert [how(said) for said in found.values()] == ["accept"] * 4


@pytest.mark.parametrize("command", [["/no/such/adapter"], ["/etc/hostname"], ["/"]])
async def test_what_cannot_be_started_is_told_at_once(command: list[str]) -> None:
    with pytest.raises(AdapterError, match="cannot be started"):
        async with AdapterProcess(command):
            pass


def test_a_question_is_one_line_whatever_the_case_holds() -> None:
    for number, vector in enumerate(shipped_vectors(), 1):
        line = vector.question(number).line()
        assert line.count(b"\n") == 1
        asked_again = read_question(line)
        assert asked_again == vector.question(number)
        assert bytes.fromhex(asked_again.payload_hex or "") == (vector.payload or b"")
        # Nothing in it tells which answer is right.
        assert vector.id.encode() not in line


def test_an_answer_is_read_back() -> None:
    said = answer(question(7))
    assert said == Answer(
        7,
        "accept",
        parsed={"kind": "telemetry", "feederId": "f", "gatewayId": "g", "meterSerial": "m"},
    )
    assert read_answer(said.line(), case=7) == said
    assert how(read_answer(said.line(), case=8)) == "garbage"
