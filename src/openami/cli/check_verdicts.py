"""``openami check --verdicts``: a capture judged as a whole, by the rules of the conformance kit."""

from collections.abc import Iterable
from datetime import datetime

from openami.cli.judgements import print_judgement
from openami.cli.report import Exit, fail, say
from openami.conformance.captures import Capture, read_capture
from openami.conformance.judge import Judge
from openami.conformance.judgement import Kind
from openami.conformance.observation import Published
from openami.profile import RegisterCatalogue


def judge_captures(
    inputs: Iterable[tuple[str, bytes]],
    catalogue: RegisterCatalogue,
    *,
    kind: Kind,
    now: datetime,
    as_json: bool,
) -> Exit:
    """Judge captured messages together, print the judgement and return the exit code.

    What came before is known by the order of the input. ``now`` stands for the time of those whose capture
    has none.
    """
    judge: Judge | None = None
    at, without_topic, subscribed_at_qos_1 = now, 0, False
    for _, content in inputs:
        capture = read_capture(content)
        if capture is None:
            without_topic += 1
            continue
        # Lines that were put together from two captures may go back; the judge's clock does not.
        at = capture.at or now if judge is None else max(at, capture.at or at)
        if judge is None:
            judge = Judge(kind, began_at=at, catalogue=catalogue)
        subscribed_at_qos_1 = subscribed_at_qos_1 or bool(capture.qos)
        judge.see(_published(capture, at, qos_is_told=subscribed_at_qos_1))
    if without_topic:
        say(f"openami: {without_topic} inputs have no topic beside them and were left out")
    if judge is None:
        fail(
            "no input has a topic beside its message",
            Exit.USAGE,
            "capture with mosquitto_sub -q 1 -F '%J'",
        )
    return print_judgement(judge.judgement(at), as_json=as_json)


def _published(capture: Capture, at: datetime, *, qos_is_told: bool) -> Published:
    """Return what was seen. A subscriber at QoS 0 gets everything with 0: that says nothing of the sender."""
    qos = capture.qos if capture.qos is not None and qos_is_told else -1
    return Published(at, capture.topic, capture.payload, qos, capture.retain, stored=capture.retain)
