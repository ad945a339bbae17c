"""The outcomes of the vectors as JUnit XML, for a vendor's build: a class for each kind (pure).

As in the report of a judgement (`conformance/report/junit.py`) a warning is skipped and not failed, and so is
what was declined.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from openami.conformance.vectors import Outcome
from openami.profile import one_line


def junit_vectors(outcomes: Sequence[Outcome], *, began_at: datetime) -> bytes:
    """Return the outcomes as JUnit XML in UTF-8."""
    verdicts = Counter(outcome.verdict for outcome in outcomes)
    root = Element("testsuites")
    suite = SubElement(
        root,
        "testsuite",
        {
            "name": "vectors",
            "package": "openami.conformance",
            "id": "0",
            "timestamp": f"{began_at:%Y-%m-%dT%H:%M:%S}",
            "hostname": "localhost",
            "tests": str(len(outcomes)),
            "failures": str(verdicts["failed"]),
            "errors": "0",
            "skipped": str(verdicts["warning"] + verdicts["declined"]),
            "time": "0",
        },
    )
    SubElement(suite, "properties")
    for outcome in outcomes:
        _case(suite, outcome)
    SubElement(suite, "system-out")
    SubElement(suite, "system-err")
    indent(root)
    text: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _case(suite: Element, outcome: Outcome) -> None:
    kind, _, name = outcome.id.partition("/")
    case = SubElement(suite, "testcase", name=name, classname=f"vectors.{kind}", time="0")
    said = one_line(f"{outcome.what()}. {outcome.comment} {outcome.remedy}")
    match outcome.verdict:
        case "passed":
            pass
        case "failed":
            SubElement(case, "failure", type=outcome.answered, message=said)
        case "warning":
            SubElement(case, "skipped", message=f"warning ({outcome.source}): {said}")
        case "declined":
            SubElement(case, "skipped", message=f"declined: {one_line(outcome.detail)}")
