"""Decides which connections a process accepts, and which one is closed when there are too many.

Connections are limited in all, and for each client address (a /64 of IPv6). The limit in all leaves
file descriptors for the database and for files. When a limit is reached, a connection without a
running request is closed to make room for the new one. First comes one that has never sent a whole
request head, then an idle one, then one on which an unknown caller is still sending a body or does
not take its answer; the oldest each time. The new connection is refused only if every connection is
at work. A flood of half requests therefore displaces itself, and a client that sends a request
immediately is served.

Connections over the unix socket next to the database belong to the operator: they are not limited
and never closed to make room. A trusted proxy brings many clients, so the limit for an address does
not apply to it, whether it connects over TCP or over a unix socket of its own.
"""

import asyncio
import enum
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple, Protocol

import structlog

from firmtrail.access import addresses
from firmtrail.http import descriptors
from firmtrail.http.clients import PROXY, Clients, peer_of
from firmtrail.http.metrics import Metrics

HEAD_S = 10
"""Limits the time for the head of a request to arrive, and for a TLS handshake before it."""
LINE_EVERY_S = 60
OBSERVE_EVERY_S = 5
DISPLACED_TOGETHER_MAX = 16
"""Limits the connections that are closed together, because searching for them takes a while."""

_log = structlog.get_logger("firmtrail.http")


class ConnectionStage(enum.IntEnum):
    """Names what a connection does, in the order in which connections are closed to make room."""

    HEAD = 0
    IDLE = 1
    UNKNOWN = 2
    AT_WORK = 3


class Connection(Protocol):
    """Describes what the gate needs of a connection."""

    def stage(self) -> ConnectionStage:
        """Returns what the connection does."""
        ...

    def cut(self) -> None:
        """Breaks the connection, without sending or waiting."""
        ...


class Bounds(NamedTuple):
    """Holds how many connections a process accepts, in all and from one address."""

    connections: int
    per_address: int


def bounds(connections: int | None = None, per_address: int | None = None) -> Bounds:
    """Returns the given bounds, lowered to what the limit of descriptors allows. Without
    `per_address`, a quarter of all connections may come from one address."""
    in_all = descriptors.connections_max(connections)
    return Bounds(in_all, min(in_all, per_address or max(1, in_all // 4)))


class Admission:
    """Represents an accepted connection; `holder` is first its handshake, then its HTTP handler."""

    __slots__ = ("holder", "network")

    def __init__(self, network: str, holder: Connection) -> None:
        self.network = network
        self.holder = holder


class _Group:
    """Holds connections that share a limit, the oldest first."""

    def __init__(self) -> None:
        self.all: dict[Admission, None] = {}
        self.without_head: dict[Admission, None] = {}


class Gate:
    """Counts and limits the connections of one process."""

    def __init__(self, bounds: Bounds, clients: Clients, metrics: Metrics) -> None:
        self._bounds = bounds
        self._clients = clients
        self._metrics = metrics
        self._everyone = _Group()
        self._networks: dict[str, _Group] = {}
        self._next_line: asyncio.TimerHandle | None = None
        self._refused = self._displaced = 0

    def admit(self, connection: Connection, transport: asyncio.BaseTransport) -> Admission | None:
        """Accepts a new connection, or returns None to refuse it."""
        if self._clients.is_of_proxies(transport):
            peer = PROXY
        elif isinstance(transport.get_extra_info("sockname"), str):
            return Admission("", connection)
        else:
            peer = peer_of(str((transport.get_extra_info("peername") or ("",))[0]))
        network = addresses.network(peer)
        siblings = self._networks.setdefault(network, _Group())
        is_limited = not self._clients.is_proxy(peer)
        if (
            is_limited
            and len(siblings.all) >= self._bounds.per_address
            and not self._make_room(siblings)
        ):
            self._refuse(network)
            return None
        everyone = self._everyone
        if len(everyone.all) >= self._bounds.connections and not self._make_room(everyone):
            self._refuse(network)
            return None
        admitted = Admission(network, connection)
        for group in (self._networks.setdefault(network, siblings), everyone):
            group.all[admitted] = group.without_head[admitted] = None
        return admitted

    def has_asked(self, admitted: Admission) -> None:
        """Records that the connection has sent a whole head."""
        if admitted in self._everyone.without_head:
            del self._everyone.without_head[admitted]
            del self._networks[admitted.network].without_head[admitted]

    def forget(self, admitted: Admission) -> None:
        """Records that the connection is gone. Does nothing if that was recorded already, or if the
        connection is the operator's."""
        if admitted not in self._everyone.all:
            return
        siblings = self._networks[admitted.network]
        for group in (siblings, self._everyone):
            del group.all[admitted]
            group.without_head.pop(admitted, None)
        if not siblings.all:
            del self._networks[admitted.network]

    def note_late(self) -> None:
        """Counts a connection whose head did not arrive in time."""
        self._metrics.closed_connections.labels("late").inc()

    async def run(self) -> None:
        """Keeps the metrics of connections and descriptors up to date, until it is cancelled."""
        while True:
            self.observe()
            await asyncio.sleep(OBSERVE_EVERY_S)

    def observe(self) -> None:
        """Sets the metrics of connections and descriptors."""
        self._metrics.connections.set(len(self._everyone.all))
        self._metrics.connections_max.set(self._bounds.connections)
        self._metrics.open_descriptors.set(descriptors.open_count())
        self._metrics.descriptors_max.set(descriptors.limit())

    def close(self) -> None:
        """Breaks the connections that have not sent a head yet, because the server ends."""
        for admitted in list(self._everyone.without_head):
            admitted.holder.cut()
        if self._next_line is not None:
            self._next_line.cancel()

    def _make_room(self, group: _Group) -> bool:
        """Breaks connections of the group without a running request; returns whether any were."""
        victims = list(islice(group.without_head, 1)) or _oldest(group.all)
        for admitted in victims:
            self.forget(admitted)
            admitted.holder.cut()
        self._displaced += len(victims)
        if victims:
            self._metrics.closed_connections.labels("displaced").inc(len(victims))
            self._log_soon()
        return bool(victims)

    def _refuse(self, network: str) -> None:
        if network in self._networks and not self._networks[network].all:
            del self._networks[network]
        self._refused += 1
        self._metrics.closed_connections.labels("refused").inc()
        self._log_soon()

    def _log_soon(self) -> None:
        """Writes a line now, and then one a minute as long as connections are refused."""
        if self._next_line is None:
            self._write_line()

    def _write_line(self) -> None:
        busiest = max(self._networks, key=lambda name: len(self._networks[name].all), default="")
        _log.warning(
            "connections refused",
            refused=self._refused,
            displaced=self._displaced,
            open=len(self._everyone.all),
            connections_max=self._bounds.connections,
            per_address_max=self._bounds.per_address,
            most_from=busiest,
        )
        self._refused = self._displaced = 0
        self._next_line = asyncio.get_running_loop().call_later(LINE_EVERY_S, self._write_next_line)

    def _write_next_line(self) -> None:
        self._next_line = None
        if self._refused or self._displaced:
            self._write_line()


def _oldest(connections: Iterable[Admission]) -> list[Admission]:
    for stage in (ConnectionStage.HEAD, ConnectionStage.IDLE, ConnectionStage.UNKNOWN):
        found = (each for each in connections if each.holder.stage() == stage)
        if oldest := list(islice(found, DISPLACED_TOGETHER_MAX)):
            return oldest
    return []
