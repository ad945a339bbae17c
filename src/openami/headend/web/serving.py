"""The web beside the ingest: uvicorn on a thread of its own, with an event loop and a store connection of its own.

So a page never stands between a message and its acknowledgement: what the two share is the database, which is made
for it, and Python's interpreter lock, which goes round every few milliseconds. The web ends with the head-end; if
it ends by itself, the head-end ends with it, and the supervisor starts both (decision 0037).
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog
from starlette.types import ASGIApp

from openami.clock import Clock
from openami.headend.accounts.passwords import Argon2Hasher
from openami.headend.accounts.proxy import ProxyRules
from openami.headend.broker_link import BrokerLink
from openami.headend.listening import Listening, ListeningError
from openami.headend.liveness import Pulse
from openami.headend.metrics import HeadendMetrics
from openami.headend.signing import DISCONNECTS_PER_HOUR_DEFAULT
from openami.headend.standing import Standing
from openami.headend.store import Access, StoreError
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.disk import free_bytes
from openami.headend.store.open import open_store
from openami.headend.tracing import Tracing, Untraced
from openami.headend.web.app import build_app
from openami.headend.web.doorkeeper import AccountsDoorkeeper
from openami.headend.web.sign_in_desk import SignInDesk
from openami.headend.web.site import Site
from openami.profile import RegisterCatalogue
from openami.web_server import WebServer

if TYPE_CHECKING:  # only a head-end with a key needs the library that signs
    from openami.sip.keyring import Roots
    from openami.sip.keys import Signer

# Six for each of twenty browsers, live streams among them; what is beyond is told 503 and comes again.
CONNECTIONS_MAX: Final = 128
# Connections that wait to be taken up while a page is made.
BACKLOG_MAX: Final = 64
# A phone on a poor link asks for the next page within so long, and spares itself a handshake.
KEEP_ALIVE_S: Final = 20
# What is being answered when we are told to end; a live stream is cut, its browser comes back.
GRACE_S: Final = 2
# Lines and headers of a request before it is one.
REQUEST_HEAD_BYTES_MAX: Final = 32 * 1024
# How often the web's event loop shows that it turns.
BEAT_S: Final = 1.0
# How often the store is looked for that cannot be reached.
STORE_RETRY_S: Final = 1.0

_log = structlog.get_logger("headend.web")


@dataclass(frozen=True, slots=True)
class Web:
    """What there is to serve."""

    listening: Listening
    store_url: str
    clock: Clock
    catalogue: RegisterCatalogue
    link: Callable[[], BrokerLink]
    """Asked from the web's thread: returns what another thread has left there."""
    can_command: bool
    standing: Callable[[], Standing | None] = lambda: None
    """Which share of the feeders is this head-end's, where several share them."""
    prove_ingest: Callable[[], Awaitable[None]] | None = None
    """Asked from the web's thread: returns when the store takes the ingest's writes. Raises StoreError."""
    disconnects_per_hour_max: int = DISCONNECTS_PER_HOUR_DEFAULT
    keys: "tuple[Signer, Roots] | None" = None
    """With which key days are certified, and whom a keyring is believed."""
    proxy: ProxyRules | None = None
    metrics: HeadendMetrics = field(default_factory=HeadendMetrics)
    tracing: Tracing = field(default_factory=Untraced)
    pulse: Pulse = field(default_factory=lambda: Pulse("web"))


class WebStopped(Exception):
    """The web has ended though nobody told it to."""


def bind(listening: Listening) -> socket.socket:
    """Take the address, and look whether the certificate is one. Raises ListeningError."""
    if listening.cert_file is not None:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
                listening.cert_file, listening.key_file
            )
        except (OSError, ssl.SSLError) as error:
            raise ListeningError(
                f"{listening.cert_file}: no certificate with its key: {error}"
            ) from None
    family = socket.AF_INET6 if ":" in listening.host else socket.AF_INET
    try:
        return socket.create_server(
            (listening.host, listening.port), family=family, backlog=BACKLOG_MAX
        )
    except OSError as error:
        raise ListeningError(
            f"cannot listen on {listening.host}:{listening.port}: {error.strerror or error}; "
            "is another program there?"
        ) from None


