"""A backlog carried by hand: one file, signed by its gateway, read and written as a stream (decision 0033).

    {"format":"openami-backlog/1","feederId":…,"gatewayId":…,"madeAt":…,"scope":"pending","messages":2,…}
    openami/v1/FEEDER/GATEWAY/meter/SERIAL/telemetry {"schemaVersion":"0.1",…}
    openami/v1/FEEDER/GATEWAY/meter/SERIAL/event {"schemaVersion":"0.1",…}
    {"digest":…,"feederId":…,"format":"openami-backlog/1","gatewayId":…,"madeAt":…,"messages":2,"signature":…}

Compressed with gzip; a file that somebody has unpacked reads the same. A message line is the topic, a space and
the payload's exact bytes, in the order of their numbers. The last line, the *seal*, is a signed document whose
``digest`` is over every byte before it, so that nothing can be changed, left out, added or put elsewhere.

Neither end holds more than a line in memory. Whoever reads has to read to the end before he believes the beginning.
"""

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, BinaryIO, Final, cast

from openami.profile import MESSAGE_BYTES_MAX
from openami.sip import fields
from openami.sip.actions import Role
from openami.sip.acts import ActType, verified_acts
from openami.sip.canonical import SIGNATURE, Document, encode_base64url, read_document
from openami.sip.compose import sign
from openami.sip.errors import SipCode, SipError
from openami.sip.fields import print_moment
from openami.sip.keyring import Keyring
from openami.sip.keys import Signer

FORMAT: Final = "openami-backlog/1"
_FORMATS: Final = "openami-backlog/"
# A topic of three ids of 64 characters, and a payload; whatever is longer is no line of ours.
LINE_BYTES_MAX: Final = MESSAGE_BYTES_MAX + 1024
# A year's telemetry of five hundred meters, each minute; what says more is no backlog.
MESSAGES_MAX: Final = 500 * 366 * 1440
# Fastest: on a gateway's small processor a better ratio costs minutes, and a stick has room.
_GZIP_LEVEL: Final = 1
_GZIP_MAGIC: Final = b"\x1f\x8b"
_BUFFER_BYTES: Final = 128 * 1024  # so many at a time from the decompressor: lines are cut in C
_DIGEST_CHARS: Final = 43  # SHA-256 in base64url
_SEQ_MAX: Final = 2**53 - 1  # what JSON can number


class Fault(StrEnum):
    """What is wrong with a carried file; stable."""

    NOT_A_BACKLOG = "NOT_A_BACKLOG"
    NEWER_FORMAT = "NEWER_FORMAT"
    TRUNCATED = "TRUNCATED"
    ALTERED = "ALTERED"
    FOLLOWED = "FOLLOWED"
    FOREIGN = "FOREIGN"
    UNSIGNED = "UNSIGNED"
    NOT_BELIEVED = "NOT_BELIEVED"


_REMEDIES: Final[Mapping[Fault, str]] = {
    Fault.NOT_A_BACKLOG: "name a file that `openami gateway export` has written",
    Fault.NEWER_FORMAT: "import it with the version of openami that the gateway runs, or a newer one",
    Fault.TRUNCATED: "copy it again, and unmount the stick before it is pulled out; the gateway still has "
    "everything, so it can also export again",
    Fault.ALTERED: "do not trust this copy: compare it with the stick, or let the gateway export again",
    Fault.FOLLOWED: "carry each export as a file of its own; do not join them",
    Fault.FOREIGN: "nothing of this file is believed: a gateway speaks for its own meters only",
    Fault.UNSIGNED: "give the gateway its key and export again; --unsigned takes it on your word",
    Fault.NOT_BELIEVED: "does the feeder's newest keyring name this gateway's key? Publish it first, or let "
    "the gateway export again",
}


class CarriedError(Exception):
    """A carried file that must not be believed; ``fault`` for programs, the sentence and remedy for a person."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault = fault
        self.remedy = _REMEDIES[fault]


class Scope(StrEnum):
    """What of the outbox was exported."""

    PENDING = "pending"
    """What the broker has not acknowledged."""
    ALL = "all"
    """That, and what is kept after sending."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the first line says of the file."""

    feeder_id: str
    gateway_id: str
    made_at: datetime
    scope: Scope
    messages: int
    first_seq: int
    """0 where there is no message, as ``last_seq``."""
    last_seq: int
    since: datetime | None = None
    """Only what was measured from here on; None: everything."""


@dataclass(frozen=True, slots=True)
class Carried:
    """One message as it would have been published."""

    topic: str
    payload: bytes


