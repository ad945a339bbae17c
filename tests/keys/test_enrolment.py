"""Enrolment: over real HTTPS and by file; each refusal, and what a thief, a power cut or a liar can do."""

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from tests.keys.villages import (
    FEEDER,
    GATEWAY,
    NOW,
    OTHER,
    Watch,
    enrolled,
    new_village,
    wall,
)

from openami.gateway.enrolment import EnrolmentFailed, GatewayKeys, enrol_by_token, renew
from openami.headend.enrolment import EnrolmentDesk
from openami.headend.enrolment_server import enrolment_app, serve_enrolment
from openami.headend.village import Village, VillageError, add_gateway
from openami.keyfiles import load_roots, load_signer
from openami.pki.certificates import (
    LIFE,
    common_name_of,
    make_signing_request,
    new_transport_key,
    read_certificate,
)
from openami.pki.enrolment import (
    ANSWER_BYTES_MAX,
    EnrolmentError,
    Refusal,
    make_request,
    read_answer,
    read_request,
    read_token,
    token_text,
)
from openami.pki.names import CommonName, GatewayName
from openami.sip.actions import Role
from openami.sip.acts import ActType
from openami.sip.canonical import encode_base64url
from openami.sip.compose import sign
from openami.sip.keyring import read_keyring
from openami.sip.keys import KeySigner, PublicKey


@pytest.fixture
def village(tmp_path: Path) -> Village:
    return new_village(tmp_path / "operator")


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def desk(village: Village, watch: Watch) -> EnrolmentDesk:
    return EnrolmentDesk(village, watch)


def refused(code: Refusal) -> Any:
    return pytest.raises(EnrolmentError, match=f"^{code}: ")


def signer() -> KeySigner:
    return KeySigner(Ed25519PrivateKey.generate())


def request_of(name: GatewayName = GATEWAY, **changed: object) -> bytes:
    """Return a request with some members changed, signed as it then is."""
    key = signer()
    made = json.loads(make_request(name, key, key.public, new_transport_key(), iat=1))
    del made["signature"]
    return json.dumps(sign({**made, **changed}, key, ActType.ENROL, iat=1)).encode()


def forged(csr: str) -> str:
    """Return a request for a certificate whose signature is wrong in its last bit."""
    der = bytearray(x509.load_pem_x509_csr(csr.encode()).public_bytes(Encoding.DER))
    der[-1] ^= 1
    return x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM).decode()


# --- by token, at the desk -------------------------------------------------------------------------


def test_a_token_enrols_its_gateway_once(desk: EnrolmentDesk, village: Village) -> None:
    """The answer is the gateway's; another request with the same token is refused."""
    token, payload = desk.new_token(GATEWAY), request_of()
    answer = read_answer(
        desk.enrol_by_token(payload, token), read_request(payload), village=village.fingerprint()
    )
    assert common_name_of(answer.certificate) == "feeder-1/gateway-1"
    assert answer.keyring.version == 1
    with refused(Refusal.BAD_TOKEN):
        desk.enrol_by_token(request_of(), token)


def test_an_answer_that_was_lost_is_given_again(desk: EnrolmentDesk) -> None:
    """The very same request gets the very same answer; nothing new is signed."""
    token, payload = desk.new_token(GATEWAY), request_of()
    first = desk.enrol_by_token(payload, token)
    assert desk.enrol_by_token(payload, token) == first
    with desk.village.register() as register:
        assert len(register.certificates(str(GATEWAY))) == 1


def test_a_token_expires_to_the_second(desk: EnrolmentDesk, watch: Watch) -> None:
    token = desk.new_token(GATEWAY, life=timedelta(hours=1))
    watch.pass_(timedelta(hours=1))
    with refused(Refusal.BAD_TOKEN):
        desk.enrol_by_token(request_of(), token)
    watch.pass_(-timedelta(seconds=1))
    desk.enrol_by_token(request_of(), token)


