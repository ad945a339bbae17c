"""A real PostgreSQL, started for the tests in a directory of its own and gone afterwards."""

import itertools
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.tools import free_port, require_tool, scratch_directory

_TIMEOUT_S = 60
_USER = "postgres"


class Postgres:
    """One cluster: trusts everybody on loopback, holds as many databases as tests ask for."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.data = directory / "data"
        self._sockets = directory
        self._numbers = itertools.count(1)

    def create(self) -> None:
        """Make the cluster's files; without syncing them, since no test pulls the plug."""
        _run(
            [
                *_as_postgres(),
                require_tool("initdb"),
                *("-D", self.data, "-U", _USER, "-A", "trust", "-E", "UTF8", "--locale=C"),
                "--no-sync",
            ]
        )
        self._configure("max_connections = 40")

    def follow(self, primary: "Postgres") -> None:
        """Make the files of a standby that takes what the primary, which runs, sends it."""
        source = f"postgresql://{_USER}@127.0.0.1:{primary.port}/?application_name={self.name}"
        _run(
            [
                *_as_postgres(),
                require_tool("pg_basebackup"),
                *("-D", self.data, "-d", source, "-R", "-X", "stream", "-c", "fast"),
                "--no-sync",
            ]
        )
        self._configure()

    @property
    def name(self) -> str:
        """How a primary calls it as its standby."""
        return f"at{self.port}"

    def _configure(self, *lines: str) -> None:
        ours = (
            *("listen_addresses = '127.0.0.1'", f"port = {self.port}", "fsync = on"),
            f"unix_socket_directories = '{self._sockets}'",
        )
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.write("\n".join((*ours, *lines)) + "\n")

    def start(self) -> None:
        """Start the server; return when it accepts connections."""
        self._pg_ctl("start", "-w", "-l", self.data / "server.log")

    def stop(self) -> None:
        """Stop the server, closing every connection."""
        self._pg_ctl("stop", "-w", "-m", "fast")

    def kill(self) -> None:
        """Stop the server without a checkpoint, as a crash would."""
        self._pg_ctl("stop", "-w", "-m", "immediate")

    def promote(self) -> None:
        """Make a standby the primary; return when it takes writes."""
        self._pg_ctl("promote", "-w")

    def freeze(self) -> None:
        """Stop its processes without closing anything: a server that has gone silent."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let frozen processes go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, sent: signal.Signals) -> None:
        # The postmaster first: frozen, it starts no further one.
        postmaster = (self.data / "postmaster.pid").read_text().split()[0]
        os.kill(int(postmaster), sent)
        for process in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # gone meanwhile
                if process.read_text().rpartition(")")[2].split()[1] == postmaster:
                    os.kill(int(process.parent.name), sent)

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
        _run([*_as_postgres(), require_tool("pg_ctl"), "-D", self.data, "-s", *arguments])


@contextmanager
def running_postgres(*, following: Postgres | None = None) -> Iterator[Postgres]:
    """Yield a running cluster, or a standby of one; stopped and deleted at the end."""
    require_tool("initdb")
    with scratch_directory(_USER) as directory:
        server = Postgres(directory)
        if following is None:
            server.create()
        else:
            server.follow(following)
        server.start()
        try:
            yield server
        finally:
            if (server.data / "postmaster.pid").exists():
                server.thaw()
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
