"""A message that was seen, read once for all rules: whose it is, what it says, what is wrong with it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from openami.conformance.judgement import Kind
from openami.conformance.observation import Published
from openami.profile import (
    CommandTopic,
    Envelope,
    EventTopic,
    ProfileError,
    SessionTopic,
    TelemetryTopic,
    Topic,
    audit_envelope,
    decode_envelope,
    parse_topic,
)
from openami.sip.acts import Act, ActType, read_acts
from openami.sip.canonical import read_document
from openami.sip.errors import SipError

_ROOT = "openami"
_VERSION = "v1"


@dataclass(frozen=True)
class Message:
    """A message of the profile, or meant as one.

    ``topic`` is None when it is none of the profile's; ``topic_error`` then says why. ``kind`` is how it is
    judged: as its topic says, or as it looks where the topic is wrong. Of readings and events ``envelope``
    holds what is good, ``errors`` what is not, and ``places`` where in the message the good registers stand;
    None when all are good. ``party`` is who sends such messages.
    """

    published: Published
    topic: Topic | None
    topic_error: ProfileError | None
    kind: type[TelemetryTopic | EventTopic | CommandTopic | SessionTopic] | None
    envelope: Envelope | None
    errors: tuple[ProfileError, ...]
    places: tuple[int, ...] | None
    party: Kind

    @cached_property
    def members(self) -> Mapping[str, Any]:
        """The members of the message as any JSON reader reads them; none when it is not an object."""
        return members_of(self.published.payload)


def members_of(payload: bytes) -> Mapping[str, Any]:
    """Return the members of a JSON object; none when it is not one."""
    try:
        members = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return members if isinstance(members, dict) else {}


def sender_of(topic: str) -> str:
    """Return the gateway a topic belongs to, as ``FEEDER/GATEWAY``; empty when it names none."""
    levels = topic.lstrip("/").split("/", 4)
    return "/".join(levels[2:4]) if levels[0] == _ROOT and len(levels) == 5 else ""


def read_message(published: Published) -> Message | None:
    """Read a message; None when it is nothing of the profile's and not meant to be."""
    payload = published.payload
    try:
        topic: Topic | None = parse_topic(published.topic)
        topic_error = None
    except ProfileError as error:
        if not _is_meant(published):
            return None
        topic, topic_error = None, error
    kind = _kind_by_look(published) if topic is None else type(topic)
    if kind is CommandTopic or kind is SessionTopic or kind is None:
        return Message(published, topic, topic_error, kind, None, (), None, _party(kind, payload))
    envelope: Envelope | None = None
    errors: tuple[ProfileError, ...] = ()
    places: tuple[int, ...] | None = None
    try:
        envelope = decode_envelope(payload)
    except ProfileError:
        audit = audit_envelope(payload)
        envelope, errors, places = audit.envelope, audit.errors, audit.places
    return Message(published, topic, topic_error, kind, envelope, errors, places, "gateway")


def _is_meant(published: Published) -> bool:
    """Whether a message on a foreign topic was meant for the profile: by its first levels, or what it says.

    A broker carries others' messages too: a head-end's trial of the broker, a later version of the profile,
    somebody's archive of envelopes. At the kit's own door there is nobody else.
    """
    root, version, *_ = (*published.topic.lstrip("/").casefold().split("/", 2), "", "")
    if root == _ROOT and (version == _VERSION or published.connection is not None):
        return True
    is_of_another_version = version[:1] == "v" and version[1:].isdecimal()
    could_be = published.connection is not None or (root == _ROOT and not is_of_another_version)
    return could_be and "registers" in members_of(published.payload)


def _kind_by_look(published: Published) -> type[TelemetryTopic | EventTopic] | None:
    last = published.topic.rstrip("/").rpartition("/")[2].casefold()
    if last == EventTopic.leaf:
        return EventTopic
    return TelemetryTopic if "registers" in members_of(published.payload) else None


def _party(
    kind: type[TelemetryTopic | EventTopic | CommandTopic | SessionTopic] | None, payload: bytes
) -> Kind:
    """Return who sends it: commands and offers come from a head-end, answers to offers from a gateway."""
    if kind is CommandTopic:
        return "headend"
    if kind is SessionTopic:
        acts = acts_of(payload)
        answered = acts and acts[-1].type in (ActType.ACCEPT, ActType.REJECT)
        return "gateway" if answered else "headend"
    return "gateway"


def acts_of(payload: bytes) -> tuple[Act, ...]:
    """Return the acts of a signed document, as read and not verified; none when it has none that can be read."""
    try:
        return read_acts(read_document(payload))
    except SipError:
        return ()
