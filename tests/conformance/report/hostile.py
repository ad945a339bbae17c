"""A judgement in which everything that comes from outside wants to be something else than text."""

from tests.conformance.report.sample import (
    BEGAN,
    ENDED,
    SIGNER,
    finding,
    judgement,
    telemetry,
    topic,
    traffic,
)

from openami.conformance.judgement import Evidence, Judgement, Subject
from openami.conformance.report.document import Sealed, seal
from openami.conformance.sheets import sheets_of

TEXTS = (
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    '"><svg onload=alert(1)>',
    "{{ 7*7 }} {% raw %} {# #}",
    "</pre></style><h1>Passed</h1><para>&lt;b&gt;</para>",
    "<b><font color='red'><a href='http://evil/'>x</a></b>",
    "]]> --> <![CDATA[ <!ENTITY x SYSTEM 'file:///etc/passwd'> &x;",
    "line one\r\nline two\x1b[2J\x1b]0;owned\x07\x00\x08",
    "\u202edessap\u202c \u2066x\u2069 \ufeff\u200b",
    "नमस्ते 漢字 \U0001f4a9 \ufffe\uffff \ud800 e\u0301",
    "%s %(x)s %n {0} \\n \\u0041 \\x1b",
    "W" * 5000,
)


def evil(at: int) -> str:
    return TEXTS[at % len(TEXTS)]


def hostile_judgement() -> Judgement:
    findings = tuple(
        finding(
            f"OA-TOP-{number:03}",
            text=evil(number) if number % 2 else "A message travels on one of four topics.",
            how=evil(number + 1),
            verdict=verdict,
            broken=0 if verdict in ("passed", "not exercised", "not testable") else 3,
            evidence=tuple(
                Evidence(
                    BEGAN,
                    evil(number + n),
                    evil(number + n + 1),
                    evil(number + n + 2),
                    evil(number + n + 3),
                )
                for n in range(5)
            ),
            remedy=evil(number + 4),
            exercise=evil(number + 5),
            broken_by=(evil(number),),
        )
        for number, verdict in enumerate(
            ("failed", "warning", "not exercised", "passed", "not testable") * 3
        )
    )
    subject = Subject("gateway", TEXTS[:9], evil(0), evil(4), evil(7))
    return judgement(findings, subject=subject, profile_version=evil(1), kit_version=evil(6))


def hostile() -> Sealed:
    said = hostile_judgement()
    # What has passed the profile's own reader can still be no unit of this world.
    units = [
        ("1.8.0", evil(n), evil(n)[:200].replace("\x00", "").replace("\ud800", ""), "good")
        for n in (0, 3, 7, 8)
    ]
    seen = traffic(iter([telemetry("M-1", BEGAN, [each]) for each in units]))
    assert topic("M-1")
    return seal(said, sheets_of(said, seen), SIGNER, now=ENDED)
