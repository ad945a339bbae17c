"""The report as PDF, for whoever files it: text that can be searched and copied, numbered pages.

The standard fonts know the characters of Western Europe; any other one that came from outside is printed as its
number, ``\\u0928``, which is what a reader of a byte dump wants anyway.
"""

from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any, Final
from xml.sax.saxutils import escape

from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    Flowable,
    Frame,
    KeepTogether,
    LongTable,
    PageTemplate,
    Paragraph,
    Spacer,
    TableStyle,
)
from reportlab.platypus import Table as Grid

from openami.conformance.judgement import Evidence, Finding
from openami.conformance.report import words
from openami.conformance.report.document import Sealed
from openami.conformance.report.tables import Section, Table, sections
from openami.profile import one_line

_MARGIN = 18 * mm
_WIDTH = A4[0] - 2 * _MARGIN
# A page holds some 5,000 characters, and a paragraph has to be of use on it.
_TEXT_CHARS_MAX: Final = 1500
# A row has to fit on a page in the narrowest of its columns, and a heading beside its rows.
_CELL_CHARS_MAX: Final = 400
_HEAD_CHARS_MAX: Final = 80
# Points: a longer word is broken, a column with longer texts is as wide as what is left.
_WORD_WIDTH_MAX: Final = 46 * mm
_COLUMN_WIDTH_MAX: Final = 80 * mm
_PADDING: Final = 4
_SHORT_CHARS: Final = 15
# Columns of gateways that a portrait page holds beside what is asked.
_GATEWAYS_ACROSS: Final = 2

_INK, _QUIET, _LINE, _SOFT = map(HexColor, ("#1c1f1d", "#565e59", "#d0d5d1", "#f3f4f1"))
_COLOURS: Final = {
    "failed": ("#a51616", "#fde9e7"),
    "warning": ("#7d4a00", "#fff3dc"),
    "not exercised": ("#4a5560", "#eceff1"),
    "passed": ("#17633a", "#e5f3ea"),
    "not testable": ("#4a5560", "#eceff1"),
}
_STATE_COLOURS: Final = {
    "have": "#17633a",
    "partly": "#7d4a00",
    "missing": "#a51616",
    "not shown": "#4a5560",
}

_BODY = ParagraphStyle("body", fontName="Helvetica", fontSize=9, leading=12.5, textColor=_INK)
_TITLE = ParagraphStyle("title", _BODY, fontName="Helvetica-Bold", fontSize=18, leading=22)
_KIND = ParagraphStyle("kind", _BODY, fontSize=10, textColor=_QUIET, spaceAfter=2)
_HEADING = ParagraphStyle(
    "heading",
    _BODY,
    fontName="Helvetica-Bold",
    fontSize=13,
    leading=16,
    spaceBefore=16,
    spaceAfter=2,
    keepWithNext=1,
)
_ABOUT = ParagraphStyle("about", _BODY, textColor=_QUIET, spaceAfter=6, keepWithNext=1)
_CAPTION = ParagraphStyle(
    "caption", _BODY, fontName="Helvetica-Bold", spaceBefore=8, spaceAfter=3, keepWithNext=1
)
_NOTE = ParagraphStyle("note", _BODY, textColor=_QUIET, leftIndent=6, firstLineIndent=-6)
_SAID = ParagraphStyle("said", _BODY, fontName="Helvetica-Bold", fontSize=12, leading=16)
_LABEL = ParagraphStyle("label", _BODY, fontSize=8, textColor=_QUIET)
_STRONG = ParagraphStyle("strong", _BODY, fontName="Helvetica-Bold")
_CODE = ParagraphStyle(
    "code", _BODY, fontName="Courier", fontSize=7.5, leading=9.5, splitLongWords=1, wordWrap="CJK"
)
_CELL = ParagraphStyle("cell", _BODY, fontSize=7.5, leading=9.5)
_NUMBER = ParagraphStyle("number", _CELL, alignment=2)
_HEAD = ParagraphStyle("head", _CELL, fontName="Helvetica-Bold", textColor=_QUIET)
_HEAD_NUMBER = ParagraphStyle("headnumber", _HEAD, alignment=2)


