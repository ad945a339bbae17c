"""``openami headend migrate-store``: the store moved to another engine, and proved."""

import asyncio
from typing import TYPE_CHECKING

import click

from openami.cli.command_rows import who_asks
from openami.cli.report import Exit, fail, print_json, print_table, say
from openami.cli.storage import fail_for_store, json_option
from openami.clock import SystemClock
from openami.headend.store import StoreError

if TYPE_CHECKING:
    from openami.headend.moving.moved import Moved


@click.command("migrate-store")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@json_option
def migrate_store(source: str, target: str, as_json: bool) -> None:
    """Move the store FROM one engine TO another: sqlite:///… and postgresql://…, either way.

    Stop the head-end first. TO is a file that is not there, or an empty database. Every row of every table is
    copied, read back and compared, and TO counts only when all of it is the same. FROM keeps its rows and is marked
    as moved: no head-end runs on it any more. Interrupted at any moment, at most one of them acts; give the same
    command again.
    """
    from openami.headend.backups.file_form import BackupError
    from openami.headend.moving.moved import move
    from openami.headend.moving.rows import MoveError

    try:
        moved = asyncio.run(move(source, target, who=who_asks(), now=SystemClock().now(), tell=say))
    except (MoveError, BackupError) as error:
        fail(str(error), Exit.FAILED, error.remedy)
    except StoreError as error:
        fail_for_store(error)
    except KeyboardInterrupt:
        fail("interrupted", Exit.INTERRUPTED, "nothing is lost: give the same command again")
    _print(moved, as_json=as_json)
    say(f"name the new store from now on (--store, or `store` in the file): {moved.target}")


def _print(moved: "Moved", *, as_json: bool) -> None:
    if as_json:
        tables = {
            name: {"rows": content.rows, "digest": content.digest}
            for name, content in moved.tables.items()
        }
        row = {"from": moved.source, "to": moved.target, "rows": moved.rows, "tables": tables}
        print_json(row)
        return
    rows = [[name, str(each.rows), each.digest] for name, each in moved.tables.items()]
    print_table(["table", "rows", "digest of both"], rows)
