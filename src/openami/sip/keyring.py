"""The keyring: who may do what, from when to when, signed by the operator's roots.

It is one more session document (``sessionId`` = ``keyring-`` and a ten-digit version) and travels on the session
topic, or on a stick: it proves itself. What admits one, all of it, in ``admit_keyring``:

* its scope names this feeder, and this gateway or all of them;
* at least *k* distinct pinned roots signed it, every act verifies, and nobody else signed;
* its version is higher than the one in force (a replayed older one is a rollback);
* every key is canonical and of large order, every ``kid`` is its key's thumbprint, one key is one identity;
* a pinned root's key is no other identity's;
* if it lists roots, they become the pins, and every one of them signed it too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from openami.sip import fields
from openami.sip.actions import Action, Role, action_of
from openami.sip.acts import Act, ActType, verified_acts
from openami.sip.canonical import SIGNATURE, Document
from openami.sip.errors import SipCode, SipError
from openami.sip.keys import PublicKey

SESSION_MEMBERS: Final = ("sessionId", "participants", "feederScope", "validFrom", "validTo")
KEYRING_PREFIX: Final = "keyring-"
VERSION_DIGITS: Final = 10

IDENTITIES_MAX: Final = 80  # what 16 kB hold; a feeder with more has a keyring per gateway
METERS_MAX: Final = 500  # the largest feeder of the profile's villages
PROTECTED_HOURS_MAX: Final = 8  # night, prayer, heat: a few spans of a day
ANY: Final = "*"

# Defaults and ceilings of the root-signed limits.
NONCE_LIFE_S_MAX: Final = 3600  # the bound on how late anything can act
NONCE_LIFE_S_MIN: Final = 60  # shorter, a gateway would publish accepts all day
COMMAND_TTL_S_MAX: Final = 3600  # a longer life could not be used within a nonce's
MIN_DWELL_S: Final = 60  # contactor wear, oscillating load
MIN_DWELL_S_MAX: Final = 86_400  # longer, a reconnection would wait for another day
DISCONNECTS_PER_HOUR_MAX: Final = 500  # the whole largest feeder


@dataclass(frozen=True, slots=True)
class Limits:
    """What the roots allow a gateway to do in a time; a session may only lower it."""

    disconnects_per_hour: int
    command_ttl_s: int = COMMAND_TTL_S_MAX
    nonce_life_s: int = NONCE_LIFE_S_MAX
    min_dwell_s: int = MIN_DWELL_S

    def narrowed(self, other: "Limits") -> "Limits":
        """Return the stricter of the two, member by member."""
        return Limits(
            disconnects_per_hour=min(self.disconnects_per_hour, other.disconnects_per_hour),
            command_ttl_s=min(self.command_ttl_s, other.command_ttl_s),
            nonce_life_s=min(self.nonce_life_s, other.nonce_life_s),
            min_dwell_s=max(self.min_dwell_s, other.min_dwell_s),
        )


@dataclass(frozen=True, slots=True)
class LimitsNamed:
    """The limits a document names; None where it says nothing."""

    disconnects_per_hour: int | None = None
    command_ttl_s: int | None = None
    nonce_life_s: int | None = None
    min_dwell_s: int | None = None

    def over(self, limits: Limits) -> Limits:
        """Return the limits with what is named here in their place."""

        def named(value: int | None, otherwise: int) -> int:
            return otherwise if value is None else value

        return Limits(
            disconnects_per_hour=named(self.disconnects_per_hour, limits.disconnects_per_hour),
            command_ttl_s=named(self.command_ttl_s, limits.command_ttl_s),
            nonce_life_s=named(self.nonce_life_s, limits.nonce_life_s),
            min_dwell_s=named(self.min_dwell_s, limits.min_dwell_s),
        )


@dataclass(frozen=True, slots=True)
class ProtectedHours:
    """A daily span, in minutes of the UTC day, in which nobody is cut off; it may pass midnight."""

    from_minute: int
    to_minute: int

    def covers(self, moment: datetime) -> bool:
        """Return whether the moment lies in the span, its end excluded."""
        minute = moment.hour * 60 + moment.minute
        if self.from_minute <= self.to_minute:
            return self.from_minute <= minute < self.to_minute
        return minute >= self.from_minute or minute < self.to_minute


@dataclass(frozen=True, slots=True)
class Identity:
    """One identity of the keyring."""

    id: str
    role: Role
    key: PublicKey
    can: frozenset[Action]


@dataclass(frozen=True, slots=True)
class Roots:
    """The pins: the keys that may sign a keyring, and how many of them have to."""

    threshold: int
    keys: Mapping[str, PublicKey]

    def __post_init__(self) -> None:
        """Raises SipError BAD_FIELD: pins come from a file, and none at all would let anybody sign."""
        if not 1 <= self.threshold <= len(self.keys):
            raise fields.bad("roots", f"{self.threshold} of {len(self.keys)} keys cannot sign")


@dataclass(frozen=True, slots=True)
class Keyring:
    """A keyring that was admitted."""

    version: int
    feeder_id: str
    gateway_id: str
    meters: frozenset[str]
    protected: frozenset[str]
    protected_hours: tuple[ProtectedHours, ...]
    limits: Limits
    identities: Mapping[str, Identity]
    valid_from: datetime
    valid_to: datetime
    signed_at: int
    digest: str
    roots: Roots

    @property
    def keys(self) -> Mapping[str, PublicKey]:
        """The keys by thumbprint."""
        return {kid: identity.key for kid, identity in self.identities.items()}

    def covers_meter(self, meter_serial: str) -> bool:
        """Whether the keyring's scope holds a meter."""
        return ANY in self.meters or meter_serial in self.meters


