"""The report as plain text: for a terminal, a mail, a log (pure)."""

import textwrap
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Final

from openami.conformance.judgement import Evidence, Finding
from openami.conformance.report import words
from openami.conformance.report.document import Sealed
from openami.conformance.report.tables import Section, Table, sections
from openami.profile import one_line

WIDTH: Final = 100


def text_report(sealed: Sealed) -> str:
    """Return the report as text, a line feed at the end."""
    return "\n".join(line.rstrip() for line in _lines(sealed)) + "\n"


def _lines(sealed: Sealed) -> Iterator[str]:
    report = sealed.report
    yield from _head(sealed)
    for verdict, findings in words.grouped(report.judgement):
        yield from _heading(f"{words.HEADINGS[verdict]} ({len(findings)})")
        yield from _wrapped(words.MEANINGS[verdict])
        for finding in findings:
            yield ""
            yield from _finding(finding)
    for section in sections(report):
        yield from _section(section)
    yield from _foot(sealed)


def _head(sealed: Sealed) -> Iterator[str]:
    judgement = sealed.report.judgement
    yield from _wrapped(words.title(judgement))
    yield "=" * min(WIDTH, len(words.title(judgement)))
    yield ""
    yield from _wrapped(f"{words.headline(judgement)}.")
    yield ""
    yield "   ".join(
        f"{words.MARKS[verdict]} {count} {words.counted(verdict, count)}"
        for verdict, count in words.counts(judgement).items()
    )
    yield ""
    if words.product(judgement):
        yield from _wrapped(f"Product  {words.product(judgement)} (its own words)", hang=" " * 9)
    yield f"Judged   {words.moment(judgement.began_at)} to {words.moment(judgement.ended_at)}"
    yield f"Kit      openami {one_line(judgement.kit_version)}"


def _foot(sealed: Sealed) -> Iterator[str]:
    yield from _heading("Signature")
    yield f"SHA-256 of report.json  {sealed.digest}"
    yield f"signed by the key       {sealed.kid}"
    yield f"on                      {words.moment(sealed.signed_at)}"
    transcript = sealed.report.transcript
    if transcript is not None:
        yield f"SHA-256 of transcript   {one_line(transcript.sha256)}"
    yield ""
    yield from _wrapped(
        "This text is made from report.json, which is what counts: openami conformance verify report.json"
    )


def _finding(finding: Finding) -> Iterator[str]:
    title = f"{words.MARKS[finding.verdict]} {finding.requirement}  {one_line(finding.text)}"
    yield from _wrapped(title, hang="  ")
    yield from _labelled("asked by", words.source(finding.source))
    yield from _labelled("how", one_line(finding.how))
    if finding.seen:
        yield from _labelled("came up", words.occasions(finding))
    for evidence in finding.evidence:
        yield from _evidence(evidence, broken=bool(finding.broken))
    if finding.broken:
        yield from _labelled("what to do", one_line(finding.remedy))
    if finding.verdict == "not exercised":
        yield from _labelled("exercise it", one_line(finding.exercise))


def _evidence(evidence: Evidence, *, broken: bool) -> Iterator[str]:
    said = f"{words.moment(evidence.at)}  {one_line(evidence.detail)}"
    yield from _labelled("broken" if broken else "first", said)
    if evidence.topic:
        place = f", at {one_line(evidence.pointer)}" if evidence.pointer else ""
        yield from _labelled("", f"on {one_line(evidence.topic)}{place}")
    if evidence.excerpt and broken:
        yield from _labelled("", f"| {one_line(evidence.excerpt)}")


def _labelled(label: str, text: str) -> Iterator[str]:
    if text:
        yield from _wrapped(text, indent=f"  {label:<13}", hang=" " * 15)


# --- the sheets ----------------------------------------------------------------------------------


def _section(section: Section) -> Iterator[str]:
    yield from _heading(section.title)
    yield from _wrapped(section.about)
    for table in section.tables:
        yield ""
        yield from _wrapped(table.caption)
        yield from _table(table)
    if section.notes:
        yield ""
    for note in section.notes:
        yield from _wrapped(f"- {note}", hang="  ")


def _table(table: Table) -> Iterator[str]:
    """Yield the lines of a table; what is too wide is wrapped, and the gap matrix is a list."""
    if table.states is not None:
        yield from _matrix(table)
        return
    lines = [table.headings, *table.rows]
    widths = _widths(lines)
    for line in lines:
        cells = [_in_column(cell, width) for cell, width in zip(line, widths, strict=True)]
        for row in zip_longest(*cells, fillvalue=""):
            yield "  ".join(
                [
                    "",
                    *(
                        text.rjust(width) if column in table.numbers else text.ljust(width)
                        for column, (text, width) in enumerate(zip(row, widths, strict=True))
                    ),
                ]
            )


def _widths(lines: Sequence[Sequence[str]]) -> list[int]:
    """Return the columns' widths: what they hold, the widest narrowed until a line holds them all."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    while sum(widths) + 2 * len(widths) > WIDTH:
        widths[widths.index(max(widths))] -= 1
    return widths


def _in_column(cell: str, width: int) -> list[str]:
    return textwrap.wrap(cell, width, break_on_hyphens=False) or [""]


def _matrix(table: Table) -> Iterator[str]:
    assert table.states is not None
    for column in range(table.states, len(table.headings)):
        yield f"  {table.headings[column]}"
        for row in table.rows:
            mark = words.GAP_MARKS[table.state(column, row[column]) or ""]
            yield from _wrapped(f"    {row[0]:<11}  {mark} {row[column]}", hang=" " * 19)


# --- lines ---------------------------------------------------------------------------------------


def _heading(text: str) -> Iterator[str]:
    yield ""
    yield ""
    yield text
    yield "-" * len(text)


def _wrapped(text: str, indent: str = "", hang: str = "") -> Iterator[str]:
    yield from textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=hang, break_on_hyphens=False
    )