def test_unknown_tokens_tell_nothing(desk: EnrolmentDesk) -> None:
    """Malformed, invented, or of another village: one code; and the request is not even looked at."""
    village = desk.village.fingerprint()
    for token in ("", "x", token_text(bytes(16), village), f"{village}.{village}", f".{village}"):
        with refused(Refusal.BAD_TOKEN):
            desk.enrol_by_token(b"not a request", token)


def test_a_token_is_bound_to_one_gateway(desk: EnrolmentDesk) -> None:
    """And it is not spent by somebody who tries it for another."""
    token = desk.new_token(GATEWAY)
    with refused(Refusal.WRONG_NAME):
        desk.enrol_by_token(request_of(OTHER), token)
    desk.enrol_by_token(request_of(), token)


def test_tokens_are_stored_as_hashes(desk: EnrolmentDesk, village: Village) -> None:
    """Who reads the register cannot enrol with what stands there."""
    token = desk.new_token(GATEWAY)
    secret, _ = read_token(token)
    stored = b"".join(file.read_bytes() for file in village.directory.glob("register.db*"))
    assert secret not in stored
    assert token.split(".")[0].encode() not in stored


def test_two_at_once_use_a_token_once(desk: EnrolmentDesk) -> None:
    """Eight different requests with one token in eight threads: one is answered."""
    token = desk.new_token(GATEWAY)
    payloads = [request_of() for _ in range(8)]
    outcomes: list[str] = []

    def attempt(payload: bytes) -> None:
        try:
            desk.enrol_by_token(payload, token)
            outcomes.append("answered")
        except EnrolmentError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=attempt, args=(payload,)) for payload in payloads]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == sorted([*[Refusal.BAD_TOKEN] * 7, "answered"])


# --- what a request has to be ----------------------------------------------------------------------


def test_requests_that_are_not_what_they_say(desk: EnrolmentDesk) -> None:
    """Each with a good token, which it does not spend."""
    key, other, transport = signer(), signer(), new_transport_key()
    good = json.loads(make_request(GATEWAY, key, key.public, transport, iat=1))
    unsigned = {k: v for k, v in good.items() if k != "signature"}
    weak = encode_base64url(b"\x01" + bytes(31))
    hes = make_signing_request(transport, CommonName("hes-1")).decode()
    wrong = make_signing_request(transport, OTHER.common_name).decode()
    broken = forged(good["csr"])
    token = desk.new_token(GATEWAY)
    cases: list[tuple[Refusal, object]] = [
        (Refusal.BAD_REQUEST, []),
        (Refusal.BAD_REQUEST, {**good, "more": 1}),
        (Refusal.BAD_REQUEST, {k: v for k, v in good.items() if k != "csr"}),
        (Refusal.BAD_REQUEST, {**good, "enrolment": "openami-enrolment-2"}),
        (Refusal.BAD_REQUEST, {**good, "sipKey": 7}),
        (Refusal.WRONG_NAME, {**good, "gatewayId": "hes-1"}),
        (Refusal.WRONG_NAME, {**good, "gatewayId": "+"}),
        (Refusal.WRONG_NAME, {**good, "feederId": "f/x"}),
        (Refusal.WRONG_NAME, {**good, "feederId": 1}),
        (Refusal.WEAK_KEY, {**good, "sipKey": weak}),
        (Refusal.BAD_SIGNATURE, unsigned),
        (Refusal.BAD_SIGNATURE, {**good, "gatewayId": "gateway-9"}),
        (Refusal.BAD_SIGNATURE, {**good, "sipKey": encode_base64url(other.public.raw)}),
        (Refusal.BAD_SIGNATURE, sign(unsigned, other, ActType.ENROL, iat=1)),
        (Refusal.BAD_SIGNATURE, sign(unsigned, key, ActType.REPORT, iat=1)),
        (Refusal.BAD_SIGNATURE, sign({**unsigned, "csr": broken}, key, ActType.ENROL, iat=1)),
        (Refusal.WRONG_NAME, sign({**unsigned, "csr": hes}, key, ActType.ENROL, iat=1)),
        (Refusal.WRONG_NAME, sign({**unsigned, "csr": wrong}, key, ActType.ENROL, iat=1)),
    ]
    for code, members in cases:
        with refused(code):
            desk.enrol_by_token(json.dumps(members).encode(), token)
    desk.enrol_by_token(json.dumps(good).encode(), token)


