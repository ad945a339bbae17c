"""``openami watch``: what is on the wire, message by message, with the head-end's verdict on each.

Like mosquitto_sub, but it knows the contract. It only looks: a session of its own that ends with it, nothing
stored, nothing taken from the head-end.
"""

import asyncio
import base64
import secrets
import sys
from datetime import datetime
from typing import Any

import click

from openami.cli.options import broker_options, broker_settings
from openami.cli.report import Exit, fail, print_json, say
from openami.cli.rows import printable
from openami.cli.storage import catalogue_of, registers_option
from openami.clock import SystemClock
from openami.end_signals import told_to_end
from openami.headend.ingest import Accepted, Decision, Message, ingest
from openami.mqtt.client import MqttPort
from openami.mqtt.port import Delivery, TransportError
from openami.mqtt.settings import BrokerSettings
from openami.profile import (
    CommandTopic,
    EventTopic,
    ProfileError,
    Quality,
    RegisterCatalogue,
    RegisterReading,
    SessionTopic,
    TelemetryTopic,
    Topic,
    parse_topic,
    utc_text,
)

# Everything of the profile, and what is beside it: a topic with a typing error is worth seeing.
_EVERYTHING = "openami/#"
# A screenful; what is left waits.
_TAKEN_AT_ONCE_MAX = 100
_RAW_CHARS_MAX = 4_096


@click.command()
@click.argument("topics", metavar="[TOPIC]…", nargs=-1)
@click.option("--meter", metavar="SERIAL", help="Only this meter's topics.")
@click.option("--raw", is_flag=True, help="Print the message itself under each line.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a message.")
@click.option(
    "-C", "--count", type=click.IntRange(min=1), metavar="N", help="End after N messages."
)
@click.option(
    "-W",
    "--wait",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="End after so long; with -C, exit code 1 if fewer came.",
)
@registers_option
@broker_options
def watch(
    topics: tuple[str, ...],
    meter: str | None,
    raw: bool,
    as_json: bool,
    count: int | None,
    wait: float | None,
    registers: str | None,
    **broker: Any,
) -> None:
    """Show messages as they pass, each with its verdict.

    TOPIC is a topic or a filter (+ and #); without one, everything below openami/.
    """
    if meter is not None and topics:
        raise click.UsageError("--meter chooses the topics itself: name either")
    settings = broker_settings(
        # A name nobody else has, or we would throw somebody out.
        client_id=f"openami-watch-{secrets.token_hex(6)}",
        session_expiry_days=0,
        **broker,
    )
    for caution in settings.cautions():
        say(f"openami: {caution}")
    watcher = _Watcher(catalogue_of(registers), raw=raw, as_json=as_json)
    try:
        seen = asyncio.run(
            _watch(settings, topics or _filters(meter), watcher, count=count, wait_s=wait)
        )
    except TransportError as error:
        fail(str(error), Exit.CANNOT_CONNECT, error.remedy)
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)
    if seen is None:
        sys.exit(Exit.INTERRUPTED)
    if count is not None and seen < count:
        fail(f"{seen} of {count} messages came within {wait:g} s", Exit.FAILED)


def _filters(meter: str | None) -> tuple[str, ...]:
    if meter is None:
        return (_EVERYTHING,)
    kinds = (TelemetryTopic, EventTopic, CommandTopic)
    return tuple(kind.filter(meter_serial=meter) for kind in kinds)


async def _watch(
    settings: BrokerSettings,
    filters: tuple[str, ...],
    watcher: "_Watcher",
    *,
    count: int | None,
    wait_s: float | None,
) -> int | None:
    """Show messages until enough came or the time is up; return how many, None when interrupted."""
    watching = asyncio.create_task(_show(settings, filters, watcher, count), name="watch")
    try:
        with told_to_end(watching.cancel):
            async with asyncio.timeout(wait_s):
                await watching
    except TimeoutError:
        pass
    except asyncio.CancelledError:
        return None
    return watcher.seen


async def _show(
    settings: BrokerSettings, filters: tuple[str, ...], watcher: "_Watcher", count: int | None
) -> None:
    clock = SystemClock()
    async with MqttPort(settings).connect() as connection:
        await connection.subscribe(filters)
        say(f"watching {', '.join(filters)} at {settings.endpoint}")
        while True:
            deliveries = await connection.receive(_TAKEN_AT_ONCE_MAX)
            connection.acknowledge(deliveries)
            for delivery in deliveries:
                watcher.show(delivery, clock.now())
                if watcher.seen == count:
                    return


