"""A judgement on a screen: a line for each requirement, then what is broken and what was not seen (pure)."""

from collections.abc import Iterator
from typing import Final

from openami.conformance.judgement import Evidence, Finding, Judgement, Verdict
from openami.profile import one_line, utc_text

# What a person looks for first stands last, above the prompt.
_ORDER: Final[tuple[Verdict, ...]] = (
    "not testable",
    "passed",
    "not exercised",
    "warning",
    "failed",
)
_CHARS_OF_TEXT: Final = 96


def summary(judgement: Judgement) -> Iterator[str]:
    """Yield the lines of a summary, free of anything a terminal would obey."""
    findings = judgement.findings
    for finding in findings:
        yield f"{finding.verdict:<13}  {finding.requirement}  {_shortened(finding.text)}"
    for verdict in _ORDER:
        chosen = [each for each in findings if each.verdict == verdict]
        if verdict == "not exercised" and chosen:
            yield ""
            yield "How to bring about what was not exercised:"
            yield from (f"  {each.requirement}  {each.exercise or _ORDINARY}" for each in chosen)
        if verdict in ("warning", "failed"):
            for each in chosen:
                yield ""
                yield from _broken(each)
    yield ""
    counts = [f"{_count(findings, verdict)} {verdict}" for verdict in reversed(_ORDER)]
    yield f"{_names(judgement)}: {_conclusion(judgement)} ({', '.join(counts)})"


_ORDINARY: Final = "Ordinary readings show it: let the gateway publish."


def _broken(finding: Finding) -> Iterator[str]:
    by = f", by {', '.join(finding.broken_by)}" if finding.broken_by else ""
    yield f"{finding.verdict.upper()} {finding.requirement}: {finding.text} ({finding.source})"
    yield f"  {finding.broken} of {finding.seen} times{by}"
    for evidence in finding.evidence:
        yield from _evidence(evidence)
    yield f"  remedy: {finding.remedy}"


def _evidence(evidence: Evidence) -> Iterator[str]:
    place = f" {evidence.pointer}" if evidence.pointer else ""
    yield f"  {utc_text(evidence.at)}  {evidence.topic}{place}"
    yield f"    {evidence.detail}"
    if evidence.excerpt:
        yield f"    {evidence.excerpt}"


def _conclusion(judgement: Judgement) -> str:
    if judgement.conforms:
        return f"conforms to profile {judgement.profile_version}"
    if any(finding.verdict == "failed" for finding in judgement.findings):
        return "does NOT conform"
    return "not known to conform: what every reading shows was not seen"


def _names(judgement: Judgement) -> str:
    names = judgement.subject.names
    return one_line(", ".join(names)) if names else f"no {judgement.subject.kind} was heard"


def _count(findings: tuple[Finding, ...], verdict: Verdict) -> int:
    return sum(finding.verdict == verdict for finding in findings)


def _shortened(text: str) -> str:
    return text if len(text) <= _CHARS_OF_TEXT else text[: _CHARS_OF_TEXT - 1] + "…"