def test_a_gateway_called_as_a_head_end_never_gets_into_a_keyring(village: Village) -> None:
    """Not by request, and not by hand: it would stand in the head-end's place."""
    with refused(Refusal.WRONG_NAME):
        read_request(request_of(gatewayId="hes-1"))


def test_without_a_keyring_for_its_feeder_nobody_is_enrolled(desk: EnrolmentDesk) -> None:
    elsewhere = GatewayName.parse("feeder-9/gateway-1")
    with refused(Refusal.NO_KEYRING):
        desk.enrol_by_hand(request_of(elsewhere))


# --- by a stick ------------------------------------------------------------------------------------


def test_by_a_stick(village: Village, tmp_path: Path) -> None:
    """Request out, answer in; the keyring that comes along names the gateway."""
    keys = enrolled(village, tmp_path / "gateway", now=NOW)
    assert keys.enrolled
    assert keys.name() == GATEWAY
    own = load_signer(keys.sip_key_file)
    members = json.loads(keys.keyring_file.read_bytes())
    identity = read_keyring(members).identities[own.kid]
    assert (identity.id, identity.role, identity.can) == ("gateway-1", Role.GATEWAY, frozenset())
    assert load_roots(keys.roots_file).keys.keys() == village.roots().keys.keys()
    assert not keys.request_file.exists()
    assert not keys.next_transport_file.exists()


def test_a_request_is_made_once_until_it_is_answered(tmp_path: Path) -> None:
    """Repeated, it is the same bytes; for another name it is another."""
    keys = GatewayKeys(tmp_path / "gateway")
    first = keys.request(GATEWAY, now=NOW)
    assert keys.request(GATEWAY, now=NOW + timedelta(hours=1)) == first
    assert keys.request(OTHER, now=NOW) != first


def test_a_power_cut_between_key_and_request_makes_a_new_request(tmp_path: Path) -> None:
    """The request on disk is for a key that is gone: it is not sent."""
    keys = GatewayKeys(tmp_path / "gateway")
    first = keys.request(GATEWAY, now=NOW)
    other = GatewayKeys(tmp_path / "other")
    other.request(GATEWAY, now=NOW)
    keys.next_transport_file.write_bytes(other.next_transport_file.read_bytes())
    assert keys.request(GATEWAY, now=NOW) != first


def test_an_answer_to_somebody_else_is_not_installed(desk: EnrolmentDesk, tmp_path: Path) -> None:
    """Another gateway's, another request's, a certificate of another key, or none at all."""
    keys, others = GatewayKeys(tmp_path / "a"), GatewayKeys(tmp_path / "b")
    payload = keys.request(GATEWAY, now=NOW)
    answer = json.loads(desk.enrol_by_hand(payload))
    foreign = json.loads(desk.enrol_by_hand(others.request(GATEWAY, now=NOW)))
    other_village = new_village(tmp_path / "elsewhere")
    cases: list[object] = [
        foreign,
        {**answer, "certificate": foreign["certificate"]},
        {**answer, "gatewayId": "gateway-2"},
        {**answer, "authority": answer["certificate"]},
        {**answer, "roots": {**answer["roots"], "threshold": 0}},
        {**answer, "roots": {"threshold": 1, "keys": [encode_base64url(signer().public.raw)]}},
        {**answer, "keyring": {**answer["keyring"], "validTo": "2099-01-01T00:00:00Z"}},
        {**answer, "more": 1},
        {},
        "x" * ANSWER_BYTES_MAX,
    ]
    for members in cases:
        with refused(Refusal.BAD_ANSWER):
            keys.install(json.dumps(members).encode(), village=None)
    with refused(Refusal.WRONG_VILLAGE):
        keys.install(json.dumps(answer).encode(), village=other_village.fingerprint())
    assert not keys.enrolled
    keys.install(json.dumps(answer).encode(), village=desk.village.fingerprint())


