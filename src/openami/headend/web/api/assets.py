"""``/assets``: what stands in the village, told and changed by the rules of the import.

Rows are those of a sheet (docs/assets.md): the same tables and columns, the same faults, all or nothing. What a
member leaves out stays as it is; "-" takes it away.
"""

import hashlib
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Query
from pydantic import Field, create_model
from starlette.requests import Request
from starlette.responses import Response

from openami.headend.accounts import Role
from openami.headend.asset_changes import AssetRows, import_assets, protect_meter, swap_meter
from openami.headend.assets.changes import REGISTER_KWH_MAX, AssetsRefused, Swap
from openami.headend.assets.importing import Changed as ChangedThing
from openami.headend.assets.importing import ImportPlan
from openami.headend.assets.tables import CELL_CHARS_MAX, TABLES, RowFault, SheetRow
from openami.headend.web.admission import declares, in_scope, principal_of
from openami.headend.web.api.edge import ApiRoute, may_refuse, reads_up_to
from openami.headend.web.api.etags import ETAG_HEADER, answer
from openami.headend.web.api.forms import (
    ONE_LINE,
    REASON_CHARS_MAX,
    Asked,
    FeederId,
    Id,
    MeterSerial,
    Moment,
    Reason,
    Resource,
)
from openami.headend.web.api.meters import Meter, shown_meter
from openami.headend.web.api.scope import require_feeder
from openami.headend.web.problems import Problem
from openami.headend.web.refusals import invalid
from openami.headend.web.site import site_of

router = APIRouter(route_class=ApiRoute, tags=["assets"])

# A feeder of 500 meters with its poles and customers are 300 kB of rows.
ROWS_BODY_BYTES_MAX: Final = 1024 * 1024
# Of one table; whoever has more feeders tells them one after the other.
ROWS_MAX: Final = 2_000
# Faults told one by one: what somebody mends in one sitting.
FAULTS_TOLD_MAX: Final = 100

_Cell = Annotated[str, Field(max_length=CELL_CHARS_MAX)] | int | float | bool | None


def _row(table: str, name: str) -> type[Asked]:
    """Return a row of a sheet's table as the API takes it: the same columns under the same names."""
    columns: dict[str, Any] = {
        f"column_{column.name}": (
            _Cell,
            Field(... if column.needed else None, alias=column.name, description=column.meaning),
        )
        for column in TABLES[table]
    }
    return create_model(name, __base__=Asked, __doc__=f"A row of {table}.", **columns)


_FeederRow = _row("feeders", "FeederRow")
_TariffRow = _row("tariffs", "TariffRow")
_PoleRow = _row("poles", "PoleRow")
_CustomerRow = _row("customers", "CustomerRow")
_MeterRow = _row("meters", "MeterRow")
_Rows: Any = Field(default=[], max_length=ROWS_MAX)


class AssetTables(Asked):
    """Rows of the tables of a sheet."""

    feeder_id: Id | None = Field(default=None, description="The feeder of rows that name none.")
    feeders: list[_FeederRow] = _Rows  # type: ignore[valid-type]  # made of the sheet's columns
    tariffs: list[_TariffRow] = _Rows  # type: ignore[valid-type]  # made of the sheet's columns
    poles: list[_PoleRow] = _Rows  # type: ignore[valid-type]  # made of the sheet's columns
    customers: list[_CustomerRow] = _Rows  # type: ignore[valid-type]  # made of the sheet's columns
    meters: list[_MeterRow] = _Rows  # type: ignore[valid-type]  # made of the sheet's columns


class ChangeTold(Resource):
    """One thing that is new, or other than it was."""

    thing: str
    feeder_id: str | None = Field(description="Null for a tariff.")
    id: str
    is_new: bool
    details: list[str]

    @classmethod
    def of(cls, change: ChangedThing) -> "ChangeTold":
        """Return a change as it is told."""
        return cls(
            thing=change.thing,
            feeder_id=change.feeder_id or None,
            id=change.id,
            is_new=change.is_new,
            details=list(change.details),
        )


class FaultTold(Resource):
    """What is wrong with a row that was left out."""

    at: str = Field(description="Where: meters/4/pole, counted from 0.")
    what: str
    remedy: str


class AssetsTold(Resource):
    """What was changed; of a dry run, what would be."""

    changed: bool = Field(description="Whether anything was written.")
    rows: int = Field(description="Rows that were read and not left out.")
    changes: list[ChangeTold]
    faults: list[FaultTold] = Field(description="Rows that were left out, with `skipBadRows`.")


DryRun = Annotated[bool, Query(alias="dryRun", description="Say what would change; write nothing.")]
SkipBadRows = Annotated[
    bool,
    Query(
        alias="skipBadRows",
        description="Let the sound rows in, and leave out those with faults and what refers to them.",
    ),
]


