"""A real PostgreSQL, started for the tests in a directory of its own and gone afterwards."""

import itertools
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.tools import free_port, require_tool, scratch_directory

_TIMEOUT_S = 60
_USER = "postgres"


class Postgres:
    """One cluster: trusts everybody on loopback, holds as many databases as tests ask for."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._data = directory / "data"
        self._sockets = directory
        self._numbers = itertools.count(1)

    def create(self) -> None:
        """Make the cluster's files; without syncing them, since no test pulls the plug."""
        _run(
            [
                *_as_postgres(),
                require_tool("initdb"),
                *("-D", self._data, "-U", _USER, "-A", "trust", "-E", "UTF8", "--locale=C"),
                "--no-sync",
            ]
        )
        with (self._data / "postgresql.conf").open("a") as conf:
            conf.write(
                f"listen_addresses = '127.0.0.1'\nport = {self.port}\n"
                f"unix_socket_directories = '{self._sockets}'\nfsync = on\nmax_connections = 40\n"
            )

    def start(self) -> None:
        """Start the server; return when it accepts connections."""
        self._pg_ctl("start", "-w", "-l", self._data / "server.log")

    def stop(self) -> None:
        """Stop the server, closing every connection."""
        self._pg_ctl("stop", "-w", "-m", "fast")

    def kill(self) -> None:
        """Stop the server without a checkpoint, as a crash would."""
        self._pg_ctl("stop", "-w", "-m", "immediate")

    def new_database(self) -> str:
        """Return the URL of a database nobody has used."""
        name = f"db{next(self._numbers):03}"
        self.sql(f"CREATE DATABASE {name}")
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/{name}"

    def drop_database(self, url: str) -> None:
        """Drop a database, whoever is still connected to it."""
        self.sql(f"DROP DATABASE IF EXISTS {url.rsplit('/', 1)[1]} WITH (FORCE)")

    def sql(self, statement: str, *, database: str = "postgres") -> str:
        """Run a statement as administrator; return what psql prints, bare."""
        url = f"postgresql://{_USER}@127.0.0.1:{self.port}/{database}"
        return _run([require_tool("psql"), "-X", "-q", "-A", "-t", "-d", url, "-c", statement])

    def _pg_ctl(self, *arguments: str | Path) -> None:
        _run([*_as_postgres(), require_tool("pg_ctl"), "-D", self._data, "-s", *arguments])


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Yield a running cluster; stopped and deleted at the end."""
    require_tool("initdb")
    with scratch_directory(_USER) as directory:
        server = Postgres(directory)
        server.create()
        server.start()
        try:
            yield server
        finally:
            if (directory / "data" / "postmaster.pid").exists():
                server.kill()


def _as_postgres() -> Sequence[str]:
    # The server refuses to run as root; a laptop's user runs it as himself.
    return ("runuser", "-u", _USER, "--") if os.geteuid() == 0 else ()


def _run(command: Sequence[str | Path]) -> str:
    done = subprocess.run(
        command,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_TIMEOUT_S,
        check=False,
    )
    output = done.stdout.decode(errors="replace").strip()
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{output}")
    return output
