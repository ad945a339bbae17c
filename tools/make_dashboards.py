"""Make the Grafana dashboards: deploy/grafana/dashboards.toml in, one classic JSON for each out.

    .venv/bin/python -m tools.make_dashboards

Classic JSON, because every Grafana since 9 loads it: 13 moves it to its new schema by itself, and older ones cannot
read that. The data source is a variable, so the same file works provisioned and imported by hand.
"""

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

GRAFANA: Final = Path(__file__).resolve().parent.parent / "deploy/grafana"
SOURCE: Final = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
SCHEMA_VERSION: Final = 39
COLUMNS: Final = 24
# In Grafana's rows of 30 pixels.
HEIGHTS: Final = {"stat": 4, "timeseries": 8, "table": 8}
VARIABLES: Final = {
    "feeder": "label_values(openami_headend_meters, feeder)",
    "instance": 'label_values({__name__=~"openami_(headend|gateway)_.+"}, instance)',
}


def main() -> None:
    """Write every dashboard."""
    for name, text in dashboards((GRAFANA / "dashboards.toml").read_text()).items():
        (GRAFANA / name).write_text(text)


def dashboards(description: str) -> dict[str, str]:
    """Return the files' names and texts."""
    made = [dashboard(told) for told in tomllib.loads(description)["dashboard"]]
    return {
        f"{each['uid']}.json": json.dumps(each, indent=2, ensure_ascii=False) + "\n"
        for each in made
    }


def dashboard(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return one dashboard."""
    return {
        "uid": told["uid"],
        "title": told["title"],
        "description": told["about"],
        "tags": ["openami"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "1m",
        "time": {"from": "now-24h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": [_source(), *(_variable(name) for name in told["variables"])]},
        "panels": list(_panels(told["panel"])),
    }


def _source() -> dict[str, Any]:
    return {
        "name": "DS_PROMETHEUS",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "hide": 0,
    }


def _variable(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": VARIABLES[name], "refId": name},
        "definition": VARIABLES[name],
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
        "sort": 1,
    }


def _panels(told: list[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield panels, laid out from left to right."""
    x = y = row_height = 0
    for number, panel in enumerate(told, 1):
        width, height = panel["width"], HEIGHTS[panel["kind"]]
        if x + width > COLUMNS:
            x, y, row_height = 0, y + row_height, 0
        yield _panel(number, panel) | {"gridPos": {"x": x, "y": y, "w": width, "h": height}}
        x, row_height = x + width, max(row_height, height)


def _panel(number: int, told: Mapping[str, Any]) -> dict[str, Any]:
    kind = told["kind"]
    return {
        "id": number,
        "type": kind,
        "title": told["title"],
        "description": told.get("about", ""),
        "datasource": SOURCE,
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "datasource": SOURCE,
                "expr": query["expr"],
                "legendFormat": query.get("legend", "__auto"),
                "instant": kind != "timeseries",
                "range": kind == "timeseries",
                "format": "table" if kind == "table" else "time_series",
            }
            for at, query in enumerate(told["queries"])
        ],
        "fieldConfig": {"defaults": _field(told), "overrides": []},
        "options": _options(kind),
        # A table of instants shows the moment of asking as its first column, which says nothing.
        "transformations": [
            {"id": "organize", "options": {"excludeByName": {"Time": True, "__name__": True}}}
        ]
        if kind == "table"
        else [],
    }


def _field(told: Mapping[str, Any]) -> dict[str, Any]:
    field: dict[str, Any] = {
        "unit": told.get("unit", "short"),
        "min": 0,
        "thresholds": {"mode": "absolute", "steps": _steps(told)},
        "mappings": [],
    }
    if told["kind"] == "timeseries":
        stacking = {"mode": "normal" if told.get("stacked") else "none", "group": "A"}
        field["custom"] = {
            "drawStyle": "line",
            "fillOpacity": 40 if told.get("stacked") else 0,
            "stacking": stacking,
            "spanNulls": False,  # a gap is something that was not measured, and is shown as one
        }
    if words := told.get("words"):
        options = {value: {"text": word} for value, word in words.items()}
        field["mappings"] = [{"type": "value", "options": options}]
    return field


def _steps(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    if (bound := told.get("bad_below")) is not None:
        return [{"color": "red", "value": None}, {"color": "green", "value": bound}]
    if (bound := told.get("bad_above")) is not None:
        return [{"color": "green", "value": None}, {"color": "red", "value": bound}]
    return [{"color": "text", "value": None}]


def _options(kind: str) -> dict[str, Any]:
    if kind == "stat":
        reduced = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        return {"reduceOptions": reduced, "colorMode": "value", "graphMode": "area"}
    if kind == "timeseries":
        return {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    return {"showHeader": True}


if __name__ == "__main__":
    main()
