"""Who is asking: by an API token, by a trusted proxy's word, or by a sign-in's cookie.

A role is read with every request, so what an engineer changes holds from the next one on. A token is never
looked for in a cookie, nor a sign-in in a header; one that is shown and does not hold makes a stranger, whatever
else is shown beside it.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog
from starlette.requests import HTTPConnection

from openami.clock import Clock
from openami.headend.accounts import Means, Principal, Role
from openami.headend.accounts.credentials import Kind, SignIn, digest_of, is_token
from openami.headend.accounts.proxy import ProxyRules, forwarded_address
from openami.headend.accounts.users import User
from openami.headend.store.accounts import AccountStore

# Over HTTPS the name itself forbids that a page of another host, or plain HTTP, has put the cookie there.
_COOKIE: Final = "openami"
_COOKIE_SECURE: Final = "__Host-openami"
# A header somebody forges is worth a line in the log, not a line for each try.
FORGED_LOGGED_MAX: Final = 100
# Our own secrets have some 60 characters.
_SECRET_CHARS_MAX: Final = 128

_log = structlog.get_logger("headend.web")


class AccountsDoorkeeper:
    """Knows people and programs by the accounts in the store."""

    def __init__(
        self,
        store: AccountStore,
        clock: Clock,
        *,
        secure: bool = False,
        proxy: ProxyRules | None = None,
        proxy_host: str = "",
        refused: Callable[[], None] = lambda: None,
    ) -> None:
        """``proxy_host`` is the host under which people reach us through the proxy; ``refused`` is called for each
        token that does not hold.
        """
        self.cookie = _COOKIE_SECURE if secure else _COOKIE
        self.secure = secure
        self._store = store
        self._clock = clock
        self._proxy = proxy
        self._proxy_host = proxy_host
        self._refused = refused
        self._forged_logged = 0

    async def principal(self, request: HTTPConnection) -> Principal | None:
        """Return who it is; None for a stranger. Raises StoreError."""
        now = self._clock.now()
        if (shown := request.headers.get("authorization")) is not None:
            return await self._by_token(shown, now)
        if (told := self._told_by_proxy(request)) is not None:
            return await self._by_proxy(request, *told, now)
        return await self._by_cookie(request, now)

    def address(self, request: HTTPConnection) -> str:
        """Return where a request comes from; through a trusted proxy, whom it speaks for."""
        peer = _peer(request)
        if self._proxy is not None and self._proxy.trusts(peer):
            return forwarded_address(request.headers, peer)
        return peer

    async def sign_in_of(self, request: HTTPConnection) -> SignIn | None:
        """Return the sign-in a cookie stands for, if it holds."""
        found = await self._holding(request, self._clock.now())
        return None if found is None else found[0]

    # --- the three means -------------------------------------------------------------------------

    async def _by_token(self, shown: str, now: datetime) -> Principal | None:
        scheme, _, text = shown.partition(" ")
        text = text.strip()
        if scheme.lower() != "bearer" or len(text) > _SECRET_CHARS_MAX or not is_token(text):
            self._refused()
            return None
        token = await self._store.token(digest_of(Kind.TOKEN, text))
        if token is None or not token.holds(now):
            self._refused()
            return None
        if token.wants_noting(now):
            await self._store.see_token(token.id, now)
        return Principal(
            name=f"token {token.label}",
            role=token.role,
            means=Means.TOKEN,
            feeders=token.feeders,
            means_id=token.id,
            relays=token.relays,
            accounts=token.accounts,
            maker=token.created_by,
        )

    async def _by_proxy(
        self, request: HTTPConnection, name: str, role: Role, now: datetime
    ) -> Principal | None:
        account = await self._store.user(name)
        if account is not None and account.disabled_at is not None:
            return None
        # A password of our own, shown at the step-up, is noted in a sign-in like any other.
        found = await self._holding(request, now)
        sign_in = found[0] if found is not None and found[1].name == name else None
        return Principal(
            name=name,
            role=role,
            means=Means.PROXY,
            feeders=None if account is None else account.feeders,
            proved_at=None if sign_in is None else sign_in.proved_at,
            language=None if account is None else account.language,
            means_id="" if sign_in is None else sign_in.id,
        )

    async def _by_cookie(self, request: HTTPConnection, now: datetime) -> Principal | None:
        found = await self._holding(request, now)
        if found is None:
            return None
        sign_in, user = found
        return Principal(
            name=user.name,
            role=user.role,
            means=Means.SIGN_IN,
            feeders=user.feeders,
            proved_at=sign_in.proved_at,
            language=user.language,
            means_id=sign_in.id,
        )

    async def _holding(self, request: HTTPConnection, now: datetime) -> tuple[SignIn, User] | None:
        """Return the sign-in of a cookie and whose it is, when both are in force."""
        secret = request.cookies.get(self.cookie, "")
        if not secret or len(secret) > _SECRET_CHARS_MAX:
            return None
        found = await self._store.sign_in(digest_of(Kind.SIGN_IN, secret))
        if found is None:
            return None
        sign_in, user = found
        if not sign_in.holds(now) or user.disabled_at is not None:
            return None
        if sign_in.wants_noting(now):
            await self._store.see_sign_in(sign_in.digest, now)
        return sign_in, user

    # --- the proxy -------------------------------------------------------------------------------

    def _told_by_proxy(self, request: HTTPConnection) -> tuple[str, Role] | None:
        """Return whom a trusted proxy names; what anybody else writes into its header is dropped."""
        proxy = self._proxy
        if proxy is None or (names := request.headers.getlist(proxy.header)) == []:
            return None
        # The host, too: a page of another site that a browser beside us was made to load comes from a
        # trusted address, and may set any header on what it takes for its own host (DNS rebinding).
        if not proxy.trusts(_peer(request)) or request.headers.get("host") != self._proxy_host:
            self._log_forged(request, "not from the proxy")
            return None
        if len(names) != 1:
            self._log_forged(request, "more than one name")
            return None
        return proxy.who(request.headers)

    def _log_forged(self, request: HTTPConnection, why: str) -> None:
        if self._forged_logged < FORGED_LOGGED_MAX:
            self._forged_logged += 1
            _log.warning("a sign-in header was dropped", why=why, address=_peer(request))


def _peer(request: HTTPConnection) -> str:
    return "" if request.client is None else request.client.host
