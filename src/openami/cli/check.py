"""``openami check``: is this message what the profile asks for? A verdict, the reason, the remedy."""

import base64
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import msgspec

from openami.cli.report import Exit, fail, print_json, say
from openami.profile import (
    MESSAGE_BYTES_MAX,
    SCHEMA_VERSION,
    CatalogueError,
    Code,
    Envelope,
    EventTopic,
    Obis,
    ProfileError,
    RegisterCatalogue,
    TelemetryTopic,
    audit_envelope,
    implausible,
    judge_register,
    judge_topic,
    parse_topic,
    pointer,
    requirement_of,
    shipped_catalogue,
)
from openami.profile.reader import JsonObject, read_document

# A day's capture of a village; a larger one goes through --lines, which holds one line at a time.
FILE_BYTES_MAX: Final = 64 * 1024 * 1024
# A captured message written as a JSON string may need six characters for a byte, and has a topic beside it.
LINE_BYTES_MAX: Final = 8 * MESSAGE_BYTES_MAX

_LINE_SUFFIXES = (".jsonl", ".ndjson")
# The profile's members, and those this system adds (decision 0017).
_MEMBERS_OF_PROFILE = frozenset(
    ("schemaVersion", "ts", "feederId", "gatewayId", "meterSerial", "sessionId", "registers")
)
_KNOWN_MEMBERS = _MEMBERS_OF_PROFILE | {"seq", "event", "command", "report", "signature"}
_KNOWN_REGISTER_MEMBERS = frozenset(("obis", "value", "unit", "quality"))


