"""xDLMS messages: GET, SET, ACTION and their answers, by logical name (IEC 62056-5-3). Pure.

Requests are built, answers are read. An answer that is not the one to this request, by its kind or its invoke
id, is UnfitAnswer; a meter that says no is ServiceRefused, with the standard's word for why.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from openami.gateway.drivers.dlms.axdr import Reader
from openami.gateway.drivers.dlms.data import Value, read_data
from openami.gateway.drivers.dlms.errors import AssociationRefused, ServiceRefused, UnfitAnswer

GET_REQUEST: Final = 0xC0
SET_REQUEST: Final = 0xC1
ACTION_REQUEST: Final = 0xC3
GET_RESPONSE: Final = 0xC4
SET_RESPONSE: Final = 0xC5
ACTION_RESPONSE: Final = 0xC7
EXCEPTION_RESPONSE: Final = 0xD8
CONFIRMED_SERVICE_ERROR: Final = 0x0E

INVOKE_IDS: Final = 16
_CONFIRMED_HIGH: Final = 0xC0  # confirmed service, high priority
_NORMAL, _BLOCK, _LIST = 1, 2, 3

ACCESS_RESULTS: Final[Mapping[int, str]] = {
    1: "hardware-fault",
    2: "temporary-failure",
    3: "read-write-denied",
    4: "object-undefined",
    9: "object-class-inconsistent",
    11: "object-unavailable",
    12: "type-unmatched",
    13: "scope-of-access-violated",
    14: "data-block-unavailable",
    15: "long-get-aborted",
    16: "no-long-get-in-progress",
    17: "long-set-aborted",
    18: "no-long-set-in-progress",
    19: "data-block-number-invalid",
    250: "other-reason",
}
"""The words of a data access result, and of an action's, which has the same numbers."""

_STATE_ERRORS: Final = {1: "service-not-allowed", 2: "service-unknown"}
_SERVICE_ERRORS: Final = {
    1: "operation-not-possible",
    2: "service-not-supported",
    3: "other-reason",
    4: "pdu-too-long",
    5: "deciphering-error",
    6: "invocation-counter-error",
}

_ANOTHERS: Final = "the answer to another question (invoke id)"

LogicalName: TypeAlias = bytes
"""The six value groups of an object's OBIS code."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of one object."""

    class_id: int
    name: LogicalName
    index: int

    def encode(self) -> bytes:
        return self.class_id.to_bytes(2, "big") + self.name + bytes((self.index,))

    def __str__(self) -> str:
        return f"{print_name(self.name)} attribute {self.index}"


def print_name(name: LogicalName) -> str:
    """Print a logical name as A-B:C.D.E*F."""
    a, b, c, d, e, f = name
    return f"{a}-{b}:{c}.{d}.{e}*{f}"


# --- requests ------------------------------------------------------------------------------------


def get_request(invoke_id: int, attribute: Attribute, selection: bytes | None = None) -> bytes:
    """Ask for an attribute; ``selection`` is the access selector's byte and its parameters."""
    access = b"\x00" if selection is None else b"\x01" + selection
    return _header(GET_REQUEST, _NORMAL, invoke_id) + attribute.encode() + access


def next_block_request(invoke_id: int, block: int) -> bytes:
    """Say which block has come, and ask for the one after it."""
    return _header(GET_REQUEST, _BLOCK, invoke_id) + block.to_bytes(4, "big")


def set_request(invoke_id: int, attribute: Attribute, data: bytes) -> bytes:
    return _header(SET_REQUEST, _NORMAL, invoke_id) + attribute.encode() + b"\x00" + data


def action_request(invoke_id: int, method: Attribute, data: bytes) -> bytes:
    """Call a method; it stands where an attribute would."""
    return _header(ACTION_REQUEST, _NORMAL, invoke_id) + method.encode() + b"\x01" + data


def _header(tag: int, kind: int, invoke_id: int) -> bytes:
    assert 0 <= invoke_id < INVOKE_IDS
    return bytes((tag, kind, _CONFIRMED_HIGH | invoke_id))


# --- answers -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a long answer; the last one says so."""

    number: int
    last: bool
    octets: bytes


def read_get_response(apdu: bytes, invoke_id: int, what: object) -> Value | Block:
    """Return the value, or a block of it. Raises UnfitAnswer, ServiceRefused."""
    reader = _opened(apdu, GET_RESPONSE, what)
    kind, ours = reader.byte(), _is_ours(reader, invoke_id)
    if kind == _NORMAL and not ours and (result := _refusal(reader)):
        # Some meters number their refusals otherwise. A refusal that is another's costs a value, and gives none.
        raise _refused(what, result)
    if not ours:
        raise UnfitAnswer(_ANOTHERS)
    if kind == _NORMAL:
        value = _result(reader, what)
        reader.end()
        return value
    if kind != _BLOCK:
        raise UnfitAnswer(f"an answer to GET of kind {kind}")
    last = reader.byte() != 0
    number = reader.number(4)
    if reader.byte() != 0:
        raise _refused(what, reader.byte())
    octets = reader.octets()
    reader.end()
    return Block(number, last, octets)


