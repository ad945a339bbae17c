"""The PDF report, read back by another library."""

import re
from datetime import timedelta
from io import BytesIO

from pypdf import PdfReader
from tests.conformance.report.hostile import hostile
from tests.conformance.report.sample import (
    BEGAN,
    ENDED,
    FINDINGS,
    PLAIN,
    SIGNER,
    judgement,
    sealed,
    telemetry,
    traffic,
)

from openami.conformance.judgement import Subject
from openami.conformance.report.document import Sealed, seal
from openami.conformance.report.pdf import pdf_report
from openami.conformance.sheets import sheets_of


def pages_of(report: Sealed) -> list[str]:
    return [page.extract_text() for page in PdfReader(BytesIO(pdf_report(report))).pages]


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def test_its_text_can_be_read_and_copied() -> None:
    report = sealed()
    text = plain(" ".join(pages_of(report)))
    for words in (
        "Does not conform to the OpenAMI Village northbound MQTT profile 0.1: 1 requirement failed.",
        "OA-QOS-001 Telemetry is published with QoS 1.",
        "broken on 12 of 40 occasions",
        '{"schemaVersion":"0.1"',
        "Set the QoS of telemetry to 1: 0 loses readings, 2 is not asked for.",
        "decision 0015 (the profile is silent)",
        "/registers/2/unit",
        "Connect a meter with a relay and let the kit send its commands.",
        "Prepaid credit remaining",
        "0.60 EUR",
        report.digest,
        report.kid,
    ):
        assert words in text, words


def test_every_page_has_its_number_and_the_digest() -> None:
    report = sealed()
    pages = pages_of(report)
    assert len(pages) > 2
    for number, page in enumerate(pages, 1):
        assert f"page {number} of {len(pages)}" in page
        assert report.digest[:16] in page


def test_the_document_says_what_it_is() -> None:
    report = sealed()
    reader = PdfReader(BytesIO(pdf_report(report)))
    assert reader.metadata is not None
    assert (
        reader.metadata.title == "Conformance report: gateway feeder-north-paravur-01/pole-ems-0042"
    )
    assert reader.metadata.subject == f"SHA-256 of report.json {report.digest}"
    assert str(reader.root_object["/Lang"]) == "en"


def test_the_same_report_is_the_same_pdf() -> None:
    assert pdf_report(sealed()) == pdf_report(sealed())


def test_hostile_texts_are_printed_and_do_nothing() -> None:
    data = pdf_report(hostile())
    reader = PdfReader(BytesIO(data))
    text = "".join(page.extract_text() for page in reader.pages)
    assert "<script>document.title='owned'</script>" in text.replace("\n", "")
    assert "\\u0928" in text
    assert "\\x1b[2J" in text
    assert not any("/Annots" in page for page in reader.pages)
    for name in (b"/JavaScript", b"/OpenAction", b"/URI"):
        assert name not in data


def test_a_village_of_meters_and_more_gateways_than_a_page_is_wide() -> None:
    """Headings are repeated where a table goes on, and every gateway has its column somewhere."""
    seen = traffic(
        iter(
            telemetry(f"M-{meter:03}", BEGAN + timedelta(minutes=15 * n), PLAIN)
            for n in range(5)
            for meter in range(120)
        )
    )
    names = tuple(f"feeder-north-paravur-01/pole-ems-{number:04}" for number in range(5))
    said = judgement(FINDINGS, subject=Subject("gateway", names))
    pages = pages_of(seal(said, sheets_of(said, seen), SIGNER, now=ENDED))
    text = plain(" ".join(pages))
    assert all(f"M-{meter:03}" in text for meter in range(120))
    assert all(name in text.replace(" ", "") for name in names)
    assert sum("Not known to be" in plain(page) for page in pages) > 1
