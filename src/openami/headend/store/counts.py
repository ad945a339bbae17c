"""The CountStore port: what a dashboard counts and a health check tries, without reading the rows themselves."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from openami.headend.gap_life import GapState
from openami.profile.command import CommandState
from openami.sip.actions import Action


class CommandCount(NamedTuple):
    """How many commands of one action stand in one state."""

    action: Action
    state: CommandState
    """For one whose end was unknown and was found out later, what it was found to be."""
    commands: int


class GapCount(NamedTuple):
    """How many gaps of a feeder stand in one state, and how many messages are missing in them."""

    feeder_id: str
    state: GapState
    gaps: int
    missing: int


class CountStore(Protocol):
    """Counts. Every method raises StoreError."""

    async def command_counts(self, since: datetime) -> Sequence[CommandCount]:
        """Count the commands requested since a moment, by action and state."""
        ...

    async def gap_counts(self) -> Sequence[GapCount]:
        """Count the gaps that are waited for, and those that are lost, by feeder and state."""
        ...
