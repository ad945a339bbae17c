"""Promises 1, 4 and 5, held against the contactors: who moved, by which command, and how each command ended.

A contactor of the village notes every order it ever took. At the end each must be matched by a command of its
own in the head-end's ledger: of this meter, this position, sent before it and not over. What an attacker
replayed or forged has none; a command that ran twice has one too few.
"""

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from openami.gateway.driver import RelayPosition
from openami.headend.audit import Entry, Link, first_break
from openami.headend.commands import REPORT_GRACE_S
from openami.profile.command import COMMAND_LIFE, CommandState
from openami.simulator.driver import Movement, SimulatedMeter
from openami.simulator.world.witness import Breach, PromiseBroken
from openami.sip.actions import ACTIONS, Action

# A permitted command may wait for its meter's turn and its relay's spreading before it is ordered
# (gateway.commanding).
ORDERED_AFTER_END_MS_MAX: Final = 240_000
# A head-end that works ends a command so long after its time: the report's grace, and some looks.
ENDED_AFTER_MS_MAX: Final = (REPORT_GRACE_S + 600) * 1000
_ENTRY = ("who", "what", "why", "result", "session_id", "command_id", "digest")
_NOTHING_DONE = (CommandState.REFUSED, CommandState.EXPIRED)


@dataclass(frozen=True, slots=True)
class _Order:
    """A relay command of the ledger."""

    id: str
    meter_serial: str
    wanted: RelayPosition
    state: CommandState
    sent_ms: int | None
    """First."""
    not_after_ms: int

    def covers(self, movement: Movement) -> bool:
        """Whether this command may have moved the contactor so, then."""
        return (
            self.sent_ms is not None
            and movement.position is self.wanted
            and self.sent_ms <= movement.at_ms <= self.not_after_ms + ORDERED_AFTER_END_MS_MAX
        )


def check_relays(
    database: Path, meters: Mapping[str, SimulatedMeter], *, now_ms: int
) -> tuple[int, int]:
    """Hold every movement and every command against each other; return how many there were of both.

    Raises PromiseBroken.
    """
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        check_ends(connection, now_ms)
        _check_audit(connection)
        orders = _orders(connection)
    return len(orders), check_movements(database, meters)


def check_movements(database: Path, meters: Mapping[str, SimulatedMeter]) -> int:
    """Raise PromiseBroken unless every movement has a command of its own; return how many movements there were.

    True at any moment, not only at the end: a command is in the ledger before it is out.
    """
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        orders = _orders(connection)
    for serial, meter in meters.items():
        _match(meter.movements, [order for order in orders if order.meter_serial == serial], serial)
    return sum(len(meter.movements) for meter in meters.values())


def _orders(connection: sqlite3.Connection) -> list[_Order]:
    rows = connection.execute(
        # A command that is signed again has its last sending only; the audit log has the first.
        "SELECT id, meter_serial, action, state, (SELECT min(at) FROM audit"
        " WHERE command_id = command.id AND what = 'command sent'), sent_at, not_after"
        " FROM command ORDER BY not_after"
    )
    return [
        _Order(id_, serial, RelayPosition(relay), CommandState[state], _first(said, sent), end)
        for id_, serial, action, state, said, sent, end in rows
        if (relay := ACTIONS[Action(action)].relay_state) is not None
    ]


def _first(said: str | None, sent_ms: int | None) -> int | None:
    return sent_ms if said is None else int(datetime.fromisoformat(said).timestamp() * 1000)


def _match(movements: Sequence[Movement], orders: Sequence[_Order], serial: str) -> None:
    """Raise PromiseBroken unless each movement has a command of its own, and each CONFIRMED one a movement.

    Two pairings, not one: where each of them exists, one exists that does both (Mendelsohn and Dulmage).
    """
    unled, _ = _paired(movements, [each for each in orders if each.state not in _NOTHING_DONE])
    for movement in unled:
        covering = [each for each in orders if each.covers(movement)]
        for order in covering:
            if order.state in _NOTHING_DONE:
                raise PromiseBroken(
                    5, f"{order.id} ended {order.state.name}, and {serial} moved by it"
                )
        raise PromiseBroken(
            4 if covering else 1,
            f"{serial} was ordered {movement.position} at {movement.at_ms} ms, and "
            + ("the command that covers it had been used" if covering else "no command covers it"),
        )
    _, unmoved = _paired(movements, [o for o in orders if o.state is CommandState.CONFIRMED])
    for order in unmoved:
        # A gateway whose power failed between the intent and the order reads back and does not order again.
        if order.wanted not in _stood(movements, order):
            raise PromiseBroken(5, f"{order.id} is CONFIRMED, and {serial} was never ordered")