@dataclass(frozen=True, slots=True)
class KeyringContent:
    """What a keyring says, whoever signed it; not to be believed before ``admit_keyring``."""

    version: int
    feeder_id: str
    gateway_id: str
    meters: frozenset[str]
    protected: frozenset[str]
    protected_hours: tuple[ProtectedHours, ...]
    limits: Limits
    identities: Mapping[str, Identity]
    valid_from: datetime
    valid_to: datetime
    root_threshold: int | None

    @property
    def new_roots(self) -> Mapping[str, PublicKey]:
        """The roots it would pin in place of those that are; mostly none."""
        return {k: i.key for k, i in self.identities.items() if i.role is Role.ROOT}


def admit_keyring(
    document: Document, *, roots: Roots, in_force: int, feeder_id: str, gateway_id: str
) -> Keyring:
    """Return the keyring a document is, if it may replace version ``in_force``. Raises SipError."""
    content = read_keyring(document.members)
    new_roots = content.new_roots
    acts = verified_acts(document, {**roots.keys, **new_roots})
    _check_signers(acts, roots, new_roots)
    if any(i.role is not Role.ROOT and k in roots.keys for k, i in content.identities.items()):
        raise fields.bad("participants", "a root's key signs keyrings and nothing else")
    if content.version <= in_force:
        raise SipError(
            SipCode.KEYRING_ROLLBACK, f"version {content.version} is not newer than {in_force}"
        )
    if content.feeder_id != feeder_id or content.gateway_id not in (gateway_id, ANY):
        raise SipError(SipCode.TOPIC_MISMATCH, "the keyring is for another feeder or gateway")
    return Keyring(
        version=content.version,
        feeder_id=feeder_id,
        gateway_id=content.gateway_id,
        meters=content.meters,
        protected=content.protected,
        protected_hours=content.protected_hours,
        limits=content.limits,
        identities=content.identities,
        valid_from=content.valid_from,
        valid_to=content.valid_to,
        signed_at=max(act.iat for act in acts),
        digest=document.digest,
        roots=_next_roots(roots, content),
    )


