"""Reads network addresses, and decides which of them count as one client. Pure.

An IPv4 address that is written as IPv6 (`::ffff:192.0.2.1`) is treated as the IPv4 address. A site
with IPv6 usually has at least a /64 for itself (RFC 6177), so limits count all addresses of a /64
as one.
"""

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

IPV6_PREFIX_BITS = 64

_WITH_PORT = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}")

type Address = IPv4Address | IPv6Address


def parsed(text: str) -> Address | None:
    """Returns the address that a proxy wrote, with or without a port; None for anything else."""
    text = text.strip(" \t")
    if match := _WITH_PORT.fullmatch(text):
        text = match[1] or match[2]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    return None if address.scope_id else address.ipv4_mapped or address


@lru_cache(maxsize=4096)
def plain(peer: str) -> str:
    """Returns the usual text of a connection's peer address, without the zone of a link."""
    address = parsed(peer.partition("%")[0])
    return peer if address is None else str(address)


@lru_cache(maxsize=4096)
def network(address: str) -> str:
    """Returns the text that limits count by: the /64 of an IPv6 address, or an IPv4 address."""
    found = parsed(address)
    if not isinstance(found, IPv6Address):
        return address
    return str(IPv6Network((found, IPV6_PREFIX_BITS), strict=False))
