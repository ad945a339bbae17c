"""Rejected messages as a person reads them: folded by what is wrong, with the fault marked where it is. Pure."""

import base64
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from openami.headend.store import Reject
from openami.profile import ProfileError, parse_topic, utc_text
from openami.profile.requirements import Requirement, requirements

# A message has 64 kB; what is longer than a screen of it is cut where nobody reads on.
SHOWN_LINES_MAX: Final = 400
SHOWN_CHARS_MAX: Final = 16_000
_INDENT: Final = "  "


@dataclass(frozen=True, slots=True)
class Sender:
    """Whose message it was, as far as its topic tells."""

    feeder_id: str = ""
    gateway_id: str = ""
    meter_serial: str = ""


def sender_of(topic: str) -> Sender:
    """Return who sent a message by its topic; an empty one where that is not of the profile."""
    try:
        read = parse_topic(topic)
    except ProfileError:
        return Sender()
    return Sender(read.feeder_id, read.gateway_id, getattr(read, "meter_serial", ""))


@dataclass(frozen=True, slots=True)
class Fold:
    """Messages of one gateway with the same fault: what a vendor mends once."""

    requirement: str
    code: str
    path: str
    sender: Sender
    """Its meter is empty where several have the fault."""
    messages: int
    """How often it came, identical ones counted."""
    meters: int
    newest: Reject


def fold(rejects: Iterable[Reject]) -> list[Fold]:
    """Fold messages by gateway, rule and place of the fault; the newest first."""
    groups: dict[tuple[str, ...], list[tuple[Reject, Sender]]] = {}
    for each in rejects:
        sender = sender_of(each.topic)
        key = (sender.feeder_id, sender.gateway_id, each.requirement, each.code, _place(each.path))
        groups.setdefault(key, []).append((each, sender))
    folded = []
    for (_, _, requirement, code, path), members in groups.items():
        meters = {sender.meter_serial for _, sender in members}
        newest, sender = max(members, key=lambda each: (each[0].received_at, each[0].id))
        several = Sender(sender.feeder_id, sender.gateway_id)
        folded.append(
            Fold(
                requirement,
                code,
                path,
                sender if len(meters) == 1 else several,
                sum(each.count for each, _ in members),
                len(meters),
                newest,
            )
        )
    return sorted(folded, key=lambda each: (each.newest.received_at, each.newest.id), reverse=True)


def _place(path: str) -> str:
    """Return where a fault is, without which of a list's it is: the third register's is the first's."""
    return "/".join("*" if part.isdigit() else part for part in path.split("/"))


def by_rule(rejects: Iterable[Reject]) -> list[tuple[str, int]]:
    """Return how many messages broke which rule, the commonest first."""
    counts: Counter[str] = Counter()
    for each in rejects:
        counts[each.requirement] += each.count
    return sorted(counts.items(), key=lambda each: (-each[1], each[0]))


def rule(requirement: str) -> Requirement | None:
    """Return a rule by its number; None for one of another version."""
    return requirements().get(requirement)


# --- the message, with its fault -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a message as it is shown."""

    text: str
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Marked:
    """A message's lines; ``found`` is whether the fault's place is among them."""

    lines: Sequence[Line]
    found: bool
    as_sent: bool
    """Whether it is shown as it was sent, because it is no JSON."""
    cut: bool = False


def marked(payload: bytes, path: str) -> Marked:
    """Return a message's lines with the value at a JSON pointer marked.

    Where the pointer names a member that is not there, what should have it is marked.
    """
    text = payload.decode(errors="backslashreplace")
    try:
        document = json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        cut = len(text) > SHOWN_CHARS_MAX
        return Marked([Line(each) for each in text[:SHOWN_CHARS_MAX].split("\n")], False, True, cut)
    wanted = [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]
    there = _nearest(document, wanted)
    try:
        lines = list(_printed(document, (), tuple(there), ""))
    except RecursionError:
        return Marked([Line(text[:SHOWN_CHARS_MAX])], False, True, len(text) > SHOWN_CHARS_MAX)
    return Marked(
        lines[:SHOWN_LINES_MAX],
        any(line.marked for line in lines[:SHOWN_LINES_MAX]),
        False,
        len(lines) > SHOWN_LINES_MAX,
    )


def _nearest(document: Any, wanted: Sequence[str]) -> list[str]:
    """Return as much of a pointer as leads somewhere."""
    there: list[str] = []
    here = document
    for part in wanted:
        if isinstance(here, dict) and part in here:
            here = here[part]
        elif isinstance(here, list) and part.isdigit() and int(part) < len(here):
            here = here[int(part)]
        else:
            break
        there.append(part)
    return there


def _printed(
    value: Any, at: tuple[str, ...], fault: tuple[str, ...], name: str, comma: str = ""
) -> Iterator[Line]:
    """Yield the lines of a value; those of the value at ``fault``, and below it, are marked."""
    indent = _INDENT * len(at)
    is_marked = at[: len(fault)] == fault
    entries = _entries(value)
    if not entries:
        text = json.dumps(value, ensure_ascii=False)
        yield Line(f"{indent}{name}{text}{comma}", is_marked)
        return
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    yield Line(f"{indent}{name}{opening}", is_marked)
    for number, (key, each) in enumerate(entries, 1):
        label = f"{json.dumps(key, ensure_ascii=False)}: " if isinstance(value, dict) else ""
        yield from _printed(each, (*at, key), fault, label, "," if number < len(entries) else "")
    yield Line(f"{indent}{closing}{comma}", is_marked)


def _entries(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, list):
        return [(str(at), each) for at, each in enumerate(value)]
    return []


# --- for the vendor ------------------------------------------------------------------------------


def for_vendor(rejects: Iterable[Reject], *, now: datetime) -> Mapping[str, Any]:
    """Return what a vendor needs to mend what is wrong: rule, remedy, topic and the very bytes."""
    return {
        "kind": "openami-rejected",
        "writtenAt": utc_text(now),
        "messages": [_for_vendor(each) for each in rejects],
    }


def _for_vendor(each: Reject) -> Mapping[str, Any]:
    broken = rule(each.requirement)
    told = {
        "id": each.id,
        "receivedAt": utc_text(each.received_at),
        "count": each.count,
        "topic": each.topic,
        "code": each.code,
        "requirement": each.requirement,
        "path": each.path,
        "detail": each.detail,
        "partlyStored": each.partial,
        "rule": None if broken is None else broken.text,
        "remedy": None if broken is None else broken.remedy,
        "source": None if broken is None else broken.source,
        "place": None if broken is None else broken.place,
    }
    try:
        return {**told, "payload": each.payload.decode()}
    except UnicodeDecodeError:
        return {**told, "payloadBase64": base64.b64encode(each.payload).decode()}
