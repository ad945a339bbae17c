"""What the firmware measures arrives as the profile's registers; what it cannot know is not claimed."""

from datetime import timedelta

import pytest
from tests.bridge.bridged import (
    MAP,
    Bridged,
    effect,
    envelopes,
    of_meter,
    qualities,
    reasons,
    values,
)
from tests.bridge.firmware_samples import (
    POLE,
    START,
    as_payload,
    cabinet,
    float32,
    harmonics,
    leakage,
    meter,
    nameplate,
    panel,
)

from openami.bridge.findings import Effect, Reason
from openami.profile import EventState, EventTopic, parse_topic


def test_a_meters_message_is_its_registers_in_the_profiles_units() -> None:
    bridged = Bridged().settled()
    told = bridged.round()
    (envelope,) = of_meter(told, "DDS-1000")
    assert (envelope.feeder_id, envelope.gateway_id) == ("feeder-a", "pole-7")
    assert set(values(envelope)) == {
        *("32.7.0", "31.7.0", "1.7.0", "2.7.0", "13.7.0", "14.7.0", "1.8.0"),
    }
    assert set(qualities(envelope).values()) == {"good"}
    assert values(envelope)["1.7.0"] == 0.2
    assert values(envelope)["2.7.0"] == 0.0
    assert values(envelope)["1.8.0"] == pytest.approx(1842.55)  # 50 Wh after three rounds of 200 W
    assert {register.unit for register in envelope.registers} == {"V", "A", "kW", "1", "Hz", "kWh"}


def test_it_is_stamped_with_the_poll_and_not_with_its_arrival() -> None:
    """Eight seconds before the round was sent, though the firmware knows no time of day."""
    bridged = Bridged().settled()
    at = bridged.now
    (envelope,) = of_meter(bridged.round(), "DDS-1002")
    assert abs(envelope.ts - (at - timedelta(seconds=8))) < timedelta(seconds=0.2)


def test_a_panel_has_the_phases_that_have_a_voltage_and_their_sum() -> None:
    bridged = Bridged().settled()
    members = panel(
        bridged.uptime_ms(), PhVphB=231.0, AphB=1.0, WphB=-225, PFphB=0.97, Varph=0, AphC=0
    )
    (envelope,) = envelopes(bridged.hear("subpanel_3Ph", members))
    assert envelope.meter_serial == "PANEL-7"
    got = values(envelope)
    assert (got["21.7.0"], got["41.7.0"]) == (0.617, -0.225)
    assert (got["1.7.0"], got["2.7.0"]) == (0.392, 0.0)
    assert "72.7.0" not in got
    assert "71.7.0" not in got


def test_a_panels_power_is_not_summed_from_a_part_of_its_phases() -> None:
    bridged = Bridged().settled()
    members = panel(bridged.uptime_ms(), PhVphB=231.0, AphB=1.0)
    del members["WphB"]
    (envelope,) = envelopes(bridged.hear("subpanel_3Ph", members))
    assert "21.7.0" in values(envelope)
    assert "1.7.0" not in values(envelope)


def test_zeros_of_missing_sensors_are_no_measurements() -> None:
    bridged = Bridged().settled()
    told = bridged.round()
    published = {str(r.obis) for envelope in envelopes(told) for r in envelope.registers}
    nothing = {"3.7.0", "4.7.0", "9.7.0", "2.8.0", "3.8.0", "128.7.0", "128.7.1", "128.7.2"}
    assert not published & (nothing | {"32.7.124", "31.7.124", "52.7.0", "53.7.0"})


def test_reactive_power_that_is_measured_is_published_by_its_sign() -> None:
    bridged = Bridged().settled()
    (drawn,) = envelopes(bridged.hear("meter_0", meter(bridged.uptime_ms(), Var=198.2, VA=651)))
    assert (values(drawn)["3.7.0"], values(drawn)["9.7.0"]) == (0.1982, 0.651)
    bridged.now += timedelta(seconds=30)
    (fed,) = envelopes(bridged.hear("meter_0", meter(bridged.uptime_ms(), Var=-198.2)))
    assert values(fed)["4.7.0"] == 0.1982
    assert "3.7.0" not in values(fed)


