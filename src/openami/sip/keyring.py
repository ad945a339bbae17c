"""The keyring: who may do what, from when to when, signed by the operator's roots.

It is one more session document (``sessionId`` = ``keyring-`` and a ten-digit version) and travels on the session
topic, or on a stick: it proves itself. What admits one, all of it, in ``admit_keyring``:

* its scope names this feeder, and this gateway or all of them;
* at least *k* distinct pinned roots signed it, every act verifies, and nobody else signed;
* its version is higher than the one in force (a replayed older one is a rollback);
* every key is canonical and of large order, every ``kid`` is its key's thumbprint, one key is one identity;
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
PROTECTED_HOURS_MAX: Final = 14  # two spans a day of the week
ANY: Final = "*"

# Defaults and ceilings of the root-signed limits.
NONCE_LIFE_S_MAX: Final = 3600  # the bound on how late anything can act
COMMAND_TTL_S_MAX: Final = 3600  # a longer life could not be used within a nonce's
MIN_DWELL_S: Final = 60  # contactor wear, oscillating load
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
        assert 1 <= self.threshold <= len(self.keys)


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


def admit_keyring(
    document: Document, *, roots: Roots, in_force: int, feeder_id: str, gateway_id: str
) -> Keyring:
    """Return the keyring a document is, if it may replace version ``in_force``. Raises SipError."""
    members = fields.closed(document.members, "", required=SESSION_MEMBERS, optional=(SIGNATURE,))
    version = _version(members["sessionId"])
    identities = _identities(members["participants"])
    new_roots = {k: i.key for k, i in identities.items() if i.role is Role.ROOT}
    acts = verified_acts(document, {**roots.keys, **new_roots})
    _check_signers(acts, roots, new_roots)
    if version <= in_force:
        raise SipError(SipCode.KEYRING_ROLLBACK, f"version {version} is not newer than {in_force}")
    scope = fields.closed(
        members["feederScope"],
        "feederScope",
        required=("feederId", "gatewayId", "meters", "limits"),
        optional=("protected", "protectedHours", "rootThreshold"),
    )
    if scope["feederId"] != feeder_id or scope["gatewayId"] not in (gateway_id, ANY):
        raise SipError(SipCode.TOPIC_MISMATCH, "the keyring is for another feeder or gateway")
    valid_from = fields.moment(members["validFrom"], "validFrom")
    valid_to = fields.moment(members["validTo"], "validTo")
    if valid_to <= valid_from:
        raise fields.bad("validTo", "has to be after validFrom")
    return Keyring(
        version=version,
        feeder_id=feeder_id,
        gateway_id=scope["gatewayId"],
        meters=frozenset(read_meters(scope["meters"])),
        protected=frozenset(
            fields.listed(
                scope.get("protected", []),
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
        limits=read_limits(scope["limits"]),
        identities=identities,
        valid_from=valid_from,
        valid_to=valid_to,
        signed_at=max(act.iat for act in acts),
        digest=document.digest,
        roots=_next_roots(roots, new_roots, scope.get("rootThreshold")),
    )


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


def read_limits(value: object) -> Limits:
    """Return limits within their ceilings. Raises BAD_FIELD."""
    place = "feederScope/limits"
    members = fields.closed(
        value,
        place,
        required=("disconnectsPerHour",),
        optional=("commandTtl", "nonceLife", "minDwell"),
    )

    def number(name: str, default: int, *, least: int, most: int) -> int:
        return fields.whole_number(
            members.get(name, default), f"{place}/{name}", least=least, most=most
        )

    return Limits(
        disconnects_per_hour=number(
            "disconnectsPerHour", 0, least=0, most=DISCONNECTS_PER_HOUR_MAX
        ),
        command_ttl_s=number("commandTtl", COMMAND_TTL_S_MAX, least=1, most=COMMAND_TTL_S_MAX),
        nonce_life_s=number("nonceLife", NONCE_LIFE_S_MAX, least=60, most=NONCE_LIFE_S_MAX),
        min_dwell_s=number("minDwell", MIN_DWELL_S, least=0, most=86_400),
    )


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

    return ProtectedHours(minute("from"), minute("to"))


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


def _next_roots(roots: Roots, new_roots: Mapping[str, PublicKey], threshold: object) -> Roots:
    if not new_roots:
        if threshold is not None:
            raise fields.bad("feederScope/rootThreshold", "only with roots to pin")
        return roots
    count = fields.whole_number(
        roots.threshold if threshold is None else threshold,
        "feederScope/rootThreshold",
        least=1,
        most=len(new_roots),
    )
    return Roots(count, dict(new_roots))
