"""When a bill begins: on the feeder's billing day, at midnight of its own time zone. Pure."""

from datetime import UTC, datetime

from openami.headend.assets import Feeder


def cycle_start(feeder: Feeder, moment: datetime) -> datetime:
    """Return the beginning, in UTC, of the billing cycle a moment lies in."""
    local = moment.astimezone(feeder.zone)
    year, month = local.year, local.month
    if local.day < feeder.billing_day:
        year, month = (year - 1, 12) if month == 1 else (year, month - 1)
    begins = datetime(year, month, feeder.billing_day, tzinfo=feeder.zone)
    return begins.astimezone(UTC)
