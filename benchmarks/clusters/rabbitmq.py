"""RabbitMQ: nodes with the configuration of `openami broker-config rabbitmq`, epmd and cookie their own."""

import json
import os
import re
import subprocess
from pathlib import Path

from benchmarks.clusters.certificates import Certificates
from benchmarks.clusters.cluster import Cluster, Node, answers, free_ports, until
from openami.mqtt.broker_rights import BrokerRights
from openami.mqtt.rabbitmq_rights import rabbitmq_conf, rabbitmq_definitions

_CTL_TIMEOUT_S = 60


class RabbitCluster(Cluster):
    """Nodes r1@localhost, r2@localhost, …"""

    def __init__(
        self, directory: Path, certificates: Certificates, rights: BrokerRights, *, size: int = 3
    ) -> None:
        programs = _programs()
        epmd_port, *ports = free_ports(1 + 2 * size)
        self._directory = directory
        self._names = [f"r{number}@localhost" for number in range(1, size + 1)]
        self._definitions = directory / "openami.json"
        self._definitions.write_text(rabbitmq_definitions(rights))
        self._plugins = directory / "enabled_plugins"
        self._plugins.write_text("[rabbitmq_mqtt,rabbitmq_auth_mechanism_ssl].\n")
        cookie = directory / ".erlang.cookie"
        cookie.write_text("OPENAMICLUSTER")
        cookie.chmod(0o400)
        self._environ = {
            "HOME": str(directory),
            "ERL_EPMD_PORT": str(epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        }
        self._ctl = programs / "rabbitmqctl"
        self._epmd_port = epmd_port
        self._epmd = Node(
            directory / "epmd", ["epmd", "-port", str(epmd_port), "-address", "127.0.0.1"]
        )
        self.urls = tuple(f"mqtts://localhost:{port}" for port in ports[:size])
        self.nodes = [
            self._node(programs / "rabbitmq-server", certificates, index, *ports[index::size])
            for index in range(size)
        ]

    def _node(
        self, program: Path, certificates: Certificates, index: int, port: int, dist_port: int
    ) -> Node:
        place = self._directory / self._names[index]
        node = Node(
            place,
            [str(program)],
            self._environ
            | {
                "RABBITMQ_NODENAME": self._names[index],
                "RABBITMQ_MNESIA_BASE": str(place / "mnesia"),
                "RABBITMQ_LOG_BASE": str(place),
                "RABBITMQ_LOGS": "-",
                "RABBITMQ_CONFIG_FILE": str(place / "rabbitmq.conf"),
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._plugins),
                "RABBITMQ_DIST_PORT": str(dist_port),
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
                # The script becomes the virtual machine, and the kill meets the broker.
                "RUNNING_UNDER_SYSTEMD": "1",
            },
        )
        (place / "rabbitmq.conf").write_text(
            rabbitmq_conf(
                listen=f"127.0.0.1:{port}",
                nodes=self._names,
                certs=str(certificates.directory),
                acl_file=str(self._definitions),
            )
        )
        return node

    def start(self) -> None:
        self._epmd.start()
        until(lambda: answers(self._epmd_port), self)
        # The first alone: three that look for one another at the same time may take a minute to agree.
        self.bring_back([0])
        if len(self.nodes) > 1:
            self.bring_back(range(1, len(self.nodes)))

    def stop(self) -> None:
        super().stop()
        self._epmd.stop()

    def leader(self, client_id: str) -> int | None:
        for queue in self._queues():
            if queue["name"] == f"mqtt-subscription-{client_id}qos1" and queue["leader"]:
                return self._names.index(queue["leader"])
        return None

    def _is_member(self, index: int) -> bool:
        if "Server startup complete" not in self.nodes[index].said():
            return False
        up = sum(node.running for node in self.nodes)
        try:
            return all(len(queue["online"]) >= min(up, 3) for queue in self._queues())
        except subprocess.CalledProcessError:  # while nobody leads
            return False

    def _queues(self) -> list[dict[str, str]]:
        told = self.control("-q", "--formatter", "json", "list_queues", "name", "leader", "online")
        return [queue for queue in json.loads(told) if queue["leader"]]

    def apply(self, rights: BrokerRights) -> None:
        self._definitions.write_text(rabbitmq_definitions(rights))
        self.control("import_definitions", str(self._definitions))
        named = {user["name"] for user in json.loads(self._definitions.read_text())["users"]}
        for user in json.loads(self.control("-q", "--formatter", "json", "list_users")):
            if user["user"] not in named:
                self.control("delete_user", user["user"])

    def control(self, *words: str) -> str:
        """Run rabbitmqctl on a node that is up."""
        up = next(name for name, node in zip(self._names, self.nodes, strict=True) if node.running)
        done = subprocess.run(
            [self._ctl, "-n", up, *words], env={**os.environ, **self._environ}, check=True,
            capture_output=True, text=True, timeout=_CTL_TIMEOUT_S,
        )  # fmt: skip
        return done.stdout

    def version(self) -> str:
        return f"RabbitMQ {re.sub('.*server-', '', _programs().parent.name)}"


def _programs() -> Path:
    """Return where the scripts are: Debian's own wrapper would change the user and the directory."""
    found = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin"))
    if not found:
        raise SystemExit("no RabbitMQ here: apt-get install rabbitmq-server")
    return found[-1]
