"""``openami command``: ask the head-end to command a meter, and see what became of it.

A request goes into the store; the running head-end signs and sends it. So this process may end, or be killed, at
any time: the command goes on, once.
"""

import asyncio
import secrets
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import click

from openami.cli.command_rows import command_row, who_asks
from openami.cli.durations import as_duration
from openami.cli.options import store_option
from openami.cli.report import Exit, fail, print_json, print_table, say
from openami.cli.rows import cells, printable
from openami.cli.storage import json_option, with_store
from openami.clock import SystemClock
from openami.headend.commands import (
    TTL_DEFAULT_S,
    Change,
    LedgerCommand,
    Requested,
    RequestVerdict,
    plain,
    withdrawn,
)
from openami.headend.new_ids import new_id
from openami.headend.ordering import (
    VALID_FOR_MAX,
    ApprovalFault,
    Order,
    OrderFault,
    approval_of,
    new_command,
    waits_for_approval,
)
from openami.headend.sessions import LedgerSession
from openami.headend.store import ROWS_MAX, Access, MeterRow
from openami.headend.store.commands import Around, HeadEndStore
from openami.keyfiles import KeyFileError, load_signer
from openami.profile import CommandTopic, FeederId, GatewayId, MeterSerial, ProfileError
from openami.profile.command import CommandState
from openami.sip.actions import Action
from openami.sip.acts import ActType, make_act
from openami.sip.authorise import TICKET_LIFE_MAX
from openami.sip.canonical import read_document
from openami.sip.compose import sign, ticket_members

KINDS = {
    "relay-disconnect": Action.DISCONNECT,
    "relay-reconnect": Action.RECONNECT,
    "relay-arm": Action.ARM,
    "credit-token": Action.CREDIT_TOKEN,
    "readings-resend": Action.RESEND,
    "settlement": Action.SETTLE,
}
# Often enough that a person does not notice it.
POLL_INTERVAL_S = 0.05
_WHOLE_NUMBERS = ("energyWh", "amountMinor")
_LIST = ("id", "state", "action", "meterSerial", "requestedAt", "requestedBy", "inWords")
_LISTED_BY_DEFAULT = 100
_ACT_BYTES_MAX = 64 * 1024  # an act has 300 bytes, a document with its acts 16 kB


@click.group()
def command() -> None:
    """Commands to meters: each ends in exactly one way, and acts at most once.

    Exit codes of send and show: 0 confirmed · 1 failed or expired · 4 refused · 5 outcome unknown.
    """


# --- send ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What the options of ``send`` ask for."""

    action: Action
    serial: str
    feeder: str | None
    gateway: str | None
    session_id: str | None
    reason: str
    idempotency_key: str | None
    valid_for: timedelta
    protected: bool
    args: dict[str, Any]


