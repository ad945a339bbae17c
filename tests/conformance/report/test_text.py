"""The text report, word for word."""

import os
from pathlib import Path

from tests.conformance.report.sample import ENDED, SIGNER, judgement, sealed, traffic

from openami.conformance.report.document import seal
from openami.conformance.report.text import WIDTH, text_report
from openami.conformance.sheets import sheets_of

GOLDEN = Path(__file__).with_name("golden.txt")


def test_the_text_is_as_it_was_read_and_found_good() -> None:
    """OPENAMI_WRITE_GOLDEN=1 writes it anew; read what has changed."""
    text = text_report(sealed())
    if os.environ.get("OPENAMI_WRITE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_no_line_is_wider_than_a_page() -> None:
    assert max(map(len, text_report(sealed()).splitlines())) <= WIDTH


def test_a_judgement_of_nothing_is_a_report_too() -> None:
    text = text_report(sealed(judgement(())))
    assert "Not shown to conform" in text
    assert "Signature" in text


def test_a_bill_nobody_gave_a_price_or_an_interval_for_has_no_columns_for_them() -> None:
    text = text_report(seal(judgement(), sheets_of(judgement(), traffic()), SIGNER, now=ENDED))
    assert "A gateway's month, in MB" in text
    for word in ("Cost", "chosen"):
        assert word not in text
