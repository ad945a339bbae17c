"""The alert rules: each fires for what it is for, keeps quiet one step before it, and says what to do."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from tests.operations.prometheus import ROOT, metric_names, promtool

RULES: Final = ROOT / "deploy/prometheus/openami.rules.yml"
H, G = "openami_headend_", "openami_gateway_"
CONNECTED: Final = {f'{H}broker_connected{{instance="h"}}': "1x2000"}


@dataclass(frozen=True)
class Story:
    """What an alert fires for, and the nearest thing it keeps quiet for, at a minute; a sample each ``step_m``."""

    alert: str
    minute: int
    fires: dict[str, str]
    quiet: dict[str, str]
    step_m: int = 1


def on(metric: str, labels: str = "", job: str = "") -> str:
    """Return a series of one instance."""
    where = ['instance="h"', *([f'job="{job}"'] if job else []), *([labels] if labels else [])]
    return f"{metric}{{{','.join(where)}}}"


def told(metric: str, values: str, labels: str = "") -> dict[str, str]:
    return {on(metric, labels): values}


def meters(silent: int) -> dict[str, str]:
    series = told(f"{H}meters", f"{silent}x100", 'feeder="f",state="meter_silent"')
    return series | told(f"{H}meters", f"{100 - silent}x100", 'feeder="f",state="reporting"')


def lag(late: str) -> dict[str, str]:
    """A hundred messages a minute within a minute, and late ones within a day."""
    counts = {"60.0": "0+100x200", "3600.0": "0+100x200", "86400.0": late, "+Inf": late}
    return {
        on(f"{H}ingest_lag_seconds_bucket", f'le="{bound}"'): values
        for bound, values in counts.items()
    }


def pages(within_1s: str) -> dict[str, str]:
    counts = {"0.3": within_1s, "1.0": within_1s, "3.0": "0+100x100", "+Inf": "0+100x100"}
    return {
        on(f"{H}web_request_seconds_bucket", f'le="{bound}",route="/"'): values
        for bound, values in counts.items()
    }


def answers(status: str, values: str, route: str = "/") -> dict[str, str]:
    labels = f'method="GET",route="{route}",status="{status}"'
    return told(f"{H}web_requests_total", values, labels)


def unaccounted(low: str, coverage: str) -> dict[str, str]:
    most = told(f"{H}feeder_loss_ratio", "0.6x50", 'feeder="f",bound="high"')
    least = told(f"{H}feeder_loss_ratio", low, 'feeder="f",bound="low"')
    return most | least | told(f"{H}feeder_coverage_ratio", coverage, 'feeder="f"')


def silent(count: int) -> dict[str, str]:
    return told(f"{H}gateways", f"{count}x100", 'feeder="f",state="gateway_silent"')


GIB: Final = 2**30
HEARD: Final = told(f"{H}gateways", "1x100", 'feeder="f",state="reporting"')
STORIES: Final = (
    Story(
        "HeadendDown",
        10,
        {on("up", job="openami-headend"): "1x4 0x20"},
        {on("up", job="openami-headend"): "1x8 0x20"},
    ),
    Story(
        "HeadendBrokerLost",
        20,
        told(f"{H}broker_connected", "1x10 0x20"),
        told(f"{H}broker_connected", "1x16 0x20"),
    ),
    Story(
        "HeadendForgottenByBroker",
        30,
        told(f"{H}broker_sessions_lost_total", "0x10 1x60"),
        told(f"{H}broker_sessions_lost_total", "1x90"),
    ),
    Story(
        "HeadendStoreFails",
        15,
        told(f"{H}store_up", "1x5 0x20"),
        told(f"{H}store_up", "1x30") | told(f"{H}store_errors_total", "3x30"),
    ),
    Story(
        "HeadendStoreFails",
        15,
        told(f"{H}store_up", "1x30") | told(f"{H}store_errors_total", "0x9 1x20"),
        told(f"{H}store_up", "1x14 0x20"),
    ),
    Story(
        "SliceFree",
        5,
        told(f"{H}slices_free", "0x1 2x10"),
        told(f"{H}slices_free", "2x2 0x10"),
    ),
    Story(
        "HeadendDiskFilling",
        90,
        told(f"{H}store_free_bytes", f"{GIB}x100"),
        told(f"{H}store_free_bytes", f"{3 * GIB}x100"),
    ),
    Story(
        "HeadendDiskFilling",
        24 * 60,
        told(f"{H}store_free_bytes", f"{60 * GIB}-{10 * GIB // 144}x150"),
        told(f"{H}store_free_bytes", f"{100 * GIB}-{10 * GIB // 144}x150"),
        step_m=10,
    ),
    *(
        Story(
            "HeadendClosingFails",
            121,
            told(f"{H}closing_{what}", "1x200"),
            told(f"{H}closing_{what}", "0x200"),
        )
        for what in ("damaged", "failed")
    ),
    Story(
        "HeadendCertificateEnds",
        1,
        told(f"{H}certificate_expiry_timestamp_seconds", f"{6 * 86400}x5"),
        told(f"{H}certificate_expiry_timestamp_seconds", f"{8 * 86400}x5"),
    ),
    Story("HeadendConsoleSlow", 60, pages("0+90x100"), pages("0+96x100")),
    Story(
        "HeadendConsoleErrors",
        40,
        answers("200", "0+90x60") | answers("500", "0+10x60"),
        answers("200", "0+96x60")
        | answers("500", "0+4x60")
        | answers("503", "0+90x60", route="/readyz"),
    ),
    Story(
        "SignInsFail",
        20,
        told(f"{H}sign_in_failures_total", "0x10 0+4x20"),
        told(f"{H}sign_in_failures_total", "0+1x30"),
    ),
    Story(
        "NothingReceived",
        60,
        CONNECTED | HEARD | told(f"{H}messages_total", "500x90"),
        CONNECTED | HEARD | told(f"{H}messages_total", "500x40 501x50"),
    ),
    Story(
        "NothingReceived",
        60,
        CONNECTED | HEARD | told(f"{H}messages_total", "500x90"),
        # A head-end of which no gateway was ever heard waits for its first.
        CONNECTED | told(f"{H}messages_total", "0x90"),
    ),
    Story("GatewaySilent", 20, CONNECTED | silent(1), CONNECTED | silent(0)),
    Story(
        "GatewaySilent",
        20,
        CONNECTED | silent(1),
        told(f"{H}broker_connected", "0x100") | silent(12),
    ),
    Story("MetersSilent", 40, CONNECTED | meters(11), CONNECTED | meters(10)),
    Story("MessagesLate", 150, lag("0+120x200"), lag("0+105x200")),
    Story(
        "MessagesRejected",
        70,
        told(f"{H}messages_rejected_total", "0x30 0+1x60", 'rule="WRONG_UNIT"'),
        told(f"{H}messages_rejected_total", "0x66 0+1x10", 'rule="WRONG_UNIT"'),
    ),
    Story(
        "ReadingsConflict",
        30,
        told(f"{H}conflicts_total", "0x20 2x20"),
        told(f"{H}conflicts_total", "2x60"),
    ),
    Story(
        "MessagesLost",
        400,
        told(f"{H}missing_messages", "3x38 9x3", 'feeder="f",state="lost"'),
        told(f"{H}missing_messages", "9x42", 'feeder="f",state="lost"')
        | told(f"{H}missing_messages", "3x38 9x3", 'feeder="f",state="open"'),
        step_m=10,
    ),
    Story(
        "MessagesLost",
        400,
        told(f"{H}missing_messages", "_x38 9x3", 'feeder="f",state="lost"'),
        told(f"{H}missing_messages", "9x42", 'feeder="f",state="lost"'),
        step_m=10,
    ),
    Story(
        "FeederLossHigh",
        7 * 60,
        unaccounted("0.25x50", "0.95x50"),
        unaccounted("0.25x50", "0.85x50"),
        step_m=10,
    ),
    Story(
        "FeederLossHigh",
        7 * 60,
        unaccounted("0.25x50", "0.95x50"),
        unaccounted("0.19x50", "0.95x50"),
        step_m=10,
    ),
    Story(
        "CommandOutcomeUnknown",
        5,
        told(f"{H}commands", "1x10", 'type="relay.disconnect",state="unknown"'),
        told(f"{H}commands", "1x10", 'type="relay.disconnect",state="failed"'),
    ),
    Story(
        "DocumentsNotBelieved",
        30,
        told(f"{H}refused_documents_total", "0x20 1x20"),
        told(f"{H}refused_documents_total", "1x60"),
    ),
    Story(
        "GatewayUnreachable",
        60,
        {on("up", job="openami-gateway"): "1x20 0x60"},
        {on("up", job="openami-gateway"): "1x40 0x60"},
    ),
    Story(
        "GatewayBacklogOld",
        7 * 60,
        told(f"{G}backlog_oldest_timestamp_seconds", "60x50"),
        told(f"{G}backlog_oldest_timestamp_seconds", "0x50"),
        step_m=10,
    ),
    Story(
        "GatewayBacklogOld",
        7 * 60,
        told(f"{G}backlog_oldest_timestamp_seconds", "60x50"),
        told(f"{G}backlog_oldest_timestamp_seconds", f"{2 * 3600}x50"),
        step_m=10,
    ),
    Story(
        "GatewayOutboxFilling",
        90,
        told(f"{G}outbox_room_seconds", f"{2 * 86400}x100"),
        told(f"{G}outbox_room_seconds", f"{4 * 86400}x100"),
    ),
    Story(
        "GatewayReadingsNotStored",
        20,
        told(f"{G}unstored_messages_total", "0x10 1x20"),
        told(f"{G}unstored_messages_total", "1x40"),
    ),
    Story(
        "GatewayThins",
        30,
        told(f"{G}thinned_messages", "0x20 40x20", 'stage="fast"'),
        told(f"{G}thinned_messages", "0x20 40x20", 'stage="kept"'),
    ),
    Story(
        "GatewayClockUntrusted",
        90,
        told(f"{G}clock_trusted", "0x100"),
        told(f"{G}clock_trusted", "0x50 1x50"),
    ),
    Story(
        "GatewayLineDown",
        30,
        told(f"{G}line_up", "0x40", 'line="bus1"'),
        told(f"{G}line_up", "1x20 0x20", 'line="bus1"'),
    ),
    Story(
        "GatewayCertificateEnds",
        1,
        told(f"{G}certificate_expiry_timestamp_seconds", f"{6 * 86400}x5"),
        told(f"{G}certificate_expiry_timestamp_seconds", f"{8 * 86400}x5"),
    ),
)


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load(RULES.read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def unit_test(story: Story, series: dict[str, str], *, firing: int) -> dict[str, Any]:
    """Return one of promtool's tests: how many alerts of a name fire at a minute."""
    expression = f'count(ALERTS{{alertname="{story.alert}", alertstate="firing"}})'
    found = [{"labels": "{}", "value": firing}] if firing else []
    return {
        "name": f"{story.alert} {'fires' if firing else 'keeps quiet'}",
        "interval": f"{story.step_m}m",
        "input_series": [{"series": s, "values": values} for s, values in series.items()],
        "promql_expr_test": [
            {"expr": expression, "eval_time": f"{story.minute}m", "exp_samples": found}
        ],
    }


