"""Templates into pages: one environment, and what every page is told."""

from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from openami import __version__
from openami.headend.web.problems import Problem
from openami.headend.web.site import site_of

_environment: Final = Environment(
    loader=PackageLoader("openami.headend.web.console"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=["jinja2.ext.i18n"],
)
_environment.install_null_translations(newstyle=True)  # type: ignore[attr-defined]


def page(request: Request, template: str, *, status: int = 200, **told: Any) -> Response:
    """Return a page: its template with what it is told, and what all pages know."""
    site = site_of(request)
    html = _environment.get_template(template).render(
        request=request,
        site=site,
        principal=getattr(request.state, "principal", None),
        now=site.clock.now(),
        version=__version__,
        **told,
    )
    return HTMLResponse(html, status_code=status)


def problem_page(request: Request, problem: Problem) -> Response:
    """Return what went wrong, in the same words a program is told."""
    return page(request, "problem.html", status=problem.status, problem=problem)