def read_keyring(document: Mapping[str, object]) -> KeyringContent:
    """Return what a keyring's members say, its signatures aside. Raises SipError."""
    members = fields.closed(document, "", required=SESSION_MEMBERS, optional=(SIGNATURE,))
    version = _version(members["sessionId"])
    identities = _identities(members["participants"])
    scope = fields.closed(
        members["feederScope"],
        "feederScope",
        required=("feederId", "gatewayId", "meters", "limits"),
        optional=("protected", "protectedHours", "rootThreshold"),
    )
    gateway_id = scope["gatewayId"]
    valid_from = fields.moment(members["validFrom"], "validFrom")
    valid_to = fields.moment(members["validTo"], "validTo")
    if valid_to <= valid_from:
        raise fields.bad("validTo", "has to be after validFrom")
    protected = scope.get("protected", [])
    return KeyringContent(
        version=version,
        feeder_id=fields.identifier(scope["feederId"], "feederScope/feederId"),
        gateway_id=ANY
        if gateway_id == ANY
        else fields.identifier(gateway_id, "feederScope/gatewayId"),
        meters=frozenset(read_meters(scope["meters"])),
        protected=frozenset(
            fields.listed(
                protected,
                "feederScope/protected",
                fields.identifier,
                least=0,
                most=METERS_MAX,
            )
        ),
        protected_hours=fields.listed(
            scope.get("protectedHours", []),
            "feederScope/protectedHours",
            _protected_hours,
            least=0,
            most=PROTECTED_HOURS_MAX,
        ),
        limits=_limits_of_keyring(scope["limits"]),
        identities=identities,
        valid_from=valid_from,
        valid_to=valid_to,
        root_threshold=_root_threshold(scope.get("rootThreshold"), identities),
    )


def keyring_session_id(version: int) -> str:
    """Return the ``sessionId`` of a version."""
    return f"{KEYRING_PREFIX}{version:0{VERSION_DIGITS}d}"


def _version(session_id: object) -> int:
    text = session_id if isinstance(session_id, str) else ""
    digits = text.removeprefix(KEYRING_PREFIX)
    if (
        not text.startswith(KEYRING_PREFIX)
        or len(digits) != VERSION_DIGITS
        or not (digits.isascii() and digits.isdigit())
    ):
        raise fields.bad("sessionId", f"{KEYRING_PREFIX} and {VERSION_DIGITS} digits")
    return int(digits)


def _identities(value: object) -> dict[str, Identity]:
    entries = fields.listed(value, "participants", _identity, least=1, most=IDENTITIES_MAX)
    fields.distinct([identity.id for identity in entries], "participants")
    fields.distinct([identity.key.kid for identity in entries], "participants")
    return {identity.key.kid: identity for identity in entries}


def _identity(value: object, place: str) -> Identity:
    members = fields.closed(value, place, required=("id", "role", "kid", "key"), optional=("can",))
    if not isinstance(members["key"], str):
        raise fields.bad(f"{place}/key", "a string is asked for")
    key = PublicKey.parse(members["key"])
    if members["kid"] != key.kid:
        raise fields.bad(f"{place}/kid", "not the thumbprint of its key")
    return Identity(
        id=fields.identifier(members["id"], f"{place}/id"),
        role=read_role(members["role"], f"{place}/role"),
        key=key,
        can=read_can(members.get("can", []), f"{place}/can"),
    )


def read_role(value: object, place: str) -> Role:
    """Return a role. Raises BAD_FIELD."""
    if not isinstance(value, str) or value not in Role._value2member_map_:
        raise fields.bad(place, "not a role")
    return Role(value)


def read_can(value: object, place: str) -> frozenset[Action]:
    """Return a list of rights. Raises BAD_FIELD for one that does not exist."""

    def right(item: object, at: str) -> Action:
        try:
            return action_of(item)
        except SipError:
            raise fields.bad(at, "not an action") from None

    rights = fields.listed(value, place, right, least=0, most=len(Action))
    return frozenset(fields.distinct(rights, place))


