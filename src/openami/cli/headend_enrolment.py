"""``openami headend enroll…``, ``revoke``, ``renew`` and ``certificates``: who belongs to the village."""

import asyncio
import socket
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import click

from openami.cli.files import A_PATH
from openami.cli.headend_init import directory_option
from openami.cli.report import Exit, fail, print_json, print_table, say
from openami.clock import SystemClock
from openami.end_signals import told_to_end
from openami.headend.enrolment import TOKEN_LIFE, TOKEN_LIFE_MAX, EnrolmentDesk
from openami.headend.village import TlsFiles, Village, VillageError, add_gateway
from openami.keyfiles import KeyFileError, load_signer
from openami.pki.certificates import CertificateError, renewal_due, renewed_from
from openami.pki.certificates import read_certificate as read
from openami.pki.enrolment import EnrolmentError, read_request
from openami.pki.names import BadName, GatewayName
from openami.sip.canonical import DOCUMENT_BYTES_MAX
from openami.sip.errors import SipError

_HOUR = timedelta(hours=1)
LISTEN_BACKLOG = 32


@click.command("enroll-token")
@directory_option
@click.option("--gateway", "gateway_text", metavar="FEEDER/GATEWAY", required=True)
@click.option(
    "--hours",
    type=click.FloatRange(0, TOKEN_LIFE_MAX / _HOUR, min_open=True),
    default=TOKEN_LIFE / _HOUR,
    show_default=True,
    help="How long it may be used.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of the token.")
def enroll_token(directory: Path, gateway_text: str, hours: float, as_json: bool) -> None:
    """Make a one-time token, with which one gateway can be enrolled. It is shown once, and stored nowhere."""
    name = gateway_name(gateway_text)
    desk = _desk(directory)
    try:
        token = desk.new_token(name, life=hours * _HOUR)
    except (VillageError, KeyFileError) as error:
        fail(str(error), Exit.FAILED, error.remedy)
    except OverflowError as error:
        fail(str(error), Exit.FAILED, "wait until some have expired")
    if as_json:
        print_json({"gateway": str(name), "token": token, "hours": hours})
    else:
        click.echo(token)
        say(f"for {name}, once, within {hours:g} h")


