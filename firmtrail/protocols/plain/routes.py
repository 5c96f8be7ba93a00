"""Lists the routes of this protocol."""

from firmtrail.http.route import Route

ROUTES: tuple[Route, ...] = ()
