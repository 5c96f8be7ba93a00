"""Finds the client of a request, and the base URL under which the client sees this service.

This is the only module that reads a connection's address and the headers that proxies add. Without
trusted proxies, the client is the peer of the connection, whatever the headers say. With trusted
proxies, the client has the right-most address of `X-Forwarded-For` or `Forwarded` (RFC 7239) that
is not a trusted proxy's. An untrusted party wrote every address to the left of that one.

A proxy of this machine may connect over a unix socket of its own, which only it can open: it is a
trusted proxy too.

A header that cannot be read is not trusted, and is never an error: the walk ends at the last
address that could be read. If both headers are present and disagree, one of them came from the
client, and it is unknown which. The proxy then counts as the client. PROXY protocol is not read.
"""

import asyncio
import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from aiohttp import web

from firmtrail.access import addresses
from firmtrail.config import Network

LOCAL = "local"
"""Stands for the address of a caller over the operator's unix socket."""
PROXY = "proxy"
"""Stands for the address of a proxy that connects over a unix socket."""

_HOST = re.compile(
    r"(?:[A-Za-z0-9]([A-Za-z0-9.-]{0,253}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
)
_PREFIX = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")


class _ReportedClient(NamedTuple):
    """Describes a client as its proxies report it."""

    address: str
    hops: int
    """Counts the trusted proxies that the request came through."""


class Clients:
    """Reads requests that come through the trusted proxies, or through none."""

    def __init__(
        self, trusted: Sequence[Network] = (), sockets: Collection[str] = frozenset()
    ) -> None:
        self._trusted = tuple(trusted)
        self._sockets = sockets
        """The paths of the unix sockets on which proxies connect."""

    def address(self, request: web.BaseRequest) -> str:
        """Returns the address of the client, as text for limits, logs and the access record."""
        remote = request.remote
        if remote and ":" not in remote and not self._trusted:  # as _peer(), in less time
            return remote
        peer = self._peer(request)
        is_direct = not self._trusted and peer != PROXY
        return peer if is_direct else self._reported_client(request, peer).address

    def prefix(self, request: web.BaseRequest) -> str:
        """Returns the path below which a trusted proxy serves this service; "" is the root."""
        hops = self._proxies(request)
        if not hops:
            return ""
        values = _list(request.headers.getall("X-Forwarded-Prefix", ()))
        prefix = _value_of_hop(values, hops).rstrip("/")
        return prefix if _PREFIX.fullmatch(prefix) else ""

    def scheme(self, request: web.BaseRequest) -> str:
        """Returns the scheme that the client uses: `http` or `https`."""
        if not (self._trusted or self._sockets):
            return request.scheme
        return self._reported_scheme(request, self._proxies(request)) or request.scheme

    def host(self, request: web.BaseRequest) -> str:
        """Returns the host that the client sends its request to, with its port if there is one."""
        return self._reported_host(request, self._proxies(request)) or request.host

    def base_url(self, request: web.BaseRequest) -> str:
        """Returns the URL under which the client reaches this service, without a final slash. It is
        only a path if no trusted proxy reports a scheme or a host."""
        hops, prefix = self._proxies(request), self.prefix(request)
        scheme, host = self._reported_scheme(request, hops), self._reported_host(request, hops)
        if not (scheme or host) or not _HOST.fullmatch(host or request.host):
            return prefix
        return f"{scheme or request.scheme}://{host or request.host}{prefix}"

    def url(self, request: web.BaseRequest) -> str:
        """Returns the absolute URL under which the client reaches this service, without a final
        slash; its host is the one that the client named."""
        if not self._proxies(request):
            return f"{request.scheme}://{_named(request.host)}"
        return f"{self.scheme(request)}://{_named(self.host(request))}{self.prefix(request)}"

    @staticmethod
    def _reported_scheme(request: web.BaseRequest, hops: int) -> str:
        """Returns the scheme that a trusted proxy reports; "" if none does."""
        scheme = _reported(request, "X-Forwarded-Proto", "proto", hops).lower() if hops else ""
        return scheme if scheme in {"http", "https"} else ""

    @staticmethod
    def _reported_host(request: web.BaseRequest, hops: int) -> str:
        """Returns the host that a trusted proxy reports; "" if none does."""
        host = _reported(request, "X-Forwarded-Host", "host", hops) if hops else ""
        return host if _HOST.fullmatch(host) else ""

    def _proxies(self, request: web.BaseRequest) -> int:
        """Counts the trusted proxies that the request came through."""
        if not (self._trusted or self._sockets):
            return 0
        peer = self._peer(request)
        return max(self._reported_client(request, peer).hops, 1) if self.is_proxy(peer) else 0

    def _peer(self, request: web.BaseRequest) -> str:
        """Returns the address that the request's connection comes from."""
        if request.remote:
            return peer_of(request.remote)
        return PROXY if self.is_of_proxies(request.transport) else LOCAL

    def is_from_proxy(self, request: web.BaseRequest) -> bool:
        """Returns whether a trusted proxy sends the request."""
        return self.is_proxy(self._peer(request))

    def is_of_proxies(self, transport: asyncio.BaseTransport | None) -> bool:
        """Returns whether this connection is over a unix socket of proxies."""
        return transport is not None and transport.get_extra_info("sockname") in self._sockets

    def is_proxy(self, address: str) -> bool:
        """Returns whether this address is a trusted proxy's."""
        if address == PROXY:
            return True
        found = addresses.parsed(address) if self._trusted else None
        return found is not None and any(found in network for network in self._trusted)

    def _reported_client(self, request: web.BaseRequest, peer: str) -> _ReportedClient:
        if not self.is_proxy(peer):
            return _ReportedClient(peer, 0)
        headers = request.headers
        by_list = by_standard = None
        if "X-Forwarded-For" in headers:
            by_list = self._walk(peer, _list(headers.getall("X-Forwarded-For")))
        if "Forwarded" in headers:
            by_standard = self._walk(peer, [each.get("for", "") for each in request.forwarded])
        if by_list and by_standard and by_list.address != by_standard.address:
            return _ReportedClient(peer, 0)
        return by_list or by_standard or _ReportedClient(peer, 0)

    def _walk(self, peer: str, reported: Sequence[str]) -> _ReportedClient:
        """Walks from the nearest proxy to the first address that is not a trusted proxy's."""
        address, hops = peer, 0
        for text in reversed(reported):
            found = addresses.parsed(text) if self.is_proxy(address) else None
            if found is None:
                break
            address, hops = str(found), hops + 1
        return _ReportedClient(address, hops)


