"""``/readings``: what was measured, as pages of JSON or streamed whole as CSV, JSON Lines or Parquet."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from openami.headend.accounts import Role
from openami.headend.store import MeterRow, Reading
from openami.headend.store.commands import HeadEndStore
from openami.headend.store.identity import from_ms, to_ms
from openami.headend.store.pages import Key
from openami.headend.web.admission import declares
from openami.headend.web.api import reading_files
from openami.headend.web.api.edge import ApiRoute, may_refuse
from openami.headend.web.api.forms import (
    LIMIT_DEFAULT,
    Cursor,
    FeederFilter,
    Limit,
    MeterFilter,
    Moment,
    ObisFilter,
    Resource,
    Since,
    Until,
    register_of,
)
from openami.headend.web.api.media import JSON, chosen, offers
from openami.headend.web.api.paging import NEXT_LINK, Page, key_of, page_answer
from openami.headend.web.api.scope import feeders_of
from openami.headend.web.site import site_of
from openami.profile import Obis, Quality

router = APIRouter(route_class=ApiRoute, tags=["readings"])


class ReadingForm(StrEnum):
    """How readings are answered."""

    JSON = "json"
    CSV = "csv"
    JSON_LINES = "jsonl"
    PARQUET = "parquet"


_FORMS: Final = {
    JSON: ReadingForm.JSON,
    reading_files.CSV: ReadingForm.CSV,
    reading_files.JSON_LINES: ReadingForm.JSON_LINES,
    reading_files.PARQUET: ReadingForm.PARQUET,
}


class ReadingTold(Resource):
    """One register's value at one moment."""

    feeder_id: str
    meter_serial: str
    obis: str = Field(description="The register, in the short form where the register list has it.")
    ts: Moment = Field(description="When it was measured.")
    value: float | int | bool | str = Field(description="In `unit`; a state is a text.")
    unit: str = Field(description="As the meter told it: kWh, W, V, enum …")
    quality: Quality = Field(description="What its gateway says of it.")
    received_at: Moment = Field(description="When the head-end received it.")

    @classmethod
    def of(cls, reading: Reading) -> "ReadingTold":
        """Return a stored reading as it is told."""
        return cls(
            feeder_id=reading.feeder_id,
            meter_serial=reading.meter_serial,
            obis=str(reading.obis),
            ts=reading.ts,
            value=reading.value,
            unit=reading.unit,
            quality=reading.quality,
            received_at=reading.received_at,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """Which readings are asked for."""

    feeders: frozenset[str] | None
    meter_serial: str | None
    obis: Obis | None
    since: datetime | None
    until: datetime | None


FormatParameter = Annotated[
    ReadingForm | None,
    Query(
        alias="format",
        description="The form of the answer; overrules Accept. All but `json` are streamed whole, without pages.",
    ),
]


@router.get(
    "/readings",
    response_model=Page[ReadingTold],
    responses={
        200: {
            "headers": NEXT_LINK,
            "content": {
                media_type: {"schema": {"type": "string"}}
                for media_type in _FORMS
                if media_type != JSON
            },
        },
        **may_refuse(HTTPStatus.NOT_FOUND, HTTPStatus.NOT_IMPLEMENTED),
    },
)
@declares(Role.VIEWER)
@offers(*_FORMS)
async def list_readings(
    request: Request,
    feeder_id: FeederFilter = None,
    meter_serial: MeterFilter = None,
    obis: ObisFilter = None,
    since: Since = None,
    until: Until = None,
    form: FormatParameter = None,
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = None,
) -> Response:
    """List readings by feeder, meter, measured time and register; the oldest of each meter first.

    CSV, JSON Lines and Parquet are streamed to the end: `limit` is not for them, and `cursor` says where to begin.
    """
    wanted = _Wanted(
        feeders=await feeders_of(request, feeder_id),
        meter_serial=meter_serial,
        obis=register_of(obis),
        since=since,
        until=until,
    )
    after = key_of("readings", cursor, (str, str, int, str))
    store = site_of(request).store
    if form is None:
        form = _FORMS[chosen(request.headers.get("accept"), tuple(_FORMS))]
    if form is not ReadingForm.JSON:
        return await _streamed(form, readings_of(store, wanted, after))
    items: list[ReadingTold] = []
    last: Key | None = None
    async with aclosing(readings_of(store, wanted, after)) as readings:
        async for reading in readings:
            if len(items) == limit:
                last = _key(items[-1])
                break
            items.append(ReadingTold.of(reading))
    return page_answer(request, "readings", items, last)


async def readings_of(
    store: HeadEndStore, wanted: _Wanted, after: Key | None
) -> AsyncGenerator[Reading, None]:
    """Yield readings in the order of their keys, behind ``after``. Raises StoreError."""
    meters = sorted(
        (
            row
            for row in await store.meters(meter_serial=wanted.meter_serial)
            if wanted.feeders is None or row.feeder_id in wanted.feeders
        ),
        key=_place,
    )
    for meter in meters:
        begin, behind = wanted.since, None
        if after is not None:
            feeder_id, serial, ms, obis = after
            if _place(meter) < (feeder_id, serial):
                continue
            if _place(meter) == (feeder_id, serial):
                behind = (from_ms(int(ms)), str(obis))
                begin = behind[0] if begin is None else max(begin, behind[0])
        found: Any = store.readings(
            meter.feeder_id, meter.meter_serial, obis=wanted.obis, since=begin, until=wanted.until
        )
        async with aclosing(found) as readings:
            async for reading in readings:
                if behind is None or (reading.ts, str(reading.obis)) > behind:
                    yield reading


def _place(meter: MeterRow) -> tuple[str, str]:
    return meter.feeder_id, meter.meter_serial


def _key(reading: ReadingTold) -> Key:
    return reading.feeder_id, reading.meter_serial, to_ms(reading.ts), reading.obis


async def _streamed(form: ReadingForm, readings: AsyncIterator[Reading]) -> Response:
    """Answer with a stream. Its first part is made before anything is said: what fails by then is a problem."""
    match form:
        case ReadingForm.CSV:
            parts, media_type = (
                reading_files.as_csv(readings),
                f"{reading_files.CSV}; charset=utf-8",
            )
        case ReadingForm.JSON_LINES:
            parts, media_type = reading_files.as_json_lines(readings), reading_files.JSON_LINES
        case _:
            parts, media_type = reading_files.as_parquet(readings), reading_files.PARQUET
    first = await anext(parts, b"")

    async def all_of_it() -> AsyncIterator[bytes]:
        async with aclosing(parts):
            yield first
            async for part in parts:
                yield part

    return StreamingResponse(
        all_of_it(),
        media_type=media_type,
        headers={"Content-Disposition": f'attachment; filename="readings.{form}"'},
    )
