"""``openami headend init``, ``keyring`` and ``gateway enroll``, as an operator types them."""

import asyncio
import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.keys.villages import wall

from openami.cli import main
from openami.clock import SystemClock
from openami.headend.config import read_config
from openami.headend.store import Access
from openami.headend.store.open import open_store
from openami.headend.village import Village
from openami.keyfiles import load_signer, make_key
from openami.sip.canonical import encode_base64url, read_document
from openami.sip.keyring import Keyring, admit_keyring


class Operator:
    """Somebody at a keyboard, with a directory of his own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.village = Village(home / "operator")

    def types(self, *words: str | Path, code: int = 0) -> Result:
        """Run a command; it has to end with this exit code."""
        arguments = [str(word) for word in words]
        result = CliRunner().invoke(
            main, arguments, env={"OPENAMI_OPERATOR_DIR": str(self.village.directory)}
        )
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        assert result.exit_code == code, result.output
        return result

    def init(self, *words: str) -> Result:
        return self.types("headend", "init", "--feeder", "feeder-1", *words)

    def root(self, number: int) -> Path:
        return self.village.root_key_file(number)

    def admitted(self, *, in_force: int = 0) -> Keyring:
        """Return the newest keyring, as a gateway admits it."""
        return admit_keyring(
            read_document(self.village.keyrings("feeder-1")[-1]),
            roots=self.village.roots(),
            in_force=in_force,
            feeder_id="feeder-1",
            gateway_id="gateway-1",
        )


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


def test_init_makes_what_the_head_end_needs(operator: Operator) -> None:
    """Its configuration is one the head-end reads, its keys are in the keyring, its fingerprint is shown."""
    shown = operator.init("--broker-host", "broker.example").stdout
    assert operator.village.fingerprint() in shown
    config = read_config(operator.village.headend_config)
    assert config.mqtt.url == "mqtts://broker.example:8883"
    assert config.signing is not None
    keyring = operator.admitted()
    assert load_signer(Path(config.signing.key_file)).kid in keyring.identities
    assert {i.id: str(i.role) for i in keyring.identities.values()} == {
        "hes-1": "hes",
        "operator-1": "operator",
    }
    assert not set(operator.village.roots().keys) & set(keyring.identities)


def test_init_overwrites_nothing(operator: Operator) -> None:
    operator.init()
    before = {f: f.read_bytes() for f in operator.home.rglob("*") if f.is_file()}
    told = operator.types("headend", "init", "--feeder", "f2", code=1)
    assert "never overwritten" in told.stderr
    assert {f: f.read_bytes() for f in operator.home.rglob("*") if f.is_file()} == before


def test_init_refuses_what_cannot_be(operator: Operator) -> None:
    operator.types("headend", "init", "--threshold", "2", code=2)
    operator.types("headend", "init", "--feeder", "f/g", code=2)
    operator.types("headend", "init", "--port", "0", code=2)
    operator.types("headend", "init", "--broker-host", 'a" b', code=2)
    operator.types("headend", "init", "--broker-host", "1.2.3", code=2)
    assert not operator.village.directory.exists()


def test_two_of_three_roots_sign_on_two_machines(operator: Operator, tmp_path: Path) -> None:
    """A draft goes from stick to stick; with one act it is no keyring, with two it is."""
    operator.init("--roots", "3", "--threshold", "2")
    draft = Path(operator.types("keyring", "new", "--feeder", "feeder-1").stdout.strip())
    assert "0 of the 2 roots" in operator.types("keyring", "show", draft).stdout
    stick = tmp_path / "stick.json"
    shutil.copy(draft, stick)
    elsewhere = Operator(tmp_path / "another machine")
    elsewhere.types("keyring", "sign", stick, "--key", operator.root(1))
    told = operator.types("keyring", "publish", stick, "--print", code=4)
    assert "QUORUM" in told.stderr
    operator.types("keyring", "sign", stick, "--key", operator.root(1))
    assert "1 of the 2 roots" in operator.types("keyring", "show", stick).stdout
    operator.types("keyring", "sign", stick, "--key", operator.root(3))
    assert "enough of the roots (2 of 3)" in operator.types("keyring", "show", stick).stdout
    printed = operator.types("keyring", "publish", stick, "--print").stdout
    assert read_document(printed.encode()).members == json.loads(stick.read_text())


def test_a_key_that_is_no_root_signs_nothing(operator: Operator) -> None:
    """Its act would spoil the document, and show says so."""
    operator.init()
    draft = Path(operator.types("keyring", "new", "--feeder", "feeder-1").stdout.strip())
    operator.types("keyring", "sign", draft, "--key", operator.village.key_file("hes-1"))
    assert "UNKNOWN_KEY" in operator.types("keyring", "show", draft, code=4).stderr
    operator.types("keyring", "publish", draft, "--print", code=4)


def test_changes_gather_in_one_draft(operator: Operator, tmp_path: Path) -> None:
    """Several commands, one version; after it is signed, the next change makes the next one."""
    operator.init()
    market = encode_base64url(make_key(tmp_path / "m" / "market.key").public.raw)
    operator.types("keyring", "set", "--disconnects-per-hour", "5", "--protect", "clinic-1")
    operator.types("keyring", "set", "--hours", "22:00-06:00", "--meter", "m1", "--meter", "m2")
    file = operator.types("keyring", "add", "market-coop", "--role", "market", "--key", market)
    draft = Path(file.stdout.strip())
    operator.types("keyring", "sign", draft, "--key", operator.root(1))
    second = operator.admitted(in_force=1)
    assert second.version == 2
    assert second.limits.disconnects_per_hour == 5
    assert sorted(second.protected) == ["clinic-1"]
    assert sorted(second.meters) == ["m1", "m2"]
    assert len(second.protected_hours) == 1
    removed = operator.types("keyring", "remove", "market-coop").stdout.strip()
    operator.types("keyring", "sign", removed, "--key", operator.root(1))
    third = operator.admitted(in_force=2)
    assert {each.id for each in third.identities.values()} == {"hes-1", "operator-1"}
    assert third.limits == second.limits


def test_a_change_after_the_first_act_needs_every_act_anew(operator: Operator) -> None:
    operator.init("--roots", "2", "--threshold", "2")
    draft = operator.types("keyring", "new", "--feeder", "feeder-1").stdout.strip()
    operator.types("keyring", "sign", draft, "--key", operator.root(1))
    told = operator.types("keyring", "set", "--disconnects-per-hour", "1")
    assert "signed anew" in told.stderr
    assert "signature" not in json.loads(Path(draft).read_text())


def test_weak_keys_and_taken_names_do_not_get_in(operator: Operator) -> None:
    operator.init()
    weak = encode_base64url(b"\x01" + bytes(31))
    good = encode_base64url(make_key(operator.home / "k" / "x.key").public.raw)
    for name, role, key in (
        ("market-1", "market", weak),
        ("market-1", "market", "short"),
        ("hes-1", "market", good),
        ("a/b", "market", good),
    ):
        operator.types("keyring", "add", name, "--role", role, "--key", key, code=2)
    operator.types("keyring", "add", "hes-1", "--role", "root", "--key", good, code=2)
    operator.types("keyring", "remove", "nobody", code=2)
    operator.types("keyring", "set", "--hours", "22-06", code=2)
    assert len(operator.village.keyrings("feeder-1")) == 1


def test_a_gateway_is_enrolled_by_a_stick(operator: Operator, tmp_path: Path) -> None:
    """Request, thumbprint, answer, fingerprint, and the keyring that names it, all as typed."""
    operator.init()
    home, request, answer = tmp_path / "gateway", tmp_path / "request", tmp_path / "answer"
    asking = ("gateway", "enroll", "--dir", home, "--feeder", "feeder-1", "--gateway", "gateway-1")
    shown = operator.types(*asking, "--request", request).stdout
    told = operator.types("headend", "enroll", request, "-o", answer)
    thumbprint = re.search(
        r"(?<![\w-])[\w-]{43}(?![\w-])", shown, re.ASCII
    )  # a square of it may stand below
    assert thumbprint is not None
    assert thumbprint[0] in told.stderr
    village = operator.village.fingerprint()
    other = "A" * 43
    operator.types(
        "gateway", "enroll", "--dir", home, "--answer", answer, "--village", other, code=4
    )
    operator.types("gateway", "enroll", "--dir", home, "--answer", answer, "--village", village)
    operator.types(*asking, "--request", request, code=1)
    draft = operator.types("keyring", "add-gateway", "feeder-1/gateway-1").stdout.strip()
    operator.types("keyring", "sign", draft, "--key", operator.root(1))
    assert load_signer(home / "sip.key").kid in operator.admitted(in_force=1).identities
    rows = operator.types("headend", "certificates", "--json").stdout.splitlines()
    states = {row["name"]: row["state"] for row in map(json.loads, rows)}
    assert states == {"feeder-1/gateway-1": "valid", "hes-1": "valid", "localhost": "valid"}


def test_revoking_says_what_to_do(operator: Operator, tmp_path: Path) -> None:
    operator.init()
    request = tmp_path / "request"
    operator.types(
        *("gateway", "enroll", "--dir", tmp_path / "gateway", "--feeder", "feeder-1"),
        *("--gateway", "gateway-1", "--request", request),
    )
    operator.types("headend", "enroll", request, "--root", operator.root(1))
    assert {i.id for i in operator.admitted(in_force=1).identities.values()} > {"gateway-1"}
    before = (operator.village.broker_directory / "revoked.pem").read_bytes()
    told = operator.types("headend", "revoke", "feeder-1/gateway-1").stderr
    assert "--deny feeder-1/gateway-1" in told
    assert "keyring remove gateway-1 --feeder feeder-1" in told
    assert (operator.village.broker_directory / "revoked.pem").read_bytes() != before
    operator.types("headend", "revoke", "feeder-1/gateway-1", code=1)
    operator.types("keyring", "add-gateway", "feeder-1/gateway-1", code=1)


def test_own_certificates_are_renewed_when_due(operator: Operator) -> None:
    """Not before; with --all at once; certificate and key change together, and names stay."""
    operator.init()
    assert "nothing is due" in operator.types("headend", "renew").stderr
    file = operator.village.transport_file("hes-1")
    before = file.read_bytes()
    assert operator.types("headend", "renew", "--all").stdout.split() == ["hes-1", "broker"]
    assert file.read_bytes() != before
    assert operator.village.renew_own(now=wall()) == []


def test_commands_outside_a_village_say_so(operator: Operator) -> None:
    told = operator.types("headend", "enroll-token", "--gateway", "f/g", code=1)
    assert "openami headend init" in told.stderr
    operator.init()
    for name in ("g", "f/hes-1", "+/+"):
        operator.types("headend", "enroll-token", "--gateway", name, code=2)
    token = operator.types("headend", "enroll-token", "--gateway", "feeder-1/g", "--json").stdout
    assert json.loads(token)["token"].endswith(operator.village.fingerprint())


async def test_a_keyring_is_handed_to_the_head_end_once(operator: Operator, tmp_path: Path) -> None:
    """Into its store, from which it goes to the gateways; a draft does not get there."""
    operator.init()
    store = f"sqlite:///{tmp_path / 'headend.db'}"
    async with open_store(store, Access.OWN):
        pass
    (file,) = (operator.village.directory / "keyrings" / "feeder-1").iterdir()

    def publish(code: int = 0, file: Path = file) -> str:
        return operator.types("keyring", "publish", file, "--store", store, code=code).stderr

    assert "is with the head-end" in await asyncio.to_thread(publish)
    assert "was there already" in await asyncio.to_thread(publish)
    draft = await asyncio.to_thread(
        lambda: operator.types("keyring", "new", "--feeder", "feeder-1").stdout.strip()
    )
    assert "NO_SIGNATURE" in await asyncio.to_thread(lambda: publish(4, Path(draft)))
    async with open_store(store, Access.READ) as opened:
        (stored,) = await opened.keyrings("feeder-1", "gateway-1")
    assert stored.version == 1
    assert (
        admit_keyring(
            read_document(stored.document),
            roots=operator.village.roots(),
            in_force=0,
            feeder_id="feeder-1",
            gateway_id="gateway-1",
        ).valid_to
        > SystemClock().now()
    )
