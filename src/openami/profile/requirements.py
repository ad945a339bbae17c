"""The numbered requirements: what is asked, by whom, how it is judged, and what to do when it is not met.

The text is data, `spec/requirements.toml`, so that other implementations can be held to the same numbers.
"""

import tomllib
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from openami import spec
from openami.profile.errors import Code, ProfileError

Judge = Literal[
    "topic", "message", "register list", "ingest", "publish", "store", "course", "link", "command"
]
Party = Literal["gateway", "headend"]


class Requirement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One requirement.

    ``source`` is ``profile`` or ``decision NNNN``; ``place`` is where the profile says it, a pointer into
    ``profile-v0.1.json``, and there exactly when the source is the profile. ``judged`` tells by what: see
    the head of the file.

    ``of`` are those who have to meet it, ``core`` those of them who are not conformant without having
    shown it. ``how`` says by what the conformance kit judges it or, where it is not ``testable``, why it
    cannot. ``exercise`` says how to bring it about; empty where ordinary readings do.
    """

    id: Annotated[str, Meta(pattern=r"^OA-[A-Z]{3}-[0-9]{3}$")]
    text: str
    source: Annotated[str, Meta(pattern=r"^(profile|decision [0-9]{4})$")]
    codes: tuple[Code, ...]
    judged: Judge
    of: Annotated[tuple[Party, ...], Meta(min_length=1)]
    how: str
    remedy: str
    core: tuple[Party, ...] = ()
    testable: bool = True
    exercise: str = ""
    place: str | None = None

    @property
    def is_profile(self) -> bool:
        """Whether it is the profile's own word: only that can be failed (decision 0045)."""
        return self.source == "profile"


class _RequirementFile(msgspec.Struct, forbid_unknown_fields=True):
    requirement: tuple[Requirement, ...]


@cache
def requirements() -> Mapping[str, Requirement]:
    """Return all requirements by their id, in the order of the file."""
    content = tomllib.loads(spec.load("requirements.toml").decode())
    listed = msgspec.convert(content, _RequirementFile).requirement
    by_id = {requirement.id: requirement for requirement in listed}
    assert len(by_id) == len(listed), "requirements.toml: a number stands twice"
    return by_id


def requirement_of(error: ProfileError) -> Requirement:
    """Return the requirement an error says is broken."""
    return requirements()[error.requirement]