@dataclass(frozen=True, slots=True)
class Remark:
    """Something that is let through, and that a person should look at."""

    code: str
    path: str
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said about one input; it is rejected when there is an error."""

    errors: tuple[ProfileError, ...]
    faults: int
    remarks: tuple[Remark, ...]


class _Capture(msgspec.Struct, rename="camel"):
    """A message with its topic: `mosquitto_sub -F '%J'` prints it so, and `openami watch --json --raw`."""

    topic: str
    payload: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    payload_base64: str | msgspec.UnsetType = msgspec.UNSET
    retain: bool | int = False
    meter_serial: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_read_capture = msgspec.json.Decoder(_Capture).decode


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE…|-")
@click.option("--lines", is_flag=True, help="Every line is an input, as it comes.")
@click.option("--registers", metavar="FILE", help="Judge by this register list instead of ours.")
@click.option("--json", "as_json", is_flag=True, help="One object for each input.")
def check(files: tuple[str, ...], lines: bool, registers: str | None, as_json: bool) -> None:
    """Judge messages: one verdict for each input; ``-`` reads standard input.

    A file is one message. Where its first line is a whole JSON object and more lines follow, each line is
    a message; so it is in files named .jsonl and with --lines. A line that holds topic and payload, as
    `mosquitto_sub -F '%J'` prints it, is judged with its topic.

    Exit code: 0 all accepted, 1 some rejected, 2 a file cannot be read.
    """
    catalogue = _catalogue(registers)
    verdicts = Counter[bool]()
    unreadable = False
    for name in files:
        try:
            for label, payload in _inputs(name, by_line=lines):
                verdict = judge(payload, catalogue)
                verdicts[not verdict.errors] += 1
                _print(label, verdict, as_json=as_json)
        except OSError as error:
            unreadable = True
            say(f"openami: {name} cannot be read: {error.strerror or error}")
    if unreadable:
        sys.exit(Exit.USAGE)
    if not verdicts:
        fail("there is no message in the input", Exit.USAGE)
    sys.exit(Exit.FAILED if verdicts[False] else Exit.DONE)


def _catalogue(name: str | None) -> RegisterCatalogue:
    if name is None:
        return shipped_catalogue()
    try:
        return RegisterCatalogue.decode(Path(name).read_bytes())
    except OSError as error:
        fail(f"{name} cannot be read: {error.strerror or error}", Exit.USAGE)
    except CatalogueError as error:
        fail(f"{name}: {error}", Exit.USAGE, "openami spec registers shows the shape")


# --- the inputs ----------------------------------------------------------------------------------


def _inputs(name: str, *, by_line: bool) -> Iterator[tuple[str, bytes]]:
    """Yield each message of a file with what to call it. Raises OSError."""
    label = "standard input" if name == "-" else name
    if by_line or name.endswith(_LINE_SUFFIXES):
        yield from _lines_of(name, label)
        return
    if name == "-":
        content = sys.stdin.buffer.read(FILE_BYTES_MAX + 1)
    else:
        with Path(name).open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    if len(content) > FILE_BYTES_MAX:
        raise OSError(
            0, f"it has more than {FILE_BYTES_MAX} bytes; is it one message a line? use --lines"
        )
    first, _, rest = content.strip().partition(b"\n")
    if rest and _is_object(first):
        yield from _numbered(label, content.splitlines())
    else:
        yield label, content.removesuffix(b"\n").removesuffix(b"\r")


def _lines_of(name: str, label: str) -> Iterator[tuple[str, bytes]]:
    if name == "-":
        yield from _numbered(label, _bounded_lines(sys.stdin.buffer.readline))
        return
    with Path(name).open("rb") as file:
        yield from _numbered(label, _bounded_lines(file.readline))


def _bounded_lines(readline: Callable[[int], bytes]) -> Iterator[bytes]:
    """Yield lines, each cut where it is longer than any message can be."""
    while line := readline(LINE_BYTES_MAX):
        rest = line
        while len(rest) == LINE_BYTES_MAX and not rest.endswith(b"\n"):
            rest = readline(LINE_BYTES_MAX)
        yield line


def _numbered(label: str, lines: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield f"{label}:{number}", line.rstrip(b"\r\n")


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(read_document(text).root, JsonObject)
    except ProfileError:
        return False


# --- the verdict ---------------------------------------------------------------------------------


def judge(content: bytes, catalogue: RegisterCatalogue) -> Verdict:
    """Judge one input: a message, or a message with its topic."""
    try:
        capture = _read_capture(content)
        payload = _payload_of(capture)
    except (ValueError, RecursionError):
        return _judge_message(content, catalogue, None)
    # An envelope may have members topic and payload of its own; a capture has no meterSerial beside them.
    if payload is None or capture.meter_serial is not msgspec.UNSET:
        return _judge_message(content, catalogue, None)
    topic, errors = _judge_delivery(capture)
    verdict = _judge_message(payload, catalogue, topic)
    return Verdict((*errors, *verdict.errors), len(errors) + verdict.faults, verdict.remarks)


def _judge_delivery(
    capture: _Capture,
) -> tuple[TelemetryTopic | EventTopic | None, list[ProfileError]]:
    errors: list[ProfileError] = []
    if capture.retain:
        detail = "the broker retained the message: whoever comes later takes it for news"
        errors.append(ProfileError(Code.RETAINED, "OA-TOP-006", "", detail))
    try:
        topic = parse_topic(capture.topic)
    except ProfileError as error:
        return None, [*errors, error]
    if isinstance(topic, TelemetryTopic | EventTopic):
        return topic, errors
    detail = f"{topic} carries no readings; telemetry and events are judged here"
    return None, [*errors, ProfileError(Code.UNEXPECTED_TOPIC, "OA-TOP-005", "", detail)]


def _payload_of(capture: _Capture) -> bytes | None:
    """Return the message's bytes, None without; one that was not JSON is captured as a string."""
    if capture.payload is not msgspec.UNSET:
        raw = bytes(capture.payload)
        return msgspec.json.decode(raw, type=str).encode() if raw.startswith(b'"') else raw
    if capture.payload_base64 is not msgspec.UNSET:
        return base64.b64decode(capture.payload_base64, validate=True)
    return None


