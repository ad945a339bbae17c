"""The report as JUnit, as a build reads it."""

from pathlib import Path
from xml.etree.ElementTree import Element, fromstring

import xmlschema
from tests.conformance.report.hostile import hostile
from tests.conformance.report.sample import judgement, sealed

from openami.conformance.report.document import Sealed
from openami.conformance.report.junit import junit_report

SCHEMA = xmlschema.XMLSchema(str(Path(__file__).with_name("junit.xsd")))


def suite_of(report: Sealed) -> Element:
    data = junit_report(report)
    SCHEMA.validate(data.decode())
    suite = fromstring(data).find("testsuite")  # noqa: S314 (we have just made it)
    assert suite is not None
    return suite


def test_failures_fail_and_the_rest_is_skipped() -> None:
    suite = suite_of(sealed())
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "5", "failures": "1", "errors": "0", "skipped": "3",
    }  # fmt: skip
    said = {
        str(case.get("name"))[:10]: [(child.tag, str(child.get("message"))) for child in case]
        for case in suite.iter("testcase")
    }
    assert said["OA-TOP-001"] == []
    assert said["OA-QOS-001"][0][0] == "failure"
    assert said["OA-QOS-001"][0][1].startswith("published with QoS 0: Set the QoS of telemetry")
    assert [said[name][0][0] for name in ("OA-REG-007", "OA-SES-002", "OA-SIP-009")] == [
        "skipped"
    ] * 3
    assert said["OA-REG-007"][0][1].startswith("warning: ")
    assert said["OA-SES-002"][0][1].startswith("not exercised: Connect a meter")


def test_a_failure_shows_the_message_that_broke_it() -> None:
    failure = suite_of(sealed()).find(".//failure")
    assert failure is not None
    assert "meter/DS1000-88422/telemetry" in str(failure.text)
    assert '{"schemaVersion":"0.1"' in str(failure.text)
    assert "what to do: Set the QoS" in str(failure.text)


def test_the_properties_hold_it_together_with_the_signed_report() -> None:
    report = sealed()
    values = {
        str(each.get("name")): each.get("value") for each in suite_of(report).iter("property")
    }
    assert values["report.sha256"] == report.digest
    assert values["report.signedBy"] == report.kid
    assert values["conforms"] == "false"


def test_a_judgement_of_nothing_is_a_suite_too() -> None:
    assert suite_of(sealed(judgement(()))).get("tests") == "0"


def test_hostile_texts_are_texts() -> None:
    """Whatever they try, the document is the same tree, and holds no character that XML has not."""
    suite = suite_of(hostile())
    assert {each.tag for each in suite.iter()} == {
        "testsuite", "properties", "property", "testcase", "failure", "skipped", "system-out", "system-err",
    }  # fmt: skip
    assert len(list(suite.iter("testcase"))) == 15
