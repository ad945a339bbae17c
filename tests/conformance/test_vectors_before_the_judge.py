"""Of each vector the judge says what the vectors say: it breaks nothing, or just the requirement that is named."""

from datetime import datetime

from tests.cases import in_one_test
from tests.conformance.streams import broken
from tests.profile.vectors import Vector, vectors

from openami.conformance.judge import Judge
from openami.conformance.observation import Published
from openami.profile.requirements import requirements

AT = "2026-06-22T14:31:00Z"  # what the reader's clock says where a vector does not say it
# What readers let through, and a vendor is warned of (decision 0045): a code that is not in the list, an extension
# member of another shape, two values of one register in one message.
WARNED_OF = {"OA-REG-016", "OA-ENV-013", "OA-EVT-002", "OA-REG-014", "OA-REG-015"}


def broken_by(vector: Vector) -> set[str]:
    at = datetime.fromisoformat(vector.content.get("received_at", AT))
    judge = Judge("gateway", began_at=at)
    retain = bool(vector.content.get("retain"))
    judge.see(Published(at, vector.topic, vector.payload, qos=1, retain=retain, connection=1))
    return broken(judge.judgement(at))


@in_one_test(vectors("telemetry", "event", verdict="y_"), name=lambda each: each.name)
def test_what_must_be_accepted_breaks_nothing(vector: Vector) -> None:
    assert broken_by(vector) <= WARNED_OF


@in_one_test(vectors("telemetry", "event", verdict="n_"), name=lambda each: each.name)
def test_what_must_be_rejected_is_broken_under_the_number_of_the_vector(vector: Vector) -> None:
    number = vector.result["requirement"]
    if number == "OA-TOP-005":
        return  # who publishes commands and offers is a head-end: it is judged by the connection
    if vector.kind == "event" and requirements()[number].judged == "message":
        number = "OA-EVT-001"  # the profile names no payload for events
    assert number in broken_by(vector)


@in_one_test(vectors("event"), name=lambda each: each.name)
def test_an_event_is_never_failed_for_its_payload(vector: Vector) -> None:
    assert not {each for each in broken_by(vector) if requirements()[each].is_profile}
