"""A store that several servers keep: which of them is the primary is found out at every connection.

``postgresql://openami@a,b,c/openami`` names a primary and its standbys, in any order. They are asked at once. The
driver alone asks them one after the other within one time, so a first server that is frozen, or whose machine went
without a word, is all that it ever asks (decision 0072).
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit, urlunsplit

import asyncpg

from openami.headend.store import StoreError
from openami.headend.store.postgres_errors import explained, no_primary, wrong_url

# A server on another continent answers in one; a firewall that swallows packets never does.
CONNECT_TIMEOUT_S: Final = 10.0

# asyncpg's own types of connection are generic in ways that say nothing here.
Connection = Any
_Attempts = dict[asyncio.Task[Connection], str]


def servers(url: str) -> Sequence[str]:
    """Return a URL for each server that a URL names. Raises StoreError."""
    try:
        parts = urlsplit(url)
        if "," in parse_qs(parts.query).get("host", [""])[-1]:
            raise ValueError("several servers are named before the database: //user@a,b/db")
        login, at, names = parts.netloc.rpartition("@")
        if "," not in names:
            return [url]
        if not all(names.split(",")):
            raise ValueError(f"a server without a name in {names!r}")
    except ValueError as error:
        raise wrong_url(error) from error
    return [urlunsplit(parts._replace(netloc=f"{login}{at}{name}")) for name in names.split(",")]


async def connect(url: str, *, reads: bool = False, **options: Any) -> Connection:
    """Connect to the server that takes writes; ``options`` are the driver's. Raises StoreError.

    The URL's ``target_session_attrs`` may ask for another one. A single server is taken as it is, unless the URL
    asks. ``reads``: the session is told to write nothing, which is no reason to look for another primary.
    """
    _, connection = await _first(url, reads=reads, **options)
    return connection


async def primary_of(url: str) -> str:
    """Return the URL of the one server that takes writes now, for tools that stay with it. Raises StoreError."""
    if servers(url) == [url]:
        return url
    one, connection = await _first(url, reads=False)
    connection.terminate()
    return one


async def _first(url: str, *, reads: bool, **options: Any) -> tuple[str, Connection]:
    named = servers(url)
    wanted = _wanted(url, several=len(named) > 1, reads=reads)
    attempts: _Attempts = {
        asyncio.create_task(_attempt(one, target_session_attrs=wanted, **options)): one
        for one in named
    }
    chosen, waiting = None, set(attempts)
    try:
        while waiting and chosen is None:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            chosen = next((attempt for attempt in done if attempt.exception() is None), None)
    finally:
        for attempt in attempts:
            if attempt is not chosen:
                attempt.cancel()
                attempt.add_done_callback(_give_back)
    if chosen is None:
        raise _why(url, attempts)
    return attempts[chosen], chosen.result()


def _wanted(url: str, *, several: bool, reads: bool) -> str | None:
    """Return which kind of server is looked for: the URL's word, with ours where it says none."""
    said = parse_qs(urlsplit(url).query).get("target_session_attrs")
    wanted = said[-1] if said else "read-write" if several else None
    # "read-write" looks at the session's own setting, too.
    return "primary" if reads and wanted == "read-write" else wanted


async def _attempt(url: str, **options: Any) -> Connection:
    with explained(url):
        try:
            return await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S, **options)
        except ValueError as error:  # so says the driver of a URL it cannot read
            raise wrong_url(error) from error


def _give_back(attempt: asyncio.Task[Connection]) -> None:
    """Close what came too late, and take note of what failed."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().terminate()


def _why(url: str, attempts: _Attempts) -> BaseException:
    """Return the one error, or what all of them come to."""
    errors = [error for attempt in attempts if (error := attempt.exception()) is not None]
    failures = [error for error in errors if isinstance(error, StoreError)]
    if len(failures) == len(errors) > 1:
        return no_primary(url, failures)
    return next((error for error in errors if not isinstance(error, StoreError)), errors[0])