def test_export_is_a_register_of_its_own() -> None:
    bridged = Bridged().settled()
    members = meter(bridged.uptime_ms(), PhW=-617, TotWhExport=2500)
    (envelope,) = envelopes(bridged.hear("meter_0", members))
    got = values(envelope)
    assert (got["1.7.0"], got["2.7.0"], got["2.8.0"]) == (0.0, 0.617, 2.5)


def test_a_serial_number_that_nobody_read_is_not_published() -> None:
    """A person wrote it into the map; as a reading it would vouch for that, or make every meter suspect."""
    bridged = Bridged()
    told = [each for _ in range(3) for each in bridged.round()]
    assert not {"96.1.0"} & {code for envelope in envelopes(told) for code in values(envelope)}


def test_the_nameplate_is_the_firmwares_version_once_a_day() -> None:
    bridged = Bridged()
    (envelope,) = envelopes(bridged.hear("subpanel_MFR", nameplate(bridged.uptime_ms())))
    assert values(envelope) == {"0.2.0": "1.0.2"}
    bridged.now += timedelta(seconds=300)
    assert not envelopes(bridged.hear("subpanel_MFR", nameplate(bridged.uptime_ms())))


@pytest.mark.parametrize("version", ["", "a\x1b[2J", "x" * 65, None, True, ["1"]])
def test_a_version_that_is_none_is_not_published(version: object) -> None:
    bridged = Bridged()
    if isinstance(version, list):
        version = "\n".join(["1", "2"])
    members = nameplate(bridged.uptime_ms(), Vr=version)
    assert not envelopes(bridged.hear("subpanel_MFR", members))


# --- the cabinet ----------------------------------------------------------------------------------


def test_the_cabinets_air() -> None:
    bridged = Bridged().settled()
    (envelope,) = envelopes(bridged.hear("subpanel_ENV", cabinet(bridged.uptime_ms())))
    assert values(envelope) == {"96.9.0": 31.4, "96.9.2": 62.5}


def test_a_frost_is_read_as_unsigned_and_mended() -> None:
    bridged = Bridged().settled()
    told = bridged.hear("subpanel_ENV", cabinet(bridged.uptime_ms(), temperature_C=6552.6))
    (envelope,) = envelopes(told)
    assert values(envelope)["96.9.0"] == -1.0
    assert effect(told, Reason.TEMPERATURE_WRAPPED) is Effect.MENDED


def test_a_sensor_that_was_never_read() -> None:
    bridged = Bridged().settled()
    members = cabinet(bridged.uptime_ms(), temperature_C=0, humidity_percent=0)
    told = bridged.hear("subpanel_ENV", members)
    assert not envelopes(told)
    assert reasons(told) == {Reason.NOT_MEASURED}


def test_a_leakage_that_is_not_zero_is_told_and_not_vouched_for() -> None:
    bridged = Bridged().settled()
    told = bridged.hear("subpanel_RCMleaks", leakage(bridged.uptime_ms(), dc=7.5))
    (envelope,) = envelopes(told)
    assert values(envelope) == {"128.7.2": 7.5}
    assert qualities(envelope) == {"128.7.2": "suspect"}
    assert effect(told, Reason.SENSOR_UNKNOWN) is Effect.SUSPECT


def test_leakage_and_harmonics_of_zeros_are_left_out() -> None:
    bridged = Bridged().settled()
    for name, members in (
        ("subpanel_RCMleaks", leakage(bridged.uptime_ms())),
        ("subpanel_harmonics", harmonics(bridged.uptime_ms())),
        ("relay/trip_3", b"1"),
        ("subpanel_BWPubOut", b"{}"),
    ):
        told = bridged.hear(name, members)
        assert not told.outgoing
        assert reasons(told) <= {Reason.NO_REGISTERS, Reason.FOREIGN_TOPIC}


