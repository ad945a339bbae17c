"""How far back readings are kept: which month is the first to stay. Pure (decision 0074).

Two witnesses have to agree. The clock says which months are old; and as many months as are to be kept have
readings, not counting the newest, which is still open. So a clock that says 2099 removes nothing that a right one
would keep, and one that says 1970 removes nothing.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final

import msgspec

from openami.headend.store.months import month_of
from openami.profile import OLDEST_TS

# The open month, the one that is being billed, and one in which a customer may object; what gateways are asked for
# again is a week old at most.
KEEP_MONTHS_MIN: Final = 3


class RetentionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long readings are kept; the table ``[retention]``."""

    readings_keep_months: Annotated[int, msgspec.Meta(ge=KEEP_MONTHS_MIN)] | None = None
    """So many whole months before the current one; all where left out."""


def first_kept(keep_months: int, *, now: datetime, months: Sequence[int]) -> int | None:
    """Return the first month whose readings stay (`store.months`); None where everything does.

    ``now`` is in UTC; ``months`` are those that have readings, the newest first: one more than are kept is enough.
    """
    if keep_months < KEEP_MONTHS_MIN:
        raise ValueError(f"readings are kept for {KEEP_MONTHS_MIN} months at least")
    first_by_clock = month_of(now) - keep_months
    if len(months) <= keep_months or first_by_clock <= month_of(OLDEST_TS):
        return None
    return min(first_by_clock, months[keep_months])
