"""The report as one HTML file: no script, nothing loaded, readable on a phone, in the dark and on paper.

What comes from outside is escaped by the template engine, and the page's own policy lets no script run and
nothing be fetched, should an escape ever be missing.
"""

import hashlib
from base64 import b64encode
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from openami.conformance.report import words
from openami.conformance.report.document import Sealed
from openami.conformance.report.tables import sections
from openami.profile import one_line, utc_text


def html_report(sealed: Sealed) -> bytes:
    """Return the page in UTF-8."""
    environment = _environment()
    style = environment.get_template("report.css").render()
    page = environment.get_template("report.html").render(
        sealed=sealed,
        report=sealed.report,
        judgement=sealed.report.judgement,
        groups=words.grouped(sealed.report.judgement),
        sections=list(sections(sealed.report)),
        words=words,
        style=style,
        style_hash=b64encode(hashlib.sha256(style.encode()).digest()).decode(),
    )
    return page.encode()


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("openami.conformance.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(one_line=one_line, moment=words.moment, utc=utc_text)
    return made
