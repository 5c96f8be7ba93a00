"""Shows and changes webhooks through their pages."""

import re
from typing import Any
from urllib.parse import urlsplit

from tests.service.forms import (
    CONSOLE,
    FormFields,
    confirm,
    hidden_fields,
    read_page,
    send,
    text_of,
)
from tests.service.receiver import Receiver, add
from tests.service.site import P, Site
from tests.service.webhooks import deliveries, report, shown

PAGE = "/settings/webhooks"


async def fill(site: Site, path: str, **fields: Any) -> FormFields:
    """Returns the fields of the form of a page, with these filled in."""
    return {**hidden_fields(await read_page(site, path, "admin")), **fields}


async def listed(site: Site) -> list[Any]:
    return list((await site.get(f"{P}/webhooks")).json["items"])


async def test_a_webhook_is_added_once_and_its_secret_is_shown_once(
    site: Site, receiver: Receiver
) -> None:
    fields = await fill(
        site,
        PAGE,
        url=receiver.url,
        description="the chat",
        events="named",
        types="RolloutPaused, FirmwareInstalled",
        models="m",
        notices=["halted", "rollout_paused"],
    )
    answer = await send(site, PAGE, fields, "admin")
    assert answer.status == 200
    assert re.search(rb'<code class="secret">whsec_[A-Za-z0-9+/=]+</code>', answer.body)
    assert answer.headers["Cache-Control"] == "no-store"
    again = await send(site, PAGE, fields, "admin")
    assert b"whsec_" not in again.body and b"shown already" in again.body
    [found] = await listed(site)
    assert (found["types"], found["models"]) == (["RolloutPaused", "FirmwareInstalled"], ["m"])
    assert (found["notices"], found["description"]) == (["halted", "rollout_paused"], "the chat")
    html = await read_page(site, f"{PAGE}/{found['id']}", "admin")
    assert "whsec_" not in html
    assert text_of(await read_page(site, PAGE, "admin")).count("the chat") == 1


async def test_what_is_wrong_stands_at_its_field_and_nothing_written_is_lost(
    site: Site, receiver: Receiver
) -> None:
    for name, text in (
        ("url", "ftp://example.org"),
        ("url", "http://192.0.2.1/hook"),
        ("types", "NoSuchEvent"),
        ("models", "not a model!"),
    ):
        fields = await fill(site, PAGE, url=receiver.url, events="named", types="Asked", models="m")
        answer = await send(site, PAGE, {**fields, name: text}, "admin")
        assert answer.status == 422, text
        field = re.search(rf'<input[^>]*name="{name}"[^>]*>', answer.body.decode())
        assert field is not None and 'aria-invalid="true"' in field[0] and text in field[0]
    assert await listed(site) == []


async def test_the_page_of_a_webhook_shows_what_was_sent_and_what_came_back(
    site: Site, receiver: Receiver
) -> None:
    receiver.answers = [(500, "<b>out of order</b>")]
    webhook = await add(site, receiver)
    position = await report(site, "1.0.0")
    await deliveries(site, webhook, 2)
    assert "nothing waits" in text_of(await read_page(site, f"{PAGE}/{webhook['id']}", "admin"))
    html = await read_page(site, f"{PAGE}/{webhook['id']}", "admin")
    assert "&lt;b&gt;out of order&lt;/b&gt;" in html and "thanks" in html
    assert re.findall(r'class="state[^"]*">(\d{3})<', html) == ["200", "500"]
    assert f'href="{CONSOLE}/log/1/{position}"' in html


async def test_a_test_is_sent_and_appears_among_the_deliveries(
    site: Site, receiver: Receiver
) -> None:
    webhook = await add(site, receiver)
    path = f"{PAGE}/{webhook['id']}"
    answer = await send(site, f"{path}/test", {}, "admin")
    assert answer.headers["Location"] == f"{CONSOLE}{path}?done=tested"
    html = await read_page(site, f"{path}?done=tested", "admin")
    assert "firmtrail.notice.test.v1" in html and "A test was sent" in html


async def test_a_webhook_is_disabled_and_enabled(site: Site, receiver: Receiver) -> None:
    webhook = await add(site, receiver)
    path = f"{PAGE}/{webhook['id']}"
    for is_enabled in (False, True):
        fields = await fill(site, path)
        assert fields["enabled"] == str(is_enabled).lower()
        sent = await send(site, f"{path}/state", {"enabled": fields["enabled"]}, "admin")
        assert sent.status == 303
        assert (await shown(site, webhook))["enabled"] == is_enabled


async def test_a_webhook_is_changed_unless_somebody_changed_it_meanwhile(
    site: Site, receiver: Receiver
) -> None:
    webhook = await add(site, receiver)
    path = f"{PAGE}/{webhook['id']}"
    before = await fill(site, path, url=receiver.url, events="none", notices=["halted"])
    del before["enabled"]
    assert (await send(site, path, before, "admin")).status == 303
    assert (await shown(site, webhook))["types"] == []
    late = {**before, "key": "another", "events": "all"}
    answer = await send(site, path, late, "admin")
    assert answer.status == 412 and b"Somebody changed this" in answer.body
    assert (await shown(site, webhook))["types"] == []


async def test_everything_is_sent_again_from_a_position(site: Site, receiver: Receiver) -> None:
    webhook = await add(site, receiver)
    position = await report(site, "1.0.0")
    await receiver.until(1)
    path = f"{PAGE}/{webhook['id']}"
    answer = await confirm(site, f"{path}/redeliver", "admin", position=str(position))
    assert answer.status == 303
    again = await receiver.until(2)
    assert [each.position for each in again] == [position, position]
    late = await confirm(site, f"{path}/redeliver", "admin", position="9999")
    assert late.status == 422
    assert "the highest position is" in text_of(late.body.decode())


async def test_a_confirmation_names_the_receiver(site: Site, receiver: Receiver) -> None:
    webhook = await add(site, receiver)
    to = urlsplit(receiver.url).netloc
    for page in ("redeliver", "secret", "remove"):
        html = await read_page(site, f"{PAGE}/{webhook['id']}/{page}", "admin")
        assert f"to {to}</h1>" in html


async def test_a_new_secret_is_shown_once(site: Site, receiver: Receiver) -> None:
    webhook = await add(site, receiver)
    answer = await confirm(site, f"{PAGE}/{webhook['id']}/secret", "admin")
    assert b"whsec_" in answer.body and webhook["secret"].encode() not in answer.body


async def test_a_webhook_is_removed(site: Site, receiver: Receiver) -> None:
    webhook = await add(site, receiver)
    path = f"{PAGE}/{webhook['id']}"
    answer = await confirm(site, f"{path}/remove", "admin")
    assert answer.headers["Location"] == f"{CONSOLE}{PAGE}"
    assert await listed(site) == []
    assert (await site.get(f"{CONSOLE}{path}", "admin")).status == 404


async def test_only_admins_see_that_there_are_webhooks(site: Site, receiver: Receiver) -> None:
    webhook = await add(site, receiver)
    link = f'href="{CONSOLE}{PAGE}"'
    assert link in await read_page(site, "/settings", "admin")
    for role in ("viewer", "auditor", "operator"):
        assert link not in await read_page(site, "/settings", role)
        for path in (PAGE, f"{PAGE}/{webhook['id']}", f"{PAGE}/{webhook['id']}/remove"):
            assert (await site.get(f"{CONSOLE}{path}", role)).status == 403
        sent = await send(site, f"{PAGE}/{webhook['id']}/state", {"enabled": "false"}, role)
        assert sent.status == 403
    assert (await shown(site, webhook))["enabled"]
