"""The operator's directory: authority, keys, keyrings and the register of who was enrolled.

headend.toml                    what `openami headend run` reads
authority/{ca.pem,ca.key}       signs certificates; whoever has it can let anybody in to the broker
broker/…                        certificate, key, list of the revoked, configuration: copied to the broker
transport/hes-1.pem             the head-end to the broker: certificate and key in one file
keys/{hes-1,operator-1}.key     sign offers and commands
roots/root-1.key …              sign keyrings; belong on a stick in a safe, not here
roots.json                      the pins: who has to sign a keyring
keyrings/FEEDER/keyring-….json  every version
register.db                     tokens, gateways, certificates
"""

import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from openami.headend.register import Issued, Register, opened_register
from openami.headend.slices import REST, session_name
from openami.keyfiles import (
    KeyFileError,
    ensure_private_directory,
    load_roots,
    make_key,
    read_private,
    save_roots,
    write_new_private,
    write_private,
)
from openami.mqtt.broker_rights import BrokerRights, mosquitto_acl, mosquitto_conf
from openami.pki.certificates import (
    Authority,
    CertificateError,
    TransportPublicKey,
    check_server_names,
    common_name_of,
    issue_client,
    issue_server,
    make_authority,
    new_serial,
    new_transport_key,
    print_certificate,
    print_key,
    read_certificate,
    read_key,
    renewal_due,
)
from openami.pki.enrolment import Request, village_fingerprint
from openami.pki.names import CommonName, headend_name
from openami.pki.revocation import revocation_list
from openami.sip.actions import Role
from openami.sip.acts import ActType
from openami.sip.canonical import read_document
from openami.sip.compose import document_of, sign
from openami.sip.errors import SipError
from openami.sip.keyring import MIN_DWELL_S, Limits, Roots, admit_keyring, read_keyring
from openami.sip.keyring_draft import first_keyring, identity, next_version, with_identity
from openami.sip.keys import KeySigner, Signer

DEFAULT_DIRECTORY: Final = "openami-operator"
HES: Final = "hes-1"
OPERATOR: Final = "operator-1"
# A feeder's keyrings are one a month, and one for each gateway that comes or goes; a directory with
# more is not ours.
VERSIONS_MAX: Final = 10_000


class VillageError(Exception):
    """The operator's directory cannot be used as asked; ``remedy`` says what to do."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A server's certificate and key."""

    cert_file: Path
    key_file: Path


