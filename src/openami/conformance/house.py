"""The house: broker, authority, door, judge and acts in one, for as long as somebody is judged.

What is seen at the door goes to the judge and to the scene, in this order and at once, so that both always know
the same. Nothing here decides anything.
"""

import asyncio
import contextlib
import ipaddress
import socket
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from openami.clock import Clock
from openami.conformance.acts import ACTS, ActRow
from openami.conformance.bench import Bench
from openami.conformance.checklist import Checklist, checklist
from openami.conformance.credentials import (
    USERNAME,
    Credentials,
    door_context,
    make_credentials,
)
from openami.conformance.door import BACKLOG_MAX, Around, Door
from openami.conformance.hook import Hook
from openami.conformance.judge import Judge
from openami.conformance.judgement import Judgement, Kind
from openami.conformance.mqtt_packets import TOPIC_ALIASES_MAX, Connect
from openami.conformance.observation import Act, Observation
from openami.conformance.operator import Operator
from openami.conformance.performing import Performance
from openami.conformance.played_gateway import METERS, PlayedGateway
from openami.conformance.playing import play
from openami.conformance.scene import Scene
from openami.keyfiles import load_signer, make_key, read_private, write_private, write_public
from openami.mqtt.client import MqttPort
from openami.mqtt.embedded import EmbeddedBroker, Program, embedded_broker
from openami.mqtt.settings import BrokerSettings
from openami.pki.certificates import CertificateError, new_serial, new_transport_key
from openami.pki.enrolment import make_request, read_request
from openami.pki.names import CommonName, GatewayName
from openami.profile import RegisterCatalogue, one_line
from openami.sip.keyring import Keyring
from openami.sip.keys import KeySigner

DEFAULT_PORT: Final = 8883
PLAIN_PORT: Final = 1883
PLAYED_CLIENT: Final = "openami-kit-gateway"
REQUEST_FILE: Final = "enrolment-request.json"
ANSWER_FILE: Final = "enrolment-answer.json"
# Sentences the door told lately, for a person to read; the same one again is counted.
NEWS_MAX: Final = 20
# A broker of a vendor's keeps what is retained, and takes what is too large: both are the judge's to tell.
_BROKER_SETTINGS: Final = {
    "retain_available": "true",
    "message_size_limit": "1048576",
    "max_topic_alias": str(TOPIC_ALIASES_MAX),
}


class HouseError(Exception):
    """The kit cannot be set up as asked; ``remedy`` says what to do."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True, slots=True, kw_only=True)
class HouseSettings:
    """What a run is asked for.

    ``host`` is how the one under test calls this machine; None: its address on the network. ``plain_port`` is
    where a client without TLS is told so, besides ``port``; None: nowhere. ``request`` is the client's
    certificate request; ``enrolment`` its request to be enrolled, if it keeps our sessions (docs/sip.md).
    """

    kind: Kind = "gateway"
    host: str | None = None
    port: int = DEFAULT_PORT
    plain_port: int | None = PLAIN_PORT
    directory: Path
    name: GatewayName
    request: bytes | None = None
    enrolment: bytes | None = None
    hook: Hook | None = None
    outage_s: float | None = None
    skipped: frozenset[str] = frozenset()
    catalogue: RegisterCatalogue | None = None
    brokers: Sequence[Program] = ("mosquitto", "iotcore")
    """Which broker to start: the first that is installed."""
    vendor: str = ""
    model: str = ""
    firmware: str = ""


@dataclass(slots=True)
class House:
    """A run, open."""

    settings: HouseSettings
    host: str
    port: int
    plain_port: int | None
    broker: EmbeddedBroker
    credentials: Credentials
    judge: Judge
    scene: Scene
    door: Door
    performance: Performance
    clock: Clock
    played: PlayedGateway | None = None
    news: "OrderedDict[str, int]" = field(default_factory=OrderedDict)
    """What a person should know of clients that were not let in: sentences, and how often."""
    witness: Callable[[Observation], None] | None = None
    """Who else is told of everything that is seen, in the order in which the judge is."""

    def see(self, observation: Observation) -> None:
        """Hand an observation to the judge and to the scene."""
        if self.witness is not None:
            self.witness(observation)
        self.judge.see(observation)
        self.scene.see(observation)

    def tell(self, sentence: str) -> None:
        """Keep a sentence for the person."""
        told = one_line(sentence)  # a client may call itself whatever a terminal obeys
        self.news[told] = self.news.pop(told, 0) + 1
        while len(self.news) > NEWS_MAX:
            self.news.popitem(last=False)

    def judgement(self) -> Judgement:
        """Return what can be said by now."""
        return self.judge.judgement(self.clock.now())

    def checklist(self) -> Checklist:
        """Return what a person is shown."""
        clients = (c.client_id for c in self.scene.connections.values())
        connected = [one_line(client) for client in clients if client != PLAYED_CLIENT]
        return checklist(
            self.judgement(), list(self.performance.standings.values()), self.news, connected
        )

    def is_over(self, idle_s_max: float) -> bool:
        """Whether nothing more can be exercised, or nothing could be begun for so long."""
        return self.performance.is_over(idle_s_max)

    async def run(self) -> None:
        """Perform the acts, and play the gateway for a head-end, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.performance.run(), name="acts")
            if self.played is not None:
                playing = play(self.played, self._own_settings(), self.clock.now)
                group.create_task(playing, name="played gateway")

    def _own_settings(self) -> BrokerSettings:
        """Return how the kit comes to its own door."""
        place = self.credentials
        return BrokerSettings(
            url=f"mqtts://localhost:{self.port}",
            client_id=PLAYED_CLIENT,
            ca_file=str(place.ca_file),
            username=USERNAME,
            password_file=str(place.directory / "password"),
            protocol=self.broker.protocol,
            session_expiry_days=0,
        )


