"""For each requirement somebody who breaks it, and nothing else: what the judge has to convict, exactly there."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from tests.conformance.streams import (
    FEEDER,
    FORGERIES,
    GATEWAY,
    GOOD_REGISTERS,
    INTERVAL,
    METER,
    OTHER,
    ROOT,
    SESSION_TOPIC,
    Stream,
    as_bytes,
    command_topic,
    forge,
    good_gateway,
    good_headend,
    headend_with_session,
    network_lost,
    ordinary,
    registers_with,
)

from openami.conformance.observation import Act
from openami.profile import MESSAGE_BYTES_MAX, utc_text
from openami.sip.reports import ReportStatus

Mutant = Callable[[], Stream]
TELEMETRY, EVENT = f"{ROOT}/meter/{METER}/telemetry", f"{ROOT}/meter/{METER}/event"


def _reading(**changes: Any) -> Mutant:
    """A good gateway that sends one reading with members changed."""

    def mutant() -> Stream:
        stream = good_gateway()
        stream.telemetry(**changes)
        return stream

    return mutant


def _register(**members: Any) -> Mutant:
    """… with its first register changed; None takes a member out."""
    changed = {**GOOD_REGISTERS[0], **members}
    kept = {name: value for name, value in changed.items() if value is not None}
    return _reading(registers=[kept])


def _bytes(spoil: Callable[[bytes], bytes]) -> Mutant:
    """… with its bytes changed."""

    def mutant() -> Stream:
        stream = good_gateway()
        stream.publish(TELEMETRY, spoil(as_bytes(stream.envelope())))
        return stream

    return mutant


def _published(topic: str = TELEMETRY, **how: Any) -> Mutant:
    """… that is published in another way."""

    def mutant() -> Stream:
        stream = good_gateway()
        stream.publish(topic, as_bytes(stream.envelope()), **how)
        return stream

    return mutant


def _on(topic: str, **ids: str) -> Mutant:
    """… on a topic of other ids than it should have, which the message agrees with."""

    def mutant() -> Stream:
        stream = good_gateway()
        stream.publish(topic, as_bytes(stream.envelope(**ids)))
        return stream

    return mutant


def _connected(**changes: Any) -> Mutant:
    """A gateway that connects in another way."""

    def mutant() -> Stream:
        stream = good_gateway()
        stream.connect(client_id="gw-2", **changes)
        stream.poll()
        return stream

    return mutant


def _deep(payload: bytes) -> bytes:
    return payload.replace(
        b'"schemaVersion"', b'"x":' + b"[" * 16 + b"]" * 16 + b',"schemaVersion"'
    )


def _event_of(**changes: Any) -> Mutant:
    def mutant() -> Stream:
        stream = good_gateway()
        stream.event(**changes)
        return stream

    return mutant


def _event_with_qos_0() -> Stream:
    stream = good_gateway()
    event = stream.event()
    stream.publish(event.topic, event.payload, qos=0, packet_id=None)
    return stream


def _commands_from_a_gateway() -> Stream:
    stream = good_gateway()
    stream.publish(command_topic(), as_bytes(stream.command()))
    return stream


def _subscribed_with_qos_0() -> Stream:
    stream = good_gateway()
    stream.subscribe(f"{ROOT}/meter/+/command", qos=0)
    return stream


# --- the course of readings -----------------------------------------------------------------------


def _zeros_for_a_silent_meter() -> Stream:
    stream = good_gateway()
    lost = [{"obis": "1.8.0", "value": 0, "unit": "kWh", "quality": "comms_lost"}]
    stream.telemetry(registers=lost)
    return stream


def time_goes_on_while_lost() -> Stream:
    """comms_lost with the old value and the time of now, again and again."""
    stream = good_gateway()
    lost = [{**register, "quality": "comms_lost"} for register in GOOD_REGISTERS[:1]]
    stream.poll(METER, times=4, registers=lost)
    return stream


def another_value_while_lost() -> Stream:
    """comms_lost with the right time and another value."""
    stream = good_gateway()
    ts = utc_text(stream.now)
    stream.telemetry(ts=ts)
    lost = registers_with("1.8.0", value=1842.4, quality="comms_lost")[:1]
    stream.telemetry(ts=ts, registers=lost)
    return stream


def _suspect_becomes_good() -> Stream:
    stream = good_gateway()
    ts = utc_text(stream.now)
    stream.telemetry(ts=ts, registers=registers_with("32.7.0", quality="suspect"))
    stream.telemetry(ts=ts)
    return stream


def _hours_as_credit() -> Stream:
    stream = good_gateway()
    for hours in range(1, 8):
        stream.now += timedelta(hours=1)
        stream.telemetry(registers=registers_with("96.8.0", value=4000 + hours))
    return stream


def event_code_as_relay() -> Stream:
    """96.11.1 filled from the meter object of that number."""
    stream = good_gateway()
    stream.telemetry(registers=registers_with("96.11.1", value="17"))
    return stream


def _another_value_at_one_time() -> Stream:
    stream = good_gateway()
    ts = utc_text(stream.now)
    stream.telemetry(ts=ts)
    stream.telemetry(ts=ts, registers=registers_with("1.8.0", value=1842.6))
    return stream


def _random_event_ids() -> Stream:
    stream = good_gateway()
    ts = utc_text(stream.now)
    body = {
        "type": "tamper",
        "state": "instant",
        "severity": "critical",
        "occurredAt": ts,
        "source": "meter",
    }
    for number in ("first", "second"):
        stream.event(ts=ts, event={**body, "eventId": number})
    return stream


def _count_begins_anew() -> Stream:
    stream = good_gateway()
    stream.telemetry(seq=1)
    return stream


def count_goes_back_unseen() -> Stream:
    """A count that begins anew below what the kit had heard, with numbers it had not."""
    stream = Stream(seq=5_000)
    stream.connect()
    stream.poll(times=10)
    stream.seq = 10
    stream.poll()
    return stream


# --- delivery -------------------------------------------------------------------------------------


def _not_sent_again() -> Stream:
    stream = good_gateway()
    stream.telemetry(OTHER)
    stream.publish(TELEMETRY, as_bytes(stream.envelope()), acknowledged=False)
    stream.disconnect(by_kit=True)
    stream.now += INTERVAL
    stream.connect()
    stream.poll(times=4)
    return stream


def event_not_sent_again() -> Stream:
    """An event that had no PUBACK is forgotten."""
    stream = good_gateway()
    body = {"eventId": "x-1", "type": "tamper", "state": "instant", "severity": "critical"}
    body |= {"occurredAt": utc_text(stream.now), "source": "meter"}
    stream.publish(EVENT, as_bytes(stream.envelope(event=body)), acknowledged=False)
    stream.disconnect(by_kit=True)
    stream.connect()
    stream.poll(times=4)
    return stream


def backlog_with_the_time_of_sending() -> Stream:
    """What was measured while the link was lost comes as if it were measured now."""
    stream = good_gateway()
    stream.begin(Act.NETWORK_LOST)
    stream.disconnect(by_kit=True)
    stream.now += timedelta(minutes=5)
    stream.end(Act.NETWORK_LOST)
    stream.connect()
    for _ in range(10):
        stream.telemetry(METER)
        stream.telemetry(OTHER)
    stream.poll(times=4)
    return stream


def packet_id_of_another() -> Stream:
    """A packet id is used again while its message has no PUBACK."""
    stream = good_gateway()
    stream.publish(TELEMETRY, as_bytes(stream.envelope()), packet_id=7, acknowledged=False)
    stream.now += INTERVAL
    stream.publish(TELEMETRY, as_bytes(stream.envelope()), packet_id=7)
    return stream


def _sent_again_without_dup() -> Stream:
    stream = good_gateway()
    payload = as_bytes(stream.envelope())
    stream.publish(TELEMETRY, payload, packet_id=7, acknowledged=False)
    stream.publish(TELEMETRY, payload, packet_id=7)
    return stream


def _no_backlog() -> Stream:
    stream = good_gateway()
    network_lost(stream, delivered=0)
    return stream


def most_of_a_backlog_lost() -> Stream:
    """Of six minutes two come."""
    stream = good_gateway()
    network_lost(stream, minutes=6, delivered=2)
    return stream


def event_of_another_shape() -> Stream:
    """The profile names no payload for events, so a vendor has one of its own."""
    stream = good_gateway()
    stream.publish(EVENT, b'{"alarm":"cover"}')
    return stream


# --- silence, sessions, commands ------------------------------------------------------------------


def _nothing_said_of_a_silent_meter() -> Stream:
    stream = ordinary()
    stream.begin(Act.METER_UNPLUGGED, METER)
    stream.poll(OTHER, times=4)
    stream.end(Act.METER_UNPLUGGED)
    return stream


def another_meter_is_called_silent() -> Stream:
    """The unplugged meter is passed over, and its neighbour said to be silent."""
    stream = ordinary()
    stream.begin(Act.METER_UNPLUGGED, METER)
    last = utc_text(stream.now - INTERVAL)
    lost = [{**register, "quality": "comms_lost"} for register in GOOD_REGISTERS]
    stream.poll(OTHER, times=4, ts=last, registers=lost)
    stream.end(Act.METER_UNPLUGGED)
    return stream


def _session_without_an_end() -> Stream:
    stream = good_gateway()
    stream.publish(SESSION_TOPIC, stream.accept(9, validTo=None))
    return stream


def _offer_without_answer() -> Stream:
    stream = good_gateway()
    stream.send(f"{ROOT}/session/sip-2", as_bytes(stream.session()), Act.SESSION_OFFERED)
    stream.poll(times=2)
    return stream


def _nonce_used_twice() -> Stream:
    stream = good_gateway()
    stream.now += timedelta(seconds=2)
    stream.publish(SESSION_TOPIC, stream.accept(2))
    return stream


def _obeyed(act: Act) -> Mutant:
    def mutant() -> Stream:
        stream = good_gateway()
        forge(stream, act, obeyed=True)
        return stream

    return mutant


def _two_ends() -> Stream:
    stream = good_gateway()
    command = stream.command(seq=9)
    stream.send(command_topic(), as_bytes(command), Act.COMMAND_GIVEN)
    stream.report(command)
    stream.report(command, ReportStatus.FAILED)
    return stream


def no_report() -> Stream:
    """A command of which nothing is ever told."""
    stream = good_gateway()
    stream.send(command_topic(), as_bytes(stream.command(seq=9)), Act.COMMAND_GIVEN)
    stream.poll(times=3)
    return stream


def _report_of_what_was_asked() -> Stream:
    stream = good_gateway()
    command = stream.command(seq=9)
    stream.send(command_topic(), as_bytes(command), Act.COMMAND_GIVEN)
    stream.report(command)
    stream.relay(connected=True)
    return stream


GATEWAYS: Mapping[str, Mutant] = {
    "OA-TOP-001": _on(f"/{TELEMETRY}"),
    "OA-TOP-002": _reading(meterSerial="DS1000-3"),
    "OA-TOP-003": _on(f"openami/v1/{FEEDER}/pole#1/meter/{METER}/telemetry"),
    "OA-TOP-004": _on(
        f"openami/v1/{FEEDER}/{'g' * 52}/meter/{METER}/telemetry",
    ),
    "OA-TOP-005": _commands_from_a_gateway,
    "OA-TOP-006": _published(retain=True),
    "OA-QOS-001": _published(qos=0, packet_id=None),
    "OA-QOS-002": _event_with_qos_0,
    "OA-QOS-004": _subscribed_with_qos_0,
    "OA-TLS-001": _connected(tls=None),
    "OA-MQT-001": _connected(protocol="3.1"),
    "OA-DEL-001": _not_sent_again,
    "OA-DEL-002": _sent_again_without_dup,
    "OA-DEL-003": _no_backlog,
    "OA-ENV-001": _bytes(lambda payload: payload + b" " * MESSAGE_BYTES_MAX),
    "OA-ENV-002": _bytes(_deep),
    "OA-ENV-003": _bytes(lambda payload: payload[:-1]),
    "OA-ENV-004": _bytes(lambda payload: b"[" + payload + b"]"),
    "OA-ENV-005": _reading(ts=None),
    "OA-ENV-006": _reading(schemaVersion="1.0"),
    "OA-ENV-007": _reading(meterSerial=88421),
    "OA-ENV-008": _reading(ts="2026-11-27 12:00:00"),
    "OA-ENV-009": _reading(sessionId=7),
    "OA-ENV-010": _bytes(lambda payload: payload.replace(b"{", b'{"ts":"",', 1)),
    "OA-ENV-011": _reading(ts="2026-11-28T12:00:00Z"),
    "OA-ENV-012": _reading(ts="1970-01-01T00:00:12Z", registers=[GOOD_REGISTERS[1]]),
    "OA-ENV-013": _reading(seq=-1),
    "OA-REG-001": _reading(registers={"1.8.0": 1842.5}),
    "OA-REG-002": _register(obis="energy"),
    "OA-REG-003": _register(quality=None),
    "OA-REG-004": _register(value=[1842.5]),
    "OA-REG-005": _register(unit=1),
    "OA-REG-006": _register(quality="ok"),
    "OA-REG-007": _register(unit="kWh\0"),
    "OA-REG-008": _register(value=1842500, unit="Wh"),
    "OA-REG-009": _register(value="1842.5"),
    "OA-REG-010": _reading(registers=[]),
    "OA-REG-011": _register(value=2**53),
    "OA-REG-012": _zeros_for_a_silent_meter,
    "OA-REG-013": _suspect_becomes_good,
    "OA-REG-014": _hours_as_credit,
    "OA-REG-015": _another_value_at_one_time,
    "OA-REG-016": _register(obis="1.8.77"),
    "OA-EVT-001": _event_of(registers=[]),
    "OA-EVT-002": _event_of(event={"code": 17}),
    "OA-EVT-003": _random_event_ids,
    "OA-SEQ-001": _count_begins_anew,
    "OA-SES-002": _obeyed(Act.COMMAND_WITHOUT_SESSION),
    "OA-SES-003": _session_without_an_end,
    "OA-SES-004": _offer_without_answer,
    "OA-SES-005": _nonce_used_twice,
    "OA-SIL-001": _nothing_said_of_a_silent_meter,
    **{number: _obeyed(act) for act, number in FORGERIES.items()},
    "OA-CMD-005": _two_ends,
    "OA-CMD-006": _report_of_what_was_asked,
}

# Further ways to break some of them.
MORE_GATEWAYS: Mapping[str, tuple[str, Mutant]] = {
    "a topic with a typing error": (
        "OA-TOP-001",
        _on(f"openami/v1/{FEEDER}/{GATEWAY}/meters/{METER}/telemetry"),
    ),
    "an envelope on a topic of the vendor's": ("OA-TOP-001", _on("vendor/meter/1")),
    "a will on a topic below the root": (
        "OA-TOP-001",
        _connected(will_topic=f"openami/v1/{FEEDER}/{GATEWAY}/status"),
    ),
    "QoS 2": ("OA-QOS-001", _published(qos=2)),
    "an id with a blank": ("OA-TOP-003", _reading(sessionId="sip 1")),
    "invalid UTF-8": ("OA-ENV-003", _bytes(lambda payload: payload.replace(b"kWh", b"\xb0C"))),
    "null": ("OA-REG-004", _bytes(lambda payload: payload.replace(b"1842.5", b"null"))),
    "comms_lost whose time goes on": ("OA-REG-012", time_goes_on_while_lost),
    "comms_lost with another value": ("OA-REG-012", another_value_while_lost),
    "an event code as the relay's state": ("OA-REG-014", event_code_as_relay),
    "two values of one register in one message": (
        "OA-REG-015",
        _reading(registers=[GOOD_REGISTERS[0], {**GOOD_REGISTERS[0], "value": 1}]),
    ),
    "a count that goes back unseen": ("OA-SEQ-001", count_goes_back_unseen),
    "a packet id of another message": ("OA-DEL-002", packet_id_of_another),
    "two thirds of a backlog are lost": ("OA-DEL-003", most_of_a_backlog_lost),
    "an event without an event": ("OA-EVT-002", _event_of(event=None)),
    "an event of the vendor's own shape": ("OA-EVT-001", event_of_another_shape),
    "an event that is not sent again": ("OA-DEL-001", event_not_sent_again),
    "a backlog with the time of sending": ("OA-DEL-003", backlog_with_the_time_of_sending),
    "another meter is called silent": ("OA-SIL-001", another_meter_is_called_silent),
    "no report": ("OA-CMD-005", no_report),
}


# --- head-ends ------------------------------------------------------------------------------------


def _command(**changes: Any) -> Mutant:
    def mutant() -> Stream:
        stream = good_headend()
        stream.publish(command_topic(), as_bytes(stream.command(seq=3, **changes)))
        return stream

    return mutant


def _command_published(**how: Any) -> Mutant:
    def mutant() -> Stream:
        stream = good_headend()
        stream.publish(command_topic(), as_bytes(stream.command(seq=3)), **how)
        return stream

    return mutant


def _headend_connected(**changes: Any) -> Mutant:
    def mutant() -> Stream:
        stream = good_headend()
        stream.connect(client_id="hes-2", **changes)
        stream.publish(command_topic(), as_bytes(stream.command(seq=3)))
        return stream

    return mutant


def _headend_subscribed_with_qos_0() -> Stream:
    stream = good_headend()
    stream.subscribe("openami/v1/+/+/meter/+/telemetry", qos=0)
    return stream


def _headend_without_dup() -> Stream:
    stream = good_headend()
    payload = as_bytes(stream.command(seq=3))
    stream.publish(command_topic(), payload, packet_id=7, acknowledged=False)
    stream.publish(command_topic(), payload, packet_id=7)
    return stream


def _command_before_the_offer() -> Stream:
    stream = good_headend()
    stream.publish(command_topic(), as_bytes(stream.command(seq=3, sessionId="sip-9")))
    stream.publish(f"{ROOT}/session/sip-9", as_bytes(stream.session()))
    return stream


def command_without_session() -> Stream:
    """A command that names no session at all."""
    stream = good_headend()
    command = {"command": {"action": "relay.disconnect"}, "registers": []}
    stream.publish(command_topic(), as_bytes(command))
    return stream


def _offer_without_scope() -> Stream:
    stream = good_headend()
    members = {name: value for name, value in stream.session().items() if name != "feederScope"}
    stream.publish(SESSION_TOPIC, as_bytes(members))
    return stream


def _number_again() -> Stream:
    stream = good_headend()
    stream.publish(command_topic(), as_bytes(stream.command(seq=2)))
    return stream


def stale_nonce() -> Stream:
    """A command that echoes what was never in force."""
    stream = headend_with_session()
    stream.publish(command_topic(), as_bytes(stream.command(nonce=5)))
    return stream


def shared_subscription_with_qos_0() -> Stream:
    """Two head-ends share one stream, and lose some of it."""
    stream = good_headend()
    stream.subscribe("$share/hes/openami/v1/+/+/meter/+/telemetry", qos=0)
    return stream


def number_goes_back() -> Stream:
    """A command whose number was passed long ago."""
    stream = good_headend()
    stream.publish(command_topic(), as_bytes(stream.command(seq=9)))
    stream.publish(command_topic(), as_bytes(stream.command(seq=5)))
    return stream


HEADENDS: Mapping[str, Mutant] = {
    "OA-TOP-006": _command_published(retain=True),
    "OA-QOS-003": _command_published(qos=0, packet_id=None),
    "OA-QOS-004": _headend_subscribed_with_qos_0,
    "OA-TLS-001": _headend_connected(tls=None),
    "OA-MQT-001": _headend_connected(protocol="3.1"),
    "OA-DEL-002": _headend_without_dup,
    "OA-SES-002": _command_before_the_offer,
    "OA-SES-003": _offer_without_scope,
    "OA-CMD-007": _command(registers=[]),
    "OA-CMD-008": _number_again,
}
MORE_HEADENDS: Mapping[str, tuple[str, Mutant]] = {
    "registers that say another end": (
        "OA-CMD-007",
        _command(registers=[{**GOOD_REGISTERS[3], "value": "connected"}]),
    ),
    "a number that goes back": ("OA-CMD-008", number_goes_back),
    "a nonce that is not in force": ("OA-CMD-008", stale_nonce),
    "a shared subscription with QoS 0": ("OA-QOS-004", shared_subscription_with_qos_0),
}
