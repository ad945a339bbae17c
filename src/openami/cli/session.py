"""``openami session``: who may command which gateway, from when to when."""

import asyncio
import sys
from datetime import timedelta
from typing import NoReturn

import click

from openami.cli.command_rows import session_row, who_asks
from openami.cli.durations import as_duration
from openami.cli.options import store_option
from openami.cli.report import Exit, fail, print_json, say
from openami.cli.rows import print_rows, printable
from openami.cli.storage import json_option, with_store
from openami.clock import SystemClock
from openami.headend.audit import Entry
from openami.headend.new_ids import new_id
from openami.headend.sessions import SESSION_DAYS, LedgerSession, SessionChange, close_requested
from openami.headend.store import ROWS_MAX, Access
from openami.headend.store.commands import HeadEndStore
from openami.profile import ProfileError, SessionTopic
from openami.profile.identifiers import FeederId, GatewayId, MeterSerial, SessionId, check_id
from openami.sip.keyring import ANY
from openami.sip.session import SESSION_LIFE, SessionState
from openami.sip.session_document import SESSION_LIFE_MAX

# Often enough that a person does not notice it.
POLL_INTERVAL_S = 0.05
_LIST = ("id", "state", "feederId", "gatewayId", "validTo", "nonceAt", "reason")
_LISTED_BY_DEFAULT = 100


@click.group()
def session() -> None:
    """Sessions with gateways: what a command is signed in.

    The head-end opens one by itself when a command needs it, and renews it a day before its end.
    """


@session.command("open")
@click.option("--feeder", metavar="F", required=True)
@click.option("--gateway", metavar="G", required=True)
@click.option("--meter", "meters", metavar="S", multiple=True, help="Only this meter (repeatable).")
@click.option(
    "--for",
    "life",
    metavar="TIME",
    default=f"{SESSION_DAYS}d",
    show_default=True,
    callback=as_duration,
    help="How long it holds, 8d at most.",
)
@click.option("--reason", metavar="TEXT", default="", help="Why; for the audit log.")
@click.option("--wait", metavar="TIME", callback=as_duration, help="Wait for the gateway's answer.")
@store_option
@json_option
def open_session(
    feeder: str,
    gateway: str,
    meters: tuple[str, ...],
    life: timedelta,
    reason: str,
    wait: timedelta | None,
    store: str,
    as_json: bool,
) -> None:
    """Ask for a session; the running head-end offers it.

    With --wait: 0 when the gateway accepted, 4 when it rejected, 5 when it did not answer in time.
    """
    if life > SESSION_LIFE_MAX:
        raise click.BadParameter(f"a session holds {SESSION_LIFE_MAX.days}d at most")
    session_id = new_id("sip")
    _check_ids(feeder, gateway, session_id, meters)
    now = SystemClock().now()
    new = LedgerSession(
        id=session_id,
        feeder_id=feeder,
        gateway_id=gateway,
        meters=meters or (ANY,),
        requested_by=who_asks(),
        reason=reason,
        requested_at=now,
        valid_to=now + life,
        due_at=now,
    )
    entry = Entry(who=new.requested_by, what="session requested", why=reason, session_id=session_id)

    async def run(open_store: HeadEndStore) -> LedgerSession:
        await open_store.add_session(new, entry, now)
        return await _answered(open_store, new, wait or timedelta(0))

    _show(with_store(store, run, Access.EDIT), as_json)
    after = with_store(store, lambda opened: _found(opened, session_id))
    if wait is not None:
        _exit_for(after)


def _check_ids(feeder: str, gateway: str, session_id: str, meters: tuple[str, ...]) -> None:
    try:
        SessionTopic(FeederId(feeder), GatewayId(gateway), SessionId(session_id))
        for meter in meters:
            check_id(MeterSerial(meter), path="")
    except ProfileError as error:
        raise click.UsageError(str(error)) from None


async def _answered(store: HeadEndStore, new: LedgerSession, wait: timedelta) -> LedgerSession:
    found = new
    deadline = asyncio.get_running_loop().time() + wait.total_seconds()
    while found.state is SessionState.OFFERED and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(POLL_INTERVAL_S)
        found = await _found(store, new.id)
    return found


def _exit_for(found: LedgerSession) -> NoReturn:
    match found.state:
        case SessionState.ACTIVE:
            sys.exit(Exit.DONE)
        case SessionState.REJECTED | SessionState.REVOKED:
            sys.exit(Exit.REFUSED)
        case _:
            sys.exit(Exit.OUTCOME_UNKNOWN)


@session.command("list")
@click.option("--feeder", metavar="F")
@click.option("--gateway", metavar="G")
@click.option("--all", "everything", is_flag=True, help="Those that have ended, too.")
@click.option(
    "--limit", type=click.IntRange(1, ROWS_MAX), default=_LISTED_BY_DEFAULT, show_default=True
)
@store_option
@json_option
def list_sessions(
    feeder: str | None,
    gateway: str | None,
    everything: bool,
    limit: int,
    store: str,
    as_json: bool,
) -> None:
    """List sessions, newest first."""

    async def read(open_store: HeadEndStore) -> list[LedgerSession]:
        return list(
            await open_store.sessions(
                feeder_id=feeder, gateway_id=gateway, only_open=not everything, at_most=limit
            )
        )

    rows = [session_row(each) for each in with_store(store, read)]
    print_rows(rows, _LIST, as_json=as_json)


@session.command()
@click.argument("session_id", metavar="ID")
@click.option("--document", is_flag=True, help="Print the signed document and nothing else.")
@store_option
@json_option
def show(session_id: str, document: bool, store: str, as_json: bool) -> None:
    """Show a session."""
    found = with_store(store, lambda opened: _found(opened, session_id))
    if document:
        if found.document is None:
            fail(f"{session_id} has not been offered yet", Exit.FAILED)
        click.echo(found.document)
        return
    _show(found, as_json)


def _show(found: LedgerSession, as_json: bool) -> None:
    row = session_row(found)
    if as_json:
        print_json(row)
        return
    for name, value in row.items():
        if value is not None:
            click.echo(f"{name:<12} {printable(str(value))}")


@session.command()
@click.argument("session_id", metavar="ID")
@click.option("--reason", metavar="CODE", default="CLOSED", show_default=True)
@store_option
@json_option
def close(session_id: str, reason: str, store: str, as_json: bool) -> None:
    """Close a session; the running head-end tells the gateway. Commands in it are not taken any more."""
    now = SystemClock().now()
    by = who_asks()

    def decide(found: LedgerSession, _: frozenset[str]) -> SessionChange | None:
        return close_requested(found, now, by=by, code=reason)

    async def run(open_store: HeadEndStore) -> LedgerSession:
        await _found(open_store, session_id)
        after = await open_store.change_session(session_id, decide, now)
        assert after is not None
        return after

    after = with_store(store, run, Access.EDIT)
    if SESSION_LIFE.is_terminal(after.state):
        say(f"openami: {session_id} has ended already: {after.state.name.lower()}")
    _show(after, as_json)


async def _found(store: HeadEndStore, session_id: str) -> LedgerSession:
    found = await store.session(session_id)
    if found is None:
        fail(
            f"there is no session {session_id}",
            Exit.FAILED,
            "`openami session list --all` names those there are",
        )
    return found
