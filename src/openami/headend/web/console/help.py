"""Help that needs no network: what the words mean, what a problem asks of one, what to do at three at night."""

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from openami.headend.accounts import STEP_UP_VALID, Role
from openami.headend.states import GATEWAY_SILENT_AFTER_MINUTES, METER_SILENT_AFTER_MINUTES
from openami.headend.storms import STORM_MORE_THAN, STORM_WITHIN
from openami.headend.web.admission import declares, open_to_all
from openami.headend.web.console.help_problems import PROBLEMS
from openami.headend.web.console.rendering import page

router = APIRouter(include_in_schema=False)

METER_STATES: Final = ("reporting", "suspect", "meter_silent", "gateway_silent", "never_seen")
COMMAND_STATES: Final = (
    *("issued", "accepted", "executing", "confirmed"),
    *("refused", "failed", "expired", "unknown"),
)


@router.get("/help")
@declares(Role.VIEWER)
async def contents(request: Request) -> Response:
    """Show what there is to read."""
    return page(request, "help_contents.html")


@router.get("/help/states")
@declares(Role.VIEWER)
async def states(request: Request) -> Response:
    """Explain every word a meter, a gateway, a command or a reading can be in."""
    return page(
        request,
        "help_states.html",
        meter_states=METER_STATES,
        command_states=COMMAND_STATES,
        gateway_minutes=GATEWAY_SILENT_AFTER_MINUTES,
        meter_minutes=METER_SILENT_AFTER_MINUTES,
        more_than=STORM_MORE_THAN,
        within=STORM_WITHIN,
    )


@router.get("/help/at-night")
@declares(Role.VIEWER)
async def at_night(request: Request) -> Response:
    """Say what to do, in order, when something is wrong and nobody else is awake."""
    return page(request, "help_at_night.html", gateway_minutes=GATEWAY_SILENT_AFTER_MINUTES)


@router.get("/help/problems")
@open_to_all
async def problems(request: Request) -> Response:
    """Explain every problem by the code a program is told: its address is the problem's type (RFC 9457)."""
    return page(
        request,
        "help_problems.html",
        problems=PROBLEMS,
        step_up_minutes=int(STEP_UP_VALID.total_seconds() // 60),
    )
