"""An operator signs an emergency ticket on their own machine; nothing but the safe direction."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from openami.cli import main
from openami.keyfiles import ensure_private_directory, make_key
from openami.profile import CommandTopic, FeederId, GatewayId, MeterSerial
from openami.sip.acts import verified_acts
from openami.sip.canonical import read_document
from openami.sip.command import read_command

TOPIC = CommandTopic(FeederId("feeder-1"), GatewayId("pole-1"), MeterSerial("M1"))


@pytest.fixture
def key(tmp_path: Path) -> Path:
    ensure_private_directory(tmp_path / "keys")
    make_key(tmp_path / "keys" / "operator.key")
    return tmp_path / "keys" / "operator.key"


def ticket(key: Path, *options: str, kind: str = "relay-reconnect") -> Result:
    named = ["--feeder", "feeder-1", "--gateway", "pole-1", "--key", str(key)]
    return CliRunner().invoke(main, ["command", "ticket", kind, "M1", *named, *options])


def test_a_ticket_is_one_command_that_verifies(key: Path) -> None:
    from openami.keyfiles import load_signer

    run = ticket(key)
    assert run.exit_code == 0, run.stderr
    document = read_document(run.stdout.encode())
    command = read_command(document, TOPIC)
    signer = load_signer(key)
    (act,) = verified_acts(document, {signer.kid: signer.public})
    assert act.kid == signer.kid
    assert command.ticket is not None
    assert command.session_id is None
    assert ticket(key).stdout != run.stdout, "each is for one use"


@pytest.mark.parametrize(
    ("options", "kind"),
    [((), "relay-disconnect"), (("--valid-for", "31d"), "relay-reconnect")],
    ids=["the unsafe direction", "a day too long"],
)
def test_what_no_ticket_can_be_is_not_signed(
    key: Path, options: tuple[str, ...], kind: str
) -> None:
    run = ticket(key, *options, kind=kind)
    assert run.exit_code == 2
    assert not run.stdout


def test_a_key_that_everybody_may_read_signs_nothing(key: Path) -> None:
    key.chmod(0o644)
    run = ticket(key)
    assert run.exit_code == 2
    assert "chmod" in run.stderr
