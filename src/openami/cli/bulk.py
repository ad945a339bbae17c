"""``openami bulk``: many houses cut off by one decision of two people, as the console has it (decision 0050).

A decision goes into the store; the running head-end asks for the houses one by one.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NoReturn, TextIO, TypeVar

import click

from openami.cli.account_proof import proved, shown, shows_account
from openami.cli.command_rows import text_of, who_asks
from openami.cli.durations import as_duration
from openami.cli.options import store_option
from openami.cli.report import Exit, fail, print_json, say
from openami.cli.rows import Row, print_rows, printable
from openami.cli.storage import json_option, with_store
from openami.clock import SystemClock
from openami.headend.accounts import Principal, Role
from openami.headend.bulk import (
    BULK_METERS_MAX,
    PROPOSAL_HOURS,
    Bulk,
    BulkMeter,
    BulkRefused,
    BulkState,
    approved,
    proposed,
)
from openami.headend.bulk_preview import LeftOut, Preview, preview
from openami.headend.bulk_work import feeder_facts, stop
from openami.headend.commands import LedgerCommand
from openami.headend.new_ids import new_id
from openami.headend.store import Access
from openami.headend.store.commands import HeadEndStore
from openami.profile import utc_text
from openami.profile.command import CommandState

_Command = TypeVar("_Command", bound=Callable[..., Any])
_Houses = Sequence[tuple[BulkMeter, LedgerCommand | None]]

# A house takes seconds at least.
POLL_INTERVAL_S: Final = 0.5
# Five hundred serials of 64 letters, and their separators.
_SERIALS_CHARS_MAX: Final = 40_000
_LIST: Final = ("id", "state", "feederId", "reason", "requestedBy", "approvedBy", "requestedAt")
_WHY: Final = {
    LeftOut.UNKNOWN: "no such meter was ever heard of on this feeder",
    LeftOut.NO_CUSTOMER: "it is no customer's meter",
    LeftOut.PROTECTED: "protected: a critical customer's",
    LeftOut.SECOND_SIGNATURE: "protected by the keyring: needs a signature of its own",
    LeftOut.ALREADY_ASKED: "a command already asks for it",
    LeftOut.ALREADY_OFF: "its relay was last read open",
}
_naming: Final = (
    click.argument("serials", metavar="[SERIAL]...", nargs=-1),
    click.option("--feeder", "feeder_id", metavar="F", required=True, help="Of this feeder."),
    click.option(
        "--serials",
        "file",
        metavar="FILE",
        type=click.File(encoding="utf-8"),
        help="Read serials from a file, or - for stdin; between them commas, spaces or line ends.",
    ),
)


def _names_houses(command: _Command) -> _Command:
    for option in reversed(_naming):
        command = option(command)
    return command


@click.group()
def bulk() -> None:
    """Many houses cut off by one decision: one person proposes it, another approves it.

    Exit codes of show: 0 every house is off · 1 ended, and not every house is · 5 it has not ended.
    """


# --- look, propose -------------------------------------------------------------------------------


@bulk.command("preview")
@_names_houses
@store_option
@json_option
def look(
    serials: tuple[str, ...], feeder_id: str, file: TextIO | None, store: str, as_json: bool
) -> None:
    """Show which of these meters would be cut off, and which not and why. Nothing is done."""
    named = _named(serials, file)
    found = with_store(store, lambda opened: _previewed(opened, feeder_id, named))
    if as_json:
        print_json(
            {
                "feederId": feeder_id,
                "meterSerials": [serial for serial, _ in found.houses],
                "leftOut": [{"meterSerial": serial, "why": why} for serial, why in found.left_out],
            }
        )
        return
    _tell(found)


@bulk.command()
@_names_houses
@click.option(
    "--reason", metavar="TEXT", required=True, help="Why; for the audit log and each command."
)
@click.option(
    "--houses",
    "count",
    type=click.IntRange(1, BULK_METERS_MAX),
    help="How many houses that is: another number is refused. Without it a terminal is asked.",
)
@click.option("--idempotency-key", metavar="KEY", help="The same key again names the same one.")
@shows_account
@store_option
@json_option
def propose(
    serials: tuple[str, ...],
    feeder_id: str,
    file: TextIO | None,
    reason: str,
    count: int | None,
    idempotency_key: str | None,
    name: str,
    password_file: Path | None,
    code: str,
    store: str,
    as_json: bool,
) -> None:
    """Propose to cut these houses off, as an engineer. Nothing happens until a second person approves it.

    Shows who is in it first. Exit code 4: it is not taken, and why.
    """
    named = _named(serials, file)
    found = with_store(store, lambda opened: _previewed(opened, feeder_id, named))
    if found.houses:
        _tell(found, err=True)
        count = _counted(count)
    person = shown(name, password_file, code)

    async def run(opened: HeadEndStore) -> tuple[Bulk, _Houses]:
        principal = await proved(opened, person, Role.ENGINEER, feeder_id)
        again = await _previewed(opened, feeder_id, named)
        if again.houses and count != len(again.houses):
            raise BulkRefused("count", f"{len(again.houses)} houses would be cut off, not {count}")
        return await _proposed(opened, again, principal, feeder_id, reason, idempotency_key)

    kept, houses = _decided(store, run)
    _show(kept, houses, as_json)
    say(
        f"{kept.id}: nothing happens until a second person approves it, within {PROPOSAL_HOURS} h"
        if kept.state is BulkState.PROPOSED
        else f"{kept.id} was proposed before under this key"
    )


def _named(serials: Sequence[str], file: TextIO | None) -> list[str]:
    text = "" if file is None else file.read(_SERIALS_CHARS_MAX + 1)
    if len(text) > _SERIALS_CHARS_MAX:
        raise click.UsageError(f"--serials: {_SERIALS_CHARS_MAX} characters at most")
    named = [*serials, *text.replace(",", " ").split()]
    if not named:
        raise click.UsageError("name the meters: their serials, or a file of them with --serials")
    return named


async def _previewed(store: HeadEndStore, feeder_id: str, named: Sequence[str]) -> Preview:
    clock = SystemClock()
    facts = await feeder_facts(store, feeder_id, clock)
    if not facts.meters:
        fail(
            f"the head-end has not heard of a meter on feeder {feeder_id}",
            Exit.FAILED,
            "`openami feeder list` names those there are",
        )
    return preview(named, facts, clock.now())


def _tell(found: Preview, *, err: bool = False) -> None:
    for each in found.chosen:
        told = (each.meter.meter_serial, each.customer, each.pole, each.meter.gateway_id)
        click.echo("  ".join(printable(word) for word in told if word), err=err)
    for serial, why in found.left_out:
        say(f"left out: {printable(serial)}: {_WHY[why]}")
    say(f"{len(found.chosen)} would be cut off, {len(found.left_out)} are left out")


def _counted(count: int | None) -> int:
    """Return how many houses the person says there are."""
    if count is not None:
        return count
    if not sys.stdin.isatty():
        raise click.UsageError("how many houses that is, is for a person to say: --houses N")
    said: int = click.prompt("How many houses are to be cut off", type=int, err=True)
    return said


async def _proposed(
    store: HeadEndStore,
    found: Preview,
    principal: Principal,
    feeder_id: str,
    reason: str,
    idempotency_key: str | None,
) -> tuple[Bulk, _Houses]:
    new, meters, entry = proposed(
        found.houses,
        bulk_id=new_id("bulk"),
        feeder_id=feeder_id,
        reason=reason,
        who=principal.name,
        first_person=principal.person,
        now=SystemClock().now(),
        idempotency_key=idempotency_key and f"cli:{principal.name}:{idempotency_key}",
    )
    kept = await store.add_bulk(new, meters, entry)
    if (kept.feeder_id, kept.reason) != (new.feeder_id, new.reason):
        raise BulkRefused("idempotency-key-reused", f"this key names {kept.id}, which is another")
    return await _found(store, kept.id), await store.bulk_meters(kept.id)


# --- list, show ----------------------------------------------------------------------------------


@bulk.command("list")
@click.option("--feeder", metavar="F")
@click.option("--open", "only_open", is_flag=True, help="Only those that have not ended.")
@store_option
@json_option
def list_bulks(feeder: str | None, only_open: bool, store: str, as_json: bool) -> None:
    """List the last hundred bulk disconnections, newest first."""

    async def read(opened: HeadEndStore) -> list[Bulk]:
        return list(await opened.bulks(None if feeder is None else {feeder}, only_open=only_open))

    print_rows([_row(each) for each in with_store(store, read)], _LIST, as_json=as_json)


@bulk.command()
@click.argument("bulk_id", metavar="ID")
@click.option("--wait", metavar="TIME", callback=as_duration, help="Wait so long for its end.")
@store_option
@json_option
def show(bulk_id: str, wait: timedelta | None, store: str, as_json: bool) -> None:
    """Show a bulk disconnection, each house with its command and where that stands."""
    found, houses = with_store(store, lambda opened: _ended(opened, bulk_id, wait or timedelta(0)))
    _show(found, houses, as_json)
    _exit_for(found, houses)


async def _ended(store: HeadEndStore, bulk_id: str, wait: timedelta) -> tuple[Bulk, _Houses]:
    """Return one when it and its commands have ended, or as it is when the wait is over."""
    deadline = asyncio.get_running_loop().time() + wait.total_seconds()
    while True:
        found, houses = await _found(store, bulk_id), await store.bulk_meters(bulk_id)
        if not _goes_on(found, houses) or asyncio.get_running_loop().time() >= deadline:
            return found, houses
        await asyncio.sleep(POLL_INTERVAL_S)


def _goes_on(found: Bulk, houses: _Houses) -> bool:
    """Return whether anything may still change: what was sent goes on when the rest is withdrawn."""
    return found.is_open or any(command is not None and command.is_open for _, command in houses)


def _exit_for(found: Bulk, houses: _Houses) -> NoReturn:
    if _goes_on(found, houses):
        sys.exit(Exit.OUTCOME_UNKNOWN)
    off = all(
        command is not None and (command.resolved_as or command.state) is CommandState.CONFIRMED
        for _, command in houses
    )
    sys.exit(Exit.DONE if off else Exit.FAILED)


# --- approve, withdraw ---------------------------------------------------------------------------


@bulk.command()
@click.argument("bulk_id", metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask.")
@shows_account
@store_option
@json_option
def approve(
    bulk_id: str,
    yes: bool,
    name: str,
    password_file: Path | None,
    code: str,
    store: str,
    as_json: bool,
) -> None:
    """Let a bulk disconnection run, as a second person who is an operator.

    Shows once more who would be cut off. Exit code 4: it is refused, and why.
    """

    async def look_again(opened: HeadEndStore) -> tuple[Bulk, Preview]:
        found = await _found(opened, bulk_id)
        named = [meter.meter_serial for meter, _ in await opened.bulk_meters(bulk_id)]
        return found, await _previewed(opened, found.feeder_id, named)

    found, now_chosen = with_store(store, look_again)
    _tell(now_chosen, err=True)
    say(f"proposed by {found.requested_by}: {printable(found.reason)}")
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("approving is for a person to do: say --yes")
        click.confirm("Cut them off?", abort=True, err=True)
    person = shown(name, password_file, code)

    async def run(opened: HeadEndStore) -> tuple[Bulk, _Houses]:
        principal = await proved(opened, person, Role.OPERATOR, found.feeder_id)
        now = SystemClock().now()
        await opened.change_bulk(
            bulk_id, lambda bulk: approved(bulk, who=principal.name, now=now), now
        )
        return await _found(opened, bulk_id), await opened.bulk_meters(bulk_id)

    _show(*_decided(store, run), as_json)


@bulk.command()
@click.argument("bulk_id", metavar="ID")
@store_option
@json_option
def withdraw(bulk_id: str, store: str, as_json: bool) -> None:
    """Stop it: who was not asked for yet stays connected, and what was not sent yet is called back.

    Needs no password. Exit code 4: it has ended already.
    """

    async def run(opened: HeadEndStore) -> tuple[Bulk, _Houses]:
        await _found(opened, bulk_id)
        await stop(opened, bulk_id, who=who_asks(), clock=SystemClock())
        return await _found(opened, bulk_id), await opened.bulk_meters(bulk_id)

    _show(*_decided(store, run), as_json)


def _decided(store: str, run: Callable[[HeadEndStore], Any]) -> tuple[Bulk, _Houses]:
    try:
        after: tuple[Bulk, _Houses] = with_store(store, run, Access.EDIT)
    except BulkRefused as refused:
        fail(f"refused: {refused} ({refused.code})", Exit.REFUSED)
    return after


# --- what they share -----------------------------------------------------------------------------


async def _found(store: HeadEndStore, bulk_id: str) -> Bulk:
    found = await store.bulk(bulk_id)
    if found is None:
        fail(
            f"there is no bulk disconnection {bulk_id}",
            Exit.FAILED,
            "`openami bulk list` names those there are",
        )
    return found


def _row(found: Bulk) -> Row:
    """One, as the API tells it."""
    return {
        "id": found.id,
        "feederId": found.feeder_id,
        "reason": found.reason,
        "state": found.state.value,
        "requestedBy": found.requested_by,
        "requestedAt": utc_text(found.requested_at),
        "lapsesAt": utc_text(found.lapses_at),
        "approvedBy": found.approved_by,
        "approvedAt": text_of(found.approved_at),
        "withdrawnBy": found.withdrawn_by,
        "endedAt": text_of(found.ended_at),
    }


def _house_row(meter: BulkMeter, command: LedgerCommand | None) -> Row:
    return {
        "meterSerial": meter.meter_serial,
        "gatewayId": meter.gateway_id,
        "commandId": meter.command_id,
        "commandState": None if command is None else command.state.name.lower(),
        "refusedAs": meter.refused_as,
    }


def _show(found: Bulk, houses: _Houses, as_json: bool) -> None:
    row, rows = _row(found), [_house_row(*house) for house in houses]
    if as_json:
        print_json({**row, "houses": rows})
        return
    for name, value in row.items():
        if value is not None:
            click.echo(f"{name:<15} {printable(str(value))}")
    stand = Counter(each["refusedAs"] or each["commandState"] or "not asked for" for each in rows)
    click.echo(f"{'houses':<15} {', '.join(f'{count} {word}' for word, count in stand.items())}")
    columns = ("meterSerial", "gatewayId", "commandId", "commandState", "refusedAs")
    print_rows(rows, columns, as_json=False)
