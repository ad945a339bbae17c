"""What every route is given: the store, the clock, and what the head-end knows of itself."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Protocol

from starlette.requests import HTTPConnection

from openami.clock import Clock
from openami.headend.accounts import Principal
from openami.headend.broker_link import BrokerLink as BrokerLink
from openami.headend.metrics import HeadendMetrics
from openami.headend.signing import DISCONNECTS_PER_HOUR_DEFAULT
from openami.headend.standing import Standing
from openami.headend.store.commands import HeadEndStore
from openami.headend.tracing import Tracing, Untraced
from openami.headend.web.sign_in_desk import SignInDesk
from openami.profile import RegisterCatalogue


class Doorkeeper(Protocol):
    """Knows who is asking."""

    async def principal(self, request: HTTPConnection) -> Principal | None:
        """Return who it is; None for a stranger. Raises StoreError."""
        ...


@dataclass(frozen=True, slots=True)
class Site:
    """One head-end as its web sees it."""

    store: HeadEndStore
    clock: Clock
    catalogue: RegisterCatalogue
    doorkeeper: Doorkeeper
    link: Callable[[], BrokerLink]
    can_command: bool
    """Whether this head-end has a key to command with."""
    standing: Callable[[], Standing | None] = lambda: None
    """Which share of the feeders is this head-end's; None where it shares with nobody."""
    prove_ingest: Callable[[], Awaitable[None]] | None = None
    """Returns when the store takes the ingest's writes, which have a connection of their own. Raises StoreError."""
    disconnects_per_hour_max: int = DISCONNECTS_PER_HOUR_DEFAULT
    """No more houses are cut off within an hour, by whoever asks."""
    certificate: Callable[[str, str, date], Awaitable[bytes]] | None = None
    """Makes the certificate of a feeder's gateway and day; None without a key. Raises CertificateError."""
    secure: bool = False
    """Whether it is reached by HTTPS."""
    desk: SignInDesk | None = None
    """Where people sign in; None where somebody else knows who they are."""
    behind_proxy: bool = False
    """Whether a proxy speaks for people: then what comes from this machine may come from anywhere."""
    metrics: HeadendMetrics = field(default_factory=HeadendMetrics)
    """What is counted, and told to Prometheus."""
    tracing: Tracing = field(default_factory=Untraced)
    """Where spans go, if anywhere."""
    store_free_bytes: Callable[[], int | None] = lambda: None
    """What the store's disk has left; None where it is not a disk of this machine. Raises OSError."""


def site_of(request: HTTPConnection) -> Site:
    """Return the site a request was made to."""
    site = request.app.state.site
    assert isinstance(site, Site)
    return site
