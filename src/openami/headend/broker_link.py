"""What the head-end says of its link to the broker, to whoever asks from another thread."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class BrokerLink:
    """Whether the head-end hears its broker. While it does not, no meter is called silent."""

    heard: bool
    since: datetime
    """When that began."""
    reason: str = ""
    """Why it does not."""
