"""A logical device: who may associate with it, and what it answers to whom (IEC 62056-5-3). Pure.

A `Dialogue` is one client's conversation over one link: a message in, its answer out. Association by nothing, by
a password (LLS), or by keys in four passes (HLS-GMAC), after which every message is sealed both ways. Services
by logical name: GET, with blocks where the answer is long, SET and ACTION.
"""

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, Protocol

from openami.simulator.dlms.ciphering import Keys
from openami.simulator.dlms.data import Malformed, Octets, lengthened, octet_string

_AARQ, _AARE, _RLRQ, _RLRE = 0x60, 0x61, 0x62, 0x63
_GET, _SET, _ACTION = 0xC0, 0xC1, 0xC3
_ANSWERS: Final = {_GET: 0xC4, _SET: 0xC5, _ACTION: 0xC7}
# With the unicast key of the client: the service within → its sealed tag, and back.
_SEALED: Final = {0xC8: _GET, 0xC9: _SET, 0xCB: _ACTION}
_SEALED_ANSWERS: Final = {0xC8: 0xCC, 0xC9: 0xCD, 0xCB: 0xCF}
_SEALED_INITIATE_REQUEST, _SEALED_INITIATE_RESPONSE = 0x21, 0x28
_NORMAL, _NEXT = 1, 2

_CONTEXT: Final = bytes.fromhex("06076085740508 01")
_MECHANISM: Final = bytes.fromhex("60857405 0802")
_PLAIN, _CIPHERED = 1, 3
_NO_PASSWORD, _LOW, _GMAC = 0, 1, 5
_ACCEPTED, _REJECTED = 0, 1
_NO_DIAGNOSTIC, _UNKNOWN_CONTEXT, _WRONG_MECHANISM, _FAILED, _TO_BE_PROVEN = 0, 2, 11, 13, 14
_ACSE_REQUIREMENTS: Final = bytes.fromhex("88020780")

# block-transfer-with-get, get, set, selective-access, action (bits 11, 19, 20, 21, 23 of 24)
_CONFORMANCE: Final = 0x00101D
_RECEIVE_BYTES_MAX: Final = 1024  # of a message to us; nothing we are asked or told is longer
_BLOCK_OVERHEAD_BYTES: Final = 40  # header of a block, security header and tag

_NOT_ALLOWED: Final = b"\xd8\x01\x01"  # exception: service not allowed, operation not possible
_NOT_SUPPORTED: Final = b"\xd8\x02\x02"
_NOT_UNDERSTOOD: Final = b"\xd8\x02\x03"
_NOT_DECIPHERED: Final = b"\xd8\x01\x05"
_COUNTER_TOO_LOW: Final = b"\xd8\x01\x06"  # and the highest one seen

_PROVE: Final = (15, bytes((0, 0, 40, 0, 0, 255)), 1)


class Result(IntEnum):
    """Data access results, and an action's, that a meter gives."""

    TEMPORARY_FAILURE = 2
    READ_WRITE_DENIED = 3
    OBJECT_UNDEFINED = 4
    CLASS_INCONSISTENT = 9
    TYPE_UNMATCHED = 12
    NO_LONG_GET = 16
    BLOCK_NUMBER_INVALID = 19


