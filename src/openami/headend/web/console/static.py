"""What pages load besides themselves: named by its content, kept by browsers for a year."""

import gzip
import hashlib
from functools import cache
from importlib.resources import files
from typing import Annotated, Final

from fastapi import APIRouter, Header
from starlette.responses import Response

from openami.headend.web.admission import open_to_all
from openami.headend.web.problems import Problem

_KINDS: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# The name changes with the content, so what was once loaded is right for ever; a year is what browsers keep.
_CACHED: Final = "public, max-age=31536000, immutable"
_DIGITS: Final = 10  # of the hash: enough that two versions never share a name

router = APIRouter(include_in_schema=False)


@cache
def _contents() -> dict[str, tuple[str, str, bytes, bytes]]:
    """Return each file by its hashed name: plain name, kind, bytes, bytes compressed."""
    found = {}
    for path in sorted((files(__package__) / "static").iterdir(), key=lambda path: path.name):
        stem, dot, ending = path.name.rpartition(".")
        if (kind := _KINDS.get(dot + ending)) is None:
            continue
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()[:_DIGITS]
        found[f"{stem}.{digest}.{ending}"] = (
            path.name,
            kind,
            data,
            gzip.compress(data, 9, mtime=0),
        )
    return found


@cache
def static_path(name: str) -> str:
    """Return where a page finds a file. Raises KeyError when there is no such file."""
    for hashed, (plain, *_) in _contents().items():
        if plain == name:
            return f"/static/{hashed}"
    raise KeyError(name)


@router.get("/static/{name}")
@open_to_all
async def static_file(name: str, accept_encoding: Annotated[str, Header()] = "") -> Response:
    """Return a file; the sign-in form needs them too."""
    if (found := _contents().get(name)) is None:
        raise Problem.not_found(f"there is no file {name}")
    _, kind, data, compressed = found
    headers = {"Cache-Control": _CACHED, "Vary": "Accept-Encoding"}
    if "gzip" in accept_encoding:
        return Response(compressed, media_type=kind, headers=headers | {"Content-Encoding": "gzip"})
    return Response(data, media_type=kind, headers=headers)