def _judge_message(
    payload: bytes, catalogue: RegisterCatalogue, topic: TelemetryTopic | EventTopic | None
) -> Verdict:
    audit = audit_envelope(payload)
    if audit.envelope is None:
        return Verdict(audit.errors, audit.faults, ())
    further = list(judge_topic(audit.envelope, topic)) if topic is not None else []
    remarks = list(_remarks_on_header(audit.envelope))
    seen: set[Obis] = set()
    for place, reading in zip(audit.places, audit.envelope.registers, strict=True):
        path = pointer("registers", place)
        if reading.obis in seen:
            remarks.append(Remark("REPEATED_REGISTER", path, f"{reading.obis} stands twice"))
        seen.add(reading.obis)
        register = catalogue.get(reading.obis)
        if register is None:
            detail = f"{reading.obis} is not in the register list: it is stored unjudged"
            remarks.append(Remark("UNKNOWN_REGISTER", path, detail))
        elif (error := judge_register(reading, register, path=path)) is not None:
            further.append(error)
        elif (doubt := implausible(reading, register)) is not None:
            remarks.append(Remark("IMPLAUSIBLE_VALUE", path + pointer("value"), doubt))
    remarks.extend(_unknown_members(payload))
    return Verdict((*audit.errors, *further), audit.faults + len(further), tuple(remarks))


def _remarks_on_header(envelope: Envelope) -> Iterator[Remark]:
    if envelope.schema_version != SCHEMA_VERSION:
        detail = f"written for {envelope.schema_version}; read as {SCHEMA_VERSION}"
        yield Remark("NEWER_VERSION", pointer("schemaVersion"), detail)
    for name in envelope.ignored:
        yield Remark("EXTENSION_IGNORED", pointer(name), f"{name} is not of our shape: ignored")


def _unknown_members(payload: bytes) -> Iterator[Remark]:
    """Tell of members nobody reads: they are allowed, and most often misspelt."""
    root = read_document(payload).root
    assert isinstance(root, JsonObject)
    yield from (_unknown(pointer(name)) for name in root if name not in _KNOWN_MEMBERS)
    items = root["registers"]
    assert isinstance(items, list)
    for index, item in enumerate(items):
        if isinstance(item, JsonObject):
            yield from (
                _unknown(pointer("registers", index, name))
                for name in item
                if name not in _KNOWN_REGISTER_MEMBERS
            )


def _unknown(path: str) -> Remark:
    return Remark("UNKNOWN_MEMBER", path, "no reader of this profile looks at it; is it misspelt?")


# --- how it is told ------------------------------------------------------------------------------


def _print(label: str, verdict: Verdict, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "input": label,
                "ok": not verdict.errors,
                "faults": verdict.faults,
                "errors": [_as_row(error) for error in verdict.errors],
                "warnings": [
                    {"code": w.code, "path": w.path, "detail": w.detail} for w in verdict.remarks
                ],
            }
        )
        return
    if not verdict.errors:
        click.echo(f"{label}: ok")
    for number, error in enumerate(verdict.errors):
        click.echo((f"{label}: REJECTED " if number == 0 else "  and ") + _sentence(error))
    if verdict.faults > len(verdict.errors):
        click.echo(f"  and {verdict.faults - len(verdict.errors)} more")
    for warning in verdict.remarks:
        click.echo(f"  warning: {warning.code} at {warning.path}: {warning.detail}")


def _sentence(error: ProfileError) -> str:
    requirement = requirement_of(error)
    place = f" at {error.path}" if error.path else ""
    return (
        f"{error.code}{place}: {error.detail} "
        f"({requirement.id}, {requirement.source}; {requirement.remedy})"
    )


def _as_row(error: ProfileError) -> dict[str, str]:
    requirement = requirement_of(error)
    return {
        "code": error.code,
        "path": error.path,
        "detail": error.detail,
        "requirement": requirement.id,
        "source": requirement.source,
        "remedy": requirement.remedy,
    }
