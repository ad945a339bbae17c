"""Somebody reads the document and asks everything it allows, and much it does not: the API keeps to its word.

Real application, real store with a village's afternoon in it; the seed is fixed, so a fault that was found is found
again.
"""

import asyncio
import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from tests.headend.web.api.village import StillClock, site_over

from openami.headend.store.open import open_store
from openami.headend.web.app import API, build_app
from openami.profile import utc_text

# All operations together stay below 25 s on two cores.
EXAMPLES = 3
SEED = 5
# Fewer would mean that it did not try.
CASES_MIN = 500
# What is said of values that are of the right form and mean nothing here.
MEANINGS = (
    "`since`",
    "no hour of this time",
    "a balance is of at most",
    "choose a longer step",
    "no cursor of this list",
    "not before from",
    "days, not",
    "a time with its zone",
    "this is no act",
    " — ",  # a fault of a row, by the rules of the import
)
TOKEN = {"Authorization": "Bearer engineer"}


def settings() -> dict[str, Any]:
    return {
        "seed": SEED,
        "headers": TOKEN,
        "generation": {"max-examples": EXAMPLES, "deterministic": True},
        "phases": {"stateful": {"enabled": False}, "coverage": {"unexpected-methods": ["delete"]}},
    }


@pytest.fixture
def tried(filled: Path, tmp_path: Path) -> Iterator[Any]:
    """The application to try, over a store of its own."""
    shutil.copy(filled, tmp_path / "store.db")
    loop = asyncio.new_event_loop()
    opening = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    store = loop.run_until_complete(opening.__aenter__())
    yield build_app(site_over(store, StillClock()))
    loop.run_until_complete(opening.__aexit__(None, None, None))
    loop.close()


def meaning_alone_is_wrong(check: str, response: Any) -> bool:
    """Whether a request that is as declared is refused for what no schema can say."""
    if check != "positive_data_acceptance" or response is None:
        return False
    if response.status_code == HTTPStatus.PRECONDITION_FAILED:  # an ETag of another state
        return True
    problem = json.loads(response.content)
    if problem["code"] == "idempotency-key-reused":
        return True
    told = problem.get("errors", ())
    return bool(told) and all(any(known in error["detail"] for known in MEANINGS) for error in told)


def test_the_api_keeps_to_its_document(tried: Any) -> None:
    # A second's import, in each process that collects tests.
    import schemathesis
    from schemathesis.engine import events, from_schema

    schemathesis.openapi.format(
        "date-time",
        st.integers(0, 7_000_000_000).map(lambda s: utc_text(datetime.fromtimestamp(s, UTC))),
    )
    config = schemathesis.Config.from_dict(settings())
    schema = schemathesis.openapi.from_asgi(
        f"{API}/openapi.json", tried, config=config, headers=TOKEN
    )
    cases, found = 0, set()
    for event in from_schema(schema).execute():
        assert not isinstance(event, events.NonFatalError | events.FatalError), event
        if not isinstance(event, events.ScenarioFinished):
            continue
        recorder = event.recorder
        cases += len(recorder.cases)
        for case_id, checks in recorder.checks.items():
            interaction = recorder.interactions.get(case_id)
            response = None if interaction is None else interaction.response
            for check in checks:
                if check.failure_info is not None and not meaning_alone_is_wrong(
                    check.name, response
                ):
                    found.add(_told(recorder.label, check, interaction))
    assert cases > CASES_MIN
    assert not found, "\n\n".join(sorted(found))


def _told(label: str, check: Any, interaction: Any) -> str:
    """Say what is wrong so that it can be asked again."""
    request, response = interaction.request, interaction.response
    return (
        f"{label}: {check.name}: {check.failure_info.failure}\n"
        f"  {request.method} {request.uri} {request.headers} {request.body}\n"
        f"  {response.status_code} {response.headers} {response.content[:400]}"
    )
