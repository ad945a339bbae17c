"""Long lists a page at a time: the cursor, the link to what follows, and the page itself.

A cursor is the key of the last row before it, so it holds while rows come and go. It is opaque to who gets it, and
not secret: it says where to begin, never what one may see.
"""

import base64
import json
from collections.abc import Iterable, Sequence
from typing import Any, Final, Generic, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from openami.headend.store.pages import Key, Placed
from openami.headend.web.api.forms import Resource
from openami.headend.web.api.media import JSON
from openami.headend.web.refusals import invalid

T = TypeVar("T")
R = TypeVar("R", bound=Resource)

# What an engine can hold in a column of times and numbers.
_WHOLE_MAX: Final = 2**63 - 1
# Longer than any id or code; a forged cursor shall not carry more.
_TEXT_CHARS_MAX: Final = 200


class Page(BaseModel, Generic[R]):
    """A part of a list, and where the rest begins."""

    model_config = ConfigDict(frozen=True)

    items: list[R]
    next: str | None = Field(
        description="Where the next page is; null on the last one. The same stands in `Link: rel=next`."
    )


NEXT_LINK: Final = {
    "Link": {
        "description": 'Where the next page is: `<…>; rel="next"`; absent on the last one.',
        "schema": {"type": "string"},
    }
}


def cursor_of(listing: str, key: Key) -> str:
    """Return the cursor that begins behind a key of a list."""
    text = json.dumps([listing, *key], separators=(",", ":"), ensure_ascii=True)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def key_of(listing: str, cursor: str | None, kinds: Sequence[type]) -> Key | None:
    """Return the key a cursor begins behind; ``kinds`` says what keys of the list look like.

    Raises Problem 422 for a cursor that was not given for this list.
    """
    if cursor is None:
        return None
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        told, *key = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, TypeError, RecursionError):
        raise _foreign_cursor() from None
    if told != listing or [type(part) for part in key] != list(kinds):
        raise _foreign_cursor()
    if not all(_is_small(part) for part in key):
        raise _foreign_cursor()
    return tuple(key)


def _is_small(part: int | str) -> bool:
    if isinstance(part, int):
        return -_WHOLE_MAX <= part <= _WHOLE_MAX
    return len(part) <= _TEXT_CHARS_MAX and part.isprintable()


def _foreign_cursor() -> Exception:
    return invalid(
        [
            {
                "in": "query: cursor",
                "detail": "this is no cursor of this list: begin without one, and follow `next`",
            }
        ]
    )


def first_of(rows: Sequence[Placed[T]], limit: int) -> tuple[list[T], Key | None]:
    """Return a page of rows of which one more than ``limit`` was asked for, and the key it ends with.

    The key is None when nothing follows.
    """
    page = [each.row for each in rows[:limit]]
    return page, rows[limit - 1].key if len(rows) > limit else None


def in_memory(
    rows: Iterable[tuple[Key, T]], after: Key | None, limit: int
) -> tuple[list[T], Key | None]:
    """Return a page of a list that is at hand, ascending by its keys, and the key it ends with."""
    behind = [
        Placed(key, row) for key, row in rows if after is None or cast(Any, key) > cast(Any, after)
    ]
    return first_of(sorted(behind, key=lambda each: cast(Any, each.key)), limit)


def page_answer(
    request: Request, listing: str, items: Sequence[Resource], last: Key | None
) -> Response:
    """Answer with a page; ``last`` is the key it ends with, None when nothing follows."""
    link = None
    headers = {}
    if last is not None:
        # The path alone: under which name a client reached us, it knows better than we do.
        url = request.url.include_query_params(cursor=cursor_of(listing, last))
        link = f"{url.path}?{url.query}"
        headers["Link"] = f'<{link}>; rel="next"'
    told = ",".join(item.model_dump_json() for item in items)
    body = f'{{"items":[{told}],"next":{json.dumps(link)}}}'
    return Response(body, media_type=JSON, headers=headers)
