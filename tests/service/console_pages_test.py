"""Checks what all pages of the console share: their headers, parts, problems, files and forms."""

import gzip
import re
import time
from typing import Annotated

import msgspec
import pytest
from msgspec import Meta

from firmtrail.application.routes import PAGES, ROUTES
from firmtrail.console import files, render
from firmtrail.http.errors import BadRequest, Invalid, TooLarge
from firmtrail.http.forms import FIELDS_MAX, form_reader
from tests.service.site import Site

FLEET = "/console/acme"


async def test_a_page_is_html_that_may_load_only_our_own_files(fleet: Site) -> None:
    answer = await fleet.get(FLEET, "viewer")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    for name, value in render.HEADERS.items():
        assert answer.headers[name] == value
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "private, no-cache"
    html = answer.body.decode()
    assert re.findall(r"<style|style=|javascript:|<script(?! src)|\son\w+=", html) == []
    assert re.findall(r'(?:src|href|action)="(?:https?:)?//', html) == []


async def test_the_policy_of_a_page_permits_nothing_but_our_own(fleet: Site) -> None:
    policy = (await fleet.get(FLEET, "viewer")).headers["Content-Security-Policy"]
    own = ("script-src", "style-src", "img-src", "connect-src", "form-action")
    none = ("default-src", "frame-ancestors", "base-uri")
    assert dict(each.split(maxsplit=1) for each in policy.split("; ")) == {
        **dict.fromkeys(own, "'self'"),
        **dict.fromkeys(none, "'none'"),
    }


async def test_a_page_names_the_size_of_the_log(fleet: Site) -> None:
    answer = await fleet.get(FLEET)
    size = int(answer.headers["Firmtrail-Log-Size"])
    assert f'data-size="{size}"' in answer.body.decode()


async def test_a_browser_that_has_a_page_gets_304(fleet: Site) -> None:
    access, now_s = fleet.services.access, time.time()
    access._clock = lambda: now_s  # a page says how many seconds ago things happened
    first = await fleet.get(FLEET)
    again = await fleet.get(FLEET, If_None_Match=first.headers["ETag"])
    assert (again.status, again.body) == (304, b"")


def without_times(html: bytes) -> bytes:
    return re.sub(rb"<time.*?</time>", b"", html)


async def test_a_page_is_compressed_for_a_browser_that_takes_it(fleet: Site) -> None:
    plain = await fleet.get(FLEET, Accept_Encoding="identity")
    async with fleet.client.get(
        FLEET,
        headers=fleet.identity(FLEET, "admin") | {"Accept-Encoding": "gzip"},
        auto_decompress=False,
    ) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert response.headers["ETag"] != plain.headers["ETag"]
        whole = gzip.decompress(await response.read())
        assert without_times(whole) == without_times(plain.body)


async def test_a_part_is_a_piece_of_the_page(fleet: Site) -> None:
    whole, part = await fleet.get(FLEET), await fleet.get(f"{FLEET}?part=live")
    assert part.status == 200
    assert without_times(part.body).strip() in without_times(whole.body)
    assert b"<html" not in part.body
    assert (await fleet.get(f"{FLEET}?part=frobnicate")).status == 404


async def test_a_page_of_the_past_says_so_and_its_links_stay_there(fleet: Site) -> None:
    html = (await fleet.get(f"{FLEET}?as_of=@3")).body.decode()
    assert "As known at position" in html
    assert f'href="{FLEET}/devices?as_of=%403"' in html
    assert f'href="{FLEET}"' in html, "the way back to now"
    assert 'name="as_of" value="@3"' in html, "the search stays there too"


@pytest.mark.one_back_end
@pytest.mark.parametrize(
    ("path", "caller", "status", "words"),
    [
        (FLEET, "stranger", 404, "There is nothing here"),
        (FLEET, "gateway", 403, "Your role does not allow this"),
        ("/console/acme/frobnicate", "admin", 404, "There is nothing here"),
        ("/console/a/b/c/d", "admin", 404, "There is nothing here"),
        (f"{FLEET}?frobnicate=1", "admin", 422, "frobnicate"),
        (f"{FLEET}?as_of=@999999", "admin", 422, "does not have that many events yet"),
    ],
)
async def test_a_problem_is_a_page(
    fleet: Site, path: str, caller: str, status: int, words: str
) -> None:
    answer = await fleet.get(path, caller)
    assert answer.status == status
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    html = answer.body.decode()
    assert words in html
    assert answer.headers["X-Request-Id"] in html


async def test_a_method_that_a_page_does_not_take_is_refused_with_a_page(fleet: Site) -> None:
    answer = await fleet.call("DELETE", FLEET, caller="admin")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert answer.headers["Content-Type"].startswith("text/html")


async def test_the_projects_of_a_person_are_those_where_it_is_a_member(site: Site) -> None:
    html = (await site.get("/console", "viewer")).body.decode()
    assert 'href="/console/acme"' in html
    assert "/console/other" not in html


async def test_pages_are_in_no_document_of_the_api() -> None:
    assert not {route.path for route in PAGES} & {route.path for route in ROUTES}


async def test_every_static_file_is_kept_under_the_digest_of_all(site: Site) -> None:
    for name, file in files.all_files().items():
        answer = await site.call("GET", files.path_of(name))
        assert (answer.status, answer.body) == (200, file.content)
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        etag = answer.headers["ETag"]
        again = await site.call("GET", files.path_of(name), headers={"If-None-Match": etag})
        assert again.status == 304


async def test_a_static_file_of_another_version_is_not_kept(site: Site) -> None:
    answer = await site.call("GET", "/console/-/0123456789abcdef/style.css")
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
    assert (await site.call("GET", f"/console/-/{files.digest()}/missing.css")).status == 404


class Fields(msgspec.Struct, frozen=True, kw_only=True):
    """A form of each kind of field."""

    percent: Annotated[int, Meta(ge=0, le=100)]
    reason: str | None = None
    device: list[Annotated[str, Meta(max_length=4)]] = []


def test_a_form_becomes_the_struct_of_its_route() -> None:
    read = form_reader(Fields)
    assert read(b"percent=5&reason=a%0D%0Ab+c&device=d1&device=d2") == Fields(
        percent=5, reason="a\nb c", device=["d1", "d2"]
    )
    assert read(b"percent=5&reason=") == Fields(percent=5)


def test_all_faults_of_a_form_are_named() -> None:
    with pytest.raises(Invalid) as refused:
        form_reader(Fields)(b"percent=101&reason=a&reason=b&device=d1234&other=1&reason=%00")
    faults = {str(fault.parameter) for fault in refused.value.faults}
    assert faults == {"percent", "reason", "device", "other"}
    with pytest.raises(Invalid) as missing:
        form_reader(Fields)(b"")
    assert [(each.parameter, each.reason) for each in missing.value.faults] == [
        ("percent", "is missing")
    ]


def test_a_form_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(BadRequest):
        form_reader(Fields)(b"percent=%ff")
    with pytest.raises(TooLarge):
        form_reader(Fields)(b"device=d&" * (FIELDS_MAX + 1))