# --- the door -------------------------------------------------------------------------------------


@pytest.mark.parametrize("topic", [f"openami/{POLE}//door", f"openami/{POLE}/door"])
def test_the_door_is_an_event_on_either_spelling_of_its_topic(topic: str) -> None:
    bridged = Bridged()
    (opened,) = bridged.hear("", b"open", topic=topic).outgoing
    assert isinstance(opened.topic, EventTopic)
    assert parse_topic(str(opened.topic)) == opened.topic
    assert opened.envelope.event is not None
    assert opened.envelope.event.type == "cabinet_open"
    assert opened.envelope.event.state is EventState.RAISED
    bridged.now += timedelta(seconds=30)
    assert reasons(bridged.hear("", b"open", topic=topic)) == {Reason.DUPLICATE}
    (closed,) = bridged.hear("", b"closed", topic=topic).outgoing
    assert closed.envelope.event is not None
    assert closed.envelope.event.state is EventState.CLEARED


@pytest.mark.parametrize("payload", [b"", b"OPEN", b'"open"', b"\xff", b"open" * 2000])
def test_a_door_that_says_something_else(payload: bytes) -> None:
    assert not Bridged().hear("", payload, topic=f"openami/{POLE}//door").outgoing


# --- who is who -----------------------------------------------------------------------------------


def test_an_unknown_pole_is_told_once_and_never_guessed() -> None:
    bridged = Bridged()
    first, second = (
        bridged.hear("", meter(1000), topic="openami/StreetPoleEMS_000001/meter_0")
        for _ in range(2)
    )
    assert reasons([first, second]) == {Reason.UNKNOWN_POLE}
    assert (first.is_new, second.is_new) == (True, False)
    assert not first.outgoing
    assert not second.outgoing


def test_strangers_are_remembered_up_to_a_bound() -> None:
    bridged = Bridged()
    told = [
        bridged.hear("", meter(1000), topic=f"openami/StreetPoleEMS_{n:06X}/meter_0")
        for n in range(200)
    ]
    assert sum(each.is_new for each in told) == 64


def test_a_meter_without_a_serial_is_left_out() -> None:
    told = Bridged().hear("meter_3", meter(1000, 3))
    assert not told.outgoing
    assert reasons(told) == {Reason.UNKNOWN_METER}


def test_without_a_panel_only_the_meters_are_published() -> None:
    known = MAP.__class__(
        topic=POLE,
        feeder_id=MAP.feeder_id,
        gateway_id=MAP.gateway_id,
        meters=MAP.meters,
        panel=None,
        patience=MAP.patience,
    )
    bridged = Bridged(known)
    told = bridged.settled().round()
    assert {envelope.meter_serial for envelope in envelopes(told)} == set(MAP.meters.values())
    assert Reason.NO_PANEL in reasons(told)
    assert set(qualities(of_meter(told, "DDS-1000")[0]).values()) == {"good"}, "its clock is known"


@pytest.mark.parametrize(
    "topic",
    [
        "openami",
        "openami/v1/f/g/meter/s/telemetry",
        "openami/v1/meter_0",
        f"openami/{POLE}",
        f"openami/{POLE}/a/b/c/d/e",
        f"openami/{POLE}/x/door",
        f"other/{POLE}/meter_0",
        "openami//meter_0",
        "openami/" + "x" * 33 + "/meter_0",
        f"/openami/{POLE}/meter_0",
        "openami/pole\n/meter_0",
    ],
)
def test_topics_that_are_not_the_firmwares(topic: str) -> None:
    told = Bridged().hear("", meter(1000), topic=topic)
    assert not told.outgoing
    assert reasons(told) == {Reason.FOREIGN_TOPIC}


# --- what is no message ---------------------------------------------------------------------------


