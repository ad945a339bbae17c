"""The interface classes a meter has (IEC 62056-6-2): data, register, clock, profile, disconnect control. Pure.

An object gives its attributes as encoded Data, from what it is told when it is asked. Attribute 1 of each is its
own name. What a class does not have, or nobody may do, is refused.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, IntEnum, auto
from typing import ClassVar, Final

from openami.simulator.dlms.data import (
    Malformed,
    Octets,
    array,
    boolean,
    date_time,
    double_long_unsigned,
    enumerated,
    integer,
    long_,
    long_unsigned,
    moment,
    null,
    octet_string,
    structure,
    unsigned,
)
from openami.simulator.dlms.server import Place, Refused, Result

LogicalName = bytes

ASSOCIATION: Final[LogicalName] = bytes((0, 0, 40, 0, 0, 255))
CLOCK: Final[LogicalName] = bytes((0, 0, 1, 0, 0, 255))
_BY_RANGE, _BY_ENTRY = 1, 2


def logical_name(text: str) -> LogicalName:
    """Return an object's name from its six groups, ``1-0:1.8.0*255`` or ``1.0.1.8.0.255``."""
    for mark in "-:*":
        text = text.replace(mark, ".")
    return bytes(int(group) for group in text.split("."))


class InterfaceObject:
    """An object of some class: the base refuses everything."""

    class_id: ClassVar[int]
    version: ClassVar[int] = 0
    attributes: ClassVar[int]
    methods: ClassVar[int] = 0

    def get(self, index: int, selection: bytes | None) -> bytes:
        """Return an attribute from 2 on. Raises Refused, Malformed."""
        raise Refused(Result.READ_WRITE_DENIED)

    def set(self, index: int, value: bytes) -> None:
        """Raises Refused, Malformed."""
        raise Refused(Result.READ_WRITE_DENIED)

    def act(self, index: int, parameter: bytes) -> None:
        """Raises Refused, Malformed."""
        raise Refused(Result.READ_WRITE_DENIED)


@dataclass(frozen=True, slots=True)
class Data(InterfaceObject):
    """Class 1."""

    class_id = 1
    attributes = 2

    value: Callable[[], bytes]

    def get(self, index: int, selection: bytes | None) -> bytes:
        return self.value()


class Unit(IntEnum):
    """Codes of table 4."""

    W = 27
    VA = 28
    VAR = 29
    WH = 30
    VARH = 32
    A = 33
    V = 35
    HZ = 44
    COUNT = 255


@dataclass(frozen=True, slots=True)
class Register(InterfaceObject):
    """Class 3: a whole number, and its power of ten and unit apart."""

    class_id = 3
    attributes = 3
    methods = 1

    number: Callable[[], int]
    exponent: int
    unit: Unit

    def get(self, index: int, selection: bytes | None) -> bytes:
        if index == 3:
            return structure(integer(self.exponent), enumerated(self.unit))
        return double_long_unsigned(self.number())


@dataclass(slots=True)
class Clock(InterfaceObject):
    """Class 8: what the meter takes the time to be; it can be set."""

    class_id = 8
    attributes = 9
    methods = 6

    now: Callable[[], datetime]
    """The meter's own time, in UTC."""
    put: Callable[[datetime], None]
    utc_offset_minutes: int

    def get(self, index: int, selection: bytes | None) -> bytes:
        match index:
            case 2:
                return octet_string(date_time(self.now(), self.utc_offset_minutes))
            case 3:
                return long_(-self.utc_offset_minutes)
            case 4:
                return unsigned(0)
            case 5 | 6:
                return octet_string(_NEVER)
            case 7:
                return integer(0)
            case 8:
                return boolean(False)
        return enumerated(1)  # an internal crystal

    def set(self, index: int, value: bytes) -> None:
        if index != 2:
            raise Refused(Result.READ_WRITE_DENIED)
        self.put(moment(Octets(value).octet_string(), self.utc_offset_minutes))


_NEVER: Final = bytes.fromhex("ffffffffffffffffff800000")

Column = tuple[int, LogicalName, int]
"""Class, name and attribute from which a profile's column is captured."""


@dataclass(slots=True)
class Profile(InterfaceObject):
    """Class 7: rows captured at times, the oldest given up for the newest; a load profile or an event log."""

    class_id = 7
    version = 1
    attributes = 8
    methods = 2

    columns: Sequence[Column]
    """Beside the clock, which is the first."""
    period_s: int
    """0 where a row is captured by what happens."""
    rows_max: int
    utc_offset_minutes: int
    rows: deque[tuple[datetime, Sequence[bytes]]] = field(init=False)

    def __post_init__(self) -> None:
        self.rows = deque(maxlen=self.rows_max)

    def capture(self, at: datetime, *values: bytes) -> None:
        """Add a row at the meter's own time."""
        assert len(values) == len(self.columns)
        self.rows.append((at, values))

    def get(self, index: int, selection: bytes | None) -> bytes:
        match index:
            case 2:
                return array(*(self._row(*row) for row in self._selected(selection)))
            case 3:
                return array(*(_capture_object(column) for column in self._all_columns()))
            case 4:
                return double_long_unsigned(self.period_s)
            case 5:
                return enumerated(1)  # sort method: first in, first out
            case 6:
                return _capture_object((0, bytes(6), 0))
            case 7:
                return double_long_unsigned(len(self.rows))
        return double_long_unsigned(self.rows_max)

    def _all_columns(self) -> Sequence[Column]:
        return ((Clock.class_id, CLOCK, 2), *self.columns)

    def _row(self, at: datetime, values: Sequence[bytes]) -> bytes:
        return structure(octet_string(date_time(at, self.utc_offset_minutes)), *values)

    def _selected(self, selection: bytes | None) -> Sequence[tuple[datetime, Sequence[bytes]]]:
        if selection is None:
            return list(self.rows)
        octets = Octets(selection)
        match octets.number(1):
            case 1:
                first, last = _range(octets, self.utc_offset_minutes)
                return [row for row in self.rows if first <= row[0] <= last]
            case 2:
                first_at, last_at = _entries(octets)
                return list(self.rows)[first_at - 1 : last_at or None]
        raise Refused(Result.TYPE_UNMATCHED)