@click.command("enroll-serve")
@directory_option
@click.option("--listen", metavar="HOST:PORT", default="0.0.0.0:8443", show_default=True)
@click.option(
    "--name",
    "names",
    metavar="NAME",
    multiple=True,
    help="A name or address gateways call this server by; repeatable.  [default: the broker's]",
)
def enroll_serve(directory: Path, listen: str, names: tuple[str, ...]) -> None:
    """Enrol gateways with one-time tokens, and renew certificates, over HTTPS until told to stop."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        fail(f"{listen!r} is no address", Exit.USAGE, "write HOST:PORT")
    desk = _desk(directory)
    try:
        tls = desk.village.enrolment_server_files(names, now=desk.now())
        asyncio.run(_served(desk, tls, host.strip("[]"), int(port)))
    except (VillageError, KeyFileError) as error:
        fail(str(error), Exit.FAILED, error.remedy)
    except CertificateError as error:
        fail(str(error), Exit.USAGE)
    except OSError as error:
        fail(f"cannot listen on {listen}: {error.strerror}", Exit.FAILED, "choose another address")


async def _served(desk: EnrolmentDesk, tls: TlsFiles, host: str, port: int) -> None:
    from openami.headend.enrolment_server import enrolment_app, serve_enrolment

    stop = asyncio.Event()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with told_to_end(stop.set), closing(socket.socket(family, socket.SOCK_STREAM)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(LISTEN_BACKLOG)
        listener.setblocking(False)
        say(f"ready: https://{host}:{listener.getsockname()[1]}")
        await serve_enrolment(enrolment_app(desk, say), listener, tls, stop=stop)


@click.command()
@directory_option
@click.argument("request_file", metavar="REQUEST", type=A_PATH)
@click.option("-o", "--output", metavar="FILE", type=A_PATH, help="[default: stdout]")
@click.option(
    "--root",
    "root_files",
    metavar="FILE",
    multiple=True,
    type=A_PATH,
    help="A root key that signs the next keyring, with this gateway in it; repeatable.",
)
def enroll(
    directory: Path, request_file: Path, output: Path | None, root_files: tuple[Path, ...]
) -> None:
    """Enrol a gateway by the request it wrote to a stick; write the answer.

    You vouch for the request: compare the thumbprint shown with the one the gateway showed.
    """
    desk = _desk(directory)
    payload = read_small(request_file)
    try:
        request = read_request(payload)
        roots = [load_signer(file) for file in root_files]
        say(f"{request.name}: signing key {request.sip_key.kid}")
        if roots:
            add_gateway(desk.village, request, roots, now=desk.now())
        answer = desk.enrol_by_hand(payload)
    except EnrolmentError as error:
        fail(str(error), Exit.REFUSED)
    except (VillageError, KeyFileError) as error:
        fail(str(error), Exit.FAILED, error.remedy)
    except SipError as error:
        fail(str(error), Exit.FAILED)
    if output is None:
        click.echo(answer.decode())
    else:
        output.write_bytes(answer)
        say(f"wrote {output}: bring it to the gateway, `openami gateway enroll --answer {output}`")
    if not roots:
        say(f"then let the keyring name it: openami keyring add-gateway {request.name}")


@click.command()
@directory_option
@click.argument("name")
def revoke(directory: Path, name: str) -> None:
    """Revoke a client: its certificates, its renewal, its tokens. NAME is FEEDER/GATEWAY, or hes-1.

    Do all of what is printed: the list stops new connections, the access rule the one that is open, and
    the next keyring what it signed.
    """
    village, now = Village(directory), SystemClock().now()
    try:
        with village.register() as register:
            count = register.revoke(name, now=now)
        if not count:
            fail(f"there is no certificate of {name!r} that is not revoked", Exit.FAILED)
        file = village.write_revocation_list(now=now)
    except (VillageError, KeyFileError) as error:
        fail(str(error), Exit.FAILED, error.remedy)
    feeder_id, _, own_id = name.rpartition("/")
    say(
        f"""revoked {count} certificate{"s" * (count != 1)} of {name}. What to do now:
 1. New connections:   install -m 644 {file} /etc/mosquitto/certs/
 2. The open one:      openami broker-config mosquitto --acl --deny {name} … > /etc/mosquitto/openami.acl
    then, for both:    systemctl reload mosquitto
 3. What it signed:    openami keyring remove {own_id}{f" --feeder {feeder_id}" if feeder_id else ""}
                       openami keyring sign FILE --key ROOT, openami keyring publish FILE"""
    )


@click.command()
@directory_option
@click.option("--all", "all_", is_flag=True, help="Also those that are not due.")
def renew(directory: Path, all_: bool) -> None:
    """Renew the operator's own certificates, broker's and head-end's, that are past two thirds of their life.

    Run it daily (a systemd timer, cron). Programs take the new files at their next connection; the broker
    at `systemctl reload mosquitto`.
    """
    village = Village(directory)
    try:
        village.roots()
        renewed = village.renew_own(now=SystemClock().now(), all_=all_)
    except (VillageError, KeyFileError) as error:
        fail(str(error), Exit.FAILED, error.remedy)
    except CertificateError as error:
        fail(str(error), Exit.FAILED, "restore the file from the backup")
    for name in renewed:
        click.echo(name)
    if not renewed:
        say("nothing is due")


@click.command()
@directory_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def certificates(directory: Path, as_json: bool) -> None:
    """List the certificates that were signed: whose, until when, renewed from when on, or revoked."""
    now = SystemClock().now()
    try:
        with Village(directory).register() as register:
            issued = register.certificates()
    except (VillageError, KeyFileError) as error:
        fail(str(error), Exit.FAILED, error.remedy)
    rows = []
    for each in issued:
        certificate = read(each.pem)
        state = "revoked" if each.revoked_at else "expired" if each.not_after <= now else "valid"
        due = state == "valid" and renewal_due(certificate, now)
        rows.append(
            {
                "name": each.name,
                "state": "renewal due" if due else state,
                "until": _day(each.not_after),
                "renewFrom": _day(renewed_from(certificate)),
                "serial": f"{each.serial:x}",
            }
        )
    if as_json:
        for row in rows:
            print_json(row)
    else:
        headings = ["name", "state", "until", "renew from", "serial"]
        print_table(headings, [list(row.values()) for row in rows])


def gateway_name(text: str) -> GatewayName:
    """Return the gateway an argument names; end the command when it is none."""
    try:
        return GatewayName.parse(text)
    except BadName as error:
        fail(str(error), Exit.USAGE)


def read_small(file: Path) -> bytes:
    """Return a file of at most a document's size; end the command when there is none."""
    try:
        with file.open("rb") as opened:
            content = opened.read(DOCUMENT_BYTES_MAX + 1)
    except OSError as error:
        fail(f"{file}: {error.strerror}", Exit.USAGE)
    if len(content) > DOCUMENT_BYTES_MAX:
        fail(f"{file} has more than {DOCUMENT_BYTES_MAX} bytes", Exit.USAGE, "name another file")
    return content


def _desk(directory: Path) -> EnrolmentDesk:
    return EnrolmentDesk(Village(directory), SystemClock().now)


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"