async def serve(web: Web, bound: socket.socket) -> None:
    """Serve until cancelled. Raises WebStopped, and what the web's thread has raised."""
    ending = _Ending()
    loop = asyncio.get_running_loop()
    with bound, ThreadPoolExecutor(1, "openami-web") as thread:
        running = loop.run_in_executor(thread, lambda: asyncio.run(_serve(web, bound, ending)))
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            ending.tell()
            await running
            raise
    raise WebStopped("the web has ended by itself")


class _Ending:
    """How the head-end's thread tells the web's to end: a flag that uvicorn looks at ten times a second."""

    def __init__(self) -> None:
        self.told = False
        self.server: WebServer | None = None

    def tell(self) -> None:
        self.told = True
        if self.server is not None:
            self.server.should_exit = True


async def _serve(web: Web, bound: socket.socket, ending: _Ending) -> None:
    async with AsyncExitStack() as resources:
        beating = asyncio.create_task(_beat(web.pulse), name="beat")
        resources.callback(beating.cancel)
        store = await _opened_store(web, resources, ending)
        if store is None:
            return
        listening = web.listening
        door = AccountsDoorkeeper(
            store,
            web.clock,
            secure=listening.secure,
            proxy=web.proxy,
            proxy_host=listening.netloc,
            refused=web.metrics.sign_in_failures.inc,
        )
        desk = SignInDesk(
            store, web.clock, door, Argon2Hasher(), refused=web.metrics.sign_in_failures.inc
        )
        resources.callback(desk.close)
        site = Site(
            store=store,
            clock=web.clock,
            catalogue=web.catalogue,
            doorkeeper=door,
            link=web.link,
            standing=web.standing,
            prove_ingest=web.prove_ingest,
            can_command=web.can_command,
            disconnects_per_hour_max=web.disconnects_per_hour_max,
            certificate=_certificate(web, store),
            secure=listening.secure,
            desk=desk,
            behind_proxy=web.proxy is not None,
            metrics=web.metrics,
            tracing=web.tracing,
            store_free_bytes=partial(free_bytes, web.store_url),
        )
        server = ending.server = _server(build_app(site), listening)
        if ending.told:
            server.should_exit = True
        await server.serve(sockets=[bound])


async def _beat(pulse: Pulse) -> None:
    try:
        while True:
            pulse.since_s = asyncio.get_running_loop().time()
            await asyncio.sleep(BEAT_S)
    finally:
        pulse.since_s = None  # the web has ended, and the head-end ends with it


def _certificate(
    web: Web, store: HeadEndStore
) -> Callable[[str, str, date], Awaitable[bytes]] | None:
    if web.keys is None:
        return None
    from openami.headend.day_certificates import verified

    signer, roots = web.keys

    async def make(feeder_id: str, gateway_id: str, day: date) -> bytes:
        return await verified(
            store,
            feeder_id=feeder_id,
            gateway_id=gateway_id,
            day=day,
            signer=signer,
            roots=roots,
            now=web.clock.now(),
        )

    return make


async def _opened_store(
    web: Web, resources: AsyncExitStack, ending: _Ending
) -> HeadEndStore | None:
    """Return the store beside the head-end's own connection; None if we are told to end first."""
    while not ending.told:
        try:
            return await resources.enter_async_context(open_store(web.store_url, Access.EDIT))
        except StoreError as error:
            if error.permanent:
                raise
            _log.warning("the web waits for the store", error=str(error))
        await asyncio.sleep(STORE_RETRY_S)
    return None


def _server(app: ASGIApp, listening: Listening) -> WebServer:
    return WebServer(
        app,
        connections_max=CONNECTIONS_MAX,
        keep_alive_s=KEEP_ALIVE_S,
        end_s_max=GRACE_S,
        # Whom a proxy speaks for is the doorkeeper's to judge: uvicorn would believe whoever is on this machine.
        proxy_headers=False,
        h11_max_incomplete_event_size=REQUEST_HEAD_BYTES_MAX,
        ssl_certfile=listening.cert_file,
        ssl_keyfile=listening.key_file,
    )
