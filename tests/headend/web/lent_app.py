"""The application, built once and lent to one test after the other: building it takes longer than most tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fastapi import FastAPI

from openami.headend.web.app import build_app
from openami.headend.web.site import Site

_AT_HOME: Final[list[FastAPI]] = []
# What an application remembers of the site it was made for.
_REMEMBERED: Final = ("hub", "balancing")


@contextmanager
def lent_app(site: Site) -> Iterator[FastAPI]:
    """Give an application at this site; it has its own as long as it is lent."""
    if site.secure:  # what it tells browsers is built in
        yield build_app(site)
        return
    app = _AT_HOME.pop() if _AT_HOME else build_app(site)
    for name in _REMEMBERED:
        if hasattr(app.state, name):
            delattr(app.state, name)
    app.state.site = site
    try:
        yield app
    finally:
        if (hub := getattr(app.state, "hub", None)) is not None:
            hub.close()
        _AT_HOME.append(app)
