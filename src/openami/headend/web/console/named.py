"""Words that come as data and are read as words: marked here, translated where a page shows them.

The names of registers are among them, too: `tools/catalogues.py` takes those from the register list.
"""

from typing import Final


def _(text: str) -> str:
    """Mark a word to be translated where it is shown."""
    return text


ROLES: Final = (_("viewer"), _("operator"), _("engineer"))
DEAD_LINKS: Final = (
    _("there is no such link"),
    _("this link has been used: each opens once"),
    _("this link is too old"),
    _("there is an account already: sign in"),
    _("the account of this link is not in force"),
)