@command.command()
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.argument("serial")
@click.option("--feeder", metavar="F", help="Its feeder, where two have a meter of this serial.")
@click.option("--gateway", metavar="G", help="Its gateway, for a meter nobody has heard of yet.")
@click.option("--session", "session_id", metavar="ID", help="In this session and no other.")
@click.option("--reason", metavar="TEXT", default="", help="Why; for the audit log.")
@click.option(
    "--idempotency-key", metavar="KEY", help="The same key again names the same command, always."
)
@click.option(
    "--valid-for",
    metavar="TIME",
    default=f"{TTL_DEFAULT_S // 60}m",
    show_default=True,
    callback=as_duration,
    help="It never acts later than that; 1h at most.",
)
@click.option(
    "--protected",
    is_flag=True,
    help="It may be a protected meter: you are an engineer, and say why with --reason.",
)
@click.option(
    "--arg", "pairs", metavar="NAME=VALUE", multiple=True, help="An argument (repeatable)."
)
@click.option("--wait", metavar="TIME", callback=as_duration, help="Wait so long for its end.")
@store_option
@json_option
def send(
    kind: str,
    serial: str,
    valid_for: timedelta,
    pairs: tuple[str, ...],
    wait: timedelta | None,
    store: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Ask for a command to the meter SERIAL.

    Without --wait it returns when the request is stored; the running head-end does the rest.
    """
    if valid_for > VALID_FOR_MAX:
        raise click.BadParameter("a command is valid for 1h at most", param_hint="--valid-for")
    asked = _Asked(
        action=KINDS[kind], serial=serial, valid_for=valid_for, args=_args(pairs), **options
    )

    async def run(open_store: HeadEndStore) -> RequestVerdict:
        new = _new_command(asked, await _place(open_store, asked))
        return await open_store.request_command(new, new.requested_at, engineer=asked.protected)

    verdict = with_store(store, run, Access.EDIT)
    if not isinstance(verdict, Requested):
        fail(f"refused: {verdict.detail} ({verdict.fault})", Exit.REFUSED)
    if not verdict.is_new:
        say(f"openami: {verdict.command.id} was asked for before under this key")
    if wait is None:
        _show(verdict.command, as_json)
        return
    if not as_json:
        say(f"{verdict.command.id}: {plain(verdict.command)}")
    found = with_store(store, lambda opened: _ended(opened, verdict.command.id, wait))
    _show(found, as_json)
    _exit_for(found)


def _args(pairs: tuple[str, ...]) -> dict[str, Any]:
    args: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name in args:
            raise click.BadParameter(f"{pair!r}: NAME=VALUE, each once", param_hint="--arg")
        if name in _WHOLE_NUMBERS:
            if not (value.isascii() and value.isdigit()):
                raise click.BadParameter(f"{name} is a whole number", param_hint="--arg")
            args[name] = int(value)
        else:
            args[name] = value
    return args


async def _place(store: HeadEndStore, asked: _Asked) -> tuple[str, str]:
    """Return the meter's feeder and gateway."""
    if asked.feeder is not None and asked.gateway is not None:
        return asked.feeder, asked.gateway
    found: list[MeterRow] = [
        row
        for row in await store.meters(feeder_id=asked.feeder, meter_serial=asked.serial)
        if asked.gateway in (None, row.gateway_id)
    ]
    if not found:
        fail(
            f"the head-end has not heard of a meter {asked.serial}",
            Exit.FAILED,
            "check the serial, or name its --feeder and --gateway",
        )
    if len(found) > 1:
        fail(
            f"{len(found)} feeders have a meter {asked.serial}",
            Exit.USAGE,
            f"name one: {', '.join('--feeder ' + row.feeder_id for row in found)}",
        )
    return found[0].feeder_id, found[0].gateway_id


def _new_command(asked: _Asked, place: tuple[str, str]) -> LedgerCommand:
    feeder_id, gateway_id = place
    order = Order(
        feeder_id=feeder_id,
        gateway_id=gateway_id,
        meter_serial=asked.serial,
        action=asked.action,
        args=asked.args,
        reason=asked.reason,
        valid_for=asked.valid_for,
        wanted_session=asked.session_id,
    )
    try:
        return new_command(
            order,
            command_id=new_id("cmd"),
            by=who_asks(),
            idempotency_key=asked.idempotency_key,
            now=SystemClock().now(),
        )
    except OrderFault as fault:
        raise click.UsageError(str(fault)) from None


async def _ended(store: HeadEndStore, command_id: str, wait: timedelta) -> LedgerCommand:
    """Return a command when it has ended, or as it is when the wait is over."""
    deadline = asyncio.get_running_loop().time() + wait.total_seconds()
    while True:
        found = await _found(store, command_id)
        if not found.is_open or asyncio.get_running_loop().time() >= deadline:
            return found
        await asyncio.sleep(POLL_INTERVAL_S)


def _exit_for(found: LedgerCommand) -> NoReturn:
    """End with what became of it; what telemetry has shown since counts."""
    match found.resolved_as or found.state:
        case CommandState.CONFIRMED:
            sys.exit(Exit.DONE)
        case CommandState.REFUSED:
            sys.exit(Exit.REFUSED)
        case CommandState.FAILED | CommandState.EXPIRED:
            sys.exit(Exit.FAILED)
        case _:
            sys.exit(Exit.OUTCOME_UNKNOWN)


# --- list, show, cancel --------------------------------------------------------------------------


@command.command("list")
@click.option("--feeder", metavar="F")
@click.option("--meter", metavar="S")
@click.option("--open", "only_open", is_flag=True, help="Only those that have not ended.")
@click.option(
    "--limit", type=click.IntRange(1, ROWS_MAX), default=_LISTED_BY_DEFAULT, show_default=True
)
@store_option
@json_option
def list_commands(
    feeder: str | None,
    meter: str | None,
    only_open: bool,
    limit: int,
    store: str,
    as_json: bool,
) -> None:
    """List commands, newest first."""

    async def read(open_store: HeadEndStore) -> list[LedgerCommand]:
        return list(
            await open_store.commands(
                feeder_id=feeder, meter_serial=meter, only_open=only_open, at_most=limit
            )
        )

    rows = [command_row(each) for each in with_store(store, read)]
    if as_json:
        for row in rows:
            print_json(row)
    else:
        print_table([name.upper() for name in _LIST], [cells(row, _LIST) for row in rows])


@command.command()
@click.argument("command_id", metavar="ID")
@click.option("--document", is_flag=True, help="Print the signed document and nothing else.")
@click.option("--report", is_flag=True, help="Print the gateway's signed report and nothing else.")
@click.option("--wait", metavar="TIME", callback=as_duration, help="Wait so long for its end.")
@store_option
@json_option
def show(
    command_id: str,
    document: bool,
    report: bool,
    wait: timedelta | None,
    store: str,
    as_json: bool,
) -> None:
    """Show a command and where it stands; the exit code says how it ended, 5 while it has not."""
    if wait is None:
        found = with_store(store, lambda opened: _found(opened, command_id))
    else:
        found = with_store(store, lambda opened: _ended(opened, command_id, wait))
    if document or report:
        content = found.document if document else found.report
        if content is None:
            fail(f"{command_id} has no {'document' if document else 'report'} yet", Exit.FAILED)
        click.echo(content)
        return
    _show(found, as_json)
    _exit_for(found)


def _show(found: LedgerCommand, as_json: bool) -> None:
    row = command_row(found)
    if as_json:
        print_json(row)
        return
    for name, value in row.items():
        if value not in (None, [], {}, ""):
            click.echo(f"{name:<15} {printable(str(value))}")


@command.command()
@click.argument("command_id", metavar="ID")
@store_option
@json_option
def cancel(command_id: str, store: str, as_json: bool) -> None:
    """Withdraw a command that has not been sent yet; what has been sent cannot be called back.

    Exit code 1 when it is too late.
    """
    now, by = SystemClock().now(), who_asks()

    def decide(found: LedgerCommand, _: Around) -> Change | None:
        return withdrawn(found, now, who=by)

    async def run(open_store: HeadEndStore) -> tuple[LedgerCommand, LedgerCommand]:
        before = await _found(open_store, command_id)
        after = await open_store.change_command(command_id, decide, now)
        assert after is not None
        return before, after

    before, after = with_store(store, run, Access.EDIT)
    _show(after, as_json)
    if not before.is_open or after.is_open:
        fail(f"too late to withdraw {command_id}: {plain(after)}", Exit.FAILED)


# --- ticket --------------------------------------------------------------------------------------

_TICKET_KINDS = ("relay-reconnect", "relay-arm")
_TICKET_ID_BYTES = 8  # used once, at one gateway: random enough never to meet another


@command.command()
@click.argument("kind", type=click.Choice(_TICKET_KINDS))
@click.argument("serial")
@click.option("--feeder", metavar="F", required=True)
@click.option("--gateway", metavar="G", required=True)
@click.option(
    "--key",
    "key_file",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=Path),
    help="An operator's key.",
)
@click.option(
    "--valid-for",
    metavar="TIME",
    default="30d",
    show_default=True,
    callback=as_duration,
    help="How long it can be used; 30d at most.",
)
def ticket(
    kind: str, serial: str, feeder: str, gateway: str, key_file: Path, valid_for: timedelta
) -> None:
    """Sign an emergency ticket: it reconnects one house, once, without any network.

    Carry it to the gateway, and there: openami gateway ticket. Only the safe direction can be signed so.
    """
    if not timedelta(0) < valid_for <= TICKET_LIFE_MAX:
        raise click.UsageError(f"--valid-for is {TICKET_LIFE_MAX.days}d at most")
    now = SystemClock().now()
    try:
        topic = CommandTopic(FeederId(feeder), GatewayId(gateway), MeterSerial(serial))
        members = ticket_members(
            topic,
            KINDS[kind],
            ticket=f"ticket-{secrets.token_hex(_TICKET_ID_BYTES)}",
            ts=now,
            not_after=now + valid_for,
        )
        signer = load_signer(key_file)
    except ProfileError as error:
        raise click.UsageError(error.detail) from None
    except KeyFileError as error:
        fail(str(error), Exit.USAGE, error.remedy)
    print_json(sign(members, signer, ActType.COMMAND, iat=int(now.timestamp())))


