"""Spans of what the head-end does: a batch, a command's life, a web request. Off unless somebody asks for them.

The port is small, so that the parts that are traced import nothing; who opens it is in `tracing_settings`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, Protocol

from openami.headend.commands import LedgerCommand
from openami.profile.command import CommandState

Attributes = Mapping[str, str | int | float | bool]
Kind = Literal["internal", "server"]


class Span(Protocol):
    """A piece of work while it is done."""

    def name(self, name: str) -> None:
        """Call it something better than it was called at its beginning."""
        ...

    def tell(self, attributes: Attributes) -> None:
        """Add what is known of it now."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """A span told when it is over: work that outlives processes has nobody to hold it open."""

    name: str
    began: datetime
    ended: datetime
    attributes: Attributes
    moments: Sequence[tuple[str, datetime]]
    failed: bool


class Tracing(Protocol):
    """Where spans go."""

    @contextmanager
    def span(self, name: str, attributes: Attributes, *, kind: Kind = "internal") -> Iterator[Span]:
        """Work within a span; one begun within it is its child."""
        ...

    def lived(self, life: Life) -> None:
        """Tell a span that is over."""
        ...

    def close(self) -> None:
        """Send what is left; bounded, and may block."""
        ...


class Untraced:
    """Nobody asked for spans."""

    @contextmanager
    def span(self, name: str, attributes: Attributes, *, kind: Kind = "internal") -> Iterator[Span]:
        yield _NOWHERE

    def lived(self, life: Life) -> None:
        return

    def close(self) -> None:
        return


class _Nowhere:
    def name(self, name: str) -> None:
        return

    def tell(self, attributes: Attributes) -> None:
        return


_NOWHERE: Final = _Nowhere()


def command_life(command: LedgerCommand) -> Life:
    """Return the life of a command that has ended: when it was signed and sent, and how it ended."""
    assert command.ended_at is not None
    moments: list[tuple[str, datetime | None]] = [
        ("signed", command.signed_at),
        ("sent", command.sent_at),
    ]
    told: dict[str, Any] = {
        "openami.feeder": command.feeder_id,
        "openami.gateway": command.gateway_id,
        "openami.meter": command.meter_serial,
        "openami.command.id": command.id,
        "openami.command.action": str(command.action),
        "openami.command.state": command.state.name.lower(),
        "openami.command.code": command.code or "",
        "openami.command.signings": command.signings,
    }
    return Life(
        name=f"command {command.action}",
        began=command.requested_at,
        ended=command.ended_at,
        attributes=told,
        moments=[(name, at) for name, at in moments if at is not None],
        failed=command.state is not CommandState.CONFIRMED,
    )