def read_meters(value: object) -> tuple[str, ...]:
    """Return a scope's meters: serials, or ``*`` alone. Raises BAD_FIELD."""
    if value == [ANY]:
        return (ANY,)
    serials = fields.listed(
        value, "feederScope/meters", fields.identifier, least=1, most=METERS_MAX
    )
    return fields.distinct(serials, "feederScope/meters")


def read_limits(value: object) -> LimitsNamed:
    """Return the limits a document names, within their ceilings. Raises BAD_FIELD."""
    place = "feederScope/limits"
    members = fields.closed(value, place, required=(), optional=_LIMITS)

    def number(name: str, *, least: int, most: int) -> int | None:
        if name not in members:
            return None
        return fields.whole_number(members[name], f"{place}/{name}", least=least, most=most)

    return LimitsNamed(
        disconnects_per_hour=number("disconnectsPerHour", least=0, most=DISCONNECTS_PER_HOUR_MAX),
        command_ttl_s=number("commandTtl", least=1, most=COMMAND_TTL_S_MAX),
        nonce_life_s=number("nonceLife", least=NONCE_LIFE_S_MIN, most=NONCE_LIFE_S_MAX),
        min_dwell_s=number("minDwell", least=0, most=MIN_DWELL_S_MAX),
    )


_LIMITS = ("disconnectsPerHour", "commandTtl", "nonceLife", "minDwell")


def _limits_of_keyring(value: object) -> Limits:
    """A keyring says how many; the other limits have defaults."""
    named = read_limits(value)
    if named.disconnects_per_hour is None:
        raise fields.bad("feederScope/limits/disconnectsPerHour", "missing")
    return named.over(Limits(named.disconnects_per_hour))


def _protected_hours(value: object, place: str) -> ProtectedHours:
    members = fields.closed(value, place, required=("from", "to"))

    def minute(name: str) -> int:
        text = members[name]
        if (
            isinstance(text, str)
            and len(text) == 5
            and text[2] == ":"
            and (text[:2] + text[3:]).isdigit()
            and text.isascii()
        ):
            hours, minutes = int(text[:2]), int(text[3:])
            if hours < 24 and minutes < 60:
                return hours * 60 + minutes
        raise fields.bad(f"{place}/{name}", "hh:mm, UTC, is asked for")

    span = ProtectedHours(minute("from"), minute("to"))
    if span.from_minute == span.to_minute:
        # Nothing, or the whole day? To forbid all disconnects, disconnectsPerHour is 0.
        raise fields.bad(place, "a span ends at another minute than it begins")
    return span


def _check_signers(acts: Sequence[Act], roots: Roots, new_roots: Mapping[str, PublicKey]) -> None:
    for act in acts:
        if act.type is not ActType.KEYRING:
            raise SipError(SipCode.WRONG_TYPE, f"{act.type} does not make a keyring")
    signers = {act.kid for act in acts}
    if len(signers & set(roots.keys)) < roots.threshold:
        raise SipError(SipCode.QUORUM, f"{roots.threshold} of the pinned roots have to sign")
    unsigned = set(new_roots) - signers
    if unsigned:
        raise SipError(SipCode.QUORUM, "every root a keyring names has to sign it")


def _root_threshold(value: object, identities: Mapping[str, Identity]) -> int | None:
    count = sum(identity.role is Role.ROOT for identity in identities.values())
    if value is None:
        return None
    if not count:
        raise fields.bad("feederScope/rootThreshold", "only with roots to pin")
    return fields.whole_number(value, "feederScope/rootThreshold", least=1, most=count)


def _next_roots(roots: Roots, content: KeyringContent) -> Roots:
    new = content.new_roots
    if not new:
        return roots
    threshold = content.root_threshold
    if threshold is None:
        threshold = roots.threshold
        if threshold > len(new):
            raise fields.bad(
                "feederScope/rootThreshold", f"{threshold} of {len(new)} roots cannot sign"
            )
    return Roots(threshold, dict(new))
