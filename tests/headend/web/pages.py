"""A small feeder in a real store, and somebody signed in before it: what the tests of the pages stand on."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from tests.headend.messages import EVENT_TOPIC, EXAMPLE, TOPIC, payload
from tests.headend.new_store import new_store
from tests.headend.village_keys import CLINIC, keyring
from tests.headend.web.browser import NOW, PASSWORD, Browser, Premises, premises

from openami.headend.accounts import Role
from openami.headend.assets import FeederAssets, Meter, Pole
from openami.headend.audit import Entry
from openami.headend.ingest import Message, ingest
from openami.headend.store.assets import AssetsChange, AssetsKnown
from openami.headend.store.commands import StoredKeyring
from openami.headend.store.open import open_store
from openami.profile import shipped_catalogue, utc_text

FEEDER = EXAMPLE["feederId"]
GATEWAY = EXAMPLE["gatewayId"]
METER = EXAMPLE["meterSerial"]
RELAY_PAGE = f"/meters/{FEEDER}/{METER}/relay"
__all__ = [
    "CLINIC",
    "FEEDER",
    "GATEWAY",
    "METER",
    "NOW",
    "PASSWORD",
    "RELAY_PAGE",
    "House",
    "house",
]


@dataclass
class House:
    """The web over one feeder, and what its gateway says."""

    place: Premises

    @property
    def store(self) -> Any:
        return self.place.store

    def now(self) -> datetime:
        return self.place.clock.now()

    async def tell(self, body: bytes, topic: str = TOPIC) -> None:
        """Let the head-end receive a message now."""
        message = Message(topic, body, self.now() + timedelta(seconds=1))
        await self.store.commit(
            [ingest(message, catalogue=shipped_catalogue(), now=message.received_at)]
        )

    async def measure(
        self, serial: str = METER, at: datetime | None = None, **members: Any
    ) -> None:
        """Let a meter's registers be received."""
        body = payload(ts=utc_text(at or self.now()), meterSerial=serial, **members)
        await self.tell(body, TOPIC.replace(METER, serial))

    async def happen(self, type_: str, serial: str = METER, **members: Any) -> None:
        """Let a meter, or the gateway under its own name, tell an event."""
        event = {
            "eventId": f"{type_}-{serial}-{self.now().timestamp()}",
            "type": type_,
            "state": "raised",
            "severity": "major",
            "occurredAt": utc_text(self.now()),
            "source": "meter",
            **members,
        }
        body = payload(ts=utc_text(self.now()), meterSerial=serial, event=event)
        await self.tell(body, EVENT_TOPIC.replace(METER, serial))

    async def has_keyring(self) -> None:
        """Give its gateway a keyring, which protects the clinic."""
        kept = StoredKeyring(FEEDER, GATEWAY, 1, keyring(now=self.now()), self.now(), "root")
        await self.store.add_keyring(kept, Entry(who="root", what="keyring added"))

    async def has_assets(self, *protected: str, serials: Iterable[str] = ()) -> None:
        """Enter meters among the assets, all on one pole."""

        def decide(known: AssetsKnown) -> AssetsChange:
            before: FeederAssets = known.feeders[FEEDER]
            pole = Pole(feeder_id=FEEDER, id="p-3", name="3")
            meters = [
                Meter(feeder_id=FEEDER, serial=each, pole_id="p-3", protected=each in protected)
                for each in {*protected, *serials}
            ]
            return AssetsChange([replace(before, poles=(pole,), meters=tuple(meters))])

        await self.store.change_assets([FEEDER], decide, self.now())

    async def signed_in(
        self, name: str = "asha", role: Role = Role.OPERATOR, **more: Any
    ) -> Browser:
        """Return the browser of somebody who has signed in, a while ago."""
        await self.place.has_user(name, role, **more)
        browser = self.place.browser()
        answer = await browser.sign_in(name)
        assert answer.status_code == 303, answer.text
        return browser


async def stepped_up(browser: Browser) -> None:
    """Give the password again."""
    answer = await browser.post("/step-up", password=PASSWORD)
    assert answer.status_code == 303, answer.text


def told(answer: httpx.Response, status: int = 200) -> str:
    """Return a page's text, as it is read: without tags' line breaks."""
    assert answer.status_code == status, (answer.status_code, answer.headers, answer.text[:2000])
    return " ".join(answer.text.split())


@asynccontextmanager
async def house(directory: Path) -> AsyncIterator[House]:
    """Open the premises over a new store in which the profile's example has been received."""
    url = new_store(directory / "headend.db")
    async with open_store(url) as store, premises(store) as place:
        opened = House(place)
        await opened.measure()
        yield opened
