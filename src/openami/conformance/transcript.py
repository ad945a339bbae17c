"""The transcript: everything the kit saw, a line each, so that others can judge it again.

JSON Lines: a head that says of whom and since when, then each observation under the name of its type, in the
order of what was seen; payloads in base64. It is bounded: a transcript that reaches its bound ends there and is no
longer whole, and neither are the findings it would lead to.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, BinaryIO, Final, get_args

import msgspec

from openami.conformance.judgement import Kind
from openami.conformance.observation import Observation
from openami.conformance.report.document import TranscriptDigest

FORMAT: Final = "openami-transcript/1"
# A gateway with forty meters for a week, at a message a minute of each.
TRANSCRIPT_BYTES_MAX: Final = 512 * 1024 * 1024
# A payload of 64 KiB in base64 needs 88 kB; one that is larger breaks a rule, and is kept up to this.
LINE_BYTES_MAX: Final = 1024 * 1024

_TYPES: Final[Mapping[str, type[Observation]]] = {
    kind.__name__: kind for kind in get_args(Observation)
}
_encode = msgspec.json.Encoder().encode


class Head(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The first line: who is judged, since when by the kit's clock, and what was said of it."""

    format: str
    kit_version: str
    kind: Kind
    began_at: datetime
    vendor: str = ""
    model: str = ""
    firmware: str = ""


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    saw: str
    it: msgspec.Raw


class TranscriptError(Exception):
    """A file that is no transcript; the message says where."""

    remedy = "name the file that --transcript has written; a copy may be cut off: copy it again"


class TranscriptWriter:
    """Writes observations to a file that somebody else opens and closes.

    A full disk ends the transcript and not the judgement: ``ended_by`` says what did.
    """

    def __init__(self, file: BinaryIO, head: Head, bytes_max: int = TRANSCRIPT_BYTES_MAX) -> None:
        self._file = file
        self._bytes_max = bytes_max
        self._bytes = 0
        self._hash = hashlib.sha256()
        self._observations = 0
        self.ended_by = ""
        self._write(_encode(head) + b"\n")

    def see(self, observation: Observation) -> None:
        """Write one more observation, while there is room."""
        if self.ended_by:
            return
        line = _encode({"saw": type(observation).__name__, "it": observation}) + b"\n"
        if len(line) > min(LINE_BYTES_MAX, self._bytes_max - self._bytes):
            self.ended_by = "there was no room for more"
            return
        self._write(line)
        self._observations += not self.ended_by

    def digest(self) -> TranscriptDigest:
        """Return what a report says of the transcript: its hash so far."""
        return TranscriptDigest(self._hash.hexdigest(), self._observations, not self.ended_by)

    def _write(self, data: bytes) -> None:
        try:
            written = self._file.write(data)
            self._file.flush()
        except OSError as error:
            written, self.ended_by = 0, error.strerror or str(error)
        if written < len(data):
            self.ended_by = self.ended_by or "the disk took a part of a line"
            with suppress(OSError):
                self._file.truncate(self._bytes)
            return
        self._hash.update(data)
        self._bytes += written


class TranscriptReader:
    """Reads a transcript, an observation at a time; ``sha256`` is that of what was read so far."""

    def __init__(self, file: BinaryIO) -> None:
        """Read the head. Raises TranscriptError."""
        self._file = file
        self._hash = hashlib.sha256()
        self._number = 0
        line = self._next()
        if line is None:
            raise TranscriptError("it is empty")
        try:
            self.head = msgspec.json.decode(line, type=Head)
        except (ValueError, RecursionError) as error:
            raise TranscriptError(f"line 1 is not the head of a transcript: {error}") from None
        if self.head.format != FORMAT:
            raise TranscriptError(f"line 1: the format {FORMAT} is asked for")

    @property
    def sha256(self) -> str:
        """The hash of what was read, in hex."""
        return self._hash.hexdigest()

    def observations(self) -> Iterator[Observation]:
        """Yield what was seen. Raises TranscriptError."""
        while (line := self._next()) is not None:
            yield self._observation(line)

    def _observation(self, line: bytes) -> Observation:
        try:
            read = msgspec.json.decode(line, type=_Line)
            kind = _TYPES[read.saw]
            made: Any = msgspec.json.decode(read.it, type=kind)
        except KeyError:
            raise TranscriptError(f"line {self._number} tells of something unknown") from None
        except (ValueError, RecursionError) as error:
            raise TranscriptError(f"line {self._number}: {error}") from None
        if made.at.utcoffset() is None:
            raise TranscriptError(f"line {self._number}: a time without a zone")
        observation: Observation = made
        return observation

    def _next(self) -> bytes | None:
        line = self._file.readline(LINE_BYTES_MAX + 1)
        if not line:
            return None
        self._number += 1
        if not line.endswith(b"\n"):
            raise TranscriptError(
                f"line {self._number} is cut off, or longer than any that is written"
            )
        self._hash.update(line)
        return line
