"""What machines ask of the head-end itself: is it alive, can it work, what has it counted.

/healthz   200 while the process lives
/readyz    200 while it can do its work, else 503; JSON with each check
/metrics   for Prometheus: a program on this machine, or a viewer's token (decision 0044)
/version   which program this is
"""

import asyncio
from collections.abc import Awaitable, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from openami import __version__
from openami.headend.accounts import Role
from openami.headend.feeder_losses import FeederLosses
from openami.headend.metrics import Look
from openami.headend.readiness import Check, CheckState, Facts, checks
from openami.headend.store import StoreError
from openami.headend.survey import Survey, Surveyor
from openami.headend.web.admission import declares, is_from_here, open_to_all
from openami.headend.web.site import Site

METRICS: Final = "/metrics"
# A balancer asks every few seconds, strangers as often as they like; each look costs a sync of the disk.
READINESS_AGE_S_MAX: Final = 5.0
# A write waits its turn behind a batch of a thousand; a store that takes longer stands still.
WRITE_TIMEOUT_S: Final = 10.0
_NO_STORE: Final = {"Cache-Control": "no-store"}


def operations_routes(site: Site) -> APIRouter:
    """Return the routes above."""
    routes = APIRouter(include_in_schema=False)
    surveyor = Surveyor(site.store, site.clock)
    losses = FeederLosses(site.store, site.clock)
    readiness = _Readiness(site)

    @routes.get("/healthz")
    @open_to_all
    async def healthz() -> Response:
        return JSONResponse({"status": "ok"}, headers=_NO_STORE)

    @routes.get("/version")
    @open_to_all
    async def version() -> Response:
        return JSONResponse({"version": __version__}, headers=_NO_STORE)

    @routes.get("/readyz")
    @open_to_all
    async def readyz(request: Request) -> Response:
        found = await readiness.look()
        failed = found[0].state is CheckState.FAIL
        return JSONResponse(
            _told(found, in_detail=request.state.principal is not None or is_from_here(request)),
            status_code=HTTPStatus.SERVICE_UNAVAILABLE if failed else HTTPStatus.OK,
            headers=_NO_STORE,
        )

    @routes.get(METRICS)
    @declares(Role.VIEWER, or_from_here=True)
    async def metrics(request: Request) -> Response:
        survey: Survey | None
        try:
            survey = await surveyor.look()
        except StoreError:  # that it does not answer is what has to be told
            survey = None
        lost = losses.look()
        principal = request.state.principal
        if principal is not None:
            survey = None if survey is None else survey.within(principal.sees)
            lost = {feeder: loss for feeder, loss in lost.items() if principal.sees(feeder)}
        link = site.link()
        content, content_type = site.metrics.rendered(
            Look(
                broker_heard=link.heard,
                broker_since=link.since,
                survey=survey,
                store_free_bytes=_free_bytes(site),
                losses=lost,
                standing=site.standing(),
            ),
            request.headers.get("accept", ""),
        )
        return Response(content, headers={**_NO_STORE, "Content-Type": content_type})

    return routes


def _told(found: Sequence[Check], *, in_detail: bool) -> dict[str, Any]:
    """Return the checks for JSON; a stranger is told which of them fails and not why."""
    return {
        "status": found[0].state,
        "checks": [
            {"name": check.name, "status": check.state}
            | ({"detail": check.detail} if in_detail else {})
            for check in found
        ],
    }


class _Readiness:
    """Gathers what the checks judge, at most every READINESS_AGE_S_MAX."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._turn = asyncio.Lock()
        self._looked: tuple[float, Sequence[Check]] | None = None
        self._proving: asyncio.Future[None] | None = None

    async def look(self) -> Sequence[Check]:
        loop = asyncio.get_running_loop()
        async with self._turn:
            if self._looked is None or loop.time() - self._looked[0] > READINESS_AGE_S_MAX:
                self._looked = (loop.time(), checks(await self._facts()))
            return self._looked[1]

    async def _facts(self) -> Facts:
        site = self._site
        link = site.link()
        closing = site.metrics.statistics.closing()
        return Facts(
            store_fault=await self._store_fault(),
            broker_heard=link.heard,
            broker_reason=link.reason,
            disk_free_bytes=_free_bytes(site),
            certificate_until=site.metrics.certificate_until,
            standing=site.standing(),
            closing_fault="; ".join(filter(None, (closing.fault, *closing.damaged))),
            now=site.clock.now(),
        )

    async def _store_fault(self) -> str:
        """Return why nothing can be written: not by the web, or not by the ingest.

        Each has a connection of its own, and finds by itself that its server is none any more (decision 0072).
        """
        faults = await asyncio.gather(
            _fault_of(self._site.store.prove_writable()), self._ingest_fault()
        )
        return next(filter(None, faults), "")

    async def _ingest_fault(self) -> str:
        if self._site.prove_ingest is None:
            return ""
        # What is not done in time goes on, and the next look waits for the same: the ingest's write is nobody's
        # to break off, and one is enough.
        if self._proving is None or self._proving.done():
            self._proving = asyncio.ensure_future(self._site.prove_ingest())
            self._proving.add_done_callback(_hear_out)
        fault = await _fault_of(asyncio.shield(self._proving))
        return fault and f"the ingest: {fault}"


def _hear_out(proving: asyncio.Future[None]) -> None:
    """Take the result of a look that nobody may wait for any more."""
    if not proving.cancelled():
        proving.exception()


async def _fault_of(write: Awaitable[None]) -> str:
    try:
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            await write
    except StoreError as error:
        return f"{error}; {error.remedy}" if error.remedy else str(error)
    except TimeoutError:
        return f"a write was not done within {WRITE_TIMEOUT_S:.0f} s"
    return ""


def _free_bytes(site: Site) -> int | None:
    try:
        return site.store_free_bytes()
    except OSError:  # the disk is gone; the write beside this fails and says so
        return 0
