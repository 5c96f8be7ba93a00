"""Recalls versions through the console."""

import pytest

from firmtrail.console.pages import recalls
from firmtrail.projections import rollout_devices
from tests.service.forms import (
    CONSOLE,
    FormFields,
    confirm,
    hidden_fields,
    read_page,
    send,
    text_of,
)
from tests.service.site import D2, D, P, Site
from tests.service.steered import post, roll_out


async def test_a_recall_looks_up_the_histories_of_a_bounded_number_of_devices(
    fleet: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "2 have no earlier good version" in text_of(
        await read_page(fleet, "/releases/m/1.0.0/recall")
    )
    monkeypatch.setattr(recalls, "LOOKED_AT_MAX", 1)
    shown = text_of(await read_page(fleet, "/releases/m/1.0.0/recall"))
    assert "2 devices run it" in shown
    assert "1 of the first 1 has no earlier good version" in shown


async def test_a_recall_that_looked_at_no_device_shows_no_counts(
    fleet: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fleet.report({"version": "1.1.0"}, caller="operator", path=D2)
    monkeypatch.setattr(rollout_devices, "SEARCHED_MAX", 1)
    shown = text_of(await read_page(fleet, "/releases/m/1.1.0/recall"))
    assert "1 device runs it" in shown
    for words in ("have no earlier", "are pinned", "made no call"):
        assert f"not counted {words}" in shown


async def test_a_recall_shows_the_numbers_and_needs_a_reason(fleet: Site) -> None:
    rollout = await roll_out(fleet)
    for path in (D, D2):
        await fleet.report({"version": "1.1.0"}, caller="operator", path=path)
    asked = await read_page(fleet, "/releases/m/1.1.0/recall")
    assert "2 devices run it" in text_of(asked)
    assert "Where they go Version Devices 1.0.0 2" in text_of(asked)
    there = text_of(await read_page(fleet, "/releases/m/1.1.0/recall?to=1.2.0"))
    assert "Where they go Version Devices 1.2.0 2" in there
    assert "Send them to: their previous versions 1.2.0 1.0.0" in text_of(asked)
    without = await send(fleet, "/releases/m/1.1.0/recall", hidden_fields(asked))
    assert without.status == 422
    done = await confirm(fleet, "/releases/m/1.1.0/recall", reason="It burns")
    rollback = done.headers["Location"].rpartition("/")[2]
    found = (await fleet.get(f"{P}/rollouts/{rollback}")).json
    assert (found["kind"], found["bad_version"], found["reason"]) == (
        "rollback",
        "1.1.0",
        "It burns",
    )
    assert (await fleet.get(f"{P}/releases/m/1.1.0")).json["withdrawn"]
    recalled = text_of(await read_page(fleet, f"/rollouts/{rollout}"))
    assert "Look at the recall" in recalled
    assert "Recall 1.1.0…" not in recalled
    again = text_of(await read_page(fleet, "/releases/m/1.1.0/recall"))
    assert f"A recall of 1.1.0 is under way already: {rollback}." in again
    assert (await fleet.get(f"{D}/update", "device")).json["version"] == "1.0.0"


async def test_a_recall_that_is_over_offers_to_recall_again(fleet: Site) -> None:
    back = {"bad_version": "1.1.0", "model": "m", "to": "1.0.0", "reason": "It burns"}
    first, again = (await post(fleet, "rollbacks", back)).json["rollout"], "Recall 1.1.0 again…"
    page, link = f"/rollouts/{first}", '/releases/m/1.1.0/recall"'
    assert again not in await read_page(fleet, page)
    await post(fleet, f"rollouts/{first}/abort")
    shown = await read_page(fleet, page)
    assert again in shown and link in shown and "Abort…" not in shown
    viewer = await fleet.get(f"{CONSOLE}{page}", "viewer")
    assert again not in viewer.body.decode()
    second = (await post(fleet, "rollbacks", back)).json["rollout"]
    assert f'/rollouts/{second}">Look at the newer recall' in await read_page(fleet, page)
    await post(fleet, "releases/m/1.0.0/withdraw", {"reason": "It burns too"})
    for each in (first, second):
        assert again in await read_page(fleet, f"/rollouts/{each}")


async def test_a_recall_may_have_a_window_of_its_own(fleet: Site) -> None:
    path = "/releases/m/1.1.0/recall"
    asked = await read_page(fleet, path)
    assert "Send them only in a window It opens at" in text_of(asked)
    hidden: FormFields = {**hidden_fields(asked), "reason": "It burns"}
    wrong = {"window_cron": "0 2 * *", "window_for": "a while"}
    for fields in (wrong, {"window_for": "4 h"}, {"window_timezone": "Mars/Base"}):
        refused = await send(fleet, path, {**hidden, **fields})
        assert refused.status == 422, fields
    assert "window_cron" in (
        shown := text_of((await send(fleet, path, {**hidden, **wrong})).body.decode())
    )
    assert "window_for: is not a length of time" in shown
    fields = {"window_cron": "0 2 * * *", "window_for": "4 h", "window_timezone": "Europe/Berlin"}
    done = await confirm(fleet, path, reason="It burns", **fields)
    rollback = done.headers["Location"].rpartition("/")[2]
    found = (await fleet.get(f"{P}/rollouts/{rollback}")).json["window"]
    assert found == {"cron": "0 2 * * *", "duration_s": 14_400, "timezone": "Europe/Berlin"}


async def test_lists_count_the_devices_of_a_recall_that_still_run_the_bad_version(
    fleet: Site,
) -> None:
    for path in (D, D2):
        await fleet.report({"version": "1.2.0"}, caller="operator", path=path)
    wanted = {"bad_version": "1.2.0", "model": "m", "reason": "smoke"}
    recall = (await post(fleet, "rollbacks", wanted)).json["rollout"]

    async def said(words: str) -> bool:
        pages = [text_of(await read_page(fleet, path)) for path in ("", "/rollouts")]
        return all(words in shown for shown in pages)

    titles = {"": "Recall", "/pause": "Pause the recall", "/devices": "Devices of the recall"}
    for path, title in titles.items():
        page = await fleet.get(f"{CONSOLE}/rollouts/{recall}{path}", "operator")
        assert f"<title>{title} of 1.2.0 from m · acme" in page.body.decode()
    assert await said("0 of 2 are back, 1.2.0 still runs on 2")
    await fleet.get(f"{D}/update", "device")
    await fleet.report({"version": "1.0.0"})
    assert await said("1 of 2 are back, 1.2.0 still runs on 1")
    await post(fleet, f"rollouts/{recall}/abort")
    assert "1 of 1 offered so far are" in text_of(await read_page(fleet, "/rollouts"))


async def test_a_recall_can_send_to_a_named_version(fleet: Site) -> None:
    await fleet.report({"version": "1.1.0"})
    done = await confirm(fleet, "/releases/m/1.1.0/recall?to=1.2.0", reason="It burns")
    rollback = done.headers["Location"].rpartition("/")[2]
    assert (await fleet.get(f"{P}/rollouts/{rollback}")).json["version"] == "1.2.0"