@contextlib.asynccontextmanager
async def open_house(
    settings: HouseSettings,
    clock: Clock,
    *,
    began_at: datetime | None = None,
    witness: Callable[[Observation], None] | None = None,
) -> AsyncIterator[House]:
    """Start broker and door; yield the house. Raises HouseError, KeyFileError, TransportError.

    The judgement begins at ``began_at``, now if it is None; ``witness`` is told of everything that is seen.
    """
    host = settings.host or address_of_this_machine()
    now = began_at or clock.now()
    try:
        credentials = make_credentials(
            settings.directory, CommonName(str(settings.name)), now=now, request=settings.request
        )
        tls = door_context(credentials, _names(host), now=now)
    except CertificateError as error:
        raise HouseError(str(error), "see --host and --csr") from None
    operator = _operator(settings.directory)
    keyring = _keyring(settings, operator, credentials, now)
    async with AsyncExitStack() as parts:
        listeners = _listeners(host, settings)
        for listener in listeners:
            parts.enter_context(listener)
        broker = await parts.enter_async_context(
            embedded_broker(settings.brokers, changes=_BROKER_SETTINGS)
        )
        own = BrokerSettings(
            url=broker.url, client_id="openami-kit", protocol=broker.protocol, session_expiry_days=0
        )
        connection = await parts.enter_async_context(MqttPort(own).connect())
        house: House

        def see(observation: Observation) -> None:
            house.see(observation)

        def tell(sentence: str) -> None:
            house.tell(sentence)

        def admit(connect: Connect, certified_as: str | None) -> str | None:
            if connect.protocol == "5" and broker.protocol != "5":
                return (
                    f"{connect.client_id} speaks MQTT 5, and the broker from pip that runs here 3.1.1 "
                    "alone: install mosquitto, or let the client speak 3.1.1"
                )
            return credentials.refusal(connect, certified_as)

        around = Around(
            broker=("127.0.0.1", own.endpoint.port),
            tls=tls,
            admit=admit,
            see=see,
            tell=tell,
            clock=clock,
        )
        door = Door(around)
        judge = Judge(
            settings.kind,
            began_at=now,
            catalogue=settings.catalogue,
            vendor=settings.vendor,
            model=settings.model,
            firmware=settings.firmware,
        )
        scene = Scene()
        verbs = await settings.hook.verbs() if settings.hook is not None else frozenset()
        bench = Bench(
            door=door,
            connection=connection,
            judge=judge,
            scene=scene,
            operator=operator,
            keyring=None if keyring is None else keyring[0],
            keyring_payload=None if keyring is None else keyring[1],
            clock=clock,
            see=see,
            hook=settings.hook,
            verbs=verbs,
            outage_s=settings.outage_s,
        )
        ports = [listener.getsockname()[1] for listener in listeners]
        house = House(
            settings=settings,
            host=host,
            port=ports[0],
            plain_port=ports[1] if len(ports) > 1 else None,
            broker=broker,
            credentials=credentials,
            judge=judge,
            scene=scene,
            door=door,
            performance=Performance(
                bench, rows_for(settings.kind, settings.skipped, enrolled=keyring is not None)
            ),
            clock=clock,
            played=_played(settings, now) if settings.kind == "headend" else None,
            witness=witness,
        )
        await parts.enter_async_context(door.listening(listeners))
        yield house


