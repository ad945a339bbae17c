"""What of our broker would lose data: asked of the running broker, and read in its configuration.

A broker tells nobody its settings, so `probe` finds out by trying: on a topic of its own, with a session
that ends with the connection, it publishes and looks at what comes back. It never touches a session that
was there before: a broker that names sessions by certificate would give us the head-end's own, and then
the probe leaves at once and says that it could not check. Whether a broker writes to disk cannot be seen
from outside at all; `judge_config` reads that in a mosquitto.conf.

The probe's topics are ``openami/probe/…``: outside the profile's, so that nobody's subscription meets
them. The broker's ACL has to let the head-end read and write there; ours does (deploy/mosquitto/acl).
"""

import asyncio
import secrets
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from openami.mqtt.client import Limits, MqttConnection, MqttPort
from openami.mqtt.port import TransportError
from openami.mqtt.settings import BrokerSettings
from openami.profile import MESSAGE_BYTES_MAX

PROBE_ROOT: Final = "openami/probe"
# A head-end that starts must not be held up by its own check.
PROBE_TIMEOUT_S: Final = 5.0
# Three times mosquitto's default queue of 1,000, and more than that and a batch under way; about 1 MB.
PROBE_MESSAGES: Final = 3_000
_PUBLISHERS: Final = 50  # at once; the connection's window is the bound
_PROBE_MESSAGE: Final = b"x" * 380  # the profile's example
# Nothing for so long means that nothing more comes: thirty times what a broker next door takes.
_QUIET_S: Final = 0.3
_ECHO_TIMEOUT_S: Final = 1.0
_ECHOES: Final = 7
# Without TCP_NODELAY the kernel holds an echo back until the receiver's delayed acknowledgement, 40 ms on
# Linux; anything near it, beyond what the way itself takes, is that.
_STALL_S: Final = 0.03
# With a window this small, the broker has to queue nearly all of the probe's messages.
_PROBE_RECEIVE_MAXIMUM: Final = 20
# Larger than any message of the profile by far: it should be refused.
_OVERSIZE_BYTES: Final = 4 * MESSAGE_BYTES_MAX

# A hundred meters at a reading a minute make 144,000 messages a day; less than a day is an evening's
# power cut, and the night until somebody comes.
QUEUED_MESSAGES_NEEDED: Final = 100_000
QUEUED_BYTES_NEEDED: Final = QUEUED_MESSAGES_NEEDED * 512
# What a killed broker has not written is lost; half a minute of it is asked for again quickly.
AUTOSAVE_INTERVAL_S_MAX: Final = 30
SESSION_EXPIRY_DAYS_NEEDED: Final = 7
# The head-end acknowledges a batch after its commit, so a batch has to be under way at once.
INFLIGHT_NEEDED: Final = 1_000
_PACKET_OVERHEAD_BYTES: Final = 464  # header, topic and properties


class Severity(StrEnum):
    """What a finding costs."""

    LOSES_DATA = "loses-data"
    SLOW = "slow"
    NOTE = "note"
    NOT_CHECKED = "not-checked"


@dataclass(frozen=True, slots=True)
class BrokerFinding:
    """One thing about the broker that an operator should know, and what to do about it."""

    code: str
    severity: Severity
    sentence: str
    remedy: str


async def probe(settings: BrokerSettings) -> Sequence[BrokerFinding]:
    """Try out a running broker for at most PROBE_TIMEOUT_S; return what would lose data or time.

    Call it before the head-end connects. Raises TransportError when the broker does not let us in.
    """
    findings: list[BrokerFinding] = []
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            await _probe(settings, findings)
    except TimeoutError:
        findings.append(_not_checked("it took longer than 5 s", "check the link to the broker"))
    return findings