class _Watcher:
    """Prints one delivery after the other, and counts them."""

    def __init__(self, catalogue: RegisterCatalogue, *, raw: bool, as_json: bool) -> None:
        self.seen = 0
        self._catalogue = catalogue
        self._raw = raw
        self._as_json = as_json

    def show(self, delivery: Delivery, now: datetime) -> None:
        self.seen += 1
        message = Message(delivery.topic, delivery.payload, now, delivery.retain)
        topic = _parsed(delivery.topic)
        if isinstance(topic, CommandTopic | SessionTopic):
            decision = None  # the head-end's own, not for it to judge
        else:
            decision = ingest(message, catalogue=self._catalogue)
        if self._as_json:
            print_json(_row(message, decision, raw=self._raw))
            return
        for line in _lines(message, topic, decision):
            click.echo(line)
        if self._raw:
            text = message.payload[:_RAW_CHARS_MAX].decode(errors="backslashreplace")
            click.echo(f"    {printable(text)}")


def _parsed(topic: str) -> Topic | None:
    try:
        return parse_topic(topic)
    except ProfileError:
        return None


# --- for people ----------------------------------------------------------------------------------


def _lines(message: Message, topic: Topic | None, decision: Decision | None) -> list[str]:
    at = message.received_at.astimezone().strftime("%H:%M:%S")
    if isinstance(topic, SessionTopic):
        return [f"{at}  {topic.gateway_id}  session {topic.session_id}"]
    if isinstance(topic, CommandTopic):
        return [f"{at}  {topic.gateway_id}  {topic.meter_serial}  command"]
    if topic is None:
        head = f"{at}  {printable(message.topic[:200])}"
    else:
        head = f"{at}  {topic.gateway_id}  {topic.meter_serial}  {topic.leaf}"
    assert decision is not None
    if isinstance(decision, Accepted):
        envelope = decision.envelope
        registers = "  ".join(_register(each) for each in envelope.registers)
        told = f" {envelope.event.type}" if envelope.event is not None else ""
        lines = [f"{head}{told}  {utc_text(envelope.ts)}  {registers}"]
        return lines + [f"    not stored: {_fault(error)}" for error in decision.rejected_items]
    return [f"{head}  REJECTED {_fault(decision.errors[0])}"] + [
        f"    also {_fault(error)}" for error in decision.errors[1:]
    ]


def _register(register: RegisterReading) -> str:
    quality = "" if register.quality is Quality.GOOD else f" ({register.quality})"
    return printable(f"{register.obis}={register.value} {register.unit}".strip()) + quality


def _fault(error: ProfileError) -> str:
    return printable(f"{error.code} at {error.path or 'the message'}: {error.detail}")


# --- for programs --------------------------------------------------------------------------------


def _row(message: Message, decision: Decision | None, *, raw: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "receivedAt": utc_text(message.received_at),
        "topic": message.topic,
        "bytes": len(message.payload),
    }
    if decision is None:
        row["verdict"] = "not-judged"
    elif isinstance(decision, Accepted):
        row["verdict"] = "partial" if decision.rejected_items else "accepted"
        row["ts"] = utc_text(decision.envelope.ts)
        row["registers"] = [_register_row(each) for each in decision.envelope.registers]
        row["errors"] = [_error_row(error) for error in decision.rejected_items]
    else:
        row["verdict"] = "rejected"
        row["errors"] = [_error_row(error) for error in decision.errors]
    if raw:
        row.update(_payload_members(message.payload))
    return row


def _register_row(register: RegisterReading) -> dict[str, Any]:
    return {
        "obis": str(register.obis),
        "value": register.value,
        "unit": register.unit,
        "quality": str(register.quality),
    }


def _error_row(error: ProfileError) -> dict[str, str]:
    return {
        "code": str(error.code),
        "requirement": error.requirement,
        "path": error.path,
        "detail": error.detail,
    }


def _payload_members(payload: bytes) -> dict[str, str]:
    try:
        return {"payload": payload.decode()}
    except UnicodeDecodeError:
        return {"payloadBase64": base64.b64encode(payload).decode()}
