"""Writes a judgement's reports into a folder: the signed JSON, and what is made from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from openami.conformance.judgement import Judgement
from openami.conformance.report.document import Sealed, TranscriptDigest, seal
from openami.conformance.sheets import Sheets
from openami.keyfiles import write_public
from openami.sip.keys import KeySigner


@dataclass(frozen=True, slots=True)
class Written:
    """The signed report and the files that hold it, by format."""

    sealed: Sealed
    paths: Mapping[str, Path]


def _text(sealed: Sealed) -> bytes:
    from openami.conformance.report.text import text_report

    return text_report(sealed).encode()


def _junit(sealed: Sealed) -> bytes:
    from openami.conformance.report.junit import junit_report

    return junit_report(sealed)


def _html(sealed: Sealed) -> bytes:
    from openami.conformance.report.html import html_report

    return html_report(sealed)


def _pdf(sealed: Sealed) -> bytes:
    from openami.conformance.report.pdf import pdf_report

    return pdf_report(sealed)


# Loaded when asked for: PDF and HTML need libraries that a text does not.
FORMATS: Final[Mapping[str, Callable[[Sealed], bytes]]] = {
    "json": lambda sealed: sealed.data,
    "text": _text,
    "junit": _junit,
    "html": _html,
    "pdf": _pdf,
}
FILE_NAMES: Final[Mapping[str, str]] = {
    "json": "report.json",
    "text": "report.txt",
    "junit": "report.junit.xml",
    "html": "report.html",
    "pdf": "report.pdf",
}


def write_reports(
    judgement: Judgement,
    sheets: Sheets,
    directory: Path,
    key: KeySigner,
    *,
    transcript: TranscriptDigest | None = None,
) -> Written:
    """Write the report in every format, each file whole or not at all; it is dated by the judgement's end.

    Raises KeyFileError for a file that cannot be written, OSError for the folder.
    """
    sealed = seal(judgement, sheets, key, now=judgement.ended_at, transcript=transcript)
    directory.mkdir(parents=True, exist_ok=True)
    paths = {name: directory / FILE_NAMES[name] for name in FORMATS}
    for name, path in paths.items():
        write_public(path, FORMATS[name](sealed))
    return Written(sealed, paths)