async def _probe(settings: BrokerSettings, findings: list[BrokerFinding]) -> None:
    name = secrets.token_hex(6)
    ours = msgspec.structs.replace(settings, client_id=f"{settings.client_id[:200]}-probe-{name}")
    # Asking for a session we have never had: if it is there, it is not ours. It keeps the expiry of the
    # real settings, so that even then nothing of it changes.
    async with MqttPort(ours).connect() as stranger:
        if stranger.resumed:
            findings.append(
                _not_checked(
                    "the broker names sessions by certificate or user, and the head-end's is there",
                    "check its configuration instead: --broker-config FILE",
                )
            )
            return
    passing = msgspec.structs.replace(ours, session_expiry_days=0)
    try:
        await _try_out(passing, f"{PROBE_ROOT}/{name}", findings)
    except TransportError as error:
        # It let us in a moment ago: some brokers throw out whoever publishes what they do not allow.
        # Whoever called us would try again for ever.
        findings.append(
            _not_checked(
                f"trying it out ended the connection ({error})",
                f"see that its ACL allows {PROBE_ROOT}/# for the head-end's user, or check the "
                "configuration: --broker-config FILE",
            )
        )


async def _try_out(settings: BrokerSettings, topic: str, findings: list[BrokerFinding]) -> None:
    limits = Limits(receive_maximum=_PROBE_RECEIVE_MAXIMUM)
    async with MqttPort(settings, limits).connect() as connection:
        if not await _may_probe(connection, topic):
            findings.append(
                _not_checked(
                    f"its ACL keeps us from {PROBE_ROOT}/#",
                    f"add `topic readwrite {PROBE_ROOT}/#` for the head-end's user, or check the "
                    "configuration: --broker-config FILE",
                )
            )
            return
        findings += await _probe_delay(connection, topic)
        findings += await _probe_queue(connection, topic)
        findings += await _probe_sizes(connection, topic)


def _not_checked(why: str, remedy: str) -> BrokerFinding:
    return BrokerFinding(
        "NOT_CHECKED", Severity.NOT_CHECKED, f"the broker could not be checked: {why}", remedy
    )


async def _may_probe(connection: MqttConnection, topic: str) -> bool:
    try:
        await connection.subscribe([topic])
        return await _echoes(connection, topic, b"")
    except TransportError as error:
        if error.permanent:
            return False  # refused by name
        raise


async def _echoes(connection: MqttConnection, topic: str, payload: bytes) -> bool:
    """Publish; return whether it comes back."""
    await connection.publish(topic, payload)
    try:
        async with asyncio.timeout(_ECHO_TIMEOUT_S):
            connection.acknowledge(await connection.receive(1))
    except TimeoutError:
        return False
    return True


async def _probe_delay(connection: MqttConnection, topic: str) -> Sequence[BrokerFinding]:
    """Compare the way to the broker and back with what an echo takes: the rest is the stall."""
    loop = asyncio.get_running_loop()
    ways_s, echoes_s = [], []
    for _ in range(_ECHOES):
        begin_s = loop.time()
        await connection.publish(f"{topic}/nobody", b"")
        between_s = loop.time()
        if not await _echoes(connection, topic, b""):
            return ()
        ways_s.append(between_s - begin_s)
        echoes_s.append(loop.time() - between_s)
    stall_s = statistics.median(echoes_s) - statistics.median(ways_s)
    if stall_s < _STALL_S:
        return ()
    return (_without_nodelay(f"the broker holds small messages back for {stall_s * 1000:.0f} ms"),)


async def _probe_queue(connection: MqttConnection, topic: str) -> Sequence[BrokerFinding]:
    """Publish more than a default queue holds without acknowledging; count what arrives after all."""
    await asyncio.gather(*(_publish_many(connection, topic) for _ in range(_PUBLISHERS)))
    kept = 0
    try:
        while kept < PROBE_MESSAGES:
            async with asyncio.timeout(_QUIET_S):
                deliveries = await connection.receive(PROBE_MESSAGES)
            connection.acknowledge(deliveries)
            kept += len(deliveries)
    except TimeoutError:
        pass
    if kept >= PROBE_MESSAGES:
        return ()
    return (
        BrokerFinding(
            "QUEUE_LIMIT",
            Severity.LOSES_DATA,
            f"the broker acknowledged {PROBE_MESSAGES} messages for a client that was busy and kept "
            f"{kept}: when the head-end is away it loses readings while the gateways have their PUBACK",
            "set max_queued_messages 1000000 and max_queued_bytes 0",
        ),
    )


