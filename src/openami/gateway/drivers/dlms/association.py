"""An association with one meter: opened, asked for attributes, told to act, closed. Pure.

Everything here is a dialogue (`steps`). Where security is on, each message is sealed with a counter value
that was never used before, and each answer must be sealed by the meter with a counter that has grown; an
answer in the clear, other than an exception, is not believed.

`Association.open` for HLS-GMAC takes four passes: our challenge, the meter's, our proof, its proof.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import cycle
from typing import Final

from openami.gateway.drivers.dlms import acse, apdu, data
from openami.gateway.drivers.dlms.acse import Accepted, Mechanism
from openami.gateway.drivers.dlms.apdu import Attribute, Block
from openami.gateway.drivers.dlms.axdr import Reader
from openami.gateway.drivers.dlms.ciphering import (
    TITLE_BYTES,
    Keys,
    check_proof,
    opaque,
    proof,
    read_sealed,
    seal,
    unseal,
)
from openami.gateway.drivers.dlms.data import Value, read_data
from openami.gateway.drivers.dlms.errors import (
    AssociationRefused,
    CipherError,
    ServiceRefused,
    UnfitAnswer,
)
from openami.gateway.drivers.dlms.link import Link
from openami.gateway.drivers.dlms.steps import Steps

VALUE_BYTES_MAX: Final = 1024 * 1024
"""Of one attribute in blocks: a month of quarter hours in twenty columns is 0.6 MB."""
_CHALLENGE_BYTES_MIN, _CHALLENGE_BYTES_MAX = 8, 64  # IEC 62056-5-3, clause 4.7.2
_GLO_INITIATE_REQUEST, _GLO_INITIATE_RESPONSE = 0x21, 0x28
# A message's kind → the kind of it ciphered with the global key, and that of its answer.
_CIPHERED: Final = {
    apdu.GET_REQUEST: (0xC8, 0xCC),
    apdu.SET_REQUEST: (0xC9, 0xCD),
    apdu.ACTION_REQUEST: (0xCB, 0xCF),
}
_IN_THE_CLEAR: Final = (apdu.EXCEPTION_RESPONSE, apdu.CONFIRMED_SERVICE_ERROR)
"""What a meter that could not read our message can say of it."""
_REMEDY: Final = "are client and keys the meter's?"
_REMEDIES: Final = {
    "invocation-counter-error": "the meter has seen a higher counter under these keys; put one above it "
    "into the counter file",
}
_PROVE: Final = Attribute(15, bytes((0, 0, 40, 0, 0, 255)), 1)
"""reply_to_HLS_authentication of the current association."""


@dataclass(frozen=True, slots=True)
class Security:
    """What an association by keys needs. ``next_counter`` gives each value once, for ever."""

    keys: Keys
    title: bytes
    next_counter: Callable[[], int]
    challenge: bytes = field(repr=False)

    def __post_init__(self) -> None:
        assert len(self.title) == TITLE_BYTES
        assert _CHALLENGE_BYTES_MIN <= len(self.challenge) <= _CHALLENGE_BYTES_MAX


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we say we are: nobody, the holder of a password, or of keys."""

    password: bytes | None = field(default=None, repr=False)
    security: Security | None = None

    @property
    def mechanism(self) -> Mechanism:
        if self.security is not None:
            return Mechanism.HLS_GMAC
        return Mechanism.NONE if self.password is None else Mechanism.LLS


class ServerCounter:
    """The highest counter the messages sealed by a meter have shown; older or equal ones are replays.

    Outlives an association: a message recorded in one must not pass in the next.
    """

    def __init__(self) -> None:
        self._title = b""
        self._highest = -1  # a meter's first message may have counter 0

    def check(self, title: bytes, counter: int) -> None:
        """Note the counter of a message that the meter of this title has sealed.

        Raises CipherError unless it has grown.
        """
        if title != self._title:
            self._title, self._highest = title, -1  # another meter at the place: it counts anew
        if counter <= self._highest:
            raise CipherError(
                f"the meter's invocation counter is {counter} after {self._highest}: an old message "
                "that somebody repeats, or a meter that lost its counter and needs new keys"
            )
        self._highest = counter


