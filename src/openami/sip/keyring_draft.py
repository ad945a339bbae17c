"""Keyrings in the making: the first one, and how the next version differs from the last (pure).

Every function returns members without a signature: what changed has to be signed anew. A draft is judged by the
reader that a gateway uses, so that roots are not asked to sign what no gateway would take.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from openami.sip import fields
from openami.sip.actions import Action, Role
from openami.sip.canonical import SIGNATURE, encode_base64url
from openami.sip.keyring import (
    ANY,
    Identity,
    Limits,
    keyring_session_id,
    read_keyring,
)
from openami.sip.keys import PublicKey

# Signed anew every month; three months, so that two missed months stop nothing but disconnects.
LIFE: Final = timedelta(days=90)

# What an identity may do unless its keyring says less. A gateway's key signs accepts and reports only.
USUAL_RIGHTS: Final[Mapping[Role, frozenset[Action]]] = {
    Role.HES: frozenset(Action),
    Role.OPERATOR: frozenset({Action.DISCONNECT, Action.RECONNECT, Action.ARM}),
    Role.MARKET: frozenset({Action.SETTLE}),
    Role.GATEWAY: frozenset(),
    Role.METER: frozenset(),
    Role.ROOT: frozenset(),
}


def identity(id_: str, role: Role, key: PublicKey) -> Identity:
    """Return an identity with its role's usual rights."""
    return Identity(id=id_, role=role, key=key, can=USUAL_RIGHTS[role])


def first_keyring(
    identities: Sequence[Identity], *, feeder_id: str, limits: Limits, now: datetime
) -> dict[str, Any]:
    """Return version 1 for all of a feeder's gateways and meters. Raises SipError."""
    return _judged(
        {
            "sessionId": keyring_session_id(1),
            "participants": [_participant(each) for each in identities],
            "feederScope": {
                "feederId": feeder_id,
                "gatewayId": ANY,
                "meters": [ANY],
                "limits": _limits(limits),
            },
            **_validity(now),
        }
    )


def next_version(members: Mapping[str, Any], *, now: datetime) -> dict[str, Any]:
    """Return the same with the next number, valid anew from now. Raises SipError.

    Roots that were pinned by the last version are pinned: they are not named again, so that not every one of
    them has to sign every time.
    """
    content = read_keyring(members)
    others = [p for p in members["participants"] if p["role"] != Role.ROOT.value]
    scope = {k: v for k, v in members["feederScope"].items() if k != "rootThreshold"}
    unsigned = {name: value for name, value in members.items() if name != SIGNATURE}
    return _judged(
        {
            **unsigned,
            "sessionId": keyring_session_id(content.version + 1),
            "participants": others,
            "feederScope": scope,
            **_validity(now),
        }
    )


def with_identity(members: Mapping[str, Any], added: Identity) -> dict[str, Any]:
    """Return the members with an identity, in place of one of the same name and role. Raises SipError."""
    for each in members["participants"]:
        if each["id"] == added.id and each["role"] != added.role.value:
            raise fields.bad("participants", f"{added.id} is the name of a {each['role']}")
    others = [p for p in members["participants"] if p["id"] != added.id]
    return _judged({**members, "participants": [*others, _participant(added)]})


def without_identity(members: Mapping[str, Any], id_: str) -> dict[str, Any]:
    """Return the members without an identity. Raises SipError BAD_FIELD when there is none such."""
    others = [p for p in members["participants"] if p["id"] != id_]
    if len(others) == len(members["participants"]):
        raise fields.bad("participants", f"there is no {id_}")
    return _judged({**members, "participants": others})


def with_limits(members: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """Return the members with other limits. Raises SipError."""
    return _with_scope(members, "limits", _limits(limits))


def with_meters(members: Mapping[str, Any], meters: Iterable[str]) -> dict[str, Any]:
    """Return the members for these meters only; ``*`` for all. Raises SipError."""
    return _with_scope(members, "meters", sorted(set(meters)))


def with_protected(members: Mapping[str, Any], meters: Iterable[str]) -> dict[str, Any]:
    """Return the members with these meters needing a second person to be cut off. Raises SipError."""
    return _with_scope(members, "protected", sorted(set(meters)))


def with_protected_hours(
    members: Mapping[str, Any], spans: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """Return the members with daily spans, hh:mm UTC, in which nobody is cut off. Raises SipError."""
    return _with_scope(
        members, "protectedHours", [{"from": begin, "to": end} for begin, end in spans]
    )


def _with_scope(members: Mapping[str, Any], name: str, value: Any) -> dict[str, Any]:
    scope = {**members["feederScope"], name: value}
    if value == []:
        del scope[name]
    return _judged({**members, "feederScope": scope})


def _judged(members: dict[str, Any]) -> dict[str, Any]:
    read_keyring(members)
    return members


def _participant(each: Identity) -> dict[str, Any]:
    members: dict[str, Any] = {
        "id": each.id,
        "role": each.role.value,
        "kid": each.key.kid,
        "key": encode_base64url(each.key.raw),
    }
    if each.can:
        members["can"] = sorted(action.value for action in each.can)
    return members


def _limits(limits: Limits) -> dict[str, int]:
    return {
        "disconnectsPerHour": limits.disconnects_per_hour,
        "commandTtl": limits.command_ttl_s,
        "nonceLife": limits.nonce_life_s,
        "minDwell": limits.min_dwell_s,
    }


def _validity(now: datetime) -> dict[str, str]:
    return {"validFrom": fields.print_moment(now), "validTo": fields.print_moment(now + LIFE)}
