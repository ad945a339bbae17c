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
    "assets-refused": Explained(
        _("What stands there does not allow that; the answer says why."),
        _("Do what it names, or correct what was told."),
    ),
    "name-taken": Explained(
        _("There is an account of that name already."),
        _("Choose another name, or change that account."),
    ),
    "last-engineer": Explained(
        _("Nobody could make or change an account afterwards."),
        _("Make another engineer of every feeder first."),
    ),
    "same-person": Explained(
        _("Who proposes it cannot approve it: a second person has to."),
        _("Ask a colleague to look at it and to approve it with their own password."),
    ),
    "approved-already": Explained(
        _("Somebody has approved it already."),
        _("Follow it; it can be stopped for those who are not cut off yet."),
    ),
    "nobody": Explained(
        _("Nobody is left to be cut off: look why each was left out."),
        _("Ask for a preview: it says of each meter why."),
    ),
    "too-many": Explained(
        _("Those are too many at once: take a part of them."),
        _("Propose them in parts."),
    ),
    "not-certified": Explained(
        _("What the gateway states of this day cannot be certified."),
        _("Look whether its keyring is known here and whether the gateway's key is in it."),
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
    "already-open": Explained(
        _("A command already asks the same of this meter, and has not ended."),
        _("Follow that one. A second one would say nothing the first does not."),
    ),
    "protected": Explained(
        _("The meter is protected: a critical customer's."),
        _("Let an engineer ask for it, with a reason."),
    ),
    "trade-open": Explained(
        _("This trade was asked for before, and may be settled."),
        _("Look at the command that asked for it; a trade is never settled twice."),
    ),
    "too-late": Explained(
        _("What has been sent cannot be called back."),
        _("Follow the command to its end; reconnecting is a command of its own."),
    ),
    "ended-already": Explained(
        _("It has ended, and nothing can be done with it any more."),
        _("Look at how it ended; ask anew if need be."),
    ),
    "not-waited-for": Explained(
        _("The signature is not one that is waited for."),
        _("See whose signature is missing, and over which document."),
    ),
    "no-key": Explained(
        _("This head-end has no key to command with."),
        _("An engineer adds the table [signing] to its configuration."),
    ),
    "changed-meanwhile": Explained(
        _("Somebody else has changed it since you looked."),
        _("Look at it again, then decide."),
    ),
    "dropped": Explained(
        _("The message was dropped, and its bytes are gone."),
        _("Let its sender send it again."),
    ),
    "idempotency-key-reused": Explained(
        _("The key of this request was another request's."),
        _("Repeat that request as it was, or give this one a key of its own."),
    ),
    "invalid": Explained(
        _("Something in the request is not as it has to be; the answer names what."),
        _("Mend what it names, and ask again."),
    ),
    "unreadable-body": Explained(
        _("What was sent is not readable."),
        _("Send what the documentation of the address shows, whole and in UTF-8."),
    ),
    "body-too-large": Explained(
        _("More was sent than is read."),
        _("Send less at once."),
    ),
    "unsupported-media-type": Explained(
        _("What was sent is in a form that is not read here."),
        _("Send JSON, and say so in Content-Type."),
    ),
    "not-acceptable": Explained(
        _("The form that was asked for is not to be had."),
        _("Ask for one of those the answer names."),
    ),
    "not-installed": Explained(
        _("This head-end was installed without what this needs."),
        _("Install it with the extra that the answer names, or ask for another form."),
    ),
    "server-fault": Explained(
        _("This program has a fault, and has written down what it was."),
        _("Ask again later; send the line of the log with this moment to who maintains it."),
    ),
    "no-moment": Explained(
        _("What was given is no moment in time."),
        _("Write a day as 2026-06-22, or a moment as 2026-06-22T14:30:00Z."),
    ),
}