def test_roots_that_are_too_few_add_no_gateway(tmp_path: Path) -> None:
    """Two of three have to sign the keyring that names it."""
    village = new_village(tmp_path / "operator", roots=3, threshold=2)
    request = read_request(request_of())
    roots = [load_signer(village.root_key_file(n)) for n in (1, 2, 3)]
    with pytest.raises(ValueError, match="QUORUM"):
        add_gateway(village, request, roots[:1], now=NOW)
    assert len(village.keyrings(FEEDER)) == 1
    assert add_gateway(village, request, roots[1:], now=NOW) is not None
    assert add_gateway(village, request, roots[1:], now=NOW) is None
    assert len(village.keyrings(FEEDER)) == 2


def test_a_gateway_of_no_feeder_is_told_so(village: Village) -> None:
    with pytest.raises(VillageError, match="no keyring for feeder-9"):
        add_gateway(village, read_request(request_of(GatewayName.parse("feeder-9/g"))), [], now=NOW)


# --- renewal ---------------------------------------------------------------------------------------


def test_a_renewal_is_vouched_for_by_the_signing_key(
    desk: EnrolmentDesk, village: Village, watch: Watch, tmp_path: Path
) -> None:
    """Not before half of the life; then with a new transport key, the old signing key, and no token."""
    keys = enrolled(village, tmp_path / "gateway", now=NOW)
    before = read_certificate(keys.transport_file.read_bytes())
    payload = keys.request(GATEWAY, now=NOW)
    with refused(Refusal.NOT_DUE):
        desk.renew(payload)
    watch.pass_(LIFE * 0.7)
    with refused(Refusal.UNKNOWN_GATEWAY):
        desk.renew(request_of())
    with refused(Refusal.UNKNOWN_GATEWAY):
        desk.renew(request_of(OTHER))
    answer = desk.renew(payload)
    assert desk.renew(payload) == answer, "the answer may have been lost"
    keys.install_renewal(answer)
    after = read_certificate(keys.transport_file.read_bytes())
    assert after.not_valid_after_utc - before.not_valid_after_utc == LIFE * 0.7
    assert after.public_key() != before.public_key()
    with refused(Refusal.NOT_DUE):
        desk.renew(keys.request(GATEWAY, now=watch.now))


def test_a_request_that_was_answered_is_not_sent_again(
    desk: EnrolmentDesk, village: Village, watch: Watch, tmp_path: Path
) -> None:
    """A power cut after the certificate was written, before the request was deleted."""
    keys = enrolled(village, tmp_path / "gateway", now=NOW)
    watch.pass_(LIFE * 0.7)
    payload = keys.request(GATEWAY, now=watch.now)
    waiting = keys.next_transport_file.read_bytes()
    keys.install_renewal(desk.renew(payload))
    keys.request_file.write_bytes(payload)
    keys.next_transport_file.write_bytes(waiting)
    keys.request_file.chmod(0o600)
    keys.next_transport_file.chmod(0o600)
    assert keys.request(GATEWAY, now=watch.now) != payload


def test_a_server_cannot_exchange_whom_the_gateway_believes(
    village: Village, tmp_path: Path
) -> None:
    """A renewal by another village's authority is not installed; roots and keyring are not touched by any."""
    keys = enrolled(village, tmp_path / "gateway", now=NOW)
    payload = keys.request(GATEWAY, now=NOW)
    roots, keyring = keys.roots_file.read_bytes(), keys.keyring_file.read_bytes()
    elsewhere = new_village(tmp_path / "elsewhere")
    with refused(Refusal.WRONG_VILLAGE):
        keys.install_renewal(EnrolmentDesk(elsewhere, Watch()).enrol_by_hand(payload))
    late = Watch(NOW + LIFE * 0.7)
    keys.install_renewal(EnrolmentDesk(village, late).renew(payload))
    assert (keys.roots_file.read_bytes(), keys.keyring_file.read_bytes()) == (roots, keyring)