class Refused(Exception):
    """The object does not do that."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.name)
        self.result = result


Place = tuple[int, bytes, int]
"""Class, logical name, and the number of an attribute or of a method."""


class Objects(Protocol):
    """What a logical device holds. Values are encoded Data; each raises Refused, or Malformed for a value."""

    def get(self, place: Place, selection: bytes | None) -> bytes: ...

    def set(self, place: Place, value: bytes) -> None: ...

    def act(self, place: Place, parameter: bytes) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Public:
    """Comes without a secret; reads. There are meters that let it order, too."""

    orders: bool = False


@dataclass(frozen=True, slots=True)
class Password:
    """Comes with a password; reads, sets and orders."""

    octets: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Ciphered:
    """Comes with keys; reads, sets and orders. ``challenge`` gives a new one for each association."""

    keys: Keys
    challenge: Callable[[], bytes] = field(repr=False)


Access = Public | Password | Ciphered


@dataclass(slots=True, eq=False)
class LogicalDevice:
    """A meter as its clients see it. Counters outlive associations."""

    objects: Objects
    clients: Mapping[int, Access]
    title: bytes = b"SIM\0\0\0\0\0"
    """The system title: three letters of the maker, five bytes of its own."""
    message_bytes_max: int = 512
    """Of an answer; a longer one goes in blocks."""
    counter: int = 0
    """Of the next message we seal."""
    seen: dict[int, int] = field(default_factory=dict)
    """The highest counter of each client."""

    def dialogue(self, client: int) -> "Dialogue":
        """Begin a conversation over a new link."""
        return Dialogue(self, client)

    def next_counter(self) -> int:
        self.counter += 1
        return self.counter


@dataclass(slots=True)
class _Proving:
    """An association by keys, from its AARQ to its proof."""

    ours: bytes
    theirs: bytes


@dataclass(slots=True)
class Dialogue:
    """One client's conversation with one device."""

    device: LogicalDevice
    client: int
    associated: bool = False
    _proving: _Proving | None = None
    _their_title: bytes = b""
    _answer_bytes_max: int = 0
    _blocks: list[bytes] = field(default_factory=list)

    def answer(self, message: bytes) -> bytes | None:
        """Return what the device says to a message; None where it says nothing."""
        try:
            if message[:1] == bytes((_AARQ,)):
                return self._associate(message)
            if message[:1] == bytes((_RLRQ,)):
                self._forget()
                return bytes((_RLRE,)) + lengthened(b"\x80\x01\x00")
            access = self.device.clients.get(self.client)
            if not self.associated or access is None:
                return _NOT_ALLOWED
            if isinstance(access, Ciphered):
                return self._sealed_service(message, access)
            orders = access.orders if isinstance(access, Public) else True
            return self._service(message, orders=orders)
        except Malformed:
            return _NOT_UNDERSTOOD

    def _forget(self) -> None:
        self.associated, self._proving, self._blocks = False, None, []

    # --- associations ----------------------------------------------------------------------------

    def _associate(self, message: bytes) -> bytes:
        self._forget()
        fields = _fields(message)
        access = self.device.clients.get(self.client)
        context = _inner(fields, 0xA1, 0x06)
        mechanism = fields.get(0x8B, _MECHANISM + bytes((_NO_PASSWORD,)))[-1]
        told = _inner(fields, 0xAC, 0x80) if 0xAC in fields else b""
        initiate = _inner(fields, 0xBE, 0x04)
        ciphered = isinstance(access, Ciphered)
        if access is None:
            return _refused(_FAILED, ciphered)
        if context[-1] != (_CIPHERED if ciphered else _PLAIN):
            return _refused(_UNKNOWN_CONTEXT, ciphered)
        match access:
            case Public():
                return self._accept(initiate, mechanism, _NO_PASSWORD)
            case Password(octets):
                if mechanism == _LOW and not hmac.compare_digest(octets, told):
                    return _refused(_FAILED, ciphered)
                return self._accept(initiate, mechanism, _LOW)
            case Ciphered(keys, challenge):
                self._their_title = _inner(fields, 0xA6, 0x04)
                return self._challenge(initiate, mechanism, told, keys, challenge())

    def _accept(self, initiate: bytes, mechanism: int, wanted: int) -> bytes:
        if mechanism != wanted:
            return _refused(_WRONG_MECHANISM, ciphered=False)
        response = self._initiate(initiate)
        self.associated = True
        return _aare(_ACCEPTED, _NO_DIAGNOSTIC, _PLAIN, _in_user_information(response))

    def _challenge(
        self, initiate: bytes, mechanism: int, theirs: bytes, keys: Keys, ours: bytes
    ) -> bytes:
        if mechanism != _GMAC:
            return _refused(_WRONG_MECHANISM, ciphered=True)
        opened = self._opened(keys, Octets(initiate), _SEALED_INITIATE_REQUEST)
        if opened is None:
            return _refused(_FAILED, ciphered=True)
        if isinstance(opened, int):
            return _COUNTER_TOO_LOW + opened.to_bytes(4, "big")
        response = self._sealed(keys, _SEALED_INITIATE_RESPONSE, self._initiate(opened))
        self.associated, self._proving = True, _Proving(ours, theirs)
        return _aare(
            _ACCEPTED,
            _TO_BE_PROVEN,
            _CIPHERED,
            b"\xa4" + lengthened(b"\x04" + lengthened(self.device.title)),
            _ACSE_REQUIREMENTS,
            b"\x89" + lengthened(_MECHANISM + bytes((_GMAC,))),
            b"\xaa" + lengthened(b"\x80" + lengthened(ours)),
            _in_user_information(response),
        )

    def _initiate(self, request: bytes) -> bytes:
        """Take what a client proposes; answer with what of it will be done."""
        octets = Octets(request)
        if octets.number(1) != 1 or octets.number(1) or octets.number(1) or octets.number(1):
            raise Malformed("no initiate request, or one with a dedicated key")
        if octets.number(1) != 6 or octets.take(4) != bytes.fromhex("5f1f0400"):
            raise Malformed("another version than 6")
        conformance = octets.number(3) & _CONFORMANCE
        theirs = octets.number(2)
        most = self.device.message_bytes_max
        self._answer_bytes_max = min(theirs, most) if theirs else most
        return (
            bytes.fromhex("0800065f1f0400")
            + conformance.to_bytes(3, "big")
            + _RECEIVE_BYTES_MAX.to_bytes(2, "big")
            + b"\x00\x07"
        )

    # --- sealed ----------------------------------------------------------------------------------

    def _sealed_service(self, message: bytes, access: Ciphered) -> bytes:
        if message[:1] not in {bytes((tag,)) for tag in _SEALED}:
            return _NOT_ALLOWED
        opened = self._opened(access.keys, Octets(message), message[0])
        if opened is None:
            return _NOT_DECIPHERED
        if isinstance(opened, int):
            return _COUNTER_TOO_LOW + opened.to_bytes(4, "big")
        if opened[:1] != bytes((_SEALED[message[0]],)):
            raise Malformed("sealed as another service")
        if self._proving is not None:
            answer = self._prove(opened, self._proving, access.keys)
        else:
            answer = self._service(opened, orders=True)
        return self._sealed(access.keys, _SEALED_ANSWERS[message[0]], answer)

    def _prove(self, request: bytes, proving: _Proving, keys: Keys) -> bytes:
        """Check the client's answer to our challenge, give ours to its; the association stands, or ends."""
        octets = Octets(request)
        head = _header(octets)
        place = _place(octets)
        if head[:1] != bytes((_ACTION,)) or place != _PROVE or octets.number(1) != 1:
            self._forget()
            return _NOT_ALLOWED
        given = octets.octet_string()
        counter = int.from_bytes(given[1:5], "big")
        right = keys.prove(self._their_title, counter, proving.ours)
        self._proving = None
        if not hmac.compare_digest(given, right):
            self._forget()
            return _answer_to(head) + bytes((Result.READ_WRITE_DENIED, 0))
        ours = keys.prove(self.device.title, self.device.next_counter(), proving.theirs)
        return _answer_to(head) + b"\x00\x01\x00" + octet_string(ours)

    def _opened(self, keys: Keys, message: Octets, tag: int) -> bytes | int | None:
        """Return what is sealed; the highest counter seen, where this one is older; None: not with our keys."""
        if message.number(1) != tag:
            return None
        try:
            counter, opened = keys.open(self._their_title, message.lengthened())
        except Malformed:
            return None
        highest = self.device.seen.get(self.client, -1)
        if counter <= highest:
            return highest
        self.device.seen[self.client] = counter
        return opened

    def _sealed(self, keys: Keys, tag: int, message: bytes) -> bytes:
        device = self.device
        return bytes((tag,)) + lengthened(keys.seal(device.title, device.next_counter(), message))

    # --- services --------------------------------------------------------------------------------

    def _service(self, message: bytes, *, orders: bool) -> bytes:
        octets = Octets(message)
        head = _header(octets)
        if head[0] == _GET and head[1] == _NEXT:
            return self._next_block(head, octets.number(4))
        if head[0] not in _ANSWERS or head[1] != _NORMAL:
            return _NOT_SUPPORTED
        place = _place(octets)
        if head[0] == _GET:
            return self._get(head, place, octets.rest() if octets.number(1) else None)
        if not orders:
            return _answer_to(head) + bytes((Result.READ_WRITE_DENIED,))
        try:
            if head[0] == _SET:
                if octets.number(1):
                    raise Refused(Result.TYPE_UNMATCHED)
                self.device.objects.set(place, octets.rest())
                return _answer_to(head) + b"\x00"
            parameter = octets.rest() if octets.number(1) else b""
            returned = self.device.objects.act(place, parameter)
        except Refused as refusal:
            return _answer_to(head) + bytes((refusal.result,))
        except Malformed:
            return _answer_to(head) + bytes((Result.TYPE_UNMATCHED,))
        return _answer_to(head) + (b"\x00\x00" if returned is None else b"\x00\x01\x00" + returned)

    def _get(self, head: bytes, place: Place, selection: bytes | None) -> bytes:
        try:
            value = self.device.objects.get(place, selection)
        except Refused as refusal:
            return _answer_to(head) + bytes((1, refusal.result))
        except Malformed:
            return _answer_to(head) + bytes((1, Result.TYPE_UNMATCHED))
        size = max(1, self._answer_bytes_max - _BLOCK_OVERHEAD_BYTES)
        if len(value) <= size:
            return _answer_to(head) + b"\x00" + value
        self._blocks = [value[at : at + size] for at in range(0, len(value), size)]
        return self._block(head, 1)

    def _next_block(self, head: bytes, acknowledged: int) -> bytes:
        wanted = acknowledged + 1
        if not 1 < wanted <= len(self._blocks):
            result = Result.BLOCK_NUMBER_INVALID if self._blocks else Result.NO_LONG_GET
            return _answer_to(head, _NORMAL) + bytes((1, result))
        return self._block(head, wanted)

    def _block(self, head: bytes, number: int) -> bytes:
        block, last = self._blocks[number - 1], number == len(self._blocks)
        return (
            _answer_to(head, _NEXT)
            + bytes((last,))
            + number.to_bytes(4, "big")
            + b"\x00"
            + lengthened(block)
        )


