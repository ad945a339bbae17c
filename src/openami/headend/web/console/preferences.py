"""What a browser remembers of its person's wishes: only whether data is dear."""

from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from fastapi import APIRouter, Form
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from openami.headend.accounts import Role
from openami.headend.web.admission import declares
from openami.headend.web.console.rendering import DATA_SAVER_COOKIE
from openami.headend.web.site import site_of

# A wish that nobody renewed for a year has been forgotten by the person too.
WISH_KEPT_S: Final = 365 * 86_400

router = APIRouter(include_in_schema=False)


@router.post("/data-saver")
@declares(Role.VIEWER)
async def data_saver(request: Request, to: Annotated[Literal["on", "off"], Form()]) -> Response:
    """Turn the data saver on or off, and go back to where one was."""
    answer = RedirectResponse(_back(request), status_code=303)
    answer.set_cookie(
        DATA_SAVER_COOKIE,
        to,
        max_age=WISH_KEPT_S,
        httponly=True,
        samesite="strict",
        secure=site_of(request).secure,
    )
    return answer


def _back(request: Request) -> str:
    """Return the page that asked, by its path alone: nobody is sent elsewhere."""
    path = urlsplit(request.headers.get("referer", "")).path
    return path if path.startswith("/") and not path.startswith("//") else "/"