CLIENTS = web.AppKey("CLIENTS", Clients)

IS_AUTHENTICATED = web.RequestKey("IS_AUTHENTICATED", bool)
"""Marks a request whose credential was found to be valid."""


def peer_of(peer: str) -> str:
    """Returns a connection's own address in its usual form; most are in it already."""
    return addresses.plain(peer) if ":" in peer else peer


def address_of(request: web.Request) -> str:
    """Returns the address of a routed request's client."""
    return request.app[CLIENTS].address(request)


def _named(host: str) -> str:
    """Returns the host for a link, if it can be one."""
    return host if _HOST.fullmatch(host) else "localhost"


def _reported(request: web.BaseRequest, header: str, parameter: str, hops: int) -> str:
    """Returns what the outermost trusted proxy reports, in its own header or in `Forwarded`."""
    if header in request.headers:
        return _value_of_hop(_list(request.headers.getall(header)), hops)
    return _value_of_hop([each.get(parameter, "") for each in request.forwarded], hops)


def _list(lines: Iterable[str]) -> list[str]:
    return [each.strip() for line in lines for each in line.split(",")]


def _value_of_hop(values: Sequence[str], hops: int) -> str:
    """Returns the value that the outermost of `hops` trusted proxies added. It counts from the
    right: each trusted proxy adds one value, or replaces those before."""
    return values[-min(max(hops, 1), len(values))] if values else ""
