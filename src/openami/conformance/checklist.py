"""The checklist: every requirement with its verdict so far, what is being done, and what a person is to do (pure).

Made anew from the judgement whenever somebody looks; the terminal, the page and ``--json`` show the same one.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from openami.conformance.acts import ActState
from openami.conformance.bench import Standing
from openami.conformance.judgement import Finding, Judgement, Verdict
from openami.conformance.observation import Act
from openami.profile import utc_text

# Shape and word, never colour alone; what needs a person first.
SHAPES: Final[Mapping[Verdict, str]] = {
    "failed": "✕",
    "warning": "▲",
    "not exercised": "○",
    "passed": "✓",
    "not testable": "–",
}
ORDER: Final = tuple(SHAPES)
_ACT_SHAPES: Final[Mapping[ActState, str]] = {
    ActState.WAITING: "○",
    ActState.ASKED: "☛",
    ActState.UNDERWAY: "…",
    ActState.DONE: "✓",
    ActState.NOT_NEEDED: "✓",
    ActState.SKIPPED: "–",
    ActState.FAILED: "▲",
    ActState.TIMED_OUT: "▲",
}


@dataclass(frozen=True, slots=True)
class ActLine:
    """An act as it is shown."""

    act: Act
    title: str
    state: ActState
    detail: str

    @property
    def shape(self) -> str:
        """What stands before it."""
        return _ACT_SHAPES[self.state]


@dataclass(frozen=True, slots=True)
class Checklist:
    """What is known by ``at``, for a person."""

    judgement: Judgement
    acts: tuple[ActLine, ...]
    prompt: str | None
    """What the person is asked to do now."""
    asks_where: bool
    """Whether that is a question, to be answered with yes or no."""
    news: tuple[str, ...]
    connected: tuple[str, ...]
    """Who is connected, by client name."""

    @property
    def counts(self) -> Mapping[Verdict, int]:
        """How many requirements have each verdict."""
        counted = Counter(finding.verdict for finding in self.judgement.findings)
        return {verdict: counted[verdict] for verdict in ORDER}

    @property
    def findings(self) -> Sequence[Finding]:
        """The findings, what needs a person first."""
        return sorted(self.judgement.findings, key=lambda f: ORDER.index(f.verdict))

    @property
    def waits_for(self) -> str | None:
        """What nothing can go on without; None when something has come."""
        if self.judgement.subject.names:
            return None
        if not self.connected:
            return f"waiting for the {self.judgement.subject.kind} to connect"
        return f"connected: {', '.join(self.connected)}; waiting for its first message"


def checklist(
    judgement: Judgement,
    standings: Sequence[Standing],
    news: Mapping[str, int],
    connected: Sequence[str],
) -> Checklist:
    """Return the checklist of now."""
    acts = tuple(ActLine(s.row.act, s.row.title, s.state, _detail(s)) for s in standings)
    asking = next((s for s in standings if s.prompt is not None), None)
    told = tuple(f"{text} (×{times})" if times > 1 else text for text, times in news.items())
    return Checklist(
        judgement=judgement,
        acts=acts,
        prompt=None if asking is None else asking.prompt,
        asks_where=asking is not None and asking.asks_where,
        news=told,
        connected=tuple(connected),
    )


def _detail(standing: Standing) -> str:
    return f"needs {standing.row.needs}" if standing.state is ActState.WAITING else standing.detail


# --- for a terminal ------------------------------------------------------------------------------


def as_lines(shown: Checklist, *, width: int, height: int) -> Sequence[str]:
    """Return the checklist as at most so many lines: a screenful, what needs a person first."""
    head = _head(shown)
    body = [*_prompt(shown), *_broken(shown), *_news(shown), *_acts(shown), *_open(shown)]
    room = max(height - len(head), 1)
    if len(body) > room:
        body = [
            *body[: room - 1],
            f"… and {len(body) - room + 1} lines more: see the page or the report",
        ]
    return [_cut(line, width) for line in (*head, *body)]


def _head(shown: Checklist) -> list[str]:
    judgement = shown.judgement
    lasted = int((judgement.ended_at - judgement.began_at).total_seconds())
    names = ", ".join(judgement.subject.names) or shown.waits_for or ""
    counts = " · ".join(f"{SHAPES[v]} {v} {n}" for v, n in shown.counts.items())
    return [
        f"{judgement.subject.kind} {names}   {lasted // 60:02}:{lasted % 60:02}",
        f"{conclusion(judgement)}   {counts}",
        "",
    ]


def conclusion(judgement: Judgement) -> str:
    """Return in a few words whether it conforms."""
    if judgement.conforms:
        return "CONFORMS"
    if any(finding.verdict == "failed" for finding in judgement.findings):
        return "DOES NOT CONFORM"
    return "not all of the core was seen yet"


def _prompt(shown: Checklist) -> Iterator[str]:
    if shown.prompt is not None:
        yield f"☛ {shown.prompt}"
        yes = "[y, Enter] yes   [n, Enter] no" if shown.asks_where else "[Enter] it is done"
        yield f"  {yes}   [s, Enter] leave it out"
        yield ""


def _broken(shown: Checklist) -> Iterator[str]:
    for finding in shown.findings:
        if finding.verdict in ("failed", "warning"):
            yield (
                f"{SHAPES[finding.verdict]} {finding.requirement} {finding.text} "
                f"({finding.broken} of {finding.seen})"
            )
            for evidence in finding.evidence[:1]:
                place = f"{evidence.topic}{evidence.pointer}"
                yield f"    {evidence.detail} {place}".rstrip()
            yield f"    → {finding.remedy}"


def _news(shown: Checklist) -> Iterator[str]:
    yield from (f"! {text}" for text in shown.news)


def _acts(shown: Checklist) -> Iterator[str]:
    for line in shown.acts:
        # The title last: a narrow screen cuts what stands in the documents too.
        detail = f" ({line.detail})" if line.detail else ""
        yield f"{line.shape} {line.state.value}{detail}: {line.title}"


def _open(shown: Checklist) -> Iterator[str]:
    for verdict in ("not exercised", "passed"):
        numbers = [f.requirement for f in shown.findings if f.verdict == verdict]
        if numbers:
            yield f"{verdict}: {' '.join(number.removeprefix('OA-') for number in numbers)}"


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"


# --- change by change ----------------------------------------------------------------------------


def changes(before: Checklist | None, now: Checklist) -> Sequence[Mapping[str, Any]]:
    """Return what is different, as one event each: the lines of ``--json``."""
    at = utc_text(now.judgement.ended_at)
    return [
        {"at": at, **event}
        for event in (
            *_new_verdicts(before, now),
            *_moved_acts(before, now),
            *_new_prompt(before, now),
            *_new_sentences(before, now),
        )
    ]


def _new_verdicts(before: Checklist | None, now: Checklist) -> Iterator[dict[str, Any]]:
    known = {} if before is None else {f.requirement: f for f in before.judgement.findings}
    for finding in now.judgement.findings:
        old = known.get(finding.requirement)
        if finding.verdict == ("not exercised" if old is None else old.verdict):
            continue
        if old is None and finding.verdict == "not testable":
            continue
        event: dict[str, Any] = {
            "event": "verdict",
            "requirement": finding.requirement,
            "verdict": finding.verdict,
            "text": finding.text,
            "source": finding.source,
        }
        if finding.broken and finding.evidence:
            evidence = finding.evidence[0]
            event |= {
                "detail": evidence.detail,
                "topic": evidence.topic,
                "pointer": evidence.pointer,
                "excerpt": evidence.excerpt,
                "remedy": finding.remedy,
            }
        yield event


def _moved_acts(before: Checklist | None, now: Checklist) -> Iterator[dict[str, Any]]:
    known = {} if before is None else {line.act: line.state for line in before.acts}
    for line in now.acts:
        if line.state is not known.get(line.act, ActState.WAITING):
            yield {
                "event": "act",
                "act": line.act.value,
                "state": line.state.value,
                "title": line.title,
                "detail": line.detail,
            }


def _new_prompt(before: Checklist | None, now: Checklist) -> Iterator[dict[str, Any]]:
    if now.prompt is not None and (before is None or before.prompt != now.prompt):
        yield {"event": "asked", "text": now.prompt}


def _new_sentences(before: Checklist | None, now: Checklist) -> Iterator[dict[str, Any]]:
    known = () if before is None else before.news
    for sentence in now.news:
        if sentence not in known:
            yield {"event": "client", "text": sentence}


def sentence(event: Mapping[str, Any]) -> str:
    """Return an event as one line for a person."""
    match event["event"]:
        case "verdict":
            detail = f" — {event['detail']} → {event['remedy']}" if "detail" in event else ""
            verdict = event["verdict"]
            return f"{SHAPES[verdict]} {verdict}: {event['requirement']} {event['text']}{detail}"
        case "act":
            detail = f" ({event['detail']})" if event["detail"] else ""
            return f"{event['state']}: {event['title']}{detail}"
        case "asked":
            return f"☛ {event['text']}"
        case _:
            return f"! {event['text']}"