def test_the_rules_are_rules() -> None:
    promtool("check", "rules", RULES)
    promtool("check", "config", RULES.parent / "prometheus.yml")


def test_each_alert_fires_for_what_it_is_for_and_not_one_step_before(tmp_path: Path) -> None:
    for step_m in sorted({story.step_m for story in STORIES}):
        file = tmp_path / f"stories-{step_m}.yml"
        told = {"rule_files": [str(RULES)], "evaluation_interval": f"{step_m}m"}
        tests = [
            unit_test(story, series, firing=firing)
            for story in STORIES
            if story.step_m == step_m
            for series, firing in ((story.fires, 1), (story.quiet, 0))
        ]
        file.write_text(json.dumps({**told, "tests": tests}))
        promtool("test", "rules", file)


def test_each_alert_has_a_story() -> None:
    assert {story.alert for story in STORIES} == {rule["alert"] for rule in rules()}


def test_what_is_said_names_the_place(tmp_path: Path) -> None:
    labels = {"instance": "h", "feeder": "north", "state": "gateway_silent", "severity": "urgent"}
    (rule,) = [rule for rule in rules() if rule["alert"] == "GatewaySilent"]
    series = CONNECTED | {on(f"{H}gateways", 'feeder="north",state="gateway_silent"'): "2x100"}
    test = {
        "interval": "1m",
        "input_series": [{"series": s, "values": values} for s, values in series.items()],
        "alert_rule_test": [
            {
                "eval_time": "20m",
                "alertname": "GatewaySilent",
                "exp_alerts": [
                    {
                        "exp_labels": labels,
                        "exp_annotations": {
                            "summary": "2 gateways of north are silent",
                            "runbook_url": rule["annotations"]["runbook_url"],
                        },
                    }
                ],
            }
        ],
    }
    file = tmp_path / "said.yml"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "tests": [test]}))
    promtool("test", "rules", file)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_each_alert_has_its_place_in_the_runbook(rule: dict[str, Any]) -> None:
    name = rule["alert"]
    url = "https://github.com/openami/openami/blob/main/docs/operations.md"
    assert rule["annotations"]["runbook_url"] == f"{url}#{name.lower()}"
    assert rule["labels"]["severity"] in ("urgent", "soon")
    page = (ROOT / "docs/operations.md").read_text()
    entry = re.search(rf"^#### {name}\n\n(.*?)(?=^#|\Z)", page, re.MULTILINE | re.DOTALL)
    assert entry is not None, f"docs/operations.md says nothing of {name}"
    assert re.search(r"\*\*Do\*\*: ", entry[1]), "it says what to do"


def test_every_metric_an_alert_asks_for_exists() -> None:
    asked = {
        name
        for rule in rules()
        for name in re.findall(r"\b(?:openami_\w+|up)\b(?=[{\[ ]|$)", rule["expr"])
    }
    assert len(asked) > 20
    assert asked <= metric_names()
