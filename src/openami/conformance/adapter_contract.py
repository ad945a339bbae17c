"""What an adapter is asked and what it answers: one line of JSON each (decision 0048). Pure.

An adapter is a vendor's reader behind the smallest door there is: a program that reads questions from
standard input and writes answers to standard output, one a line. It runs until its input ends, or
ends after an answer and is started anew.
"""

from typing import Final, Literal

import msgspec

from openami.profile import one_line

Kind = Literal["telemetry", "topic", "event", "session", "command"]
Said = Literal["accept", "reject", "decline"]

# The longest honest answer, a session's digest with a reason, has some 300 bytes.
ANSWER_BYTES_MAX: Final = 16 * 1024
# A sentence for a person; what is longer is cut, not refused.
REASON_CHARS_MAX: Final = 300


class Question(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One case as an adapter sees it: nothing in it tells which answer is right.

    ``case`` numbers the questions of a run from 1, and the answer repeats it. ``payload_hex`` holds the
    message's bytes, two hexadecimal digits each: they may be any bytes at all; it is not there where the
    topic alone is judged. ``received_at`` is what the reader's clock is to say. ``keys`` are the raw
    public keys a signed document may be verified with, base64url by thumbprint.
    """

    case: int
    kind: Kind
    topic: str
    received_at: str
    retain: bool = False
    payload_hex: str | None = None
    keys: dict[str, str] | None = None

    def line(self) -> bytes:
        """Return the line an adapter reads."""
        return msgspec.json.encode(self) + b"\n"


class Answer(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What an adapter says of a case.

    ``decline``: its reader does not deal with such messages. ``reject`` also where only a part of the
    message is refused. ``digest`` and ``parsed`` are optional proofs that it read what was meant: of an
    accepted signed document its digest, of an accepted topic its ids.
    """

    case: int
    verdict: Said
    reason: str = ""
    digest: str | None = None
    parsed: dict[str, str] | None = None

    def line(self) -> bytes:
        """Return the line an adapter writes."""
        return msgspec.json.encode(self) + b"\n"


class Silence(msgspec.Struct, frozen=True):
    """There was no answer to a case, and what there was instead."""

    how: Literal["crashed", "ended", "hung", "garbage", "too much output", "not asked"]
    detail: str


_read_question = msgspec.json.Decoder(Question).decode
_read_answer = msgspec.json.Decoder(Answer).decode


def read_question(line: bytes) -> Question:
    """Return the question a line holds, for an adapter in this language. Raises ValueError."""
    return _read_question(line)


def read_answer(line: bytes, *, case: int) -> Answer | Silence:
    """Return the answer a line holds, or why it is none to this case."""
    try:
        answer = _read_answer(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Silence("garbage", f"{_shown(line)} is not an answer: {short(str(error))}")
    if answer.case != case:
        detail = f"it answered case {answer.case} when it was asked case {case}"
        return Silence("garbage", f"{detail}: does it print something else between its answers?")
    return msgspec.structs.replace(answer, reason=short(answer.reason))


def short(text: str) -> str:
    """Return what an adapter said as one line for a person, cut where it is long."""
    return one_line(text[:REASON_CHARS_MAX])[:REASON_CHARS_MAX]


_SHOWN_BYTES_MAX = 80  # a line's beginning tells where it came from


def _shown(line: bytes) -> str:
    return repr(line[:_SHOWN_BYTES_MAX].decode(errors="replace").rstrip("\n"))
