"""The asset pages: what stands on a feeder, a sheet let in with its faults by row, meters swapped and protected."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, File, Form, UploadFile
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from openami.headend import asset_changes
from openami.headend.accounts import Role
from openami.headend.asset_changes import REASON_CHARS_MAX, AssetFile
from openami.headend.assets import BILLING_DAY_MAX, FeederAssets, Meter, Tariff, tables
from openami.headend.assets.changes import AssetsRefused, Swap
from openami.headend.assets.files import read_rows
from openami.headend.assets.geojson import geojson_of
from openami.headend.assets.importing import ImportPlan
from openami.headend.assets.spreadsheet import FILE_BYTES_MAX, FileRefused, template_xlsx
from openami.headend.assets.tables import CellFault, CellValue, RowFault
from openami.headend.web.admission import declares, in_scope, principal_of
from openami.headend.web.console.rendering import page
from openami.headend.web.problems import Problem
from openami.headend.web.site import site_of

router: Final = APIRouter(include_in_schema=False, prefix="/assets")
Field = Annotated[str, Form()]
Upload = Annotated[UploadFile, File()]

# On one page: what a person corrects in one sitting. The file is read again anyway.
FAULTY_ROWS_SHOWN_MAX: Final = 100
# Changes of a whole village fit; more is a number.
CHANGES_SHOWN_MAX: Final = 600

_XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


@dataclass(frozen=True, slots=True)
class MeterLine:
    """A meter as the table shows it."""

    meter: Meter
    pole: str
    customer: str


@dataclass(frozen=True, slots=True)
class FaultyRow:
    """A row of the file as it was read, and what is wrong with it."""

    sheet: str
    number: int
    cells: Sequence[tuple[str, CellValue, Sequence[RowFault]]]
    """Heading, what the cell says, its faults."""
    others: Sequence[RowFault]
    """Faults of the row, or of a cell that is not there."""


# --- what there is -------------------------------------------------------------------------------


@router.get("")
@declares(Role.VIEWER)
async def feeders(request: Request) -> Response:
    store, principal = site_of(request).store, principal_of(request)
    listed = [each for each in await store.feeder_list() if principal.sees(each.id)]
    now = site_of(request).clock.now()
    rows = []
    for feeder in listed:
        assets = await store.assets(feeder.id)
        rows.append((feeder, len(assets.poles), len(assets.meters_at(now)), len(assets.customers)))
    return page(request, "assets.html", rows=rows, refused=None, may=_may_change(request))


@router.get("/template.xlsx")
@declares(Role.VIEWER)
async def template() -> Response:
    return _download(template_xlsx(), _XLSX, "assets.xlsx")


@router.get("/{feeder_id}")
@declares(Role.VIEWER)
async def show(request: Request, feeder_id: str) -> Response:
    return await _feeder_page(request, feeder_id)


@router.get("/{feeder_id}/assets.geojson")
@declares(Role.VIEWER)
async def geojson(request: Request, feeder_id: str) -> Response:
    assets = await _assets(request, feeder_id)
    body = msgspec.json.encode(geojson_of(assets))
    return _download(body, "application/geo+json", f"{feeder_id}.geojson")


@router.get("/{feeder_id}/meters/{serial}")
@declares(Role.VIEWER)
async def show_meter(request: Request, feeder_id: str, serial: str) -> Response:
    return await _meter_page(request, feeder_id, serial)


async def _assets(request: Request, feeder_id: str) -> FeederAssets:
    """Return a feeder's assets. Raises Problem for one that is out of scope, or unknown."""
    in_scope(request, feeder_id)
    store = site_of(request).store
    if all(each.id != feeder_id for each in await store.feeder_list()):
        raise Problem.not_found(f"there is no feeder {feeder_id}")
    return await store.assets(feeder_id)


async def _feeder_page(
    request: Request, feeder_id: str, *, refused: Exception | None = None
) -> Response:
    assets = await _assets(request, feeder_id)
    now = site_of(request).clock.now()
    hanging = [_line(assets, meter) for meter in assets.meters_at(now)]
    taken_down = [_line(assets, meter) for meter in assets.meters if meter.valid_to is not None]
    prices = await site_of(request).store.tariffs()
    placed = {meter.serial for meter in assets.meters}
    heard = await site_of(request).store.meters(feeder_id=feeder_id)
    # A gateway speaks of itself in a meter's place.
    unplaced = [
        row.meter_serial
        for row in heard
        if row.meter_serial not in placed and row.meter_serial != row.gateway_id
    ]
    return page(
        request,
        "assets_feeder.html",
        status=200 if refused is None else 422,
        assets=assets,
        hanging=hanging,
        unplaced=unplaced,
        taken_down=sorted(taken_down, key=_ended, reverse=True),
        tariffs=sorted({price.id for price in prices}),
        tariff=assets.tariff_at(now),
        refused=refused,
        may=_may_change(request),
        billing_day_max=BILLING_DAY_MAX,
    )


