"""A village with a little of everything, in a real store, and the API over it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final, cast

import httpx
from fastapi import FastAPI
from tests.headend.decisions import accepted, register, rejected
from tests.headend.messages import TOPIC, payload
from tests.headend.web.doors import BearerDoor

from openami.clock import Clock
from openami.headend.accounts import Means, Principal, Role
from openami.headend.assets import Customer, Feeder, FeederAssets, Meter, Pole
from openami.headend.audit import Entry
from openami.headend.gap_life import Gap
from openami.headend.ingest import Accepted, Finding, Kind, Message, Rejected
from openami.headend.sessions import LedgerSession
from openami.headend.store.assets import AssetsChange
from openami.headend.store.commands import HeadEndStore
from openami.headend.web.app import build_app
from openami.headend.web.site import BrokerLink, Site
from openami.profile import (
    Code,
    Event,
    EventSource,
    EventState,
    Obis,
    ProfileError,
    Quality,
    Severity,
    shipped_catalogue,
    utc_text,
)

NOW: Final = datetime(2026, 6, 22, 14, 30, tzinfo=UTC)
QUARTER: Final = timedelta(minutes=15)
FEEDER, OTHER_FEEDER = "feeder-north", "feeder-south"
GATEWAY, METER, SILENT_METER, NEVER_HEARD = "pole-1", "M-1", "M-2", "M-3"
RELAY: Final = Obis.parse("96.11.1")


class StillClock:
    """It is half past two, until the test moves it."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at

    def boottime(self) -> float:
        return 1000.0

    def synchronised(self) -> bool:
        return True


def token_of(name: str, role: Role, **members: Any) -> Principal:
    """Return whoever has a token."""
    return Principal(name, role, Means.TOKEN, means_id=f"token-{name}", **members)


PEOPLE: Final = {
    "viewer": token_of("vera", Role.VIEWER),
    "operator": token_of("omar", Role.OPERATOR),
    "relays": token_of("rita", Role.OPERATOR, relays=True),
    "engineer": token_of("erik", Role.ENGINEER, relays=True),
    "person": token_of("pia", Role.OPERATOR, proved_at=NOW),
    "colleague": Principal("carla", Role.OPERATOR, Means.PROXY, proved_at=NOW),
    "carlas": token_of("vending", Role.ENGINEER, relays=True, maker="carla"),
    "himself": Principal("erik", Role.ENGINEER, Means.PROXY, proved_at=NOW),
    "late": Principal("carla", Role.OPERATOR, Means.PROXY, proved_at=NOW + timedelta(days=1)),
    "early": Principal("erik", Role.ENGINEER, Means.PROXY, proved_at=NOW - timedelta(hours=1)),
    "keeper": token_of("keeper", Role.ENGINEER, accounts=True),
    "south": token_of("sami", Role.ENGINEER, relays=True, feeders=frozenset({OTHER_FEEDER})),
}


@dataclass(frozen=True, slots=True)
class Asking:
    """The application, and a client that asks it."""

    app: FastAPI
    client: httpx.AsyncClient

    async def get(self, path: str, who: str = "viewer", **told: Any) -> httpx.Response:
        """Ask for something."""
        return await self.client.get(f"/api/v1{path}", headers=_headers(who, told), **told)

    async def post(self, path: str, who: str = "relays", **told: Any) -> httpx.Response:
        """Ask for a change."""
        return await self.client.post(f"/api/v1{path}", headers=_headers(who, told), **told)

    async def put(self, path: str, who: str = "engineer", **told: Any) -> httpx.Response:
        """Ask for something to be as told."""
        return await self.client.put(f"/api/v1{path}", headers=_headers(who, told), **told)

    async def items(self, path: str, who: str = "viewer", **params: Any) -> list[dict[str, Any]]:
        """Return a whole list, page by page."""
        answer = await self.get(path, who, params=params)
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        while answer.json()["next"] is not None:
            link = answer.headers["link"]
            assert link == f'<{answer.json()["next"]}>; rel="next"'
            answer = await self.client.get(answer.json()["next"], headers=_headers(who, {}))
            assert answer.status_code == 200, answer.text
            items += answer.json()["items"]
        assert "link" not in answer.headers
        return items


@dataclass(frozen=True, slots=True)
class Village(Asking):
    """An application over a store, in a time that stands still."""

    store: HeadEndStore
    clock: StillClock


def _headers(who: str, told: dict[str, Any]) -> dict[str, str]:
    # A person's browser says where a request comes from; a program has nothing to say.
    by_token = who not in PEOPLE or PEOPLE[who].means is Means.TOKEN
    origin = {} if by_token else {"Origin": "http://head-end"}
    return {"Authorization": f"Bearer {who}", **origin, **told.pop("headers", {})}


def site_over(store: HeadEndStore, clock: Clock, *, can_command: bool = True) -> Site:
    """Return a site whose tokens are the names of PEOPLE's keys."""
    return Site(
        store=store,
        clock=clock,
        catalogue=shipped_catalogue(),
        doorkeeper=BearerDoor(PEOPLE),
        link=lambda: BrokerLink(heard=True, since=NOW),
        can_command=can_command,
    )