def _range(octets: Octets, utc_offset_minutes: int) -> tuple[datetime, datetime]:
    """Read a range descriptor by the clock, with all columns."""
    octets.structure(4)
    octets.structure(4)
    by = octets.unsigned(2), octets.octet_string(), octets.integer(), octets.unsigned(2)
    if by[:3] != (Clock.class_id, CLOCK, 2):
        raise Malformed("a range of something else than time")
    first, last = (moment(octets.octet_string(), utc_offset_minutes) for _ in range(2))
    return first, last


def _entries(octets: Octets) -> tuple[int, int]:
    """Read an entry descriptor; rows count from 1, and 0 is the last."""
    octets.structure(4)
    return max(1, octets.unsigned(4)), octets.unsigned(4)


def _capture_object(column: Column) -> bytes:
    class_id, name, index = column
    return structure(long_unsigned(class_id), octet_string(name), integer(index), long_unsigned(0))


class ControlMode(IntEnum):
    """How a disconnect control may be moved (table of control modes)."""

    BUTTON = 1
    """A remote reconnection arms it, and the customer's button closes it."""
    DIRECT = 4
    """A remote reconnection closes it."""


class Transition(Enum):
    """What made a disconnect control change."""

    REMOTE_DISCONNECT = auto()
    REMOTE_RECONNECT = auto()
    ARMED = auto()
    MANUAL_RECONNECT = auto()


@dataclass(slots=True)
class DisconnectControl(InterfaceObject):
    """Class 70, with its third state: ready for reconnection.

    ``closed`` tells where the contactor stands, ``order`` moves it and is told why. What moves it otherwise
    (credit, a load limit) leaves the object's own state to follow.
    """

    class_id = 70
    attributes = 4
    methods = 2

    closed: Callable[[], bool]
    order: Callable[[Transition], None]
    mode: ControlMode = ControlMode.DIRECT
    armed: bool = False

    @property
    def state(self) -> int:
        """0 disconnected, 1 connected, 2 ready for reconnection."""
        if self.closed():
            return 1
        return 2 if self.armed else 0

    def get(self, index: int, selection: bytes | None) -> bytes:
        match index:
            case 2:
                return boolean(self.closed())
            case 3:
                return enumerated(self.state)
        return enumerated(self.mode)

    def act(self, index: int, parameter: bytes) -> None:
        Octets(parameter).integer()
        if index == 1:
            self.armed = False
            self.order(Transition.REMOTE_DISCONNECT)
        elif self.mode is ControlMode.BUTTON and not self.closed():
            self.armed = True
            self.order(Transition.ARMED)
        else:
            self.order(Transition.REMOTE_RECONNECT)

    def press(self) -> bool:
        """Press the customer's button; return whether that closed the contactor."""
        if not self.armed:
            return False
        self.armed = False
        self.order(Transition.MANUAL_RECONNECT)
        return True


class ObjectList:
    """All objects of a logical device, by their names: what a `LogicalDevice` holds."""

    def __init__(self, objects: Mapping[LogicalName, InterfaceObject]) -> None:
        self._objects = dict(objects)

    def get(self, place: Place, selection: bytes | None) -> bytes:
        """See `server.Objects`."""
        if place[:2] == (_ASSOCIATION_CLASS, ASSOCIATION) and place[2] == 2:
            return array(*(_entry(name, each) for name, each in self._objects.items()))
        found, index = self._found(place), place[2]
        if index == 1:
            return octet_string(place[1])
        if not 1 < index <= found.attributes:
            raise Refused(Result.OBJECT_UNDEFINED)
        return found.get(index, selection)

    def set(self, place: Place, value: bytes) -> None:
        """See `server.Objects`."""
        self._found(place).set(place[2], value)

    def act(self, place: Place, parameter: bytes) -> bytes | None:
        """See `server.Objects`."""
        found = self._found(place)
        if not 1 <= place[2] <= found.methods:
            raise Refused(Result.OBJECT_UNDEFINED)
        found.act(place[2], parameter)
        return None

    def _found(self, place: Place) -> InterfaceObject:
        class_id, name, _ = place
        found = self._objects.get(name)
        if found is None:
            raise Refused(Result.OBJECT_UNDEFINED)
        if found.class_id != class_id:
            raise Refused(Result.CLASS_INCONSISTENT)
        return found


_ASSOCIATION_CLASS: Final = 15
_READ, _CALL = 1, 1


def _entry(name: LogicalName, found: InterfaceObject) -> bytes:
    """Return an object as the association lists it: class, version, name, access rights."""
    attributes = (
        structure(integer(index), enumerated(_READ), null())
        for index in range(1, found.attributes + 1)
    )
    methods = (
        structure(integer(index), enumerated(_CALL)) for index in range(1, found.methods + 1)
    )
    return structure(
        long_unsigned(found.class_id),
        unsigned(found.version),
        octet_string(name),
        structure(array(*attributes), array(*methods)),
    )
