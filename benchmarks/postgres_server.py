"""A PostgreSQL of the benchmarks' own: as the package sets it up, but for its buffers; fsync on, gone afterwards.

The buffers are a quarter of the memory, as docs/operations.md tells an operator to give it.

Where OPENAMI_BENCH_POSTGRES names a server, that one is measured instead; its databases are made and dropped.
"""

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.processes import free_port

GIVEN = "OPENAMI_BENCH_POSTGRES"
_USER = "postgres"
# A cluster is made in a few seconds; beside other work in several times as many.
_COMMAND_S_MAX = 120
# Debian puts the newest server here, and not into a PATH.
_DEBIAN = Path("/usr/lib/postgresql")


def find_server() -> Path | None:
    """Return the directory of PostgreSQL's programs; None where it is not installed."""
    found = shutil.which("pg_ctl")
    if found:
        return Path(found).parent
    places = sorted(_DEBIAN.glob("*/bin/pg_ctl"), key=lambda each: float(each.parts[-3]))
    return places[-1].parent if places else None


@contextmanager
def postgres_server(directory: Path | None = None) -> Iterator[str | None]:
    """Yield the URL of a server; None where none is given and none installed.

    Its files are in a new folder of ``directory``, which should be on the disk to be measured.
    """
    given, programs = os.environ.get(GIVEN), find_server()
    if given or programs is None:
        yield given
        return
    folder = Path(tempfile.mkdtemp(prefix="openami-bench-postgres-", dir=directory))
    data = folder / "data"
    _owned_by_its_user(folder)
    try:
        _run(
            programs / "initdb", "-D", data, "-U", _USER, "-A", "trust", "-E", "UTF8", "--locale=C"
        )
        port = free_port()
        with (data / "postgresql.conf").open("a") as conf:
            conf.write(
                f"listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{folder}'\n"
                f"shared_buffers = '{_memory_mb() // 4}MB'\n"
            )
        _run(programs / "pg_ctl", "-D", data, "-s", "-w", "-l", data / "server.log", "start")
        try:
            yield f"postgresql://{_USER}@127.0.0.1:{port}/postgres"
        finally:
            _run(programs / "pg_ctl", "-D", data, "-s", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _memory_mb() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20


@contextmanager
def database(server: str) -> Iterator[str]:
    """Yield the URL of an empty database; dropped afterwards, whoever is still connected."""
    name = f"openami_bench_{os.getpid()}_{time.monotonic_ns()}"
    asyncio.run(_execute(server, f'CREATE DATABASE "{name}"'))
    try:
        yield server.rsplit("/", 1)[0] + "/" + name
    finally:
        asyncio.run(_execute(server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


async def _execute(server: str, statement: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(server)
    await connection.execute(statement)
    await connection.close()


def _owned_by_its_user(folder: Path) -> None:
    if os.geteuid() == 0:
        shutil.chown(folder, _USER)
        # The server's user has to get through to it.
        for parent in folder.parents:
            assert parent.stat().st_mode & 0o001, f"{_USER} cannot enter {parent}"


def _run(*command: str | Path) -> None:
    # The server refuses to run as root; a laptop's user runs it as himself.
    whom: Sequence[str] = ("runuser", "-u", _USER, "--") if os.geteuid() == 0 else ()
    subprocess.run(
        [*whom, *command],
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        timeout=_COMMAND_S_MAX,
        check=True,
    )