@router.post(
    "/assets",
    response_model=AssetsTold,
    responses={200: {"headers": ETAG_HEADER}, **may_refuse(HTTPStatus.NOT_FOUND)},
)
@declares(Role.ENGINEER)
@reads_up_to(ROWS_BODY_BYTES_MAX)
async def change_assets(
    request: Request,
    asked: Annotated[AssetTables, Body()],
    dry_run: DryRun = False,
    skip_bad_rows: SkipBadRows = False,
) -> Response:
    """Describe feeders, tariffs, poles, customers and meters, by the rules of the import; all of it, or nothing.

    The same rows again change nothing. A refusal names each fault by its row and column.
    """
    if asked.feeder_id is not None:
        in_scope(request, asked.feeder_id)
    rows = _sheet_rows(asked)
    told = asked.model_dump_json().encode()
    site, principal = site_of(request), principal_of(request)
    try:
        planned = await import_assets(
            site.store,
            AssetRows("api", rows, hashlib.sha256(told).hexdigest(), asked.feeder_id),
            who=principal.name,
            now=site.clock.now(),
            skip_bad_rows=skip_bad_rows,
            dry_run=dry_run,
            only=principal.feeders,
        )
    except AssetsRefused as refused:
        raise Problem.not_found(f"{refused}: {refused.remedy}") from None
    if planned.faults and not skip_bad_rows:
        raise invalid(
            [
                {"in": f"body: {_place(fault)}", "detail": f"{fault.what} — {fault.remedy}"}
                for fault in planned.faults[:FAULTS_TOLD_MAX]
            ]
        )
    return answer(request, _told(planned, dry_run=dry_run))


def _sheet_rows(asked: AssetTables) -> list[SheetRow]:
    """Return the rows as a sheet would have them: an empty cell is not there."""
    told = asked.model_dump(by_alias=True)
    return [
        SheetRow(
            table,
            table,
            number,
            {name: cell for name, cell in row.items() if cell not in (None, "")},
        )
        for table in TABLES
        for number, row in enumerate(told[table])
    ]


def _place(fault: RowFault) -> str:
    return f"{fault.sheet}/{fault.row}" + (f"/{fault.column}" if fault.column else "")


def _told(planned: ImportPlan, *, dry_run: bool) -> AssetsTold:
    return AssetsTold(
        changed=bool(planned.changes) and not dry_run,
        rows=planned.rows,
        changes=[ChangeTold.of(each) for each in planned.changes],
        faults=[
            FaultTold(at=_place(fault), what=fault.what, remedy=fault.remedy)
            for fault in planned.faults[:FAULTS_TOLD_MAX]
        ],
    )


# --- one meter -----------------------------------------------------------------------------------

_Register = Annotated[float, Field(ge=0, le=REGISTER_KWH_MAX, description="In kWh.")]


class NewSwap(Asked):
    """A meter that was taken down and the one that was put up in its place."""

    new_serial: Id
    closing_kwh: _Register
    opening_kwh: _Register
    at: Moment | None = Field(default=None, description="When; now, if you name no time.")
    reason: Reason = ""


@router.post(
    "/meters/{feederId}/{meterSerial}/swap",
    response_model=Meter,
    responses={
        200: {"headers": ETAG_HEADER},
        **may_refuse(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    },
)
@declares(Role.ENGINEER)
async def swap(
    request: Request,
    feeder_id: FeederId,
    meter_serial: MeterSerial,
    asked: Annotated[NewSwap, Body()],
) -> Response:
    """Enter a swap: what the house has consumed goes on across it. Answers with the new meter."""
    await require_feeder(request, feeder_id)
    site = site_of(request)
    now = site.clock.now()
    wanted = Swap(
        old=meter_serial,
        new=asked.new_serial,
        at=asked.at or now,
        closing_kwh=asked.closing_kwh,
        opening_kwh=asked.opening_kwh,
    )
    try:
        await swap_meter(
            site.store,
            feeder_id,
            wanted,
            who=principal_of(request).name,
            now=now,
            why=asked.reason,
        )
    except AssetsRefused as refused:
        raise _refused(refused) from None
    return answer(request, await shown_meter(request, feeder_id, asked.new_serial))


class Protection(Asked):
    """Whether a meter is a critical customer's."""

    protected: bool
    reason: Annotated[
        str,
        Field(
            pattern=ONE_LINE,
            min_length=1,
            max_length=REASON_CHARS_MAX,
            description="Why; kept in the audit log.",
        ),
    ]


@router.put(
    "/meters/{feederId}/{meterSerial}/protection",
    response_model=Meter,
    responses={
        200: {"headers": ETAG_HEADER},
        **may_refuse(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    },
)
@declares(Role.ENGINEER)
async def protect(
    request: Request,
    feeder_id: FeederId,
    meter_serial: MeterSerial,
    asked: Annotated[Protection, Body()],
) -> Response:
    """Protect a meter, or no longer: nobody is cut off there unless an engineer says why."""
    await require_feeder(request, feeder_id)
    site = site_of(request)
    try:
        await protect_meter(
            site.store,
            feeder_id,
            meter_serial,
            on=asked.protected,
            who=principal_of(request).name,
            now=site.clock.now(),
            why=asked.reason,
        )
    except AssetsRefused as refused:
        raise _refused(refused) from None
    return answer(request, await shown_meter(request, feeder_id, meter_serial))


def _refused(refused: AssetsRefused) -> Problem:
    return Problem(HTTPStatus.CONFLICT, "assets-refused", str(refused), remedy=refused.remedy)