def read_set_response(apdu: bytes, invoke_id: int, what: object) -> None:
    """Return when it was written. Raises UnfitAnswer, ServiceRefused."""
    reader = _opened(apdu, SET_RESPONSE, what)
    _check_normal(_kind(reader, invoke_id))
    _check_done(reader, what)
    reader.end()


def read_action_response(apdu: bytes, invoke_id: int, what: object) -> Value:
    """Return what the method gave back, or None. Raises UnfitAnswer, ServiceRefused."""
    reader = _opened(apdu, ACTION_RESPONSE, what)
    _check_normal(_kind(reader, invoke_id))
    _check_done(reader, what)
    value = None
    # Some meters leave the mark of the optional return parameters out, with the parameters.
    if reader.left and reader.byte() != 0:
        value = _result(reader, what)
    reader.end()
    return value


def _opened(apdu: bytes, tag: int, what: object) -> Reader:
    reader = Reader(apdu)
    found = reader.byte()
    if found == EXCEPTION_RESPONSE:
        raise _exception(reader, what)
    if found == CONFIRMED_SERVICE_ERROR:
        raise ServiceRefused(
            f"{what}: confirmed service error", "confirmed-service-error", exception=True
        )
    if found != tag:
        raise UnfitAnswer(f"a message of type {found:#04x} where {tag:#04x} was due")
    return reader


def read_exception(apdu: bytes, what: object) -> ServiceRefused | None:
    """Return what an exception says; None if this is none. Raises UnfitAnswer."""
    reader = Reader(apdu)
    return _exception(reader, what) if reader.byte() == EXCEPTION_RESPONSE else None


def _exception(reader: Reader, what: object) -> ServiceRefused:
    state, service = reader.byte(), reader.byte()
    state_word = _STATE_ERRORS.get(state, f"state-error-{state}")
    word = _SERVICE_ERRORS.get(service, f"service-error-{service}")
    return ServiceRefused(f"{what}: exception {word} ({state_word})", word, exception=True)


def _kind(reader: Reader, invoke_id: int) -> int:
    kind = reader.byte()
    if not _is_ours(reader, invoke_id):
        raise UnfitAnswer(_ANOTHERS)
    return kind


def _is_ours(reader: Reader, invoke_id: int) -> bool:
    return reader.byte() & (INVOKE_IDS - 1) == invoke_id


def _refusal(reader: Reader) -> int:
    """Return the data access result of an answer that is nothing else; 0 for another."""
    rest = reader.rest()
    return rest[1] if len(rest) == 2 and rest[0] == 1 else 0


def _check_normal(kind: int) -> None:
    if kind != _NORMAL:
        raise UnfitAnswer(f"an answer of kind {kind}")


def _check_done(reader: Reader, what: object) -> None:
    result = reader.byte()
    if result != 0:
        raise _refused(what, result)


def _result(reader: Reader, what: object) -> Value:
    if reader.byte() != 0:
        raise _refused(what, reader.byte())
    return read_data(reader)


def _refused(what: object, result: int) -> ServiceRefused:
    word = ACCESS_RESULTS.get(result, f"access-result-{result}")
    return ServiceRefused(f"{what}: {word}", word)


# --- opening and closing an association ----------------------------------------------------------

_INITIATE_REQUEST: Final = 0x01
_INITIATE_RESPONSE: Final = 0x08
_DLMS_VERSION: Final = 6
# Read, write and call by logical name, in blocks where it is long: block-transfer-with-get, get, set,
# selective-access, action (bits 11, 19, 20, 21, 23 of 24).
_CONFORMANCE: Final = bytes.fromhex("00101d")
_CONFORMANCE_TAG: Final = bytes.fromhex("5f1f0400")
RECEIVE_BYTES_MAX: Final = 4096
"""What we tell a meter that a message to us may hold: long answers come in blocks of this size."""


def initiate_request() -> bytes:
    """Return the proposal of what the association is to be able to do."""
    # No dedicated key, response allowed (the default), no quality of service.
    return (
        bytes((_INITIATE_REQUEST, 0, 0, 0, _DLMS_VERSION))
        + _CONFORMANCE_TAG
        + _CONFORMANCE
        + RECEIVE_BYTES_MAX.to_bytes(2, "big")
    )


def read_initiate_response(apdu: bytes) -> int:
    """Return how many bytes a message to the meter may hold (0: as many as you like).

    Raises UnfitAnswer, AssociationRefused.
    """
    reader = Reader(apdu)
    tag = reader.byte()
    if tag == CONFIRMED_SERVICE_ERROR:
        raise AssociationRefused("the meter refuses what we propose (confirmed service error)")
    if tag != _INITIATE_RESPONSE:
        raise UnfitAnswer(f"a message of type {tag:#04x} where an initiate response was due")
    if reader.byte() != 0:
        reader.byte()  # quality of service
    if reader.byte() != _DLMS_VERSION:
        raise UnfitAnswer("another version of DLMS than 6")
    reader.take(len(_CONFORMANCE_TAG) + len(_CONFORMANCE))
    return reader.number(2)
