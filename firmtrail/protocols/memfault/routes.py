"""Lists the routes of this protocol."""

from firmtrail.http.route import Route
from firmtrail.protocols.memfault import deployments, latest, publishing

ROUTES: tuple[Route, ...] = (*latest.ROUTES, *publishing.ROUTES, *deployments.ROUTES)
