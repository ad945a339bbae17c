"""Every problem's code with what it means and what to do: the page that ``/help/problems#code`` leads to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


def _(text: str) -> str:
    """Mark a word to be translated where it is shown."""
    return text


@dataclass(frozen=True, slots=True)
class Explained:
    """A problem in plain words."""

    means: str
    do: str


PROBLEMS: Final[Mapping[str, Explained]] = {
    "not-signed-in": Explained(
        _("Nobody is signed in, or the sign-in has run out."),
        _("Sign in. A program sends an API token in the header Authorization: Bearer."),
    ),
    "role-missing": Explained(
        _("Your role does not allow this."),
        _("Ask an engineer of your organisation to do it, or to give you the role."),
    ),
    "scope-too-narrow": Explained(
        _("This is about all feeders, and you are responsible for some of them."),
        _("Ask somebody who is responsible for all."),
    ),
    "step-up-needed": Explained(
        _("Relays, keys and users are touched only by somebody who has just shown who they are."),
        _("Give your password again, then repeat what you asked."),
    ),
    "wrong-origin": Explained(
        _(
            "The request did not come from a page of this head-end. Somebody may have tried to trick your browser."
        ),
        _("Close the other page, and use the console's own pages, or an API token."),
    ),
    "not-found": Explained(
        _("There is no such thing here, or it is not on your feeders."),
        _("Compare the name with the list; serial numbers are exact."),
    ),
    "store-failed": Explained(
        _("The database cannot be read or written at the moment."),
        _(
            "See whether its disk is full and its server runs; the message names the remedy. "
            "Readings wait at the broker meanwhile."
        ),
    ),
}
