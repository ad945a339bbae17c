"""The report as JUnit XML, for a vendor's build: what failed is a failure, what is no pass is skipped (pure).

A warning is skipped and not failed: nobody fails on a decision of ours. The form is the one that the schema of
Ant's JUnitReport and Jenkins' xunit plugin both admit.
"""

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from openami.conformance.judgement import Evidence, Finding
from openami.conformance.report import words
from openami.conformance.report.document import Sealed
from openami.profile import one_line, utc_text


def junit_report(sealed: Sealed) -> bytes:
    """Return the report as JUnit XML in UTF-8."""
    judgement = sealed.report.judgement
    counts = words.counts(judgement)
    root = Element("testsuites")
    suite = SubElement(
        root,
        "testsuite",
        {
            "name": f"conformance of {words.kind(judgement)} {words.names(judgement)}",
            "package": "openami.conformance",
            "id": "0",
            "timestamp": f"{judgement.began_at:%Y-%m-%dT%H:%M:%S}",
            "hostname": "localhost",
            "tests": str(len(judgement.findings)),
            "failures": str(counts["failed"]),
            "errors": "0",
            "skipped": str(len(judgement.findings) - counts["failed"] - counts["passed"]),
            "time": f"{(judgement.ended_at - judgement.began_at).total_seconds():.0f}",
        },
    )
    _properties(SubElement(suite, "properties"), sealed)
    for finding in judgement.findings:
        _case(suite, finding)
    SubElement(suite, "system-out").text = words.headline(judgement)
    SubElement(suite, "system-err")
    indent(root)
    text: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _properties(properties: Element, sealed: Sealed) -> None:
    judgement = sealed.report.judgement
    values = {
        "conforms": str(judgement.conforms).lower(),
        "profile": judgement.profile_version,
        "kit": judgement.kit_version,
        "product": words.product(judgement),
        "report.sha256": sealed.digest,
        "report.signedBy": sealed.kid,
        "report.signedAt": utc_text(sealed.signed_at),
        **{f"count.{verdict}": str(n) for verdict, n in words.counts(judgement).items()},
    }
    for name, value in values.items():
        SubElement(properties, "property", name=name, value=one_line(value))


def _case(suite: Element, finding: Finding) -> None:
    case = SubElement(
        suite,
        "testcase",
        {
            "name": one_line(f"{finding.requirement} {finding.text}"),
            "classname": one_line(finding.source.replace(" ", ".")),
            "time": "0",
        },
    )
    match finding.verdict:
        case "passed":
            return
        case "failed":
            failure = SubElement(case, "failure", type="profile", message=_message(finding))
            failure.text = _told(finding)
        case "warning":
            skipped = SubElement(case, "skipped", message=f"warning: {_message(finding)}")
            skipped.text = _told(finding)
        case "not exercised":
            exercise = one_line(finding.exercise)
            SubElement(case, "skipped", message=f"not exercised: {exercise}")
        case "not testable":
            SubElement(case, "skipped", message=f"not testable: {one_line(finding.how)}")


def _message(finding: Finding) -> str:
    first = one_line(finding.evidence[0].detail) if finding.evidence else ""
    return ": ".join(part for part in (first, one_line(finding.remedy)) if part)


def _told(finding: Finding) -> str:
    return "\n".join(
        [
            f"asked by {words.source(finding.source)}; {words.occasions(finding)}",
            one_line(finding.how),
            *(_evidence(evidence) for evidence in finding.evidence),
            f"what to do: {one_line(finding.remedy)}",
        ]
    )


def _evidence(evidence: Evidence) -> str:
    place = f" at {evidence.pointer}" if evidence.pointer else ""
    on = f" on {evidence.topic}{place}" if evidence.topic else ""
    excerpt = f" | {evidence.excerpt}" if evidence.excerpt else ""
    return one_line(f"{utc_text(evidence.at)} {evidence.detail}{on}{excerpt}")