@dataclass(frozen=True, slots=True)
class Village:
    """The operator's directory. Nothing is read before it is asked for."""

    directory: Path

    @property
    def roots_file(self) -> Path:
        """The pins."""
        return self.directory / "roots.json"

    @property
    def broker_directory(self) -> Path:
        """What is copied to the broker."""
        return self.directory / "broker"

    @property
    def headend_config(self) -> Path:
        """The head-end's configuration."""
        return self.directory / "headend.toml"

    def key_file(self, id_: str) -> Path:
        """Where the signing key of an identity is."""
        return self.directory / "keys" / f"{id_}.key"

    def root_key_file(self, number: int) -> Path:
        """Where a root key is made; it is to be carried away from there."""
        return self.directory / "roots" / f"root-{number}.key"

    def transport_file(self, common_name: str) -> Path:
        """Certificate and key of one of the operator's own programs."""
        return self.directory / "transport" / f"{common_name}.pem"

    def keyring_file(self, feeder_id: str, session_id: str) -> Path:
        """Where a version of a feeder's keyring is."""
        return self.directory / "keyrings" / feeder_id / f"{session_id}.json"

    def register(self) -> Register:
        """Return the register, to be used as a context. Raises VillageError."""
        self._check_there()
        try:
            return opened_register(self.directory / "register.db")
        except KeyFileError as error:
            raise VillageError(str(error), error.remedy) from None

    def authority(self) -> Authority:
        """Return the authority with its key. Raises VillageError."""
        self._check_there()
        place = self.directory / "authority"
        try:
            certificate = read_certificate(read_private(place / "ca.pem"))
            return Authority(certificate, read_key(read_private(place / "ca.key")))
        except KeyFileError as error:
            raise VillageError(str(error), error.remedy) from None
        except CertificateError as error:
            raise VillageError(f"{place}: {error}", "restore it from the backup") from None

    def roots(self) -> Roots:
        """Return the pinned roots. Raises VillageError."""
        self._check_there()
        try:
            return load_roots(self.roots_file)
        except KeyFileError as error:
            raise VillageError(str(error), error.remedy) from None

    def fingerprint(self) -> str:
        """Return the village's fingerprint. Raises VillageError."""
        return village_fingerprint(self.authority().certificate, self.roots())

    def feeders(self) -> list[str]:
        """Return the feeders there are keyrings for."""
        place = self.directory / "keyrings"
        return sorted(p.name for p in place.iterdir()) if place.is_dir() else []

    def keyrings(self, feeder_id: str) -> list[bytes]:
        """Return a feeder's keyrings, oldest first; drafts that lack signatures are among them."""
        place = self.directory / "keyrings" / feeder_id
        files = sorted(place.glob("keyring-*.json")) if place.is_dir() else []
        if len(files) > VERSIONS_MAX:
            raise VillageError(f"{place} holds more than {VERSIONS_MAX} files", "tidy it up")
        try:
            return [read_private(file) for file in files]
        except KeyFileError as error:
            raise VillageError(str(error), error.remedy) from None

    def latest_keyring(self, feeder_id: str) -> dict[str, Any] | None:
        """Return the newest version's members, signed or not."""
        payloads = self.keyrings(feeder_id)
        if not payloads:
            return None
        try:
            members = read_document(payloads[-1]).members
            read_keyring(members)
        except SipError as error:
            raise VillageError(
                f"the newest keyring of {feeder_id} is none: {error}", "delete or mend the file"
            ) from None
        return members

    def signed_keyring(self, feeder_id: str, gateway_id: str) -> bytes | None:
        """Return the newest version that the pinned roots signed and that is for the gateway."""
        roots = self.roots()
        for payload in reversed(self.keyrings(feeder_id)):
            try:
                admit_keyring(
                    read_document(payload),
                    roots=roots,
                    in_force=0,
                    feeder_id=feeder_id,
                    gateway_id=gateway_id,
                )
            except SipError:
                continue
            return payload
        return None

    def save_keyring(self, members: dict[str, Any]) -> Path:
        """Write a keyring in its place; the same version is replaced by itself with more acts."""
        content = read_keyring(members)
        file = self.keyring_file(content.feeder_id, members["sessionId"])
        ensure_private_directory(file.parent)
        write_private(file, (json.dumps(members, indent=1) + "\n").encode())
        return file

    def issue(
        self, key: TransportPublicKey, common_name: CommonName, *, now: datetime
    ) -> x509.Certificate:
        """Return a client's certificate. Not yet entered into the register."""
        return issue_client(self.authority(), key, common_name, now=now, serial=new_serial())

    def write_revocation_list(self, *, now: datetime) -> Path:
        """Write the list the broker reads, of all that the register has revoked."""
        with self.register() as register:
            revoked, number = register.revoked(), register.next_list_number()
        revocations = revocation_list(self.authority(), revoked, now=now, number=number)
        file = self.broker_directory / "revoked.pem"
        write_private(file, revocations.public_bytes(Encoding.PEM))
        return file

    def enrolment_server_files(self, names: Sequence[str], *, now: datetime) -> TlsFiles:
        """Return a fresh certificate and its key for the enrolment server; by default for the broker's names."""
        self._check_there()
        if not names:
            broker = read_certificate(read_private(self.broker_directory / "broker.pem"))
            names = server_names(broker)
        key, authority = new_transport_key(), self.authority()
        certificate = issue_server(authority, key.public_key(), names, now=now, serial=new_serial())
        place = self.directory / "enrolment"
        write_private(place / "server.key", print_key(key))
        write_private(place / "server.pem", print_certificate(certificate))
        return TlsFiles(place / "server.pem", place / "server.key")

    def renew_own(self, *, now: datetime, all_: bool = False) -> list[str]:
        """Renew what is due of the operator's own certificates; return their names. Raises VillageError."""
        renewed = []
        for file in sorted((self.directory / "transport").glob("*.pem")):
            old = read_certificate(read_private(file))
            if all_ or renewal_due(old, now):
                self._write_client(CommonName(common_name_of(old)), now=now)
                renewed.append(common_name_of(old))
        broker = read_certificate(read_private(self.broker_directory / "broker.pem"))
        if all_ or renewal_due(broker, now):
            self._write_broker(server_names(broker), now=now)
            renewed.append("broker")
        return renewed

    def certify_slices(self, slices: int, *, now: datetime) -> list[str]:
        """Make a certificate for each slice that has none; return all their names. Raises VillageError."""
        self._check_there()
        names = [session_name(HES, number) for number in range(REST, slices + 1)]
        for name in names:
            if not self.transport_file(name).exists():
                self._write_client(headend_name(name), now=now)
        return names

    def _check_there(self) -> None:
        if not self.roots_file.exists():
            raise VillageError(
                f"{self.directory} is no operator's directory",
                "make one with `openami headend init`, or name it with --dir",
            )

    def _write_client(self, common_name: CommonName, *, now: datetime) -> None:
        key = new_transport_key()
        certificate = self.issue(key.public_key(), common_name, now=now)
        with self.register() as register:
            register.enter(Issued.of(certificate))
        write_private(
            self.transport_file(common_name), print_certificate(certificate) + print_key(key)
        )

    def _write_broker(self, names: Sequence[str], *, now: datetime) -> None:
        key, authority = new_transport_key(), self.authority()
        certificate = issue_server(authority, key.public_key(), names, now=now, serial=new_serial())
        with self.register() as register:
            register.enter(Issued.of(certificate))
        # The key first: a broker that reads between the two finds a pair that does not match, and keeps
        # what it has.
        write_private(self.broker_directory / "broker.key", print_key(key))
        write_private(self.broker_directory / "broker.pem", print_certificate(certificate))


