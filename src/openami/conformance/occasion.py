"""Occasion: one moment at which a requirement could be broken, and whether it was. What rules say."""

from dataclasses import dataclass
from datetime import datetime

from openami.conformance.observation import Published, Sent


@dataclass(frozen=True, slots=True)
class Occasion:
    """One occasion; ``fault`` says in words how the requirement was broken, None that it was kept.

    ``pointer`` is the place in the message (RFC 6901). ``about`` is the message it is about where that is
    not the one that is being looked at: what was due and did not come is found out later, and was due
    ``at`` some time. ``by`` names who did it where the topic does not.
    """

    requirement: str
    fault: str | None = None
    pointer: str = ""
    about: Published | Sent | None = None
    at: datetime | None = None
    by: str = ""
