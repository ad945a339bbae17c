"""Who a reverse proxy says is asking. Pure.

Believed only from an address the operator has named. From any other the header is what anybody may write, and is
dropped; the web logs it.
"""

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import Final

import msgspec

from openami.headend.accounts import Role
from openami.headend.accounts.users import AccountError, checked_name, role_named

# How proxies list groups: with commas (oauth2-proxy, Authelia) or bars (Authentik).
_SEPARATORS: Final = str.maketrans("|;", ",,")


class ProxyAuthSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A reverse proxy that signs people in; the table ``[proxy_auth]``."""

    header: str
    """The header with the person's name."""
    groups_header: str = ""
    """The header with their groups; without it, everybody has what ``groups."*"`` says."""
    trusted: list[str]
    """Addresses or networks it may come from."""
    groups: dict[str, str]
    """Which role each group has; ``*`` for everybody the proxy lets in."""


class ProxyRules:
    """The settings, read once. Raises AccountError for what cannot be meant."""

    def __init__(self, settings: ProxyAuthSettings) -> None:
        self.header = settings.header.lower()
        self._groups_header = settings.groups_header.lower()
        try:
            self._trusted = [ip_network(text) for text in settings.trusted]
        except ValueError as error:
            raise AccountError(f"proxy_auth.trusted: {error}", 'write "127.0.0.1/32"') from None
        self._roles = {group: role_named(word) for group, word in settings.groups.items()}

    def trusts(self, address: str) -> bool:
        """Return whether the proxy may speak from this address."""
        try:
            peer = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        return any(peer in network for network in self._trusted)

    def who(self, headers: Mapping[str, str]) -> tuple[str, Role] | None:
        """Return the name and role a trusted proxy tells; None when it tells no name, or no role of ours."""
        try:
            name = checked_name(headers.get(self.header, ""))
        except AccountError:
            return None
        told = headers.get(self._groups_header, "").translate(_SEPARATORS).split(",")
        groups = ["*", *(group.strip() for group in told)]
        roles = [self._roles[group] for group in groups if group in self._roles]
        return (name, max(roles)) if roles else None


def forwarded_address(headers: Mapping[str, str], peer: str) -> str:
    """Return whom a trusted proxy speaks for: the last it has added itself; the rest anybody may write."""
    last = headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    try:
        return str(ip_address(last))
    except ValueError:
        return peer
