"""Our own library behind the adapter's contract: the worked example in Python.

    python -m openami.conformance.our_reader          a program for `--adapter`
    answer(question)                                  the same in this process

It judges with `openami.profile` and `openami.sip` alone; the head-end, which does the same and stores,
is not asked: the kit knows neither program.
"""

import sys
from datetime import datetime, timedelta
from typing import Final

from openami.conformance.adapter_contract import Answer, Question, read_question
from openami.profile import (
    Code,
    CommandTopic,
    EventTopic,
    ProfileError,
    SessionTopic,
    TelemetryTopic,
    Topic,
    audit_envelope,
    judge_register,
    judge_topic,
    parse_topic,
    read_time,
    shipped_catalogue,
)

# Decision 0005, as a head-end of ours has them.
_AHEAD_OF_CLOCK_MAX: Final = timedelta(minutes=5)
_OLDEST_YEAR: Final = 2020


def answer(question: Question) -> Answer:
    """Return what our library says of a case."""
    try:
        topic = parse_topic(question.topic)
        if question.kind == "topic":
            return Answer(question.case, "accept", parsed=_ids(topic))
        payload = bytes.fromhex(question.payload_hex or "")
        if question.kind in ("session", "command"):
            return _answer_signed(question, topic, payload)
        _check_message(topic, payload, question)
    except ProfileError as error:
        return Answer(question.case, "reject", reason=str(error))
    return Answer(question.case, "accept")


def _ids(topic: Topic) -> dict[str, str]:
    ids = {"feederId": topic.feeder_id, "gatewayId": topic.gateway_id}
    if isinstance(topic, SessionTopic):
        return {**ids, "kind": "session", "sessionId": topic.session_id}
    return {**ids, "kind": topic.leaf, "meterSerial": topic.meter_serial}


def _check_message(topic: Topic, payload: bytes, question: Question) -> None:
    """Return if every part of a message is to be taken. Raises ProfileError."""
    if question.retain:
        raise ProfileError(Code.RETAINED, "OA-TOP-006", "", "the message was retained")
    if not isinstance(topic, TelemetryTopic | EventTopic):
        raise ProfileError(Code.UNEXPECTED_TOPIC, "OA-TOP-005", "", f"{topic} carries no readings")
    audit = audit_envelope(payload)
    if audit.errors or audit.envelope is None:
        raise audit.errors[0]
    for error in judge_topic(audit.envelope, topic):
        raise error
    _check_clock(audit.envelope.ts, question)
    for reading in audit.envelope.registers:
        listed = shipped_catalogue().get(reading.obis)
        if listed is not None and (fault := judge_register(reading, listed)) is not None:
            raise fault


def _check_clock(ts: datetime, question: Question) -> None:
    clock = read_time(question.received_at)
    assert clock is not None, "the kit writes times of the strict form"
    if ts > clock + _AHEAD_OF_CLOCK_MAX:
        raise ProfileError(Code.TIME_IN_FUTURE, "OA-ENV-011", "/ts", f"it is {clock:%FT%TZ}")
    if ts.year < _OLDEST_YEAR:
        raise ProfileError(Code.TIME_TOO_OLD, "OA-ENV-012", "/ts", f"before {_OLDEST_YEAR}")


def _answer_signed(question: Question, topic: Topic, payload: bytes) -> Answer:
    """Read and verify a signed document with nothing but the keys that came with it."""
    try:
        # Signatures need libraries that the core does without.
        from openami.sip.acts import ActType, verified_acts
        from openami.sip.canonical import read_document
        from openami.sip.command import read_command
        from openami.sip.errors import SipCode, SipError
        from openami.sip.keys import PublicKey
        from openami.sip.session_document import read_session
    except ModuleNotFoundError as missing:
        return Answer(
            question.case,
            "decline",
            reason=f"{missing.name} is not installed: pip install 'openami[gateway]'",
        )
    try:
        document = read_document(payload)
        keys = {kid: PublicKey.parse(text) for kid, text in (question.keys or {}).items()}
        if isinstance(topic, CommandTopic):
            read_command(document, topic)
            stated = {ActType.COMMAND}
        elif isinstance(topic, SessionTopic):
            if read_session(document).session_id != topic.session_id:
                raise SipError(SipCode.TOPIC_MISMATCH, "it is for another topic")
            stated = {
                ActType.OFFER, ActType.ACCEPT, ActType.REJECT, ActType.CLOSE, ActType.REVOKE,
            }  # fmt: skip
        else:
            raise SipError(SipCode.TOPIC_MISMATCH, "no signed document travels on this topic")
        if not {act.type for act in verified_acts(document, keys)} <= stated:
            raise SipError(SipCode.WRONG_TYPE, "an act of another kind of document")
    except SipError as error:
        return Answer(question.case, "reject", reason=str(error))
    return Answer(question.case, "accept", digest=document.digest)


def main() -> None:
    """Answer questions, one a line, until the input ends."""
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(answer(read_question(line)).line())
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
