"""The exports page: readings, published columns, settled trades, as files a browser keeps."""

import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from openami.headend.accounts import Role
from openami.headend.assets import Feeder, tables
from openami.headend.assets.tables import CellFault
from openami.headend.exports import neutral, sheets
from openami.headend.exports import prospect as prospect_columns
from openami.headend.exports import verification as verification_columns
from openami.headend.exports.payments import PaymentsAsked
from openami.headend.exports.payments import payments as asked_payments
from openami.headend.exports.prospect import ProspectTable, prospect_rows
from openami.headend.exports.pseudonyms import KEY_BYTES_MIN, Pseudonyms
from openami.headend.exports.selection import Selection, selected_readings
from openami.headend.exports.verification import verification_rows
from openami.headend.web.admission import declares, principal_of
from openami.headend.web.console.rendering import page
from openami.headend.web.problems import Problem
from openami.headend.web.site import site_of

router: Final = APIRouter(include_in_schema=False, prefix="/exports")

# What a form proposes; a claim is about a month.
_PROPOSED: Final = timedelta(days=30)
_CSV: Final = "text/csv; charset=utf-8"


@router.get("")
@declares(Role.VIEWER)
async def exports(request: Request) -> Response:
    site, principal = site_of(request), principal_of(request)
    listed = [each for each in await site.store.feeder_list() if principal.sees(each.id)]
    return page(
        request,
        "exports.html",
        feeders=listed,
        since=(site.clock.now() - _PROPOSED).date(),
        tables=tuple(ProspectTable),
    )


@router.get("/readings")
@declares(Role.VIEWER)
async def readings(
    request: Request, feeder: str, since: str = "", until: str = "", kind: str = "csv"
) -> Response:
    """Answer the neutral table, line by line, as it is read."""
    selection = _selection(await _feeder(request, feeder), since, until)
    store = site_of(request).store
    rows = neutral.neutral_rows(
        selected_readings(store, selection), neutral.Places(store), _new_names()
    )
    if kind == "jsonl":
        return _streamed(sheets.json_lines(rows), "application/x-ndjson", f"{feeder}.jsonl")
    return _streamed(sheets.csv_lines(rows, tuple(neutral.COLUMNS)), _CSV, f"{feeder}.csv")


@router.get("/prospect")
@declares(Role.VIEWER)
async def prospect(
    request: Request,
    feeder: str,
    table: ProspectTable = ProspectTable.INSTALLATIONS,
    since: str = "",
    until: str = "",
    manufacturer: str = prospect_columns.UNKNOWN_MAKER,
) -> Response:
    selection = _selection(await _feeder(request, feeder), since, until)
    store = site_of(request).store
    rows = prospect_rows(
        selected_readings(store, selection),
        table,
        neutral.Places(store),
        manufacturer=manufacturer or prospect_columns.UNKNOWN_MAKER,
    )
    lines = sheets.csv_lines(rows, prospect_columns.COLUMNS[table])
    return _streamed(lines, _CSV, f"{feeder}-{table}.csv")


@router.get("/verification")
@declares(Role.VIEWER)
async def verification(request: Request, feeder: str, since: str = "", until: str = "") -> Response:
    selection = _selection(await _feeder(request, feeder), since, until)
    rows = verification_rows(site_of(request).store, selection, _new_names())
    lines = sheets.csv_lines(rows, verification_columns.COLUMNS)
    return _streamed(lines, _CSV, f"{feeder}-verification.csv")


@router.get("/payments")
@declares(Role.VIEWER)
async def payments(request: Request, feeder: str, since: str = "", until: str = "") -> Response:
    chosen = await _feeder(request, feeder)
    site = site_of(request)
    asked = PaymentsAsked(
        since=_moment(since, chosen) or site.clock.now() - _PROPOSED,
        until=_moment(until, chosen) or site.clock.now(),
        feeders=frozenset({feeder}),
    )
    found = await asked_payments(site.store, asked, _new_names())
    return JSONResponse(found, headers=_as_file(f"{feeder}-payments.json"))


async def _feeder(request: Request, feeder_id: str) -> Feeder:
    """Return a feeder within scope. Raises Problem."""
    listed = await site_of(request).store.feeder_list()
    found = next((each for each in listed if each.id == feeder_id), None)
    if found is None or not principal_of(request).sees(feeder_id):
        raise Problem.not_found(f"there is no feeder {feeder_id}")
    return found


def _selection(feeder: Feeder, since: str, until: str) -> Selection:
    return Selection(
        feeders=frozenset({feeder.id}),
        since=_moment(since, feeder),
        until=_moment(until, feeder),
    )


def _moment(said: str, feeder: Feeder) -> datetime | None:
    """Return a form's moment on the feeder's clock; None for an empty field. Raises Problem."""
    if not said.strip():
        return None
    try:
        found = tables.moment(said)
    except CellFault as fault:
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY, "no-moment", fault.what, remedy=fault.remedy
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=feeder.zone).astimezone(UTC)


def _new_names() -> Pseudonyms:
    """Return names for this file alone: the command line has a key that keeps them."""
    return Pseudonyms(secrets.token_bytes(KEY_BYTES_MIN))


def _streamed(lines: AsyncIterator[str], media_type: str, name: str) -> Response:
    return StreamingResponse(
        sheets.in_portions(lines), media_type=media_type, headers=_as_file(name)
    )


def _as_file(name: str) -> dict[str, str]:
    return {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Cache-Control": "no-store",
    }