def test_a_revoked_gateway_gets_nothing(
    desk: EnrolmentDesk, village: Village, watch: Watch, tmp_path: Path
) -> None:
    """No renewal, no second answer to the old request, and its tokens are gone."""
    token, payload = desk.new_token(GATEWAY), request_of()
    desk.enrol_by_token(payload, token)
    unused = desk.new_token(GATEWAY)
    with village.register() as register:
        assert register.revoke(str(GATEWAY), now=watch.now) == 1
        assert register.revoke(str(GATEWAY), now=watch.now) == 0
    watch.pass_(LIFE * 0.7)
    with refused(Refusal.REVOKED):
        desk.renew(payload)
    for each in (token, unused):
        with refused(Refusal.BAD_TOKEN):
            desk.enrol_by_token(payload, each)


# --- over HTTPS ------------------------------------------------------------------------------------


@contextmanager
def serving(desk: EnrolmentDesk) -> Iterator[tuple[str, list[str]]]:
    """Run the enrolment server in a thread; yield its address, and what it says."""
    said: list[str] = []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    tls = desk.village.enrolment_server_files((), now=wall())
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        listener.setblocking(False)
        port = listener.getsockname()[1]

        def run() -> None:
            app = enrolment_app(desk, said.append)
            loop.run_until_complete(serve_enrolment(app, listener, tls, stop=stop))

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield f"https://localhost:{port}", said
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join()
            loop.close()


def real_village(directory: Path) -> tuple[Village, EnrolmentDesk, Watch]:
    """Return a village whose certificates TLS finds valid now."""
    watch = Watch(wall())
    village = new_village(directory, now=watch.now)
    return village, EnrolmentDesk(village, watch), watch


def test_enrolment_and_renewal_over_https(tmp_path: Path) -> None:
    """The gateway knows an address and a token, and ends with keys, certificate, roots and keyring."""
    _, desk, watch = real_village(tmp_path / "operator")
    keys = GatewayKeys(tmp_path / "gateway")
    with serving(desk) as (url, said):
        answer = enrol_by_token(
            keys, GATEWAY, url=url, token=desk.new_token(GATEWAY), now=watch.now
        )
        assert answer.village == desk.village.fingerprint()
        with pytest.raises(EnrolmentFailed, match="NOT_DUE") as early:
            renew(keys, url=url, now=watch.now)
        assert early.value.refused
        watch.pass_(LIFE * 0.7)
        renewed = renew(keys, url=url, now=watch.now)
    assert renewed.certificate.not_valid_after_utc > answer.certificate.not_valid_after_utc
    assert [line.split()[0] for line in said] == ["answered", "refused", "answered"]


def test_a_used_token_and_a_stranger_over_https(tmp_path: Path) -> None:
    _, desk, watch = real_village(tmp_path / "operator")
    token = desk.new_token(GATEWAY)
    with serving(desk) as (url, _):
        enrol_by_token(GatewayKeys(tmp_path / "a"), GATEWAY, url=url, token=token, now=watch.now)
        with pytest.raises(EnrolmentFailed, match="BAD_TOKEN") as refusal:
            enrol_by_token(
                GatewayKeys(tmp_path / "b"), GATEWAY, url=url, token=token, now=watch.now
            )
        assert refusal.value.refused


