"""The words every format of a report uses, so that they all say the same (pure)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from openami.conformance.bandwidth import BandwidthSheet
from openami.conformance.judgement import Finding, Judgement, Verdict
from openami.link_cost import Assumptions
from openami.profile import one_line, utc_text

# What needs doing stands first.
ORDER: Final[tuple[Verdict, ...]] = (
    "failed", "warning", "not exercised", "passed", "not testable",
)  # fmt: skip

HEADINGS: Final[Mapping[Verdict, str]] = {
    "failed": "Failed",
    "warning": "Warnings",
    "not exercised": "Not exercised",
    "passed": "Passed",
    "not testable": "Not testable",
}

MEANINGS: Final[Mapping[Verdict, str]] = {
    "failed": "What the profile asks for and was broken. Each says by which message, and what to do.",
    "warning": "Where the profile is silent this is how it is read here; nobody fails on it, and others may "
    "read it likewise.",
    "not exercised": "What did not come up. Each says how to bring it about.",
    "passed": "What came up and was kept every time.",
    "not testable": "What profile 0.1 leaves so open that nothing could be judged.",
}

# One sign for each, since colour alone says nothing on paper and to many eyes.
MARKS: Final[Mapping[Verdict, str]] = {
    "failed": "✗",
    "warning": "!",
    "not exercised": "○",
    "passed": "✓",
    "not testable": "–",
}

GAP_MARKS: Final[Mapping[str, str]] = {
    "have": "✓",
    "partly": "!",
    "missing": "✗",
    "not shown": "○",
}


def title(judgement: Judgement) -> str:
    """Return what a report is called."""
    return f"Conformance report: {kind(judgement)} {names(judgement)}"


def kind(judgement: Judgement) -> str:
    """Return the subject's kind as a person says it."""
    return "gateway" if judgement.subject.kind == "gateway" else "head-end"


def names(judgement: Judgement) -> str:
    """Return who was judged."""
    return one_line(", ".join(judgement.subject.names)) or "that said nothing"


def product(judgement: Judgement) -> str:
    """Return vendor, model and firmware as the subject says them; empty where it does not."""
    subject = judgement.subject
    firmware = f"firmware {subject.firmware}" if subject.firmware else ""
    return one_line(" · ".join(part for part in (subject.vendor, subject.model, firmware) if part))


def headline(judgement: Judgement) -> str:
    """Return the whole judgement in a sentence."""
    failed = counts(judgement)["failed"]
    profile = f"the OpenAMI Village northbound MQTT profile {one_line(judgement.profile_version)}"
    if judgement.conforms:
        return f"Conforms to {profile}"
    if failed:
        requirements = "1 requirement" if failed == 1 else f"{failed} requirements"
        return f"Does not conform to {profile}: {requirements} failed"
    return f"Not shown to conform to {profile}: nothing failed, and not all that counts was seen"


def counts(judgement: Judgement) -> dict[Verdict, int]:
    """Return how many requirements have each verdict, in the order of a report."""
    return {
        verdict: sum(finding.verdict == verdict for finding in judgement.findings)
        for verdict in ORDER
    }


def counted(verdict: Verdict, count: int) -> str:
    """Return a verdict as it stands behind its number.

    >>> counted("warning", 2), counted("passed", 2)
    ('warnings', 'passed')
    """
    return "warnings" if verdict == "warning" and count != 1 else verdict


def grouped(judgement: Judgement) -> list[tuple[Verdict, list[Finding]]]:
    """Return the findings by verdict, without the verdicts nothing has."""
    groups = [(v, [f for f in judgement.findings if f.verdict == v]) for v in ORDER]
    return [(verdict, findings) for verdict, findings in groups if findings]


def source(text: str) -> str:
    """Return who asks for it."""
    return "profile 0.1" if text == "profile" else f"{one_line(text)} (the profile is silent)"


def occasions(finding: Finding) -> str:
    """Return how often it came up and was broken."""
    seen = f"{finding.seen} {'occasion' if finding.seen == 1 else 'occasions'}"
    return f"broken on {finding.broken} of {seen}" if finding.broken else f"kept on {seen}"


def moment(at: datetime) -> str:
    """Return a time of the kit's clock as a person reads it, to the millisecond.

    >>> moment(datetime(2026, 6, 22, 14, 30, 0, 250_999, tzinfo=UTC))
    '2026-06-22 14:30:00.250 UTC'
    """
    return (
        utc_text(at.replace(microsecond=at.microsecond // 1000 * 1000))
        .replace("T", " ")
        .replace("Z", " UTC")
    )


def interval(seconds: int | None) -> str:
    """Return an interval in the unit it is whole in.

    >>> interval(900), interval(90), interval(None)
    ('15 min', '90 s', '–')
    """
    if seconds is None:
        return "–"
    for unit_s, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds % unit_s == 0 and seconds:
            return f"{seconds // unit_s} {unit}"
    return f"{seconds} s"


def megabytes(count: int | None, mb_bytes: int = 1_000_000) -> str:
    """Return bytes in megabytes, two decimals.

    >>> megabytes(12_345_678)
    '12.35'
    """
    return "–" if count is None else f"{count / mb_bytes:.2f}"


def money(cost: str | None, currency: str) -> str:
    """Return a cost with its currency."""
    return "–" if cost is None else one_line(f"{cost} {currency}".strip())


def price(sheet: BandwidthSheet) -> str:
    """Return what a bill was reckoned with."""
    if sheet.price_per_mb is None:
        return "No price was given: --price-per-mb, --currency."
    return f"At {money(sheet.price_per_mb, sheet.currency)} for each MB."


def assumptions(assumed: Assumptions) -> Sequence[str]:
    """Return what a bill takes for granted, a sentence each."""
    return (
        f"A month has {assumed.month_days} days; a MB is {assumed.mb_bytes:,} bytes, as networks bill it.",
        "Payload and topic are as they were seen.",
        f"Each message is answered by a PUBACK of {assumed.puback_bytes} bytes.",
        f"TLS adds {assumed.tls_record_bytes} bytes to each packet, TCP and IPv4 {assumed.ip_tcp_bytes} to each "
        f"segment of at most {assumed.segment_bytes:,}; nobody saw these, they are estimated.",
        f"Connections a day: {assumed.connections_per_day}, of {assumed.handshake_bytes:,} bytes each; keep-alive: "
        f"the gateway's own, {assumed.keep_alive_s} s where it was not seen.",
        "Telemetry alone: events, commands, sessions and what is sent again are not in it.",
    )
