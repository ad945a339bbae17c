"""The walk's door: from whom a press comes, and in a form of ours (decision 0062)."""

import secrets
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from openami.clock import Clock
from openami.gateway.commissioning import ledger
from openami.gateway.commissioning.ledger import Standing
from openami.gateway.commissioning.permit import (
    SIGN_IN_LIFE,
    SIGN_IN_SECRET_BYTES,
    SignInRefusal,
    signed_in_as,
)
from openami.gateway.database import Database
from openami.sip.commissioning import NAME_CHARS_MAX

# A note, a name and a serial, each percent-encoded as UTF-8.
FORM_BYTES_MAX: Final = 8 * 1024
# More fields than any form of ours has.
_FORM_FIELDS_MAX: Final = 16
_COOKIE: Final = "openami-walk"

_REFUSALS: Final[Mapping[SignInRefusal, str]] = {
    SignInRefusal.NONE_ISSUED: "No PIN was issued: run `openami gateway commission start` on the gateway.",
    SignInRefusal.WRONG: "That is not the PIN.",
    SignInRefusal.USED: "That PIN was used already; each works once. Have another one printed.",
    SignInRefusal.EXPIRED: "That PIN is too old. Have another one printed.",
    SignInRefusal.SPENT: "Too many wrong PINs: this one is dead. Have another one printed.",
}

_log = structlog.get_logger(__name__)


class Door:
    """Who is signed in, and how one gets in and out."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def who(self, request: Request, standing: Standing) -> str | None:
        """Return the name of who is signed in on this phone; None for a stranger."""
        secret = request.cookies.get(_COOKIE, "")
        return signed_in_as(standing.permit, secret, self._clock.now())

    async def let_in(self, form: Mapping[str, str], answer: Response) -> str:
        """Exchange a PIN for a cookie on the answer; return why not, nothing where it did. Raises DatabaseError."""
        by = " ".join(form.get("by", "").split())[:NAME_CHARS_MAX]
        if not by:
            return "Say your name: it stands beside each tick."
        secret = secrets.token_urlsafe(SIGN_IN_SECRET_BYTES)
        pin, now = form.get("pin", ""), self._clock.now()
        refusal = await self._database.run(
            lambda connection: ledger.try_pin(connection, pin, secret=secret, by=by, now=now)
        )
        if refusal is not None:
            _log.warning("walk sign-in refused", reason=refusal.value)
            return _REFUSALS[refusal]
        _log.info("walk signed in", by=by)
        answer.set_cookie(
            _COOKIE,
            secret,
            max_age=int(SIGN_IN_LIFE.total_seconds()),
            httponly=True,
            samesite="strict",
        )
        return ""


async def read_form(request: Request) -> Mapping[str, str] | None:
    """Return a form's fields; None where it is longer than any of ours, or did not come whole."""
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > FORM_BYTES_MAX:
                return None
    except ClientDisconnect:  # bad reception: nobody waits for an answer
        return None
    try:
        return dict(parse_qsl(body.decode("ascii", "replace"), max_num_fields=_FORM_FIELDS_MAX))
    except ValueError:  # more fields than that
        return None
