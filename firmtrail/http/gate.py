"""Decides which connections a process accepts, and which one gives way when there are too many.

Connections are bounded in all and for each client address (a /64 of IPv6). The bound in all leaves
file descriptors for the database and for files. When a bound is reached, a connection that asks for
nothing gives way to the new one: first one that has never sent a whole request head, then an idle
one, then one on which an unknown caller is still sending a body or does not take its answer; each
time the oldest. Only when every connection is at work is the new one refused. So a flood of half
requests displaces itself, and a client that sends a request right away is served.

Connections over the unix socket belong to the operator: they are not bounded and never give way. A
trusted proxy brings many clients, so the bound for an address does not apply to it.
"""

import asyncio
import enum
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple, Protocol

import structlog

from firmtrail.access import addresses
from firmtrail.http import descriptors
from firmtrail.http.clients import Clients, peer_of
from firmtrail.http.metrics import Metrics

HEAD_S = 10
"""In which a request's head, and before it a TLS handshake, has to arrive."""
LINE_EVERY_S = 60
OBSERVE_EVERY_S = 5
DISPLACED_TOGETHER_MAX = 16
"""How many idle connections give way when one has to: looking for them takes a while."""

_log = structlog.get_logger("firmtrail.http")


class ConnectionStage(enum.IntEnum):
    """What a connection does, in the order in which connections give way."""

    HEAD = 0
    IDLE = 1
    UNKNOWN = 2
    AT_WORK = 3


class Connection(Protocol):
    """A connection, as the gate sees it."""

    def stage(self) -> ConnectionStage:
        """Says what the connection does."""
        ...

    def cut(self) -> None:
        """Breaks the connection, with nothing sent and nothing waited for."""
        ...


class Bounds(NamedTuple):
    """How many connections there may be."""

    connections: int
    per_address: int


def bounds(connections: int | None = None, per_address: int | None = None) -> Bounds:
    """Returns the bounds wanted, as far as the limit of descriptors lets them; without a wish, a
    quarter of all connections may come from one address."""
    in_all = descriptors.connections_max(connections)
    return Bounds(in_all, min(in_all, per_address or max(1, in_all // 4)))


class Admission:
    """A place that a connection has. `holder` changes from the handshake to what comes after it."""

    __slots__ = ("holder", "network")

    def __init__(self, network: str, holder: Connection) -> None:
        self.network = network
        self.holder = holder


class _Group:
    """Connections that are bounded together, the oldest first."""

    def __init__(self) -> None:
        self.all: dict[Admission, None] = {}
        self.without_head: dict[Admission, None] = {}


class Gate:
    """The connections of one process."""

    def __init__(self, bounds: Bounds, clients: Clients, metrics: Metrics) -> None:
        self._bounds = bounds
        self._clients = clients
        self._metrics = metrics
        self._everyone = _Group()
        self._networks: dict[str, _Group] = {}
        self._line: asyncio.TimerHandle | None = None
        self._refused = self._displaced = 0

    def admit(self, connection: Connection, transport: asyncio.BaseTransport) -> Admission | None:
        """Gives a new connection a place; None means that it is refused."""
        if isinstance(transport.get_extra_info("sockname"), str):
            return Admission("", connection)
        peer = peer_of(str((transport.get_extra_info("peername") or ("",))[0]))
        network = addresses.network(peer)
        own = self._networks.setdefault(network, _Group())
        is_bound = not self._clients.is_proxy(peer)
        if is_bound and len(own.all) >= self._bounds.per_address and not self._make_room(own):
            self._refuse(network)
            return None
        everyone = self._everyone
        if len(everyone.all) >= self._bounds.connections and not self._make_room(everyone):
            self._refuse(network)
            return None
        admitted = Admission(network, connection)
        for group in (self._networks.setdefault(network, own), everyone):
            group.all[admitted] = group.without_head[admitted] = None
        return admitted

    def has_asked(self, admitted: Admission) -> None:
        """Notes that the connection has sent a whole head."""
        if admitted in self._everyone.without_head:
            del self._everyone.without_head[admitted]
            del self._networks[admitted.network].without_head[admitted]

    def forget(self, admitted: Admission) -> None:
        """Notes that the connection is gone; a second time, or for the operator's, does nothing."""
        if admitted not in self._everyone.all:
            return
        own = self._networks[admitted.network]
        for group in (own, self._everyone):
            del group.all[admitted]
            group.without_head.pop(admitted, None)
        if not own.all:
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
        """Cuts what has not sent a head yet: the server ends."""
        for admitted in list(self._everyone.without_head):
            admitted.holder.cut()
        if self._line is not None:
            self._line.cancel()

    def _make_room(self, group: _Group) -> bool:
        """Cuts connections of the group that ask for nothing; says whether there were any."""
        victims = list(islice(group.without_head, 1)) or _oldest(group.all)
        for admitted in victims:
            self.forget(admitted)
            admitted.holder.cut()
        self._displaced += len(victims)
        if victims:
            self._metrics.closed_connections.labels("displaced").inc(len(victims))
            self._note()
        return bool(victims)

    def _refuse(self, network: str) -> None:
        if network in self._networks and not self._networks[network].all:
            del self._networks[network]
        self._refused += 1
        self._metrics.closed_connections.labels("refused").inc()
        self._note()

    def _note(self) -> None:
        """Writes one line now, and then one a minute as long as there is something to say."""
        if self._line is None:
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
        self._line = asyncio.get_running_loop().call_later(LINE_EVERY_S, self._again)

    def _again(self) -> None:
        self._line = None
        if self._refused or self._displaced:
            self._write_line()


def _oldest(connections: Iterable[Admission]) -> list[Admission]:
    for stage in (ConnectionStage.HEAD, ConnectionStage.IDLE, ConnectionStage.UNKNOWN):
        if found := list(islice(_at(stage, connections), DISPLACED_TOGETHER_MAX)):
            return found
    return []


def _at(stage: ConnectionStage, connections: Iterable[Admission]) -> Iterator[Admission]:
    return (each for each in connections if each.holder.stage() == stage)
