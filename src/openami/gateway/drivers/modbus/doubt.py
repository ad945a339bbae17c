"""Doubt: which answers of a unit could still be late ones. Pure; ``now`` is any monotonic seconds.

RTU has no transaction id. A question that was not answered in time may be answered later, and a late
answer looks like the answer to any later question of the same shape. So a shape that went unanswered
is not asked again until its answer can no longer come (decision 0014).
"""

from openami.gateway.drivers.modbus.plan import Shape
from openami.gateway.drivers.modbus.register_map import Area


class Doubt:
    """The unanswered shapes of one unit. Bounded: there are no more than 250 shapes."""

    def __init__(self, late_reply_s: float) -> None:
        self._late_reply_s = late_reply_s
        self._unanswered: dict[Shape, float] = {}

    def asked(self, shape: Shape, now: float) -> None:
        """Note a question before its bytes leave, so that being cancelled leaves it in doubt."""
        self._unanswered[shape] = now

    def answered(self, shape: Shape) -> None:
        """Note that the answer came and can be no other question's."""
        self._unanswered.pop(shape, None)

    def shapes(self, now: float) -> frozenset[Shape]:
        """Return the shapes a late answer may still have."""
        return frozenset(
            shape
            for shape, asked_at in self._unanswered.items()
            if now - asked_at < self._late_reply_s
        )

    def lasts_s(self, now: float) -> float:
        """Return how long it is until the last shape is out of doubt; 0 if none is in it any more."""
        asked_last = max(self._unanswered.values(), default=now - self._late_reply_s)
        return max(0.0, asked_last + self._late_reply_s - now)

    def in_area(self, area: Area, now: float) -> bool:
        """Return whether an exception of this area's function could be a late one."""
        return any(doubtful is area for doubtful, _ in self.shapes(now))