async def _publish_many(connection: MqttConnection, topic: str) -> None:
    for _ in range(PROBE_MESSAGES // _PUBLISHERS):
        await connection.publish(topic, _PROBE_MESSAGE)


async def _probe_sizes(connection: MqttConnection, topic: str) -> Sequence[BrokerFinding]:
    if not await _passes(connection, topic, MESSAGE_BYTES_MAX):
        return (_too_small(f"a message of {MESSAGE_BYTES_MAX} bytes does not pass"),)
    if await _passes(connection, topic, _OVERSIZE_BYTES):
        return (_without_size_limit(),)
    return ()


async def _passes(connection: MqttConnection, topic: str, size: int) -> bool:
    """Return whether a message of this size arrives: before the small one sent after it, if at all."""
    try:
        await connection.publish(topic, b"x" * size)
        await connection.publish(topic, b"")
        async with asyncio.timeout(_ECHO_TIMEOUT_S):
            (first, *_) = deliveries = await connection.receive(2)
            connection.acknowledge(deliveries)
            if not first.payload:
                return False
            if len(deliveries) == 1:
                connection.acknowledge(await connection.receive(1))
    except (TransportError, TimeoutError):  # refused, or thrown out: brokers differ
        return False
    return True


def _without_nodelay(sentence: str) -> BrokerFinding:
    return BrokerFinding("NODELAY", Severity.SLOW, sentence, "set set_tcp_nodelay true")


def _too_small(sentence: str) -> BrokerFinding:
    return BrokerFinding(
        "MESSAGE_SIZE",
        Severity.LOSES_DATA,
        f"{sentence}; the profile allows {MESSAGE_BYTES_MAX}",
        f"set message_size_limit {MESSAGE_BYTES_MAX} and leave max_packet_size out",
    )


def _without_size_limit() -> BrokerFinding:
    return BrokerFinding(
        "NO_SIZE_LIMIT",
        Severity.NOTE,
        "the broker takes messages of any size: one gateway can fill its memory and ours",
        f"set message_size_limit {MESSAGE_BYTES_MAX}",
    )


# --- reading a mosquitto.conf --------------------------------------------------------------------


def judge_config(text: str) -> Sequence[BrokerFinding]:
    """Return what a mosquitto.conf says that would lose data or time; pure.

    What is not written has mosquitto 2.0's default. Files it includes are not followed, only mentioned.
    """
    settings = _settings(text)
    findings: list[BrokerFinding] = []
    for judge in _JUDGES:
        try:
            found = judge(settings)
        except ValueError as error:
            found = _not_checked(f"its configuration has a value we cannot read: {error}", "see it")
        if found is not None:
            findings.append(found)
    return findings


Settings = Mapping[str, str]


def _settings(text: str) -> Settings:
    """Return the file's settings; of one that stands twice, the last, as mosquitto does."""
    lines = (line.strip() for line in text.splitlines())
    pairs = (line.split(None, 1) for line in lines if line and not line.startswith("#"))
    return {pair[0]: pair[1].strip() if len(pair) > 1 else "" for pair in pairs}


def _number(settings: Settings, name: str, default: int) -> int:
    text = settings.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{name} {text}") from None


def _is_true(settings: Settings, name: str, default: str) -> bool:
    return settings.get(name, default) == "true"


def _judge_queue(settings: Settings) -> BrokerFinding | None:
    kept = _number(settings, "max_queued_messages", 1000)
    remedy = "set max_queued_messages 1000000"
    if kept == 0:
        return BrokerFinding(
            "QUEUE_UNLIMITED",
            Severity.LOSES_DATA,
            "max_queued_messages 0 means no limit in some releases of mosquitto, and in others that "
            "nothing is kept (seen in 2.0.16)",
            remedy,
        )
    if kept >= QUEUED_MESSAGES_NEEDED:
        return None
    return BrokerFinding(
        "QUEUE_LIMIT",
        Severity.LOSES_DATA,
        f"max_queued_messages is {kept}: what comes beyond while the head-end is away is thrown "
        "away, though the gateways have their PUBACK",
        remedy,
    )


def _judge_queued_bytes(settings: Settings) -> BrokerFinding | None:
    kept = _number(settings, "max_queued_bytes", 0)
    if kept == 0 or kept >= QUEUED_BYTES_NEEDED:
        return None
    return BrokerFinding(
        "QUEUE_BYTES",
        Severity.LOSES_DATA,
        f"max_queued_bytes is {kept}: about {kept // 512} readings, then what comes is thrown away",
        "set max_queued_bytes 0 and let max_queued_messages be the bound",
    )


def _judge_persistence(settings: Settings) -> BrokerFinding | None:
    if _is_true(settings, "persistence", "false"):
        return None
    return BrokerFinding(
        "PERSISTENCE",
        Severity.LOSES_DATA,
        "persistence is off: a restart of the broker loses every session and what waits in it",
        "set persistence true and persistence_location",
    )


def _judge_autosave(settings: Settings) -> BrokerFinding | None:
    interval_s = _number(settings, "autosave_interval", 1800)
    if _is_true(settings, "autosave_on_changes", "false"):
        return BrokerFinding(
            "AUTOSAVE_ON_CHANGES",
            Severity.SLOW,
            "autosave_on_changes has the broker write everything it holds again and again: 55,000 "
            "messages a second become 1,000",
            "take it out and set autosave_interval 1",
        )
    if 0 < interval_s <= AUTOSAVE_INTERVAL_S_MAX:
        return None
    since = f"{interval_s} s" if interval_s else "its start"
    return BrokerFinding(
        "AUTOSAVE",
        Severity.LOSES_DATA,
        f"autosave_interval is {interval_s}: a broker that is killed loses what it took in since "
        f"{since}, though it has acknowledged it",
        "set autosave_interval 1",
    )


_UNITS_DAYS: Final = {"h": 1 / 24, "d": 1, "w": 7, "m": 30, "y": 365}


def _judge_expiration(settings: Settings) -> BrokerFinding | None:
    text = settings.get("persistent_client_expiration")
    if text is None:
        return None
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS_DAYS or not number.isdigit():
        raise ValueError(f"persistent_client_expiration {text}")
    if int(number) * _UNITS_DAYS[unit] >= SESSION_EXPIRY_DAYS_NEEDED:
        return None
    return BrokerFinding(
        "SESSION_EXPIRY",
        Severity.LOSES_DATA,
        f"persistent_client_expiration is {text}: a head-end that is away for longer finds nothing",
        "set persistent_client_expiration 14d",
    )


def _judge_nodelay(settings: Settings) -> BrokerFinding | None:
    if _is_true(settings, "set_tcp_nodelay", "false"):
        return None
    return _without_nodelay("set_tcp_nodelay is off: small messages are held back for up to 40 ms")


def _judge_inflight(settings: Settings) -> BrokerFinding | None:
    inflight = _number(settings, "max_inflight_messages", 20)
    if inflight == 0 or inflight >= INFLIGHT_NEEDED:
        return None
    return BrokerFinding(
        "INFLIGHT",
        Severity.SLOW,
        f"max_inflight_messages is {inflight}: the head-end may commit no more than that at once "
        "(mosquitto 2.0.11 does not hold to it, others do)",
        f"set max_inflight_messages {INFLIGHT_NEEDED}",
    )


def _judge_size(settings: Settings) -> BrokerFinding | None:
    limit = _number(settings, "message_size_limit", 0)
    packet = _number(settings, "max_packet_size", 0)
    if 0 < limit < MESSAGE_BYTES_MAX:
        return _too_small(f"message_size_limit is {limit}")
    if 0 < packet < MESSAGE_BYTES_MAX + _PACKET_OVERHEAD_BYTES:
        return _too_small(f"max_packet_size is {packet}, and a packet is more than its message")
    return None if limit or packet else _without_size_limit()


def _judge_retain(settings: Settings) -> BrokerFinding | None:
    if not _is_true(settings, "retain_available", "true"):
        return None
    return BrokerFinding(
        "RETAIN",
        Severity.NOTE,
        "retained messages are allowed: a reading retained by mistake comes back as new at every "
        "start of the head-end, and is rejected every time",
        "set retain_available false",
    )


def _judge_includes(settings: Settings) -> BrokerFinding | None:
    if "include_dir" not in settings:
        return None
    return BrokerFinding(
        "INCLUDES",
        Severity.NOT_CHECKED,
        f"the files in {settings['include_dir']} belong to the configuration and were not read",
        "check them one by one with --broker-config",
    )


_JUDGES: Final[Sequence[Callable[[Settings], BrokerFinding | None]]] = (
    _judge_queue,
    _judge_queued_bytes,
    _judge_persistence,
    _judge_autosave,
    _judge_expiration,
    _judge_size,
    _judge_nodelay,
    _judge_inflight,
    _judge_retain,
    _judge_includes,
)
