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


class Finding(msgspec.Struct, frozen=True, rename="camel"):
    """What is said about one requirement.

    ``seen`` counts the occasions on which it could have been broken, ``broken`` those on which it was;
    ``evidence`` holds the first few of them, and for a pass the first occasion. ``exercise`` says how to
    bring it about, where it was not exercised; ``remedy`` what to do, where it was broken. ``broken_by``
    names the first few who broke it: gateways as ``FEEDER/GATEWAY``, or clients.
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
    broken_by: tuple[str, ...] = ()


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
