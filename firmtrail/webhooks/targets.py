"""Decides which addresses a webhook may reach, and looks them up.

A receiver is named by people who may not reach the network that this server is in. So an address is
refused if it is not one of the public internet, unless the operator allows its network. Each
look-up is checked, and the connection uses the address that was checked: a name that has another
address a moment later gains nothing.
"""

import asyncio
import re
import socket
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple, override

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from firmtrail.config import Network
from firmtrail.webhooks.look_ups import FoundAddress, LookUps

URL_CHARACTERS_MAX = 2_000
LOOK_UP_S = 5
"""Limits a look-up."""

_ODD = re.compile(r"[^!-~]|\\")

_NAT64 = IPv6Network("64:ff9b::/96")
_SIX_TO_FOUR = IPv6Network("2002::/16")
_TEREDO = IPv6Network("2001::/32")
_TRANSLATED = IPv6Network("::ffff:0:0:0/96")  # RFC 2765
_OTHERS = tuple(map(ip_network, ("168.63.129.16/32", "3fff::/20", "5f00::/16")))
"""Azure's service for its machines, addresses of documents (RFC 9637) and of routes (RFC 9602): the
library does not know all of them as special."""

type _Address = IPv4Address | IPv6Address


class TargetRefused(OSError):
    """The receiver has an address that webhooks may not reach."""


class Target(NamedTuple):
    """Locates a receiver."""

    url: URL
    origin: str
    """The scheme, host and port: the part of the URL that is no secret."""

    @property
    def host(self) -> str:
        return self.url.host or ""


def url_of(text: str, characters_max: int) -> URL:
    """Reads a URL whose host can be looked up. Raises `ValueError` with the reason."""
    if len(text) > characters_max or _ODD.search(text):
        raise ValueError(
            f"must have at most {characters_max} visible ASCII characters without backslash; "
            "write other ones with % signs"
        )
    try:
        url = URL(text)
    except ValueError:
        raise ValueError("is no URL") from None
    if url.scheme not in {"https", "http"} or not url.host or url.explicit_port == 0:
        raise ValueError("must be an https URL with a host, such as https://fleet.example.org")
    try:
        url.host.encode("idna")  # as a look-up does
    except UnicodeError:
        reason = "must name a host whose parts between the dots have 1 to 63 characters each"
        raise ValueError(reason) from None
    return url


def target_of(text: str) -> Target:
    """Reads a receiver's URL. Raises `ValueError` with the reason if it can't be one."""
    url = url_of(text, URL_CHARACTERS_MAX)
    if url.user is not None or url.password is not None:
        raise ValueError("must not contain a user or a password: deliveries are signed instead")
    if url.fragment:
        raise ValueError("must not contain a fragment: no server sees it")
    return Target(url, str(url.origin()))


class AllowedTargets:
    """Holds the networks that webhooks may reach although they are not public."""

    def __init__(self, networks: Sequence[Network] = ()) -> None:
        self._networks = networks

    def fault_of(self, address: str, scheme: str) -> str | None:
        """Returns why webhooks may not reach this address; None: they may. The reason does not name
        the address, because not everyone may learn the addresses of this network."""
        meant = _meant(ip_address(address.partition("%")[0]))
        if any(meant in network for network in self._networks):
            return None
        if not _is_public(meant):
            return "it has an address that is not part of the public internet"
        if scheme != "https":
            return "only https is allowed to an address of the public internet"
        return None

    def check_literal(self, target: Target) -> None:
        """Raises `TargetRefused` if a URL's host is an address that webhooks may not reach."""
        try:
            ip_address(target.host.partition("%")[0])
        except ValueError:
            return
        self.check(target.host, [target.host], target.url.scheme)

    def check(self, host: str, addresses: Iterable[str], scheme: str) -> None:
        """Raises `TargetRefused` if webhooks may not reach one of the addresses of a host."""
        for address in addresses:
            if fault := self.fault_of(address, scheme):
                raise TargetRefused(f"The webhook's host {host} is refused: {fault}.")


class CheckedResolver(AbstractResolver):
    """Looks up the hosts of webhooks for connections, and refuses addresses."""

    def __init__(self, allowed: AllowedTargets, look_ups: LookUps, scheme: str) -> None:
        self._allowed = allowed
        self._look_ups = look_ups
        self._scheme = scheme

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Returns the addresses of the host. Raises `TargetRefused` if any of them is refused."""
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=found, proto=0, flags=_NUMERIC
            )
            for found, address in await self.find(host)
        ]

    async def find(self, host: str) -> list[FoundAddress]:
        """Returns the addresses of the host within `LOOK_UP_S`. Raises `TargetRefused` if any of
        them is refused, and OSError if the host is not found."""
        async with asyncio.timeout(LOOK_UP_S):
            found = await self._look_ups.addresses(host)
        self._allowed.check(host, (address for _, address in found), self._scheme)
        return found

    @override
    async def close(self) -> None:
        """Has nothing to close."""


_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


def _meant(address: _Address) -> _Address:
    """Returns the IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _SIX_TO_FOUR:
        return IPv4Address(int(address) >> 80 & 0xFFFFFFFF)
    if address in _NAT64 or address in _TRANSLATED:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_public(address: _Address) -> bool:
    is_special = (
        address.is_multicast
        or address.is_reserved
        or address.is_unspecified
        or address.is_link_local
        or address.is_loopback
        or address.is_private
        or address in _TEREDO
        or getattr(address, "is_site_local", False)
        or any(address in network for network in _OTHERS)
    )
    return address.is_global and not is_special
