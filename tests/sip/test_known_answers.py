"""The bytes of docs/sip.md, and the vectors others can test themselves with."""

import json
from collections.abc import Callable

import pytest
from tests.cases import in_one_test
from tests.profile.vectors import Vector, vectors
from tests.sip.known import NONCE, command, judged, session
from tests.sip.make_vectors import made
from tests.sip.village import HES, POLE

from openami.sip.acts import ActType, make_act
from openami.sip.canonical import decode_base64url, read_document
from openami.sip.compose import document_of
from openami.sip.errors import SipError

CORE = (
    '{"feederScope":{"feederId":"feeder-north-paravur-01","gatewayId":"pole-ems-0042","meters":["*"]},'
    '"participants":[{"can":["relay.disconnect","relay.reconnect"],"id":"hes-1",'
    '"kid":"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k","role":"hes"},{"id":"pole-ems-0042",'
    '"kid":"FtIu-VbGrfe_KB6CH7GNwODB72MNxj_ml11dEvO-7kk","role":"gateway"}],'
    '"sessionId":"sip-7f3a9c2e","validFrom":"2026-06-22T14:00:00Z","validTo":"2026-06-23T14:00:00Z"}'
)
CORE_DIGEST = "2iGRbsMoBw_fN6J4p5F2Wvq3F-jHmDXH-cXUoyoXVTk"
OFFER = (
    "eyJhbGciOiJFZDI1NTE5IiwiaWF0IjoxNzgyMTM4NjAwLCJraWQiOiJrUHJLX3FteFZXYVlWQTl3d0JGNkl1bzN2Vnp6"
    "N1R4SENUd1hCeWdyUzRrIiwidHlwIjoic2lwLW9mZmVyIn0..Cw6JjjYc2ytd2P0ea0ewlcwdRl1CktrK8PuQWsEjN-IB"
    "xoV540CqoguyY8My3Qr8lan4Q0iJavhIlyjYJ2XnDA"
)
ACCEPT = (
    "eyJhbGciOiJFZDI1NTE5IiwiaWF0IjoxNzgyMTM4NjAxLCJraWQiOiJGdEl1LVZiR3JmZV9LQjZDSDdHTndPREI3Mk1O"
    "eGpfbWwxMWRFdk8tN2trIiwibm9uY2UiOiJBQUVDQXdRRkJnY0lDUW9MREEwT0R3IiwidHlwIjoic2lwLWFjY2VwdCJ9"
    "..p6vsTUEl3p_r-6tAoAVtM2hP5UFqUuvlsSTbRQD5ACYFwkw7s-QsD5QiAifQX5fzsiCWLW7b1CY6svFDVfHWDA"
)
COMMAND = (
    '{"command":{"action":"relay.disconnect","nonce":"AAECAwQFBgcICQoLDA0ODw",'
    '"notAfter":"2026-06-22T14:35:05Z","seq":1},"feederId":"feeder-north-paravur-01",'
    '"gatewayId":"pole-ems-0042","meterSerial":"DS1000-88421","registers":[{"obis":"96.11.1",'
    '"quality":"good","unit":"enum","value":"disconnected"}],"schemaVersion":"0.1",'
    '"sessionId":"sip-7f3a9c2e","ts":"2026-06-22T14:30:05Z"}'
)
COMMAND_DIGEST = "_oT1gJYEJkTgIcgqS96uD1xQ1324g_0uACFyWPrKOp4"
COMMAND_ACT = (
    "eyJhbGciOiJFZDI1NTE5IiwiaWF0IjoxNzgyMTM4NjA1LCJraWQiOiJrUHJLX3FteFZXYVlWQTl3d0JGNkl1bzN2Vnp6"
    "N1R4SENUd1hCeWdyUzRrIiwidHlwIjoic2lwLWNvbW1hbmQifQ..8ORLCuNGsV0kPLj9CX80LyyJ6kUNzQ6oMj7u6I6I"
    "2n20bSKoUJLEaFBA-NfHvZD56JYG7Cl37S5bB9qX7NlhAg"
)


def test_thumbprints() -> None:
    assert HES.kid == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert POLE.kid == "FtIu-VbGrfe_KB6CH7GNwODB72MNxj_ml11dEvO-7kk"


def test_a_session_its_offer_and_its_accept() -> None:
    core = document_of(session())
    assert core.canonical.decode() == CORE
    assert core.digest == CORE_DIGEST
    assert make_act(HES, core, ActType.OFFER, iat=1782138600) == OFFER
    assert make_act(POLE, core, ActType.ACCEPT, iat=1782138601, nonce=NONCE) == ACCEPT


def test_a_command_and_its_act() -> None:
    document = document_of(command())
    assert document.canonical.decode() == COMMAND
    assert document.digest == COMMAND_DIGEST
    assert make_act(HES, document, ActType.COMMAND, iat=1782138605) == COMMAND_ACT


# --- the vectors -------------------------------------------------------------------------------------


def each(verdict: str) -> Callable[[Callable[[Vector], None]], Callable[[], None]]:
    found = vectors("session", "command", verdict=verdict)
    return in_one_test(found, name=lambda v: str(v.content["id"]))


@each("y_")
def test_a_good_vector_verifies(vector: Vector) -> None:
    assert judged(vector) == vector.result["acts"]
    document = read_document(vector.payload)
    assert document.canonical.decode() == vector.result["canonical"]
    assert document.digest == vector.result["digest"]
    assert len(decode_base64url(document.digest)) == 32


@each("n_")
def test_a_bad_vector_is_refused_with_its_code(vector: Vector) -> None:
    with pytest.raises(SipError) as caught:
        judged(vector)
    assert caught.value.code == vector.result["code"]


def test_the_vectors_are_the_ones_that_are_made() -> None:
    """``python -m tests.sip.make_vectors`` writes them; signatures are deterministic, so nothing may differ."""
    stored = {v.content["id"]: v.content for v in vectors("session", "command")}
    assert stored == json.loads(json.dumps(made()))
