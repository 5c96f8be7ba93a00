"""Every form of a page that only asks for another page answers as it stands, fields left empty."""

import re
from html.parser import HTMLParser
from urllib.parse import urlencode, urlsplit

from firmtrail.application.routes import PAGES
from firmtrail.http.callers import PageAccess
from tests.service.site import Site
from tests.service.steered import roll_out

ACME = "/console/acme"


class GetForms(HTMLParser):
    """Collects the forms of a page that are sent with GET, as their addresses and fields. A field
    has the value that a browser sends when nobody fills anything in."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self._fields: dict[str, str] | None = None
        self._select = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            is_sent = given.get("method", "get") == "get" and "action" in given
            self._fields = {} if is_sent else None
            self.found += [(given["action"], self._fields)] if self._fields is not None else []
        elif self._fields is not None:
            self._take(tag, given, self._fields)

    def _take(self, tag: str, given: dict[str, str], fields: dict[str, str]) -> None:
        if tag == "select":
            self._select = given["name"]
        elif (
            tag == "option" and self._select and ("selected" in given or self._select not in fields)
        ):
            fields[self._select] = given.get("value", "")
        elif tag == "input" and (given.get("type") != "checkbox" or "checked" in given):
            fields[given["name"]] = given.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._fields = None
        elif tag == "select":
            self._select = ""


def pages_of(**names: str) -> list[str]:
    """Returns the addresses of all pages of a project."""
    chosen = {"project": "acme", "device": "d1", "model": "m", "version": "1.1.0", **names}
    routes = [
        each for each in PAGES if each.method == "GET" and isinstance(each.access, PageAccess)
    ]
    return [re.sub(r"{(\w+)}", lambda name: chosen.get(name[1], "x"), each.path) for each in routes]


async def forms_of(site: Site, path: str) -> list[tuple[str, dict[str, str]]]:
    answer = await site.get(path)
    is_page = answer.status == 200 and answer.headers["Content-Type"].startswith("text/html")
    return GetForms(answer.body.decode()).found if is_page else []


async def test_a_form_that_asks_for_a_page_may_be_sent_with_empty_fields(fleet: Site) -> None:
    rollout = await roll_out(fleet)
    start = f"{ACME}/rollouts/start"
    chosen = f"{start}?model=m&version=1.1.0"
    sent = set()
    for path in (*pages_of(id=rollout), f"{ACME}?as_of=@3", f"{ACME}/devices?as_of=@9", chosen):
        for action, fields in await forms_of(fleet, path):
            where = urlsplit(action).path
            if where == start and path != chosen:
                continue  # a browser demands the model and the version first
            answer = await fleet.get(f"{where}?{urlencode(fields)}")
            assert answer.status in {200, 303}, (path, action, fields, answer.body.decode())
            sent.add(where)
    below = ("search", "moment", "devices", "log", "audit")
    of_rollout = (f"rollouts/{rollout}/devices", f"rollouts/{rollout}/plan")
    assert sent == {start, *(f"{ACME}/{each}" for each in (*below, *of_rollout))}