async def _meter_page(
    request: Request, feeder_id: str, serial: str, *, refused: Exception | None = None
) -> Response:
    assets = await _assets(request, feeder_id)
    now = site_of(request).clock.now()
    placements = [each for each in assets.meters if each.serial == serial]
    if not placements:
        raise Problem.not_found(f"no meter {serial} is known to hang on {feeder_id}")
    meter = assets.meter(serial, now)
    place = (meter or placements[-1]).place
    return page(
        request,
        "assets_meter.html",
        status=200 if refused is None else 422,
        assets=assets,
        serial=serial,
        meter=meter,
        line=_line(assets, meter or placements[-1]),
        history=sorted(
            (each for each in assets.meters if each.place == place),
            key=lambda each: each.valid_from,
            reverse=True,
        ),
        latest=await _latest_register(request, feeder_id, serial),
        refused=refused,
        may=_may_change(request),
        reason_chars_max=REASON_CHARS_MAX,
    )


async def _latest_register(request: Request, feeder_id: str, serial: str) -> object:
    """Return the energy register as it was read last: a swap is entered beside it."""
    latest = await site_of(request).store.latest(feeder_id, serial)
    return next((each for each in latest if str(each.obis) == "1.8.0"), None)


def _line(assets: FeederAssets, meter: Meter) -> MeterLine:
    pole, customer = assets.pole(meter.pole_id), assets.customer(meter.customer_id)
    return MeterLine(
        meter, "" if pole is None else pole.name, "" if customer is None else customer.name
    )


def _ended(line: MeterLine) -> datetime:
    assert line.meter.valid_to is not None
    return line.meter.valid_to


def _may_change(request: Request) -> bool:
    return principal_of(request).may(Role.ENGINEER)


