"""Templates into pages: one environment for each language, and what every page is told."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, Response

from openami import __version__
from openami.headend.web.console import speech
from openami.headend.web.console.help_problems import PROBLEMS
from openami.headend.web.console.navigation import navigation
from openami.headend.web.console.speech import Speech, language_of
from openami.headend.web.console.static import static_path
from openami.headend.web.problems import Problem
from openami.headend.web.site import site_of

# Over HTTP nobody but this machine should come; whoever does is told (docs/console.md).
_THIS_MACHINE: Final = frozenset({"localhost", "127.0.0.1", "::1", "[::1]"})
DATA_SAVER_COOKIE: Final = "data_saver"


@cache
def environment(language: str) -> Environment:
    """Return the templates in one language, by a name `language_of` gave; compiled when first asked for."""
    made = Environment(
        loader=PackageLoader("openami.headend.web.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    said = speech.speech(language)
    made.install_gettext_translations(said.translations, newstyle=True)  # type: ignore[attr-defined]
    made.globals.update(static=static_path, speech=said, iso=_iso, iso_minute=_iso_minute)
    made.filters.update(
        moment=said.moment,
        day=said.day,
        daymonth=said.daymonth,
        clock=said.clock,
        ago=said.ago,
        number=said.number,
        duration=said.duration,
    )
    return made


def speech_of(request: HTTPConnection) -> Speech:
    """Return the language a page is asked for in: its words, numbers and times."""
    principal = getattr(request.state, "principal", None)
    chosen = None if principal is None else principal.language
    return speech.speech(language_of(chosen, request.headers.get("accept-language", "")))


def page(request: Request, template: str, *, status: int = 200, **told: Any) -> Response:
    """Return a page: its template with what it is told, and what all pages know."""
    html = (
        environment(speech_of(request).language)
        .get_template(template)
        .render(**frame_of(request), **told)
    )
    return HTMLResponse(
        html, status_code=status, headers={"Cache-Control": "no-store", "Vary": "Accept-Language"}
    )


def frame_of(request: Request) -> Mapping[str, Any]:
    """Return what every template is told: who asks, when, and how the head-end is."""
    site = site_of(request)
    principal = getattr(request.state, "principal", None)
    return {
        "request": request,
        "site": site,
        "link": site.link(),
        "principal": principal,
        "now": site.clock.now(),
        "version": __version__,
        "data_saver": saves_data(request),
        "insecure": not site.secure and request.url.hostname not in _THIS_MACHINE,
        "navigation": navigation(request, principal),
    }


def saves_data(request: HTTPConnection) -> bool:
    """Return whether the browser, or who sits before it, asks for few bytes: then there is no stream."""
    chosen = request.cookies.get(DATA_SAVER_COOKIE)
    return chosen == "on" or (
        chosen != "off" and request.headers.get("save-data", "").lower() == "on"
    )


def problem_page(request: Request, problem: Problem) -> Response:
    """Return what went wrong in the reader's language, and beside it the words a program is told."""
    explained = PROBLEMS.get(problem.code)
    return page(
        request, "problem.html", status=problem.status, problem=problem, explained=explained
    )


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _iso_minute(at: datetime) -> str:
    """For "4 min ago" a minute is exact enough, and its seconds would be a tenth of a long page."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%MZ}"


__all__: Sequence[str] = (
    "environment",
    "frame_of",
    "page",
    "problem_page",
    "saves_data",
    "speech_of",
)