# --- approve -------------------------------------------------------------------------------------


@command.command()
@click.argument("command_id", metavar="ID")
@click.option(
    "--key", "key_file", metavar="FILE", type=click.Path(path_type=Path), help="Your key."
)
@click.option(
    "--act",
    "act_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="An act made elsewhere: a market participant's, or a key's on another machine.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@store_option
def approve(
    command_id: str, key_file: Path | None, act_file: Path | None, yes: bool, store: str
) -> None:
    """Add a second person's act, or the market's, to a command that waits for it."""
    if (key_file is None) == (act_file is None):
        raise click.UsageError("name either your --key or an --act")
    found, session = with_store(store, lambda opened: _to_approve(opened, command_id))
    now = SystemClock().now()
    if key_file is not None:
        _ask(found, yes)
        text = _own_act(key_file, found, int(now.timestamp()))
    else:
        assert act_file is not None
        text = _read_act_file(act_file)
    try:
        approval, entry = approval_of(found, session, text, carried_by=who_asks(), now=now)
    except ApprovalFault as fault:
        fail(str(fault), Exit.USAGE if fault.unreadable else Exit.REFUSED)
    with_store(store, lambda opened: opened.approve(approval, entry), Access.EDIT)
    say(f"{command_id}: approved as {approval.who}; the head-end checks the act and sends")


async def _to_approve(
    store: HeadEndStore, command_id: str
) -> tuple[LedgerCommand, LedgerSession | None]:
    found = await _found(store, command_id)
    session = None if found.session_id is None else await store.session(found.session_id)
    try:
        waits_for_approval(found, session)
    except ApprovalFault as fault:
        if fault.too_early:
            fail(
                str(fault), Exit.FAILED, "wait a moment: it needs a session with the gateway first"
            )
        fail(str(fault), Exit.REFUSED)
    return found, session


def _ask(found: LedgerCommand, yes: bool) -> None:
    said = f"{found.action} for {found.meter_serial} on {found.feeder_id}"
    terms = "".join(f", {name} {value}" for name, value in sorted(found.args.items()))
    say(f"you sign: {printable(said + terms)}; asked for by {found.requested_by}: "
        f"{printable(found.reason) or 'no reason given'}")  # fmt: skip
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("a signature is for a person to give: say --yes")
    click.confirm("Sign this?", abort=True, err=True)


def _own_act(key_file: Path, found: LedgerCommand, iat: int) -> str:
    assert found.document is not None, "only what waits for an act is asked about"
    try:
        document = read_document(found.document)
        return make_act(load_signer(key_file), document, ActType.COMMAND, iat=iat)
    except KeyFileError as error:
        fail(str(error), Exit.USAGE, error.remedy)


def _read_act_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_ACT_BYTES_MAX).decode("ascii").strip()
    except OSError as error:
        fail(f"{path}: {error.strerror}", Exit.USAGE)
    except UnicodeDecodeError:
        fail(f"{path} is no act: an act is one line of letters and dots", Exit.USAGE)


async def _found(store: HeadEndStore, command_id: str) -> LedgerCommand:
    found = await store.command(command_id)
    if found is None:
        fail(
            f"there is no command {command_id}",
            Exit.FAILED,
            "`openami command list` names those there are",
        )
    return found
