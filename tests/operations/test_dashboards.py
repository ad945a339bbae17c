"""The Grafana dashboards: made from their description; every query asks for something that is there."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from tests.operations.prometheus import metric_names, promtool
from tools.make_dashboards import COLUMNS, GRAFANA, dashboards

MADE: Final = dashboards((GRAFANA / "dashboards.toml").read_text())
SHIPPED: Final = {path.name: json.loads(path.read_text()) for path in GRAFANA.glob("*.json")}
EACH: Final = pytest.mark.parametrize("board", SHIPPED.values(), ids=SHIPPED)


def queries(board: dict[str, Any]) -> Iterator[str]:
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


def concrete(query: str) -> str:
    """Return a query as Prometheus gets it, with the variables filled in."""
    for variable, value in {"$__rate_interval": "2m", "$feeder": ".*", "$instance": ".*"}.items():
        query = query.replace(variable, value)
    return query


def test_what_is_shipped_is_made_from_the_description() -> None:
    """If this fails: python -m tools.make_dashboards"""
    assert {name: (GRAFANA / name).read_text() for name in SHIPPED} == MADE


def test_each_is_known_by_a_name_of_its_own() -> None:
    uids = [board["uid"] for board in SHIPPED.values()]
    assert len(set(uids)) == len(uids) >= 3
    for name, board in SHIPPED.items():
        assert name == f"{board['uid']}.json"
        assert re.fullmatch(r"openami-[a-z-]{1,30}", board["uid"])
        assert "id" not in board, "a number would overwrite somebody else's dashboard"


@EACH
def test_every_data_source_is_a_variable(board: dict[str, Any]) -> None:
    known = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert known["DS_PROMETHEUS"]["type"] == "datasource"
    askers = [
        *(panel for panel in board["panels"]),
        *(target for panel in board["panels"] for target in panel["targets"]),
        *(variable for variable in known.values() if variable["type"] == "query"),
    ]
    assert {asker["datasource"]["uid"] for asker in askers} == {"${DS_PROMETHEUS}"}
    for query in queries(board):
        used = set(re.findall(r"\$(\w+)", query)) - {"__rate_interval"}
        assert used <= set(known)


@EACH
def test_panels_neither_overlap_nor_leave_the_screen(board: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= COLUMNS
        taken |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_every_query_parses(tmp_path: Path) -> None:
    """promtool reads them as recording rules."""
    asked = [concrete(query) for board in SHIPPED.values() for query in queries(board)]
    records = [{"record": f"query:{at}", "expr": query} for at, query in enumerate(asked)]
    file = tmp_path / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": records}]}))
    promtool("check", "rules", file)


@EACH
def test_every_metric_exists(board: dict[str, Any]) -> None:
    asked = {
        name for query in queries(board) for name in re.findall(r"\b(?:openami|process)_\w+", query)
    }
    assert asked
    assert asked <= metric_names()


def test_every_metric_of_ours_that_counts_trouble_is_on_a_dashboard() -> None:
    shown = "\n".join(query for board in SHIPPED.values() for query in queries(board))
    trouble = re.compile(
        r"rejected|losses|lost|errors|failures|conflicts|missing|refused_documents"
    )
    for name in metric_names():
        if name.startswith("openami_headend_") and trouble.search(name):
            assert name in shown


def test_provisioning_is_read_by_grafana() -> None:
    for kind, key in (("datasources", "datasources"), ("dashboards", "providers")):
        told = yaml.safe_load((GRAFANA / f"provisioning/{kind}/openami.yml").read_text())
        assert told["apiVersion"] == 1
        assert told[key]
