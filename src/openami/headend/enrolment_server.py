"""The enrolment server: a small HTTPS service before the desk.

    GET  /v1/village     the authority's certificate and the roots; a gateway believes them by the fingerprint
                         in its token, and only then says anything of itself
    POST /v1/enrol       a request, with `Authorization: Bearer TOKEN` → the answer
    POST /v1/renew       a request of a known gateway → the answer

A refusal is a JSON object with `code` and `detail`: 401 without a good token, 403 for anything else that must
not be, 413 for more than a request can have.
"""

import asyncio
import socket
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from openami.headend.enrolment import EnrolmentDesk
from openami.headend.village import TlsFiles, VillageError
from openami.keyfiles import print_roots
from openami.pki.certificates import print_certificate
from openami.pki.enrolment import EnrolmentError, Refusal
from openami.sip.canonical import DOCUMENT_BYTES_MAX
from openami.web_server import WebServer

# Gateways come one by one; more at once is somebody's mistake or attack, and gets 503.
CONNECTIONS_MAX: Final = 32
# Longer than a request over GPRS takes; a connection that says nothing is closed.
REQUEST_TIMEOUT_S: Final = 30.0
IDLE_TIMEOUT_S: Final = 5
GRACE_S: Final = 3


def enrolment_app(desk: EnrolmentDesk, tell: Callable[[str], None]) -> Starlette:
    """Return the service; ``tell`` is told one line for each answer and each refusal."""

    async def village(_: HttpRequest) -> Response:
        body = await run_in_threadpool(_village, desk)
        return Response(body, media_type="application/json")

    async def enrol(http: HttpRequest) -> Response:
        scheme, _, token = http.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return _refused(EnrolmentError(Refusal.BAD_TOKEN, "a token is asked for"))
        return await answered(http, lambda payload: desk.enrol_by_token(payload, token))

    async def renew(http: HttpRequest) -> Response:
        return await answered(http, desk.renew)

    async def answered(http: HttpRequest, step: Callable[[bytes], bytes]) -> Response:
        whom = http.client.host if http.client else "?"
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                payload = await _body(http)
            if payload is None:
                return JSONResponse(
                    {
                        "code": Refusal.BAD_REQUEST,
                        "detail": f"more than {DOCUMENT_BYTES_MAX} bytes",
                    },
                    413,
                )
            answer = await run_in_threadpool(step, payload)
        except EnrolmentError as error:
            tell(f"refused {whom} at {http.url.path}: {error}")
            return _refused(error)
        except VillageError as error:
            tell(f"cannot answer {whom}: {error}; {error.remedy}")
            return JSONResponse({"code": "UNAVAILABLE", "detail": "see the server's log"}, 503)
        except sqlite3.Error as error:  # a full disk, or a register that somebody holds
            tell(f"cannot answer {whom}: the register: {error}")
            return JSONResponse({"code": "UNAVAILABLE", "detail": "see the server's log"}, 503)
        except ClientDisconnect:
            tell(f"{whom} hung up in the middle of its request")
            return Response(status_code=400)  # nobody reads it
        except TimeoutError:
            return JSONResponse({"code": "TIMEOUT", "detail": "the request took too long"}, 408)
        tell(f"answered {whom} at {http.url.path}")
        return Response(answer, media_type="application/json")

    return Starlette(
        routes=[
            Route("/v1/village", village, methods=["GET"]),
            Route("/v1/enrol", enrol, methods=["POST"]),
            Route("/v1/renew", renew, methods=["POST"]),
        ]
    )


async def serve_enrolment(
    app: Starlette, listener: socket.socket, tls: TlsFiles, *, stop: asyncio.Event
) -> None:
    """Serve until ``stop`` is set."""
    server = WebServer(
        app,
        connections_max=CONNECTIONS_MAX,
        keep_alive_s=IDLE_TIMEOUT_S,
        end_s_max=GRACE_S,
        ssl_certfile=tls.cert_file,
        ssl_keyfile=tls.key_file,
    )
    serving = asyncio.create_task(server.answer(listener), name="enrolment server")
    stopped = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait((serving, stopped), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


def _village(desk: EnrolmentDesk) -> bytes:
    return msgspec.json.encode(
        {
            "authority": print_certificate(desk.village.authority().certificate).decode("ascii"),
            "roots": print_roots(desk.village.roots()),
        }
    )


async def _body(http: HttpRequest) -> bytes | None:
    """Return the body; None as soon as it is larger than a request can be."""
    body = b""
    async for chunk in http.stream():
        body += chunk
        if len(body) > DOCUMENT_BYTES_MAX:
            return None
    return body


def _refused(error: EnrolmentError) -> Response:
    status = 401 if error.code is Refusal.BAD_TOKEN else 403
    return JSONResponse({"code": error.code.value, "detail": error.detail}, status)
