"""Whether a press comes from our own page: what a page of another site asks for in its reader's name is refused."""

from urllib.parse import urlsplit

from starlette.requests import Request


def comes_from_us(request: Request) -> bool:
    """Return whether a request was made by one of our own pages.

    ``Sec-Fetch-Site`` where the browser sends it; over plain HTTP it does not, and ``Origin`` must be the host
    that was asked. Neither: no browser made it, and with a sign-in's cookie that is not believed.
    """
    if (site := request.headers.get("sec-fetch-site")) is not None:
        return site == "same-origin"
    try:
        origin = urlsplit(request.headers.get("origin", ""))
    except ValueError:  # so it says of brackets that hold no address
        return False
    return origin.netloc != "" and origin.netloc == request.headers.get("host")