def test_the_token_is_told_to_its_own_village_only(tmp_path: Path) -> None:
    """A server between, with a village of its own, learns neither token nor request."""
    _, desk, watch = real_village(tmp_path / "operator")
    _, between, _ = real_village(tmp_path / "elsewhere")
    keys = GatewayKeys(tmp_path / "gateway")
    with (
        serving(between) as (url, said),
        pytest.raises(EnrolmentFailed, match="not the village the token was made for"),
    ):
        enrol_by_token(keys, GATEWAY, url=url, token=desk.new_token(GATEWAY), now=watch.now)
    assert said == []
    assert not keys.directory.exists()


def test_a_server_that_shows_our_authority_without_its_key(tmp_path: Path) -> None:
    """It can repeat what everybody may read, but TLS asks it for the authority's signature on its name."""
    village, desk, watch = real_village(tmp_path / "operator")
    _, between, _ = real_village(tmp_path / "elsewhere")
    copied = {}
    for name in ("authority/ca.pem", "roots.json"):
        copied[name] = (village.directory / name).read_bytes()
    with serving(between) as (url, said):
        # The certificate it serves was signed by its own authority; what it tells from now on is ours.
        for name, content in copied.items():
            (between.village.directory / name).write_bytes(content)
        with pytest.raises(EnrolmentFailed, match="not to be believed"):
            enrol_by_token(
                GatewayKeys(tmp_path / "gateway"),
                GATEWAY,
                url=url,
                token=desk.new_token(GATEWAY),
                now=watch.now,
            )
    assert said == []


def test_the_servers_manners(tmp_path: Path) -> None:
    """No token, too much, another method, another path, rubbish: a status, a code, and no answer."""
    village, desk, _ = real_village(tmp_path / "operator")
    with serving(desk) as (url, _):
        tls = ssl.create_default_context(cafile=str(village.directory / "authority" / "ca.pem"))
        with httpx.Client(base_url=url, verify=tls) as client:
            bearer = {"Authorization": f"Bearer {desk.new_token(GATEWAY)}"}
            expected = [
                (401, client.post("/v1/enrol", content=request_of())),
                (
                    401,
                    client.post("/v1/enrol", content=b"", headers={"Authorization": "Basic eA=="}),
                ),
                (403, client.post("/v1/enrol", content=b"{}", headers=bearer)),
                (413, client.post("/v1/enrol", content=b" " * 16_385, headers=bearer)),
                (403, client.post("/v1/renew", content=request_of())),
                (405, client.get("/v1/enrol")),
                (404, client.get("/")),
            ]
            assert [(s, r.status_code) for s, r in expected] == [(s, s) for s, _ in expected]
            assert expected[0][1].json()["code"] == "BAD_TOKEN"
            assert client.post("/v1/enrol", content=request_of(), headers=bearer).status_code == 200


def test_addresses_that_are_none(tmp_path: Path) -> None:
    token = token_text(bytes(16), encode_base64url(bytes(32)))
    for url in (
        "http://localhost:1",
        "localhost:8443",
        "https://",
        "https://h:99999",
        "https://h/x",
    ):
        with pytest.raises(EnrolmentFailed, match="not the address") as failed:
            enrol_by_token(
                GatewayKeys(tmp_path / "gateway"), GATEWAY, url=url, token=token, now=NOW
            )
        assert failed.value.remedy
    with pytest.raises(EnrolmentFailed, match="cannot reach"):
        enrol_by_token(
            GatewayKeys(tmp_path / "gateway"),
            GATEWAY,
            url="https://127.0.0.1:1",
            token=token,
            now=NOW,
        )


def test_public_keys_are_the_one_thing_that_travels(desk: EnrolmentDesk, tmp_path: Path) -> None:
    """Neither request nor answer holds a private key."""
    keys = GatewayKeys(tmp_path / "gateway")
    payload = keys.request(GATEWAY, now=NOW)
    answer = desk.enrol_by_hand(payload)
    assert b"PRIVATE" not in payload + answer
    assert (
        PublicKey(load_signer(keys.sip_key_file).public.raw).kid
        == read_request(payload).sip_key.kid
    )
