"""``openami gateway enroll``: a gateway becomes one of a village's, over HTTPS or by a stick."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from openami.cli.files import A_PATH
from openami.cli.report import Exit, fail, print_json, say

if TYPE_CHECKING:
    from openami.gateway.enrolment import GatewayKeys
    from openami.pki.enrolment import Answer
    from openami.pki.names import GatewayName

_STDIN = "-"  # a token on the command line is seen by everybody on the machine


@click.command()
@click.option(
    "--dir",
    "directory",
    metavar="DIR",
    type=A_PATH,
    required=True,
    help="The gateway's directory of keys; made for its owner alone.",
)
@click.option("--feeder", metavar="ID", help="Its feeder.")
@click.option("--gateway", "gateway_id", metavar="ID", help="Its own id.")
@click.option("--url", metavar="https://HOST:PORT", help="The enrolment server.")
@click.option("--token", metavar="TOKEN", help="The one-time token; - reads it from stdin.")
@click.option("--request", metavar="FILE", type=A_PATH, help="Write the request there.")
@click.option("--answer", metavar="FILE", type=A_PATH, help="Install the answer there.")
@click.option(
    "--village", metavar="FINGERPRINT", help="The fingerprint an answer's village must have."
)
@click.option("--renew", is_flag=True, help="Renew the certificate at --url, whether due or not.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def enroll(
    directory: Path,
    feeder: str | None,
    gateway_id: str | None,
    url: str | None,
    token: str | None,
    request: Path | None,
    answer: Path | None,
    village: str | None,
    renew: bool,
    as_json: bool,
) -> None:
    """Make this gateway's keys and have it enrolled.

    \b
    Over the network:  --feeder F --gateway G --url https://HOST:PORT --token T
    By a stick:        --feeder F --gateway G --request FILE, and later --answer FILE
    Renewal by hand:   --renew --url https://HOST:PORT

    Both keys are made here and never leave this machine. The same command may be repeated: a request that
    got no answer is sent again as it was.
    """
    from openami.gateway.enrolment import EnrolmentFailed, GatewayKeys
    from openami.keyfiles import KeyFileError
    from openami.pki.enrolment import EnrolmentError

    keys = GatewayKeys(directory)
    try:
        if answer is not None:
            _installed(keys, answer, village, as_json)
        elif renew and url is not None:
            _renewed(keys, url, as_json)
        elif url is not None and token is not None:
            _enrolled(keys, _name(feeder, gateway_id), url, token, as_json)
        elif request is not None:
            _requested(keys, _name(feeder, gateway_id), request, as_json)
        else:
            fail("nothing to do", Exit.USAGE, "give --url and --token, --request, or --answer")
    except EnrolmentError as error:
        fail(str(error), Exit.REFUSED)
    except EnrolmentFailed as error:
        fail(str(error), Exit.REFUSED if error.refused else Exit.CANNOT_CONNECT, error.remedy)
    except KeyFileError as error:
        fail(str(error), Exit.FAILED, error.remedy)


def _enrolled(
    keys: "GatewayKeys", name: "GatewayName", url: str, token: str, as_json: bool
) -> None:
    from openami.clock import SystemClock
    from openami.gateway.enrolment import enrol_by_token

    if keys.enrolled:
        _enrolled_already(keys)
    if token == _STDIN:
        token = sys.stdin.readline()
    _tell(keys, enrol_by_token(keys, name, url=url, token=token, now=SystemClock().now()), as_json)


def _renewed(keys: "GatewayKeys", url: str, as_json: bool) -> None:
    from openami.clock import SystemClock
    from openami.gateway.enrolment import renew

    _tell(keys, renew(keys, url=url, now=SystemClock().now()), as_json)


def _requested(keys: "GatewayKeys", name: "GatewayName", file: Path, as_json: bool) -> None:
    from openami.clock import SystemClock
    from openami.pki.enrolment import read_request

    if keys.enrolled:
        _enrolled_already(keys)
    payload = keys.request(name, now=SystemClock().now())
    try:
        file.write_bytes(payload)
    except OSError as error:
        fail(f"{file}: {error.strerror}", Exit.FAILED, "is the stick mounted?")
    kid = read_request(payload).sip_key.kid
    if as_json:
        print_json({"gateway": str(name), "kid": kid, "request": str(file)})
    else:
        click.echo(f"signing key: {kid}")
        _show_code(kid)
        say(f"wrote {file}: bring it to the operator, `openami headend enroll {file}`")


def _installed(keys: "GatewayKeys", file: Path, village: str | None, as_json: bool) -> None:
    from openami.pki.enrolment import ANSWER_BYTES_MAX

    try:
        with file.open("rb") as opened:
            payload = opened.read(ANSWER_BYTES_MAX + 1)
    except OSError as error:
        fail(f"{file}: {error.strerror}", Exit.USAGE)
    _tell(keys, keys.install(payload, village=village), as_json)
    if village is None:
        say("compare the fingerprint with the operator's paper; --village compares it for you")


def _name(feeder: str | None, gateway_id: str | None) -> "GatewayName":
    from openami.pki.names import BadName, GatewayName

    if feeder is None or gateway_id is None:
        fail("a gateway is named by its feeder and its own id", Exit.USAGE, "--feeder, --gateway")
    try:
        return GatewayName.parse(f"{feeder}/{gateway_id}")
    except BadName as error:
        fail(str(error), Exit.USAGE)


def _enrolled_already(keys: "GatewayKeys") -> NoReturn:
    fail(
        f"{keys.directory} is enrolled already, and keys are never overwritten",
        Exit.FAILED,
        "name another directory, or use --renew",
    )


def _tell(keys: "GatewayKeys", answer: "Answer", as_json: bool) -> None:
    from openami.keyfiles import load_signer

    until = answer.certificate.not_valid_after_utc
    kid = load_signer(keys.sip_key_file).kid
    if as_json:
        print_json(
            {
                "gateway": str(answer.name),
                "kid": kid,
                "village": answer.village,
                "validTo": f"{until:%Y-%m-%dT%H:%M:%SZ}",
                "keyringVersion": answer.keyring.version,
            }
        )
        return
    click.echo(f"gateway:             {answer.name}, until {until:%Y-%m-%d}")
    click.echo(f"signing key:         {kid}")
    click.echo(f"village fingerprint: {answer.village}")
    place = keys.directory.resolve()
    say(
        f"""for the gateway's configuration:

[mqtt]
url = "mqtts://BROKER:8883"
ca_file = "{place / keys.authority_file.name}"
cert_file = "{place / keys.transport_file.name}"

[commands]
key_file = "{place / keys.sip_key_file.name}"
roots_file = "{place / keys.roots_file.name}"

[enrolment]
directory = "{place}"
url = "https://HOST:8443"    # renews the certificate before it ends"""
    )


def _show_code(text: str) -> None:
    """Show a QR code for the operator's phone, where the library for it is installed."""
    try:
        import segno
    except ImportError:
        return
    segno.make(text, error="m").terminal(compact=True)