def pdf_report(sealed: Sealed) -> bytes:
    """Return the report as PDF; the same bytes for the same report."""
    judgement = sealed.report.judgement
    out = BytesIO()
    document = BaseDocTemplate(
        out,
        pagesize=A4,
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN,
        title=_shown(words.title(judgement)),
        author=f"openami {_shown(judgement.kit_version)}",
        subject=f"SHA-256 of report.json {sealed.digest}",
        lang="en",
        invariant=1,
    )
    frame = Frame(_MARGIN, _MARGIN, _WIDTH, A4[1] - 2 * _MARGIN, 0, 0, 0, 0)
    document.addPageTemplates(PageTemplate("page", [frame]))
    document.build(list(_story(sealed)), canvasmaker=_numbered(sealed))
    return out.getvalue()


def _numbered(sealed: Sealed) -> type[Canvas]:
    """Return a canvas that writes the foot of each page when it knows how many there are."""
    name = _shown(words.names(sealed.report.judgement))

    class Numbered(Canvas):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._pages: list[dict[str, Any]] = []

        def showPage(self) -> None:  # noqa: N802
            self._pages.append(dict(self.__dict__))
            self._startPage()  # type: ignore[attr-defined]

        def save(self) -> None:
            for number, page in enumerate(self._pages, 1):
                self.__dict__.update(page)
                self.setFont("Helvetica", 7)
                self.setFillColor(_QUIET)
                at = _MARGIN - 8 * mm
                self.drawString(
                    _MARGIN, at, f"{name[:70]}  ·  report.json SHA-256 {sealed.digest[:16]}…"
                )
                self.drawRightString(A4[0] - _MARGIN, at, f"page {number} of {len(self._pages)}")
                super().showPage()
            super().save()

    return Numbered


def _story(sealed: Sealed) -> Iterator[Flowable]:
    yield from _head(sealed)
    for verdict, findings in words.grouped(sealed.report.judgement):
        yield _heading(f"{words.HEADINGS[verdict]} ({len(findings)})")
        yield _text(words.MEANINGS[verdict], _ABOUT)
        for finding in findings:
            yield from _finding(finding)
    for section in sections(sealed.report):
        yield from _section(section)
    yield from _foot(sealed)


def _head(sealed: Sealed) -> Iterator[Flowable]:
    judgement = sealed.report.judgement
    counts = words.counts(judgement)
    yield _text(f"Conformance report, {words.kind(judgement)}", _KIND)
    yield _text(words.names(judgement), _TITLE)
    yield Spacer(0, 8)
    verdict = "passed" if judgement.conforms else "failed" if counts["failed"] else "not exercised"
    ink, soft = _COLOURS[verdict]
    said = Grid([[_text(f"{words.headline(judgement)}.", _SAID)]], [_WIDTH])
    said.setStyle(
        TableStyle(
            [
                ("BACKGROUND", (0, 0), (-1, -1), HexColor(soft)),
                ("LINEBEFORE", (0, 0), (0, -1), 4, HexColor(ink)),
                ("LEFTPADDING", (0, 0), (-1, -1), 12),
                ("TOPPADDING", (0, 0), (-1, -1), 8),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 9),
            ]
        )
    )
    yield said
    yield Spacer(0, 6)
    cells = [
        Paragraph(f'<font size="13"><b>{count}</b></font>  {words.counted(verdict, count)}', _BODY)
        for verdict, count in counts.items()
    ]
    numbers = Grid([cells], [_WIDTH / len(cells)] * len(cells))
    numbers.setStyle(
        TableStyle(
            [
                ("BOX", (0, 0), (-1, -1), 0.5, _LINE),
                ("INNERGRID", (0, 0), (-1, -1), 0.5, _LINE),
                *(
                    ("LINEABOVE", (column, 0), (column, 0), 2, HexColor(_COLOURS[verdict][0]))
                    for column, verdict in enumerate(counts)
                ),
                ("TOPPADDING", (0, 0), (-1, -1), 6),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 7),
            ]
        )
    )
    yield numbers
    yield Spacer(0, 8)
    product = words.product(judgement)
    yield _facts(
        [
            *([("Product", _text(f"{product} (its own words)"))] if product else []),
            (
                "Judged",
                _text(f"{words.moment(judgement.began_at)} to {words.moment(judgement.ended_at)}"),
            ),
            ("Kit", _text(f"openami {judgement.kit_version}")),
            ("Signed by", _text(sealed.kid, _CODE)),
            ("SHA-256", _text(sealed.digest, _CODE)),
        ]
    )