def _header(octets: Octets) -> bytes:
    """Return a request's tag, kind, and invoke id with priority."""
    return octets.take(3)


def _answer_to(head: bytes, kind: int = _NORMAL) -> bytes:
    return bytes((_ANSWERS[head[0]], kind, head[2]))


def _place(octets: Octets) -> Place:
    return octets.number(2), octets.take(6), octets.number(1)


def _fields(message: bytes) -> Mapping[int, bytes]:
    """Return the fields of an AARQ by their tags."""
    outer = Octets(message)
    outer.take(1)
    body = Octets(outer.lengthened())
    fields: dict[int, bytes] = {}
    while len(body):
        tag = body.number(1)
        fields[tag] = body.lengthened()
    return fields


def _inner(fields: Mapping[int, bytes], tag: int, inner: int) -> bytes:
    octets = Octets(fields.get(tag, b""))
    if octets.number(1) != inner:
        raise Malformed("a field of the AARQ is missing, or of another kind")
    return octets.lengthened()


def _refused(diagnostic: int, ciphered: bool) -> bytes:
    return _aare(_REJECTED, diagnostic, _CIPHERED if ciphered else _PLAIN)


def _in_user_information(response: bytes) -> bytes:
    return b"\xbe" + lengthened(b"\x04" + lengthened(response))


def _aare(result: int, diagnostic: int, context: int, *further: bytes) -> bytes:
    fields = [
        b"\xa1" + lengthened(_CONTEXT + bytes((context,))),
        b"\xa2\x03\x02\x01" + bytes((result,)),
        b"\xa3\x05\xa1\x03\x02\x01" + bytes((diagnostic,)),
        *further,
    ]
    return bytes((_AARE,)) + lengthened(b"".join(fields))
