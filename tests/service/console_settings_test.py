"""Checks the page of a project's settings: every setting, its faults, and two people at it."""

import html
import re
from typing import Any

import msgspec

from firmtrail.console.pages.settings import WORDS
from firmtrail.rules.settings import Settings
from tests.service.site import CONSOLE, P, Site
from tests.serving import Answer

SETTINGS = f"{CONSOLE}/acme/settings"


async def opened(site: Site, caller: str = "admin") -> dict[str, Any]:
    """Returns the fields of the form as a browser would send them."""
    page = (await site.get(SETTINGS, caller)).body.decode()
    fields = dict(re.findall(r'<input[^>]* name="(\w+)" value="([^"]*)"', page))
    fields |= dict(re.findall(r'<textarea[^>]* name="(\w+)"[^>]*>([^<]*)</textarea>', page))
    checked = re.findall(r'type="checkbox" name="(\w+)"[^>]* checked', page)
    boxes = re.findall(r'type="checkbox" name="(\w+)"', page)
    for select, options in re.findall(r'<select[^>]* name="(\w+)"[^>]*>(.*?)</select>', page):
        fields[select] = re.findall(r"<option selected>(\w+)<", options)[0]
    fields = {name: html.unescape(text) for name, text in fields.items() if name not in boxes}
    return fields | dict.fromkeys(checked, "true")


async def save(site: Site, fields: dict[str, Any], caller: str = "admin") -> Answer:
    return await site.post(SETTINGS, caller, **fields)


async def test_every_setting_has_a_field_and_words(site: Site) -> None:
    page = (await site.get(SETTINGS)).body.decode()
    for name in Settings.__struct_fields__:
        assert f'name="{name}"' in page
        assert name in WORDS
    read = (await site.get(SETTINGS, "viewer")).body.decode()
    assert 'method="post"' not in read.partition("<main")[2]
    assert "An admin of the project changes them." in read


async def test_an_admin_changes_settings_and_only_changes_are_recorded(site: Site) -> None:
    before = (await site.get(P)).json
    fields = await opened(site)
    fields |= {"follow_latest": "true", "poll_after_s": "60"}
    answer = await save(site, fields)
    assert (answer.status, answer.headers["Location"]) == (303, f"{SETTINGS}?saved=yes")
    after = (await site.get(P)).json
    assert after == before | {"follow_latest": True, "poll_after_s": 60}
    log = (await site.get(f"{P}/events")).body.splitlines()
    assert msgspec.json.decode(log[-1])["data"] == {"follow_latest": True, "poll_after_s": 60}
    assert (await save(site, await opened(site))).status == 303
    assert len((await site.get(f"{P}/events")).body.splitlines()) == len(log)


async def test_a_switch_is_turned_off_again(site: Site) -> None:
    await save(site, await opened(site) | {"public_checkpoint": "true"})
    fields = await opened(site)
    assert fields.pop("public_checkpoint") == "true"
    assert (await save(site, fields)).status == 303
    assert (await site.get(P)).json["public_checkpoint"] is False


async def test_all_faults_are_named_next_to_their_fields(site: Site) -> None:
    fields = await opened(site)
    fields |= {"poll_after_s": "0", "max_attempts": "1001", "model_windows": "[1]"}
    answer = await save(site, fields)
    page = answer.body.decode()
    assert answer.status == 422
    assert "Nothing was saved: 3 of the fields are wrong." in page
    assert set(re.findall(r'id="e-(\w+)"', page)) == {
        "poll_after_s",
        "max_attempts",
        "model_windows",
    }
    assert 'value="1001"' in page, "what the person typed is still there"
    for text in ("x", "", "1.5", "-1", "\N{FULLWIDTH DIGIT ONE}"):
        answer = await save(site, fields | {"poll_after_s": text, "model_windows": "{"})
        assert answer.status == 422
        assert "is not a whole number" in answer.body.decode()
        assert "is not JSON" in answer.body.decode()
    assert (await site.get(P)).json["max_attempts"] == 3


async def test_a_change_by_somebody_else_is_explained_and_not_overwritten(site: Site) -> None:
    mine = await opened(site) | {"poll_after_s": "60"}
    other = {"poll_after_s": 900, "max_attempts": 5}
    assert (await site.call("PATCH", P, caller="admin", json=other)).status == 200
    answer = await save(site, mine)
    page = re.sub(r"</?code>", "", answer.body.decode())
    assert answer.status == 412
    assert "Somebody else changed the settings since you opened this page" in page
    assert "was 300, is 900; you have 60" in page
    assert "was 3, is 5; you have 3" in page
    assert (await site.get(P)).json["poll_after_s"] == 900, "nothing was lost"
    seen = html.unescape(re.findall(r'name="seen" value="([^"]*)"', page)[0])
    again = await save(site, mine | {"seen": seen, "max_attempts": "5"})
    assert again.status == 303
    now = (await site.get(P)).json
    assert (now["poll_after_s"], now["max_attempts"]) == (60, 5)


async def test_only_admins_change_settings(site: Site) -> None:
    fields = await opened(site)
    for caller, status in (("viewer", 403), ("operator", 403), ("auditor", 403), ("stranger", 404)):
        assert (await save(site, fields, caller)).status == status


async def test_a_form_from_nowhere_is_refused(site: Site) -> None:
    fields = await opened(site)
    for seen in ("x", "[]", "7", "{}"):
        assert (await save(site, fields | {"seen": seen})).status == 400
    del fields["seen"]
    assert (await save(site, fields)).status == 422
