"""Lists every route: its path, its callers, what it takes and what it answers.

Routing, authentication, validation, the OpenAPI document and the tests that visit every route all
read this table; its order says nothing. The routes of each protocol made by others stand in its
folder in `protocols/`.
"""

from collections.abc import Collection
from dataclasses import replace

from aiohttp import web

from firmtrail import console, protocols
from firmtrail.config import NATIVE, PROTOCOLS
from firmtrail.console import rows as pages
from firmtrail.console.pages import recalls as recalls_page
from firmtrail.console.pages import rollout_plans as plans_page
from firmtrail.console.pages import rollout_starts as starts_page
from firmtrail.console.pages import settings as settings_page
from firmtrail.console.pages import webhooks as webhooks_page
from firmtrail.http import receivers
from firmtrail.http.api import (
    access_record,
    artifacts,
    asks,
    attention,
    check_ins,
    checkpoints,
    device_attributes,
    device_changes,
    devices,
    enrolment,
    events,
    explanations,
    halts,
    history,
    logins,
    logs,
    members,
    operations,
    project_moves,
    projects,
    rebuilds,
    releases,
    reports,
    rollout_commands,
    rollout_devices,
    rollout_plans,
    rollout_starts,
    rollouts,
    seed,
    signed_downloads,
    stream,
    tiles,
    tokens,
    versions,
    webhooks,
)
from firmtrail.http.api.rows import L, P
from firmtrail.http.call import AnyCall
from firmtrail.http.callers import RouteAccess
from firmtrail.http.errors import Problem, problem_response
from firmtrail.http.route import Route

ROUTES = (
    *reports.ROUTES,
    *check_ins.ROUTES,
    *devices.ROUTES,
    *history.ROUTES,
    *device_changes.ROUTES,
    *enrolment.ROUTES,
    *device_attributes.ROUTES,
    *versions.ROUTES,
    *attention.ROUTES,
    *explanations.ROUTES,
    *asks.ROUTES,
    *rollouts.ROUTES,
    *rollout_devices.ROUTES,
    *rollout_starts.ROUTES,
    *rollout_commands.ROUTES,
    *halts.ROUTES,
    *releases.ROUTES,
    *artifacts.ROUTES,
    *signed_downloads.ROUTES,
    *events.ROUTES,
    *logs.ROUTES,
    *stream.ROUTES,
    *access_record.ROUTES,
    *tiles.ROUTES,
    *checkpoints.ROUTES,
    *project_moves.ROUTES,
    *projects.ROUTES,
    *members.ROUTES,
    *tokens.ROUTES,
    *logins.ROUTES,
    *webhooks.ROUTES,
    *rebuilds.ROUTES,
    *operations.ROUTES,
)


def _in_console(method: str, path: str, wanted: str, access: RouteAccess) -> Route:
    """Returns a route of the API under a path of the console, for what pages load as files."""
    [found] = (each for each in ROUTES if (each.method, each.path) == (method, path))
    return replace(found, path=wanted, access=access, shows_problem=_in_json)


def _in_json(call: AnyCall, problem: Problem) -> web.Response:
    return problem_response(problem, call.request_id)


TLOG = "/console/{project}/tlog/{number}"
"""The path below which pages read a log as C2SP clients do, with the credential of the pages."""

_SETTINGS = settings_page.Resource(projects.SettingsChange, projects.current, projects.change)
"""The resource of the API that the page of the settings shows and changes."""

_STARTS = starts_page.StartResource(rollout_starts.WantedRollout, rollout_starts.wanted_of)
"""The start of a rollout in the API, which the page of a new rollout shows as a form."""

_PLANS = plans_page.PlanResource(rollout_commands.PlanChange, rollout_plans.phases_of)
"""The change of a rollout's plan in the API, which its page shows as a form."""

_RECALL_WINDOWS = recalls_page.WindowResource(rollout_plans.WantedWindow, rollout_plans.window_of)
"""The window of a rollback in the API, which the page of a recall has fields for."""

_WEBHOOKS = webhooks_page.WebhookResource(
    webhooks.WantedWebhook, receivers.check_url, webhooks.send_test
)
"""The webhooks of the API, which their pages show and change."""

PAGES = (
    *webhooks_page.routes(_WEBHOOKS),
    *plans_page.routes(_PLANS),
    *starts_page.routes(_STARTS),
    *recalls_page.routes(_RECALL_WINDOWS),
    *console.ROUTES,
    _in_console("GET", f"{P}/devices", f"{pages.PROJECT}/devices.csv", pages.READ),
    _in_console("GET", f"{P}/devices", f"{pages.PROJECT}/devices.ndjson", pages.READ),
    _in_console(
        "PUT",
        f"{P}/releases/{{model}}/{{version}}/artifacts/{{name}}",
        f"{pages.PROJECT}/releases/{{model}}/{{version}}/artifacts/{{name}}",
        pages.OPERATE,
    ),
    *settings_page.routes(_SETTINGS),
    *(
        replace(route, path=route.path.replace(L, TLOG), access=pages.AUDIT)
        for route in (*tiles.ROUTES, *checkpoints.ROUTES)
        if route.path.startswith(L)
    ),
)
"""The routes of the console's pages, which are not part of the API and its document."""


def served(
    names: Collection[str] = PROTOCOLS, *, has_seed: bool, is_demo: bool
) -> tuple[Route, ...]:
    """Returns the routes of a server: those of the protocols that it speaks, and those that no
    device calls. The seed's are served only if they are turned on."""
    own = (each for each in ROUTES if NATIVE in names or not each.is_of_devices)
    seed_routes = seed.ROUTES if has_seed else ()
    demo_routes = seed.DEMO_ROUTES if is_demo else ()
    return (*own, *protocols.routes(names), *seed_routes, *demo_routes)
