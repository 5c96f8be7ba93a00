"""Texts and names from devices and people act in no page, and no page becomes wider by them."""

import pytest
from playwright.async_api import Browser

from firmtrail.access import attributes
from firmtrail.access.roles import EVERYTHING
from firmtrail.commands import access as commands
from firmtrail.commands import webhooks as webhook_commands
from firmtrail.commands.webhooks import WebhookTerms
from firmtrail.events.event import Event
from firmtrail.events.fleet import (
    ArtifactAdded,
    DeviceRegistered,
    ReleaseAdded,
    ReleaseWithdrawn,
)
from firmtrail.events.steering import Halted, RollbackStarted, RolloutPaused, RolloutStarted
from firmtrail.eventstore import log
from firmtrail.recording.commit import Commit
from firmtrail.webhooks import kept_deliveries
from firmtrail.webhooks.kept_deliveries import DeliveryRow
from tests.browser.conftest import Console
from tests.browser.visit import DESKTOP, PHONE, visiting
from tests.fleet import received, record_events, register, report
from tests.people import add_member

pytestmark = pytest.mark.slow

ACTING = "<script>window.acted = 1</script><img src=x onerror='window.acted = 1'>{{ 7 * 7 }}"
BIDI = "\u202etxet desrever\u2066\u200f"
COMBINING = "e" + "\u0301" * 60
HOSTILE = f"'\"><svg onload=window.acted=1>{ACTING}{BIDI}{COMBINING}{'W' * 128}"
NAME = "W" * 128
LONG = "W" * 64
"""A name of a model, cohort, tag, artifact or device."""
VERSION = "9.9.7-" + "w" * 58
EMAIL = "x'onmouseover=alert(1)@example.org"


async def add_webhook(console: Console) -> str:
    """Adds a webhook with hostile texts, whose receiver answered with one; returns its id."""
    terms = WebhookTerms(url=f"https://example.org/{'W' * 200}", description=HOSTILE[:200])
    adding = webhook_commands.add_webhook(terms, actor="system")
    webhook = await console.recorder.act(console.log_id, adding)
    row = DeliveryRow(0, "W" * 60, None, "firmtrail.X.v1", 1, 1, 5, 500, HOSTILE[:200], HOSTILE)
    await kept_deliveries.keep_test(console.db, ("demo-fleet", webhook.webhook_id), row)
    return webhook.webhook_id


async def fill(console: Console) -> int:
    """Records hostile texts wherever somebody can put one; returns the position of a report."""
    recorder, log_id = console.recorder, console.log_id
    await register(recorder, log_id, NAME, model="pump")
    failed = report("1.6.1", "failed", device=NAME, rollout="r_161", detail=HOSTILE)
    _, outcome = await recorder.report(log_id, [report(device=NAME, detail=HOSTILE), failed])
    said = {HOSTILE[:128]: HOSTILE, "k" * 128: "v" * 512}
    await attributes.change(
        console.db, ("demo-fleet", NAME), "merge", said, now_ms=console.services.access.now_ms()
    )
    await add_member(recorder, log_id, EMAIL, "viewer")
    wanted = commands.TokenRequest(console.actor_id, HOSTILE[:128], "viewer")
    await recorder.act(log_id, commands.issue_token(wanted, EVERYTHING, actor="system"))
    return received(outcome).position


async def order(console: Console) -> None:
    """Records hostile texts of people as notes and reasons, of things whose names are as long as
    they may be."""
    of_release, withdrawn = f"release/{LONG}/9.9.9", f"release/{LONG}/9.9.8"
    ordered: list[tuple[str, Event, str | None]] = [
        (of_release, ReleaseAdded(LONG, "9.9.9"), HOSTILE),
        (of_release, ArtifactAdded(LONG, 1, "ab" * 32), None),
        ("rollout/r_hostile", RolloutStarted("9.9.9", LONG, 10_000, tag=LONG), None),
        ("rollout/r_hostile", RolloutPaused(), HOSTILE),
        (withdrawn, ReleaseAdded(LONG, "9.9.8"), None),
        (withdrawn, ReleaseWithdrawn(), HOSTILE),
        ("rollout/r_return", RollbackStarted("9.9.8", LONG, 10_000, cohort=LONG), HOSTILE),
        (f"release/{LONG}/{VERSION}", ReleaseAdded(LONG, VERSION), None),
        ("rollout/r_long", RolloutStarted(VERSION, LONG, 10_000), None),
        ("project/demo-fleet", Halted(all=False), HOSTILE),
    ]

    async def command(commit: Commit) -> None:
        for stream, event, text in ordered:
            commit.draft.record(stream, event, actor="system", text=text)

    await console.recorder.act(console.log_id, command)
    registered = DeviceRegistered(LONG, LONG, (LONG, "X" * 64))
    await record_events(console.recorder, console.log_id, [(f"device/{LONG}", registered)])


async def test_no_hostile_text_acts_or_makes_a_page_wider(
    browser: Browser, console: Console
) -> None:
    position, webhook = await fill(console), await add_webhook(console)
    await order(console)
    script = "%3Cscript%3Ewindow.acted%3D1%3C%2Fscript%3E%E2%80%AE"
    assert position < (await log.head(console.db, console.log_id)).size
    async with visiting(browser, console) as visit:
        for path in (
            f"/devices/{NAME}",
            f"/devices?q={NAME[:20]}",
            f"/devices/{NAME}/decommission",
            "",
            "/rollouts/r_161",
            "/rollouts/r_161/devices?state=failed",
            "/log",
            f"/log/1/{position}",
            f"/search?q={NAME[:20]}",
            f"/search?q={script}",
            "/settings/webhooks",
            f"/settings/webhooks/{webhook}",
            f"/rollouts/start?model=pump&version=1.6.1&percent=1&cohort={NAME[:64]}",
            "/access",
            f"/devices/{LONG}",
            f"/devices?tag={LONG}&cohort={LONG}&model={LONG}",
            "/releases",
            f"/releases/{LONG}/9.9.9",
            f"/releases/{LONG}/9.9.8",
            f"/releases/{LONG}/9.9.9/recall",
            f"/releases/{LONG}/{VERSION}",
            f"/releases/{LONG}/{VERSION}/recall",
            "/rollouts",
            "/rollouts/r_long",
            "/rollouts/r_hostile",
            "/rollouts/r_hostile/resume",
            "/rollouts/r_return",
            "/resume",
        ):
            await visit.open(f"{console.project}{path}")
            for size in (DESKTOP, PHONE):
                await visit.show(size, "light")
                await visit.check_width()
            assert await visit.page.evaluate("() => window.acted") is None, path
            assert (
                await visit.page.locator("main script, main [onload], main [onerror]").count() == 0
            )
        await visit.check()