def rows_for(kind: Kind, skipped: frozenset[str], *, enrolled: bool) -> Sequence[ActRow]:
    """Return the acts for who is judged, without those that are left out.

    A session is offered to a gateway that was enrolled with the kit alone: another one owes a stranger no answer.
    """
    left_out = skipped if enrolled else {*skipped, Act.SESSION_OFFERED.value}
    return [row for row in ACTS if row.kind == kind and row.act.value not in left_out]


def address_of_this_machine() -> str:
    """Return the address others in the network reach this machine by; loopback where there is no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # RFC 5737, for documentation: nothing is sent, the kernel only looks up the way there.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address


def instructions(house: House) -> Sequence[str]:
    """Return what to configure in the one under test, as lines for a person."""
    place = house.credentials
    lines = [
        f"broker          mqtts://{house.host}:{house.port}",
        f"CA certificate  {place.ca_file}",
        f"certificate     {place.cert_file}",
    ]
    if place.key_file.exists():
        lines.append(f"its key         {place.key_file}")
    lines.append(f"or, without     user {USERNAME}, password {place.password}")
    if house.played is not None:
        meters = ", ".join(METERS)
        lines.append(
            f"the gateway     {house.settings.name}, with meters {meters}, played by the kit"
        )
        lines.append(f"enrol it with   {place.directory / REQUEST_FILE}, if commands are signed")
    else:
        lines.append(
            f"publish on      openami/v1/FEEDER/GATEWAY/meter/SERIAL/telemetry, e.g. {house.settings.name}"
        )
        lines.append("interval        10 s is a good one here: several acts wait for three of them")
    return lines


# --- setting up ----------------------------------------------------------------------------------


def _names(host: str) -> Sequence[str]:
    return tuple(dict.fromkeys((host, "localhost", "127.0.0.1")))


def _listeners(host: str, settings: HouseSettings) -> Sequence[socket.socket]:
    """Take the ports. Raises HouseError for the first; the plain one may be somebody else's."""
    where = host if _is_loopback(host) else ""
    try:
        listeners = [_listening(where, settings.port)]
    except OSError as error:
        raise HouseError(
            f"cannot listen on port {settings.port}: {error.strerror}",
            "stop the broker that is there, or name another with --port",
        ) from None
    if settings.plain_port is not None:
        with contextlib.suppress(OSError):
            listeners.append(_listening(where, settings.plain_port))
    return listeners


def _listening(where: str, port: int) -> socket.socket:
    both = not where and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both or ":" in where else socket.AF_INET
    listener = socket.create_server(
        (where, port), family=family, backlog=BACKLOG_MAX, dualstack_ipv6=both
    )
    listener.setblocking(False)
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _played(settings: HouseSettings, now: datetime) -> PlayedGateway:
    """Return the gateway to be played, and leave its request to be enrolled for the head-end's operator."""
    signer = _signer(settings.directory / "gateway-sip.key")
    request = make_request(
        settings.name, signer, signer.public, new_transport_key(), iat=int(now.timestamp())
    )
    write_public(settings.directory / REQUEST_FILE, request)
    return PlayedGateway(settings.name, signer)


def _operator(directory: Path) -> Operator:
    return Operator(_signer(directory / "root.key"), _signer(directory / "hes.key"))


def _signer(file: Path) -> KeySigner:
    return load_signer(file) if file.exists() else make_key(file)


def _keyring(
    settings: HouseSettings, operator: Operator, credentials: Credentials, now: datetime
) -> tuple[Keyring, bytes] | None:
    """Return the keyring of an enrolled gateway; enrol one that asks for it. None: it keeps none of ours.

    Raises EnrolmentError for a request that is none.
    """
    file = settings.directory / "keyring.json"
    name_file = settings.directory / "enrolled"
    if settings.enrolment is not None:
        request = read_request(settings.enrolment)
        keyring = operator.keyring(request.name, request.sip_key, now=now)
        answer = operator.answer(
            request, credentials.authority, keyring, now=now, serial=new_serial()
        )
        write_public(settings.directory / ANSWER_FILE, answer)
        write_private(file, keyring)
        write_private(name_file, str(request.name).encode())
    if not file.exists():
        return None
    name = GatewayName.parse(read_private(name_file).decode())
    payload = read_private(file)
    return operator.admitted(payload, name), payload
