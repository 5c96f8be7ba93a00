"""A browser proves the entries of the log on its own, and shows a red page if the log is not what
it was."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from playwright.async_api import Browser, Route, expect

from firmtrail.eventstore import log, tree
from firmtrail.eventstore.proofs import TreeHead
from firmtrail.publishing import checkpoint
from firmtrail.publishing.minimum_sizes import LogName
from firmtrail.publishing.signer import Signer
from tests.browser.conftest import Console
from tests.browser.visit import DESKTOP, PHONE, SCHEMES, Visit, visiting
from tests.fleet import register
from tests.people import recorded
from tests.publishing import SIGNER

pytestmark = pytest.mark.slow

POSITION = 300
OTHER = Signer(SIGNER.instance, Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33))))
ELSEWHERE = Signer("elsewhere", OTHER.key)


@pytest.fixture
async def visit(browser: Browser, console: Console) -> AsyncIterator[Visit]:
    async with visiting(browser, console) as visit:
        yield visit


def name_of(console: Console, number: int = 1) -> LogName:
    return LogName(console.project.rpartition("/")[2], number)


async def open_entry(visit: Visit, console: Console, position: int = POSITION) -> None:
    await visit.page.goto(f"{console.project}/log/1/{position}")


async def open_proven(visit: Visit, console: Console) -> None:
    """Opens the entry, and waits until this browser has proven it."""
    await open_entry(visit, console)
    await expect(visit.page.locator("#proof .state.good")).to_have_text("in the log")


async def let_time_pass(visit: Visit) -> None:
    """Makes the last check of this browser an hour old, so that it asks for a checkpoint again."""
    await visit.page.evaluate(
        """() => {
          const name = Object.keys(localStorage).find((each) => each.startsWith("firmtrail.trust"));
          const trusted = JSON.parse(localStorage.getItem(name));
          trusted.logs["1"].at = new Date(Date.now() - 3_600_000).toISOString();
          localStorage.setItem(name, JSON.stringify(trusted));
        }"""
    )


async def seals(console: Console) -> int:
    """Returns how often the log recorded the head of the access record."""
    events = await recorded(console.db, console.log_id)
    return sum(stream.startswith("access-record/") for stream, _ in events)


async def test_looking_around_in_the_log_asks_for_one_checkpoint(
    visit: Visit, console: Console
) -> None:
    await open_proven(visit, console)
    before = await seals(console)
    for position in range(POSITION + 1, POSITION + 6):
        await open_entry(visit, console, position)
        await expect(visit.page.locator("#proof .state.good")).to_have_text("in the log")
    assert await seals(console) == before
    await let_time_pass(visit)
    await open_proven(visit, console)
    assert await seals(console) == before + 1
    await visit.check()


async def test_an_entry_that_is_newer_than_the_last_check_asks_for_a_checkpoint(
    visit: Visit, console: Console
) -> None:
    await open_proven(visit, console)
    newest = (await log.head(console.db, console.log_id)).size
    await register(console.recorder, console.log_id, "new-one")
    await open_entry(visit, console, newest)
    await expect(visit.page.locator("#proof .state.good")).to_have_text("in the log")


async def test_an_entry_is_proven_drawn_and_its_receipt_is_the_servers(
    visit: Visit, console: Console, tmp_path: Path
) -> None:
    await open_proven(visit, console)
    async with visit.page.expect_download() as downloading:
        await visit.page.get_by_text("Download the proof").click()
    await (await downloading.value).save_as(tmp_path / "receipt")
    receipt = (tmp_path / "receipt").read_text()
    note = receipt[receipt.index("\n\n") + 2 :]
    signed = checkpoint.verify_note(note, SIGNER.verifier(name_of(console)))
    path = await tree.inclusion(console.db, console.log_id, POSITION, signed.size)
    assert receipt == checkpoint.proof_text(POSITION, path, note)
    assert await visit.page.locator("svg.proof circle").count() == 2 * len(path) + 1
    rows = await visit.page.locator("#proof tbody code").all_text_contents()
    assert rows == [node.hex() for node in path]
    checked = await visit.page.locator("#checked").inner_text()
    assert checked.startswith("checked by this browser up to")
    await visit.check()


async def test_an_auditor_checks_that_the_log_only_grew(visit: Visit, console: Console) -> None:
    page = visit.page
    await page.goto(f"{console.project}/audit")
    await expect(page.locator("[data-log] .state.good")).to_have_text("consistent")
    assert "Seen for the first time" in await page.locator("[data-log]").inner_text()
    await open_entry(visit, console)  # a read, which the next checkpoint seals
    await page.goto(f"{console.project}/audit")
    await page.get_by_role("button", name="Check now").click()
    await expect(page.locator("[data-log]")).to_contain_text("are those that it verified before")
    await visit.check()


type Tamper = Callable[[Console, Route], Awaitable[None]]


def flipping(at: int) -> Tamper:
    """Returns what changes one bit of an answer."""

    async def tamper(_: Console, route: Route) -> None:
        answer = await route.fetch()
        body = bytearray(await answer.body())
        body[at % len(body)] ^= 1
        await route.fulfill(response=answer, body=bytes(body))

    return tamper


async def in_the_south(_: Console, route: Route) -> None:
    """Changes entries without changing their lengths."""
    answer = await route.fetch()
    body = (await answer.body()).replace(b'"cohort":"north"', b'"cohort":"south"')
    await route.fulfill(response=answer, body=body)


def signing(signer: Signer, *, cut: int, is_forked: bool = False) -> Tamper:
    """Returns what shows a checkpoint of this signer, of a log that is shorter or another one."""

    async def tamper(console: Console, route: Route) -> None:
        size = (await log.head(console.db, console.log_id)).size - cut
        root = await tree.root(console.db, console.log_id, size - is_forked)
        await route.fulfill(body=signer.sign(name_of(console), TreeHead(size, root)).note)

    return tamper


async def another_key(console: Console, route: Route) -> None:
    await route.fulfill(body=f"{checkpoint.key_line(OTHER.verifier(name_of(console)))}\n")


async def nothing(_: Console, route: Route) -> None:
    await route.fulfill(status=404, body="")


async def another_text(_: Console, route: Route) -> None:
    answer = await route.fetch()
    text = (await answer.text()).replace("specversion", "specversi0n", 1)
    await route.fulfill(response=answer, body=text)


TAMPERS: dict[str, tuple[dict[str, Tamper], str]] = {
    "a changed entry": ({r"/tile/entries/": in_the_south}, "not the one that was signed"),
    "a changed tile": ({r"/tile/0/": flipping(7)}, "not"),
    "a changed checkpoint": ({r"/checkpoint$": flipping(60)}, "signature"),
    "another key": (
        {r"/key$": another_key, r"/checkpoint$": signing(OTHER, cut=0)},
        "The key that signs this log is another one",
    ),
    "a cut log": ({r"/checkpoint$": signing(SIGNER, cut=9)}, "it was cut"),
    "a forked log": (
        {r"/checkpoint$": signing(SIGNER, cut=0, is_forked=True)},
        "not those that were signed before",
    ),
    "a page of another entry": ({r"/log/1/\d+$": another_text}, "another text than position"),
    "a log that is gone": ({r"/checkpoint$": nothing}, "is no longer there"),
    "a tile that is withheld": ({r"/tile/entries/": nothing}, "is not there"),
}


@pytest.mark.parametrize("name", TAMPERS)
async def test_a_browser_that_trusted_the_log_shows_a_red_page(
    visit: Visit, console: Console, name: str
) -> None:
    tampers, words = TAMPERS[name]
    await open_proven(visit, console)
    if not any("/tile/" in pattern for pattern in tampers):
        await let_time_pass(visit)
    for pattern, tamper in tampers.items():
        await visit.page.route(re.compile(pattern), partial(tamper, console))
    await open_entry(visit, console)
    alarm = visit.page.locator("dialog#alarm")
    await expect(alarm).to_be_visible()
    await expect(alarm).to_contain_text("The log is not what it was")
    assert words in await alarm.inner_text()
    await visit.page.unroute_all()
    await visit.page.goto(console.project)
    await expect(alarm, "it stays until a person removes it").to_be_visible()


async def test_the_red_page_has_evidence_and_is_left_on_purpose_only(
    visit: Visit, console: Console, tmp_path: Path
) -> None:
    page, alarm = visit.page, visit.page.locator("dialog#alarm")
    await open_proven(visit, console)
    await let_time_pass(visit)
    await page.route(re.compile("/checkpoint$"), partial(signing(SIGNER, cut=9), console))
    await open_entry(visit, console)
    await expect(alarm).to_be_visible()
    for size in (DESKTOP, PHONE):
        for scheme in SCHEMES:
            await visit.show(size, scheme)
            await visit.check_access()
    await page.keyboard.press("Escape")
    await expect(alarm).to_be_visible()
    async with page.expect_download() as downloading:
        await alarm.get_by_text("Download the evidence").click()
    await (await downloading.value).save_as(tmp_path / "evidence")
    evidence = (tmp_path / "evidence").read_text()
    assert evidence.count("\u2014 ") == 2, "both checkpoints, as signed notes"
    await alarm.get_by_text("Look at the page all the same").click()
    await expect(alarm).not_to_be_visible()
    await expect(page.locator(".alarm")).to_contain_text("not what it was")
    await page.unroute_all()
    await page.locator(".alarm button").click()
    await alarm.get_by_text("Trust this server from scratch").click()
    await alarm.get_by_text("Forget what this browser has verified").click()
    await expect(page.locator("#proof .state.good")).to_have_text("in the log")
    await expect(alarm).not_to_be_visible()


async def show_second_log(visit: Visit, console: Console, signer: Signer) -> None:
    """Shows a log 2 that this signer signs, with the entries of log 1."""
    name = name_of(console, 2)
    size = (await log.head(console.db, console.log_id)).size
    note = signer.sign(name, TreeHead(size, await tree.root(console.db, console.log_id, size))).note

    async def show(route: Route) -> None:
        url = route.request.url
        if url.endswith("/key"):
            await route.fulfill(body=f"{checkpoint.key_line(signer.verifier(name))}\n")
        elif url.endswith("/checkpoint"):
            await route.fulfill(body=note)
        else:
            answer = await route.fetch(url=re.sub(r"/(t?log)/2/", r"/\1/1/", url))
            body = (await answer.body()).replace(b'data-log="1"', b'data-log="2"')
            await route.fulfill(response=answer, body=body)

    await visit.page.route(re.compile(r"/t?log/2/"), show)


async def open_second_log(visit: Visit, console: Console) -> None:
    await visit.page.goto(f"{console.project}/log/2/{POSITION}")


async def test_a_log_of_another_instance_has_a_key_of_its_own(
    visit: Visit, console: Console
) -> None:
    good, alarm = visit.page.locator("#proof .state.good"), visit.page.locator("dialog#alarm")
    await show_second_log(visit, console, ELSEWHERE)
    await open_proven(visit, console)
    for _ in range(2):
        await open_second_log(visit, console)
        await expect(good).to_have_text("in the log")
        await expect(visit.page.locator("#proof")).to_contain_text("/2+")
        await open_proven(visit, console)
    await visit.check()
    await visit.page.unroute_all()
    await show_second_log(visit, console, Signer("elsewhere", SIGNER.key))
    await open_second_log(visit, console)
    await expect(alarm).to_contain_text("The key that signs this log is another one")


async def test_a_new_log_of_the_same_instance_has_its_key(visit: Visit, console: Console) -> None:
    await open_proven(visit, console)
    await show_second_log(visit, console, SIGNER)
    await open_second_log(visit, console)
    await expect(visit.page.locator("#proof .state.good")).to_have_text("in the log")
    await visit.page.unroute_all()
    await visit.page.evaluate("localStorage.clear()")
    await open_proven(visit, console)
    await show_second_log(visit, console, OTHER)
    await open_second_log(visit, console)
    alarm = visit.page.locator("dialog#alarm")
    await expect(alarm).to_contain_text("The key that signs this log is another one")


async def keep_as_before(visit: Visit) -> None:
    """Makes what this browser trusts what an older version kept: one key for all logs."""
    await visit.page.evaluate(
        """() => {
          const name = Object.keys(localStorage).find((each) => each.startsWith("firmtrail.trust"));
          const { logs, alarm } = JSON.parse(localStorage.getItem(name));
          const { key: bytes, since } = logs["1"];
          delete logs["1"].key;
          localStorage.setItem(name, JSON.stringify({ key: { bytes, since }, logs, alarm }));
        }"""
    )


async def test_the_one_key_that_older_versions_kept_is_that_of_the_logs_they_knew(
    visit: Visit, console: Console
) -> None:
    good, alarm = visit.page.locator("#proof .state.good"), visit.page.locator("dialog#alarm")
    await open_proven(visit, console)
    await keep_as_before(visit)
    await show_second_log(visit, console, ELSEWHERE)
    await open_second_log(visit, console)
    await expect(good).to_have_text("in the log")
    await open_proven(visit, console)
    await keep_as_before(visit)
    await visit.page.route(re.compile("/tlog/1/key$"), partial(another_key, console))
    await open_entry(visit, console)
    await expect(alarm).to_contain_text("The key that signs this log is another one")


@pytest.mark.parametrize("status", [303, 429, 503])
async def test_a_server_that_does_not_answer_is_no_alarm(
    visit: Visit, console: Console, status: int
) -> None:
    await open_proven(visit, console)

    async def refuse(route: Route) -> None:
        await route.fulfill(status=status, headers={"Location": "/console"}, body="")

    await visit.page.route(re.compile("/tlog/"), refuse)
    await open_entry(visit, console)
    await expect(visit.page.locator("#proof .state.warn")).to_have_text("not checked")
    assert await visit.page.locator("dialog#alarm").count() == 0


async def test_the_bar_of_a_page_without_a_past_has_no_dot_before_its_words(
    browser: Browser, console: Console
) -> None:
    async with visiting(browser, console) as visit:
        for path, dot in (("/log/1/300", '"· "'), ("/access", "none")):
            await visit.open(f"{console.project}{path}")
            await visit.page.locator("#checked b").wait_for()
            before = "getComputedStyle(document.getElementById('checked'), '::before').content"
            assert await visit.page.evaluate(before) == dot, path


async def test_the_labels_of_what_a_device_ran_have_no_outline(
    browser: Browser, console: Console
) -> None:
    async with visiting(browser, console) as visit:
        await visit.open(f"{console.project}/devices/pump-143")
        label = visit.page.locator(".strip text").first
        assert await label.evaluate("each => getComputedStyle(each).stroke") == "none"