def _foot(sealed: Sealed) -> Iterator[Flowable]:
    rows = [
        ("SHA-256 of report.json", _text(sealed.digest, _CODE)),
        ("Signed by the key", _text(sealed.kid, _CODE)),
        ("On", _text(words.moment(sealed.signed_at))),
    ]
    transcript = sealed.report.transcript
    if transcript is not None:
        rows.append(("SHA-256 of the transcript", _text(transcript.sha256, _CODE)))
    yield KeepTogether(
        [
            _heading("Signature"),
            _text(
                "This document is made from report.json, which is what counts. Whoever has both can hold them "
                "together: openami conformance verify report.json",
                _ABOUT,
            ),
            _facts(rows, label=40 * mm),
        ]
    )


# --- findings ------------------------------------------------------------------------------------


def _finding(finding: Finding) -> Iterator[Flowable]:
    ink, _ = _COLOURS[finding.verdict]
    number, asked = escape(_shown(finding.requirement)), escape(_shown(finding.text))
    title = Paragraph(f'<font color="{ink}"><b>{number}</b></font>  <b>{asked}</b>', _BODY)
    rows: list[tuple[str, list[Flowable]]] = [
        ("Asked by", [_text(words.source(finding.source))]),
        ("How", [_text(finding.how)]),
    ]
    if finding.seen:
        rows.append(("Came up", [_text(words.occasions(finding))]))
    if finding.evidence:
        broken = bool(finding.broken)
        shown = [part for each in finding.evidence for part in _evidence(each, broken=broken)]
        rows.append(("Broken" if finding.broken else "First seen", shown))
    if finding.broken and finding.remedy:
        rows.append(("What to do", [_text(finding.remedy, _STRONG)]))
    if finding.verdict == "not exercised" and finding.exercise:
        rows.append(("Exercise it", [_text(finding.exercise, _STRONG)]))
    grid = Grid(
        [[title, ""], *([_text(label, _LABEL), cell] for label, cell in rows)],
        [22 * mm, _WIDTH - 22 * mm],
        splitInRow=1,
    )
    grid.setStyle(
        TableStyle(
            [
                ("SPAN", (0, 0), (-1, 0)),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LINEBEFORE", (0, 0), (0, -1), 2.5, HexColor(ink)),
                ("LEFTPADDING", (0, 0), (0, -1), 9),
                ("TOPPADDING", (0, 0), (-1, -1), 1.5),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5),
                ("NOSPLIT", (0, 0), (-1, 1)),
            ]
        )
    )
    yield KeepTogether([grid, Spacer(0, 9)])


def _evidence(evidence: Evidence, *, broken: bool) -> Iterator[Flowable]:
    at = words.moment(evidence.at)
    yield _text(f"{evidence.detail}  ({at})" if evidence.detail else at)
    if evidence.topic:
        place = f"  at {evidence.pointer}" if evidence.pointer else ""
        yield _text(f"{evidence.topic}{place}", _CODE)
    if evidence.excerpt and broken:
        yield _text(f"| {evidence.excerpt}", _CODE)


def _facts(rows: Sequence[tuple[str, Flowable]], label: float = 22 * mm) -> Flowable:
    grid = Grid([[_text(name, _LABEL), cell] for name, cell in rows], [label, _WIDTH - label])
    grid.setStyle(
        TableStyle(
            [
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LEFTPADDING", (0, 0), (0, -1), 0),
                ("TOPPADDING", (0, 0), (-1, -1), 1),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 1),
            ]
        )
    )
    return grid


# --- the sheets ----------------------------------------------------------------------------------


def _section(section: Section) -> Iterator[Flowable]:
    yield _heading(section.title)
    yield _text(section.about, _ABOUT)
    for table in section.tables:
        for part in _across(table):
            yield _text(part.caption, _CAPTION)
            yield _grid(part)
    yield Spacer(0, 4)
    for note in section.notes:
        yield _text(f"· {note}", _NOTE)


