"""The web beside the ingest: real sockets, a thread of its own, and its end."""

import asyncio
import re
import ssl
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from tests.headend.program import head_end, wait_for
from tests.headend.web.browser import PASSWORD, Hand
from tests.pki import Pki
from tests.tools import free_port

from openami.clock import SystemClock
from openami.headend.broker_link import BrokerLink
from openami.headend.links import new_entrance
from openami.headend.listening import Listening, ListeningError, WebSettings, listening_of
from openami.headend.store import StoreError
from openami.headend.store.open import open_store
from openami.headend.streams import Alone, prove_store_on
from openami.headend.web.serving import GRACE_S, Web, WebStopped, bind, serve
from openami.profile import shipped_catalogue

HERE: Final = "127.0.0.1"


def listening(**members: Any) -> Listening:
    port = free_port()
    settings = WebSettings(listen=f"{HERE}:{port}", **members)
    found = listening_of(settings, machine="here")
    assert found is not None
    return found


def web(at: Listening, tmp_path: Path) -> Web:
    return Web(
        listening=at,
        store_url=f"sqlite:///{tmp_path}/headend.db",
        clock=SystemClock(),
        catalogue=shipped_catalogue(),
        link=lambda: BrokerLink(True, Hand().now()),
        can_command=False,
    )


async def test_pages_come_from_a_thread_of_their_own_and_it_ends_with_us(tmp_path: Path) -> None:
    at = listening()
    async with open_store(f"sqlite:///{tmp_path}/headend.db"):
        serving = asyncio.create_task(serve(web(at, tmp_path), bind(at)))
        async with httpx.AsyncClient(base_url=at.url) as browser:
            answer = await browser.get("/sign-in")
            assert answer.status_code == 200
            assert "server" not in answer.headers
            names = [thread.name for thread in threading.enumerate()]
            assert any(name.startswith("openami-web") for name in names)
            # A connection that is kept open holds nothing up.
            serving.cancel()
            async with asyncio.timeout(GRACE_S + 5):
                with pytest.raises(asyncio.CancelledError):
                    await serving
        names = [thread.name for thread in threading.enumerate()]
        assert not any(name.startswith(("openami-web", "openami-password")) for name in names)
        with bind(at):
            pass  # the address is free again


async def test_readiness_asks_the_ingest_on_its_own_event_loop(tmp_path: Path) -> None:
    at, here, asked = listening(), asyncio.get_running_loop(), []

    class Stuck(Alone):
        def __init__(self) -> None:
            """Nothing of it is needed."""

        async def prove_store(self) -> None:
            asked.append(asyncio.get_running_loop())
            raise StoreError("the primary is gone")

    async with open_store(f"sqlite:///{tmp_path}/headend.db"):
        shown = replace(web(at, tmp_path), prove_ingest=partial(prove_store_on, here, Stuck()))
        serving = asyncio.create_task(serve(shown, bind(at)))
        async with httpx.AsyncClient(base_url=at.url) as browser:
            answer = await browser.get("/readyz")
        serving.cancel()
        await asyncio.wait([serving])
    assert asked == [here]
    assert "the ingest: the primary is gone" in [
        check.get("detail") for check in answer.json()["checks"]
    ]


async def test_over_https_with_our_certificate(tmp_path: Path, pki: Pki) -> None:
    server = pki.server()
    at = listening(cert_file=str(server.cert_file), key_file=str(server.key_file))
    assert (at.url.partition(":")[0], at.secure) == ("https", True)
    async with open_store(f"sqlite:///{tmp_path}/headend.db") as store:
        path = await new_entrance(store, "nobody", who="test", now=SystemClock().now())
        serving = asyncio.create_task(serve(web(at, tmp_path), bind(at)))
        trust = ssl.create_default_context(cafile=str(pki.ca_file))
        async with httpx.AsyncClient(base_url=at.url, verify=trust) as browser:
            answer = await browser.get(path)
            assert answer.status_code == 410
            assert answer.headers["strict-transport-security"]
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving


async def test_a_web_that_cannot_go_on_says_so(tmp_path: Path) -> None:
    """The head-end ends with it: its tasks are one group."""
    at = listening()
    with pytest.raises(StoreError, match="there is no store"):
        await serve(web(at, tmp_path), bind(at))