def _stood(movements: Sequence[Movement], order: _Order) -> set[RelayPosition]:
    """Return where a contactor stood while a command could be read back, whoever had ordered it there."""
    assert order.sent_ms is not None, "confirmed by a report, which answers what was sent"
    before = [each.position for each in movements if each.at_ms <= order.sent_ms]
    during = {
        each.position for each in movements if order.covers(replace(each, position=order.wanted))
    }
    return {before[-1] if before else RelayPosition.CONNECTED} | during


def _paired(
    movements: Sequence[Movement], orders: Sequence[_Order]
) -> tuple[list[Movement], list[_Order]]:
    """Pair as many as can be paired; return what is left on both sides.

    Each movement in its turn takes, of the commands that cover it, the one that is over first: with windows of
    time no other choice pairs more. ``orders`` stand in the order of their ends.
    """
    free, unled = list(orders), []
    for movement in movements:
        order = next((each for each in free if each.covers(movement)), None)
        if order is None:
            unled.append(movement)
        else:
            free.remove(order)
    return unled, free


def check_ends(connection: sqlite3.Connection, now_ms: int) -> None:
    """Raise PromiseBroken unless every command whose time is over has ended, in a terminal state, with a code."""
    rows = connection.execute("SELECT id, state, not_after, ended_at, code FROM command").fetchall()
    for id_, state, not_after_ms, ended_at, code in rows:
        terminal = COMMAND_LIFE.is_terminal(CommandState[state])
        if terminal != (ended_at is not None) or (terminal and not code):
            raise PromiseBroken(5, f"{id_} is {state}, ended at {ended_at} with code {code}")
        if not terminal and now_ms > not_after_ms + ENDED_AFTER_MS_MAX:
            raise PromiseBroken(5, f"{id_} is over and stands as {state}")


def _check_audit(connection: sqlite3.Connection) -> None:
    rows = connection.execute(
        "SELECT number, at, who, what, why, result, session_id, command_id, digest, previous, hash"
        " FROM audit ORDER BY number"
    )
    links = [
        Link(number, at, Entry(**dict(zip(_ENTRY, texts, strict=True))), previous, hash_)
        for number, at, *texts, previous, hash_ in rows
    ]
    found = first_break(links)
    if found is not None:
        raise Breach(f"the audit log breaks at {found.number}: {found.why}")
    ends = Counter(link.entry.command_id for link in links if link.entry.what == "command ended")
    for id_, times in ends.items():
        if times > 1:
            raise PromiseBroken(5, f"{id_} ended {times} times, says the audit log")


@dataclass(slots=True)
class EndsSeen:
    """How each command was seen to have ended: that does not change any more."""

    _ends: dict[str, tuple[str, str, int]] = field(default_factory=dict)

    def look(self, database: Path, now_ms: int, *, well_since_ms: int) -> None:
        """Hold the head-end's commands against what was seen before. Raises PromiseBroken.

        ``well_since_ms``: since when the head-end has been able to end what is over.
        """
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            if now_ms > well_since_ms + ENDED_AFTER_MS_MAX:
                check_ends(connection, now_ms)
            rows = connection.execute(
                "SELECT id, state, code, ended_at FROM command WHERE ended_at IS NOT NULL"
            ).fetchall()
        for id_, *end in rows:
            seen = self._ends.setdefault(id_, tuple(end))
            if seen != tuple(end):
                raise PromiseBroken(
                    5, f"{id_} had ended {seen[0]} ({seen[1]}), and now is {end[0]}"
                )