def server_names(certificate: x509.Certificate) -> list[str]:
    """Return the host names and addresses a server's certificate is for."""
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = extension.get_values_for_type(x509.IPAddress)
    return [*extension.get_values_for_type(x509.DNSName), *(str(each) for each in addresses)]


@dataclass(frozen=True, slots=True, kw_only=True)
class VillagePlan:
    """What a new village is to be like."""

    feeders: Sequence[str]
    broker_names: Sequence[str]
    port: int
    roots: int
    threshold: int
    disconnects_per_hour: int
    min_dwell_s: int = MIN_DWELL_S


def make_village(directory: Path, plan: VillagePlan, *, now: datetime) -> Village:
    """Make an operator's directory in a place where nothing was. Raises VillageError, KeyFileError."""
    if directory.exists() and any(directory.iterdir()):
        raise VillageError(
            f"{directory} is not empty, and keys are never overwritten",
            "name another directory with --dir",
        )
    check_server_names(plan.broker_names)  # before anything is there
    village = Village(directory)
    ensure_private_directory(directory)
    ensure_private_directory(village.broker_directory)
    _make_authority(village, now=now)
    root_keys = [make_key(village.root_key_file(n + 1)) for n in range(plan.roots)]
    roots = Roots(plan.threshold, {root.kid: root.public for root in root_keys})
    hes, operator = make_key(village.key_file(HES)), make_key(village.key_file(OPERATOR))
    # From here on it is a village: `register` and `issue` look for this file.
    save_roots(village.roots_file, roots)
    village._write_client(headend_name(HES), now=now)
    village._write_broker(plan.broker_names, now=now)
    village.write_revocation_list(now=now)
    _write_configurations(village, plan)
    for feeder_id in plan.feeders:
        village.save_keyring(
            _first_keyring(feeder_id, plan, hes, operator, root_keys[: plan.threshold], now=now)
        )
    return village


