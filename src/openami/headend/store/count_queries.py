"""What the CountStore does; the engine carries the steps out."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, cast

from openami.headend.gap_life import GapState
from openami.headend.store.counts import CommandCount, GapCount
from openami.headend.store.engine import Engine
from openami.headend.store.identity import to_ms
from openami.headend.store.steps import Steps, do
from openami.profile.command import CommandState
from openami.sip.actions import Action

_COMMANDS: Final = (
    "SELECT action, coalesce(resolved_as, state), count(*) FROM command "
    "WHERE requested_at >= ?1 GROUP BY 1, 2 ORDER BY 1, 2"
)
_GAPS: Final = (
    "SELECT feeder_id, state, count(*), CAST(sum(missing) AS BIGINT) FROM gap WHERE state <> ?1 "
    "GROUP BY 1, 2 ORDER BY 1, 2"
)


def prove_writable() -> Steps[None]:
    """Write what is there already: the engine has to lock, log and sync as for any change."""
    yield from do("UPDATE tally SET messages = messages")


class CountQueries(Engine):
    """The CountStore on top of an engine's questions and transactions."""

    async def command_counts(self, since: datetime) -> Sequence[CommandCount]:
        rows = await self._rows(_COMMANDS, to_ms(since))
        return [
            CommandCount(Action(action), CommandState[state], count)
            for action, state, count in cast(Any, rows)
        ]

    async def gap_counts(self) -> Sequence[GapCount]:
        rows = await self._rows(_GAPS, str(GapState.CLOSED))
        return [
            GapCount(feeder_id, GapState(state), gaps, missing)
            for feeder_id, state, gaps, missing in cast(Any, rows)
        ]

    async def prove_writable(self) -> None:
        await self._write(prove_writable)
