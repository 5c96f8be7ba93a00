"""Fills in the forms of pages for tests, as a browser does."""

import re
from html import unescape
from urllib.parse import urlencode

from tests.service.site import Site
from tests.serving import Answer

CONSOLE = "/console/acme"

type FormFields = dict[str, str | list[str]]


async def read_page(site: Site, path: str, caller: str = "operator") -> str:
    """Returns a page without what all pages share above it."""
    answer = await site.get(f"{CONSOLE}{path}", caller)
    assert answer.status == 200, answer.body
    return answer.body.decode().partition("<main")[2]


def text_of(html: str) -> str:
    """Returns the text of a page, with single spaces."""
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


async def send(site: Site, path: str, fields: FormFields, caller: str = "operator") -> Answer:
    """Sends a form, and returns the answer without following it."""
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    body = urlencode(fields, doseq=True)
    return await site.call("POST", f"{CONSOLE}{path}", caller=caller, data=body, headers=headers)


def hidden_fields(html: str) -> FormFields:
    """Returns the hidden fields of a page's content, which its form sends back."""
    content = html.rpartition("<main")[2]
    found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', content)
    fields: FormFields = {}
    for name, value in found:
        before = fields.get(name)
        text = unescape(value)
        if before is None:
            fields[name] = text
        else:
            fields[name] = [*([before] if isinstance(before, str) else before), text]
    return fields


async def confirm(site: Site, path: str, caller: str = "operator", **fields: str) -> Answer:
    """Opens a confirmation and sends its form with these fields filled in."""
    html = await read_page(site, path, caller)
    return await send(site, path.partition("?")[0], {**hidden_fields(html), **fields}, caller)
