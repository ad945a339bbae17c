"""One authority, the brokers' certificate, and one for each client: made by the programs' own code."""

from pathlib import Path

from openami.clock import SystemClock
from openami.mqtt.settings import BrokerSettings, Protocol
from openami.pki.certificates import (
    issue_client,
    issue_server,
    make_authority,
    new_serial,
    new_transport_key,
    print_certificate,
    print_key,
)
from openami.pki.names import CommonName

CONNECT_TIMEOUT_S = 5.0  # on loopback: what has not answered by then is dead


class Certificates:
    """A directory as `openami broker-config` expects it, and a file for every client that is asked for."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory
        self._now = SystemClock().now()
        self._authority = make_authority(
            new_transport_key(), "openami-cluster", now=self._now, serial=new_serial()
        )
        (directory / "ca.pem").write_bytes(print_certificate(self._authority.certificate))
        key = new_transport_key()
        broker = issue_server(
            self._authority, key.public_key(), ["localhost", "127.0.0.1"], now=self._now,
            serial=new_serial(),
        )  # fmt: skip
        (directory / "broker.pem").write_bytes(print_certificate(broker))
        (directory / "broker.key").write_bytes(print_key(key))

    def client(self, name: str) -> Path:
        """Return a file with a certificate of this common name and its key."""
        file = self.directory / f"{name.replace('/', '_')}.pem"
        if not file.exists():
            key = new_transport_key()
            certificate = issue_client(
                self._authority, key.public_key(), CommonName(name), now=self._now,
                serial=new_serial(),
            )  # fmt: skip
            file.write_bytes(print_certificate(certificate) + print_key(key))
        return file

    def settings(
        self, name: str, urls: tuple[str, ...], *, client_id: str = "", protocol: Protocol = "3.1.1"
    ) -> BrokerSettings:
        """Return how this client connects; its session is called as it is, unless another name is given."""
        return BrokerSettings(
            urls=urls,
            client_id=client_id or name,
            ca_file=str(self.directory / "ca.pem"),
            cert_file=str(self.client(name)),
            protocol=protocol,
            connect_timeout_s=CONNECT_TIMEOUT_S,
        )
