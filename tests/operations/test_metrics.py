"""What both programs tell Prometheus, as its own tool judges it."""

import re
from collections.abc import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.operations.prometheus import gateway_exposition, headend_exposition, promtool

BOTH = pytest.mark.parametrize("exposition", [headend_exposition, gateway_exposition])
UNITS = re.compile(r"_(ms|milliseconds|minutes|hours|days|kb|mb|kib|mib|percent)(_|$)")


@BOTH
def test_promtool_finds_nothing(exposition: Callable[[], str]) -> None:
    promtool("check", "metrics", given=exposition())


@BOTH
def test_names_are_ours_in_base_units_and_counters_end_in_total(
    exposition: Callable[[], str],
) -> None:
    own = [f for f in text_string_to_metric_families(exposition()) if "process_" not in f.name]
    assert len(own) > 15
    for family in own:
        assert re.match(r"openami_(headend|gateway)_|openami_build_info$", family.name)
        assert not UNITS.search(family.name)
        for sample in family.samples:
            assert (family.type == "counter") == sample.name.endswith("_total")
            assert set(sample.labels) <= LABELS


# Few values each, for ever. A meter is none of them: five hundred series for each metric, and more with every swap.
LABELS = {
    *("feeder", "gateway", "state", "type", "rule", "code", "route", "method", "status", "le"),
    *("version", "bound", "outcome", "quality", "group", "verdict", "line", "stage", "slice"),
}
