"""Where one of several head-ends stands: which slices it holds, and how the others are. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from openami.headend.slices import REST
from openami.headend.worker_life import Fence, Roster, SliceState


@dataclass(frozen=True, slots=True)
class Standing:
    """A worker's share of the feeders at its last look."""

    name: str
    held: Sequence[Fence] = ()
    """What it serves, each with its term."""
    roster: Roster = field(default_factory=Roster)

    @property
    def free(self) -> Sequence[int]:
        """The slices that nobody holds; what comes for them waits at the broker."""
        return [each.number for each in self.roster.slices if each.state is SliceState.FREE]

    @property
    def sentence(self) -> str:
        """What a person is told."""
        held = ", ".join(
            "the rest" if each.number == REST else str(each.number) for each in self.held
        )
        told = f"{self.name} holds {held or 'no slice'} of {len(self.roster.slices)}"
        told += f", {len(self.roster.workers)} workers"
        return f"{told}; held by nobody: {', '.join(map(str, self.free))}" if self.free else told
