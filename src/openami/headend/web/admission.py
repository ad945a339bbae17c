"""Who is it, and may they: one dependency on every route, and a mark on every endpoint.

    @declares(Role.OPERATOR, step_up=True)
    async def order_relay(request: Request, …): …

An endpoint without a mark lets nobody in: the application is not even built (`app.checked`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from starlette.requests import Request

from openami.headend.accounts import Means, Principal, Role
from openami.headend.web.problems import Problem
from openami.headend.web.site import site_of
from openami.same_origin import comes_from_us

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

# Methods that change nothing need no proof of where they come from (RFC 9110, 9.2.1).
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
# One of these is set by every proxy that was told to say for whom it asks.
_FORWARDED: Final = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


@dataclass(frozen=True, slots=True)
class Declared:
    """Who may use an endpoint."""

    role: Role | None
    """None: anybody, signed in or not."""
    step_up: bool = False
    """Whether they must have proved themselves within STEP_UP_VALID."""
    or_from_here: bool = False
    """Whether a program on this machine need not say who it is (decision 0044)."""


def declares(
    role: Role, *, step_up: bool = False, or_from_here: bool = False
) -> Callable[[Endpoint], Endpoint]:
    """Mark an endpoint as one for this role and greater ones; or also for programs on this machine."""

    def mark(endpoint: Endpoint) -> Endpoint:
        endpoint.__openami_declared__ = Declared(role, step_up, or_from_here)  # type: ignore[attr-defined]
        return endpoint

    return mark


def open_to_all(endpoint: Endpoint) -> Endpoint:
    """Mark an endpoint that even strangers need: the sign-in form, health, the style sheet."""
    endpoint.__openami_declared__ = Declared(None)  # type: ignore[attr-defined]
    return endpoint


def declared(endpoint: Callable[..., Any]) -> Declared | None:
    """Return an endpoint's mark."""
    mark = getattr(endpoint, "__openami_declared__", None)
    assert mark is None or isinstance(mark, Declared)
    return mark


async def admit(request: Request) -> None:
    """Let a request in or raise Problem; afterwards `principal_of` says who it is."""
    mark = declared(request.scope["endpoint"])
    assert mark is not None, "an application with an undeclared route is never built"
    principal = await site_of(request).doorkeeper.principal(request)
    request.state.principal = principal
    by_token = principal is not None and principal.means is Means.TOKEN
    if request.method not in SAFE_METHODS and not by_token and not comes_from_us(request):
        raise Problem.wrong_origin()
    if mark.role is None or (mark.or_from_here and principal is None and is_from_here(request)):
        return
    if principal is None:
        raise Problem.not_signed_in()
    if not principal.may(mark.role):
        raise Problem.role_missing(mark.role.word, principal.role.word)
    if mark.step_up and not principal.stepped_up(site_of(request).clock.now()):
        raise Problem.step_up_needed()


def is_from_here(request: Request) -> bool:
    """Return whether a program on this machine asks us directly, by a name of this machine.

    Whoever came through a proxy is not from here, though the proxy is. The name counts because a web page can
    let its own name point to the loopback address and then ask in the browser's name.
    """
    if site_of(request).behind_proxy or request.client is None:
        return False
    if any(name in request.headers for name in _FORWARDED):
        return False
    asked = urlsplit(f"//{request.headers.get('host', '')}").hostname
    return _is_loopback(request.client.host) and asked is not None and _is_loopback(asked)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def principal_of(request: Request) -> Principal:
    """Return who was admitted to an endpoint that declares a role."""
    principal = request.state.principal
    assert isinstance(principal, Principal)
    return principal


def in_scope(request: Request, feeder_id: str) -> None:
    """Raise Problem when a feeder is out of the principal's scope: to them there is no such feeder."""
    if not principal_of(request).sees(feeder_id):
        raise Problem.not_found(f"there is no feeder {feeder_id}")