# --- writing -------------------------------------------------------------------------------------


def write_backlog(
    out: BinaryIO, header: Header, messages: Iterable[Carried], signer: Signer | None
) -> None:
    """Write a whole file; without a signer its seal is unsigned. ``header`` must tell the messages' number.

    Raises OSError, as ``out`` does.
    """
    with gzip.GzipFile("", "wb", _GZIP_LEVEL, out, mtime=0) as packed:
        seen = hashlib.sha256()

        def put(line: bytes) -> None:
            seen.update(line)
            packed.write(line)

        put(_printed(_header_members(header)))
        count = 0
        for message in messages:
            count += 1
            assert b"\n" not in message.payload, "an envelope is printed on one line"
            put(b"%b %b\n" % (message.topic.encode(), message.payload))
        assert count == header.messages, "the header tells how many follow"
        seal = _seal_members(header, encode_base64url(seen.digest()))
        if signer is not None:
            seal = sign(seal, signer, ActType.BACKLOG, iat=int(header.made_at.timestamp()))
        packed.write(_printed(seal))


def _header_members(header: Header) -> dict[str, Any]:
    members: dict[str, Any] = {
        "format": FORMAT,
        "feederId": header.feeder_id,
        "gatewayId": header.gateway_id,
        "madeAt": print_moment(header.made_at),
        "scope": header.scope.value,
        "messages": header.messages,
        "firstSeq": header.first_seq,
        "lastSeq": header.last_seq,
    }
    if header.since is not None:
        members["since"] = print_moment(header.since)
    return members


def _seal_members(header: Header, digest: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "feederId": header.feeder_id,
        "gatewayId": header.gateway_id,
        "madeAt": print_moment(header.made_at),
        "messages": header.messages,
        "digest": digest,
    }


def _printed(members: Mapping[str, Any]) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode() + b"\n"


# --- reading -------------------------------------------------------------------------------------


class BacklogReader:
    """A file being read. ``header`` is there at once; ``seal`` once ``messages`` has come to its end."""

    def __init__(self, source: BinaryIO) -> None:
        """Take a stream at its beginning, and read the first line. Raises CarriedError, and OSError as it does."""
        self.seal: Document | None = None
        self._seen = hashlib.sha256()
        self._lines = _unpacked(source)
        first = self._line(Fault.NOT_A_BACKLOG)
        self._seen.update(first)
        self.header = _read_header(first)

    def messages(self) -> Iterator[Carried]:
        """Yield the messages in their order. Raises CarriedError; at the end, where the file is not whole.

        What was yielded before it is not proven: the digest stands at the end of the file.
        """
        header = self.header
        own = f"openami/v1/{header.feeder_id}/{header.gateway_id}/meter/".encode()
        for number in range(1, header.messages + 1):
            line = self._line(Fault.ALTERED)
            if line.startswith(b"{"):
                raise CarriedError(
                    Fault.ALTERED, f"it ends after {number - 1} of {header.messages} messages"
                )
            self._seen.update(line)
            topic, space, payload = line[:-1].partition(b" ")
            if not space or not topic.isascii():
                raise CarriedError(Fault.ALTERED, f"message {number} is no topic and payload")
            if not topic.startswith(own):
                raise CarriedError(
                    Fault.FOREIGN,
                    f"message {number} is for {topic[:200].decode()}, and the file is "
                    f"{header.feeder_id}/{header.gateway_id}'s",
                )
            yield Carried(topic.decode(), payload)
        self.seal = self._read_seal()

    def _read_seal(self) -> Document:
        line = self._line(Fault.ALTERED)
        try:
            seal = read_document(line)
            members = fields.closed(
                seal.members,
                "",
                required=tuple(_seal_members(self.header, "")),
                optional=(SIGNATURE,),
            )
            digest = fields.text(members["digest"], "digest", chars_max=_DIGEST_CHARS)
        except SipError as error:
            raise CarriedError(Fault.ALTERED, f"its last line is no seal: {error}") from None
        if members["digest"] != encode_base64url(self._seen.digest()):
            raise CarriedError(
                Fault.ALTERED,
                "a line was changed, left out, added or moved since it was written: the digest differs",
            )
        told = {name: value for name, value in members.items() if name != SIGNATURE}
        if told != _seal_members(self.header, digest):
            raise CarriedError(Fault.ALTERED, "its first and its last line tell different things")
        if self._read(1):
            raise CarriedError(Fault.FOLLOWED, "something follows its last line: two files in one?")
        return seal

    def _line(self, otherwise: Fault) -> bytes:
        line = self._read(LINE_BYTES_MAX + 1, to_end_of_line=True)
        if line.endswith(b"\n"):
            return line
        if len(line) > LINE_BYTES_MAX:
            raise CarriedError(otherwise, f"a line has more than {LINE_BYTES_MAX} bytes")
        raise CarriedError(Fault.TRUNCATED, "its end is missing")

    def _read(self, at_most: int, *, to_end_of_line: bool = False) -> bytes:
        """Read; what the decompressor finds wrong is told as what it means."""
        try:
            return self._lines.readline(at_most) if to_end_of_line else self._lines.read(at_most)
        except EOFError:
            raise CarriedError(Fault.TRUNCATED, "its end is missing") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise CarriedError(Fault.ALTERED, f"it cannot be unpacked: {error}") from None


