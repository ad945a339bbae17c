"""Three etcd members and three PostgreSQL servers under Patroni, on loopback, to be killed one by one.

Patroni reads ``deploy/patroni/patroni.yml``; addresses, paths and passwords are replaced here, and nothing else.
"""

import http.client
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import yaml

from benchmarks.processes import free_port

TEMPLATE = Path(__file__).parents[2] / "deploy/patroni/patroni.yml"
MEMBERS = 3
USER = "postgres"  # PostgreSQL refuses to run as root
PASSWORD = "only-for-this-run"  # noqa: S105 - of a database that is gone afterwards
START_S_MAX = 120.0
LOOK_S = 0.2
REST_TIMEOUT_S = 2.0


class Etcd:
    """One member of the store in which Patroni keeps who is the primary."""

    def __init__(self, number: int, directory: Path) -> None:
        self.name = f"etcd-{number}"
        self.client, self.peer = free_port(), free_port()
        self._directory = directory / self.name
        self._log = directory / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, members: "list[Etcd]") -> None:
        """Start it, for the first time or again."""
        urls = ",".join(f"{member.name}=http://127.0.0.1:{member.peer}" for member in members)
        self._process = started(
            self._log,
            "etcd", "--name", self.name, "--data-dir", str(self._directory),
            "--listen-client-urls", f"http://127.0.0.1:{self.client}",
            "--advertise-client-urls", f"http://127.0.0.1:{self.client}",
            "--listen-peer-urls", f"http://127.0.0.1:{self.peer}",
            "--initial-advertise-peer-urls", f"http://127.0.0.1:{self.peer}",
            "--initial-cluster", urls,
        )  # fmt: skip

    def kill(self) -> None:
        """Kill it with -9."""
        ended(self._process)


class Server:
    """One PostgreSQL and its Patroni, as a machine that can die or freeze."""

    def __init__(
        self, number: int, directory: Path, etcd: list[Etcd], patroni: str, *, synchronous: bool
    ) -> None:
        self.name = f"db-{number}"
        self._program = patroni
        self.port, self._rest = free_port(), free_port()
        self._data = directory / f"{self.name}-data"
        self._config = directory / f"{self.name}.yml"
        self._log = directory / f"{self.name}.log"
        self._patroni: subprocess.Popen[bytes] | None = None
        written = yaml.safe_load(TEMPLATE.read_text())
        written["name"] = self.name
        for key in ("listen", "connect_address"):
            written["restapi"][key] = f"127.0.0.1:{self._rest}"
            written["postgresql"][key] = f"127.0.0.1:{self.port}"
        written["etcd3"]["hosts"] = [f"127.0.0.1:{member.client}" for member in etcd]
        written["bootstrap"]["dcs"]["synchronous_mode"] = synchronous
        ours = written["postgresql"]
        ours["data_dir"], ours["pgpass"] = str(self._data), str(directory / f"{self.name}.pgpass")
        ours["parameters"]["unix_socket_directories"] = str(directory)
        ours["pg_hba"] = [line.replace("10.0.0.0/24", "127.0.0.0/8") for line in ours["pg_hba"]]
        for login in ours["authentication"].values():
            login["password"] = PASSWORD
        self._config.write_text(yaml.safe_dump(written))
        self._config.chmod(0o644)

    def start(self) -> None:
        """Start Patroni, which starts PostgreSQL."""
        self._patroni = started(self._log, self._program, str(self._config))

    def kill(self) -> None:
        """Kill Patroni and PostgreSQL with -9, at once, as a power cut would."""
        found = self._processes()
        self._signal(signal.SIGKILL, found)
        ended(self._patroni)
        until(lambda: not any(map(command_line, found)), "its processes to end")

    def kill_postgres(self) -> None:
        """Kill PostgreSQL alone, as a crash would."""
        self._signal(signal.SIGKILL, self._processes()[1:])

    def freeze(self) -> None:
        """Stop all of its processes without closing anything."""
        self._signal(signal.SIGSTOP, self._processes())

    def thaw(self) -> None:
        """Let its processes go on."""
        self._signal(signal.SIGCONT, self._processes())

    def freeze_receiver(self) -> None:
        """Let the standby hear no more of its primary."""
        self._signal(signal.SIGSTOP, self._receivers())

    def cut_receiver(self) -> None:
        """Let what a frozen receiver had not read be lost, as with its network."""
        found = self._receivers()
        self._signal(signal.SIGTERM, found)
        self._signal(signal.SIGCONT, found)

    def is_primary(self) -> bool:
        """Whether its Patroni says so."""
        answer = self._asked("/patroni")
        # Called "master" before Patroni 4.
        return answer.get("state") == "running" and answer.get("role") in {"primary", "master"}

    def members(self) -> list[dict[str, Any]]:
        """Return what Patroni knows of all."""
        found: list[dict[str, Any]] = self._asked("/cluster").get("members", [])
        return found

    def _asked(self, path: str) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._rest, timeout=REST_TIMEOUT_S)
        try:
            connection.request("GET", path)
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError):
            return {}
        finally:
            connection.close()
        return answer

    def _processes(self) -> list[int]:
        """Return Patroni, the postmaster and its children, in this order."""
        patroni = [] if self._patroni is None else [self._patroni.pid]
        try:
            postmaster = int((self._data / "postmaster.pid").read_text().split()[0])
        except (OSError, IndexError):
            return patroni
        return [*patroni, postmaster, *children(postmaster)]

    def _receivers(self) -> list[int]:
        return [process for process in self._processes() if "walreceiver" in command_line(process)]

    def _signal(self, sent: signal.Signals, processes: list[int]) -> None:
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, sent)