def test_a_message_cut_at_any_byte_is_left_out() -> None:
    whole = as_payload(meter(1000))
    for length in range(len(whole)):
        told = Bridged().hear("meter_0", whole[:length])
        assert not told.outgoing
        assert reasons(told) == {Reason.NOT_JSON}
    assert Bridged().hear("meter_0", whole).outgoing


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b" " * 4097, Reason.TOO_LARGE),
        (b"connected", Reason.NOT_JSON),
        (b"[]", Reason.NOT_JSON),
        (b"{}", Reason.WRONG_MODEL),
        (b'{"model_id":213}', Reason.WRONG_MODEL),
        (b'{"model_id":true}', Reason.WRONG_MODEL),
        (b'{"model_id":11,"model_id":11}', Reason.NOT_JSON),
        (b'{"model_id":11,"PhV":NaN}', Reason.NOT_JSON),
        (b'{"model_id":11}', Reason.NOT_MEASURED),
        (b'{"model_id":11,"PhV":"230"}', Reason.NOT_A_NUMBER),
        (b'{"model_id":11,"PhV":true}', Reason.NOT_A_NUMBER),
        (b'{"model_id":11,"PhV":1e999}', Reason.NOT_A_NUMBER),
        (b"\xff\xfe", Reason.NOT_JSON),
        (b"[" * 3000, Reason.NOT_JSON),
    ],
)
def test_what_is_no_message(payload: bytes, reason: Reason) -> None:
    told = Bridged().hear("meter_0", payload)
    assert not told.outgoing
    assert reason in reasons(told)


def test_null_is_no_number_and_no_fault() -> None:
    """ArduinoJson prints null for a NaN."""
    bridged = Bridged().settled()
    told = bridged.hear("meter_0", meter(bridged.uptime_ms(), PF=None, Hz=None))
    (envelope,) = envelopes(told)
    assert not {"13.7.0", "14.7.0"} & set(values(envelope))
    assert not told.findings


def test_a_power_factor_of_zero_is_one_nobody_computed() -> None:
    bridged = Bridged().settled()
    told = bridged.hear("meter_0", meter(bridged.uptime_ms(), PF=0))
    assert "13.7.0" not in values(envelopes(told)[0])
    assert not told.findings


def test_a_retained_message_is_of_nobody_knows_when() -> None:
    told = Bridged().hear("meter_0", meter(1000), retain=True)
    assert not told.outgoing
    assert reasons(told) == {Reason.RETAINED}


def test_a_command_on_the_firmwares_broker_is_seen_and_nothing_more() -> None:
    told = Bridged().hear("cmd", b'{"cmd":"relay","address":2,"state":"open"}')
    assert not told.outgoing
    assert reasons(told) == {Reason.COMMAND_SEEN}


def test_a_flood_does_not_pass() -> None:
    """The firmware's broker asks nobody who he is."""
    bridged = Bridged().settled()
    told = []
    for n in range(1000):
        at = bridged.now + timedelta(milliseconds=10 * n)
        members = meter(bridged.uptime_ms() + 10 * n, PhV=230 + n / 1000)
        told.append(bridged.hear("meter_0", members, at))
    assert len(envelopes(told)) == 2  # ten seconds
    assert Reason.TOO_OFTEN in reasons(told)


def test_the_same_message_at_once_is_a_duplicate() -> None:
    bridged = Bridged().settled()
    members = meter(bridged.uptime_ms())
    assert bridged.hear("meter_0", members).outgoing
    told = bridged.hear("meter_0", members, bridged.now + timedelta(seconds=1))
    assert not told.outgoing
    assert reasons(told) == {Reason.DUPLICATE}


def test_a_clock_that_nobody_vouches_for_dates_nothing_as_good() -> None:
    bridged = Bridged(clock_trusted=False)
    told = bridged.round() + bridged.round() + bridged.round()
    published = envelopes(told)
    assert published
    assert {quality for e in published for quality in qualities(e).values()} == {"suspect"}
    assert Reason.CLOCK_UNTRUSTED in reasons(told)


def test_the_start_is_where_the_samples_say() -> None:
    assert START.tzinfo is not None
    assert float32(0.99) != 0.99
