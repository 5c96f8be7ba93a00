"""Shows a fleet to people in web pages, over the same queries and commands as the API.

Each page is one file with its routes and its template. A page uses the machinery of `http` and
everything below, but neither `http.api` nor `protocols`. docs/console-pages.md says how a page
joins.
"""

from firmtrail.console import files
from firmtrail.console.pages import (
    access,
    access_changes,
    audit,
    device,
    device_orders,
    devices,
    devices_bulk,
    fleet,
    halts,
    log,
    log_entry,
    moment,
    projects,
    releases,
    rollout_counts,
    rollout_orders,
    rollouts,
    search,
    sign_in,
    sign_in_oidc,
)

ROUTES = (
    *files.ROUTES,
    *sign_in.ROUTES,
    *sign_in_oidc.ROUTES,
    *projects.ROUTES,
    *access.ROUTES,
    *access_changes.ROUTES,
    *fleet.ROUTES,
    *search.ROUTES,
    *moment.ROUTES,
    *log.ROUTES,
    *log_entry.ROUTES,
    *audit.ROUTES,
    *devices.ROUTES,
    *devices_bulk.ROUTES,
    *halts.ROUTES,
    *device.ROUTES,
    *device_orders.ROUTES,
    *releases.ROUTES,
    *rollouts.ROUTES,
    *rollout_counts.ROUTES,
    *rollout_orders.ROUTES,
)
"""The routes of all pages. A path with a name comes before the one that takes any name there."""