class _Borrowed(io.RawIOBase):
    """A stream that is its owner's to close: a buffer closes what it reads from when it is let go."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._source.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _unpacked(source: BinaryIO) -> BinaryIO:
    buffered = io.BufferedReader(_Borrowed(source), _BUFFER_BYTES)
    if buffered.peek(len(_GZIP_MAGIC))[: len(_GZIP_MAGIC)] != _GZIP_MAGIC:
        return cast(BinaryIO, buffered)
    unpacked = gzip.GzipFile(fileobj=cast(BinaryIO, buffered), mode="rb")
    return cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, unpacked), _BUFFER_BYTES))


def _read_header(line: bytes) -> Header:
    try:
        document = read_document(line)
        format_ = document.members.get("format")
        if not isinstance(format_, str) or not format_.startswith(_FORMATS):
            raise fields.bad("format", FORMAT)
        if format_ != FORMAT:
            raise CarriedError(
                Fault.NEWER_FORMAT, f"its format is {format_[:40]}, known is {FORMAT}"
            )
        return _header_of(document.members)
    except SipError as error:
        raise CarriedError(
            Fault.NOT_A_BACKLOG, f"its first line says no backlog: {error}"
        ) from None


def _header_of(document: Mapping[str, Any]) -> Header:
    members = fields.closed(
        document,
        "",
        required=(
            "format", "feederId", "gatewayId", "madeAt", "scope", "messages", "firstSeq", "lastSeq",
        ),
        optional=("since",),
    )  # fmt: skip
    scope = members["scope"]
    if not isinstance(scope, str) or scope not in Scope._value2member_map_:
        raise fields.bad("scope", "pending or all")

    def number(name: str, most: int) -> int:
        return fields.whole_number(members[name], name, least=0, most=most)

    return Header(
        feeder_id=fields.identifier(members["feederId"], "feederId"),
        gateway_id=fields.identifier(members["gatewayId"], "gatewayId"),
        made_at=fields.moment(members["madeAt"], "madeAt"),
        scope=Scope(scope),
        messages=number("messages", MESSAGES_MAX),
        first_seq=number("firstSeq", _SEQ_MAX),
        last_seq=number("lastSeq", _SEQ_MAX),
        since=fields.moment(members["since"], "since") if "since" in members else None,
    )


# --- believing -----------------------------------------------------------------------------------


def check_signer(header: Header, seal: Document, keyring: Keyring | None) -> None:
    """Return if the gateway the file names has signed its seal. Raises CarriedError.

    Judged by the keyring in force, so that a key that was taken out of it proves nothing any more, whatever day
    it writes under its signature.
    """
    who = f"{header.feeder_id}/{header.gateway_id}"
    if SIGNATURE not in seal.members:
        raise CarriedError(Fault.UNSIGNED, "it is not signed")
    if keyring is None:
        raise CarriedError(Fault.NOT_BELIEVED, f"no keyring of {who} is known, to judge it by")
    try:
        for act in verified_acts(seal, keyring.keys):
            identity = keyring.identities[act.kid]
            if act.type is not ActType.BACKLOG:
                raise SipError(SipCode.WRONG_TYPE, f"{act.type} does not seal a backlog")
            if (identity.role, identity.id) != (Role.GATEWAY, header.gateway_id):
                raise SipError(SipCode.NOT_ALLOWED, f"{identity.id} signed for {who}")
            if act.iat > keyring.valid_to.timestamp():
                raise SipError(SipCode.KEYRING_EXPIRED, "signed after the keyring's end")
    except SipError as error:
        raise CarriedError(Fault.NOT_BELIEVED, f"not proven to be {who}'s: {error}") from None
