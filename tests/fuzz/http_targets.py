"""The HTTP surfaces there are: the gateway's status page and the enrolment server.

The bytes are a connection's, from the request line on, and go through uvicorn's own protocol over a socket pair. No
request may end in an exception: not one that leaves the application, and not a 500.
"""

import asyncio
import re
import socket
from collections.abc import MutableMapping, Sequence
from functools import cache
from typing import Any, Final

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.fuzz.key_targets import enrolling
from tests.fuzz.target import Target
from tests.gateway.test_status import snapshot
from tests.keys.villages import GATEWAY, NOW
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from openami.gateway.metrics import GatewayMetrics
from openami.gateway.snapshot import Snapshot
from openami.gateway.status import status_app
from openami.headend.enrolment import EnrolmentDesk
from openami.headend.enrolment_server import enrolment_app
from openami.pki.enrolment import token_hash, token_text

_PATIENCE_S: Final = 0.02  # for a body that does not come; then the other side hangs up
_STUCK_S: Final = 5.0  # longer than any answer takes; an application that is still busy hangs
_statuses = re.compile(rb"HTTP/1\.1 (\d{3}) ").match


class Connection:
    """An application behind uvicorn's protocol, asked over a socket pair; keeps what escaped from it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._runner = asyncio.Runner()
        self._escaped: list[BaseException] = []
        self._config = uvicorn.Config(
            self._watched,
            interface="asgi3",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
        )
        self._config.load()

    async def _watched(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except h11.LocalProtocolError:
            # uvicorn has refused what followed the request's head and then passes our answer on to a
            # connection that is over: its own fault, told to nobody but its log.
            pass
        except Exception as error:  # uvicorn would only log it; `ask` raises it
            self._escaped.append(error)

    def ask(self, data: bytes) -> bytes:
        """Return everything that was answered. Raises what escaped the application."""
        self._escaped.clear()
        answered = self._runner.run(self._exchange(data))
        if self._escaped:
            raise self._escaped[0]
        return answered

    async def _exchange(self, data: bytes) -> bytes:
        loop, state = asyncio.get_running_loop(), ServerState()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        app_state: MutableMapping[str, Any] = {}
        await loop.connect_accepted_socket(
            lambda: H11Protocol(self._config, state, dict(app_state), loop), theirs
        )
        sending = asyncio.create_task(loop.sock_sendall(ours, data))
        answer = asyncio.create_task(_all_of(loop, ours))
        await asyncio.wait([sending], timeout=_STUCK_S)
        for _ in range(4):  # the protocol reads in the loop's next rounds
            await asyncio.sleep(0)
        if state.tasks:
            await asyncio.wait(set(state.tasks), timeout=_PATIENCE_S)
        ours.shutdown(socket.SHUT_WR)
        if state.tasks:
            _, busy = await asyncio.wait(set(state.tasks), timeout=_STUCK_S)
            assert not busy, "the application does not notice that the other side hung up"
        async with asyncio.timeout(_STUCK_S):
            answered = await answer
        ours.close()
        return answered


async def _all_of(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> bytes:
    answered = b""
    try:
        while chunk := await loop.sock_recv(connection, 65536):
            answered += chunk
    except ConnectionError:  # hung up on with our bytes unread
        pass
    return answered


def status_of(answered: bytes) -> int:
    """Return the first answer's status; 0 where nothing was answered."""
    found = _statuses(answered)
    assert found or not answered, answered[:80]
    return int(found[1]) if found else 0


@cache
def _status() -> Connection:
    async def take() -> Snapshot:
        return snapshot()

    return Connection(status_app(take, GatewayMetrics()))


@cache
def _enrolment() -> tuple[Connection, list[str]]:
    us = enrolling()
    with us.village.register() as register:
        register.add_token(
            token_hash(_SECRET), str(GATEWAY), expires_at=NOW.replace(year=2030), now=NOW
        )
    told: list[str] = []
    return Connection(enrolment_app(EnrolmentDesk(us.village, lambda: NOW), told.append)), told


_SECRET = bytes(16)


def status_http(data: bytes) -> None:
    """An answer that is no server's fault, whatever path, method, header or body."""
    assert status_of(_status().ask(data)) < 500


def enrolment_http(data: bytes) -> None:
    """An answer that is no server's fault, and one printable line of log for it."""
    connection, told = _enrolment()
    told.clear()
    assert status_of(connection.ask(data)) < 500
    for line in told:
        assert line.isprintable(), line


def request(line: str, *headers: str, body: bytes = b"") -> bytes:
    length = (f"Content-Length: {len(body)}",) if body else ()
    return "\r\n".join((line, "Host: gateway", *headers, *length, "", "")).encode() + body


def _statuses_asked() -> Sequence[bytes]:
    accept = "Accept: application/openmetrics-text; version=1.0.0; escaping=underscores; q=0.5, text/plain"
    paths = ("/", "/style.css", "/healthz", "/readyz", "/metrics/", "/version?x=%00", "/nothing")
    return [
        *(request(f"GET {path} HTTP/1.1") for path in paths),
        request("GET /metrics HTTP/1.1", accept),
        request("HEAD / HTTP/1.1", "Connection: close"),
        request("POST / HTTP/1.1", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n\r\n",
    ]


def _enrolments() -> Sequence[bytes]:
    bearer = f"Authorization: Bearer {token_text(_SECRET, 'A' * 43)}"
    payload = enrolling().payload
    return [
        request("GET /v1/village HTTP/1.1"),
        request("POST /v1/enrol HTTP/1.1", bearer, body=payload),
        request("POST /v1/enrol HTTP/1.1", "Authorization: Basic eA==", body=payload),
        request("POST /v1/renew HTTP/1.1", body=payload),
        request("POST /v1/renew HTTP/1.1", body=b'{"enrolment":"x","feederId":1,"seq":[]}'),
        request("POST /v1/renew HTTP/1.1", "Expect: 100-continue") + b"{}",
        request("POST /v1/renew HTTP/1.1", body=b"{}").replace(b"gateway", b"[::1]:8080"),
    ]


TARGETS = (
    Target("status_http", status_http, _statuses_asked, 100),
    Target("enrolment_http", enrolment_http, _enrolments, 80),
)
