"""``openami headend backup``, ``restore`` and ``settle``: the store as one file, and back."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from openami.cli.command_rows import who_asks
from openami.cli.moments import as_moment
from openami.cli.options import store_option
from openami.cli.report import Exit, fail, print_json, print_table, say
from openami.cli.rows import Row
from openami.cli.storage import fail_for_store, json_option
from openami.clock import SystemClock
from openami.headend.store import StoreError
from openami.profile import utc_text

if TYPE_CHECKING:
    from openami.headend.backups.file_form import Manifest
    from openami.headend.store.settling import Settled

_Result = TypeVar("_Result")
_file = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("file", metavar="FILE", type=_file)
@store_option
@json_option
def backup(file: Path, store: str, as_json: bool) -> None:
    """Write the store as it is now into FILE, while the head-end works.

    FILE is a tar that proves itself; for a moment it needs twice the room of the store. In it are customers' data
    and passwords' hashes, so it is readable to you alone; no key and no configuration is in it.
    """
    from openami.headend.backups.making import back_up

    manifest = _done(lambda: back_up(store, file, now=SystemClock().now()))
    _print(_told(manifest), as_json=as_json)


@click.command()
@click.argument("file", metavar="FILE", type=_file)
@store_option
@json_option
def restore(file: Path, store: str, as_json: bool) -> None:
    """Bring a backup back where there is no store yet, and put out of force what was open in it.

    Every byte is proved first, and a store that is there is never overwritten. What was written after the backup is
    lost here: gateways are asked for their readings again when the head-end runs. Open commands end as unknown,
    sessions are closed, everybody signs in anew, and tokens that could order relays are revoked.
    """
    from openami.headend.backups.making import restore as bring_back

    manifest, settled = _done(
        lambda: bring_back(file, store, who=who_asks(), now=SystemClock().now())
    )
    _print({**_told(manifest), **_told_settled(settled)}, as_json=as_json)
    _say_what_to_do(settled)


@click.command()
@click.option(
    "--taken-at",
    metavar="TIME",
    required=True,
    callback=as_moment,
    help="When what was brought back was taken: 2026-06-22T14:30:00Z.",
)
@store_option
@json_option
def settle(taken_at: datetime, store: str, as_json: bool) -> None:
    """Do what `restore` does last, for a store that came back another way: a disk's snapshot, the server's tools.

    Also for one whose restore was interrupted. Needed before a head-end runs on any state older than its last one.
    """
    from openami.headend.backups.making import settled

    done = _done(lambda: settled(store, taken_at=taken_at, who=who_asks(), now=SystemClock().now()))
    _print({"takenAt": utc_text(taken_at), **_told_settled(done)}, as_json=as_json)
    _say_what_to_do(done)


def _done(work: Callable[[], _Result]) -> _Result:
    from openami.headend.backups.file_form import BackupError

    try:
        return work()
    except BackupError as error:
        fail(str(error), Exit.FAILED, error.remedy)
    except StoreError as error:
        fail_for_store(error)


def _told(manifest: "Manifest") -> Row:
    return {
        "takenAt": utc_text(manifest.taken_at),
        "engine": manifest.engine,
        "schema": manifest.db_schema,
        "bytes": manifest.bytes,
        "readings": manifest.tables["reading"].rows,
        "closedFiles": manifest.tables["closed"].rows if "closed" in manifest.tables else 0,
        "sha256": manifest.sha256,
    }


def _told_settled(settled: "Settled") -> Row:
    return {
        "commandsUnknown": settled.commands,
        "sessionsClosed": settled.sessions,
        "bulksWithdrawn": settled.bulks,
        "signInsEnded": settled.sign_ins,
        "linksVoid": settled.links,
        "tokensRevoked": list(settled.tokens),
    }


def _print(row: Row, *, as_json: bool) -> None:
    if as_json:
        print_json(row)
        return
    print_table(["", ""], [[name, str(value)] for name, value in row.items()])


def _say_what_to_do(settled: "Settled") -> None:
    say(
        "accounts, tokens and keyrings are those of the backup: `openami user list`, `openami token list`"
    )
    if settled.commands:
        say(
            "what became of the open commands is unknown: `openami command list`; ask anew for what is still wanted"
        )
