"""The demo's village: authority, keys and keyring, made for the hour and gone with it.

The same parts an operator uses: `openami headend init`, an enrolment by hand, a keyring signed by the root. So the
demo's gateway and head-end show the broker a certificate each, and each may say what the access rules let it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from openami.gateway.enrolment import GatewayKeys
from openami.headend.audit import Entry
from openami.headend.enrolment import EnrolmentDesk
from openami.headend.store import Access
from openami.headend.store.commands import StoredKeyring
from openami.headend.store.open import open_store
from openami.headend.village import HES, Village, VillagePlan, add_gateway, make_village
from openami.keyfiles import load_signer, write_private
from openami.mqtt.broker_rights import BrokerRights, mosquitto_acl
from openami.mqtt.embedded import MUTUAL_TLS_FILES
from openami.mqtt.settings import BrokerSettings
from openami.pki.certificates import new_transport_key, print_certificate, print_key
from openami.pki.enrolment import read_request
from openami.pki.names import CommonName, GatewayName
from openami.profile import FeederId, GatewayId
from openami.sip.canonical import read_document
from openami.sip.keyring import Limits, read_keyring

_WHO: Final = "demo"
INTRUDER: Final = "intruder"
# A demo is over in a minute: the house that is cut off has its light again before that.
DEMO_LIMITS: Final = Limits(disconnects_per_hour=2, min_dwell_s=0)


@dataclass(frozen=True, slots=True)
class DemoVillage:
    """A village of one feeder and one enrolled gateway."""

    village: Village
    keys: GatewayKeys
    name: GatewayName

    @property
    def broker_files(self) -> Mapping[str, bytes]:
        """What the broker needs, by name."""
        place = self.village.broker_directory
        acl = mosquitto_acl(BrokerRights(headends=(HES, INTRUDER))).encode()
        return {name: (place / name).read_bytes() for name in MUTUAL_TLS_FILES} | {
            "openami.acl": acl
        }

    def intruder_settings(self, url: str, *, now: datetime) -> BrokerSettings:
        """How somebody reaches the broker who got past its access rules: only signatures stop this one."""
        key, file = new_transport_key(), self.keys.directory.with_name("intruder.pem")
        certificate = self.village.issue(key.public_key(), CommonName(INTRUDER), now=now)
        write_private(file, print_certificate(certificate) + print_key(key))
        return BrokerSettings(
            url=url,
            client_id=INTRUDER,
            ca_file=str(self.keys.authority_file),
            cert_file=str(file),
            session_expiry_days=0,
        )

    def headend_settings(self, url: str) -> BrokerSettings:
        """How the head-end reaches the broker."""
        return BrokerSettings(
            url=url,
            client_id=HES,
            ca_file=str(self.keys.authority_file),
            cert_file=str(self.village.transport_file(HES)),
        )

    def gateway_settings(self, url: str) -> BrokerSettings:
        """How the gateway reaches the broker."""
        return BrokerSettings(
            url=url,
            client_id=str(self.name),
            ca_file=str(self.keys.authority_file),
            cert_file=str(self.keys.transport_file),
        )

    @property
    def headend_tables(self) -> Mapping[str, Mapping[str, str]]:
        """What the head-end's configuration says of keys."""
        return {
            "signing": {
                "key_file": str(self.village.key_file(HES)),
                "roots_file": str(self.village.roots_file),
            }
        }

    @property
    def gateway_tables(self) -> Mapping[str, Mapping[str, str]]:
        """What the gateway's configuration says of keys."""
        return {
            "commands": {
                "key_file": str(self.keys.sip_key_file),
                "roots_file": str(self.keys.roots_file),
            }
        }

    async def hand_over_keyring(self, store_url: str, *, now: datetime) -> None:
        """Give the keyring to the head-end, as `openami keyring publish` does. Raises StoreError."""
        payload = self.keys.keyring_file.read_bytes()
        document = read_document(payload)
        content = read_keyring(document.members)
        keyring = StoredKeyring(
            feeder_id=content.feeder_id,
            gateway_id=content.gateway_id,
            version=content.version,
            document=payload,
            added_at=now,
            added_by=_WHO,
        )
        entry = Entry(who=_WHO, what="keyring given to the head-end", digest=document.digest)
        async with open_store(store_url, Access.EDIT) as store:
            await store.add_keyring(keyring, entry)


def demo_village(
    directory: Path,
    feeder_id: FeederId,
    gateway_id: GatewayId,
    *,
    now: datetime,
    limits: Limits = DEMO_LIMITS,
    broker_names: Sequence[str] = ("localhost", "127.0.0.1"),
) -> DemoVillage:
    """Make the village, and enrol its gateway, below a directory."""
    plan = VillagePlan(
        feeders=(feeder_id,),
        broker_names=broker_names,
        port=8883,
        roots=1,
        threshold=1,
        disconnects_per_hour=limits.disconnects_per_hour,
        min_dwell_s=limits.min_dwell_s,
    )
    village = make_village(directory / "operator", plan, now=now)
    name = GatewayName(feeder_id, gateway_id)
    keys = GatewayKeys(directory / "gateway-keys")
    request = keys.request(name, now=now)
    root = load_signer(village.root_key_file(1))
    add_gateway(village, read_request(request), [root], now=now)
    answer = EnrolmentDesk(village, lambda: now).enrol_by_hand(request)
    keys.install(answer, village=village.fingerprint())
    return DemoVillage(village, keys, name)
