"""mosquitto, one node: the control, whose PUBACK is no write. With the configuration we ship."""

import shutil
import subprocess
from pathlib import Path

from benchmarks.clusters.certificates import Certificates
from benchmarks.clusters.cluster import Cluster, Node, answers, free_ports
from openami.mqtt.broker_rights import BrokerRights, mosquitto_acl, mosquitto_conf


class MosquittoAlone(Cluster):
    """A cluster of one."""

    def __init__(
        self, directory: Path, certificates: Certificates, rights: BrokerRights, *, size: int = 1
    ) -> None:
        assert size == 1
        (port,) = free_ports(1)
        self._port = port
        place = directory / "m1"
        node = Node(place, ["mosquitto", "-c", str(place / "mosquitto.conf")])
        (place / "data").mkdir()
        acl = place / "acl"
        acl.write_text(mosquitto_acl(rights))
        text = mosquitto_conf(certs=str(certificates.directory), acl_file=str(acl))
        replaced = {
            "listener 8883": f"listener {port} 127.0.0.1",
            "/var/lib/mosquitto/": f"{place}/data/",
            "log_dest syslog": "log_dest stderr",
        }
        for ours, here in replaced.items():
            text = text.replace(ours, here)
        lines = [line for line in text.splitlines() if not line.startswith("crlfile")]
        # Started by root it would drop to a user who may not write there.
        (place / "mosquitto.conf").write_text("\n".join([*lines, "user root", ""]))
        self.nodes = [node]
        self.urls = (f"mqtts://localhost:{port}",)

    def leader(self, client_id: str) -> int | None:
        return 0

    def apply(self, rights: BrokerRights) -> None:
        raise NotImplementedError("see tests/keys/test_broker_rights.py")

    def _is_member(self, index: int) -> bool:
        return answers(self._port)

    def version(self) -> str:
        told = subprocess.run(
            [shutil.which("mosquitto") or "mosquitto", "-h"], capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        return told.stdout.splitlines()[0].replace("version ", "")
