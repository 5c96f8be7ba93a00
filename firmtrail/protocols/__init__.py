"""Translates device protocols made by others into check-ins, reports and downloads.

Each protocol is one folder with its routes; it records no events of its own kind. It uses the
machinery of `http` and everything below, but neither `console` nor another protocol.
docs/protocols.md says how a protocol joins.
"""

from collections.abc import Collection, Iterator
from dataclasses import replace

from firmtrail.http.route import Route
from firmtrail.protocols.hawkbit import routes as hawkbit
from firmtrail.protocols.memfault import routes as memfault
from firmtrail.protocols.mender import routes as mender
from firmtrail.protocols.plain import routes as plain

ROUTES = {
    "hawkbit": hawkbit.ROUTES,
    "memfault": memfault.ROUTES,
    "mender": mender.ROUTES,
    "plain": plain.ROUTES,
}


def routes(names: Collection[str]) -> Iterator[Route]:
    """Yields the routes of the protocols with these names; each route knows its protocol."""
    for name, found in ROUTES.items():
        if name in names:
            yield from (replace(route, protocol=name) for route in found)
