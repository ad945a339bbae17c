"""Assets as GeoJSON (RFC 7946), and GeoJSON as rows. Pure.

A feature says in its property ``table`` which table it is a row of; a point without it is a pole. Its other
properties are the table's columns, and a point's coordinates are longitude and latitude.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from openami.headend.assets import SINCE_EVER, FeederAssets, Meter
from openami.headend.assets.spreadsheet import ROWS_MAX, FileRefused
from openami.headend.assets.tables import TABLES, CellValue, RowFault, SheetRow, columns_of, heading
from openami.profile import utc_text

# A feature's own words, which are no columns.
_OWN: Final = frozenset({"table"})
_POINT_NUMBERS: Final = (2, 3)


def read_geojson(data: bytes, name: str) -> tuple[list[SheetRow], list[RowFault]]:
    """Return the features as rows; the first feature is row 1. Raises FileRefused."""
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FileRefused(f"it is no JSON: {error}", "export it again as GeoJSON") from None
    features = document.get("features") if isinstance(document, dict) else None
    if not isinstance(features, list) or document.get("type") != "FeatureCollection":
        raise FileRefused(
            "it is no FeatureCollection", 'GeoJSON begins {"type": "FeatureCollection", …'
        )
    if len(features) > ROWS_MAX:
        raise FileRefused(f"more than {ROWS_MAX:,} features", "split it by feeder")
    rows: list[SheetRow] = []
    faults: list[RowFault] = []
    for number, feature in enumerate(features, 1):
        try:
            rows.append(_row(feature, name, number))
        except _FeatureFault as fault:
            faults.append(RowFault(name, number, fault.member, fault.what, fault.remedy))
    return rows, faults


class _FeatureFault(Exception):
    def __init__(self, member: str, what: str, remedy: str) -> None:
        super().__init__(what)
        self.member, self.what, self.remedy = member, what, remedy


def _row(feature: object, name: str, number: int) -> SheetRow:
    if not isinstance(feature, dict) or feature.get("type") != "Feature":
        raise _FeatureFault("", "it is no feature", 'a feature begins {"type": "Feature", …')
    properties = feature.get("properties") or {}
    if not isinstance(properties, dict):
        raise _FeatureFault("properties", "they are no object", "write names and values")
    told = {
        heading(str(key)): value for key, value in properties.items() if value not in (None, "")
    }
    table = told.get("table", "poles")
    if not isinstance(table, str) or table not in TABLES:
        raise _FeatureFault(
            "table", f"there is no table {table!s:.80}", f"one of {', '.join(TABLES)}"
        )
    cells: dict[str, CellValue] = {**_position(feature.get("geometry"))}
    known = columns_of(table)
    for column, value in told.items():
        if column in _OWN:
            continue
        if column not in known:
            raise _FeatureFault(
                column, f"{table} has no column {column}", f"one of {', '.join(known)}"
            )
        if not isinstance(value, str | int | float | bool):
            raise _FeatureFault(column, "a list or an object", "write one value")
        cells[column] = value
    if not cells.keys() <= known.keys():
        raise _FeatureFault(
            "geometry", f"a row of {table} has no position", "give the position to the pole"
        )
    return SheetRow(table, name, number, cells)


def _position(geometry: object) -> Mapping[str, CellValue]:
    match geometry:
        case None:
            return {}
        case {"type": "Point", "coordinates": [longitude, latitude, *rest]} if len(
            rest
        ) + 2 in _POINT_NUMBERS and all(
            type(each) in (int, float) for each in (longitude, latitude)
        ):
            return {"longitude": longitude, "latitude": latitude}
        case _:
            raise _FeatureFault(
                "geometry", "it is no point", "a pole is a point: [longitude, latitude]"
            )


def geojson_of(assets: FeederAssets) -> dict[str, Any]:
    """Return a feeder as GeoJSON that `read_geojson` reads back, without its prices."""
    feeder = assets.feeder
    features = [
        _feature(
            "feeders",
            feeder=feeder.id,
            name=feeder.name,
            time_zone=feeder.time_zone,
            billing_day=feeder.billing_day,
            tariff=feeder.tariff_id,
        )
    ]
    for pole in assets.poles:
        at = None if pole.longitude is None else [pole.longitude, pole.latitude]
        features.append(
            _feature(
                "poles",
                at,
                feeder=feeder.id,
                pole=pole.id,
                name=pole.name,
                order=pole.number,
                parent=pole.parent,
                phases=pole.phases,
            )
        )
    features += [
        _feature("customers", feeder=feeder.id, customer=each.id, name=each.name)
        for each in assets.customers
    ]
    features += [_meter(meter) for meter in assets.meters]
    return {"type": "FeatureCollection", "features": features}


def _meter(meter: Meter) -> dict[str, Any]:
    begun = None if meter.valid_from == SINCE_EVER else utc_text(meter.valid_from)
    feature = _feature(
        "meters",
        feeder=meter.feeder_id,
        serial=meter.serial,
        role=str(meter.role),
        pole=meter.pole_id,
        phase=meter.phase,
        customer=meter.customer_id,
        protected="yes" if meter.protected else "no",
        to=None if meter.valid_to is None else utc_text(meter.valid_to),
        opening_kwh=meter.opening_kwh,
        closing_kwh=meter.closing_kwh,
    )
    if begun is not None:
        feature["properties"]["from"] = begun  # a word of Python's own
    return feature


def _feature(table: str, at: list[float | None] | None = None, **told: Any) -> dict[str, Any]:
    properties = {name: value for name, value in told.items() if value not in (None, "")}
    geometry = None if at is None else {"type": "Point", "coordinates": at}
    return {
        "type": "Feature",
        "geometry": geometry,
        "properties": {"table": table, **properties},
    }
