"""A search, run on a port in bounded time."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from openami.gateway.scan.conversation import Conversation
from openami.gateway.scan.findings import Clash, Finding, Found, Noise, PortSetting, ScanResult
from openami.gateway.scan.ports import Port, SettingRefused
from openami.gateway.scan.search import ONE_FOR_ALL, Search, Trial, one_for_all

WITHIN_S: Final = 180.0
"""How long a scan takes at most, unless told otherwise: what a person waits beside a meter. What has been begun is
ended: the read-out of an optical meter takes up to 70 s."""
FINDINGS_MAX: Final = 1000  # a line has 247 addresses; more is a line that babbles
NOISES_MAX: Final = 5  # the first few show what the others are like
_UNTRIED_MAX: Final = 40  # stages named as untried; there are 30 at most
_UNTRIED_TRIALS_MAX: Final = 20_000  # a search has 12 settings of 247 addresses


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a scan is."""

    trial: Trial
    elapsed_s: float
    within_s: float
    found: int


async def run(
    search: Search,
    port: Port,
    *,
    within_s: float = WITHIN_S,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_finding: Callable[[Finding], None] = lambda _: None,
) -> ScanResult:
    """Ask what the search asks until it has no more questions or the time is over.

    Raises LineDown when the port itself is not there. The port is closed behind it.
    """
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    findings: list[Finding] = []
    remarks: dict[str, None] = {}
    refused: set[PortSetting | None] = set()
    untried: dict[str, None] = {}
    questions = 0
    last: Trial | None = None
    try:
        trial = next(search)
        while True:
            elapsed_s = loop.time() - began_at
            if elapsed_s >= within_s or len(findings) >= FINDINGS_MAX:
                untried = _stages(trial, search)
                break
            on_progress(Progress(trial, elapsed_s, within_s, len(findings)))
            found: tuple[Finding, ...] = ()
            if trial.setting not in refused:
                try:
                    fresh = last is None or last.protocol != trial.protocol
                    await port.prepare(trial.setting, fresh=fresh)
                    found, asked = await _converse(trial.begin(), port, trial.setting)
                    questions += asked
                except SettingRefused as refusal:
                    refused.add(trial.setting)
                    remarks[str(refusal)] = None
            last = trial
            for finding in found:
                if _is_new(finding, findings):
                    findings.append(finding)
                    on_finding(finding)
            trial = search.send(found)
    except StopIteration:
        pass
    finally:
        search.close()
        port.close()
    folded = one_for_all(findings)
    if len(folded) < len(findings):
        remarks[ONE_FOR_ALL] = None
    return ScanResult(
        findings=folded,
        questions=questions,
        elapsed_s=loop.time() - began_at,
        untried=tuple(untried),
        remarks=tuple(remarks),
    )


async def _converse(
    conversation: Conversation[tuple[Finding, ...]], port: Port, setting: PortSetting | None
) -> tuple[tuple[Finding, ...], int]:
    """Return what a conversation found, and how many questions it put."""
    questions = 0
    character_s = 0.0 if setting is None else setting.character_s
    try:
        ask = next(conversation)
        while True:
            wait_s = ask.wait_s
            if ask.send:
                questions += 1
                await port.send(ask.send)
                # The bytes are handed over, not yet on the line; and the first one back takes its time.
                wait_s += (len(ask.send) + 1) * character_s
            ask = conversation.send(await port.receive(wait_s))
    except StopIteration as end:
        found: tuple[Finding, ...] = end.value
        return found, questions


def _is_new(finding: Finding, known: list[Finding]) -> bool:
    if isinstance(finding, Noise):
        return sum(isinstance(one, Noise) for one in known) < NOISES_MAX
    return not any(_is_same(finding, one) for one in known if not isinstance(one, Noise))


def _is_same(finding: Found | Clash, known: Found | Clash) -> bool:
    if finding.setting != known.setting or finding.address.protocol != known.address.protocol:
        return False
    if finding.address == known.address:
        return True
    if finding.address.is_modbus or not (isinstance(finding, Found) and isinstance(known, Found)):
        return False
    # A DLMS meter may hear its address in two bytes and in four.
    return finding.serial is not None and finding.serial == known.serial


def _stages(trial: Trial, search: Search) -> dict[str, None]:
    """Return what was planned from here on, were all of it silent."""
    stages = {trial.stage: None}
    for _ in range(_UNTRIED_TRIALS_MAX):
        try:
            stages[search.send(()).stage] = None
        except StopIteration:
            break
        if len(stages) >= _UNTRIED_MAX:
            break
    return stages