class Association:
    """A dialogue with one meter over a link. Open it, ask, close it; after a DlmsError that is not
    ServiceRefused, make a new one."""

    def __init__(
        self,
        link: Link,
        credentials: Credentials,
        *,
        server_counter: ServerCounter | None = None,
        invoke_ids: Iterator[int] | None = None,
    ) -> None:
        self._link = link
        self._credentials = credentials
        self._server_counter = ServerCounter() if server_counter is None else server_counter
        self._server_title = b""
        self._invoke_ids = cycle(range(apdu.INVOKE_IDS)) if invoke_ids is None else invoke_ids

    # --- opening and closing ---------------------------------------------------------------------

    def open(self) -> Steps[None]:
        """Open link and association. Raises DlmsError."""
        yield from self._link.open()
        security = self._credentials.security
        answer = yield from self._link.exchange(self._request())
        refusal = apdu.read_exception(answer, "the association")
        if refusal is not None:
            raise AssociationRefused(f"{refusal}: {_REMEDIES.get(refusal.word, _REMEDY)}")
        accepted = acse.read_associate_response(answer)
        if security is None:
            if accepted.to_be_proven:
                raise AssociationRefused("the meter asks for keys, and none are configured")
            apdu.read_initiate_response(accepted.user_information)
        else:
            yield from self._prove(security, accepted)

    def close(self) -> Steps[None]:
        """Release the association, then the link. Raises DlmsError."""
        security = self._credentials.security
        information = b"" if security is None else self._sealed_initiate(security)
        answer = yield from self._link.exchange(acse.release_request(information))
        if not acse.is_release_response(answer):
            raise UnfitAnswer("no RLRE where one was due")
        yield from self._link.close()

    def _request(self) -> bytes:
        security = self._credentials.security
        if security is None:
            return acse.associate_request(
                self._credentials.mechanism,
                apdu.initiate_request(),
                authentication=self._credentials.password or b"",
            )
        return acse.associate_request(
            Mechanism.HLS_GMAC,
            self._sealed_initiate(security),
            authentication=security.challenge,
            title=security.title,
        )

    def _sealed_initiate(self, security: Security) -> bytes:
        sealed = seal(
            security.keys, security.title, security.next_counter(), apdu.initiate_request()
        )
        return opaque(_GLO_INITIATE_REQUEST, sealed)

    def _prove(self, security: Security, accepted: Accepted) -> Steps[None]:
        """Answer the meter's challenge, check its answer to ours."""
        if not _CHALLENGE_BYTES_MIN <= len(accepted.challenge) <= _CHALLENGE_BYTES_MAX:
            raise AssociationRefused("the meter's challenge has no length that is allowed")
        if accepted.challenge == security.challenge or accepted.title == security.title:
            raise CipherError("the meter repeats what we said: a mirror, not a meter")
        if len(accepted.title) != TITLE_BYTES:
            raise AssociationRefused("the meter tells no system title")
        self._server_title = accepted.title
        sealed = read_sealed(accepted.user_information, _GLO_INITIATE_RESPONSE)
        apdu.read_initiate_response(self._unseal(security, sealed))
        answer = proof(security.keys, security.title, security.next_counter(), accepted.challenge)
        try:
            given = yield from self.act(_PROVE, data.octet_string(answer))
        except ServiceRefused as refusal:
            raise AssociationRefused(
                f"the meter does not take our proof ({refusal.word})"
            ) from None
        if not isinstance(given, bytes):
            raise CipherError("the meter does not answer our challenge")
        check_proof(security.keys, self._server_title, security.challenge, given)

    # --- services --------------------------------------------------------------------------------

    def get(self, attribute: Attribute, selection: bytes | None = None) -> Steps[Value]:
        """Return an attribute's value, put together of its blocks. Raises DlmsError."""
        invoke_id = next(self._invoke_ids)
        request = apdu.get_request(invoke_id, attribute, selection)
        collected = bytearray()
        number = 0
        while True:
            answer = yield from self._ask(request)
            got = apdu.read_get_response(answer, invoke_id, attribute)
            if not isinstance(got, Block):
                if number:
                    raise UnfitAnswer("a whole value where a block was due")
                return got
            number += 1
            if got.number != number:
                raise UnfitAnswer(f"block {got.number} where block {number} was due")
            collected += got.octets
            if len(collected) > VALUE_BYTES_MAX or not (got.octets or got.last):
                raise UnfitAnswer(f"{attribute}: blocks of more than {VALUE_BYTES_MAX} bytes")
            if got.last:
                reader = Reader(bytes(collected))
                value = read_data(reader)
                reader.end()
                return value
            request = apdu.next_block_request(invoke_id, number)

    def set(self, attribute: Attribute, value: bytes) -> Steps[None]:
        """Write an attribute; ``value`` as `data` writes it. Raises DlmsError."""
        invoke_id = next(self._invoke_ids)
        answer = yield from self._ask(apdu.set_request(invoke_id, attribute, value))
        apdu.read_set_response(answer, invoke_id, attribute)

    def act(self, method: Attribute, parameter: bytes) -> Steps[Value]:
        """Call a method, once. Raises DlmsError; after UnfitAnswer it may have been done."""
        invoke_id = next(self._invoke_ids)
        answer = yield from self._ask(apdu.action_request(invoke_id, method, parameter))
        return apdu.read_action_response(answer, invoke_id, method)

    def _ask(self, request: bytes) -> Steps[bytes]:
        security = self._credentials.security
        if security is None:
            return (yield from self._link.exchange(request))
        tag, answer_tag = _CIPHERED[request[0]]
        sealed = seal(security.keys, security.title, security.next_counter(), request)
        answer = yield from self._link.exchange(opaque(tag, sealed))
        if answer[:1] and answer[0] in _IN_THE_CLEAR:
            return answer
        return self._unseal(security, read_sealed(answer, answer_tag))

    def _unseal(self, security: Security, sealed: bytes) -> bytes:
        counter, message = unseal(security.keys, self._server_title, sealed)
        self._server_counter.check(self._server_title, counter)
        return message