class Cluster:
    """All of them."""

    def __init__(self, directory: Path, patroni: str, *, synchronous: bool) -> None:
        self.etcd = [Etcd(number, directory) for number in range(1, MEMBERS + 1)]
        self.servers = [
            Server(number, directory, self.etcd, patroni, synchronous=synchronous)
            for number in range(1, MEMBERS + 1)
        ]
        self._synchronous = synchronous

    @property
    def url(self) -> str:
        """The store's URL, as a head-end names it."""
        places = ",".join(f"127.0.0.1:{server.port}" for server in self.servers)
        return f"postgresql://openami:{PASSWORD}@{places}/openami"

    def url_of(self, server: Server) -> str:
        """The URL of one server alone."""
        return f"postgresql://openami:{PASSWORD}@127.0.0.1:{server.port}/openami"

    def primary(self) -> Server | None:
        """Return who says that it is the primary; None while nobody does."""
        return next((server for server in self.servers if server.is_primary()), None)

    def standby(self) -> Server:
        """Return the synchronous standby, or where there is none a standby."""
        primary = self.primary()
        assert primary is not None
        roles = {member["name"]: member["role"] for member in primary.members()}
        wanted = "sync_standby" if self._synchronous else "replica"
        return next(server for server in self.servers if roles.get(server.name) == wanted)

    def is_whole(self) -> bool:
        """Whether a primary has two standbys that follow it, one of them synchronous where that is asked for."""
        primary = self.primary()
        if primary is None:
            return False
        members = primary.members()
        in_order = [m for m in members if m.get("state") in {"running", "streaming"}]
        synchronous = [m for m in members if m.get("role") == "sync_standby"]
        timelines = {m.get("timeline") for m in members}
        lags = [m.get("lag") for m in members if m["role"] != "leader"]
        return (
            len(in_order) == MEMBERS
            and len(timelines) == 1
            and all(isinstance(lag, int) for lag in lags)
            and len(synchronous) == int(self._synchronous)
        )

    def kill(self) -> None:
        """End all of it."""
        for server in self.servers:
            server.thaw()
            server.kill()
        for member in self.etcd:
            member.kill()


@contextmanager
def running_cluster(directory: Path, patroni: str, *, synchronous: bool) -> Iterator[Cluster]:
    """Yield a whole cluster; ended afterwards. ``patroni`` is the program."""
    shutil.chown(directory, USER)
    cluster = Cluster(directory, patroni, synchronous=synchronous)
    try:
        for member in cluster.etcd:
            member.start(cluster.etcd)
        for server in cluster.servers:
            server.start()
        until(cluster.is_whole, "a primary with two standbys")
        yield cluster
    finally:
        cluster.kill()


async def make_database(cluster: Cluster) -> None:
    """Make the head-end's user and database, with no more rights than it needs."""
    primary = cluster.primary()
    assert primary is not None
    connection = await asyncpg.connect(
        f"postgresql://postgres:{PASSWORD}@127.0.0.1:{primary.port}/postgres"
    )
    await connection.execute(f"CREATE ROLE openami LOGIN PASSWORD '{PASSWORD}'")
    await connection.execute("CREATE DATABASE openami OWNER openami")
    await connection.close()


# --- processes -----------------------------------------------------------------------------------


def started(log: Path, *command: str) -> subprocess.Popen[bytes]:
    """Start a program as the user of the database servers."""
    with log.open("ab") as said:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            cwd=log.parent,
            user=USER if os.geteuid() == 0 else None,
            group=USER if os.geteuid() == 0 else None,
            extra_groups=[] if os.geteuid() == 0 else None,
        )


def ended(process: subprocess.Popen[bytes] | None) -> None:
    """Kill it with -9 and wait for its end."""
    if process is not None:
        process.kill()
        process.wait()


def children(parent: int) -> list[int]:
    """Return the processes that this one has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
    return found


def command_line(process: int) -> str:
    """Return how a process calls itself; nothing of one that is gone."""
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return ""


def until(happens: Callable[[], bool], what: str) -> None:
    """Return when it has happened. Raises TimeoutError."""
    deadline = time.monotonic() + START_S_MAX
    while not happens():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {START_S_MAX:.0f} s for {what}")
        time.sleep(LOOK_S)
