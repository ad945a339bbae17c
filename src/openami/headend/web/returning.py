"""Where somebody is brought back to, once they have shown who they are. Pure."""

from typing import Final
from urllib.parse import quote, urlsplit

from starlette.requests import Request

from openami.headend.web.admission import SAFE_METHODS

HOME: Final = "/"
# A page's address with its filters; what is longer was made to be long.
PATH_CHARS_MAX: Final = 1_000


def own_path(text: str) -> str:
    """Return a path of ours, or HOME for what leads elsewhere or nowhere."""
    if len(text) > PATH_CHARS_MAX or not text.isprintable() or "\\" in text:
        return HOME
    # Two slashes at the beginning are another host; so is anything with one of its own.
    if not text.startswith("/") or text.startswith("//") or urlsplit(text).netloc:
        return HOME
    return text


def path_asked(request: Request) -> str:
    """Return the page somebody was on: the one asked for, or the one whose form was sent."""
    if request.method in SAFE_METHODS and "hx-request" not in request.headers:
        asked = request.url
        return own_path(f"{asked.path}?{asked.query}" if asked.query else asked.path)
    try:
        page = urlsplit(request.headers.get("hx-current-url") or request.headers.get("referer", ""))
    except ValueError:  # so it says of brackets that hold no address
        return HOME
    if page.netloc != request.headers.get("host"):
        return HOME
    return own_path(f"{page.path}?{page.query}" if page.query else page.path)


def asking(page: str, path: str) -> str:
    """Return the address of the page that asks who it is and then leads to a path."""
    return page if path == HOME else f"{page}?next={quote(path)}"
