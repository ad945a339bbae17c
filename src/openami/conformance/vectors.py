"""The vectors as cases for any implementation, and the verdict on its answers. Pure.

``y_`` must be accepted, ``n_`` rejected, ``i_`` is free. What breaks the profile's own word fails; what
breaks a decision of ours is a warning (decision 0048). An implementation that falls silent at a message
fails whosever word it was: anybody who can publish can send those bytes.
"""

import base64
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal, get_args

import msgspec

from openami import spec
from openami.conformance.adapter_contract import Answer, Kind, Question, Silence
from openami.profile import requirements

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
# What the reader's clock says in a case that does not name a time of its own: a minute after the example.
USUAL_CLOCK: Final = "2026-06-22T14:31:00Z"

_SAID: Final = frozenset(("accept", "reject", "decline"))

Expected = Literal["accept", "reject", "either"]
_EXPECTED: Final[Mapping[str, Expected]] = {"y_": "accept", "n_": "reject", "i_": "either"}


class Vector(msgspec.Struct, frozen=True, kw_only=True):
    """One case of ``spec/vectors``; see the README there.

    ``source`` says whose word is broken by the wrong answer: ``profile`` or ``decision NNNN``.
    ``requirement`` is its number, where it has one.
    """

    id: str
    kind: Kind
    comment: str
    flags: tuple[str, ...]
    topic: str
    payload: bytes | None
    retain: bool
    received_at: str
    keys: dict[str, str] | None
    expected: Expected
    source: str
    requirement: str
    digest: str | None
    parsed: dict[str, str] | None

    def question(self, case: int) -> Question:
        """Return the question that puts this case."""
        return Question(
            case=case,
            kind=self.kind,
            topic=self.topic,
            received_at=self.received_at,
            retain=self.retain,
            payload_hex=None if self.payload is None else self.payload.hex(),
            keys=self.keys,
        )


class Outcome(msgspec.Struct, frozen=True, rename="camel"):
    """What came of one case.

    ``result`` says how the answer was, ``verdict`` what follows: wrong by the profile is ``failed``, wrong
    by a decision of ours a ``warning``. ``detail`` is what the adapter said, or how it fell silent.
    """

    id: str
    result: Literal["right", "wrong", "declined"]
    verdict: Literal["passed", "failed", "warning", "declined"]
    expected: Expected
    answered: str
    detail: str
    comment: str
    flags: tuple[str, ...]
    requirement: str
    source: str
    remedy: str

    def what(self) -> str:
        """Return what was wrong, in words."""
        return self.detail if self.answered in _SAID else f"{self.answered}: {self.detail}"


class FlagCount(msgspec.Struct, frozen=True, rename="camel"):
    """How the cases of one flag went; ``catches`` says what kind of bug they catch."""

    flag: str
    catches: str
    right: int
    wrong: int
    declined: int


# --- the corpus ----------------------------------------------------------------------------------


def shipped_vectors(kinds: Sequence[Kind] = KINDS) -> tuple[Vector, ...]:
    """Return the vectors of some kinds, in the order of their names."""
    root = files(spec).joinpath("vectors")
    return tuple(
        _vector(kind, json.loads(file.read_text(encoding="utf-8")))
        for kind in kinds
        for file in sorted(root.joinpath(kind).iterdir(), key=lambda each: each.name)
        if file.name.endswith(".json")
    )


@cache
def flags() -> Mapping[str, str]:
    """Return what kind of bug each flag stands for."""
    found: dict[str, str] = json.loads(spec.load("vectors/flags.json"))
    return found


