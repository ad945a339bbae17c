"""What contactors were ordered to last: by this a change that nobody ordered is told from one that somebody did.

Commanding notes an order before it goes to the meter; the collector looks at it when a relay is read. After a
restart the last orders are those of the journal: a contactor that was moved in the last minute is not told as
moved by a stranger.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from openami.gateway.driver import RelayPosition
from openami.profile import MeterSerial
from openami.sip.actions import ACTIONS, Action


@dataclass(frozen=True, slots=True)
class RelayOrder:
    """One order; ``identity`` is its command's. ``recalled``: given before the program started."""

    identity: str
    position: RelayPosition
    recalled: bool = False


class RelayOrders:
    """The last order of each meter; bounded by the meters there are."""

    def __init__(self) -> None:
        self._last: dict[str, RelayOrder] = {}

    def note(self, serial: str, action: Action, identity: str) -> None:
        """A command is about to be carried out; what moves no contactor is passed over."""
        if (order := _order(action, identity)) is not None:
            self._last[serial] = order

    def withdraw(self, serial: str, identity: str) -> None:
        """A command failed before its order went to the meter."""
        order = self._last.get(serial)
        if order is not None and order.identity == identity:
            del self._last[serial]

    def recall(self, orders: Iterable[tuple[str, RelayOrder]]) -> None:
        """Take up the orders of before the start."""
        self._last.update(orders)

    def last(self, serial: MeterSerial) -> RelayOrder | None:
        """Return what a meter's contactor was ordered to last; None where nobody remembers."""
        return self._last.get(serial)


def last_orders(connection: sqlite3.Connection) -> list[tuple[str, RelayOrder]]:
    """Return the last relay command of each meter that the journal has."""
    moving = [action.value for action in Action if ACTIONS[action].moves_relay]
    places = ", ".join("?" * len(moving))
    rows = connection.execute(
        "SELECT meter, action, identity, max(number) FROM command_done"  # noqa: S608 – question marks
        f" WHERE action IN ({places}) GROUP BY meter",
        moving,
    )
    found = (
        (meter, _order(Action(action), identity, recalled=True))
        for meter, action, identity, _ in rows
    )
    return [(meter, order) for meter, order in found if order is not None]


def _order(action: Action, identity: str, *, recalled: bool = False) -> RelayOrder | None:
    state = ACTIONS[action].relay_state
    return None if state is None else RelayOrder(identity, RelayPosition(state), recalled)