def _make_authority(village: Village, *, now: datetime) -> None:
    key = new_transport_key()
    authority = make_authority(key, "OpenAMI village authority", now=now, serial=new_serial())
    pem = print_certificate(authority.certificate)
    write_new_private(village.directory / "authority" / "ca.key", print_key(key))
    write_new_private(village.directory / "authority" / "ca.pem", pem)
    write_new_private(village.broker_directory / "ca.pem", pem)


def _first_keyring(
    feeder_id: str,
    plan: VillagePlan,
    hes: KeySigner,
    operator: KeySigner,
    roots: Sequence[Signer],
    *,
    now: datetime,
) -> dict[str, Any]:
    members = first_keyring(
        [
            identity(HES, Role.HES, hes.public),
            identity(OPERATOR, Role.OPERATOR, operator.public),
        ],
        feeder_id=feeder_id,
        limits=Limits(plan.disconnects_per_hour, min_dwell_s=plan.min_dwell_s),
        now=now,
    )
    for root in roots:
        members = sign(members, root, ActType.KEYRING, iat=int(now.timestamp()))
    return members


def _write_configurations(village: Village, plan: VillagePlan) -> None:
    rights = BrokerRights(headends=(HES,))
    place = village.broker_directory
    write_private(place / "openami.acl", mosquitto_acl(rights).encode())
    write_private(place / "openami.conf", mosquitto_conf(port=plan.port).encode())
    write_private(village.headend_config, _headend_toml(village, plan).encode())


def _headend_toml(village: Village, plan: VillagePlan) -> str:
    def path(*parts: str) -> str:
        return json.dumps(str(village.directory.resolve().joinpath(*parts)), ensure_ascii=False)

    host = _url_host(plan.broker_names[0])
    return f"""\
# `openami headend run -c` reads this file.
store = {json.dumps("sqlite:///" + str(village.directory.resolve() / "headend.db"))}

[mqtt]
url = "mqtts://{host}:{plan.port}"
# The broker takes the certificate's name for the session's, whatever is written here.
client_id = "{HES}"
ca_file = {path("authority", "ca.pem")}
# Certificate and key in one file, so that both are renewed at once.
cert_file = {path("transport", f"{HES}.pem")}

[signing]
key_file = {path("keys", f"{HES}.key")}
roots_file = {path("roots.json")}
"""


def _url_host(name: str) -> str:
    try:
        return f"[{name}]" if ipaddress.ip_address(name).version == 6 else name
    except ValueError:
        return name


def add_gateway(
    village: Village, request: Request, roots: Sequence[Signer], *, now: datetime
) -> Path | None:
    """Write the feeder's next keyring, with the gateway in it and signed; None when the last one has it.

    Raises VillageError when there is no keyring, or the signers are not enough of its roots; SipError.
    """
    name = request.name
    members = village.latest_keyring(name.feeder_id)
    if members is None:
        raise VillageError(
            f"there is no keyring for {name.feeder_id}", "openami keyring new --feeder FEEDER"
        )
    known = read_keyring(members).identities.get(request.sip_key.kid)
    if known is not None and known.id == name.gateway_id:
        return None
    draft = with_identity(
        next_version(members, now=now),
        identity(name.gateway_id, Role.GATEWAY, request.sip_key),
    )
    for root in roots:
        draft = sign(draft, root, ActType.KEYRING, iat=int(now.timestamp()))
    admit_keyring(
        document_of(draft),
        roots=village.roots(),
        in_force=0,
        feeder_id=name.feeder_id,
        gateway_id=name.gateway_id,
    )
    return village.save_keyring(draft)
