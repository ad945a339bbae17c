"""NATS: three nodes of JetStream with the configuration of `openami broker-config nats`."""

import json
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.clusters.certificates import Certificates
from benchmarks.clusters.cluster import Cluster, Node, free_ports
from openami.mqtt.broker_rights import BrokerRights
from openami.mqtt.nats_rights import nats_authorization, nats_conf

_MESSAGES = "$MQTT_msgs"  # the stream every session's messages wait in
_ASK_TIMEOUT_S = 5


class NatsCluster(Cluster):
    """Nodes n1, n2, …"""

    def __init__(
        self, directory: Path, certificates: Certificates, rights: BrokerRights, *, size: int = 3
    ) -> None:
        program = shutil.which("nats-server")
        if program is None:
            raise SystemExit("no NATS here: apt-get install nats-server")
        ports = free_ports(4 * size)
        mqtt, routes, clients, self._monitors = (ports[k * size : (k + 1) * size] for k in range(4))
        self._names = names = [f"n{number}" for number in range(1, size + 1)]
        self.urls = tuple(f"mqtts://localhost:{port}" for port in mqtt)
        self.nodes = []
        for index in range(size):
            place = directory / names[index]
            self.nodes.append(Node(place, [program, "-c", str(place / "nats.conf")]))
            (place / "nats.conf").write_text(
                nats_conf(
                    nodes=names[index:] + names[:index],
                    listen=f"127.0.0.1:{mqtt[index]}",
                    route_port=routes[index],
                    routes=[f"127.0.0.1:{port}" for port in routes],
                    client_port=clients[index],
                    monitor_port=self._monitors[index],
                    certs=str(certificates.directory),
                    store=str(place / "js"),
                )
            )
        self._write(rights)

    def _write(self, rights: BrokerRights) -> None:
        for node in self.nodes:
            (node.directory / "openami-users.conf").write_text(nats_authorization(rights))

    def apply(self, rights: BrokerRights) -> None:
        self._write(rights)
        for node in self.nodes:
            node.tell(signal.SIGHUP)

    def leader(self, client_id: str) -> int | None:
        for stream in self._streams():
            if stream["name"] == _MESSAGES and stream["cluster"].get("leader"):
                return self._names.index(stream["cluster"]["leader"])
        return None

    def _is_member(self, index: int) -> bool:
        """Return whether it follows or leads every stream, and is up to date with it.

        Not /healthz: after a kill it waits for ever for a consumer of retained messages whose server is gone.
        """
        try:
            self._ask(index, "healthz?js-server-only=true")
            streams = self._streams()
        except (OSError, urllib.error.URLError):
            return False
        name = self._names[index]
        return all(
            stream["cluster"]["leader"] == name
            or any(r["name"] == name and r["current"] for r in stream["cluster"]["replicas"])
            for stream in streams
        )

    def _streams(self) -> list[dict[str, Any]]:
        """Return every stream as its leader sees it."""
        return [
            stream
            for index, node in enumerate(self.nodes)
            if node.running
            for account in self._ask(index, "jsz?streams=true").get("account_details", ())
            for stream in account.get("stream_detail", ())
            if stream["cluster"].get("leader") == self._names[index]
        ]

    def _ask(self, index: int, what: str) -> Any:
        url = f"http://127.0.0.1:{self._monitors[index]}/{what}"
        with urllib.request.urlopen(url, timeout=_ASK_TIMEOUT_S) as answer:
            return json.load(answer)

    def version(self) -> str:
        told = subprocess.run(["nats-server", "-v"], capture_output=True, text=True, check=True)
        return f"NATS {told.stdout.split()[-1]}"