def _across(table: Table) -> Iterator[Table]:
    """Yield a gap matrix in parts of as many gateways as a page is wide; any other table as it is."""
    first = table.states
    if first is None or len(table.headings) - first <= _GATEWAYS_ACROSS:
        yield table
        return
    for column in range(first, len(table.headings), _GATEWAYS_ACROSS):
        chosen = slice(column, column + _GATEWAYS_ACROSS)
        yield Table(
            table.caption,
            (*table.headings[:first], *table.headings[chosen]),
            tuple((*row[:first], *row[chosen]) for row in table.rows),
            states=first,
        )


def _grid(table: Table) -> Flowable:
    head = [
        _text(_cut(cell, _HEAD_CHARS_MAX), _HEAD_NUMBER if column in table.numbers else _HEAD)
        for column, cell in enumerate(table.headings)
    ]
    rows = [[_cell(table, column, cell) for column, cell in enumerate(row)] for row in table.rows]
    grid = LongTable([head, *rows], _widths(table), repeatRows=1, splitInRow=1, hAlign="LEFT")
    grid.setStyle(
        TableStyle(
            [
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("BACKGROUND", (0, 0), (-1, 0), _SOFT),
                ("LINEBELOW", (0, 0), (-1, -1), 0.4, _LINE),
                ("LEFTPADDING", (0, 0), (-1, -1), _PADDING),
                ("RIGHTPADDING", (0, 0), (-1, -1), _PADDING),
                ("TOPPADDING", (0, 0), (-1, -1), 2),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
            ]
        )
    )
    return grid


def _cell(table: Table, column: int, cell: str) -> Paragraph:
    state = table.state(column, cell)
    if state is None:
        return _text(_cut(cell, _CELL_CHARS_MAX), _NUMBER if column in table.numbers else _CELL)
    rest = escape(_shown(_cut(cell.removeprefix(state), _CELL_CHARS_MAX)))
    return Paragraph(f'<font color="{_STATE_COLOURS[state]}"><b>{state}</b></font>{rest}', _CELL)


def _widths(table: Table) -> list[float]:
    """Share the page by what the columns hold: each has room for its longest word, the rest goes by length."""
    columns = list(zip(table.headings, *table.rows, strict=True))
    least = [
        min(_WORD_WIDTH_MAX, max(_width(word) for cell in column for word in _unbroken(cell)))
        for column in columns
    ]
    wanted = [min(_COLUMN_WIDTH_MAX, max(map(_width, column))) for column in columns]
    wanted = [max(pair) for pair in zip(wanted, least, strict=True)]
    if sum(wanted) <= _WIDTH:
        if len(columns) - 1 not in table.numbers:
            wanted[-1] += _WIDTH - sum(wanted)
        return wanted
    if sum(least) >= _WIDTH:
        return [each * _WIDTH / sum(least) for each in least]
    share = (_WIDTH - sum(least)) / (sum(wanted) - sum(least))
    return [low + share * (want - low) for low, want in zip(least, wanted, strict=True)]


def _unbroken(cell: str) -> list[str]:
    """Return what of a cell should stand on one line: a short one itself, the words of a longer one."""
    return [cell] if len(cell) < _SHORT_CHARS else cell.split()


def _width(text: str) -> float:
    return (
        stringWidth(_shown(_cut(text, _CELL_CHARS_MAX)), "Helvetica-Bold", _CELL.fontSize)
        + 2 * _PADDING
        + 1
    )


# --- text ----------------------------------------------------------------------------------------


def _heading(text: str) -> Flowable:
    return _text(text, _HEADING)


def _text(text: str, style: ParagraphStyle = _BODY) -> Paragraph:
    """Return a paragraph of a text that is nothing but text."""
    return Paragraph(escape(_shown(_cut(text, _TEXT_CHARS_MAX))), style)


def _cut(text: str, chars_max: int) -> str:
    """Return a text, or its beginning and a sign that there is more."""
    return text if len(text) <= chars_max else f"{text[:chars_max]}…"


def _shown(text: str) -> str:
    """Return a text in characters the standard fonts have."""
    return one_line(text).encode("cp1252", "backslashreplace").decode("cp1252")
