"""Which form an answer takes: what a client accepts, of what a resource offers (RFC 9110, 12.5.1)."""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, Final, TypeVar

from openami.headend.web.problems import Problem

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
# Nobody lists more; a header is at most some kilobytes anyway.
_RANGES_MAX: Final = 32


def offers(*media_types: str) -> Callable[[Endpoint], Endpoint]:
    """Mark an endpoint that answers in these forms, the first where a client does not care."""

    def mark(endpoint: Endpoint) -> Endpoint:
        endpoint.__openami_offers__ = media_types  # type: ignore[attr-defined]
        return endpoint

    return mark


def offered(endpoint: Callable[..., Any]) -> tuple[str, ...]:
    """Return the forms an endpoint answers in."""
    found: tuple[str, ...] = getattr(endpoint, "__openami_offers__", (JSON,))
    return found


def chosen(accept: str | None, offer: Sequence[str]) -> str:
    """Return the form a client likes best. Raises Problem 406 when it takes none of them."""
    if accept is None or not accept.strip():
        return offer[0]
    ranges = [_range(text) for text in accept.split(",")[:_RANGES_MAX]]
    liked = [(_liking(media_type, ranges), media_type) for media_type in offer]
    best = max(liking for liking, _ in liked)
    if best <= 0:
        raise Problem(
            HTTPStatus.NOT_ACCEPTABLE,
            "not-acceptable",
            "this is not answered in any of the forms your Accept names",
            remedy=f"accept {' or '.join(offer)}",
        )
    return next(media_type for liking, media_type in liked if liking == best)


def _range(text: str) -> tuple[str, float]:
    """Return a media range and how much it is liked; one that cannot be read is liked fully."""
    name, *parameters = (part.strip().lower() for part in text.split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                return name, min(max(float(value), 0.0), 1.0)
            except ValueError:
                return name, 1.0
    return name, 1.0


def _liking(media_type: str, ranges: Sequence[tuple[str, float]]) -> float:
    """Return how much a form is liked: the narrowest range that holds it says so."""
    family = media_type.partition("/")[0]
    for wanted in (media_type, f"{family}/*", "*/*"):
        for name, liking in ranges:
            if name == wanted:
                return liking
    return 0.0
