"""What anybody can hand to whoever verifies commissioning records, and what a LAN can send to the walk's forms."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import rfc8785
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send
from tests.fuzz.http_targets import Connection, request, status_of
from tests.fuzz.target import Target, directory
from tests.gateway.clock_double import ClockDouble
from tests.gateway.houses import configuration
from tests.gateway.test_status import snapshot
from tests.headend.village_keys import GATEWAY, ROOTS, signer
from tests.sip.test_commissioning_record import MADE_AT, WHOLE

from openami.gateway.commissioning import ledger
from openami.gateway.commissioning.permit import SignInRefusal, issue, sign_in, signed_in_as
from openami.gateway.commissioning.presses import Ask
from openami.gateway.commissioning.readable import record_html, record_text
from openami.gateway.commissioning.view import View
from openami.gateway.commissioning.web import Walk
from openami.gateway.config import load_config
from openami.gateway.database import open_database
from openami.gateway.driver import MeterSilent, RawReading
from openami.gateway.installed_drivers import InstalledDrivers
from openami.gateway.metrics import GatewayMetrics
from openami.gateway.snapshot import Snapshot
from openami.gateway.status import WALK_HEADERS, TakeSnapshot, status_app
from openami.profile import MeterSerial
from openami.sip.acts import ActType
from openami.sip.canonical import SIGNATURE, read_document
from openami.sip.commissioning import Limits
from openami.sip.commissioning_record import (
    RECORD_BYTES_MAX,
    RecordError,
    is_record,
    verify_record,
)
from openami.sip.compose import sign
from openami.sip.errors import SipError

_NOW = datetime(2026, 6, 22, 14, tzinfo=UTC)
_PIN = "482173"
_SECRET = "s" * 43


def record(data: bytes) -> None:
    """Nothing is believed but the bytes that were signed; a refusal says what to do."""
    is_record(data)
    try:
        verify_record(data, ROOTS)
    except RecordError as error:
        assert str(error)
        assert error.remedy
        return
    assert data == WHOLE


def record_resigned(data: bytes) -> None:
    """A gateway gone mad signs what it likes: refused, or readable by people."""
    try:
        members = read_document(data, RECORD_BYTES_MAX).members
        members.pop(SIGNATURE, None)
        again = sign(members, signer(GATEWAY), ActType.COMMISSIONING, iat=int(MADE_AT.timestamp()))
        verified = verify_record(rfc8785.dumps(again), ROOTS)
    except (SipError, RecordError):
        return
    record_text(verified.content, verified.sha256)
    assert "<script" not in record_html(verified.content, verified.sha256)


def walk_pin(data: bytes) -> None:
    """Whatever is typed for a PIN opens nothing, unless it is the PIN."""
    typed = data.decode("utf-8", "replace")
    permit, refusal = sign_in(
        issue(_PIN, b"salt", _NOW), typed, secret="secret", by="Asha", now=_NOW
    )
    opened = signed_in_as(permit, "secret", _NOW) == "Asha"
    assert opened == (refusal is None)
    if opened:
        digits = [sign for sign in typed if not sign.isspace()]
        assert len(digits) == len(_PIN)
        assert all(sign.isdecimal() for sign in digits)
    else:
        assert refusal is SignInRefusal.WRONG


@cache
def _walk() -> Connection:
    """The walk behind the status page, with somebody signed in whose cookie the seeds show."""
    here, clock, resources = directory("walk"), ClockDouble(), AsyncExitStack()
    file = configuration(here, modbus_port=1, meters=[("DS1000-88421", 1, None)], status_port=1)

    async def take() -> Snapshot:
        return snapshot()

    async def ask(serial: MeterSerial) -> Sequence[RawReading]:
        raise MeterSilent(f"{serial} does not answer")

    made: list[Starlette] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if not made:
            made.append(await _made(resources, here, clock, file, take, ask))
        await made[0](scope, receive, send)

    return Connection(app)


async def _made(
    resources: AsyncExitStack,
    here: Path,
    clock: ClockDouble,
    file: Path,
    take: TakeSnapshot,
    ask: Ask,
) -> Starlette:
    """Open the database on the loop that asks, and sign somebody in."""
    database = await resources.enter_async_context(open_database(here / "gateway.db"))
    permit = issue(_PIN, b"salt", clock.now())
    await database.run(lambda c: ledger.begin(c, permit, feeder_meter=None, limits=Limits()))
    await database.run(
        lambda c: ledger.try_pin(c, _PIN, secret=_SECRET, by="Asha", now=clock.now())
    )
    view = View(
        load_config(file, InstalledDrivers(), {}),
        InstalledDrivers(),
        database,
        snapshot=take,
        clock=clock,
    )
    walk = Walk(view, ask, WALK_HEADERS)
    return status_app(take, GatewayMetrics(), more=walk.routes)


def walk_http(data: bytes) -> None:
    """An answer that is no server's fault, to somebody signed in and to a stranger."""
    assert status_of(_walk().ask(data)) < 500


def _pressed() -> Sequence[bytes]:
    signed_in = ("Origin: http://gateway", f"Cookie: openami-walk={_SECRET}")
    meter = b"meter=DS1000-88421"
    forms = {
        "walk-ask": meter,
        "walk-load-before": meter + b"&load_w=60",
        "walk-load-on": meter,
        "walk-tick": meter + b"&outcome=problem&note=loose&nameplate=yes",
        "walk-hour-begin": b"",
        "walk-deviation": b"rule=bench&about=&reason=on+paper",
        "walk-sign-in": b"pin=000000&by=E",
    }
    pages = ("walk", "walk-meter?meter=DS1000-88421", "walk-hour", "walk-sign-in")
    return [
        *(request(f"GET /{page} HTTP/1.1", *signed_in) for page in pages),
        *(request(f"POST /{path} HTTP/1.1", *signed_in, body=body) for path, body in forms.items()),
        request("POST /walk-tick HTTP/1.1", *signed_in, "Transfer-Encoding: chunked")
        + b"3\r\nabc\r\n",
    ]


def _records() -> Sequence[bytes]:
    return [WHOLE]


def _pins() -> Sequence[bytes]:
    return [_PIN.encode(), b"482 173", "٤٨٢١٧٣".encode(), b"000000"]


TARGETS = (
    Target("commissioning_record", record, _records, 100),
    Target("commissioning_record_resigned", record_resigned, _records, 50),
    Target("walk_pin", walk_pin, _pins, 100),
    Target("walk_http", walk_http, _pressed, 80),
)