@asynccontextmanager
async def village_over(store: HeadEndStore) -> AsyncIterator[Village]:
    """Give the API over a store that has been filled."""
    clock = StillClock()
    app = _application(site_over(store, clock))
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://head-end") as client:
        yield Village(app, client, store, clock)


@cache
def _built() -> FastAPI:
    """Return an application: building one takes longer than most tests."""
    return build_app(site_over(cast(HeadEndStore, None), StillClock()))


def _application(site: Site) -> FastAPI:
    """Return the application, at another site than before."""
    app = _built()
    app.state.site = site
    return app


async def fill(store: HeadEndStore) -> None:
    """Put a village's afternoon into a store."""
    await store.change_assets([FEEDER, OTHER_FEEDER], lambda _: _assets(), NOW)
    await store.commit([*_readings(), *_events(), *_rejected()])
    await store.put_gaps([_gap(FEEDER, 5), _gap(FEEDER, 9), _gap(OTHER_FEEDER, 7)])
    await store.put_intervals({FEEDER: 900, OTHER_FEEDER: 900})
    for feeder in (FEEDER, OTHER_FEEDER):
        session = _session(feeder)
        entry = Entry(who="omar", what="session requested", session_id=session.id)
        await store.add_session(session, entry, session.requested_at)


def _assets() -> AssetsChange:
    return AssetsChange(
        after=[
            FeederAssets(
                feeder=Feeder(id=feeder, name=f"The {feeder}", time_zone="Africa/Nairobi"),
                poles=(
                    Pole(feeder_id=feeder, id="pole-1", name="By the mill", number=1),
                    Pole(
                        feeder_id=feeder,
                        id="pole-2",
                        name="At the well",
                        number=2,
                        parent="pole-1",
                        longitude=36.8,
                        latitude=-1.3,
                    ),
                ),
                meters=(
                    Meter(
                        feeder_id=feeder,
                        serial=METER,
                        pole_id="pole-2",
                        customer_id="house-1",
                        phase="A",
                    ),
                    Meter(feeder_id=feeder, serial=NEVER_HEARD, pole_id="pole-2", protected=True),
                ),
                customers=(Customer(feeder_id=feeder, id="house-1", name="=Amina"),),
            )
            for feeder in (FEEDER, OTHER_FEEDER)
        ],
    )


def _readings() -> list[Accepted]:
    found = (Finding("FELL", METER, "1.8.0", "it fell by 3"),)
    batch = [
        accepted(
            register(103 - n / 4),
            register("connected" if n % 2 else "=1+1", RELAY, unit="enum"),
            ts=NOW - n * QUARTER,
            feeder=feeder,
            gateway=GATEWAY,
            meter=METER,
            seq=40 - n,
            findings=found if n == 0 else (),
        )
        for feeder in (FEEDER, OTHER_FEEDER)
        for n in range(12)
    ]
    lost = accepted(
        register(7, quality=Quality.COMMS_LOST), ts=NOW, feeder=FEEDER, gateway=GATEWAY,
        meter=SILENT_METER,
    )  # fmt: skip
    return [*batch, lost]


def _events() -> list[Accepted]:
    return [
        accepted(
            ts=NOW - n * QUARTER,
            feeder=feeder,
            gateway=GATEWAY,
            meter=METER,
            kind=Kind.EVENT,
            event=Event(
                event_id=f"e-{n}",
                type="tamper.cover_open" if n else "power.lost",
                state=EventState.RAISED,
                severity=Severity.MAJOR,
                occurred_at=utc_text(NOW - n * QUARTER),
                source=EventSource.METER,
            ),
        )
        for feeder in (FEEDER, OTHER_FEEDER)
        for n in range(3)
    ]


def _rejected() -> list[Rejected]:
    fault = ProfileError(Code.TIME_IN_FUTURE, "OA-ENV-003", "/ts", "ahead of the clock")
    replayable = Rejected(Message(TOPIC, payload(), NOW), (fault,))
    topic = f"openami/v1/{OTHER_FEEDER}/{GATEWAY}/meter/{METER}/telemetry"
    return [replayable, rejected(b"\xff\x00", topic=topic), rejected(b"nonsense", topic="x/y")]


def _gap(feeder: str, first: int) -> Gap:
    return Gap(
        feeder_id=feeder,
        gateway_id=GATEWAY,
        epoch=1,
        first=first,
        last=first + 1,
        missing=2,
        measured_from=NOW - QUARTER,
        measured_to=NOW,
        noticed_at=NOW,
        changed_at=NOW,
    )


def _session(feeder: str) -> LedgerSession:
    base = LedgerSession(
        id=f"sip-{feeder}",
        feeder_id=feeder,
        gateway_id=GATEWAY,
        requested_by="omar",
        reason="rota",
        requested_at=NOW - QUARTER,
        valid_to=NOW + timedelta(days=7),
    )
    return replace(base, due_at=NOW)
