"""A judgement: one verdict for each requirement, with its evidence. What every report is made from."""

from datetime import datetime
from typing import Literal

import msgspec

Kind = Literal["gateway", "headend"]
# A vendor never fails on a decision of ours: what is broken there is a warning.
Verdict = Literal["passed", "failed", "warning", "not exercised", "not testable"]


class Evidence(msgspec.Struct, frozen=True, rename="camel"):
    """One thing that was seen: when, on which topic, at which place of the message, and what is wrong.

    ``excerpt`` is the message or the part of it that shows it, cut to a bounded length.
    """

    at: datetime
    detail: str
    topic: str = ""
    pointer: str = ""
    excerpt: str = ""


class Place(msgspec.Struct, frozen=True, rename="camel"):
    """How one gateway, or one meter behind it, stands to a requirement.

    ``gateway`` is ``FEEDER/GATEWAY``; ``meter`` is empty where it is about the gateway itself.
    """

    gateway: str
    meter: str
    seen: int
    broken: int


class Finding(msgspec.Struct, frozen=True, rename="camel"):
    """What is said about one requirement.

    ``seen`` counts the occasions on which it could have been broken, ``broken`` those on which it was;
    ``evidence`` holds the first few of them, and for a pass the first occasion. ``exercise`` says how to
    bring it about, where it was not exercised; ``remedy`` what to do, where it was broken. ``places``
    tells it by gateway and meter, where it can be told: a bounded number, the broken ones first.
    """

    requirement: str
    text: str
    source: str
    how: str
    verdict: Verdict
    seen: int
    broken: int
    evidence: tuple[Evidence, ...]
    remedy: str
    exercise: str
    places: tuple[Place, ...] = ()


class Subject(msgspec.Struct, frozen=True, rename="camel"):
    """Who was judged; vendor, model and firmware as they say themselves."""

    kind: Kind
    names: tuple[str, ...]
    vendor: str = ""
    model: str = ""
    firmware: str = ""


class Judgement(msgspec.Struct, frozen=True, rename="camel"):
    """The whole result. It conforms when nothing failed and the core was exercised."""

    profile_version: str
    kit_version: str
    began_at: datetime
    ended_at: datetime
    subject: Subject
    findings: tuple[Finding, ...]
    conforms: bool
