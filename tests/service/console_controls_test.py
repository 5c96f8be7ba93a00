"""Walks through all pages as each role, and checks every link and form on the way: a page shows no
control that the person may not use."""

import re
from html import unescape
from urllib.parse import urlsplit

import pytest

from firmtrail.access.roles import PERMISSIONS, Role
from firmtrail.application.routes import PAGES
from firmtrail.http.callers import PageAccess, Permission
from firmtrail.http.route import Route
from tests.service.console_rollouts import fail
from tests.service.forms import CONSOLE
from tests.service.plans import set_up
from tests.service.receiver import Receiver, add
from tests.service.site import Site
from tests.service.steered import post, roll_out

pytestmark = pytest.mark.one_back_end

ROLES: tuple[Role, ...] = ("viewer", "operator", "auditor", "admin")
PAGES_MAX = 400
FILES = (".csv", ".ndjson", ".css", ".js", ".svg")


def pattern_of(route: Route) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{[a-z_]+\}", "[^/]+", route.path.replace(".", r"\.")))


POSTS = [(pattern_of(each), each) for each in PAGES if each.method == "POST"]


def permission_of(action: str) -> Permission | None:
    """Returns what the route of a form asks for; None: only that somebody is signed in, or that
    nobody need be."""
    path = urlsplit(action).path
    route = next(each for pattern, each in POSTS if pattern.fullmatch(path))
    return route.access.permission if isinstance(route.access, PageAccess) else None


def links_of(html: str) -> list[str]:
    found = [unescape(each) for each in re.findall(r'(?:href|hx-get)="(/[^"#]*)', html)]
    pages = [each for each in found if not urlsplit(each).path.endswith(FILES)]
    return [each for each in pages if "/tlog/" not in each]  # bytes of the log, which may lag


def forms_of(html: str, url: str) -> list[str]:
    """Returns the addresses to which the forms of a page send something: without one, its own."""
    forms = re.findall(r"<form[^>]*method=\"post\"[^>]*>", html)
    actions = [re.search(r'action="([^"]*)"', each) for each in forms]
    return [url if each is None else unescape(each[1]) for each in actions]


def kind_of(url: str) -> str:
    """Returns the page that the address means, whichever thing it shows: one of each is enough."""
    parts = urlsplit(url)
    names = sorted(re.findall(r"(?:^|&)([a-z_]+)=", parts.query))
    found = (each.path for each in PAGES if pattern_of(each).fullmatch(parts.path))
    return f"{next(found, parts.path)} {names}"


@pytest.fixture
async def full(fleet: Site, receiver: Receiver) -> Site:
    """A project in which every page has something to show."""
    running = await roll_out(fleet, percent=50, pause_if={"failed_percent": 1, "min_reports": 1})
    await roll_out(fleet, "1.2.0", plan={"phases": [{"percent": 1}, {"percent": 100}]})
    await fail(fleet)
    await set_up(fleet, approvals=1)
    await roll_out(fleet, "1.2.0", percent=10)
    await post(fleet, f"rollouts/{running}/pause", {"reason": "lunch"})
    await add(fleet, receiver)
    return fleet


@pytest.mark.parametrize("role", ROLES)
async def test_no_page_shows_a_control_that_the_role_may_not_use(full: Site, role: Role) -> None:
    waiting, seen, forms = [CONSOLE], {kind_of(CONSOLE)}, set()
    while waiting:
        url = waiting.pop()
        answer = await full.get(url, role)
        assert answer.status in {200, 303, 409}, (role, url, answer.status)
        html = answer.body.decode()
        for action in forms_of(html, url):
            assert permission_of(action) in {None, *PERMISSIONS[role]}, (role, url, action)
            forms.add(action)
        for link in links_of(html):
            if link.startswith("/console") and kind_of(link) not in seen:
                seen.add(kind_of(link))
                waiting.append(link)
        assert len(seen) < PAGES_MAX
    assert len(seen) > 20
    assert (len(forms) > 5) == (role in {"operator", "admin"})