def _download(body: bytes, media_type: str, name: str) -> Response:
    return Response(
        body,
        media_type=media_type,
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


# --- a sheet is let in ---------------------------------------------------------------------------


@router.post("/import")
@declares(Role.ENGINEER)
async def import_sheet(
    request: Request,
    sheet: Upload,
    feeder: Field = "",
    only_check: Field = "",
    skip_bad_rows: Field = "",
) -> Response:
    if feeder:
        in_scope(request, feeder)
    data = await sheet.read(FILE_BYTES_MAX + 1)
    file = AssetFile(sheet.filename or "file", data, feeder or None)
    try:
        planned = await asset_changes.import_assets(
            site_of(request).store,
            file,
            who=principal_of(request).name,
            now=site_of(request).clock.now(),
            skip_bad_rows=bool(skip_bad_rows),
            dry_run=bool(only_check),
            only=principal_of(request).feeders,
        )
    except (FileRefused, AssetsRefused) as refused:
        return _import_page(request, file, None, [], refused=refused)
    faulty = await asyncio.to_thread(_faulty_rows, file, planned.faults)
    return _import_page(
        request, file, planned, faulty, only_check=bool(only_check), skipped=bool(skip_bad_rows)
    )


def _import_page(
    request: Request,
    file: AssetFile,
    planned: ImportPlan | None,
    faulty: Sequence[FaultyRow],
    *,
    refused: FileRefused | AssetsRefused | None = None,
    only_check: bool = False,
    skipped: bool = False,
) -> Response:
    stopped = refused is not None or bool(faulty and not skipped)
    return page(
        request,
        "assets_import.html",
        status=422 if stopped else 200,
        file=file,
        plan=planned,
        changes=[] if planned is None else planned.changes[:CHANGES_SHOWN_MAX],
        new=0 if planned is None else sum(each.is_new for each in planned.changes),
        faulty=faulty[:FAULTY_ROWS_SHOWN_MAX],
        faulty_count=len(faulty),
        only_check=only_check,
        skipped=skipped,
        refused=refused,
        may=True,
    )


def _faulty_rows(file: AssetFile, faults: Sequence[RowFault]) -> list[FaultyRow]:
    """Return the rows with faults as the file has them, each fault beside its cell."""
    if not faults:
        return []
    rows, _ = read_rows(file.data, file.name)
    told = {(row.sheet, row.number): row.cells for row in rows}
    by_row: dict[tuple[str, int], list[RowFault]] = {}
    for fault in faults:
        by_row.setdefault((fault.sheet, fault.row), []).append(fault)
    found = []
    for (sheet, number), wrong in by_row.items():
        cells = told.get((sheet, number), {})
        beside = [(each, cells[each], [f for f in wrong if f.column == each]) for each in cells]
        others = [fault for fault in wrong if fault.column not in cells]
        found.append(FaultyRow(sheet, number, beside, others))
    return found


# --- one thing is changed ------------------------------------------------------------------------


@router.post("/{feeder_id}/meters/{serial}/swap")
@declares(Role.ENGINEER)
async def swap(
    request: Request,
    feeder_id: str,
    serial: str,
    new: Field = "",
    closing: Field = "",
    opening: Field = "",
    at: Field = "",
    reason: Field = "",
) -> Response:
    assets = await _assets(request, feeder_id)
    site = site_of(request)
    try:
        wanted = Swap(
            old=serial,
            new=new.strip(),
            at=_moment(at, assets) or site.clock.now(),
            closing_kwh=tables.register(closing),
            opening_kwh=tables.register(opening),
        )
        await asset_changes.swap_meter(
            site.store,
            feeder_id,
            wanted,
            who=principal_of(request).name,
            now=site.clock.now(),
            why=reason[:REASON_CHARS_MAX],
        )
    except (AssetsRefused, CellFault) as refused:
        return await _meter_page(request, feeder_id, serial, refused=refused)
    return RedirectResponse(f"/assets/{feeder_id}/meters/{wanted.new}", status_code=303)


@router.post("/{feeder_id}/meters/{serial}/protect")
@declares(Role.ENGINEER)
async def protect(
    request: Request, feeder_id: str, serial: str, on: Field = "", reason: Field = ""
) -> Response:
    await _assets(request, feeder_id)
    try:
        await asset_changes.protect_meter(
            site_of(request).store,
            feeder_id,
            serial,
            on=on == "yes",
            who=principal_of(request).name,
            now=site_of(request).clock.now(),
            why=reason[:REASON_CHARS_MAX],
        )
    except AssetsRefused as refused:
        return await _meter_page(request, feeder_id, serial, refused=refused)
    return RedirectResponse(f"/assets/{feeder_id}/meters/{serial}", status_code=303)


@router.post("/{feeder_id}/settings")
@declares(Role.ENGINEER)
async def settings(
    request: Request,
    feeder_id: str,
    name: Field = "",
    time_zone: Field = "",
    billing_day: Field = "",
    tariff: Field = "",
) -> Response:
    assets = await _assets(request, feeder_id)
    try:
        feeder = replace(
            assets.feeder,
            name=tables.name(name),
            time_zone=tables.zone(time_zone),
            billing_day=tables.billing_day(billing_day),
            tariff_id=tables.identifier(tariff) if tariff.strip() else None,
        )
        await asset_changes.describe_feeder(
            site_of(request).store,
            feeder,
            who=principal_of(request).name,
            now=site_of(request).clock.now(),
        )
    except (AssetsRefused, CellFault) as refused:
        return await _feeder_page(request, feeder_id, refused=refused)
    return RedirectResponse(f"/assets/{feeder_id}", status_code=303)


@router.post("/{feeder_id}/price")
@declares(Role.ENGINEER)
async def price(
    request: Request,
    feeder_id: str,
    tariff: Field = "",
    price_per_kwh: Field = "",
    currency: Field = "",
    begins: Field = "",
) -> Response:
    assets = await _assets(request, feeder_id)
    try:
        wanted = Tariff(
            id=tables.identifier(tariff),
            price_per_kwh=tables.price(price_per_kwh),
            currency=tables.currency(currency),
            valid_from=_moment(begins, assets) or site_of(request).clock.now(),
        )
        await asset_changes.price_tariff(
            site_of(request).store,
            wanted,
            who=principal_of(request).name,
            now=site_of(request).clock.now(),
        )
    except (AssetsRefused, CellFault) as refused:
        return await _feeder_page(request, feeder_id, refused=refused)
    return RedirectResponse(f"/assets/{feeder_id}", status_code=303)


def _moment(said: str, assets: FeederAssets) -> datetime | None:
    """Return a form's moment, on the feeder's clock; None for an empty field. Raises CellFault."""
    if not said.strip():
        return None
    found = tables.moment(said)
    return found if found.tzinfo else found.replace(tzinfo=assets.feeder.zone).astimezone(UTC)
