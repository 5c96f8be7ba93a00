"""Checks, for every route that changes something, which pages of browsers may send the request.

The matrix: where the page is that sends the request, and which credential goes with it. Programs
send a credential in a header too, and name no page at all. Only browsers send a cookie, whichever
page asks for it, so a cookie needs the browser's word that the page is ours.
"""

import re
from base64 import b64encode

import pytest

from firmtrail.application.routes import PAGES, served
from firmtrail.http.callers import LocalAccess, PageAccess, PublicAccess
from firmtrail.http.route import Route
from firmtrail.http.sessions import COOKIE
from tests.service.routes import name_of, path_of
from tests.service.site import Site
from tests.serving import Answer

pytestmark = pytest.mark.one_back_end

UNSAFE = [
    route
    for route in (*served(has_seed=True, is_demo=True), *PAGES)
    if route.method != "GET" and not isinstance(route.access, LocalAccess)
]
OF_PAGES = [route for route in UNSAFE if route.shows_problem is not None]
SITES: dict[str, dict[str, str]] = {
    "same-origin": {"Sec-Fetch-Site": "same-origin"},
    "same-origin, an old browser": {"Origin": "http://{host}"},
    "same-site": {"Sec-Fetch-Site": "same-site", "Origin": "http://other.{host}"},
    "same-site, an old browser": {"Origin": "http://other.{host}"},
    "cross-site": {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
    "cross-site, an old browser": {"Origin": "https://evil.example"},
    "a sandboxed frame": {"Origin": "null"},
    "typed into the address bar": {"Sec-Fetch-Site": "none"},
    "no header": {},
}
OWN = {"same-origin", "same-origin, an old browser"}
OF_PROGRAMS = OWN | {"typed into the address bar", "no header"}


async def answer_to(site: Site, route: Route, where: str, credential: dict[str, str]) -> Answer:
    host = f"{site.client.host}:{site.client.port}"
    headers = {name: value.format(host=host) for name, value in SITES[where].items()}
    async with site.client.request(
        route.method, path_of(route), data=b"?", headers=headers | credential, allow_redirects=False
    ) as response:
        return Answer(response.status, response.headers, await response.read())


def is_refused(answer: Answer) -> bool:
    """Returns whether the request was refused for the page that sent it."""
    return answer.status == 403 and re.search(rb"\bcross_site\b", answer.body) is not None


@pytest.mark.parametrize("where", SITES)
@pytest.mark.parametrize("scheme", ["Bearer", "Basic"])
async def test_a_header_with_a_credential_counts_only_for_our_pages_and_for_programs(
    site: Site, where: str, scheme: str
) -> None:
    token = site.credentials["viewer"]
    text = token if scheme == "Bearer" else b64encode(f":{token}".encode()).decode()
    for route in UNSAFE:
        if isinstance(route.access, PageAccess):
            continue  # no header opens a page: see the next test
        answer = await answer_to(site, route, where, {"Authorization": f"{scheme} {text}"})
        assert is_refused(answer) == (where not in OF_PROGRAMS), name_of(route)


@pytest.mark.parametrize("where", SITES)
async def test_a_page_takes_no_credential_from_a_header(site: Site, where: str) -> None:
    headers = {"Authorization": f"Bearer {site.credentials['admin']}"}
    for route in OF_PAGES:
        if isinstance(route.access, PageAccess):
            answer = await answer_to(site, route, where, headers)
            expected = 303 if where in OF_PROGRAMS else 403
            assert answer.status == expected, name_of(route)
            assert answer.headers.get("Location", "/console/sign-in") == "/console/sign-in"


@pytest.mark.parametrize("where", SITES)
async def test_a_cookie_counts_only_for_our_pages(site: Site, where: str) -> None:
    cookie = {"Cookie": f"{COOKIE}={site.sessions['gateway']}"}
    for route in OF_PAGES:
        answer = await answer_to(site, route, where, cookie)
        assert is_refused(answer) == (where not in OWN), name_of(route)


@pytest.mark.parametrize("where", SITES)
async def test_a_cookie_counts_nowhere_but_on_pages(site: Site, where: str) -> None:
    cookie = {"Cookie": f"{COOKIE}={site.sessions['admin']}"}
    for route in UNSAFE:
        if route in OF_PAGES or isinstance(route.access, PublicAccess):
            continue
        answer = await answer_to(site, route, where, cookie)
        assert answer.status == (401 if where in OF_PROGRAMS else 403), name_of(route)


def test_the_matrix_has_pages_and_routes_of_the_api() -> None:
    assert {"POST /console/sign-in", "POST /console/sign-out"} <= {name_of(r) for r in OF_PAGES}
    assert len(UNSAFE) > len(OF_PAGES) + 20