async def test_a_web_that_ends_by_itself_ends_the_head_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import uvicorn

    monkeypatch.setattr(uvicorn.Config, "load", lambda _: None)

    async def ends(_: uvicorn.Server, sockets: object) -> None: ...

    monkeypatch.setattr(uvicorn.Server, "serve", ends)
    at = listening()
    async with open_store(f"sqlite:///{tmp_path}/headend.db"):
        with pytest.raises(WebStopped):
            await serve(web(at, tmp_path), bind(at))


def test_an_address_that_is_taken_is_said(pki: Pki) -> None:
    at = listening()
    with bind(at), pytest.raises(ListeningError, match="another program"):
        bind(at)
    server, other = pki.server(), pki.client("other")
    wrong = replace(at, cert_file=str(server.cert_file), key_file=str(other.key_file))
    with pytest.raises(ListeningError, match="no certificate with its key"):
        bind(wrong)


# --- where ---------------------------------------------------------------------------------------

LISTENS = [
    ({"listen": "127.0.0.1:8080"}, "http://127.0.0.1:8080", False),
    ({"listen": "[::1]:8080"}, "http://[::1]:8080", False),
    ({"listen": "0.0.0.0:8080", "allow_http": True}, "http://here:8080", False),
    ({"listen": "0.0.0.0:8443", "cert_file": "c.pem"}, "https://here:8443", True),
    ({"listen": "localhost:1", "public_url": "https://ami.example/"}, "https://ami.example", True),
]


@pytest.mark.parametrize(("said", "url", "secure"), LISTENS, ids=str)
def test_where_people_find_it(said: dict[str, Any], url: str, secure: bool) -> None:
    found = listening_of(WebSettings(**said), machine="here")
    assert found is not None
    assert (found.url, found.secure) == (url, secure)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"listen": "0.0.0.0:8080"}, "readable"),
        ({"listen": "10.0.0.1:8080", "public_url": "https://ami.example"}, "readable"),
        ({"listen": "8080"}, "HOST:PORT"),
        ({"listen": "127.0.0.1"}, "HOST:PORT"),
        ({"listen": "127.0.0.1:99999"}, "HOST:PORT"),
        ({"listen": "127.0.0.1:0"}, "HOST:PORT"),
        ({"listen": "http://127.0.0.1:80"}, "HOST:PORT"),
        ({"listen": "127.0.0.1:80", "public_url": "ami.example"}, "https://name"),
    ],
    ids=str,
)
def test_what_is_not_safe_or_not_meant_is_refused(said: dict[str, Any], why: str) -> None:
    with pytest.raises(ListeningError, match=why):
        listening_of(WebSettings(**said), machine="here")


def test_nothing_is_served_unasked() -> None:
    assert listening_of(WebSettings(), machine="here") is None


# --- the program ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_program_serves_beside_a_broker_that_is_not_there(tmp_path: Path) -> None:
    at, store = f"{HERE}:{free_port()}", f"sqlite:///{tmp_path}/headend.db"
    broker = f"mqtt://{HERE}:{free_port()}"
    with head_end(
        tmp_path / "log", "--broker", broker, "--store", store, "--listen", at
    ) as program:
        wait_for(lambda: "this makes the first" in program.log())
        said = re.search(r"http://\S+/first/\S+", program.log())
        assert said is not None
        with httpx.Client(base_url=f"http://{at}", headers={"origin": f"http://{at}"}) as browser:
            form = {"name": "ada", "password": PASSWORD, "again": PASSWORD}
            path = said[0].removeprefix(f"http://{at}")
            assert browser.post(path, data=form).headers["location"] == "/"
            page = browser.get("/account")
            assert page.status_code == 200
            assert "lost its broker" in page.text
            assert browser.post(path, data=form).status_code == 410
        assert program.stop() == 0
    with head_end(
        tmp_path / "again", "--broker", broker, "--store", store, "--listen", at
    ) as program:
        wait_for(lambda: "listening:" in program.log())
        assert "this makes the first" not in program.log()
        assert program.stop() == 0
