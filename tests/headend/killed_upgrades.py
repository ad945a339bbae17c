"""Upgrade copies of an old store and die within each step: a process of its own, because it kills itself.

    python -m tests.headend.killed_upgrades STORE FOLDER

For each step of the schema it forks, once to die after the step's first statement, once after its last one but
before the commit, and leaves the copy as the death left it: FOLDER/NUMBER-PLACE.db.
"""

import asyncio
import os
import shutil
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

from openami.headend.store import Access
from openami.headend.store.migrations import SCHEMA, migrations
from openami.headend.store.sqlite import _statements, open_sqlite

_connect = sqlite3.connect


def deadly(*where: Any, **how: Any) -> sqlite3.Connection:
    """Connect, with a function that ends the process as a power cut does."""
    connection: sqlite3.Connection = _connect(*where, **how)
    connection.create_function("die", 0, lambda: os.kill(os.getpid(), signal.SIGKILL))
    return connection


async def upgrade(path: Path, schema: Path) -> None:
    async with open_sqlite(str(path), Access.OWN, schema=schema):
        pass


def main() -> None:
    store, folder = map(Path, sys.argv[1:])
    schema = folder / "schema"
    shutil.copytree(SCHEMA / "sqlite", schema)
    sqlite3.connect = deadly  # type: ignore[assignment]
    for step in migrations(SCHEMA / "sqlite"):
        statements = list(_statements(step.script))
        places = {"first": [statements[0], "SELECT die();"], "last": [*statements, "SELECT die();"]}
        for place, script in places.items():
            copy = folder / f"{step.number:04}-{place}.db"
            shutil.copy(store, copy)
            (schema / step.name).write_text("\n".join(script))
            if (child := os.fork()) == 0:
                asyncio.run(upgrade(copy, schema))
                os._exit(0)  # it was not killed
            _, status = os.waitpid(child, 0)
            print(copy.name, os.waitstatus_to_exitcode(status))
        (schema / step.name).write_text(step.script)


if __name__ == "__main__":
    main()
