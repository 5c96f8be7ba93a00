"""Reads, adds and withdraws releases through their pages, and uploads artifacts."""

import re

from tests.service.forms import CONSOLE, confirm, hidden_fields, read_page, send, text_of
from tests.service.site import P, Site
from tests.service.steered import post, roll_out


async def test_releases_are_listed_by_model_the_highest_first(fleet: Site) -> None:
    await post(fleet, "releases", {"model": "a", "version": "0.1.0"})
    html = await read_page(fleet, "/releases", "viewer")
    assert re.findall(r"/releases/(\w/[\d.]+)", html) == [
        "a/0.1.0",
        "m/1.2.0",
        "m/1.1.0",
        "m/1.0.0",
    ]
    assert html.count("latest</span>") == 2
    assert "2 100.0" in text_of(html), "two devices run 1.0.0"
    assert "a/0.1.0" not in await read_page(fleet, "/releases?model=m", "viewer")


async def test_a_release_shows_its_files_devices_and_rollouts(fleet: Site) -> None:
    rollout = await roll_out(fleet)
    put = await fleet.call(
        "PUT",
        f"{CONSOLE}/releases/m/1.1.0/artifacts/full.bin",
        caller="operator",
        data=b"some bytes",
    )
    assert put.status == 201
    html = await read_page(fleet, "/releases/m/1.1.0")
    assert put.json["sha256"] in html and "full.bin" in html
    assert f"/rollouts/{rollout}" in html
    assert f'data-upload="{CONSOLE}/releases/m/1.1.0/artifacts"' in html
    again = await fleet.get(f"{P}/releases/m/1.1.0")
    assert again.json["artifacts"][0]["sha256"] == put.json["sha256"]


async def test_a_viewer_uploads_nothing(fleet: Site) -> None:
    path = f"{CONSOLE}/releases/m/1.1.0/artifacts/full.bin"
    assert (await fleet.call("PUT", path, caller="viewer", data=b"x")).status == 403
    html = await read_page(fleet, "/releases/m/1.1.0", "viewer")
    assert "data-upload" not in html and "Withdraw" not in html


async def test_a_release_is_added_once(fleet: Site) -> None:
    fields: dict[str, str | list[str]] = {"model": "m", "version": "2.0.0", "notes": "<i>new</i>"}
    answer = await send(fleet, "/releases/new", fields)
    assert (answer.status, answer.headers["Location"]) == (303, f"{CONSOLE}/releases/m/2.0.0")
    assert "&lt;i&gt;new&lt;/i&gt;" in await read_page(fleet, "/releases/m/2.0.0")
    assert (await send(fleet, "/releases/new", fields)).status == 409
    faulty = await send(fleet, "/releases/new", {"model": "m m", "version": "2"})
    assert faulty.status == 422
    assert b"<code>model</code>" in faulty.body and b"<code>version</code>" in faulty.body


async def test_a_release_is_withdrawn_with_a_reason_and_the_numbers_first(fleet: Site) -> None:
    asked = await read_page(fleet, "/releases/m/1.0.0/withdraw")
    assert "2 devices run it and keep it" in text_of(asked)
    without = await send(fleet, "/releases/m/1.0.0/withdraw", hidden_fields(asked))
    assert without.status == 422
    done = await confirm(fleet, "/releases/m/1.0.0/withdraw", reason="It burns")
    assert done.status == 303
    shown = text_of(await read_page(fleet, "/releases/m/1.0.0"))
    assert "Withdrawn at position" in shown and "It burns" in shown


async def test_an_unknown_release_is_404(fleet: Site) -> None:
    for path in ("/releases/m/9.9.9", "/releases/m/9.9.9/withdraw", "/releases/m/9.9.9/recall"):
        assert (await fleet.get(f"{CONSOLE}{path}", "operator")).status == 404


async def test_a_release_that_started_a_rollout_automatically_says_so(fleet: Site) -> None:
    phases = [{"percent": 5.0, "after_s": 60}, {"percent": 100.0}]
    automatic = {"m": {"plan": {"phases": phases}, "window": None, "pause_if": None}}
    settings = {"auto_rollout": automatic, "approvals": 1}
    assert (await fleet.call("PATCH", P, caller="admin", json=settings)).status == 200
    form = text_of(await read_page(fleet, "/releases/new"))
    assert "The setting auto_rollout starts a rollout when a release of m is added" in form
    answer = await send(fleet, "/releases/new", {"model": "m", "version": "3.0.0"})
    path = answer.headers["Location"].removeprefix(CONSOLE)
    [rollout] = (await fleet.get(f"{P}/rollouts")).json["items"]
    html = await read_page(fleet, path)
    assert f'<a href="{CONSOLE}/rollouts/{rollout["id"]}">its rollout</a> automatically' in html
    assert "It has a plan of 2 phases, and waits for approval." in text_of(html)
    approved = f"{P}/rollouts/{rollout['id']}/approve"
    assert (await fleet.call("POST", approved, caller="admin", json={})).status == 200
    assert "It has a plan of 2 phases." in text_of(await read_page(fleet, path))
    for other in ("1.1.0", "1.2.0"):
        assert "automatically" not in await read_page(fleet, f"/releases/m/{other}")