def _vector(kind: Kind, content: Mapping[str, Any]) -> Vector:
    result = content["result"]
    requirement = result.get("requirement", "")
    # The profile's sentence is in the requirements; what has no number there names its decision itself.
    source = requirements()[requirement].source if requirement else result.get("source", "")
    id_ = content["id"]
    return Vector(
        id=id_,
        kind=kind,
        comment=content["comment"],
        flags=tuple(content["flags"]),
        topic=content["topic"],
        payload=_payload(content),
        retain=content.get("retain", False),
        received_at=content.get("received_at", USUAL_CLOCK),
        keys=content.get("keys"),
        expected=_EXPECTED[id_.partition("/")[2][:2]],
        source=source,
        requirement=requirement,
        digest=result.get("digest"),
        parsed=result.get("parsed"),
    )


def _payload(content: Mapping[str, Any]) -> bytes | None:
    if "payload_base64" in content:
        return base64.b64decode(content["payload_base64"], validate=True)
    if "payload_pieces" in content:
        pieces = content["payload_pieces"]
        return "".join(p if isinstance(p, str) else p["text"] * p["times"] for p in pieces).encode()
    return content["payload"].encode() if "payload" in content else None


# --- the verdict ---------------------------------------------------------------------------------


def judged(vector: Vector, said: Answer | Silence) -> Outcome:
    """Return what came of a case."""
    if isinstance(said, Silence):
        return _outcome(vector, "wrong", answered=said.how, detail=said.detail, failed=True)
    if said.verdict == "decline":
        return _outcome(vector, "declined", answered="decline", detail=said.reason)
    fault = _fault(vector, said)
    if fault is None:
        return _outcome(vector, "right", answered=said.verdict, detail=said.reason)
    detail = f"{fault}: {said.reason}" if said.reason else fault
    return _outcome(
        vector, "wrong", answered=said.verdict, detail=detail, failed=vector.source == "profile"
    )


def _fault(vector: Vector, answer: Answer) -> str | None:
    if vector.expected != "either" and answer.verdict != vector.expected:
        return f"must be {vector.expected}ed, was {answer.verdict}ed"
    if answer.verdict == "reject":
        return None
    if None not in (answer.digest, vector.digest) and answer.digest != vector.digest:
        return f"its digest is {vector.digest}, it was read as {answer.digest}"
    if None not in (answer.parsed, vector.parsed) and answer.parsed != vector.parsed:
        return f"it names {vector.parsed}, it was read as {answer.parsed}"
    return None


def _outcome(
    vector: Vector,
    result: Literal["right", "wrong", "declined"],
    *,
    answered: str,
    detail: str,
    failed: bool = False,
) -> Outcome:
    verdict: Literal["passed", "failed", "warning", "declined"]
    match result:
        case "right":
            verdict = "passed"
        case "declined":
            verdict = "declined"
        case "wrong":
            verdict = "failed" if failed else "warning"
    return Outcome(
        id=vector.id,
        result=result,
        verdict=verdict,
        expected=vector.expected,
        answered=answered,
        detail=detail,
        comment=vector.comment,
        flags=vector.flags,
        requirement=vector.requirement,
        source=vector.source,
        remedy=_remedy(vector),
    )


def _remedy(vector: Vector) -> str:
    """Return what a reader is to do; the requirements' own remedies are for who sends."""
    if vector.expected == "either":
        return "Answer it either way."
    word = f"{vector.expected.capitalize()} it: "
    if vector.requirement:
        return word + requirements()[vector.requirement].text
    return word + "docs/sip.md says what is signed, byte for byte."


def by_flag(outcomes: Iterable[Outcome]) -> tuple[FlagCount, ...]:
    """Return how the cases of each flag went, those with most wrong ones first."""
    counted = Counter((flag, o.result) for o in outcomes for flag in o.flags)
    rows = (
        FlagCount(
            flag=flag,
            catches=catches,
            right=counted[flag, "right"],
            wrong=counted[flag, "wrong"],
            declined=counted[flag, "declined"],
        )
        for flag, catches in flags().items()
        if any(counted[flag, result] for result in ("right", "wrong", "declined"))
    )
    return tuple(sorted(rows, key=lambda row: (-row.wrong, row.flag)))
