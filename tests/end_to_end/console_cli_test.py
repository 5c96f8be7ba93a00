"""Checks that `firmtrail console` makes a link that signs in once, with a server and without."""

import re
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from tests.end_to_end.command import in_process
from tests.end_to_end.conftest import Serve

DONE, COULD_NOT_RUN = 0, 2


class _Staying(HTTPRedirectHandler):
    """Follows no redirect."""

    def redirect_request(self, *_: object) -> None:
        return None


def answered(url: str, fields: dict[str, str] | None = None, cookie: str = "") -> tuple[int, str]:
    """Returns the status, and the cookie that the answer sets or its body."""
    data = None if fields is None else urlencode(fields).encode()
    headers = {"Cookie": cookie, "Sec-Fetch-Site": "same-origin"} if cookie else {}
    try:
        with build_opener(_Staying).open(Request(url, data, headers)) as response:  # noqa: S310
            return response.status, response.read().decode()
    except HTTPError as error:
        with error:
            set_cookie = error.headers["Set-Cookie"] or ""
            return error.code, set_cookie.partition(";")[0] or error.read().decode()


def test_a_link_of_the_command_signs_in_once(serve: Serve, sqlite_url: str) -> None:
    database = sqlite_url
    assert in_process(database, "project", "add", "acme").exit_code == DONE
    no_admin = in_process(database, "console", "--no-browser")
    assert no_admin.exit_code == COULD_NOT_RUN
    assert "there is no admin" in no_admin.said
    person = ("user", "add", "Boss@example.org", "--project", "acme", "--role", "admin")
    assert in_process(database, *person).exit_code == DONE
    server = serve(database)
    made = in_process(database, "console", "--no-browser", "--url", server.url)
    assert made.exit_code == DONE
    link = made.out.strip()
    assert link.startswith(f"{server.url}/console/sign-in/link?code=")
    code = urlsplit(link).query.removeprefix("code=")
    follow = link.partition("?")[0]
    for _ in range(2):
        status, page = answered(link)
        assert status == 200
        assert f'value="{code}"' in page, "reading the page uses no link up"
    status, cookie = answered(follow, {"code": code})
    assert status == 303
    assert re.fullmatch(r"firmtrail-session=[\w-]{43}", cookie)
    status, page = answered(f"{server.url}/console/acme/access", cookie=cookie)
    assert (status, "boss@example.org" in page) == (200, True)
    status, page = answered(follow, {"code": code})
    assert (status, "used before" in page) == (401, True)
    as_cookie = f"firmtrail-session={code}"
    assert answered(f"{server.url}/console", cookie=as_cookie)[0] == 303

    second = ("user", "add", "two@example.org", "--project", "acme", "--role", "admin")
    assert in_process(database, *second).exit_code == DONE
    several = in_process(database, "console", "--no-browser")
    assert (several.exit_code, "several admins" in several.said) == (COULD_NOT_RUN, True)
    unknown = in_process(database, "console", "nobody@example.org", "--no-browser")
    assert unknown.exit_code == COULD_NOT_RUN
    named = in_process(database, "console", "TWO@example.org", "--no-browser")
    assert named.exit_code == DONE
    assert named.out.startswith(f"{server.url}/console/sign-in/link?code=")
